"""`check` finds every kind of damage: each test breaks one thing behind the ledger's back, as a bad restore would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.ledger.books import Books
from agentnexus.ledger.check import RULES
from agentnexus.ledger.memory import MemoryBooks
from agentnexus.platform.database import Database
from tests.ledger.conftest import SELLER, WALLET, Spender, usdc


@pytest.fixture
async def books(database: Database, clock: ManualClock) -> AsyncIterator[Books]:
    async with Books(database, clock) as opened:
        spender = Spender(opened)
        await opened.deposit("funding", WALLET, usdc("100"))
        await spender.budget("org", total="50", per_hour="20", per_day="30")
        await spender.budget("budget", parent="org", per_task="10", per_payment="9", per_seller="15")
        await spender.reserve("captured", "4", task="t")
        await opened.capture("captured", usdc("3"))
        await spender.reserve("pending", "2", task="t")
        await spender.reserve("voided", "5", task="t")
        await opened.void("voided")
        await opened.transfer("back", SELLER, WALLET, usdc("1"), reservation="captured")
        await opened.transfer("again", WALLET, SELLER, usdc("0.5"), reservation="captured")
        assert (await opened.check()).clean
        yield opened


DAMAGE = [
    (
        "a checkpoint is the sum of the entries until then",
        "insert into ledger.checkpoint select account, asset, at, 1 from ledger.entry where account = $1 limit 1",
    ),
    (
        "entries of an asset sum to zero",
        "update ledger.entry set amount = amount + 1 where amount > 0 and account = $1",
    ),
    ("a transfer has its two legs", "delete from ledger.entry where account = $1"),
    ("an entry has its transfer and account", "delete from ledger.transfer where credit = $1"),
    ("a balance is the sum of its entries", "update ledger.account set balance = balance + 1 where name = $1"),
    (
        "reserved is the sum of pending reservations",
        "update ledger.account set reserved = reserved - 1 where name = $1",
    ),
    (
        "reserved is the sum of pending reservations",
        "delete from ledger.reservation where key = 'pending' and $1 <> ''",
    ),
    (
        "a posted reservation is one capture",
        "update ledger.reservation set captured = captured - 1 where captured > 0 and payer = $1",
    ),
    ("a posted reservation is one capture", "delete from ledger.reservation where key = 'captured' and payer = $1"),
    (
        "what came back is the transfers that say so",
        "update ledger.reservation set returned = returned - 1 where returned > 0 and payer = $1",
    ),
    (
        "what came back is the transfers that say so",
        "update ledger.transfer set reservation = 'voided' where reservation <> '' and credit = $1",
    ),
    (
        "what went again is the transfers that say so",
        "update ledger.budget set again = again + 1 where id = 'org' and $1 <> ''",
    ),
    ("a reservation's budget exists", "update ledger.reservation set budget_id = 'gone' where payer = $1"),
    (
        "a budget's sums are its reservations",
        "update ledger.budget set spent = spent + 1 where id = 'org' and $1 <> ''",
    ),
    (
        "a counter is its reservations",
        "update ledger.budget_use set spent = spent + 1 where scope = 'day' and $1 <> ''",
    ),
    ("a counter is its reservations", "delete from ledger.budget_use where scope = 'task' and $1 <> ''"),
    (
        "a counter is within its limit",
        """update ledger.budget set limits = limits || '{"per_task": "1"}'::jsonb where id = 'budget' and $1 <> ''""",
    ),
    (
        "no 60 minutes pass their limit",
        """update ledger.budget set limits = limits || '{"per_hour": "1"}'::jsonb where id = 'org' and $1 <> ''""",
    ),
    (
        "a single payment is within its limit",
        """update ledger.budget
                set limits = limits || '{"per_payment": "1"}'::jsonb where path[2] = 'org' and $1 <> ''""",
    ),
]


@pytest.mark.parametrize(("rule", "damage"), DAMAGE, ids=[f"{n}: {rule}" for n, (rule, _) in enumerate(DAMAGE)])
async def test_damage_is_found_and_named(books: Books, rule: str, damage: str) -> None:
    async with books.db.connection() as connection:
        await connection.execute("set session_replication_role = replica")  # silences the triggers, as a restore does
        await connection.execute(damage, WALLET)
    report = await books.check()
    assert rule in {finding.rule for finding in report.findings}, report.to_json()
    assert report.to_json()["clean"] is False


@pytest.mark.parametrize(
    ("rule", "damage"),
    [
        (
            "an account covers what it promised",
            "alter table ledger.account drop constraint account_covers;"
            " update ledger.account set balance = 1 where not overdraft",
        ),
        (
            "a budget is within its total",
            "alter table ledger.budget drop constraint budget_total; update ledger.budget set spendable = 1",
        ),
    ],
)
async def test_what_the_database_itself_forbids_is_checked_as_well(books: Books, rule: str, damage: str) -> None:
    async with books.db.connection() as connection:
        await connection.execute(damage)
    assert rule in {finding.rule for finding in (await books.check()).findings}


def test_every_rule_has_its_damage() -> None:
    covered = {rule for rule, _ in DAMAGE} | {"an account covers what it promised", "a budget is within its total"}
    assert covered == set(RULES)


@pytest.mark.parametrize("table", ["transfer", "entry"])
async def test_posted_history_cannot_be_changed(books: Books, table: str) -> None:
    async with books.db.connection() as connection:
        for change in (f"update ledger.{table} set amount = 1", f"delete from ledger.{table}"):
            with pytest.raises(asyncpg.RaiseError, match="immutable"):
                await connection.execute(change)


async def test_the_database_refuses_an_overdrawn_account_whatever_the_rules_say(books: Books) -> None:
    async with books.db.connection() as connection:
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("update ledger.account set balance = 1 where name = $1", WALLET)
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("update ledger.budget set spent = spendable + again + 1 where id = 'org'")
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("update ledger.reservation set returned = captured + 1 where key = 'captured'")


async def test_the_ledger_in_memory_is_checked_too(clock: ManualClock) -> None:
    books = MemoryBooks(clock)
    spender = Spender(books)
    await books.deposit("funding", WALLET, usdc("100"))
    await spender.budget(total="50", per_day="20")
    await spender.reserve("a", "2")
    await spender.reserve("b", "2")
    await books.capture("b")
    await books.transfer("back", SELLER, WALLET, usdc("1"), reservation="b")
    assert (await books.check()).clean
    books.book.reservations["b"] = replace(books.book.reservations["b"], returned=0)
    books.book.accounts[WALLET, usdc("1").asset.caip19].balance = 1
    books.book.budgets["budget"].reserved += 1
    next(iter(books.book.usage["budget", "day"].values())).spent += 1  # type: ignore[index]  # a StrEnum is its text
    assert {finding.rule for finding in (await books.check()).findings} == {
        "a balance is the sum of its entries",
        "an account covers what it promised",
        "a budget's sums are its reservations",
        "what came back is the transfers that say so",
        "a counter is its reservations",
    }
