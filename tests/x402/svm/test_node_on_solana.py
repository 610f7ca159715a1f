"""A node that sells its agents on EVM and Solana: `nexus facilitator` and `nexus serve`, bought from by a stranger."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from solders.keypair import Keypair
from tests.x402.conftest import client_of
from tests.x402.support import RailPurse
from tests.x402.svm.support import NETWORK, Stage
from x402.schemas import PaymentRequired, SupportedKind, SupportedResponse

from agentnexus.bootstrap.authoring import make_agent
from agentnexus.bootstrap.solana_prices import SolanaPrices
from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentState
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.markets.x402.buy import BuyLimits, Call
from agentnexus.markets.x402.facilitator_client import FacilitatorClient
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.markets.x402.wire import PAYMENT_REQUIRED, decode_header
from agentnexus.platform.process import free_port, wait_until_ready
from agentnexus.platform.settings import Settings
from agentnexus.rails.solana.networks import NetworkKind
from agentnexus.rails.solana.signer import LocalSigner

PATH = "/x402/agents/org.example.counter"


@asynccontextmanager
async def role(name: str, port: int, settings: dict[str, str]) -> AsyncIterator[str]:
    """A role of the node, as soon as it answers."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("NEXUS_", "DATABASE_URL"))}
    environment = inherited | {f"NEXUS_{key.upper()}": value for key, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentnexus.cli", name, "--port", str(port),
        env=environment, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient() as http:

            async def answers() -> bool:
                assert process.returncode is None, f"{name} ended"
                try:
                    return (await http.get(f"{url}/health")).status_code == 200
                except httpx.TransportError:
                    return False

            await wait_until_ready(answers, what=name, timeout_seconds=60)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def test_a_listed_agent_is_bought_on_solana_from_a_402_that_asks_on_both_networks(
    stage: Stage, chain: DevelopmentChain, database_url: str, tmp_path: Path, solana_policy: PaymentPolicy
) -> None:
    make_agent(tmp_path / "agents" / "counter")
    keypair = tmp_path / "sponsor.json"
    LocalSigner(bytes(stage.sponsor), NetworkKind.TESTNET).write_keypair_file(keypair)
    facilitator_port, api_port = free_port(), free_port()
    settings = {
        "home": str(tmp_path),
        "database_url": database_url,
        "evm_rpc_url": chain.rpc_url,
        "usdc_address": chain.usdc.reference,
        "buyer_key": chain.accounts["buyer"].private_key,
        "relayer_key": chain.accounts["relayer"].private_key,
        "seller_keys": chain.accounts["seller-1"].private_key,
        "facilitator_url": f"http://127.0.0.1:{facilitator_port}",
        "registry_url": "http://127.0.0.1:1",
        "api_url": f"http://127.0.0.1:{api_port}",
        "agents_dir": str(tmp_path / "agents"),
        "unsafe_local": "1",
        "solana_rpc_url": stage.chain.rpc_url,
        "solana_sponsor_keypair": str(keypair),
        "solana_pay_to": str(stage.seller.pubkey()),
    }
    async with (
        role("facilitator", facilitator_port, settings),
        role("serve", api_port, settings) as url,
        httpx.AsyncClient(timeout=30) as http,
    ):

        async def networks() -> list[str]:
            answer = await http.post(url + PATH, json={"text": "a b"})
            header = decode_header(answer.headers[PAYMENT_REQUIRED], part=PAYMENT_REQUIRED)
            return [each.network for each in PaymentRequired.model_validate(header).accepts]

        async def both() -> bool:
            return NETWORK in await networks()

        await wait_until_ready(both, what="the price on Solana", timeout_seconds=30)
        assert await networks() == [chain.usdc.network, NETWORK]
        buyer = client_of(http, solana_policy, BuyLimits(tries=20, pause=0.2))
        call = Call("POST", url + PATH, "call-1", b'{"text":"a b"}', {"content-type": "application/json"})
        bought = await buyer.buy(call, RailPurse(stage.rail()), Money(stage.asset, 100_000))
    assert bought.payment is not None
    assert bought.payment.state is PaymentState.CONFIRMED
    assert json.loads(bought.answer.body)
    assert await stage.paid() == bought.payment.request.amount.atomic > 0


class Naming(FacilitatorClient):
    """A facilitator that says what the test wants it to support."""

    def __init__(self, kinds: list[SupportedKind]) -> None:
        self._kinds = kinds

    async def fetch_supported(self) -> SupportedResponse:
        return SupportedResponse(kinds=self._kinds)


async def test_nothing_is_asked_on_solana_without_a_wallet_or_a_fee_payer() -> None:
    kind = SupportedKind(x402_version=2, scheme="exact", network=NETWORK, extra={"feePayer": str(Keypair().pubkey())})
    wallet = str(Keypair().pubkey())
    assert not await SolanaPrices(Settings(), Naming([kind])).learn()
    assert not await SolanaPrices(Settings(solana_pay_to=wallet), Naming([])).learn()
    assert await SolanaPrices(Settings(solana_pay_to=wallet), Naming([kind])).learn()
    with pytest.raises(InvalidInput):
        await SolanaPrices(Settings(solana_pay_to="nobody"), Naming([kind])).learn()
