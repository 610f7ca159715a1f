"""A person's own budgets: one made with careful limits at first use, and parts of it cut off for agents or projects.

What was spent goes on counting when limits change.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.ledger.budgets import BudgetStatus, no_budget
from agentnexus.ledger.limits import PERSONAL_LIMITS

CHANGEABLE = PERSONAL_LIMITS
ALL_LIMITS = (*CHANGEABLE, "per_seller", "per_capability", "keep_back")
DEFAULT_LIMITS = {"per_payment": "1", "per_task": "5", "per_hour": "20", "per_day": "50"}
WORKFLOW = "workflow:"  # budgets of tasks: made and closed by the engine, not by people
PART_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class PersonalBudgets:
    """The root budget ``user:<id>`` of each person, and its parts ``user:<id>/<name>``."""

    def __init__(self, books: Books, asset: Asset) -> None:
        self.asset = asset
        self._books = books

    async def current(self, user_id: str) -> BudgetStatus:
        """The person's budget, made when there is none."""
        identifier = f"user:{user_id}"
        try:
            return await self._books.budgets.status(identifier)
        except NotFound:
            limits = Limits(**{name: self.asset.parse(text) for name, text in DEFAULT_LIMITS.items()})
            return await self._books.budgets.create(identifier, owner=user_id, asset=self.asset, limits=limits)

    async def tree(self, user_id: str) -> Sequence[BudgetStatus]:
        """The person's budget and everything cut from it except tasks, parents before children, oldest first."""
        root = await self.current(user_id)
        others = await self._books.budgets.list(owner=user_id, without=WORKFLOW)
        return [root, *_below(root.id, [each for each in others if each.id != root.id])]

    async def part(self, user_id: str, budget_id: str) -> BudgetStatus:
        """One of the person's budgets; raises `NotFound` for anybody else's."""
        status = await self._books.budgets.status(budget_id)
        if status.owner != user_id:
            raise no_budget(budget_id)
        return status

    async def add(
        self,
        user_id: str,
        name: str,
        limits: Mapping[str, str],
        *,
        parent: str = "",
        sellers: Collection[str] | None = None,
        capabilities: Collection[str] | None = None,
        expires_at: datetime | None = None,
    ) -> BudgetStatus:
        """Cut a part off for an agent or a project. Raises `InvalidInput`, `NotFound` (parent), `Conflict` (name)."""
        if not PART_NAME.fullmatch(name):
            raise InvalidInput(
                "a name has small letters, digits, dots and dashes",
                field="name",
                next_step="call it e.g. research-agent",
            )
        above = await self.part(user_id, parent) if parent else await self.current(user_id)
        amounts = {limit: self._positive(limit, text) for limit, text in limits.items()}
        return await self._books.budgets.create(
            f"user:{user_id}/{name}",
            parent=above.id,
            limits=Limits(**{limit: amounts[limit] for limit in _known(amounts)}),
            sellers=sellers,
            capabilities=capabilities,
            expires_at=expires_at,
        )

    async def change(self, user_id: str, changes: Mapping[str, str | None], budget_id: str = "") -> BudgetStatus:
        """Set limits (decimal text) or lift them (None), from now on, for running work as well.

        Raises `InvalidInput`, `NotFound`, `NotAllowed` for what a wallet signed.
        """
        budget = await self.part(user_id, budget_id) if budget_id else await self.current(user_id)
        kept = {name: getattr(budget.limits, name) for name in Limits.model_fields}
        changed = {
            name: None if (text := changes[name]) is None else self._positive(name, text) for name in _known(changes)
        }
        return await self._books.budgets.change(budget.id, Limits(**{**kept, **changed}))

    async def close(self, user_id: str, budget_id: str) -> BudgetStatus:
        """Nothing more is spent from a part; the person's own budget stays. Raises `NotFound`, `InvalidInput`."""
        status = await self.part(user_id, budget_id)
        if status.parent is None:
            raise InvalidInput("your own budget stays open", field="budget", next_step="lower its limits instead")
        return await self._books.budgets.revoke(budget_id)

    def _positive(self, name: str, text: str) -> Money:
        try:
            amount = self.asset.parse(text)
        except InvalidInput as error:
            raise InvalidInput(error.message, field=name, next_step="write an amount such as 2.50") from error
        if amount.atomic <= 0:
            raise InvalidInput(f"{name} must be more than zero", field=name, next_step="use `none` for no limit")
        return amount


def _known(names: Collection[str]) -> Collection[str]:
    unknown = sorted(set(names) - set(ALL_LIMITS))
    if unknown:
        raise InvalidInput(
            f"{unknown[0]} is not a limit", field=unknown[0], next_step=f"use one of {', '.join(ALL_LIMITS)}"
        )
    return names


def _below(parent: str, budgets: Sequence[BudgetStatus]) -> list[BudgetStatus]:
    return [found for each in budgets if each.parent == parent for found in (each, *_below(each.id, budgets))]
