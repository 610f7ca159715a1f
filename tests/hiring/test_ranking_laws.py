"""Laws of ranking and choice for any offers: better never loses, the order is whole, seeds repeat, shares are fair."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agentnexus.core.clock import ManualClock, SeededEntropy
from agentnexus.core.offers import Strategy
from agentnexus.hiring import choose as choosing
from agentnexus.hiring import rank
from agentnexus.hiring.choose import Chooser, Policy
from agentnexus.hiring.load import (
    EJECT_AFTER_ERRORS,
    EJECTION_BASE_SECONDS,
    EJECTION_MAX_SECONDS,
    LATENCY_TAU_SECONDS,
    PEAK_FACTOR,
    SUCCESS_HALF_LIFE_SECONDS,
    LoadTable,
    SellerLoad,
)
from agentnexus.hiring.model import CLAIM_WEIGHT_MAX, PRIOR_SCORE, PRIOR_WEIGHT, SellerRecord
from tests.hiring.support import NOW
from tests.hiring.test_choose import CAPABILITY, ranked

unknown_or = st.one_of(st.just(math.nan), st.floats(0, 60_000))
rows = st.tuples(
    st.floats(0, 1000), st.floats(0, 5), unknown_or, st.one_of(st.just(math.nan), st.floats(0, 1)), unknown_or
)
tables = st.lists(rows, min_size=1, max_size=12)
strategies = st.sampled_from(list(Strategy))


def columns_of(table: list[tuple[float, ...]]) -> rank.Columns:
    price, reputation, latency, success, stake = (np.array(column, float) for column in zip(*table, strict=True))
    return rank.Columns(price, reputation, latency, success, stake)


@given(tables, strategies)
def test_the_order_names_every_offer_once_and_never_goes_up_in_score(
    table: list[tuple[float, ...]], strategy: Strategy
) -> None:
    columns = columns_of(table)
    scored = rank.parts(columns)
    order = rank.order(columns, scored, strategy)
    assert sorted(order) == list(range(len(table)))
    score = scored.of(strategy)[order]
    assert all(before >= after for before, after in pairwise(score))


@given(tables)
def test_every_part_of_a_score_stays_between_nothing_and_one(table: list[tuple[float, ...]]) -> None:
    scored = rank.parts(columns_of(table))
    for part in (scored.price, scored.reputation, scored.latency, scored.success, scored.stake):
        assert np.all(part >= 0)
        assert np.all(part <= 1)
    assert np.all(np.isfinite(scored.value))
    assert np.all(scored.of(Strategy.COMPOSITE) <= 1 + 1e-9)


@given(tables, strategies, st.integers(1, 12))
def test_the_first_few_are_the_first_of_the_whole_order_up_to_ties(
    table: list[tuple[float, ...]], strategy: Strategy, count: int
) -> None:
    columns = columns_of(table)
    scored = rank.parts(columns)
    first, whole = rank.best(columns, scored, strategy, count), rank.order(columns, scored, strategy)
    assert len(first) >= min(count, len(table))
    score = scored.of(strategy)
    assert [score[at] for at in first] == [score[at] for at in whole[: len(first)]]


@given(tables, strategies, st.randoms(use_true_random=False))
def test_the_order_of_arrival_only_breaks_ties(
    table: list[tuple[float, ...]], strategy: Strategy, random: object
) -> None:
    shuffled = list(table)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' own Random
    one, other = columns_of(table), columns_of(shuffled)
    first = rank.parts(one).of(strategy)[rank.order(one, rank.parts(one), strategy)]
    second = rank.parts(other).of(strategy)[rank.order(other, rank.parts(other), strategy)]
    assert np.allclose(first, second, rtol=1e-9, atol=1e-12)


@given(tables, st.data())
def test_a_lower_price_never_lowers_value_nor_price_score(table: list[tuple[float, ...]], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(table) - 1))
    lower = data.draw(st.floats(0, table[at][0]))
    changed = [(lower, *row[1:]) if number == at else row for number, row in enumerate(table)]
    before, after = rank.parts(columns_of(table)), rank.parts(columns_of(changed))
    assert after.value[at] >= before.value[at]
    if after.median_price_usd == before.median_price_usd:
        assert after.price[at] >= before.price[at]


@given(tables, st.data())
def test_a_better_reputation_never_lowers_any_score_it_is_part_of(
    table: list[tuple[float, ...]], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(table) - 1))
    better = data.draw(st.floats(table[at][1], 5))
    changed = [(row[0], better, *row[2:]) if number == at else row for number, row in enumerate(table)]
    before, after = rank.parts(columns_of(table)), rank.parts(columns_of(changed))
    for strategy in (Strategy.VALUE, Strategy.REPUTATION, Strategy.COMPOSITE):
        assert after.of(strategy)[at] >= before.of(strategy)[at] - 1e-12


@given(tables, st.floats(1e6, 1e12))
def test_one_absurd_price_does_not_change_who_of_the_others_comes_first(
    table: list[tuple[float, ...]], absurd: float
) -> None:
    assume(len(table) >= 2)
    extended = columns_of([*table, (absurd, 3.0, math.nan, math.nan, math.nan)])
    plain = columns_of(table)
    before = list(rank.order(plain, rank.parts(plain), Strategy.PRICE))
    after = [at for at in rank.order(extended, rank.parts(extended), Strategy.PRICE) if at < len(table)]
    prices = plain.price_usd
    assert [prices[at] for at in before] == [prices[at] for at in after]


@pytest.mark.parametrize("strategy", Strategy)
def test_of_two_alike_the_cheaper_then_the_better_known_then_the_first_wins(strategy: Strategy) -> None:
    same = columns_of([(1.0, 3.0, 100.0, 0.9, 0.0)] * 3)
    assert list(rank.order(same, rank.parts(same), strategy)) == [0, 1, 2]


def test_the_median_offer_scores_one_half_and_a_free_one_everything() -> None:
    scored = rank.parts(columns_of([(0.0, 3, 10, 1, 0), (2.0, 3, 10, 1, 0), (4.0, 3, 10, 1, 0)]))
    assert list(scored.price) == [1.0, 0.5, pytest.approx(1 / 3)]


def test_stakes_count_up_to_their_full_weight_and_unknown_ones_as_none() -> None:
    scored = rank.parts(columns_of([(1, 3, 1, 1, 500.0), (1, 3, 1, 1, 5000.0), (1, 3, 1, 1, math.nan)]))
    assert list(scored.stake) == [0.5, 1.0, 0.0]


def test_reasons_say_what_is_known_and_what_is_not() -> None:
    columns = columns_of([(1.0, 4.0, math.nan, math.nan, math.nan), (3.0, 2.5, 250.0, 0.75, 10.0)])
    scored = rank.parts(columns)
    assert rank.reasons(columns, scored, 0) == (
        "costs at most $1, 50% cheaper than the median",
        "reputation 4.00 of 5",
        "latency unknown, counted as the median",
    )
    assert rank.reasons(columns, scored, 1) == (
        "costs at most $3, 50% dearer than the median",
        "reputation 2.50 of 5",
        "answers in about 250 ms",
        "75% of its jobs succeed",
        "stake worth $10.00",
    )


def test_when_all_is_free_nothing_is_compared_with_nothing() -> None:
    columns = columns_of([(0.0, 3.0, 1.0, 1.0, 0.0)] * 2)
    assert rank.reasons(columns, rank.parts(columns), 0)[0] == "costs at most $0"


def test_the_weights_of_the_composite_are_a_whole() -> None:
    assert sum(rank.COMPOSITE_WEIGHTS.values()) == pytest.approx(1.0)
    assert set(Strategy) == set(choosing.PRICE_WEIGHTS)


# --- reputation -----------------------------------------------------------------------------------------------------

records = st.builds(
    lambda jobs, good, promised, kept, ratings, stars: SellerRecord(
        "evm:0x1",
        jobs=jobs,
        succeeded=min(good, jobs),
        promised=promised,
        kept_promise=min(kept, promised),
        ratings=ratings,
        rating_total=sum(stars[:1]) * ratings,
    ),
    *[st.integers(0, 500)] * 5,
    st.lists(st.integers(1, 5), min_size=1, max_size=1),
)


@given(records)
def test_a_rating_above_the_average_never_hurts_and_one_star_never_helps(record: SellerRecord) -> None:
    assume(record.ratings)
    best = replace(record, ratings=record.ratings + 1, rating_total=record.rating_total + 5)
    worst = replace(record, ratings=record.ratings + 1, rating_total=record.rating_total + 1)
    assert best.quality >= record.quality - 1e-9 >= worst.quality - 2e-9


@given(records, st.floats(0, 5), st.integers(0, 10**9))
def test_what_a_market_claims_can_move_reputation_only_so_far(record: SellerRecord, claimed: float, count: int) -> None:
    own, moved = record.reputation(), record.reputation(claimed, count)
    share = CLAIM_WEIGHT_MAX / (CLAIM_WEIGHT_MAX + PRIOR_WEIGHT + record.jobs)
    assert abs(moved - own) <= 5 * share + 1e-9
    assert min(own, claimed) - 1e-9 <= moved <= max(own, claimed) + 1e-9


def test_a_newcomer_with_claims_of_a_million_jobs_is_not_believed_like_one_with_fifty_of_ours() -> None:
    boaster = SellerRecord("a").reputation(5.0, 1_000_000)
    proven = SellerRecord("b", jobs=50, succeeded=50).reputation()
    assert PRIOR_SCORE < boaster < proven


def test_without_jobs_there_is_no_success_rate() -> None:
    assert SellerRecord("a").success_rate is None
    assert SellerRecord("a", jobs=4, succeeded=3).success_rate == 0.75


# --- load -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.001, 100)), min_size=1, max_size=30))
def test_predicted_latency_stays_within_what_was_seen(samples: list[tuple[float, float]]) -> None:
    load, now = SellerLoad(), 0.0
    for pause, seconds in samples:
        now += pause
        load.observe_latency(seconds, now)
        load.decay(now)
        assert load.latency_seconds is not None
    seen = [seconds for _, seconds in samples]
    assert min(seen) - 1e-9 <= load.latency_seconds <= max(seen) + 1e-9  # type: ignore[operator]


def test_a_peak_counts_at_once_and_calm_pulls_down_with_time() -> None:
    load = SellerLoad(latency_seconds=1.0)
    load.observe_latency(PEAK_FACTOR + 0.1, 0.0)
    assert load.latency_seconds == PEAK_FACTOR + 0.1
    load.seen_at = 0.0
    load.observe_latency(1.0, LATENCY_TAU_SECONDS)
    assert load.latency_seconds == pytest.approx(1 + (PEAK_FACTOR - 0.9) * math.exp(-1))


def test_outcomes_are_half_forgotten_after_the_half_life() -> None:
    load = SellerLoad(successes=0.0, failures=8.0, seen_at=0.0)
    assert load.success(0.0) == pytest.approx(2 / 10.5)
    assert load.success(SUCCESS_HALF_LIFE_SECONDS) == pytest.approx(2 / 6.5)
    assert load.success(1e9) == pytest.approx(2 / 2.5)


@given(st.floats(0, 1000), st.floats(0, 1000), st.floats(0, 1e6))
def test_expected_success_is_never_nothing_and_never_certain(good: float, bad: float, age: float) -> None:
    found = SellerLoad(successes=good, failures=bad).success(age)
    assert 0 < found < 1


def failing(table: LoadTable, seller: str, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        table.started(seller, CAPABILITY, now)
        table.finished(seller, CAPABILITY, now, seconds=1.0, succeeded=False)


def crowd(table: LoadTable, count: int = 4) -> list[str]:
    sellers = [f"s{number}" for number in range(count)]
    for seller in sellers:
        table.of(seller, CAPABILITY)
    return sellers


def test_one_failure_less_than_the_limit_ejects_nobody() -> None:
    table = LoadTable()
    first, *_ = crowd(table)
    failing(table, first, EJECT_AFTER_ERRORS - 1)
    assert table.of(first, CAPABILITY).available(0.0)
    failing(table, first, 1)
    assert not table.of(first, CAPABILITY).available(0.0)


def test_a_success_in_between_starts_the_count_anew() -> None:
    table = LoadTable()
    first, *_ = crowd(table)
    failing(table, first, EJECT_AFTER_ERRORS - 1)
    table.finished(first, CAPABILITY, 0.0, seconds=1.0, succeeded=True)
    failing(table, first, EJECT_AFTER_ERRORS - 1)
    assert table.of(first, CAPABILITY).available(0.0)


def test_an_ejection_ends_to_the_second_and_then_one_probe_is_let_through() -> None:
    table = LoadTable()
    first, *_ = crowd(table)
    failing(table, first, EJECT_AFTER_ERRORS)
    load = table.of(first, CAPABILITY)
    assert not load.available(EJECTION_BASE_SECONDS - 0.001)
    assert load.available(EJECTION_BASE_SECONDS)
    table.started(first, CAPABILITY, EJECTION_BASE_SECONDS)
    assert not load.available(EJECTION_BASE_SECONDS + 1000), "half open: one probe at a time"
    table.abandoned(first, CAPABILITY)
    assert load.available(EJECTION_BASE_SECONDS + 1000), "a probe that said nothing lets the next one through"


def test_each_failed_probe_waits_longer_up_to_the_limit_and_one_success_forgives_all() -> None:
    table, now, waits = LoadTable(), 0.0, []
    first, *_ = crowd(table)
    failing(table, first, EJECT_AFTER_ERRORS)
    load = table.of(first, CAPABILITY)
    for _ in range(12):
        assert load.ejected_until is not None
        waits.append(load.ejected_until - now)
        now = load.ejected_until
        failing(table, first, 1, now)
    assert waits == sorted(waits)
    assert waits[0] == EJECTION_BASE_SECONDS
    assert waits[-1] == EJECTION_MAX_SECONDS
    table.started(first, CAPABILITY, now)
    table.finished(first, CAPABILITY, now, seconds=1.0, succeeded=True)
    assert load.available(now)
    failing(table, first, EJECT_AFTER_ERRORS, now)
    assert load.ejected_until == now + EJECTION_BASE_SECONDS


def test_failures_at_one_capability_say_nothing_about_another() -> None:
    table = LoadTable()
    first, *_ = crowd(table)
    table.of(first, "pdf.extract")
    failing(table, first, EJECT_AFTER_ERRORS)
    assert table.of(first, "pdf.extract").available(0.0)


@pytest.mark.parametrize(("asked", "until"), [(0.0, 0.0), (5.0, 5.0), (1e9, EJECTION_MAX_SECONDS)])
def test_a_seller_that_asks_for_patience_gets_it_within_reason(asked: float, until: float) -> None:
    table = LoadTable()
    table.busy("s", CAPABILITY, 0.0, asked)
    load = table.of("s", CAPABILITY)
    assert load.available(until)
    if until:
        assert not load.available(until - 0.001)
    assert load.errors_in_a_row == 0


def test_what_never_started_cannot_make_a_negative_load() -> None:
    table = LoadTable()
    table.finished("s", CAPABILITY, 0.0, seconds=1.0, succeeded=True)
    table.abandoned("s", CAPABILITY)
    assert table.of("s", CAPABILITY).in_flight == 0


# --- choice ---------------------------------------------------------------------------------------------------------


def choices(chooser: Chooser, count: int, offers: int, **more: object) -> Counter[str]:
    pool = [ranked(number) for number in range(1, offers + 1)]
    return Counter(
        choice.chosen.offer.seller.name
        for _ in range(count)
        if (choice := chooser.choose(pool, **more)) is not None  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("policy", Policy)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), offers=st.integers(1, 12))
def test_a_seed_repeats_every_choice_of_every_policy(policy: Policy, seed: int, offers: int) -> None:
    pool = [ranked(number, price=f"0.{number:02}") for number in range(1, offers + 1)]

    def run() -> list[str]:
        chooser = Chooser(clock=ManualClock(NOW), entropy=SeededEntropy(seed))
        found = [chooser.choose(pool, policy=policy) for _ in range(20)]
        return [choice.chosen.seller for choice in found if choice is not None]

    assert run() == run()
    assert len(run()) == 20


def test_exploration_takes_about_its_share() -> None:
    """3000 draws at 10 %: five standard deviations are 82."""
    chooser = Chooser(clock=ManualClock(NOW), entropy=SeededEntropy(7), exploration=0.1)
    pool = [ranked(number) for number in range(1, 5)]
    explored = sum("exploration" in choice.why for _ in range(3000) if (choice := chooser.choose(pool)) is not None)
    assert 300 - 82 < explored < 300 + 82


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 200)])
def test_exploration_can_be_off_or_all(share: float, expected: int) -> None:
    chooser = Chooser(clock=ManualClock(NOW), entropy=SeededEntropy(7), exploration=share)
    pool = [ranked(number) for number in range(1, 5)]
    found = [chooser.choose(pool) for _ in range(200)]
    assert sum("exploration" in choice.why for choice in found if choice is not None) == expected


def test_a_session_is_never_explored_away() -> None:
    chooser = Chooser(clock=ManualClock(NOW), entropy=SeededEntropy(7), exploration=1.0)
    assert len(choices(chooser, 50, 5, session="s")) == 1


def test_exploration_never_takes_what_costs_over_twice_the_median() -> None:
    chooser = Chooser(clock=ManualClock(NOW), entropy=SeededEntropy(3), exploration=1.0)
    pool = [ranked(1, price="0.01"), ranked(2, price="0.01"), ranked(3, price="0.0201")]
    for _ in range(30):
        choice = chooser.choose(pool)
        assert choice is not None
        assert choice.chosen.price_usd <= Decimal("0.02")


def test_two_draws_never_compare_an_offer_with_itself() -> None:
    chooser = Chooser(clock=ManualClock(NOW), entropy=SeededEntropy(5), exploration=0.0)
    slow, quick = ranked(1, latency_ms=9000), ranked(2, latency_ms=10)
    for _ in range(50):
        choice = chooser.choose([slow, quick])
        assert choice is not None
        assert choice.chosen is quick, "with two offers both are always drawn"


def test_round_robin_gives_everybody_the_same() -> None:
    chooser = Chooser(clock=ManualClock(NOW), entropy=SeededEntropy(5))
    assert set(choices(chooser, 60, 6, policy=Policy.ROUND_ROBIN).values()) == {10}


def test_only_the_first_ten_good_ones_share_the_work() -> None:
    chooser = Chooser(clock=ManualClock(NOW), entropy=SeededEntropy(5), exploration=0.0)
    found = choices(chooser, 500, 30)
    assert set(found) <= {f"seller {number}" for number in range(1, choosing.POOL_MAX + 1)}
    assert len(found) > choosing.POOL_MAX / 2


@pytest.mark.parametrize(("score", "chosen"), [(0.7, True), (0.6999, False)])
def test_good_enough_is_seventy_percent_of_the_best(score: float, chosen: bool) -> None:
    chooser = Chooser(clock=ManualClock(NOW), entropy=SeededEntropy(5), exploration=0.0)
    pool = [ranked(1, latency_ms=9000), ranked(2, score=score, latency_ms=1)]
    choice = chooser.choose(pool)
    assert choice is not None
    assert (choice.chosen is pool[1]) is chosen


@pytest.mark.parametrize("price", ["0", "0.000001"])
def test_free_offers_do_not_divide_by_zero(price: str) -> None:
    chooser = Chooser(clock=ManualClock(NOW), entropy=SeededEntropy(5))
    for strategy in Strategy:
        choice = chooser.choose([ranked(1, price=price), ranked(2)], strategy=strategy)
        assert choice is not None
        assert all(math.isfinite(factor.cost) for factor in choice.factors)


def test_preferred_sellers_that_are_ejected_give_way_to_the_others() -> None:
    chooser = Chooser(clock=ManualClock(NOW), entropy=SeededEntropy(5), exploration=0.0)
    liked, other, third, fourth = (ranked(number) for number in range(1, 5))
    for offer in (liked, other, third, fourth):
        chooser.loads.of(offer.seller, CAPABILITY)
    failing(chooser.loads, liked.seller, EJECT_AFTER_ERRORS, chooser._clock.monotonic())
    choice = chooser.choose([liked, other], preferred=[liked.seller])
    assert choice is not None
    assert choice.chosen is other
    assert choice.ejected == (liked.seller,)
