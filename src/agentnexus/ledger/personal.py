"""A person's own budget: made with careful limits at first use; what was spent goes on counting when they change."""

from __future__ import annotations

from collections.abc import Mapping

from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.ledger.budgets import BudgetStatus

CHANGEABLE = ("per_payment", "per_task", "per_hour", "per_day", "total")
DEFAULT_LIMITS = {"per_payment": "1", "per_task": "5", "per_hour": "20", "per_day": "50"}


class PersonalBudgets:
    """The root budget ``user:<id>`` of each person."""

    def __init__(self, books: Books, asset: Asset) -> None:
        self._books = books
        self._asset = asset

    async def current(self, user_id: str) -> BudgetStatus:
        """The person's budget, made when there is none."""
        identifier = f"user:{user_id}"
        try:
            return await self._books.budgets.status(identifier)
        except NotFound:
            limits = Limits(**{name: self._asset.parse(text) for name, text in DEFAULT_LIMITS.items()})
            return await self._books.budgets.create(identifier, owner=user_id, asset=self._asset, limits=limits)

    async def change(self, user_id: str, changes: Mapping[str, str | None]) -> BudgetStatus:
        """Set limits (decimal text) or lift them (None), from now on, for running work as well."""
        unknown = sorted(set(changes) - set(CHANGEABLE))
        if unknown:
            raise InvalidInput(
                f"{unknown[0]} is not a limit", field=unknown[0], next_step=f"use one of {', '.join(CHANGEABLE)}"
            )
        budget = await self.current(user_id)
        kept = {name: getattr(budget.limits, name) for name in Limits.model_fields}
        changed = {name: None if text is None else self._positive(name, text) for name, text in changes.items()}
        return await self._books.budgets.change(budget.id, Limits(**{**kept, **changed}))

    def _positive(self, name: str, text: str) -> Money:
        amount = self._asset.parse(text)
        if amount.atomic <= 0:
            raise InvalidInput(f"{name} must be more than zero", field=name, next_step="use `none` for no limit")
        return amount
