"""Looking around: offers, comparisons, explanations, and an index that lives exactly as long as its shelves."""

from __future__ import annotations

import json

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import NoOffer, Unavailable
from agentnexus.core.offers import Constraints, Need, Offer
from agentnexus.hiring.cache import OfferCache
from agentnexus.platform.cache import Cache
from agentnexus.platform.database import Database
from tests.hiring.support import NEED, NOW, Economy, make_offer, seller_key, usd


async def test_offers_are_ranked_and_a_market_is_asked_once_a_minute(economy: Economy) -> None:
    for _ in range(3):
        ranked = await economy.hiring.offers(NEED)
        assert [one.seller for one in ranked] == [seller_key(1)]
    assert economy.market.discoveries == 1
    await economy.hiring.offers(NEED, refresh=True)
    assert economy.market.discoveries == 2


async def test_offers_are_empty_when_nobody_sells_it(economy: Economy) -> None:
    assert await economy.hiring.offers(Need(capability="moon.landing")) == []


async def test_compare_gives_offers_side_by_side_or_says_how_many_there_are(database: Database) -> None:
    economy = await Economy.build(database, offers=[make_offer(number) for number in (1, 2, 3)])
    assert len((await economy.hiring.compare(NEED, minimum=3)).offers) == 3
    with pytest.raises(NoOffer, match="3 offers for text.echo, 5 were asked for"):  # noqa: RUF043 - a plain sentence
        await economy.hiring.compare(NEED, minimum=5)
    await economy.close()


async def test_explain_says_whom_and_why_without_asking_anybody(economy: Economy) -> None:
    choice = await economy.hiring.explain(NEED)
    assert choice is not None
    assert choice.explain()["seller"] == seller_key(1)
    assert await economy.hiring.explain(Need(capability="moon.landing")) is None
    assert economy.market.asked == []


async def test_the_index_is_kept_while_nothing_changed_and_made_anew_when_it_did(economy: Economy) -> None:
    shop = economy.hiring.shop
    await economy.hiring.offers(NEED)
    (first,) = [kept.index for kept in shop._kept.values()]
    await economy.hiring.offers(NEED)
    assert [kept.index for kept in shop._kept.values()] == [first]
    economy.market.offers.append(make_offer(2))
    assert len(await economy.hiring.offers(NEED, refresh=True)) == 2


async def test_words_are_matched_over_everything_on_sale(database: Database) -> None:
    offers = [make_offer(1, capability="text.summarize"), make_offer(2, capability="image.paint")]
    economy = await Economy.build(database, offers=offers)
    assert [one.seller for one in await economy.hiring.offers(Need(text="paint an image of a cat"))] == [seller_key(2)]
    assert await economy.hiring.offers(Need(text="summary of a text")) != []
    assert economy.market.discoveries == 1
    assert (await economy.hiring.shop.capabilities("painting"))[0][0] == "image.paint"
    await economy.close()


async def test_a_market_that_only_answers_words_is_asked_with_them(database: Database) -> None:
    economy = await Economy.build(database, offers=[])
    asked: list[str] = []
    original = economy.market.discover

    async def discover(need: Need) -> object:
        asked.append(need.text)
        if need.text:
            economy.market.offers = [make_offer(1)]
        async for offer in original(need):
            yield offer

    economy.market.discover = discover  # type: ignore[method-assign, assignment]
    assert [one.seller for one in await economy.hiring.offers(Need(text="echo text"))] == [seller_key(1)]
    assert asked == ["", "echo text"]
    await economy.close()


async def test_advice_names_the_two_rules_that_stood_in_the_way_most(database: Database) -> None:
    offers = [make_offer(1), make_offer(2), make_offer(3, price="0.001", region="us")]
    economy = await Economy.build(database, offers=offers)
    need = Need(capability="text.echo", constraints=Constraints(max_price=usd("0.01"), region="eu"))
    with pytest.raises(NoOffer) as caught:
        await economy.hire(need)
    assert caught.value.next_step.startswith("raise the price limit")
    assert caught.value.details["left_out"] == {"price": 2, "region": 1}
    await economy.close()


async def test_statistics_of_sources_are_there_for_discovery_stats(economy: Economy) -> None:
    await economy.hiring.offers(NEED)
    (health,) = economy.hiring.statistics()
    assert (health.market, health.answered, health.offers) == ("scripted", 1, 1)


class SharedLevel:
    """A second cache level as another process would see it: text in, text out."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        self.values[key] = value

    async def delete(self, key: str) -> None:
        self.values.pop(key, None)


async def load_one() -> tuple[Offer, ...]:
    return (make_offer(1),)


async def never() -> tuple[Offer, ...]:
    raise AssertionError("asked although it was cached")


async def test_offers_travel_through_the_shared_cache_unchanged() -> None:
    level = SharedLevel()
    first = OfferCache(Cache(clock=ManualClock(NOW), second=level))
    second = OfferCache(Cache(clock=ManualClock(NOW), second=level))
    here = await first.get_or_load("m", "q", load_one)
    there = await second.get_or_load("m", "q", never)
    assert there.shelf.offers == here.shelf.offers == (make_offer(1),)
    assert (here.hit, there.hit) == (False, True)
    assert json.loads(json.loads(next(iter(level.values.values()))))[0]["id"] == make_offer(1).id


async def test_the_same_shelf_is_the_same_object_until_it_is_cleared() -> None:
    cache = OfferCache(Cache(clock=ManualClock(NOW)))
    first = await cache.get_or_load("m", "q", load_one)
    assert (await cache.get_or_load("m", "q", never)).shelf is first.shelf
    await cache.clear("m", "q")
    assert (await cache.get_or_load("m", "q", load_one)).shelf is not first.shelf
    await cache.clear()


async def test_a_source_that_never_answered_has_nothing_to_fall_back_on() -> None:
    async def dead() -> tuple[Offer, ...]:
        raise Unavailable("down")

    with pytest.raises(Unavailable):
        await OfferCache(Cache(clock=ManualClock(NOW))).get_or_load("m", "q", dead)
