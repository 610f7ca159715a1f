"""Group commit: who waits together, what one bad operation does to the rest, what a lost database means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from agentnexus.core.clock import ManualClock, TimeOrderedIds
from agentnexus.core.errors import NexusError, Unavailable
from agentnexus.ledger.books import Books
from agentnexus.ledger.flusher import BATCH_MAX, Flusher
from agentnexus.ledger.model import Answer, Move, Operation, Reservation, Transfer, TransferKind
from agentnexus.ledger.store import Store
from agentnexus.platform.database import Database
from tests.ledger.conftest import USDC, WALLET, Spender, usdc


class Watched(Store):
    """The real store, remembering how many operations came in each batch."""

    sizes: list[int]

    async def run(self, operations: Sequence[Operation]) -> list[Answer | NexusError]:
        self.sizes.append(len(operations))
        return await super().run(operations)


@pytest.fixture
async def store(database: Database, clock: ManualClock) -> Watched:
    watched = Watched(database, clock, TimeOrderedIds(clock))
    watched.sizes = []
    await watched.assets.settle(database, USDC)
    return watched


@pytest.fixture
async def books(database: Database, clock: ManualClock) -> AsyncIterator[Books]:
    async with Books(database, clock) as opened:
        await opened.deposit("funding", WALLET, usdc("1000"))
        yield opened


def deposit(number: int) -> Move:
    return Move(f"d{number}", TransferKind.DEPOSIT, "external:x", WALLET, usdc("1"))


async def test_callers_that_wait_together_share_one_transaction(store: Watched, database: Database) -> None:
    flusher = Flusher(store)
    answers = await asyncio.gather(*(flusher.submit(deposit(number)) for number in range(40)))
    assert [answer.key for answer in answers] == [f"d{number}" for number in range(40)]
    assert store.sizes == [40]
    async with database.connection() as connection:
        assert await connection.fetchval("select count(distinct xmin::text) from ledger.transfer") == 1


async def test_a_batch_has_a_largest_size(store: Watched) -> None:
    flusher = Flusher(store)
    await asyncio.gather(*(flusher.submit(deposit(number)) for number in range(BATCH_MAX + 20)))
    assert store.sizes == [BATCH_MAX, 20]


async def test_callers_that_come_one_after_the_other_do_not_wait_for_company(store: Watched) -> None:
    flusher = Flusher(store)
    for number in range(3):
        await flusher.submit(deposit(number))
    assert store.sizes == [1, 1, 1]


async def test_a_caller_that_gave_up_before_the_flush_is_left_out(store: Watched) -> None:
    flusher = Flusher(store)
    calls = [asyncio.ensure_future(flusher.submit(deposit(number))) for number in range(3)]
    await asyncio.sleep(0)
    calls[1].cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Transfer, asyncio.CancelledError, Transfer]
    assert store.sizes == [2]


async def test_closing_answers_those_who_wait_and_refuses_the_rest(store: Watched) -> None:
    flusher = Flusher(store)
    waiting = asyncio.ensure_future(flusher.submit(deposit(1)))
    await asyncio.sleep(0)
    await flusher.close()
    assert isinstance(await waiting, Transfer)
    with pytest.raises(Unavailable) as caught:
        await flusher.submit(deposit(2))
    assert "same key" in caught.value.next_step
    await flusher.close()


async def test_what_the_database_refuses_fails_alone(books: Books, database: Database) -> None:
    spender = Spender(books, None)
    async with database.connection() as connection:
        await connection.execute("alter table ledger.reservation add check (task <> 'poison')")
    answers = await asyncio.gather(
        *(spender.reserve(f"k{n}", task="poison" if n == 3 else "t") for n in range(6)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [
        *[Reservation] * 3,
        asyncpg.CheckViolationError,
        *[Reservation] * 2,
    ]
    assert (await books.balance(WALLET)).reserved == usdc("5")
    assert (await books.check()).clean


async def test_a_database_that_stays_away_leaves_every_caller_with_a_way_on(
    database_url: str, clock: ManualClock
) -> None:
    gone = await Database.open(database_url, max_size=2)
    books = Books(gone, clock)
    await books.deposit("funding", WALLET, usdc("10"))
    await gone.close()
    answers = await asyncio.gather(
        books.deposit("a", WALLET, usdc("1")), books.deposit("b", WALLET, usdc("1")), return_exceptions=True
    )
    assert all(isinstance(answer, Unavailable) and answer.next_step for answer in answers)
    assert answers[0] is not answers[1]
    back = await Database.open(database_url, max_size=2)
    async with Books(back, clock) as again:
        await again.deposit("a", WALLET, usdc("1"))
        assert (await again.balance(WALLET)).posted == usdc("11")
    await back.close()


async def test_a_lost_answer_is_found_by_asking_again(books: Books, database: Database, clock: ManualClock) -> None:
    """The commit got through, its answer did not: the repeat, even from another process, finds it done."""
    first = await Spender(books, None).reserve("k", "2")
    async with Books(database, clock) as other:
        assert await Spender(other, None).reserve("k", "2") == first
        captured = await other.capture("k")
    assert await books.capture("k") == captured
    assert (await books.balance(WALLET)).posted == usdc("998")


async def test_a_stopping_loop_cancels_those_who_wait(store: Watched, database: Database) -> None:
    flusher = Flusher(store)
    async with database.transaction() as connection:
        await connection.execute("lock table ledger.account in access exclusive mode")
        waiting = asyncio.ensure_future(flusher.submit(deposit(1)))
        async with asyncio.timeout(10):
            while not await connection.fetchval("select exists (select 1 from pg_locks where not granted)"):
                await asyncio.sleep(0.01)
        [task] = [task for task in asyncio.all_tasks() if task.get_name() == "ledger-flusher"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await flusher.submit(deposit(2))
    async with database.connection() as connection:
        assert await connection.fetchval("select array_agg(key) from ledger.transfer") == ["d2"]
