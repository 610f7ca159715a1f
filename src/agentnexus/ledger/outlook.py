"""When a budget's limits of time have room again: what of the hour and the day comes back, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from agentnexus.core.money import Money
from agentnexus.core.ports import Clock
from agentnexus.ledger.budgets import BudgetStatus
from agentnexus.ledger.limits import HOUR, MINUTE, first_minute_counted
from agentnexus.ledger.model import to_utc
from agentnexus.platform.database import Database


@dataclass(frozen=True, slots=True)
class Frees:
    """At `at`, `amount` more may be spent than now."""

    at: datetime
    amount: Money


class Outlook:
    """Reads counters."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def frees(self, status: BudgetStatus) -> dict[str, Frees]:
        """By ``per_hour`` and ``per_day``, where the limit is set and something of it is used."""
        now = to_utc(self._clock.now())
        found: dict[str, Frees] = {}
        if status.limits.per_hour is not None:
            async with self._db.connection() as connection:
                row = await connection.fetchrow(
                    "select label, reserved + spent as used from ledger.budget_use"
                    " where budget_id = $1 and scope = 'minute' and label >= $2 and reserved + spent > 0"
                    " order by label limit 1",
                    *(status.id, first_minute_counted(now)),
                )
            if row is not None:
                leaves = datetime.fromisoformat(row["label"]).replace(tzinfo=UTC) + HOUR + MINUTE
                found["per_hour"] = Frees(leaves, Money(status.asset, int(row["used"])))
        day = status.limits.per_day
        if day is not None and status.left["per_day"] < day:
            midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
            found["per_day"] = Frees(midnight, day - status.left["per_day"])
        return found
