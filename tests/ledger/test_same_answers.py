"""The ledger in memory and the one in PostgreSQL give the same answers to the same random history."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import NexusError
from agentnexus.core.money import Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.ledger.memory import MemoryBooks
from agentnexus.ledger.model import Reservation
from agentnexus.platform.database import Database
from tests.ledger.conftest import USDC, AnyBooks

ACCOUNTS = [f"wallet:{name}" for name in "abcd"]
BUDGETS = ["org", "left", "right", "leaf", "nowhere"]
Call: TypeAlias = Callable[[AnyBooks], Awaitable[object]]


def money(atomic: int) -> Money:
    return Money(USDC, atomic)


def some_call(dice: random.Random, keys: dict[str, tuple[str, str]]) -> Call:
    """One random operation, often on a key that was used before; `keys` with the accounts that each was used for."""
    key = dice.choice(list(keys)) if keys and dice.random() < 0.6 else f"k{len(keys)}"
    amount = money(dice.randint(1, 60))
    payer, payee = dice.sample(ACCOUNTS, 2)
    terms = {
        "budget_id": dice.choice([*BUDGETS, None]),
        "payer_account": payer,
        "payee_account": payee,
        "amount": amount,
        "seller": dice.choice("xy"),
        "capability": dice.choice("pq"),
        "task": dice.choice("tu"),
        "auto_void": dice.random() < 0.5,
    }
    roll = dice.random()
    if roll < 0.5:
        keys.setdefault(key, (payer, payee))
        return lambda books: books.reserve(key, **terms)  # type: ignore[arg-type]  # built above
    if roll < 0.7:
        part = dice.choice([None, money(dice.randint(1, 30))])
        return lambda books: books.capture(key, part)
    if roll < 0.85:
        return lambda books: books.void(key, "why")
    if roll < 0.9:
        return lambda books: books.transfer(key, payer, payee, amount)
    if roll < 0.96:
        debit, credit = sorted(keys.get(key, (payer, payee)), key=lambda _: dice.random())
        part, name = money(dice.randint(1, 9)), f"back-{dice.randint(0, 99)}"
        return lambda books: books.transfer(name, debit, credit, part, reservation=key)
    return lambda books: books.deposit(key, payer, amount)


async def answer(call: Call, books: AnyBooks) -> object:
    """What the caller sees, without the ids that each ledger makes for itself."""
    try:
        found = await call(books)
    except NexusError as error:
        return error.to_json()
    if isinstance(found, Reservation):
        return found
    return (found.kind, found.key, found.debit, found.credit, found.amount, found.at, found.reservation)  # type: ignore[attr-defined]  # a Transfer


@pytest.mark.parametrize("seed", range(8))
async def test_both_ledgers_answer_alike(database: Database, clock: ManualClock, seed: int) -> None:
    dice, keys = random.Random(seed), dict[str, tuple[str, str]]()
    memory = MemoryBooks(clock)
    async with Books(database, clock) as books:
        for ledger in (memory, books):
            await prepare(ledger)
        for _ in range(25):
            calls = [some_call(dice, keys) for _ in range(dice.choice([1, 3, 12]))]
            expected = [await answer(call, memory) for call in calls]
            assert await asyncio.gather(*(answer(call, books) for call in calls)) == expected
            clock.advance(dice.choice([1, 70, 1000, 40_000]))
        for account in (*ACCOUNTS, "external:eip155:31337"):
            assert await books.balances(account) == await memory.balances(account)
            assert await books.as_of(account, USDC, clock.now()) == await memory.as_of(account, USDC, clock.now())
        for budget in BUDGETS[:-1]:
            assert await books.budgets.status(budget) == await memory.budgets.status(budget)
        assert (await books.check()).clean
        assert (await memory.check()).clean


async def prepare(ledger: AnyBooks) -> None:
    for account in ACCOUNTS:
        await ledger.deposit(f"funding-{account}", account, money(200))
    create = ledger.budgets.create
    await create("org", owner="o", asset=USDC, limits=Limits(per_hour=money(150), per_day=money(260)))
    await create("left", parent="org", limits=Limits(per_task=money(90), total=money(400), keep_back=money(20)))
    await create("right", parent="org", limits=Limits(per_payment=money(40), per_seller=money(120)))
    await create("leaf", parent="left", limits=Limits(per_capability=money(70), keep_back=money(50)), sellers=["x"])
