"""Reads the events of many workflows at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import asyncpg

from agentnexus.core.events import Event, EventName
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.journal import Journal
from agentnexus.workflows.engine.port import RunState
from agentnexus.workflows.engine.postgres.journal import run_topic

WATCH_SECONDS = 30.0
FINAL = [state.value for state in RunState if state.final]
# One snapshot for both: a run that is over here has all its events here.
NEWER = """
with w as (select * from unnest($1::text[], $2::bigint[]) as w(run_id, after))
select w.run_id, r.sequence as newest, r.state = any($4::text[]) as final,
       e.name, e.sequence, e.at, e.data
from w left join workflow.run r on r.id = w.run_id
left join lateral (
    select name, sequence, at, data from workflow.event
    where run_id = w.run_id and sequence > w.after order by sequence limit $3
) e on true
order by w.run_id, e.sequence
"""


@dataclass(frozen=True, slots=True)
class News:
    """Events of one run behind a place; `ended` when nothing comes after them, `more` when a page was not enough."""

    events: Sequence[Event]
    ended: bool
    more: bool


class EventSource(Protocol):
    """Where feeds come from."""

    async def newer(self, after: Mapping[str, int], limit: int) -> Mapping[str, News]:
        """For each run its events behind a sequence, at most `limit` of each. Raises `Unavailable`."""

    def watch(self, run_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when a run may have news, until the returned function is called."""


class PostgresEvents:
    """Of the journal's tables, woken by its wake-ups."""

    def __init__(self, database: Database, wakeups: Wakeups) -> None:
        self._database = database
        self._wakeups = wakeups

    async def newer(self, after: Mapping[str, int], limit: int) -> Mapping[str, News]:
        async with self._database.connection() as connection:
            rows = await connection.fetch(NEWER, [*after], [*after.values()], limit, FINAL)
        by_run: dict[str, list[asyncpg.Record]] = {}
        for row in rows:
            by_run.setdefault(row["run_id"], []).append(row)
        return {run_id: _news(run_id, found, after[run_id]) for run_id, found in by_run.items()}

    def watch(self, run_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self._wakeups.subscribe(run_topic(run_id), changed)


class JournalEvents:
    """Of any other journal, run by run: what it offers to readers is all it needs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def newer(self, after: Mapping[str, int], limit: int) -> Mapping[str, News]:
        found = await asyncio.gather(*(self._one(run_id, place, limit) for run_id, place in after.items()))
        return dict(zip(after, found, strict=True))

    async def _one(self, run_id: str, after: int, limit: int) -> News:
        record = await self._journal.get(run_id)  # before its events: what is over here has them all
        events = await self._journal.read_events(run_id, after, limit)
        reached = events[-1].sequence if events else after
        return News(events, record.state.final and reached >= record.sequence, reached < record.sequence)

    def watch(self, run_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        async def waiting() -> None:
            async with self._journal.watch(run_id) as watch:
                while True:
                    await watch.changed(WATCH_SECONDS)
                    changed()

        task = asyncio.create_task(waiting(), name=f"watch-{run_id}")
        return lambda: _cancel(task)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _news(run_id: str, rows: Sequence[asyncpg.Record], after: int) -> News:
    events = [
        Event(name=EventName(row["name"]), subject=run_id, sequence=row["sequence"], at=row["at"], data=row["data"])
        for row in rows
        if row["sequence"] is not None
    ]
    newest = rows[0]["newest"] or 0
    reached = events[-1].sequence if events else after
    return News(events, ended=bool(rows[0]["final"]) and reached >= newest, more=reached < newest)
