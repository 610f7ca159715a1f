"""What was spent on what: sums over captured reservations, and how a budget burns down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from agentnexus.core.money import Asset, Money
from agentnexus.ledger.model import TransferKind, to_utc
from agentnexus.platform.database import Database

GROUPS_MAX = 1000


class By(StrEnum):
    """What spending is grouped by. `OWNER` and `BUDGET` are those of the budget that was named when reserving."""

    CAPABILITY = "capability"
    SELLER = "seller"
    RAIL = "rail"
    TASK = "task"
    BUDGET = "budget"
    OWNER = "owner"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Scoped:
    """Which payments count: under a budget and all below, of an owner, of a task, captured ``since <= t < until``."""

    asset: Asset
    budget_id: str | None = None
    owner: str | None = None
    task: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def arguments(self) -> Sequence[str | datetime | None]:
        window = [None if moment is None else to_utc(moment) for moment in (self.since, self.until)]
        return [self.asset.caip19, self.budget_id, self.owner, self.task, *window]


@dataclass(frozen=True, slots=True)
class Spending:
    """Money spent under one label; `average` is rounded down to the smallest unit."""

    label: str
    spent: Money
    count: int

    @property
    def average(self) -> Money:
        return Money(self.spent.asset, self.spent.atomic // self.count if self.count else 0)

    def to_json(self) -> dict[str, object]:
        return {
            "label": self.label,
            "spent": self.spent.to_json(),
            "count": self.count,
            "average": self.average.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Point:
    """A budget at the end of one UTC day on which it spent: `left` of its total, None without one."""

    day: str
    spent: Money
    spent_so_far: Money
    left: Money | None


CAPTURED = """
    select r.captured, r.resolved_at, r.capability, r.seller, r.rail, r.task, b.id as budget, b.owner
    from ledger.reservation r left join ledger.budget b on b.id = r.budget_id
    where r.state = 'posted' and r.asset = $1
      and ($2::text is null or b.path @> array[$2]) and ($3::text is null or b.owner = $3)
      and ($4::text is null or r.task = $4)
      and ($5::timestamptz is null or r.resolved_at >= $5) and ($6::timestamptz is null or r.resolved_at < $6)
"""
SPENDING = f"""
select label, sum(captured) as spent, count(*) as count from (
    select captured, coalesce(case $7::text
        when 'capability' then capability when 'seller' then seller when 'rail' then rail when 'task' then task
        when 'budget' then budget when 'owner' then owner
        when 'day' then to_char(resolved_at at time zone 'UTC', 'YYYY-MM-DD') end, '') as label
    from ({CAPTURED}) captured) labelled
group by label order by spent desc, label limit {GROUPS_MAX}
"""  # noqa: S608 - constant SQL
MOVED = """
select coalesce(sum(amount), 0) from ledger.transfer
where asset = $1 and kind = $2 and ($3::text is null or debit = $3)
  and ($4::text is null or credit = $4)
  and ($5::timestamptz is null or at >= $5) and ($6::timestamptz is null or at < $6)
"""


class Metrics:
    """Reads only. All figures are of one asset: adding assets needs rates, and those are not the ledger's."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def spending(self, scope: Scoped, by: By) -> list[Spending]:
        """Spent, count and average per label, largest first."""
        return await self._grouped(scope, str(by))

    async def spent(self, scope: Scoped) -> Spending:
        """Everything in the scope as one figure, labelled ``total``."""
        groups = await self._grouped(scope, "nothing")
        return replace(groups[0], label="total") if groups else Spending("total", scope.asset.zero(), 0)

    async def earned(self, account: str, window: Scoped) -> Money:
        """Captured payments to an account minus the refunds it gave; `window` gives the asset and the time."""
        captured = await self._moved(window, TransferKind.CAPTURE, None, account)
        return captured - await self._moved(window, TransferKind.REFUND, account, None)

    async def fees(self, window: Scoped, account: str | None = None) -> Money:
        """Fee transfers paid by an account, or by all."""
        return await self._moved(window, TransferKind.FEE, account, None)

    async def burn_down(self, budget_id: str, scope: Scoped) -> list[Point]:
        """Day by day, oldest first, everything captured under the budget; `scope` gives the asset and the window."""
        under = replace(scope, budget_id=budget_id)
        days = sorted(await self.spending(under, By.DAY), key=lambda day: day.label)
        so_far = scope.asset.zero()
        if scope.since is not None:
            so_far = (await self.spent(replace(under, since=None, until=scope.since))).spent
        async with self._db.connection() as connection:
            spendable = await connection.fetchval("select spendable from ledger.budget where id = $1", budget_id)
        points = []
        for day in days:
            so_far += day.spent
            left = None if spendable is None else Money(scope.asset, int(spendable)) - so_far
            points.append(Point(day.label, day.spent, so_far, left))
        return points

    async def _grouped(self, scope: Scoped, by: str) -> list[Spending]:
        async with self._db.connection() as connection:
            rows = await connection.fetch(SPENDING, *scope.arguments(), by)
        return [Spending(row["label"], Money(scope.asset, int(row["spent"])), row["count"]) for row in rows]

    async def _moved(self, window: Scoped, kind: TransferKind, debit: str | None, credit: str | None) -> Money:
        asset, _, _, _, *times = window.arguments()
        async with self._db.connection() as connection:
            moved = await connection.fetchval(MOVED, asset, str(kind), debit, credit, *times)
        return Money(window.asset, int(moved))
