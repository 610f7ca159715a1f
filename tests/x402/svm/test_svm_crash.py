"""Facilitators that die by kill -9 between the send and the confirmation, buyers that die before the answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from tests.x402.conftest import client_of
from tests.x402.doomed import DoomedProcess
from tests.x402.support import RailPurse, open_shop
from tests.x402.svm.support import NETWORK, PRICE, Stage

from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentState
from agentnexus.markets.x402.buy import BuyLimits, Call
from agentnexus.markets.x402.facilitator_client import FacilitatorClient
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.markets.x402.reservations_postgres import PostgresReservations
from agentnexus.markets.x402.svm.settlements import Settlements
from agentnexus.markets.x402.turn import CheckoutLimits

pytestmark = pytest.mark.chaos
URL = "http://localhost/report"


@pytest.fixture
def facilitators(tmp_path: Path, database_url: str, stage: Stage) -> DoomedProcess:
    """Facilitators over one database and chain."""
    settings = {
        "database_url": database_url,
        "rpc_url": stage.chain.rpc_url,
        "sponsor": json.dumps(list(bytes(stage.sponsor))),
    }
    return DoomedProcess("tests.x402.svm.facilitator_process", tmp_path, settings)


async def test_a_facilitator_killed_after_it_sent_is_followed_by_one_settlement_and_the_result(
    stage: Stage, facilitators: DoomedProcess, solana_policy: PaymentPolicy
) -> None:
    async with httpx.AsyncClient() as http:
        client = FacilitatorClient(facilitators.url, http)
        async with open_shop(
            client,
            accepts=[stage.asked()],
            reservations=PostgresReservations(stage.database),
            limits=CheckoutLimits(lease=1.0, settle_timeout=5.0),
        ) as shop:
            buyer = client_of(shop.http, solana_policy, BuyLimits(tries=200, pause=0.2, total=100))
            async with facilitators.run("sent") as doomed:
                buying = asyncio.create_task(
                    buyer.buy(Call("GET", URL, "call-1"), RailPurse(stage.rail()), Money(stage.asset, PRICE))
                )
                await facilitators.kill_when_hanging(doomed)
            async with facilitators.run():
                bought = await buying
    assert bought.payment is not None
    assert bought.payment.state is PaymentState.CONFIRMED
    assert json.loads(bought.answer.body)["run"] == 1
    assert (shop.work.runs, await stage.paid(), await stage.left()) == (1, PRICE, 9 * PRICE)
    assert await Settlements(stage.database).left_behind(NETWORK, 0.0) == []


async def test_a_settlement_that_nobody_asks_for_again_is_ended_by_the_next_facilitator(
    stage: Stage, facilitators: DoomedProcess, solana_policy: PaymentPolicy
) -> None:
    async with httpx.AsyncClient() as http:
        client = FacilitatorClient(facilitators.url, http)
        async with open_shop(client, accepts=[stage.asked()]) as shop:
            buyer = client_of(shop.http, solana_policy, BuyLimits(tries=1))
            async with facilitators.run("sent") as doomed:
                buying = asyncio.create_task(
                    buyer.buy(Call("GET", URL, "call-1"), RailPurse(stage.rail()), Money(stage.asset, PRICE))
                )
                await facilitators.kill_when_hanging(doomed)
                await asyncio.gather(buying, return_exceptions=True)
    assert await stage.facilitator().recover(older_than_seconds=0.0) == 0
    assert await stage.paid() == PRICE


async def test_a_buyer_that_died_before_the_answer_sends_the_very_same_payment_again(
    stage: Stage, solana_policy: PaymentPolicy
) -> None:
    """Its second life has another blockhash to offer; a second signature would be a second payment."""
    asked = stage.asked()
    async with open_shop(
        stage.facilitator(), accepts=[asked], reservations=PostgresReservations(stage.database)
    ) as shop:
        client = client_of(shop.http, solana_policy)
        call = Call("GET", URL, "call-1")
        first = await client.buy(call, RailPurse(stage.rail()), Money(stage.asset, PRICE))
        await stage.chain.advance(20)
        second = await client.buy(call, RailPurse(stage.rail()), Money(stage.asset, PRICE))
    assert second.answer.body == first.answer.body
    assert (shop.work.runs, await stage.paid(), await stage.left()) == (1, PRICE, 9 * PRICE)
