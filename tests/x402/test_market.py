"""The market port over x402: discovery of several sources, quotes, and jobs bought with the purse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
from structlog.testing import capture_logs
from tests.x402.conftest import client_of
from tests.x402.support import PRICE, RailPurse, ScriptedFacilitator, Shop, Work, open_shop
from x402.schemas import PaymentRequirements

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import BadResult, InvalidInput, Unavailable
from agentnexus.core.money import Money
from agentnexus.core.offers import Capability, Job, Need, Offer, Party, Price, RefundRule
from agentnexus.core.payments import PaymentState
from agentnexus.core.ports import Market
from agentnexus.core.updates import Log, Progress, Result
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.following import EXECUTION_HEADER, Follower, execution_id
from agentnexus.markets.x402.market import X402Market
from agentnexus.markets.x402.policy import PaymentPolicy, TermsRefused
from agentnexus.markets.x402.wire import to_json


class Source:
    """A list of offers, or a dead place."""

    def __init__(self, name: str, offers: list[Offer], *, dead: bool = False) -> None:
        self.name = name
        self._offers = offers
        self._dead = dead

    async def discover(self, need: Need) -> AsyncIterator[Offer]:
        for offer in self._offers:
            yield offer
        if self._dead:
            raise Unavailable(f"{self.name} is down")


@pytest.fixture
def offer(chain: DevelopmentChain, usdc_price: PaymentRequirements) -> Offer:
    return Offer(
        id="offer-1",
        market="x402",
        seller=Party(ids={"evm": usdc_price.pay_to}),
        capability=Capability(name="report.make"),
        title="Reports",
        price=Price(per_job=Money(chain.usdc, PRICE)),
        rails=(to_json(usdc_price),),
        endpoint="http://localhost/report",
        observed_at=datetime.now(UTC),
    )


def job(**data: object) -> Job:
    return Job(id="job-1", key="key-1", need=Need(capability="report.make", input=data), offer_id="offer-1")


def market_of(http: httpx.AsyncClient, policy: PaymentPolicy, *sources: Source, firm_quotes: bool = False) -> Market:
    return X402Market(client_of(http, policy), sources, SystemClock(), firm_quotes=firm_quotes)


async def test_offers_of_all_living_sources_arrive(offer: Offer, policy: PaymentPolicy) -> None:
    async with httpx.AsyncClient() as http:
        market = market_of(http, policy, Source("a", [offer]), Source("b", [offer], dead=True))
        found = [each async for each in market.discover(Need(capability="report.make"))]
    assert [each.id for each in found] == ["offer-1", "offer-1"]


async def test_one_dead_source_is_logged_and_told_until_it_answers_again(offer: Offer, policy: PaymentPolicy) -> None:
    shaky = Source("b", [], dead=True)
    async with httpx.AsyncClient() as http:
        market = X402Market(client_of(http, policy), [Source("a", [offer]), shaky], SystemClock())
        with capture_logs() as logs:
            assert len([each async for each in market.discover(Need(text="x"))]) == 1
        assert market.dead_sources() == {"b": "b is down"}
        assert [(entry["event"], entry["source"]) for entry in logs] == [("discovery.source_failed", "b")]
        shaky._dead = False
        assert len([each async for each in market.discover(Need(text="x"))]) == 1
        assert market.dead_sources() == {}


async def test_only_when_every_source_is_dead_the_market_is(policy: PaymentPolicy) -> None:
    async with httpx.AsyncClient() as http:
        dead = market_of(http, policy, Source("a", [], dead=True), Source("b", [], dead=True))
        with pytest.raises(Unavailable):
            _ = [each async for each in dead.discover(Need(text="x"))]
        assert [each async for each in market_of(http, policy).discover(Need(text="x"))] == []


async def test_leaving_early_stops_the_sources(offer: Offer, policy: PaymentPolicy) -> None:
    async with httpx.AsyncClient() as http:
        offers = market_of(http, policy, Source("a", [offer] * 5)).discover(Need(text="x"))
        async for _ in offers:
            break
        await offers.aclose()  # type: ignore[attr-defined]  # an async generator
        assert [each async for each in offers] == []


async def test_a_job_is_asked_for_paid_and_answered(
    chain: DevelopmentChain,
    facilitator: Facilitator,
    purse: RailPurse,
    policy: PaymentPolicy,
    usdc_price: PaymentRequirements,
    offer: Offer,
) -> None:
    async with open_shop(facilitator, accepts=[usdc_price]) as shop:
        market = market_of(shop.http, policy)
        updates = [update async for update in market.buy(offer, job(text="grüße", n=1), purse)]
        again = [update async for update in market.buy(offer, job(n=1, text="grüße"), purse)]
        assert shop.work.runs == 1
    assert isinstance(updates[0], Progress)
    result = updates[-1]
    assert isinstance(result, Result)
    assert result.output["echo"] == '{"n":1,"text":"grüße"}'  # type: ignore[index]  # JSON
    assert result.payments[0].state is PaymentState.CONFIRMED
    assert again[-1].output == result.output  # type: ignore[union-attr]  # a result


async def test_the_list_price_is_the_quote_unless_the_seller_is_asked(
    policy: PaymentPolicy, usdc_price: PaymentRequirements, offer: Offer, chain: DevelopmentChain
) -> None:
    cheaper = usdc_price.model_copy(update={"amount": "500"})
    async with open_shop(ScriptedFacilitator(), accepts=[cheaper]) as shop:
        listed = await market_of(shop.http, policy).quote(offer, job())
        firm = await market_of(shop.http, policy, firm_quotes=True).quote(offer, job())
    assert (listed.maximum.atomic, firm.maximum.atomic) == (PRICE, 500)
    assert listed.refund_rule is RefundRule.NOT_SETTLED_ON_FAILURE
    assert listed.valid_until > datetime.now(UTC)


async def test_a_seller_whose_address_is_not_the_offers_is_not_paid(
    policy: PaymentPolicy, usdc_price: PaymentRequirements, offer: Offer, purse: RailPurse
) -> None:
    other = usdc_price.model_copy(update={"pay_to": "0x" + "99" * 20})
    async with open_shop(ScriptedFacilitator(), accepts=[other]) as shop:
        with pytest.raises(TermsRefused):
            _ = [update async for update in market_of(shop.http, policy).buy(offer, job(), purse)]
    assert not purse.holds


async def test_a_get_offer_sends_its_input_as_query(policy: PaymentPolicy, offer: Offer, purse: RailPurse) -> None:
    asked: list[httpx.Request] = []

    def seller(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, text="plain words", headers={"content-type": "text/plain; charset=utf-8"})

    get = offer.model_copy(update={"evidence": {"method": "get"}, "endpoint": "http://localhost/w?unit=c"})
    async with httpx.AsyncClient(transport=httpx.MockTransport(seller)) as http:
        updates = [u async for u in market_of(http, policy).buy(get, job(city="Wien", days=2), purse)]
    assert str(asked[0].url) == "http://localhost/w?unit=c&city=Wien&days=2"
    assert updates[-1] == Result(output={"media_type": "text/plain", "text": "plain words"})


@pytest.mark.parametrize("answer", [b"{oops", b"", b"[" * 200_000 + b"]" * 200_000, b"9" * 10_000, b"\xff"])
async def test_an_answer_that_is_not_json_is_a_bad_result(
    policy: PaymentPolicy, offer: Offer, purse: RailPurse, answer: bytes
) -> None:
    def seller(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=answer, headers={"content-type": "application/json"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(seller)) as http:
        with pytest.raises(BadResult):
            _ = [update async for update in market_of(http, policy).buy(offer, job(), purse)]


async def test_an_offer_without_endpoint_cannot_be_bought(
    policy: PaymentPolicy, offer: Offer, purse: RailPurse
) -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(InvalidInput, match="endpoint"):
            nowhere = offer.model_copy(update={"endpoint": ""})
            _ = [update async for update in market_of(http, policy).buy(nowhere, job(), purse)]


def telling_market(shop: Shop, policy: PaymentPolicy, told: bytes, status: int = 200) -> tuple[X402Market, list[str]]:
    """A market whose sellers' runs are answered with `told`, and the paths that were listened at."""
    listened: list[str] = []

    async def parts() -> AsyncIterator[bytes]:
        yield told

    def tell(request: httpx.Request) -> httpx.Response:
        listened.append(request.url.path)
        return httpx.Response(status, content=parts())

    follower = Follower(httpx.AsyncClient(transport=httpx.MockTransport(tell)), policy)
    return X402Market(client_of(shop.http, policy), (), SystemClock(), follower=follower), listened


def watched(offer: Offer) -> Offer:
    return offer.model_copy(update={"evidence": {"executions": "http://localhost/api/v1/executions"}})


LINE = b'data: {"name": "execution.log", "data": {"message": "page 1"}}\n\n'


async def test_what_the_seller_tells_is_heard_before_the_work_is_done(
    facilitator: Facilitator, purse: RailPurse, policy: PaymentPolicy, usdc_price: PaymentRequirements, offer: Offer
) -> None:
    work = Work(gate=asyncio.Event())
    async with open_shop(facilitator, accepts=[usdc_price], work=work) as shop, asyncio.timeout(30):
        market, listened = telling_market(shop, policy, LINE)
        updates = []
        async for update in market.buy(watched(offer), job(text="x"), purse):
            updates.append(update)
            if isinstance(update, Log):
                assert not work.gate.is_set()  # type: ignore[union-attr]  # set above
                work.gate.set()  # type: ignore[union-attr]  # set above
    assert [type(update) for update in updates] == [Progress, Log, Result]
    assert listened == [f"/api/v1/executions/{execution_id(job())}/stream"]
    assert EXECUTION_HEADER == "x-execution-id"


@pytest.mark.parametrize("status", [404, 500, 200])
async def test_a_seller_that_tells_nothing_sells_all_the_same(
    status: int,
    facilitator: Facilitator,
    purse: RailPurse,
    policy: PaymentPolicy,
    usdc_price: PaymentRequirements,
    offer: Offer,
) -> None:
    async with open_shop(facilitator, accepts=[usdc_price]) as shop:
        market, _ = telling_market(shop, policy, b"data: {", status)
        updates = [update async for update in market.buy(watched(offer), job(text="x"), purse)]
    assert [type(update) for update in updates] == [Progress, Result]
    assert updates[-1].payments[0].state is PaymentState.CONFIRMED  # type: ignore[union-attr]  # a result


async def test_who_leaves_while_it_is_told_leaves_no_purchase_that_goes_on_by_itself(
    facilitator: Facilitator, purse: RailPurse, policy: PaymentPolicy, usdc_price: PaymentRequirements, offer: Offer
) -> None:
    work = Work(gate=asyncio.Event())
    async with open_shop(facilitator, accepts=[usdc_price], work=work) as shop, asyncio.timeout(30):
        market, _ = telling_market(shop, policy, LINE)
        updates = market.buy(watched(offer), job(text="x"), purse)
        async for update in updates:
            if isinstance(update, Log):
                break
        await work.started.wait()
        await updates.aclose()  # type: ignore[attr-defined]  # an async generator
        buying = [task for task in asyncio.all_tasks() if "X402Client.buy" in str(task.get_coro())]
        assert buying == []
        (hold,) = purse.holds.values()
        assert (await purse.lookup(hold.payment)).state is not PaymentState.CONFIRMED
