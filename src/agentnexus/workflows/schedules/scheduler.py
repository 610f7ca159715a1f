"""Makes due schedules run. Any number of processes may do this at once: each due time becomes one row and one workflow.

Two moves, each safe to repeat after a crash at any point: a due time is written down (its key makes it one), then its
workflow is created under a key made of schedule and due time (which makes that one).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import NexusError, Unavailable
from agentnexus.core.ports import Clock
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.logs import log
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.model import Workflow
from agentnexus.workflows.schedules.model import Missed, Rhythm, ScheduledTask, chosen
from agentnexus.workflows.schedules.service import TOPIC
from agentnexus.workflows.service import Workflows
from agentnexus.workflows.templates.service import Templates

LOOK_SECONDS = 5.0
AT_ONCE = 50
ATTEMPTS_MAX = 10
DUE = """
select * from workflow.schedule where not paused and next_at <= $1 order by next_at limit $2 for update skip locked
"""
NOTE = """
insert into workflow.firing (schedule_id, due_at, state, task, try_at)
select $1, unnest($2::timestamptz[]), $3, $4, $5 on conflict do nothing
"""
MOVE_ON = "update workflow.schedule set next_at = $2 where id = $1"
PICK = """
select f.*, s.user_id from workflow.firing f join workflow.schedule s on s.id = f.schedule_id
where f.state = 'due' and f.try_at <= $1 order by f.due_at limit 1 for update of f skip locked
"""
END = """
update workflow.firing set state = $3, workflow_id = $4, error = $5, attempts = attempts + 1, try_at = $6
where schedule_id = $1 and due_at = $2
"""
SOON = """
select least((select min(next_at) from workflow.schedule where not paused),
             (select min(try_at) from workflow.firing where state = 'due'))
"""


class Scheduler:
    """`run` until cancelled, or `tick` once."""

    def __init__(
        self,
        database: Database,
        wakeups: Wakeups,
        workflows: Workflows,
        templates: Templates,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._database = database
        self._wakeups = wakeups
        self._workflows = workflows
        self._templates = templates
        self._clock = clock or SystemClock()

    async def run(self) -> None:
        """Look whenever something is due, and every few seconds anyway."""
        while True:
            wait = LOOK_SECONDS
            try:
                await self.tick()
                wait = await self._seconds_until_due()
            except Unavailable as error:
                log.warning("scheduler.unavailable", error=error.message)
            await self._wakeups.wait(TOPIC, wait)

    async def tick(self) -> int:
        """Write down what is due now and begin it; returns how many workflows were begun."""
        while await self._note_due():
            pass
        begun = 0
        while (began := await self._begin_one()) is not None:
            begun += began
        return begun

    async def _seconds_until_due(self) -> float:
        async with self._database.connection() as connection:
            due: datetime | None = await connection.fetchval(SOON)
        if due is None:
            return LOOK_SECONDS
        return min(max((due - self._clock.now()).total_seconds(), 0.0), LOOK_SECONDS)

    async def _note_due(self) -> bool:
        """True when there may be more."""
        now = self._clock.now()
        async with self._database.transaction() as connection:
            rows = await connection.fetch(DUE, now, AT_ONCE)
            for row in rows:
                await self._note(connection, row, now)
        return len(rows) == AT_ONCE

    async def _note(self, connection: Connection, row: asyncpg.Record, now: datetime) -> None:
        rhythm = Rhythm(row["cron"], row["timezone"])
        to_run, to_skip = chosen(rhythm.until(row["next_at"], now), now, Missed(row["missed"]))
        for state, moments in (("due", to_run), ("skipped", to_skip)):
            if moments:
                await connection.execute(NOTE, row["id"], moments, state, row["task"], now)
        await connection.execute(MOVE_ON, row["id"], rhythm.next_after(now))

    async def _begin_one(self) -> bool | None:
        """Whether the next due one became a workflow; None when there is none.

        Its row stays locked meanwhile: if this process is killed, another takes it up at once.
        """
        now = self._clock.now()
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(PICK, now)
            if row is None:
                return None
            key = (row["schedule_id"], row["due_at"])
            try:
                workflow = await self._begin(row)
            except NexusError as error:
                again = error.retryable and row["attempts"] + 1 < ATTEMPTS_MAX
                later = now + timedelta(seconds=min(2.0 ** row["attempts"], 300.0))
                await connection.execute(END, *key, "due" if again else "failed", None, error.to_json(), later)
                log.warning("scheduler.not_begun", schedule=key[0], error=error.message, again=again)
                return False
            await connection.execute(END, *key, "started", workflow.id, None, now)
            return True

    async def _begin(self, row: asyncpg.Record) -> Workflow:
        task = ScheduledTask.model_validate(row["task"])
        key = f"schedule:{row['schedule_id']}:{row['due_at'].isoformat()}"
        if task.template_id:
            return await self._templates.run(
                task.template_id, row["user_id"], task.inputs, task.files, max_cost=task.max_cost,
                max_seconds=task.max_seconds, auto_approve=task.auto_approve, grant=task.grant, key=key,
            )  # fmt: skip
        return await self._workflows.create(
            row["user_id"], task.text, task.files, max_cost=task.max_cost, max_seconds=task.max_seconds,
            auto_approve=task.auto_approve, grant=task.grant, metadata={"schedule": row["schedule_id"]}, key=key,
        )  # fmt: skip
