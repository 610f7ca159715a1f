"""What was spent on what: sums over captured reservations, less what came back of them, and how a budget burns down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from agentnexus.core.money import Asset, Money, Parity
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
    seller: str | None = None
    capability: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self, assets: Sequence[str] = ()) -> tuple[str, list[object]]:
        """Conditions on a captured reservation ``r`` and its budget ``b``, with their arguments from ``$1`` on.

        `assets` are those that count, by CAIP-19 id; the scope's own when there are none.

        Only what is asked for becomes a condition, so that each question gets the plan and index that suit it.
        """
        conditions, arguments = (
            ["r.state = 'posted'", "r.asset = any($1)"],
            list[object]([assets or [self.asset.caip19]]),
        )
        for condition, value in (
            ("b.path @> array[{}::text]", self.budget_id),
            ("b.owner = {}", self.owner),
            ("r.task = {}", self.task),
            ("r.seller = {}", self.seller),
            ("r.capability = {}", self.capability),
            ("r.resolved_at >= {}", self.since and to_utc(self.since)),
            ("r.resolved_at < {}", self.until and to_utc(self.until)),
        ):
            if value is not None:
                arguments.append(value)
                conditions.append(condition.format(f"${len(arguments)}"))
        return " and ".join(conditions), arguments

    def window(self) -> tuple[datetime | None, datetime | None]:
        return self.since and to_utc(self.since), self.until and to_utc(self.until)


@dataclass(frozen=True, slots=True)
class Spending:
    """Money spent under one label, in `count` payments that did not come back; `average` is rounded down."""

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


LABELS = {
    By.CAPABILITY: "r.capability",
    By.SELLER: "r.seller",
    By.RAIL: "r.rail",
    By.TASK: "r.task",
    By.BUDGET: "b.id",
    By.OWNER: "b.owner",
    By.DAY: "to_char(r.resolved_at at time zone 'UTC', 'YYYY-MM-DD')",
}
CAPTURED = "from ledger.reservation r left join ledger.budget b on b.id = r.budget_id"
# A fee of a payment is booked under the payment's own key.
FEES = "join ledger.transfer f on f.key = r.key and f.kind = 'fee'"
MOVED = """
select coalesce(sum(amount), 0) from ledger.transfer
where asset = any($1) and kind = $2 and ($3::text is null or debit = $3)
  and ($4::text is null or credit = $4)
  and ($5::timestamptz is null or at >= $5) and ($6::timestamptz is null or at < $6)
"""


class Metrics:
    """Reads only. All figures are in one asset: adding others needs rates, and those are not the ledger's.

    Args:
        parity: assets that count one for one: a figure in one of them has the others in it.
    """

    def __init__(self, db: Database, parity: Parity | None = None) -> None:
        self._db = db
        self._parity = parity

    def _counted(self, asset: Asset) -> list[str]:
        """The assets that figures in `asset` add up."""
        if self._parity is None or not self._parity.equal(asset, self._parity.unit):
            return [asset.caip19]
        return [each.caip19 for each in self._parity.assets]

    async def spending(self, scope: Scoped, by: By) -> list[Spending]:
        """Spent, count and average per label, largest first."""
        return (await self.groups(scope, [by]))[by]

    async def groups(self, scope: Scoped, by: Sequence[By]) -> Mapping[By, list[Spending]]:
        """The same by several labels in one pass over the payments."""
        return (await self.summary(scope, by))[1]

    async def summary(self, scope: Scoped, by: Sequence[By]) -> tuple[Spending, Mapping[By, list[Spending]]]:
        """Everything as one figure, labelled ``total``, and by each label."""
        where, arguments = scope.where(self._counted(scope.asset))
        labels = ", ".join(f"{LABELS[each]} as {each}" for each in by)
        names = ", ".join(by)
        sql = f"""select {names}, grouping({names}) as missing, coalesce(sum(spent), 0) as spent,
                         count(*) filter (where spent > 0) as count
                  from (select r.captured - r.returned as spent, {labels} {CAPTURED} where {where}) captured
                  group by grouping sets ((), {", ".join(f"({each})" for each in by)}) order by spent desc, {names}"""  # noqa: S608 - constants only
        async with self._db.connection() as connection:
            rows = await connection.fetch(sql, *arguments)
        found: dict[By, list[Spending]] = {each: [] for each in by}
        whole = Spending("total", scope.asset.zero(), 0)
        everything = (1 << len(by)) - 1
        for row in rows:
            spent = Money(scope.asset, int(row["spent"]))
            if row["missing"] == everything:
                whole = Spending("total", spent, row["count"])
                continue
            each = by[len(by) - (everything ^ row["missing"]).bit_length()]
            if len(found[each]) < GROUPS_MAX:
                found[each].append(Spending(row[each] or "", spent, row["count"]))
        return whole, found

    async def spent(self, scope: Scoped) -> Spending:
        """Everything in the scope as one figure, labelled ``total``."""
        where, arguments = scope.where(self._counted(scope.asset))
        sql = f"""select coalesce(sum(r.captured - r.returned), 0) as spent,
                         count(*) filter (where r.captured > r.returned) as count
                  {CAPTURED} where {where}"""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(sql, *arguments)
        assert row is not None
        return Spending("total", Money(scope.asset, int(row["spent"])), row["count"])

    async def paid_fees(self, scope: Scoped) -> Money:
        """Fees of the payments in the scope."""
        where, arguments = scope.where(self._counted(scope.asset))
        sql = f"select coalesce(sum(f.amount), 0) {CAPTURED} {FEES} where {where}"
        async with self._db.connection() as connection:
            return Money(scope.asset, int(await connection.fetchval(sql, *arguments)))

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

    async def _moved(self, window: Scoped, kind: TransferKind, debit: str | None, credit: str | None) -> Money:
        async with self._db.connection() as connection:
            moved = await connection.fetchval(
                MOVED, self._counted(window.asset), str(kind), debit, credit, *window.window()
            )
        return Money(window.asset, int(moved))
