"""Selling: a listed agent is found, paid on the chain and run; whatever fails is not paid for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from agentnexus.core.clock import SystemClock, TimeOrderedIds
from agentnexus.core.errors import ErrorCode, NexusError, SellerFailed, Unavailable
from agentnexus.core.money import Money
from agentnexus.core.offers import Job, Need, Offer
from agentnexus.core.payments import PaymentState
from agentnexus.core.updates import Progress, Result
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.marketplace.executions.model import ExecutionStatus
from agentnexus.marketplace.executions.service import Executions
from agentnexus.marketplace.listings.routes import listing_routes
from agentnexus.marketplace.listings.service import Listings, Till
from agentnexus.marketplace.publish import Publisher, registration
from agentnexus.marketplace.sell import EXECUTION_HEADER, seller_app, seller_routes, sold
from agentnexus.markets.catalogue.discover import offer_of
from agentnexus.markets.catalogue.market import CatalogueMarket
from agentnexus.markets.x402.buy import BuyLimits, X402Client
from agentnexus.markets.x402.discover import BazaarSource, RegistrySource
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.following import Follower
from agentnexus.markets.x402.market import X402Market
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.markets.x402.registry.app import registry_app
from agentnexus.markets.x402.registry.store import RegistryStore
from agentnexus.markets.x402.reservations_postgres import PostgresReservations
from agentnexus.markets.x402.wire import PAYMENT_REQUIRED, decode_header
from agentnexus.platform.database import Database
from agentnexus.platform.http import install_error_handlers
from agentnexus.platform.wakeups import Wakeups
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.rails.evm.wallet import EvmRail
from agentnexus.runtime.bundle import read_bundle
from agentnexus.runtime.port import Runtime
from tests.marketplace.conftest import SELLER, TRIAL, TRIAL_ID, Node, executions_of
from tests.x402.support import RailPurse

API = "https://node.test"
REGISTRY = "http://registry.test"
CLOCK = SystemClock()


@dataclass
class Stall:
    """A selling node on the development chain and a buyer in front of it."""

    http: httpx.AsyncClient
    market: CatalogueMarket
    x402: X402Market
    purse: RailPurse
    chain: DevelopmentChain
    executions: Executions
    listings: Listings
    publisher: Publisher
    database: Database
    price: int = 20_000

    async def offer(self) -> Offer:
        (offer,) = [offer async for offer in self.market.discover(Need(capability="trial.run"))]
        return offer

    async def buy(self, value: dict[str, object], key: str = "job-1") -> Result:
        job = Job(id=key, key=key, need=Need(capability="trial.run", input=value), offer_id="o")
        updates = [update async for update in self.market.buy(await self.offer(), job, self.purse)]
        assert isinstance(updates[-1], Result)
        return updates[-1]

    async def earned(self) -> int:
        return await self.chain.usdc_of(self.chain.accounts["seller-1"].address)

    async def count(self) -> int:
        async with self.database.connection() as connection:
            return int(await connection.fetchval("select count(*) from marketplace.execution"))


@pytest.fixture
async def stall(
    chain: DevelopmentChain, database: Database, runtime: Runtime, wakeups: Wakeups
) -> AsyncIterator[Stall]:
    seller = chain.accounts["seller-1"].signer
    listings = Listings(database, CLOCK, Till(chain.usdc, "USD Coin", "2"))
    bundle = await runtime.prepare(TRIAL)
    listing = await listings.publish(bundle, seller.public_id)
    executions = executions_of(database, listings, runtime, bundle, wakeups)
    sender = await TransactionSender.open(database, chain.rpc, chain.chain_id)
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(listing_routes(listings, CLOCK, API), prefix="/api/v1")
    app.router.routes.extend(seller_app(executions).routes)
    paid = sold(
        app,
        [listing],
        facilitator=Facilitator.on(sender, chain.accounts["relayer"].signer, [chain.usdc]),
        reservations=PostgresReservations(database),
        public_url=API,
        clock=CLOCK,
        ids=TimeOrderedIds(),
    )
    mounts: dict[str, httpx.AsyncBaseTransport] = {
        API: httpx.ASGITransport(app=paid, raise_app_exceptions=False),
    }
    async with httpx.AsyncClient(mounts=mounts) as http:

        async def never_paid(*_proof: str) -> bool:
            return False

        registry = registry_app(RegistryStore(database), clock=CLOCK, ids=TimeOrderedIds(), paid=never_paid, probe=http)
        http._mounts[httpx._utils.URLPattern(REGISTRY)] = httpx.ASGITransport(app=registry)
        assets = {chain.usdc.caip19: chain.usdc}
        client = X402Client(http, PaymentPolicy(assets), CLOCK, BuyLimits(pause=0.01, tries=3))
        x402 = X402Market(
            client,
            [RegistrySource(REGISTRY, http, CLOCK, assets), BazaarSource(REGISTRY, http, CLOCK, assets)],
            CLOCK,
            follower=Follower(http, PaymentPolicy(assets)),
        )
        rail = EvmRail(sender, chain.accounts["buyer"].signer, relayer=chain.accounts["relayer"].signer)
        publisher = Publisher(
            listings, http, CLOCK, registry_url=REGISTRY, api_url=API, signers={seller.public_id: seller}
        )
        market = CatalogueMarket(API, http, x402, CLOCK, assets)
        yield Stall(http, market, x402, RailPurse(rail), chain, executions, listings, publisher, database)


async def test_an_agent_is_found_in_the_catalogue_paid_on_the_chain_and_run(stall: Stall) -> None:
    before = await stall.earned()
    offer = await stall.offer()

    result = await stall.buy({"text": "for money"})

    assert offer.price.per_job == Money(stall.chain.usdc, stall.price)
    assert offer.seller.key == f"evm:{stall.chain.accounts['seller-1'].address.lower()}"
    assert isinstance(result.output, dict)
    assert result.output["text"] == "for money"
    assert result.payments[0].state is PaymentState.CONFIRMED
    assert await stall.earned() == before + stall.price


async def test_the_same_job_again_is_one_run_and_one_payment(stall: Stall) -> None:
    before = await stall.earned()

    first, second = await stall.buy({"text": "x"}), await stall.buy({"text": "x"})

    assert first.output == second.output
    assert await stall.earned() == before + stall.price
    assert await stall.count() == 1


@pytest.mark.parametrize("value", [{"do": "refuse"}, {"do": "lie"}, {"do": "unknown"}, {"surprise": True}])
async def test_what_is_not_delivered_is_not_paid(stall: Stall, value: dict[str, object]) -> None:
    before = await stall.earned()

    with pytest.raises(NexusError) as caught:
        await stall.buy(value)

    assert isinstance(caught.value, SellerFailed)
    assert await stall.earned() == before
    assert stall.purse.refunds


async def test_a_call_without_payment_gets_the_price_and_runs_nothing(stall: Stall) -> None:
    answer = await stall.http.post(f"{API}/x402/agents/{TRIAL_ID}", json={"text": "free?"})

    required = decode_header(answer.headers[PAYMENT_REQUIRED], part=PAYMENT_REQUIRED)
    assert answer.status_code == 402
    assert required["accepts"][0]["amount"] == str(stall.price)  # type: ignore[index]  # JSON
    assert "Trial agent" in str(required["resource"])
    assert required["extensions"]["bazaar"]["schema"]["properties"]["do"]  # type: ignore[index]  # JSON
    assert await stall.count() == 0


async def test_the_handler_behind_the_price_refuses_whoever_comes_around_it(stall: Stall) -> None:
    transport = httpx.ASGITransport(app=seller_app(stall.executions))
    async with httpx.AsyncClient(transport=transport, base_url=API) as direct:
        answer = await direct.post(f"/x402/agents/{TRIAL_ID}", json={"text": "free?"})

    assert answer.status_code == 403
    assert await stall.count() == 0


async def test_the_buyer_can_look_at_its_run_by_the_id_it_was_given(stall: Stall) -> None:
    await stall.buy({"text": "x"})
    async with stall.database.connection() as connection:
        row = await connection.fetchrow("select id, user_id from marketplace.execution")

    execution = await stall.executions.get(row["id"])

    assert execution.status is ExecutionStatus.COMPLETED
    assert row["user_id"].endswith(stall.chain.accounts["buyer"].address.lower())
    assert EXECUTION_HEADER == "X-Execution-ID"


async def test_announced_agents_are_found_in_registry_and_bazaar_and_bought(stall: Stall) -> None:
    announced = (await stall.publisher.announce_all()).announced

    assert [(entry.agent_id, entry.verified) for entry in announced] == [(TRIAL_ID, True)]
    offers = [offer async for offer in stall.x402.discover(Need(capability="trial.run"))]
    assert {offer.sources for offer in offers} == {("x402-registry",), ("x402-bazaar",)}
    catalogue = await stall.offer()
    assert {(offer.seller.key, offer.endpoint, offer.price) for offer in offers} == {
        (catalogue.seller.key, catalogue.endpoint, catalogue.price)
    }
    job = Job(id="j", key="from-registry", need=Need(capability="trial.run", input={"text": "hi"}), offer_id="o")
    updates = [update async for update in stall.x402.buy(offers[0], job, stall.purse)]
    assert isinstance(updates[-1], Result)


async def test_a_seller_says_where_its_runs_are_watched(stall: Stall) -> None:
    await stall.publisher.announce_all()
    offers = [offer async for offer in stall.x402.discover(Need(capability="trial.run"))]
    told = {offer.sources[0]: offer.evidence.get("executions") for offer in [await stall.offer(), *offers]}
    assert told == {
        "catalogue": f"{API}/api/v1/executions",
        "x402-registry": f"{API}/api/v1/executions",
        "x402-bazaar": f"{API}/api/v1/executions",
    }


async def test_a_run_is_watched_only_at_the_host_that_sells_it(stall: Stall) -> None:
    elsewhere = {"executions": "http://other.test/api/v1/executions"}
    offer = (await stall.offer()).model_copy(update={"evidence": elsewhere})
    job = Job(id="j", key="watched", need=Need(capability="trial.run", input={"text": "hi"}), offer_id="o")
    updates = [update async for update in stall.x402.buy(offer, job, stall.purse)]
    assert [type(update) for update in updates] == [Progress, Result]


async def test_announcing_again_refreshes_the_one_entry(stall: Stall) -> None:
    first = await stall.publisher.announce_all()
    again = await stall.publisher.announce_all()

    assert first == again


async def test_a_node_that_moved_takes_its_old_address_back(stall: Stall) -> None:
    signers = stall.publisher._signers
    elsewhere = Publisher(
        stall.listings, stall.http, CLOCK, registry_url=REGISTRY, api_url="http://old.test", signers=signers
    )
    await elsewhere.announce_all()
    await stall.publisher.announce_all()

    found = (await stall.http.get(f"{REGISTRY}/services/discover")).json()
    assert [entry["url"] for entry in found] == [(await stall.offer()).endpoint]
    await elsewhere.announce_all()
    found = (await stall.http.get(f"{REGISTRY}/services/discover")).json()
    assert [entry["url"].split("/x402")[0] for entry in found] == ["http://old.test"]


async def test_an_agent_paid_to_a_stranger_is_not_announced(stall: Stall) -> None:
    listing = await stall.listings.get(TRIAL_ID)
    publisher = Publisher(stall.listings, stall.http, CLOCK, registry_url=REGISTRY, api_url=API, signers={})

    with pytest.raises(SellerFailed, match="no key"):
        await publisher.announce(listing)
    liar = Publisher(
        stall.listings, stall.http, CLOCK, registry_url=REGISTRY, api_url=API, signers={listing.seller: SELLER}
    )
    with pytest.raises(SellerFailed, match="refused"):
        await liar.announce(listing)


async def test_one_refused_entry_keeps_no_other_from_being_announced(stall: Stall) -> None:
    listing = await stall.listings.get(TRIAL_ID)
    bundle = dataclasses.replace(
        read_bundle(TRIAL),
        manifest=listing.manifest.model_copy(update={"name": "org.agentnexus.a-stranger"}),
        input_schema=dict(listing.input_schema),
        output_schema=dict(listing.output_schema),
    )
    await stall.listings.publish(bundle, "0x" + "9" * 40)  # whose key nobody here has; the first by name
    with capture_logs() as logs:
        done = await stall.publisher.announce_all()
    assert [entry.agent_id for entry in done.announced] == [TRIAL_ID]
    assert {name: error.code for name, error in done.refused.items()} == {
        "org.agentnexus.a-stranger": ErrorCode.SELLER_FAILED
    }
    assert not done.settled
    assert [entry["agent"] for entry in logs if entry["event"] == "publish.refused"] == ["org.agentnexus.a-stranger"]


async def test_a_registry_that_answers_nonsense_is_a_refusal(stall: Stall) -> None:
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=["no id"]))
    async with httpx.AsyncClient(transport=transport) as http:
        odd = Publisher(
            stall.listings, http, CLOCK, registry_url=REGISTRY, api_url=API, signers=stall.publisher._signers
        )
        done = await odd.announce_all()
    assert "gave no id" in done.refused[TRIAL_ID].message


async def test_a_registry_that_is_down_is_said_and_tried_again(stall: Stall, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from agentnexus.marketplace import publish

    monkeypatch.setattr(publish, "RETRY_SECONDS", (0.0,))
    down = Publisher(
        stall.listings,
        stall.http,
        CLOCK,
        registry_url="http://127.0.0.1:9",
        api_url=API,
        signers=stall.publisher._signers,
    )
    with pytest.raises(Unavailable, match="does not answer"):
        await down.announce_all()
    keeping = asyncio.create_task(down.run())
    down._registry_url = REGISTRY
    async with asyncio.timeout(20):
        while not (await stall.http.get(f"{REGISTRY}/services/discover")).json():
            await asyncio.sleep(0.02)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_a_listing_off_sale_is_neither_found_nor_run(stall: Stall) -> None:
    from agentnexus.marketplace.listings.model import ListingStatus

    offer = await stall.offer()
    await stall.listings.set_status(TRIAL_ID, ListingStatus.SUSPENDED)
    before = await stall.earned()

    assert [each async for each in stall.market.discover(Need(capability="trial.run"))] == []
    job = Job(id="j", key="late", need=Need(capability="trial.run", input={"text": "x"}), offer_id=offer.id)
    with pytest.raises(SellerFailed):
        _ = [update async for update in stall.market.buy(offer, job, stall.purse)]
    assert await stall.earned() == before


async def test_a_dead_or_foreign_node_is_unavailable(stall: Stall) -> None:
    async def discover(handler: httpx.MockTransport) -> list[Offer]:
        async with httpx.AsyncClient(transport=handler) as http:
            market = CatalogueMarket("http://elsewhere.test", http, stall.x402, CLOCK, {})
            return [offer async for offer in market.discover(Need(capability="trial.run"))]

    def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    for answer in (
        refuse,
        lambda _request: httpx.Response(500),
        lambda _request: httpx.Response(200, text="<html>"),
        lambda _request: httpx.Response(200, json={"data": 3}),
        lambda _request: httpx.Response(200, json=[1]),
    ):
        with pytest.raises(Unavailable):
            await discover(httpx.MockTransport(answer))


async def test_bad_entries_are_dropped_and_pages_followed(stall: Stall) -> None:
    good = (await stall.http.get(f"{API}/api/v1/agents")).json()["data"][0]
    bad = [{}, {"x402": 3}, good | {"capability": "NOT ALLOWED"}, good | {"x402": {"resource": "x", "accepts": []}}, 7]
    pages = {
        None: {"data": [*bad, good], "pagination": {"nextCursor": "two"}},
        "two": {"data": [good | {"name": "Second"}], "pagination": {}},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=pages[request.url.params.get("cursor")])

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        market = CatalogueMarket(API, http, stall.x402, CLOCK, {stall.chain.usdc.caip19: stall.chain.usdc})
        offers = [offer async for offer in market.discover(Need())]

    assert [offer.title for offer in offers] == ["Trial agent", "Second"]


async def test_figures_of_the_catalogue_reach_the_offer(stall: Stall) -> None:
    await stall.buy({"text": "x"})

    offer = await stall.offer()

    assert offer.success_rate == 1.0
    assert offer.latency_ms is not None
    assert offer.evidence["agent"] == TRIAL_ID


async def test_registration_and_routes_say_the_same_as_the_listing(node: Node) -> None:
    body = registration(node.listing, API, CLOCK.now())
    (route,) = seller_routes([node.listing])

    assert body["url"] == f"{API}/x402/agents/{TRIAL_ID}"
    assert body["accepts"] == list(node.listing.accepts)
    assert body["capabilities"] == ["trial.run"]
    assert route.match("POST", f"/x402/agents/{TRIAL_ID}") == {}
    assert route.match("POST", "/x402/agents/orgXagentnexusXtrial") is None
    assert route.match("GET", f"/x402/agents/{TRIAL_ID}") is None
    json.dumps(body)


def test_an_entry_in_an_asset_we_do_not_know_is_no_offer(stall_entry: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="asset we know"):
        offer_of(stall_entry, CLOCK, {})


@pytest.fixture
def stall_entry() -> dict[str, object]:
    return {
        "id": "a",
        "capability": "a.b",
        "x402": {"resource": "http://x.test/a", "accepts": [{"network": "eip155:1", "asset": "0x1", "amount": "1"}]},
    }
