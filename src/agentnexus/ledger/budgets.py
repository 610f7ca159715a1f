"""Budgets as a tree: make nodes, read what is left, revoke, list. Reserving against them is the `Door`'s work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agentnexus.core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Limits
from agentnexus.core.ports import Clock
from agentnexus.ledger.limits import (
    NO_COUNTERS,
    Scope,
    Usage,
    day_label,
    first_minute_counted,
)
from agentnexus.ledger.model import (
    LIMIT_NAMES,
    PATH_MAX_NODES,
    BudgetState,
    Ceilings,
    ceilings,
    check_text,
    to_utc,
)


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget as people and pages see it.

    `left` has ``total`` (after `keep_back`), ``per_hour`` and ``per_day`` where they are set, for this node alone: a
    parent may have less. `open` is false once this node is revoked or expired.
    """

    id: str
    parent: str | None
    owner: str
    asset: Asset
    limits: Limits
    sellers: frozenset[str] | None
    capabilities: frozenset[str] | None
    spent: Money
    reserved: Money
    left: Mapping[str, Money]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    grant_id: str | None
    open: bool

    def to_json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "parent": self.parent,
            "owner": self.owner,
            "asset": self.asset.caip19,
            "limits": self.limits.model_dump(mode="json", exclude_none=True),
            "sellers": None if self.sellers is None else sorted(self.sellers),
            "capabilities": None if self.capabilities is None else sorted(self.capabilities),
            "spent": self.spent.to_json(),
            "reserved": self.reserved.to_json(),
            "left": {name: money.to_json() for name, money in self.left.items()},
            "created_at": self.created_at.isoformat(),
            "expires_at": None if self.expires_at is None else self.expires_at.isoformat(),
            "revoked_at": None if self.revoked_at is None else self.revoked_at.isoformat(),
            "grant_id": self.grant_id,
            "open": self.open,
        }


def status_of(node: BudgetState, usage: Usage, now: datetime) -> BudgetStatus:
    """The status of one node from its sums and counters at `now` (UTC)."""
    limits = {
        name: Money(node.asset, ceiling)
        for name in LIMIT_NAMES
        if (ceiling := getattr(node.ceilings, name)) is not None
    }
    left: dict[str, int] = {}
    if node.ceilings.spendable is not None:
        left["total"] = node.ceilings.spendable - node.reserved - node.spent
    if node.ceilings.per_hour is not None:
        first = first_minute_counted(now)
        minutes = usage.get((node.id, Scope.MINUTE), NO_COUNTERS)
        left["per_hour"] = node.ceilings.per_hour - sum(c.used for label, c in minutes.items() if label >= first)
    if node.ceilings.per_day is not None:
        day = usage.get((node.id, Scope.DAY), NO_COUNTERS).get(day_label(now))
        left["per_day"] = node.ceilings.per_day - (day.used if day else 0)
    return BudgetStatus(
        id=node.id,
        parent=node.parent,
        owner=node.owner,
        asset=node.asset,
        limits=Limits(**limits),
        sellers=node.ceilings.sellers,
        capabilities=node.ceilings.capabilities,
        spent=Money(node.asset, node.spent),
        reserved=Money(node.asset, node.reserved),
        left={name: Money(node.asset, max(rest, 0)) for name, rest in left.items()},
        created_at=node.created_at,
        expires_at=node.expires_at,
        revoked_at=node.revoked_at,
        grant_id=node.grant_id,
        open=node.revoked_at is None and (node.expires_at is None or now < node.expires_at),
    )


def same_budget(node: BudgetState, other: BudgetState) -> bool:
    """Whether two creations under one id mean the same budget."""
    return (node.path, node.owner, node.asset, node.ceilings, node.expires_at, node.grant_id) == (
        other.path,
        other.owner,
        other.asset,
        other.ceilings,
        other.expires_at,
        other.grant_id,
    )


class BudgetsDoor(ABC):
    """Budgets of one ledger."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def create(
        self,
        budget_id: str,
        *,
        parent: str | None = None,
        owner: str = "",
        asset: Asset | None = None,
        limits: Limits | None = None,
        expires_at: datetime | None = None,
        sellers: Collection[str] | None = None,
        capabilities: Collection[str] | None = None,
        grant_id: str | None = None,
    ) -> BudgetStatus:
        """Make a node. Without `owner` or `asset` it takes the parent's. The same call again gives the same budget.

        Args:
            sellers: keys of the only sellers it may pay; None for anyone, empty for nobody.
            capabilities: the only capabilities it may buy.
            grant_id: the signed approval it comes from; `grants.Grants` sets it.

        Raises `Conflict` for one id with other contents, `NotFound` (parent), `InvalidInput`.
        """
        above = None if parent is None else await self._node(parent)
        settled = await self._asset(above, asset)
        node = BudgetState(
            id=check_text(budget_id, "budget id", required=True),
            path=_path(budget_id, above),
            owner=check_text(owner or (above.owner if above else ""), "owner", required=True),
            asset=settled,
            ceilings=ceilings(
                limits or Limits(), settled, _names(sellers, "sellers"), _names(capabilities, "capabilities")
            ),
            created_at=to_utc(self._clock.now()),
            expires_at=None if expires_at is None else to_utc(expires_at),
            grant_id=grant_id,
        )
        stored = await self._insert(node)
        if not same_budget(stored, node):
            raise Conflict(
                f"budget {budget_id} exists with other contents",
                next_step="choose another id, or change its limits",
                budget=budget_id,
            )
        return await self.status(budget_id)

    async def change(self, budget_id: str, limits: Limits) -> BudgetStatus:
        """Give a budget other limits, from now on. What it spent and reserved goes on counting against them.

        Raises `NotFound`, `NotAllowed` for a signed approval, `InvalidInput` for a total below what is already used.
        """
        node = await self._node(budget_id)
        if node.grant_id is not None:
            raise NotAllowed(
                f"the limits of {budget_id} are signed", next_step="revoke it and sign a new approval", budget=budget_id
            )
        fresh = ceilings(limits, node.asset, node.ceilings.sellers, node.ceilings.capabilities)
        await self._set_ceilings(budget_id, fresh)
        return await self.status(budget_id)

    async def _asset(self, above: BudgetState | None, asset: Asset | None) -> Asset:
        if asset is None:
            if above is None:
                raise InvalidInput("a root budget needs an asset", field="asset", next_step="say which asset")
            return above.asset
        settled = await self._settled_asset(asset)
        if above is not None and settled.caip19 != above.asset.caip19:
            raise InvalidInput(
                f"budget in {settled.caip19} under one in {above.asset.caip19}",
                field="asset",
                next_step="a tree of budgets has one asset: use the parent's",
            )
        return settled

    @abstractmethod
    async def status(self, budget_id: str) -> BudgetStatus:
        """Raises `NotFound`."""

    @abstractmethod
    async def revoke(self, budget_id: str) -> BudgetStatus:
        """From now on nothing is reserved under it or below it; what is reserved may still be captured or voided."""

    @abstractmethod
    async def list(
        self,
        owner: str | None = None,
        parent: str | None = None,
        ids: Collection[str] | None = None,
        without: str | None = None,
    ) -> Sequence[BudgetStatus]:
        """Budgets of an owner and/or directly under a parent and/or with one of these ids, oldest first.

        `without` leaves out ids that begin so.
        """

    @abstractmethod
    async def _node(self, budget_id: str) -> BudgetState:
        """Raises `NotFound`."""

    @abstractmethod
    async def _insert(self, node: BudgetState) -> BudgetState:
        """Store a new node, or return the one already there."""

    @abstractmethod
    async def _set_ceilings(self, budget_id: str, fresh: Ceilings) -> None:
        """Replace the ceilings and count every counter anew; `check_total` first."""

    @abstractmethod
    async def _settled_asset(self, asset: Asset) -> Asset:
        """The ledger's form of the asset."""


def check_total(budget_id: str, fresh: Ceilings, used: int, before: int | None) -> None:
    """Raises `InvalidInput` when the new total is below the atomic units already reserved and spent.

    `before`: what was spendable. A budget that is over it already (money that had come back went again) may keep it.
    """
    if fresh.spendable is not None and fresh.spendable < used and (before is None or fresh.spendable < before):
        raise InvalidInput(
            f"budget {budget_id} has used more than that total",
            field="total",
            next_step="give a total of at least what is used, or revoke the budget",
        )


def no_budget(budget_id: str) -> NotFound:
    return NotFound(f"no budget {budget_id}", next_step="list the budgets of its owner", budget=budget_id)


def _path(budget_id: str, above: BudgetState | None) -> tuple[str, ...]:
    path = (budget_id,) if above is None else (budget_id, *above.path)
    if len(path) > PATH_MAX_NODES:
        raise InvalidInput(
            f"budgets nest at most {PATH_MAX_NODES} deep", field="parent", next_step="create it further up the tree"
        )
    return path


def _names(names: Collection[str] | None, field: str) -> frozenset[str] | None:
    return None if names is None else frozenset(check_text(name, field, required=True) for name in names)
