"""Choice under load: spreads, avoids what is slow or broken, tries it again carefully, and can always say why."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.core.clock import ManualClock, SeededEntropy
from agentnexus.core.offers import Strategy
from agentnexus.hiring.choose import Chooser, Policy
from agentnexus.hiring.load import EJECTION_BASE_SECONDS, EJECTION_MAX_SECONDS, LoadTable, SellerLoad
from agentnexus.hiring.model import RankedOffer
from tests.hiring.support import NOW, make_offer, seller_key

CAPABILITY = "text.echo"


def ranked(number: int, *, price: str = "0.02", score: float = 1.0, latency_ms: int | None = 1000) -> RankedOffer:
    return RankedOffer(
        offer=make_offer(number, price=price, latency_ms=latency_ms),
        seller=seller_key(number),
        price_usd=Decimal(price),
        value_score=score,
        price_score=0.5,
        reputation_score=0.7,
        latency_score=0.5,
        score=score,
        reputation=3.5,
        new=True,
    )


def chooser(seed: int = 1, exploration: float = 0.0) -> Chooser:
    return Chooser(clock=ManualClock(NOW), entropy=SeededEntropy(seed), exploration=exploration)


def pick(chooser: Chooser, offers: list[RankedOffer], **more: object) -> str:
    choice = chooser.choose(offers, **more)  # type: ignore[arg-type]
    assert choice is not None
    return choice.chosen.offer.seller.key


def test_nothing_to_choose_from_is_none() -> None:
    assert chooser().choose([]) is None


def test_the_same_seed_makes_the_same_choices() -> None:
    offers = [ranked(number) for number in range(1, 9)]
    first, second = chooser(7), chooser(7)
    assert [pick(first, offers) for _ in range(50)] == [pick(second, offers) for _ in range(50)]


def test_equal_sellers_share_the_work() -> None:
    one = chooser()
    offers = [ranked(number) for number in range(1, 6)]
    counts: Counter[str] = Counter()
    for _ in range(500):
        seller = pick(one, offers)
        counts[seller] += 1
        one.loads.started(seller, CAPABILITY, 0.0)
    assert max(counts.values()) - min(counts.values()) <= 60


def test_of_two_the_less_busy_one_is_taken() -> None:
    one = chooser()
    for _ in range(3):
        one.loads.started(seller_key(1), CAPABILITY, 0.0)
    assert {pick(one, [ranked(1), ranked(2)]) for _ in range(20)} == {seller_key(2)}


def test_a_seller_that_became_slow_is_left_at_once() -> None:
    one = chooser()
    for seller, seconds in ((1, 0.1), (2, 0.1), (1, 5.0)):
        one.loads.started(seller_key(seller), CAPABILITY, 0.0)
        one.loads.finished(seller_key(seller), CAPABILITY, 0.0, seconds=seconds, succeeded=True)
    assert one.loads.of(seller_key(1), CAPABILITY).latency_seconds == 5.0
    assert {pick(one, [ranked(1), ranked(2)]) for _ in range(20)} == {seller_key(2)}


def test_only_offers_near_the_best_rank_share_the_work() -> None:
    offers = [ranked(1, score=1.0), ranked(2, score=0.9), ranked(3, score=0.2)]
    assert {pick(chooser(seed), offers) for seed in range(40)} <= {seller_key(1), seller_key(2)}


def test_price_weighs_as_the_strategy_says() -> None:
    offers = [ranked(1, price="0.01", latency_ms=2000), ranked(2, price="0.02", latency_ms=1000)]
    one = chooser()
    assert {pick(one, offers, strategy=Strategy.PRICE) for _ in range(20)} == {seller_key(1)}
    assert {pick(one, offers, strategy=Strategy.LATENCY) for _ in range(20)} == {seller_key(2)}


def test_other_policies_do_what_their_names_say() -> None:
    offers = [ranked(3, price="0.03"), ranked(1, price="0.01"), ranked(2, price="0.02")]
    one = chooser()
    assert pick(one, offers, policy=Policy.BEST) == seller_key(3)
    assert pick(one, offers, policy=Policy.CHEAPEST) == seller_key(1)
    turns = [pick(one, offers, policy=Policy.ROUND_ROBIN) for _ in range(6)]
    assert turns == [seller_key(number) for number in (1, 2, 3, 1, 2, 3)]


def test_a_seller_that_fails_three_times_is_left_alone_for_a_while_then_probed_once() -> None:
    clock = ManualClock(NOW)
    one = Chooser(clock=clock, entropy=SeededEntropy(1), exploration=0.0)
    offers = [ranked(1), ranked(2)]
    one.loads.of(seller_key(2), CAPABILITY)
    for _ in range(3):
        one.loads.started(seller_key(1), CAPABILITY, clock.monotonic())
        one.loads.finished(seller_key(1), CAPABILITY, clock.monotonic(), seconds=1, succeeded=False)
    assert {pick(one, offers) for _ in range(20)} == {seller_key(2)}
    choice = one.choose(offers)
    assert choice is not None
    assert choice.ejected == (seller_key(1),)

    clock.advance(EJECTION_BASE_SECONDS)
    load = one.loads.of(seller_key(1), CAPABILITY)
    assert load.available(clock.monotonic())
    one.loads.started(seller_key(1), CAPABILITY, clock.monotonic())
    assert not load.available(clock.monotonic())
    one.loads.finished(seller_key(1), CAPABILITY, clock.monotonic(), seconds=1, succeeded=True)
    assert load.available(clock.monotonic())


def test_a_failed_probe_ejects_for_longer_up_to_a_limit() -> None:
    table = LoadTable()
    table.of("other", CAPABILITY)
    now = 0.0
    lengths = []
    for _ in range(3):
        table.started("bad", CAPABILITY, now)
        table.finished("bad", CAPABILITY, now, seconds=1, succeeded=False)
    for _ in range(14):
        load = table.of("bad", CAPABILITY)
        assert load.ejected_until is not None
        lengths.append(load.ejected_until - now)
        now = load.ejected_until
        table.started("bad", CAPABILITY, now)
        table.finished("bad", CAPABILITY, now, seconds=1, succeeded=False)
    assert lengths[:3] == [30, 60, 90]
    assert lengths[-1] == EJECTION_MAX_SECONDS


def test_at_most_half_of_the_sellers_are_ejected() -> None:
    table = LoadTable()
    sellers = [f"s{number}" for number in range(4)]
    for seller in sellers:
        table.of(seller, CAPABILITY)
    for seller in sellers:
        for _ in range(5):
            table.started(seller, CAPABILITY, 0.0)
            table.finished(seller, CAPABILITY, 0.0, seconds=1, succeeded=False)
    assert sum(not table.of(seller, CAPABILITY).available(0.0) for seller in sellers) == 2


def test_when_everybody_is_ejected_somebody_still_serves() -> None:
    one = chooser()
    for _ in range(3):
        one.loads.started(seller_key(1), CAPABILITY, 0.0)
        one.loads.finished(seller_key(1), CAPABILITY, 0.0, seconds=1, succeeded=False)
    assert pick(one, [ranked(1)]) == seller_key(1)


def test_a_busy_seller_is_not_asked_until_it_said() -> None:
    table = LoadTable()
    table.busy("s", CAPABILITY, 0.0, 7.0)
    load = table.of("s", CAPABILITY)
    assert (load.available(6.9), load.available(7.0), load.failures) == (False, True, 0.0)


def test_an_abandoned_job_says_nothing_about_the_seller() -> None:
    table = LoadTable()
    table.started("s", CAPABILITY, 0.0)
    table.abandoned("s", CAPABILITY)
    load = table.of("s", CAPABILITY)
    assert (load.in_flight, load.failures, load.errors_in_a_row) == (0, 0.0, 0)


def test_a_session_stays_with_its_seller_until_that_is_much_slower() -> None:
    one = chooser()
    offers = [ranked(number) for number in (1, 2, 3)]
    first = pick(one, offers, session="s")
    assert {pick(one, offers, session="s") for _ in range(20)} == {first}
    one.loads.started(first, CAPABILITY, 0.0)
    one.loads.finished(first, CAPABILITY, 0.0, seconds=10.0, succeeded=True)
    assert pick(one, offers, session="s") != first


def test_exploration_goes_to_the_least_tried_within_a_price_cap() -> None:
    one = chooser(exploration=1.0)
    offers = [ranked(1, price="0.01"), ranked(2, price="0.01"), ranked(3, price="0.50")]
    one.loads.of(seller_key(1), CAPABILITY).tried = 5
    assert {pick(one, offers) for _ in range(20)} == {seller_key(2)}
    assert pick(one, offers, session="s") in {seller_key(1), seller_key(2), seller_key(3)}


def test_preferred_sellers_are_chosen_among_themselves() -> None:
    offers = [ranked(1), ranked(2, score=0.1)]
    assert pick(chooser(), offers, preferred=[seller_key(2)]) == seller_key(2)


def test_explain_shows_every_factor() -> None:
    choice = chooser().choose([ranked(1), ranked(2)])
    assert choice is not None
    shown = choice.explain()
    assert shown["why"]
    (first, _) = shown["factors"]  # type: ignore[misc]
    assert set(first) == {"seller", "predicted_seconds", "in_flight", "success", "price_factor", "cost"}
    seconds, flight, success = first["predicted_seconds"], first["in_flight"], first["success"]
    assert first["cost"] == pytest.approx(seconds * (flight + 1) / success**2 * first["price_factor"], rel=1e-2)


def test_success_is_forgotten_slowly() -> None:
    load = SellerLoad(failures=10.0, seen_at=0.0)
    assert load.success(0.0) < load.success(3600.0) < load.success(36_000.0) < 1


def test_entries_that_were_never_tried_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentnexus.hiring.load.ENTRIES_MAX", 3)
    table = LoadTable()
    table.started("kept", CAPABILITY, 0.0)
    for number in range(10):
        table.of(f"s{number}", CAPABILITY)
    assert len(table.entries) <= 3
    assert ("kept", CAPABILITY) in table.entries


events = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["start", "good", "bad", "drop", "wait"]), st.floats(0.01, 50)),
    max_size=80,
)


@settings(max_examples=100, deadline=None)
@given(happened=events, seed=st.integers(0, 1000))
def test_whatever_happens_a_choice_is_made_and_the_figures_stay_sane(
    happened: list[tuple[int, str, float]], seed: int
) -> None:
    clock = ManualClock(NOW)
    one = Chooser(clock=clock, entropy=SeededEntropy(seed))
    offers = [ranked(number + 1) for number in range(5)]
    for number, what, amount in happened:
        seller = seller_key(number + 1)
        now = clock.monotonic()
        match what:
            case "start":
                one.loads.started(seller, CAPABILITY, now)
            case "good" | "bad":
                one.loads.finished(seller, CAPABILITY, now, seconds=amount, succeeded=what == "good")
            case "drop":
                one.loads.abandoned(seller, CAPABILITY)
            case _:
                clock.advance(amount)
        load = one.loads.of(seller, CAPABILITY)
        assert load.in_flight >= 0
        assert 0 < load.success(clock.monotonic()) < 1
        assert one.choose(offers) is not None
