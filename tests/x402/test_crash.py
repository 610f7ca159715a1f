"""Sellers that die by kill -9: in the handler, and between the money and the answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from tests.x402.conftest import client_of
from tests.x402.doomed import DoomedProcess
from tests.x402.support import PRICE, RailPurse
from x402.schemas import PaymentRequirements

from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentState
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.markets.x402.buy import BuyLimits, Call
from agentnexus.markets.x402.policy import PaymentPolicy

pytestmark = pytest.mark.chaos


class SellerProcess(DoomedProcess):
    """Sellers over one database and chain."""

    def __init__(self, folder: Path, database_url: str, chain: DevelopmentChain, asked: PaymentRequirements) -> None:
        settings = {
            "database_url": database_url,
            "rpc_url": chain.rpc_url,
            "asset": asked.asset,
            "pay_to": asked.pay_to,
        }
        super().__init__("tests.x402.seller_process", folder, settings)

    @property
    def runs(self) -> int:
        return len((self.folder / "runs").read_text().splitlines())


@pytest.fixture
def seller(
    tmp_path: Path, database_url: str, chain: DevelopmentChain, usdc_price: PaymentRequirements
) -> SellerProcess:
    return SellerProcess(tmp_path, database_url, chain, usdc_price)


@pytest.mark.parametrize(("hang", "runs"), [("handler", 2), ("settled", 1)])
async def test_a_killed_sellers_work_is_finished_by_the_next_one_for_the_same_single_payment(
    seller: SellerProcess,
    chain: DevelopmentChain,
    purse: RailPurse,
    policy: PaymentPolicy,
    usdc_price: PaymentRequirements,
    hang: str,
    runs: int,
) -> None:
    before = await chain.usdc_of(usdc_price.pay_to)
    call = Call("POST", f"http://127.0.0.1:{seller.port}/report", "call-1", b"{}")
    async with httpx.AsyncClient() as http:
        client = client_of(http, policy, BuyLimits(tries=200, pause=0.3, total=120))
        async with seller.run(hang) as doomed:
            buying = asyncio.create_task(client.buy(call, purse, Money(chain.usdc, PRICE)))
            await seller.kill_when_hanging(doomed)
        async with seller.run() as successor:
            bought = await buying
            assert bought.payment is not None
            assert bought.payment.state is PaymentState.CONFIRMED
            # A killed handler runs again; an answer that was kept before the money moved is given as it was.
            made_by = json.loads(bought.answer.body)["made_by"]
            assert made_by == (successor.pid if hang == "handler" else doomed.pid)
    assert seller.runs == runs
    assert await chain.usdc_of(usdc_price.pay_to) == before + PRICE
