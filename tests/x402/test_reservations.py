"""One acceptance suite for every store of reservations."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.markets.x402.reservations import (
    Claim,
    LeaseLost,
    MemoryReservations,
    Reservations,
    SaleState,
    StoredResponse,
)
from agentnexus.markets.x402.reservations_postgres import PostgresReservations
from agentnexus.platform.database import Database

CLAIM = Claim("net:token:payer:nonce", "sha256:payload", "sha256:request", "http://h/x", "net:payer:my-own-identifier")
ANSWER = StoredResponse(200, (("content-type", "text/plain"), ("x-latin", "\xe9")), b"\x00 bytes \xff")
PAID = {"success": True, "transaction": "0xab", "network": "eip155:1"}


async def test_the_first_claim_wins_and_a_copy_learns_who_has_it(reservations: Reservations) -> None:
    assert await reservations.find(CLAIM) is None
    first = await reservations.reserve(CLAIM, "one", 30)
    second = await reservations.reserve(CLAIM, "two", 30)
    assert (first.owner, second.owner) == ("one", "one")
    assert first.state is SaleState.RUNNING
    assert second.live
    assert second.claim == CLAIM


async def test_of_many_simultaneous_claims_exactly_one_wins(reservations: Reservations) -> None:
    claims = await asyncio.gather(*(reservations.reserve(CLAIM, f"owner-{n}", 30) for n in range(24)))
    assert len({each.owner for each in claims}) == 1


async def test_an_expired_lease_is_taken_over_and_the_old_owner_learns_it(reservations: Reservations) -> None:
    await reservations.reserve(CLAIM, "one", 0)
    taken = await reservations.reserve(CLAIM, "two", 30)
    assert taken.owner == "two"
    assert not await reservations.renew(CLAIM.payment_id, "one", 30)
    with pytest.raises(LeaseLost):
        await reservations.advance(CLAIM.payment_id, "one", SaleState.DELIVERED, response=ANSWER)


async def test_of_many_takers_of_an_expired_lease_exactly_one_wins(reservations: Reservations) -> None:
    await reservations.reserve(CLAIM, "dead", 0)
    taken = await asyncio.gather(*(reservations.reserve(CLAIM, f"owner-{n}", 30) for n in range(24)))
    assert len({each.owner for each in taken}) == 1
    assert taken[0].owner != "dead"


async def test_a_renewed_lease_is_not_taken_over(reservations: Reservations) -> None:
    await reservations.reserve(CLAIM, "one", 0)
    assert await reservations.renew(CLAIM.payment_id, "one", 30)
    assert (await reservations.reserve(CLAIM, "two", 30)).owner == "one"


@pytest.mark.parametrize("change", ["payload_hash", "request_hash"])
async def test_other_work_never_takes_over(reservations: Reservations, change: str) -> None:
    await reservations.reserve(CLAIM, "one", 0)
    other = replace(CLAIM, **{change: "sha256:other"})
    held = await reservations.reserve(other, "two", 30)
    assert held.owner == "one"
    assert not held.same_work(other)


async def test_one_client_identifier_belongs_to_one_payment(reservations: Reservations) -> None:
    await reservations.reserve(CLAIM, "one", 0)
    other = replace(CLAIM, payment_id="net:token:payer:another-nonce")
    held = await reservations.reserve(other, "two", 30)
    assert held.claim.payment_id == CLAIM.payment_id
    found = await reservations.find(other)
    assert found is not None
    assert found.claim.payment_id == CLAIM.payment_id


async def test_payments_without_identifier_do_not_meet(reservations: Reservations) -> None:
    first = replace(CLAIM, client_key=None)
    second = replace(first, payment_id="other")
    assert (await reservations.reserve(first, "one", 30)).owner == "one"
    assert (await reservations.reserve(second, "two", 30)).owner == "two"


async def test_answer_and_settlement_are_kept_to_the_byte(reservations: Reservations) -> None:
    await reservations.reserve(CLAIM, "one", 30)
    await reservations.advance(CLAIM.payment_id, "one", SaleState.DELIVERED, response=ANSWER)
    await reservations.advance(CLAIM.payment_id, "one", SaleState.SETTLED, settlement=PAID)
    held = await reservations.find(CLAIM)
    assert held is not None
    assert (held.state, held.response, held.settlement) == (SaleState.SETTLED, ANSWER, PAID)
    assert not held.live
    assert (await reservations.reserve(CLAIM, "two", 30)).owner == "one"


async def test_a_failed_sale_starts_again_and_an_unsettled_one_goes_on(reservations: Reservations) -> None:
    await reservations.reserve(CLAIM, "one", 30)
    await reservations.advance(CLAIM.payment_id, "one", SaleState.FAILED, response=ANSWER)
    assert (await reservations.reserve(CLAIM, "two", 30)).state is SaleState.RUNNING
    await reservations.advance(CLAIM.payment_id, "two", SaleState.DELIVERED, response=ANSWER)
    again = await reservations.reserve(CLAIM, "three", 30)
    assert (again.owner, again.state, again.response) == ("three", SaleState.DELIVERED, ANSWER)
    await reservations.advance(CLAIM.payment_id, "three", SaleState.PAID, settlement=PAID)
    assert (await reservations.reserve(CLAIM, "four", 30)).state is SaleState.PAID


async def test_waiting_ends_with_a_change_or_with_the_timeout(reservations: Reservations) -> None:
    await reservations.reserve(CLAIM, "one", 30)
    waiting = asyncio.create_task(reservations.changed(CLAIM.payment_id, 60))
    await asyncio.sleep(0)
    await reservations.advance(CLAIM.payment_id, "one", SaleState.DELIVERED, response=ANSWER)
    await asyncio.wait_for(waiting, 10)
    await reservations.changed(CLAIM.payment_id, 0.001)


async def test_purging_forgets_ended_sales_and_never_open_money(reservations: Reservations) -> None:
    states = {
        "running": SaleState.RUNNING,
        "failed": SaleState.FAILED,
        "refused": SaleState.REFUSED,
        "settled": SaleState.SETTLED,
        "delivered": SaleState.DELIVERED,
        "paid": SaleState.PAID,
    }
    for name, state in states.items():
        claim = replace(CLAIM, payment_id=name, client_key=None)
        await reservations.reserve(claim, "one", 30)
        await reservations.advance(name, "one", state, response=ANSWER, settlement=PAID)
    assert await reservations.purge(3600) == 0
    assert await reservations.purge(-1) == 4
    left = {name for name in states if await reservations.find(replace(CLAIM, payment_id=name, client_key=None))}
    assert left == {"delivered", "paid"}


async def test_memory_leases_follow_the_clock_they_are_given(clock: ManualClock) -> None:
    store = MemoryReservations(clock)
    await store.reserve(CLAIM, "one", 30)
    clock.advance(29)
    assert (await store.reserve(CLAIM, "two", 30)).owner == "one"
    clock.advance(2)
    assert (await store.reserve(CLAIM, "two", 30)).owner == "two"


async def test_two_processes_share_one_table(database: Database, database_url: str) -> None:
    other = await Database.open(database_url)
    here, there = PostgresReservations(database), PostgresReservations(other)
    await here.reserve(CLAIM, "one", 30)
    assert (await there.reserve(CLAIM, "two", 30)).owner == "one"
    await here.advance(CLAIM.payment_id, "one", SaleState.FAILED, response=ANSWER)
    assert (await there.reserve(CLAIM, "two", 30)).owner == "two"
    await other.close()
