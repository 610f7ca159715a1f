"""Two sellers with one payee and nothing shared but the chain: one payment buys one answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from tests.x402.support import PRICE, Shop, Work, open_shop, sign, v2_payment
from x402.schemas import PaymentRequirements

from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.facilitation import Facilitation
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.facilitator_app import facilitator_app
from agentnexus.markets.x402.facilitator_client import FacilitatorClient
from agentnexus.markets.x402.pricing import PricedRoute
from agentnexus.markets.x402.reservations_postgres import PostgresReservations
from agentnexus.markets.x402.wire import PAYMENT_RESPONSE, read_settlement
from agentnexus.platform.database import Database
from agentnexus.rails.evm.eip3009 import SignedAuthorization
from agentnexus.rails.evm.token import transfer_with_authorization_call
from agentnexus.rails.evm.transactions import Intent, TransactionSender

Pair = tuple[Facilitation, Facilitation]


async def own_facilitator(chain: DevelopmentChain, database: Database, relayer: str) -> Facilitator:
    sender = await TransactionSender.open(database, chain.rpc, chain.chain_id)
    return Facilitator.on(sender, chain.accounts[relayer].signer, [chain.usdc])


@pytest.fixture(params=["own facilitators", "one facilitator"])
async def facilitators(
    request: pytest.FixtureRequest, chain: DevelopmentChain, database: Database, other_database: Database
) -> AsyncIterator[Pair]:
    first = await own_facilitator(chain, database, "relayer")
    if request.param == "own facilitators":
        yield first, await own_facilitator(chain, other_database, "alice")
        return
    transport = httpx.ASGITransport(facilitator_app(first), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport) as http:
        client = FacilitatorClient("http://facilitator", http)
        yield client, client


@asynccontextmanager
async def two_shops(
    facilitators: Pair, databases: tuple[Database, Database], price: PaymentRequirements, works: tuple[Work, Work]
) -> AsyncIterator[tuple[Shop, Shop]]:
    routes = [PricedRoute("GET /report", (price,)), PricedRoute("GET /stream", (price,), streaming=True)]
    stores = [PostgresReservations(each) for each in databases]
    async with (
        open_shop(facilitators[0], reservations=stores[0], work=works[0], routes=routes) as first,
        open_shop(facilitators[1], reservations=stores[1], work=works[1], routes=routes) as second,
    ):
        yield first, second


@pytest.mark.parametrize("path", ["/report", "/stream"])
async def test_of_two_sellers_that_work_for_one_payment_at_once_one_releases_the_answer(
    path: str,
    facilitators: Pair,
    database: Database,
    other_database: Database,
    chain: DevelopmentChain,
    usdc_price: PaymentRequirements,
) -> None:
    gate = asyncio.Event()
    works = (Work(gate=gate), Work(gate=gate))
    before = await chain.usdc_of(usdc_price.pay_to)
    async with two_shops(facilitators, (database, other_database), usdc_price, works) as shops:
        headers = v2_payment(usdc_price, await sign(chain.accounts["buyer"].signer, usdc_price, "both"))
        asking = [asyncio.create_task(shop.http.get(path, headers=headers)) for shop in shops]
        for work in works:
            await work.started.wait()  # both found the payment good, and work
        gate.set()
        answers = await asyncio.gather(*asking)
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        paid, refused = sorted(answers, key=lambda answer: answer.status_code)
        assert b"run" in paid.content
        assert_withheld(refused, paid)
        assert await chain.usdc_of(usdc_price.pay_to) == before + PRICE
        # However often it is asked, each stays what it is.
        for answer, shop in zip(answers, shops, strict=True):
            again = await shop.http.get(path, headers=headers)
            assert (again.status_code, again.content) == (answer.status_code, answer.content)
    assert [work.runs for work in works] == [1, 1]


def assert_withheld(refused: httpx.Response, paid: httpx.Response) -> None:
    """Nothing of the work, and the transaction that the other seller was paid by."""
    error = refused.json()["error"]
    assert error["code"] == "conflict"
    assert "do not pay again" in error["next_step"]
    assert b"run" not in refused.content
    settlements = [read_settlement(answer.headers[PAYMENT_RESPONSE], None) for answer in (refused, paid)]
    assert settlements[0].error_reason == Reason.DUPLICATE_SETTLEMENT
    assert settlements[0].transaction == settlements[1].transaction == error["details"]["transaction"]


async def test_a_payment_that_the_other_seller_was_paid_by_buys_no_work(
    facilitators: Pair,
    database: Database,
    other_database: Database,
    chain: DevelopmentChain,
    usdc_price: PaymentRequirements,
) -> None:
    works = (Work(), Work())
    async with two_shops(facilitators, (database, other_database), usdc_price, works) as (first, second):
        headers = v2_payment(usdc_price, await sign(chain.accounts["buyer"].signer, usdc_price, "later"))
        assert (await first.http.get("/report", headers=headers)).status_code == 200
        refused = await second.http.get("/report", headers=headers)
        assert refused.status_code == 402
        assert works[1].runs == 0


async def test_sellers_that_share_a_database_are_one_seller(
    chain: DevelopmentChain, database: Database, usdc_price: PaymentRequirements
) -> None:
    facilitator = await own_facilitator(chain, database, "relayer")
    works = (Work(), Work())
    async with two_shops((facilitator, facilitator), (database, database), usdc_price, works) as shops:
        headers = v2_payment(usdc_price, await sign(chain.accounts["buyer"].signer, usdc_price, "one"))
        answers = await asyncio.gather(*(shop.http.get("/report", headers=headers) for shop in shops))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert sum(work.runs for work in works) == 1


@pytest.mark.parametrize("path", ["/report", "/stream"])
async def test_a_payment_that_a_stranger_submitted_is_withheld_with_all_that_proves_it(
    path: str, database: Database, chain: DevelopmentChain, usdc_price: PaymentRequirements
) -> None:
    """It reached the payee; what nobody can see is whether another store of theirs has delivered (decision 0012)."""
    facilitator, gate = await own_facilitator(chain, database, "relayer"), asyncio.Event()
    work, before = Work(gate=gate), await chain.usdc_of(usdc_price.pay_to)
    payload = await sign(chain.accounts["buyer"].signer, usdc_price, "seen")
    routes = [PricedRoute("GET /report", (usdc_price,)), PricedRoute("GET /stream", (usdc_price,), streaming=True)]
    async with open_shop(facilitator, reservations=PostgresReservations(database), work=work, routes=routes) as shop:
        headers = v2_payment(usdc_price, payload)
        asking = asyncio.create_task(shop.http.get(path, headers=headers))
        await work.started.wait()
        transaction = await submitted_by_a_stranger(chain, database, usdc_price, payload)
        gate.set()
        first = await asking
        again = await shop.http.get(path, headers=headers)
    for answer in (first, again):
        assert answer.status_code == 409
        assert b"run" not in answer.content
        error = answer.json()["error"]
        assert "do not pay again" in error["next_step"]
        details = error["details"]
        assert (details["transaction"], details["amount"]) == (transaction, str(PRICE))
        assert (details["payee"], details["network"]) == (usdc_price.pay_to, usdc_price.network)
        assert details["resource"].endswith(path)
        assert details["payment"]
    assert await chain.usdc_of(usdc_price.pay_to) == before + PRICE
    assert work.runs == 1


async def submitted_by_a_stranger(
    chain: DevelopmentChain, database: Database, price: PaymentRequirements, payload: dict[str, object]
) -> str:
    sender = await TransactionSender.open(database, chain.rpc, chain.chain_id)
    call = transfer_with_authorization_call(SignedAuthorization.from_json(payload), contract_wallet=False)
    stranger = chain.accounts["bob"].signer
    intent = await sender.estimate(stranger, Intent(price.asset, call, 0))
    return (await sender.submit(stranger, "front-run", intent)).transaction
