"""Rates of callers, counted in PostgreSQL: exact over any stretch of time and over all processes on one database.

What passed within the last minute is kept call by call. A token bucket would let its burst and its refill through in
one minute, twice the rate; a smaller bucket would refuse callers who keep to it. What calls at the same instant is
counted in one statement, so that the price of exactness does not grow with load.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from agentnexus.core.errors import RateLimited
from agentnexus.core.ports import Clock
from agentnexus.platform.batching import GroupCommit
from agentnexus.platform.database import Database

# Keys in one order, so that no two processes wait for each other in a circle. The server's clock counts for all of
# them, read while the row is locked: what passed first has the earlier time. `wait` is when the oldest call that is
# still counted no longer will be, and so the next can pass.
TAKE = """
insert into identity.rate as r (key, passed, calls, granted, at)
select a.key, array[n.at], array[least(a.calls, $3)], least(a.calls, $3), n.at
from unnest($1::text[], $2::int[]) as a(key, calls), (select coalesce($5::timestamptz, clock_timestamp()) as at) as n
order by a.key
on conflict (key) do update set (passed, calls, granted, at) = (
    select case when g.granted > 0 then k.passed || n.at else k.passed end,
           case when g.granted > 0 then k.calls || g.granted else k.calls end, g.granted, n.at
    from (select greatest(r.at, coalesce($5::timestamptz, clock_timestamp())) as at) as n,
        lateral (
            select coalesce(array_agg(p.at order by p.place), '{}') as passed,
                   coalesce(array_agg(p.calls order by p.place), '{}') as calls, coalesce(sum(p.calls), 0) as counted
            from unnest(r.passed, r.calls) with ordinality as p(at, calls, place) where p.at > n.at - $4::interval
        ) as k,
        lateral (select greatest(0, least(excluded.granted, $3 - k.counted))::int as granted) as g
)
returning key, granted, extract(epoch from passed[1] + $4::interval - at)::float8 as wait
"""
FORGET = "delete from identity.rate where at < clock_timestamp() - $1::interval"


@dataclass(frozen=True, slots=True)
class _Answer:
    granted: bool
    wait_seconds: float


class Limiter:
    """At most `per_minute` calls in any minute, per key, over all processes on one database.

    Args:
        burst: how many of them at once, and so in any ``60 * burst / per_minute`` seconds; by default all.
        clock: a test's; otherwise the server's counts.
    """

    def __init__(
        self, database: Database, *, per_minute: int, burst: int | None = None, clock: Clock | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._most = min(burst or per_minute, per_minute)
        self._span = timedelta(seconds=60 * self._most / per_minute)
        self._calls: GroupCommit[str, _Answer] = GroupCommit(self._take)

    async def take(self, key: str) -> None:
        """Count one call; raises `RateLimited` (details: ``retry_after_seconds``), `Unavailable`."""
        answer = await self._calls.submit(key)
        if not answer.granted:
            wait = max(1, math.ceil(answer.wait_seconds))
            raise RateLimited("too many requests", next_step=f"wait {wait} s", retry_after_seconds=wait)

    async def forget(self) -> None:
        """Drop the callers of whom nothing is counted any more."""
        async with self._database.connection() as connection:
            await connection.execute(FORGET, 2 * self._span)

    async def _take(self, keys: Sequence[str]) -> list[_Answer]:
        asked = Counter(keys)
        now = None if self._clock is None else self._clock.now()
        async with self._database.connection() as connection:
            rows = await connection.fetch(TAKE, [*asked], [*asked.values()], self._most, self._span, now)
        left = {row["key"]: row["granted"] for row in rows}
        waits = {row["key"]: row["wait"] for row in rows}
        answers = []
        for key in keys:
            answers.append(_Answer(left[key] > 0, waits[key]))
            left[key] -= 1
        return answers
