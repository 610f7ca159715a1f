"""Gathering: all markets at once, none waits for another, and the shelf stays full when a market dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from structlog.testing import capture_logs

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import Unavailable
from agentnexus.core.events import EventName
from agentnexus.core.money import Money
from agentnexus.core.offers import Constraints, Job, Need, Offer, Party, Price, Quote
from agentnexus.core.ports import Purse
from agentnexus.core.updates import Update
from agentnexus.hiring.cache import OfferCache
from agentnexus.hiring.circuit import COOL_MAX_SECONDS, FAILURES_MAX
from agentnexus.hiring.gather import Gatherer, merge
from agentnexus.platform.cache import Cache
from tests.hiring.support import NOW, USDC, known, make_offer, usd

NEED = Need(capability="text.echo")


class Stall:
    """A market whose answers come when the test says so."""

    def __init__(self, name: str, offers: Sequence[Offer] = (), error: Exception | None = None) -> None:
        self.name = name
        self.offers = list(offers)
        self.error = error
        self.gate = asyncio.Event()
        self.gate.set()
        self.started = asyncio.Event()
        self.questions: list[Need] = []

    async def discover(self, need: Need) -> AsyncIterator[Offer]:
        self.questions.append(need)
        self.started.set()
        for number, offer in enumerate(self.offers):
            if number == 1 or self.error is not None:
                await self.gate.wait()
            yield offer
        await self.gate.wait()
        if self.error is not None:
            raise self.error

    async def quote(self, offer: Offer, job: Job) -> Quote:
        raise NotImplementedError

    def buy(self, offer: Offer, job: Job, purse: Purse) -> AsyncIterator[Update]:
        raise NotImplementedError


class Silent(Stall):
    """Says nothing at all until its gate opens."""

    asked = 0

    async def discover(self, need: Need) -> AsyncIterator[Offer]:
        self.asked += 1
        self.started.set()
        await self.gate.wait()
        async for offer in super().discover(need):
            yield offer


def gatherer(*markets: Stall, clock: ManualClock | None = None, **more: object) -> Gatherer:
    clock = clock or ManualClock(NOW)
    return Gatherer(markets, OfferCache(Cache(clock=clock)), clock=clock, **more)  # type: ignore[arg-type]


def stall(name: str, *numbers: int) -> Stall:
    return Stall(name, [make_offer(number, market=name) for number in numbers])


async def test_offers_of_all_markets_come_together_with_their_source() -> None:
    found = (await gatherer(stall("a", 1), stall("b", 2)).gather(NEED)).offers()
    assert [(offer.market, offer.sources) for offer in found] == [("a", ("a",)), ("b", ("b",))]


async def test_a_slow_market_holds_up_nobody_and_is_there_the_next_time() -> None:
    slow, fast = stall("slow", 1, 2), stall("fast", 3)
    slow.gate.clear()
    one = gatherer(slow, fast, answer_seconds=0.05)
    found = await one.gather(NEED)
    assert {offer.market for offer in found.offers()} == {"fast", "slow"}  # what came in time is there
    assert len(found.offers()) == 2
    assert found.missing[0][0] == "slow"
    slow.gate.set()
    await asyncio.gather(*one._background)
    assert len((await one.gather(NEED)).offers()) == 3
    assert len(slow.questions) == 1
    await one.close()


@pytest.mark.parametrize("error", [Unavailable("down"), ConnectionError("reset"), KeyError("a bug"), ValueError("bad")])
async def test_a_broken_market_of_any_kind_holds_up_nobody(error: Exception) -> None:
    found = await gatherer(Stall("broken", error=error), stall("good", 1)).gather(NEED)
    assert len(found.offers()) == 1
    assert found.missing[0][0] == "broken"


async def test_a_market_that_never_ends_is_given_up() -> None:
    endless = stall("endless", 1, 2)
    endless.gate.clear()
    one = gatherer(endless, load_seconds=0.05, answer_seconds=5)
    assert "no answer within" in (await one.gather(NEED)).missing[0][1]
    assert one.statistics()[0].failed == 1


async def test_offers_stream_as_they_arrive() -> None:
    slow, fast = stall("slow", 1, 2), stall("fast", 3)
    slow.gate.clear()
    one = gatherer(slow, fast)
    seen = []
    async for offer in one.stream(NEED):
        seen.append(offer.seller.key)
        if len(seen) == 2:
            slow.gate.set()
    assert len(seen) == 3
    assert seen[-1] == make_offer(2).seller.key


async def test_a_stream_gives_cached_offers_at_once_and_ends_when_all_have_answered() -> None:
    one = gatherer(stall("a", 1, 2))
    await one.gather(NEED)
    assert len([offer async for offer in one.stream(NEED)]) == 2


async def test_a_stream_ends_at_its_deadline() -> None:
    slow = stall("slow", 1, 2)
    slow.gate.clear()
    one = gatherer(slow, answer_seconds=0.05)
    assert len([offer async for offer in one.stream(NEED)]) == 1
    await one.close()


async def test_the_same_question_within_a_minute_is_asked_once() -> None:
    clock = ManualClock(NOW)
    market = stall("a", 1)
    one = gatherer(market, clock=clock)
    for _ in range(3):
        await one.gather(NEED)
    assert len(market.questions) == 1
    clock.advance(61)
    await one.gather(NEED)
    assert len(market.questions) == 2


async def test_the_same_question_at_the_same_time_is_asked_once() -> None:
    market = stall("a", 1, 2)
    market.gate.clear()
    one = gatherer(market)
    asking = [asyncio.create_task(one.gather(NEED)) for _ in range(5)]
    await market.started.wait()
    market.gate.set()
    answers = await asyncio.gather(*asking)
    assert [len(answer.offers()) for answer in answers] == [2] * 5
    assert len(market.questions) == 1


async def test_prices_and_sellers_wanted_do_not_split_the_cache() -> None:
    market = stall("a", 1)
    one = gatherer(market)
    await one.gather(NEED)
    await one.gather(NEED.model_copy(update={"constraints": Constraints(max_price=usd("1"))}))
    assert len(market.questions) == 1


@pytest.mark.parametrize("refresh", [False, True])
async def test_when_a_market_dies_its_last_offers_stay_marked_stale(refresh: bool) -> None:
    clock = ManualClock(NOW)
    market = stall("a", 1)
    one = gatherer(market, clock=clock)
    await one.gather(NEED)
    clock.advance(61)
    market.error = Unavailable("gone")
    first, second = await one.gather(NEED, refresh=refresh), await one.gather(NEED)
    assert [offer.stale for offer in first.offers()] == [True]
    assert first.shelves[0] is second.shelves[0]
    assert one.statistics()[0].stale_hits == 2
    market.error = None
    assert [offer.stale for offer in (await one.gather(NEED)).offers()] == [False]


async def hanging(clock: ManualClock, **more: object) -> tuple[Gatherer, Silent]:
    """A market that answered once, whose shelf is too old now, and that hangs before its first word."""
    market = Silent("slow", [make_offer(1, market="slow")])
    one = gatherer(market, clock=clock, answer_seconds=0.05, **more)
    await one.gather(NEED, answer_seconds=60)
    clock.advance(61)
    market.gate.clear()
    market.started.clear()
    return one, market


async def given_up(one: Gatherer) -> None:
    """The questions under way have failed; later ones have time."""
    await asyncio.gather(*one._background, return_exceptions=True)
    one._load_seconds = 60.0


async def test_a_market_that_hangs_keeps_its_last_offers_marked_stale() -> None:
    one, market = await hanging(ManualClock(NOW))
    found = await one.gather(NEED)
    assert [offer.stale for offer in found.offers()] == [True]
    assert found.missing == ()
    assert (one.statistics()[0].late, one.statistics()[0].stale_hits, one.statistics()[0].circuit) == (1, 1, "open")
    market.gate.set()
    await asyncio.gather(*one._background)
    assert [offer.stale for offer in (await one.gather(NEED)).offers()] == [False]
    assert one.statistics()[0].circuit == "closed"
    await one.close()


async def test_who_comes_after_the_first_waits_for_a_hanging_market_no_more() -> None:
    one, market = await hanging(ManualClock(NOW))
    await one.gather(NEED)
    other = Need(capability="text.other")
    async with asyncio.timeout(5):  # each would wait a minute
        again = await one.gather(NEED, answer_seconds=60)
        unknown = await one.gather(other, answer_seconds=60)
    assert [offer.stale for offer in again.offers()] == [True]
    assert "is asked again in 5 s" in unknown.missing[0][1]
    assert market.asked == 2
    await one.close()


async def test_when_its_time_is_up_one_question_tries_it_in_the_background() -> None:
    clock = ManualClock(NOW)
    one, market = await hanging(clock, load_seconds=0.05)
    await one.gather(NEED)
    await given_up(one)
    clock.advance(COOL_MAX_SECONDS)
    assert one.statistics()[0].circuit == "half_open"
    market.started.clear()
    async with asyncio.timeout(5):
        found = [await one.gather(NEED, answer_seconds=60) for _ in range(3)]
        await market.started.wait()
    assert [offer.stale for gathered in found for offer in gathered.offers()] == [True] * 3
    assert market.asked == 3  # the first answer, the one that hung, one try
    market.gate.set()
    await asyncio.gather(*one._background, return_exceptions=True)
    assert [offer.stale for offer in (await one.gather(NEED)).offers()] == [False]
    await one.close()


async def test_a_try_without_any_shelf_to_serve_is_waited_for() -> None:
    clock = ManualClock(NOW)
    one, market = await hanging(clock, load_seconds=0.05)
    await one.gather(NEED)
    await given_up(one)
    clock.advance(COOL_MAX_SECONDS)
    market.gate.set()
    market.offers = [make_offer(7, market="slow", capability="text.other")]
    found = await one.gather(Need(capability="text.other"), answer_seconds=60)
    assert [offer.id for offer in found.offers()] == ["slow:7:text.other"]
    assert one.statistics()[0].circuit == "closed"
    await one.close()


async def test_a_fresh_shelf_is_served_as_it_is_while_its_market_is_left_alone() -> None:
    clock = ManualClock(NOW)
    one, market = await hanging(clock)
    market.gate.set()
    await one.gather(NEED, answer_seconds=60)  # fresh again
    market.gate.clear()
    market.started.clear()
    await one.gather(Need(capability="text.other"))
    assert one.statistics()[0].circuit == "open"
    assert [offer.stale for offer in (await one.gather(NEED, answer_seconds=60)).offers()] == [False]
    await one.close()


async def test_a_refresh_asks_a_market_that_is_left_alone() -> None:
    one, market = await hanging(ManualClock(NOW), load_seconds=0.05)
    await one.gather(NEED)
    await given_up(one)
    market.gate.set()
    found = await one.gather(NEED, refresh=True, answer_seconds=60)
    assert [offer.stale for offer in found.offers()] == [False]
    assert one.statistics()[0].circuit == "closed"


async def test_a_market_that_fails_at_once_is_left_alone_after_a_few_times() -> None:
    market = Stall("bad", error=Unavailable("down"))
    one = gatherer(market)
    for _ in range(FAILURES_MAX + 3):
        assert (await one.gather(NEED)).missing[0][0] == "bad"
    assert len(market.questions) == FAILURES_MAX


async def test_what_a_slow_market_told_in_time_comes_with_its_older_offers() -> None:
    clock = ManualClock(NOW)
    market = stall("slow", 1, 2)
    one = gatherer(market, clock=clock, answer_seconds=0.05)
    await one.gather(NEED)
    clock.advance(61)
    market.gate.clear()
    market.offers = [make_offer(3, market="slow"), make_offer(1, market="slow")]
    found = {offer.seller.name: offer.stale for offer in (await one.gather(NEED)).offers()}
    assert found == {"seller 1": True, "seller 2": True, "seller 3": False}
    await one.close()


async def test_refresh_asks_again_and_clear_forgets() -> None:
    market = stall("a", 1)
    one = gatherer(market)
    await one.gather(NEED)
    await one.gather(NEED, refresh=True)
    assert len(market.questions) == 2
    await one.clear()
    await one.gather(NEED)
    assert len(market.questions) == 3


async def test_a_hit_is_an_event() -> None:
    events: list[tuple[EventName, dict[str, object]]] = []
    one = gatherer(stall("a", 1), on_event=lambda name, data: events.append((name, data)))
    await one.gather(NEED)
    assert events == []
    await one.gather(NEED)
    assert events == [(EventName.DISCOVERY_CACHE_HIT, {"market": "a", "stale": False})]


async def test_without_anybody_to_tell_a_hit_is_a_line_in_the_log() -> None:
    one = gatherer(stall("a", 1))
    with capture_logs() as logs:
        await one.gather(NEED)
        await one.gather(NEED)
    hits = [entry for entry in logs if entry["event"] == "discovery.cache_hit"]
    assert hits == [{"event": "discovery.cache_hit", "log_level": "debug", "market": "a", "stale": False}]


async def test_statistics_name_the_silent_source_of_a_market_of_several() -> None:
    class Two(Stall):
        def dead_sources(self) -> dict[str, str]:
            return {"bazaar": "down"}

    one = gatherer(Two("two"), stall("one"))
    assert [source.dead_sources for source in one.statistics()] == [{"bazaar": "down"}, {}]


async def test_only_the_wanted_markets_are_asked() -> None:
    a, b = stall("a", 1), stall("b", 2)
    await gatherer(a, b).gather(Need(capability="text.echo", constraints=Constraints(markets=("b",))))
    assert (len(a.questions), len(b.questions)) == (0, 1)


async def test_statistics_tell_health_time_and_hits() -> None:
    good, bad = stall("good", 1, 2), Stall("bad", error=Unavailable("down"))
    one = gatherer(good, bad)
    await one.gather(NEED)
    await one.gather(NEED)
    first, second = one.statistics()
    assert (first.asked, first.answered, first.offers, first.cache_hits, first.success_rate) == (1, 1, 2, 1, 1.0)
    assert first.last_seen == NOW
    assert (second.asked, second.failed, second.success_rate, second.last_error) == (2, 2, 0.0, "down")


def test_a_source_that_was_never_asked_has_no_success_rate() -> None:
    assert gatherer(stall("a")).statistics()[0].success_rate is None


async def test_impossible_offers_are_dropped_and_counted() -> None:
    offers = [
        make_offer(1, market="elsewhere"),
        make_offer(2, market="a").model_copy(update={"price": Price(per_job=Money(USDC, -1))}),
        make_offer(3, market="a", seller=Party(ids={"url": "https://x/\x00"})),
        make_offer(4, market="a", seller=Party(ids={"url": "https://x/" + "y" * 300})),
        make_offer(5, market="a"),
    ]
    one = gatherer(Stall("a", offers))
    assert [offer.id for offer in (await one.gather(NEED)).offers()] == ["a:5:text.echo"]
    assert one.statistics()[0].dropped == 4


async def test_a_flood_of_offers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentnexus.hiring.gather.OFFERS_PER_MARKET_MAX", 3)
    assert len((await gatherer(stall("a", *range(1, 10))).gather(NEED)).offers()) == 3


def test_the_same_seller_capability_and_endpoint_is_one_offer_with_all_its_sources() -> None:
    first = make_offer(1, market="a", price="0.02")
    other = make_offer(1, market="b", price="0.01", latency_ms=50, reputation=known(4))
    upper = other.model_copy(update={"market": "c", "seller": Party(ids={"evm": f"0x{1:040X}"})})
    (merged,) = merge([first, other, upper])
    assert merged.sources == ("a", "b", "c")
    assert merged.price == first.price  # the more trusted market's word stays
    assert (merged.latency_ms, merged.reputation.count) == (50, 40)  # its gaps are filled


def test_a_fresh_copy_takes_the_stale_mark_away() -> None:
    (merged,) = merge([make_offer(1, stale=True), make_offer(1)])
    assert not merged.stale


def test_other_endpoints_and_capabilities_stay_apart() -> None:
    offers = [make_offer(1), make_offer(1, endpoint="https://other.example"), make_offer(1, capability="b")]
    assert len(merge(offers)) == 3


def test_a_market_that_is_not_enabled_is_named() -> None:
    with pytest.raises(Unavailable, match="nostr"):
        gatherer(stall("a")).market("nostr")
