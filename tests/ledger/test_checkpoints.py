"""Checkpoints: old balances read little, and are what adding up every entry gives, whatever clocks and rivals do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.money import Money
from agentnexus.ledger.books import Books
from agentnexus.ledger.checkpoints import Checkpoints
from agentnexus.platform.database import Database
from tests.ledger.conftest import SELLER, USDC, WALLET, usdc

EVERY = 7
START = datetime(2026, 1, 1, tzinfo=UTC)


def often(books: Books) -> Books:
    """Books that make a checkpoint after a few entries, so that small histories have many."""
    books._store.checkpoints = Checkpoints(books.db, every=EVERY)
    return books


@pytest.fixture
async def books(database: Database) -> AsyncIterator[Books]:
    async with Books(database, ManualClock(START)) as opened:
        yield often(opened)


async def made(database: Database) -> int:
    async with database.connection() as connection:
        found: int = await connection.fetchval("select count(*) from ledger.checkpoint")
    return found


async def added_up(books: Books, until: datetime, inclusive: bool = True) -> Money:
    """The balance of the wallet from all its entries, without checkpoints."""
    compare = "<=" if inclusive else "<"
    async with books.db.connection() as connection:
        atomic = await connection.fetchval(
            f"select coalesce(sum(amount), 0) from ledger.entry where account = $1 and at {compare} $2",
            WALLET,
            until,
        )
    return Money(USDC, int(atomic))


@pytest.mark.parametrize("seed", range(6))
async def test_every_balance_and_statement_is_what_all_entries_add_up_to(database: Database, seed: int) -> None:
    dice = random.Random(seed)
    clock = ManualClock(START)
    async with Books(database, clock) as books:
        often(books)
        for number in range(90):
            clock.advance(dice.choice([0, 0, 1, 5, 60]))
            move = books.withdraw if number and dice.random() < 0.4 else books.deposit
            await move(f"k{number}", WALLET, Money(USDC, dice.randint(1, 100) + (number == 0) * 10_000))
        assert await made(database) > 5
        for _ in range(40):
            since = START + timedelta(seconds=dice.randint(-5, 1500))
            until = since + timedelta(seconds=dice.randint(0, 600))
            assert await books.as_of(WALLET, USDC, since) == await added_up(books, since)
            opening = await added_up(books, since, inclusive=False)
            lines = await books.statement(WALLET, USDC, since, until)
            assert all(since <= line.at < until for line in lines)
            for line in lines:
                opening += line.amount
                assert line.balance == opening
            assert lines[:3] == await books.statement(WALLET, USDC, since, until, limit=3)
        whole = await books.statement(WALLET, USDC)
        assert len(whole) == 90
        assert whole[-1].balance == (await books.balance(WALLET, USDC)).posted
        assert (await books.check()).clean


async def test_an_entry_from_a_slower_clock_is_in_the_checkpoints_after_it(database: Database, books: Books) -> None:
    await books.deposit("first", WALLET, usdc("1000"))
    books._clock.advance(60)  # type: ignore[attr-defined]  # the manual one
    await asyncio.gather(*(books.deposit(f"a{n}", WALLET, usdc("1")) for n in range(3 * EVERY)))
    await books.deposit("a0", WALLET, usdc("1"))  # changes nothing; its turn is after their checkpoints
    assert await made(database) == 2  # of the wallet and of where its money came from, all at one moment
    async with Books(database, ManualClock(START + timedelta(seconds=30))) as slow:
        await slow.withdraw("late", WALLET, usdc("500"))
    for seconds, expected in ((0, "1000"), (29, "1000"), (30, "500"), (60, "521"), (600, "521")):
        assert await books.as_of(WALLET, USDC, START + timedelta(seconds=seconds)) == usdc(expected)
    assert (await books.check()).clean


async def test_rival_processes_with_other_clocks_leave_exact_checkpoints(database: Database) -> None:
    async def rival(number: int) -> None:
        clock = ManualClock(START + timedelta(seconds=number))
        dice = random.Random(number)
        async with Books(database, clock) as books:
            often(books)
            for turn in range(25):
                clock.advance(dice.random())
                key = f"{number}:{turn}"
                await books.reserve(key, budget_id=None, payer_account=WALLET, payee_account=SELLER, amount=usdc("1"))
                await books.capture(key)

    async with Books(database, ManualClock(START)) as books:
        await books.deposit("funding", WALLET, usdc("1000"))
        await asyncio.gather(*(rival(number) for number in range(5)))
        assert await made(database) > 10
        report = await books.check()
        assert report.clean, report.to_json()
        assert await books.as_of(WALLET, USDC, START + timedelta(days=1)) == usdc("875")


async def test_an_account_that_lacks_many_checkpoints_gets_them_all(database: Database) -> None:
    async with Books(database, ManualClock(START)) as books:
        for number in range(4 * EVERY):
            books._clock.advance(1)  # type: ignore[attr-defined]  # the manual one
            await books.deposit(f"d{number}", WALLET, usdc("1"))
        assert await made(database) == 0
        await Checkpoints(database, every=EVERY).make((WALLET, USDC.caip19))
        assert await made(database) == 4
        await Checkpoints(database, every=EVERY).make((WALLET, USDC.caip19))
        assert await made(database) == 4
        assert (await books.check()).clean


async def test_a_checkpoint_that_cannot_be_made_costs_nobody_an_answer(database: Database, books: Books) -> None:
    async with database.connection() as connection:
        await connection.execute("alter table ledger.checkpoint add constraint full_disk check (balance = 0)")
    for number in range(2 * EVERY):
        await books.deposit(f"d{number}", WALLET, usdc("1"))
    assert (await books.balance(WALLET, USDC)).posted == usdc("14")
    assert await made(database) == 0
