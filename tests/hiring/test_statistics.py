"""Seller records come from verified outcomes only, and nobody improves their own."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import Conflict, InvalidInput, NotFound, SellerFailed
from agentnexus.core.money import Money
from agentnexus.core.offers import Party
from agentnexus.core.payments import PaymentRequest
from agentnexus.hiring.model import PRIOR_SCORE, SellerRecord
from agentnexus.hiring.testing import Script
from agentnexus.platform.database import Database
from tests.hiring.support import WALLET, Economy, make_offer, seller_key


def fail(given: object) -> object:
    raise SellerFailed("no")


async def test_a_finished_hire_counts_once_for_its_seller(economy: Economy) -> None:
    await economy.hire()
    await economy.hire()
    record = await economy.hiring.records.record(seller_key(1))
    assert (record.jobs, record.succeeded, record.new) == (1, 1, False)
    assert record.latency_seconds is not None


async def test_a_failure_counts_against_its_seller(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(output=fail)})
    with pytest.raises(SellerFailed):
        await economy.hire()
    record = await economy.hiring.records.record(seller_key(1))
    assert (record.jobs, record.succeeded, record.success_rate) == (1, 0, 0.0)
    await economy.close()


async def test_a_promise_that_is_kept_is_counted(database: Database) -> None:
    economy = await Economy.build(database, offers=[make_offer(1, latency_ms=60_000)])
    await economy.hire()
    record = await economy.hiring.records.record(seller_key(1))
    assert (record.promised, record.kept_promise) == (1, 1)
    await economy.close()


async def test_selling_to_oneself_builds_no_reputation(database: Database) -> None:
    own = make_offer(1, seller=Party(ids={"evm": WALLET.upper().replace("0X", "0x")}))
    economy = await Economy.build(database, offers=[own])
    await economy.hire()
    assert (await economy.hiring.records.record(own.seller.key)).new
    await economy.close()


async def test_records_change_how_offers_rank(database: Database) -> None:
    offers = [make_offer(1, price="0.019"), make_offer(2, price="0.02")]
    economy = await Economy.build(database, offers=offers, scripts={seller_key(1): Script(output=fail)})
    for number in range(4):
        await economy.hire(key=f"k{number}", prefer=[seller_key(1)])
    await economy.hiring.records.snapshot(refresh=True)
    ranked = await economy.hiring.offers(make_need())
    assert [one.offer.seller.key for one in ranked] == [seller_key(2), seller_key(1)]
    assert not ranked[1].new
    await economy.close()


def make_need() -> object:
    from tests.hiring.support import NEED

    return NEED


async def test_the_buyer_who_paid_may_rate_and_change_the_rating(economy: Economy) -> None:
    hired = await economy.hire()
    await economy.hiring.rate(hired.receipt.id, "u1", 2)
    await economy.hiring.rate(hired.receipt.id, "u1", 5)
    record = await economy.hiring.records.record(seller_key(1))
    assert (record.ratings, record.rating_total) == (1, 5)


@pytest.mark.parametrize("rating", [0, 6, -1])
async def test_a_rating_outside_one_to_five_is_refused(economy: Economy, rating: int) -> None:
    with pytest.raises(InvalidInput):
        await economy.hiring.rate("rct_x", "u1", rating)


async def test_others_cannot_rate_and_unpaid_jobs_cannot_be_rated(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(output=fail)})
    with pytest.raises(SellerFailed):
        await economy.hire()
    (receipt,) = await economy.hiring.receipts("k1")
    for user, receipt_id in [("u1", receipt.id), ("u2", receipt.id), ("u1", "rct_none")]:
        with pytest.raises(NotFound):
            await economy.hiring.rate(receipt_id, user, 5)
    await economy.close()


async def test_who_paid_less_than_the_offers_price_cannot_rate(economy: Economy, database: Database) -> None:
    hired = await economy.hire()
    async with database.connection() as connection:
        paid = PaymentRequest.model_validate_json(await connection.fetchval("select request from hiring.hold"))
        less = Money(paid.amount.asset, paid.amount.atomic - 1)
        for amount in (less, paid.amount):
            request = paid.model_copy(update={"amount": amount}).model_dump_json()
            await connection.execute("update hiring.hold set request = $1", request)
            if amount is less:
                with pytest.raises(Conflict, match="less than its offer's price"):
                    await economy.hiring.rate(hired.receipt.id, "u1", 5)
    await economy.hiring.rate(hired.receipt.id, "u1", 5)


async def test_sellers_do_not_rate_themselves(database: Database) -> None:
    economy = await Economy.build(database, offers=[make_offer(1, seller=Party(ids={"evm": WALLET}))])
    hired = await economy.hire()
    with pytest.raises(Conflict):
        await economy.hiring.rate(hired.receipt.id, "u1", 5)
    await economy.close()


async def test_ratings_at_the_same_time_are_all_counted(database: Database) -> None:
    economy = await Economy.build(database)
    hires = [await economy.hire(key=f"k{number}") for number in range(5)]
    await asyncio.gather(*(economy.hiring.rate(hired.receipt.id, "u1", 4) for hired in hires))
    record = await economy.hiring.records.record(seller_key(1))
    assert (record.ratings, record.rating_total) == (5, 20)
    await economy.close()


async def test_a_preference_of_an_unknown_kind_is_refused(economy: Economy) -> None:
    with pytest.raises(InvalidInput, match="preference"):
        await economy.hiring.records.prefer("u1", seller_key(1), "adored")


async def test_a_preference_can_change_and_end(economy: Economy) -> None:
    records = economy.hiring.records
    await records.prefer("u1", seller_key(1), "preferred")
    await records.prefer("u1", seller_key(1), "blocked")
    assert (await records.buyer("u1", None)).blocked == {seller_key(1)}
    await records.prefer("u1", seller_key(1), None)
    assert (await records.buyer("u1", None)).blocked == frozenset()


records_strategy = st.integers(0, 200).flatmap(
    lambda jobs: st.builds(
        SellerRecord,
        seller=st.just("s"),
        jobs=st.just(jobs),
        succeeded=st.integers(0, jobs),
        promised=st.just(0),
    )
)


@given(record=records_strategy, score=st.floats(0, 5), count=st.integers(0, 10**6))
def test_reputation_stays_between_zero_and_five(record: SellerRecord, score: float, count: int) -> None:
    assert 0 <= record.reputation(score, count) <= 5


@given(record=records_strategy)
def test_one_more_success_never_lowers_reputation(record: SellerRecord) -> None:
    better = SellerRecord("s", jobs=record.jobs + 1, succeeded=record.succeeded + 1)
    if record.jobs:
        assert better.reputation() >= record.reputation() - 1e-9


def test_a_newcomer_starts_at_the_prior_and_few_outcomes_move_it_little() -> None:
    assert SellerRecord("s").reputation() == PRIOR_SCORE
    assert SellerRecord("s", jobs=1, succeeded=0).reputation() > 2.5
    assert SellerRecord("s", jobs=100, succeeded=0).reputation() < 0.5


def test_ratings_and_promises_weigh_in_where_known() -> None:
    plain = SellerRecord("s", jobs=10, succeeded=10)
    rated = SellerRecord("s", jobs=10, succeeded=10, ratings=10, rating_total=10)
    late = SellerRecord("s", jobs=10, succeeded=10, promised=10, kept_promise=0)
    assert rated.reputation() < plain.reputation()
    assert late.reputation() < plain.reputation()
