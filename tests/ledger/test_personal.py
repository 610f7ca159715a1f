"""A person's own budget: careful defaults, changed without forgetting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import BudgetExceeded, InvalidInput, NotFound
from agentnexus.core.money import Asset
from agentnexus.ledger.books import Books
from agentnexus.ledger.outlook import Outlook
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.platform.database import Database

USDC = Asset("USDC", 6, "eip155:31337/erc20:0x5fbdb2315678afecb367f032d93f642f64180aa3")


@pytest.fixture
async def books(database: Database, clock: ManualClock) -> AsyncIterator[Books]:
    async with Books(database, clock) as opened:
        yield opened


async def test_the_first_use_makes_a_budget_with_careful_limits(books: Books) -> None:
    budgets = PersonalBudgets(books, USDC)
    first = await budgets.current("ann")
    assert first.owner == "ann"
    assert first.limits.per_payment == USDC.parse("1")
    assert (await budgets.current("ann")).id == first.id
    assert (await budgets.current("bob")).id != first.id


async def test_changed_limits_hold_at_once_and_forget_nothing_that_was_spent(books: Books) -> None:
    budgets = PersonalBudgets(books, USDC)
    old = await budgets.current("ann")
    await books.deposit("d", "wallet:eip155:31337:0xaa", USDC.parse("5"))
    await _reserve(books, "before", "0.5")
    fresh = await budgets.change("ann", {"per_payment": "0.9", "total": "1", "per_hour": None})
    assert (fresh.limits.per_payment, fresh.limits.total) == (USDC.parse("0.9"), USDC.parse("1"))
    assert fresh.limits.per_hour is None
    assert fresh.limits.per_day == old.limits.per_day
    assert fresh.reserved == USDC.parse("0.5")
    with pytest.raises(BudgetExceeded):
        await _reserve(books, "after", "0.6")
    await _reserve(books, "rest", "0.5")


async def _reserve(books: Books, key: str, amount: str) -> None:
    await books.reserve(
        key,
        budget_id="user:ann",
        payer_account="wallet:eip155:31337:0xaa",
        payee_account="seller:s",
        amount=USDC.parse(amount),
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"per_year": "5"}, "per_year"),
        ({"total": "0"}, "total"),
        ({"total": "-1"}, "total"),
        ({"total": "x"}, "total"),
    ],
)
async def test_a_limit_that_makes_no_sense_changes_nothing(books: Books, changes: dict[str, str], field: str) -> None:
    budgets = PersonalBudgets(books, USDC)
    before = await budgets.current("ann")
    with pytest.raises(InvalidInput) as caught:
        await budgets.change("ann", changes)
    assert caught.value.details["field"] == field
    assert await budgets.current("ann") == before


async def test_parts_nest_and_count_in_what_they_are_cut_from(books: Books, clock: ManualClock) -> None:
    budgets = PersonalBudgets(books, USDC)
    project = await budgets.add("ann", "project", {"per_day": "3"}, capabilities=["pdf.extract"])
    agent = await budgets.add("ann", "agent", {"total": "2"}, parent=project.id)
    await books.budgets.create("workflow:wf_1", parent=agent.id)
    assert [each.id for each in await budgets.tree("ann")] == ["user:ann", "user:ann/project", "user:ann/agent"]
    assert (project.owner, agent.parent) == ("ann", "user:ann/project")
    await budgets.change("ann", {"total": "1"}, agent.id)
    assert (await budgets.part("ann", agent.id)).limits.total == USDC.parse("1")
    assert not (await budgets.close("ann", agent.id)).open


async def test_parts_are_their_owners(books: Books) -> None:
    budgets = PersonalBudgets(books, USDC)
    part = await budgets.add("ann", "project", {})
    await budgets.current("eve")
    for attempt in (
        budgets.part("eve", part.id),
        budgets.change("eve", {"total": "9"}, part.id),
        budgets.close("eve", part.id),
        budgets.add("eve", "mine", {}, parent=part.id),
        budgets.change("ann", {"total": "9"}, "user:nobody"),
    ):
        with pytest.raises(NotFound):
            await attempt
    with pytest.raises(InvalidInput, match="stays open"):
        await budgets.close("ann", "user:ann")
    for name in ("", "Big", "a/b", "x" * 64, "a\n"):
        with pytest.raises(InvalidInput):
            await budgets.add("ann", name, {})
    with pytest.raises(InvalidInput, match="not a limit"):
        await budgets.add("ann", "fine", {"per_moon": "1"})


async def test_the_outlook_says_when_hour_and_day_have_room_again(books: Books, clock: ManualClock) -> None:
    budgets, outlook = PersonalBudgets(books, USDC), Outlook(books.db, clock)
    await budgets.change("ann", {"per_payment": "10", "per_task": None})
    assert await outlook.frees(await budgets.current("ann")) == {}
    await books.deposit("d", "wallet:eip155:31337:0xaa", USDC.parse("20"))
    first = clock.now()
    await _reserve(books, "a", "3")
    clock.advance(600)
    await _reserve(books, "b", "4")
    frees = await outlook.frees(await budgets.current("ann"))
    assert frees["per_hour"].amount == USDC.parse("3")
    assert first + timedelta(minutes=60) < frees["per_hour"].at <= first + timedelta(minutes=61)
    assert frees["per_day"].amount == USDC.parse("7")
    assert frees["per_day"].at.isoformat() == "2026-11-21T00:00:00+00:00"
    clock.advance((frees["per_hour"].at - clock.now()).total_seconds())
    status = await budgets.current("ann")
    assert status.left["per_hour"] == USDC.parse("16")  # true at that very moment
