"""`Schedules`: make, change, pause and list them. What makes them run is the `Scheduler`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agentnexus.core.clock import SystemClock, TimeOrderedIds
from agentnexus.core.errors import Conflict, InvalidInput, NotFound
from agentnexus.core.ports import Clock, Ids
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.audit import Trail
from agentnexus.workflows.schedules.model import Firing, Missed, Rhythm, Schedule, ScheduledTask
from agentnexus.workflows.templates.service import Templates, checked_name

TOPIC = "workflow-schedules"
PER_USER_MAX = 200
INSERT = """
insert into workflow.schedule (id, user_id, name, cron, timezone, missed, task, next_at, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
"""
GET = "select * from workflow.schedule where id = $1"
LIST = "select * from workflow.schedule where user_id = $1 order by created_at desc, id desc limit $2"
PAUSE = "update workflow.schedule set paused = true, updated_at = $2 where id = $1"
RESUME = "update workflow.schedule set paused = false, next_at = $3, updated_at = $2 where id = $1"
CHANGE = """
update workflow.schedule set name = $2, cron = $3, timezone = $4, missed = $5, next_at = $6, updated_at = $7
where id = $1
"""
DELETE = "delete from workflow.schedule where id = $1"
FIRINGS = """
select schedule_id, due_at, state, workflow_id, error, attempts from workflow.firing
where schedule_id = $1 order by due_at desc limit $2
"""


@dataclass(frozen=True, slots=True)
class ScheduleTerms:
    """When: a name for people, a cron expression in a time zone, and what to do about missed times."""

    name: str
    cron: str
    timezone: str = "UTC"
    missed: Missed = Missed.ONCE


class Schedules:
    """Schedules of users. Somebody else's is `NotFound`; an operator passes None."""

    def __init__(
        self,
        database: Database,
        wakeups: Wakeups,
        templates: Templates,
        trail: Trail,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        self._database = database
        self._wakeups = wakeups
        self._templates = templates
        self._trail = trail
        self._clock = clock or SystemClock()
        self._ids = ids or TimeOrderedIds()

    async def create(self, user_id: str, terms: ScheduleTerms, task: ScheduledTask) -> Schedule:
        """Raises `InvalidInput` for a rhythm or task that cannot be, `NotFound` for a template that is not there."""
        next_at = self._next(terms)
        if bool(task.template_id) == bool(task.text.strip()):
            raise InvalidInput(
                "a schedule runs either a task in words or a template", field="input", next_step="give one of the two"
            )
        if task.template_id:
            await self._templates.get(task.template_id, user_id)
        if len(await self.list(user_id, PER_USER_MAX)) >= PER_USER_MAX:
            raise Conflict(f"there are {PER_USER_MAX} schedules already", next_step="delete some you do not use")
        schedule_id = self._ids.new("sch")
        await self._trail.note(user_id, user_id, "schedule.create", schedule_id, cron=terms.cron, zone=terms.timezone)
        async with self._database.connection() as connection:
            await connection.execute(
                INSERT, schedule_id, user_id, checked_name(terms.name), terms.cron, terms.timezone, terms.missed.value,
                task.model_dump(mode="json"), next_at, self._clock.now(),
            )  # fmt: skip
        self._wakeups.notify(TOPIC)
        return await self.get(schedule_id, user_id)

    def _next(self, terms: ScheduleTerms) -> datetime:
        next_at = Rhythm(terms.cron, terms.timezone).next_after(self._clock.now())
        if next_at is None:
            raise InvalidInput(f"{terms.cron!r} is never due", field="cron", next_step="choose a date that exists")
        return next_at

    async def get(self, schedule_id: str, user_id: str | None) -> Schedule:
        """Raises `NotFound`."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(GET, schedule_id)
        if row is None or user_id not in (None, row["user_id"]):
            raise NotFound(f"there is no schedule {schedule_id}", next_step="list your schedules")
        return Schedule.model_validate(dict(row))

    async def list(self, user_id: str, limit: int = 100) -> Sequence[Schedule]:
        """A user's schedules, newest first."""
        async with self._database.connection() as connection:
            return [Schedule.model_validate(dict(row)) for row in await connection.fetch(LIST, user_id, limit)]

    async def firings(self, schedule_id: str, user_id: str | None, limit: int = 50) -> Sequence[Firing]:
        """Its due times so far, newest first. Raises `NotFound`."""
        await self.get(schedule_id, user_id)
        async with self._database.connection() as connection:
            return [Firing.model_validate(dict(row)) for row in await connection.fetch(FIRINGS, schedule_id, limit)]

    async def change(self, schedule_id: str, user_id: str | None, terms: ScheduleTerms) -> Schedule:
        """Another rhythm from now on. Raises `NotFound`, `InvalidInput`."""
        next_at = self._next(terms)
        values = (checked_name(terms.name), terms.cron, terms.timezone, terms.missed.value, next_at, self._clock.now())
        return await self._do("schedule.change", schedule_id, user_id, CHANGE, *values)

    async def pause(self, schedule_id: str, user_id: str | None) -> Schedule:
        """Not due until resumed. Raises `NotFound`."""
        return await self._do("schedule.pause", schedule_id, user_id, PAUSE, self._clock.now())

    async def resume(self, schedule_id: str, user_id: str | None) -> Schedule:
        """Due again from now on: what fell into the pause was not missed. Raises `NotFound`."""
        found = await self.get(schedule_id, user_id)
        now = self._clock.now()
        next_at = Rhythm(found.cron, found.timezone).next_after(now)
        return await self._do("schedule.resume", schedule_id, user_id, RESUME, now, next_at)

    async def delete(self, schedule_id: str, user_id: str | None) -> None:
        """With its list of due times; the workflows stay. Raises `NotFound`."""
        found = await self.get(schedule_id, user_id)
        await self._trail.note(user_id or "operator", found.user_id, "schedule.delete", schedule_id)
        async with self._database.connection() as connection:
            await connection.execute(DELETE, schedule_id)

    async def _do(
        self, action: str, schedule_id: str, user_id: str | None, statement: str, *values: object
    ) -> Schedule:
        found = await self.get(schedule_id, user_id)
        await self._trail.note(user_id or "operator", found.user_id, action, schedule_id)
        async with self._database.connection() as connection:
            await connection.execute(statement, schedule_id, *values)
        self._wakeups.notify(TOPIC)
        return await self.get(schedule_id, user_id)
