"""A person's own budget: careful defaults, changed without forgetting."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agentnexus.core.errors import BudgetExceeded, InvalidInput
from agentnexus.core.money import Asset
from agentnexus.ledger.books import Books
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.platform.database import Database

USDC = Asset("USDC", 6, "eip155:31337/erc20:0x5fbdb2315678afecb367f032d93f642f64180aa3")


@pytest.fixture
async def books(database: Database) -> AsyncIterator[Books]:
    async with Books(database) as opened:
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
        ({"total": "x"}, "amount"),
    ],
)
async def test_a_limit_that_makes_no_sense_changes_nothing(books: Books, changes: dict[str, str], field: str) -> None:
    budgets = PersonalBudgets(books, USDC)
    before = await budgets.current("ann")
    with pytest.raises(InvalidInput) as caught:
        await budgets.change("ann", changes)
    assert caught.value.details["field"] == field
    assert await budgets.current("ann") == before
