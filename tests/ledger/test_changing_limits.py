"""Limits that change while others spend: counters never drift, and no change is obeyed late."""

from __future__ import annotations

import asyncio
import random

import pytest

from agentnexus.core.errors import BudgetExceeded, InvalidInput
from agentnexus.core.money import Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.ledger.model import Reservation, ReservationState
from agentnexus.platform.database import Database
from tests.ledger.conftest import SELLER, USDC, WALLET

SPENDERS, ROUNDS = 12, 8
NAMES = ("per_hour", "per_day", "per_task", "per_seller", "per_capability", "total")


def money(atomic: int) -> Money:
    return Money(USDC, atomic)


async def spend(books: Books, number: int) -> list[Reservation]:
    """A few payments under one leaf, each captured whole, in part, given back or left pending."""
    chance = random.Random(number)
    done: list[Reservation] = []
    for turn in range(ROUNDS):
        key = f"{number}:{turn}"
        try:
            await books.reserve(
                key,
                budget_id=f"leaf-{number % 3}",
                payer_account=WALLET,
                payee_account=SELLER,
                amount=money(chance.randint(1, 9)),
                seller=f"s{number % 2}",
                capability="c",
                task=f"t{turn % 2}",
            )
        except BudgetExceeded:
            continue
        match chance.randrange(4):
            case 0:
                done.append(await books.capture(key))
            case 1:
                done.append(await books.capture(key, money(1)))
            case 2:
                done.append(await books.void(key))
            case _:
                done.append(await books.reservation(key))
    return done


async def change(books: Books, stop: asyncio.Event) -> int:
    """Put limits on and take them off again, on the root and a leaf, until told to stop."""
    chance = random.Random(1)
    changes = 0
    while not stop.is_set():
        limits = {name: money(chance.choice((40, 200, 100_000))) for name in NAMES if chance.random() < 0.6}
        try:
            await books.budgets.change(chance.choice(("root", "leaf-1")), Limits(**limits))
        except InvalidInput:  # a total below what is used
            continue
        changes += 1
    return changes


async def test_counters_never_drift_while_limits_change_under_spenders_in_two_processes(database: Database) -> None:
    async with Books(database) as here, Books(database) as there:
        await here.deposit("top-up", WALLET, money(10_000))
        await here.budgets.create("root", owner="o", asset=USDC, limits=Limits(per_hour=money(300)))
        for number in range(3):
            limits = Limits(per_task=money(60), per_day=money(150))
            await here.budgets.create(f"leaf-{number}", parent="root", limits=limits)
        stop = asyncio.Event()
        changing = asyncio.create_task(change(there, stop))
        ended = await asyncio.gather(*(spend((here, there)[number % 2], number) for number in range(SPENDERS)))
        stop.set()
        assert await changing > 0
        report = await here.check()
        assert report.clean, report.findings
        status = await here.budgets.status("root")
    everything = [each for some in ended for each in some]
    assert {each.state for each in everything} == set(ReservationState)
    assert status.spent.atomic == sum(each.captured for each in everything)
    pending = sum(each.terms.amount.atomic for each in everything if each.state is ReservationState.PENDING)
    assert status.reserved.atomic == pending


@pytest.mark.parametrize("name", NAMES)
async def test_a_limit_put_on_later_counts_what_was_spent_before_and_by_children(database: Database, name: str) -> None:
    async with Books(database) as books, Books(database) as other:
        await books.deposit("top-up", WALLET, money(1_000))
        await books.budgets.create("root", owner="o", asset=USDC)
        await books.budgets.create("leaf", parent="root")

        async def pay(key: str, amount: int, by: Books) -> Reservation:
            return await by.reserve(
                key, budget_id="leaf", payer_account=WALLET, payee_account=SELLER, amount=money(amount),
                seller="s", capability="c", task="t",
            )  # fmt: skip

        await pay("captured", 10, books)
        await books.capture("captured", money(6))
        await pay("pending", 3, other)
        await pay("voided", 50, other)
        await other.void("voided")
        await books.budgets.change("root", Limits(**{name: money(12)}))
        with pytest.raises(BudgetExceeded) as caught:  # 6 + 3 are used
            await pay("too much", 4, other)
        assert (caught.value.details["limit"], caught.value.details["budget"]) == (name, "root")
        await pay("just right", 3, other)
        await books.budgets.change("root", Limits())
        await pay("free again", 400, books)
        assert (await books.check()).clean
