"""`EscrowFunds` over budgets: what may still be spent counts as the balance, and hires reserve from it themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Protocol

from agentnexus.core.errors import InsufficientFunds
from agentnexus.core.money import Money


class Spendable(Protocol):
    """A budget's state: what is left by limit name."""

    @property
    def left(self) -> Mapping[str, Money]: ...


class EscrowShortfall(InsufficientFunds):
    """The balance does not cover a plan. Details: ``available``, ``required`` (decimal texts)."""

    def __init__(self, available: Money, required: Money) -> None:
        have, need = plain(available), plain(required)
        super().__init__(
            f"Insufficient escrow balance. Available: {have}, Required: {need}. Please top up.",
            next_step="top up, or drop a step or choose cheaper sellers before approving",
            available=have,
            required=need,
        )


def plain(amount: Money) -> str:
    """Decimal text with at least one place after the point: ``0.5``, ``2.0``."""
    text = f"{amount.decimal.normalize():f}"
    return text if "." in text else f"{text}.0"


class BudgetFunds:
    """Checks a plan against its owner's own budget. Nothing is set aside here: every hire reserves what it needs."""

    def __init__(self, budget_of: Callable[[str], Awaitable[Spendable]]) -> None:
        self._budget_of = budget_of

    async def available(self, user_id: str) -> Money | None:
        """The tightest limit of the budget; None when it has none."""
        left = (await self._budget_of(user_id)).left.values()
        return min(left, key=lambda amount: Decimal(amount.atomic), default=None)

    async def reserve(self, user_id: str, workflow_id: str, amount: Money) -> None:
        """Raises `EscrowShortfall`."""
        del workflow_id
        available = await self.available(user_id)
        if available is not None and available < amount:
            raise EscrowShortfall(available, amount)

    async def set_aside(self, workflow_id: str) -> Money | None:
        """The budget is limit enough."""

    async def capture(self, workflow_id: str, key: str, amount: Money, transaction: str = "") -> None:
        """The hire's own reservation was captured."""

    async def release(self, workflow_id: str) -> None:
        """Nothing was set aside."""
