"""A person's own budget: made at the first use, replaced (never edited) when its limits change."""

from __future__ import annotations

from collections.abc import Mapping

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.ledger.budgets import BudgetStatus

CHANGEABLE = ("per_payment", "per_task", "per_hour", "per_day", "total")
DEFAULT_LIMITS = {"per_payment": "1", "per_task": "5", "per_hour": "20", "per_day": "50"}


class PersonalBudgets:
    """The newest open root budget of a person is theirs."""

    def __init__(self, books: Books, asset: Asset) -> None:
        self._books = books
        self._asset = asset

    async def current(self, user_id: str) -> BudgetStatus:
        """Made with careful defaults when there is none."""
        known = await self._own(user_id)
        opened = [budget for budget in known if budget.open]
        if opened:
            return opened[-1]
        return await self._create(user_id, len(known) + 1, self._limits(DEFAULT_LIMITS))

    async def change(self, user_id: str, changes: Mapping[str, str | None]) -> BudgetStatus:
        """A new budget with the changed limits takes over; payments still wanted under the old one are refused."""
        unknown = sorted(set(changes) - set(CHANGEABLE))
        if unknown:
            raise InvalidInput(
                f"{unknown[0]} is not a limit", field=unknown[0], next_step=f"use one of {', '.join(CHANGEABLE)}"
            )
        old = await self.current(user_id)
        kept = {name: getattr(old.limits, name) for name in Limits.model_fields}
        changed = {name: None if text is None else self._positive(name, text) for name, text in changes.items()}
        fresh = await self._create(user_id, len(await self._own(user_id)) + 1, Limits(**{**kept, **changed}))
        await self._books.budgets.revoke(old.id)
        return fresh

    async def _own(self, user_id: str) -> list[BudgetStatus]:
        roots = [budget for budget in await self._books.budgets.list(owner=user_id) if budget.parent is None]
        return sorted(roots, key=lambda budget: int(budget.id.rpartition(":")[2]))

    async def _create(self, user_id: str, number: int, limits: Limits) -> BudgetStatus:
        return await self._books.budgets.create(
            f"user:{user_id}:{number}", owner=user_id, asset=self._asset, limits=limits
        )

    def _limits(self, amounts: Mapping[str, str]) -> Limits:
        return Limits(**{name: self._asset.parse(text) for name, text in amounts.items()})

    def _positive(self, name: str, text: str) -> Money:
        amount = self._asset.parse(text)
        if amount.atomic <= 0:
            raise InvalidInput(f"{name} must be more than zero", field=name, next_step="use `none` for no limit")
        return amount
