"""What workflows need from the rooms below, as small protocols: `hiring.Hiring` and `ledger.Budgets` fit them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

from agentnexus.core.money import Asset, Money
from agentnexus.core.offers import Need, Offer
from agentnexus.core.payments import Limits, Receipt
from agentnexus.core.updates import Update
from agentnexus.hiring.model import Hired

OnUpdate = Callable[[Update], Awaitable[None] | None]
RootBudget = Callable[[str], Awaitable[str | None]]


class Uploads(Protocol):
    """Where users' files are kept, within their quota: `platform.uploads.Uploads`."""

    async def keep(self, user_id: str, data: bytes, media_type: str) -> str:
        """The blob; raises `RateLimited` or `LimitExceeded` with what to do."""

    async def use(self, user_id: str, references: Sequence[str]) -> None:
        """A task names these files."""

    async def require(self, user_id: str, references: Sequence[str]) -> None:
        """Raises `NotFound` for what the user has not uploaded."""

    async def of(self, user_id: str) -> list[dict[str, object]]: ...

    async def forget(self, user_id: str, reference: str) -> None:
        """Raises `NotFound`."""


class Ranked(Protocol):
    """An offer in its place in the ranking; how it got there is hiring's business."""

    @property
    def offer(self) -> Offer: ...


class Hirer(Protocol):
    """Finds offers and hires. Every hire is idempotent by its key."""

    async def offers(
        self, need: Need, *, refresh: bool = False, user_id: str = "", limit: int = 20
    ) -> Sequence[Ranked]: ...

    async def hire(
        self,
        need: Need,
        *,
        budget_id: str,
        key: str,
        user_id: str,
        prefer: Sequence[str] = (),
        fallback: int = 3,
        on_update: OnUpdate | None = None,
        deadline_seconds: float | None = None,
        task: str = "",
        only: str = "",
    ) -> Hired:
        """Again with the same key: a finished hire answers again, a cut-off one goes on with the same payment.

        `task` is what a budget's limit per task counts by: all hires of one workflow are one task. `only` is the
        endpoint of the one offer that may be hired; nobody else is asked.
        """

    async def cancel(self, key: str, reason: str = "") -> Sequence[Receipt]:
        """Make sure that nothing is held for this hire; returns the receipts of all its attempts."""

    async def receipts(self, key: str) -> Sequence[Receipt]:
        """Receipts of every attempt so far, oldest first; none for an unknown key."""


class Budgets(Protocol):
    """Makes the budget node of a workflow; the same call again gives the same node."""

    async def create(
        self,
        budget_id: str,
        *,
        parent: str | None = None,
        owner: str = "",
        asset: Asset | None = None,
        limits: Limits | None = None,
        expires_at: datetime | None = None,
    ) -> object: ...

    async def revoke(self, budget_id: str) -> object: ...


class EscrowFunds(Protocol):
    """A user's prepaid balance. Every call is idempotent: by workflow, and `capture` by its key as well."""

    async def available(self, user_id: str) -> Money | None:
        """What may be reserved now; None where nothing limits it."""

    async def reserve(self, user_id: str, workflow_id: str, amount: Money) -> None:
        """Set aside the most a workflow may cost. Raises `funds.EscrowShortfall`."""

    async def set_aside(self, workflow_id: str) -> Money | None:
        """What `reserve` took for it, and so the most it may spend; None where workflows have no money of their own."""

    async def capture(self, workflow_id: str, key: str, amount: Money, transaction: str = "") -> None:
        """A step was paid, by `transaction` where there is one: that much of the reserved is spent."""

    async def release(self, workflow_id: str) -> None:
        """The workflow has ended: what is left of the reserved is available again. Unknown ids change nothing."""
