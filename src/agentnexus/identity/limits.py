"""Token buckets in PostgreSQL: one rate per caller, exact however many processes answer.

What calls at the same instant is counted in one statement, so that the price of exactness does not grow with load.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from agentnexus.core.errors import RateLimited
from agentnexus.core.ports import Clock
from agentnexus.platform.batching import GroupCommit
from agentnexus.platform.database import Database

# Keys in one order, so that no two processes wait for each other in a circle; the server's clock counts for all of
# them. `granted` says how many of the calls asked for went through, `tokens` is what is left after them.
TAKE = """
insert into identity.bucket as b (key, tokens, granted, at)
select a.key, $3::float8 - least(a.calls, floor($3::float8)), least(a.calls, floor($3::float8)), n.at
from unnest($1::text[], $2::int[]) as a(key, calls),
    (select coalesce($5::timestamptz, statement_timestamp()) as at) as n
order by a.key
on conflict (key) do update set (tokens, granted, at) = (
    select f.free - least(excluded.granted, floor(f.free)), least(excluded.granted, floor(f.free)),
           greatest(b.at, excluded.at)
    from (select least($3::float8, b.tokens
        + $4::float8 * greatest(0, extract(epoch from excluded.at - b.at))) as free) as f
)
returning key, granted, tokens
"""
FORGET = "delete from identity.bucket where at < statement_timestamp() - make_interval(secs => $1)"


@dataclass(frozen=True, slots=True)
class _Answer:
    granted: bool
    tokens: float


class Limiter:
    """At most `per_minute` calls a minute and `burst` at once, per key, over all processes on one database."""

    def __init__(
        self, database: Database, *, per_minute: int, burst: int | None = None, clock: Clock | None = None
    ) -> None:
        self._database = database
        self._clock = clock  # a test's; otherwise the server's counts
        self._rate = per_minute / 60
        self._burst = float(burst or per_minute)
        self._calls: GroupCommit[str, _Answer] = GroupCommit(self._take)

    async def take(self, key: str) -> None:
        """Count one call; raises `RateLimited` (details: ``retry_after_seconds``), `Unavailable`."""
        answer = await self._calls.submit(key)
        if not answer.granted:
            wait = max(1, math.ceil((1 - answer.tokens) / self._rate))
            raise RateLimited("too many requests", next_step=f"wait {wait} s", retry_after_seconds=wait)

    async def forget(self) -> None:
        """Drop the buckets that have been full for long: they are as new."""
        async with self._database.connection() as connection:
            await connection.execute(FORGET, 2 * self._burst / self._rate)

    async def _take(self, keys: Sequence[str]) -> list[_Answer]:
        asked = Counter(keys)
        now = None if self._clock is None else self._clock.now()
        async with self._database.connection() as connection:
            rows = await connection.fetch(TAKE, [*asked], [*asked.values()], self._burst, self._rate, now)
        left = {row["key"]: row["granted"] for row in rows}
        tokens = {row["key"]: row["tokens"] for row in rows}
        answers = []
        for key in keys:
            answers.append(_Answer(left[key] > 0, tokens[key]))
            left[key] -= 1
        return answers
