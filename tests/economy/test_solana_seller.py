"""The running economy buys from a stranger who takes USDC on Solana only: by a task, by a direct hire, and in vain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio
from solders.keypair import Keypair
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentnexus.bootstrap.verify import verify_with_chain
from agentnexus.core.clock import SystemClock
from agentnexus.core.money import Money
from agentnexus.devnet.solana.accounts import solana_accounts
from agentnexus.markets.x402.pricing import PricedRoute
from agentnexus.markets.x402.registry.ownership import sign_request
from agentnexus.markets.x402.reservations import MemoryReservations
from agentnexus.markets.x402.sell import SellerMiddleware
from agentnexus.markets.x402.svm.facilitator import SolanaFacilitator
from agentnexus.markets.x402.svm.pricing import exact_on_solana
from agentnexus.markets.x402.svm.settle import TransferSettler
from agentnexus.markets.x402.svm.settlements import Settlements
from agentnexus.markets.x402.wire import to_json
from agentnexus.platform.database import Database
from agentnexus.rails.solana.cluster import Cluster
from agentnexus.rails.solana.networks import DEVNET, NetworkKind
from agentnexus.rails.solana.signer import LocalSigner
from tests.economy.conftest import Town
from tests.economy.test_commands import nexus
from tests.x402.test_peers import serving

pytestmark = pytest.mark.asyncio(loop_scope="session")
PRICE = 13_000
CAPABILITY = "text.pirate"
TASK = "Translate this text into the speech of pirates"
NOTE = "The harbour is open from nine to five. Ships pay at the gate."


@dataclass
class Pirate:
    """A seller of its own, with its own facilitator; `sober` is whether it delivers."""

    town: Town
    wallet: Keypair
    sober: bool = True
    runs: int = 0

    async def work(self, request: Request) -> Response:
        self.runs += 1
        text = str((await request.json()).get("text", ""))
        return JSONResponse({"text": f"Arr! {text}"}, 200 if self.sober else 500)

    async def paid(self) -> int:
        return await self.town.economy.solana.tokens_of(self.wallet.pubkey())

    async def send(self, method: str, path: str, body: dict[str, object]) -> httpx.Response:
        """To the registry, signed by the wallet that is paid."""
        raw = json.dumps(body).encode()
        signer = LocalSigner(bytes(self.wallet), NetworkKind.TESTNET)
        async with httpx.AsyncClient(base_url=self.town.economy.urls["registry"]) as http:
            headers = await sign_request(signer, method, path, raw, SystemClock().now())
            answer = await http.request(method, path, content=raw, headers=headers)
        assert answer.status_code in (200, 201), answer.text
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pirate(town: Town) -> AsyncIterator[Pirate]:
    chain, wallet, sponsor = town.economy.solana, Keypair(), Keypair()
    await chain.mint(wallet.pubkey(), 0)
    await chain.airdrop(sponsor.pubkey(), 1_000_000_000)
    seller = Pirate(town, wallet)
    async with AsyncExitStack() as stack:
        database = await Database.open(town.economy.database_url, max_size=3)
        stack.push_async_callback(database.close)
        signer = LocalSigner(bytes(sponsor), NetworkKind.TESTNET)
        settler = TransferSettler(Cluster(chain.rpc), DEVNET.caip2, [signer], Settlements(database), SystemClock())
        asked = exact_on_solana(Money(chain.usdc, PRICE), str(wallet.pubkey()), fee_payer=signer.public_id)
        app = SellerMiddleware(
            Starlette(routes=[Route("/speak", seller.work, methods=["POST"])]),
            routes=[PricedRoute("POST /speak", [asked], description="pirate speech")],
            facilitator=SolanaFacilitator(settler, [chain.usdc]),
            reservations=MemoryReservations(),
        )
        url = await stack.enter_async_context(serving(app))
        schema = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
        made = await seller.send(
            "POST",
            "/services/register",
            {
                "url": f"{url}/speak", "name": "Pirate translator", "ownerWalletAddress": str(wallet.pubkey()),
                "description": "Translates a text into the speech of pirates", "pricePerCall": "0.013",
                "accepts": [to_json(asked)], "capabilities": [CAPABILITY], "tags": ["translate", "pirate", "speech"],
                "inputSchema": schema, "outputSchema": schema,
            },
        )  # fmt: skip
        yield seller
        await seller.send("PATCH", f"/services/{made.json()['id']}", {"status": "DEPRECATED"})


async def hire(town: Town, key: str) -> httpx.Response:
    body = {"need": CAPABILITY, "input": {"text": NOTE}, "max_price": "0.02", "key": key}
    return await town.call("POST", "/api/v1/hire", json=body)


async def test_a_direct_hire_is_paid_on_solana_and_its_receipt_is_true_there(town: Town, pirate: Pirate) -> None:
    before, runs = await pirate.paid(), pirate.runs
    hired = await hire(town, "pirate-1")
    assert hired.status_code == 200, hired.text
    data = hired.json()["data"]
    assert data["output"]["text"].startswith("Arr!")
    (payment,) = data["receipt"]["payments"]
    assert (payment["network"], payment["payer"]) == (DEVNET.caip2, solana_accounts()["buyer"].address)
    assert (await pirate.paid(), pirate.runs) == (before + PRICE, runs + 1)
    await town.economy.solana.advance(8)
    assert (await verify_with_chain(data["receipt"], town.economy.solana.rpc_url))["valid"]


async def test_a_task_hires_the_seller_on_solana_and_counts_what_it_cost(town: Town, pirate: Pirate) -> None:
    before = await pirate.paid()
    steps = [{"id": "s1", "capability": CAPABILITY, "input": {"text": NOTE}}]
    state = await town.run(TASK, plan={"steps": steps})
    assert state["status"] == "completed", state
    plan = state["plan"]["steps"]  # type: ignore[index]  # JSON
    assert CAPABILITY in [step["capability"] for step in plan]
    assert await pirate.paid() == before + PRICE
    payments = [payment for receipt in state["receipts"] for payment in receipt["payments"]]  # type: ignore[attr-defined]  # JSON
    (there,) = [payment for payment in payments if payment["network"] == DEVNET.caip2]
    assert there["counted"]["amount"]["asset"] == town.economy.chain.usdc.caip19
    paid = sum(int(payment["amount"]) for payment in payments if payment["state"] == "confirmed")
    assert int(state["cost"]["atomic"]) == paid >= PRICE  # type: ignore[index]  # JSON
    assert int(state["estimate"]["expected"]["atomic"]) >= PRICE  # type: ignore[index]  # JSON


async def test_the_wallet_on_solana_is_shown_beside_the_other(town: Town) -> None:
    code, out, err = await nexus(town, "wallet")
    assert code == 0, out + err
    assert f"{DEVNET.caip2}  {solana_accounts()['buyer'].address}" in out
    (other,) = (await town.call("GET", "/api/v1/wallet")).json()["data"]["others"]
    assert other["on_chain"]["asset"] == DEVNET.usdc.caip19
    assert int(other["posted"]["atomic"]) > 0


async def test_a_seller_that_fails_keeps_nothing_and_the_books_agree(town: Town, pirate: Pirate) -> None:
    pirate.sober, pirate.runs = False, 0
    chain, buyer = town.economy.solana, solana_accounts()["buyer"]
    before, paid = await chain.tokens_of(buyer.public_key), await pirate.paid()
    hiring = asyncio.create_task(hire(town, "pirate-2"))
    async with asyncio.timeout(60):
        while pirate.runs == 0:
            await asyncio.sleep(0.05)
    await chain.advance(260)  # the signature lapses: nobody can collect it any more
    failing = await hiring
    assert failing.status_code >= 400, failing.text
    assert (await pirate.paid(), await chain.tokens_of(buyer.public_key)) == (paid, before)
    code, out, err = await nexus(town, "ledger", "check", "--json")
    assert code == 0, out + err
    assert any(buyer.address in line for line in json.loads(out)["wallets"])
