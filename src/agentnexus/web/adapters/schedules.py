"""`SchedulesDoor` over the schedules of the workflow room."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.core.money import Asset
from agentnexus.web.forms import Upload
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.rhythms import read_rhythm
from agentnexus.web.views.runs import Problem, State
from agentnexus.web.views.schedules import FiringView, ScheduleTyped, ScheduleView
from agentnexus.web.views.text import money
from agentnexus.workflows.schedules.model import Firing, Missed, Schedule, ScheduledTask
from agentnexus.workflows.schedules.service import Schedules, ScheduleTerms
from agentnexus.workflows.service import Workflows
from agentnexus.workflows.templates.service import Templates

FIRINGS: Final = 20
STATES: Final = {
    "due": State("due", "Beginning", "busy"),
    "started": State("started", "Begun", "done"),
    "skipped": State("skipped", "Left out", ""),
    "failed": State("failed", "Could not begin", "fail"),
}
ON, OFF, OVER = State("on", "On", "done"), State("paused", "Paused", "wait"), State("over", "Over", "")


class HouseSchedules:
    """A schedule begins the task that its form says: in words with files, or a saved plan as it was kept."""

    def __init__(self, schedules: Schedules, templates: Templates, workflows: Workflows, asset: Asset) -> None:
        self._schedules = schedules
        self._templates = templates
        self._workflows = workflows
        self._asset = asset

    async def all(self, user_id: str) -> Sequence[ScheduleView]:
        """Newest first, each with its last due time."""
        names = {each.id: each.name for each in await self._templates.list(user_id)}
        found = []
        for schedule in await self._schedules.list(user_id):
            firings = await self._schedules.firings(schedule.id, user_id, 1)
            found.append(_view(schedule, names, await self._outcome(user_id, firings[0]) if firings else None))
        return found

    async def one(self, user_id: str, schedule_id: str) -> tuple[ScheduleView, Sequence[FiringView]]:
        """With its last due times and the tasks they became. Raises `NotFound`."""
        schedule = await self._schedules.get(schedule_id, user_id)
        names = {each.id: each.name for each in await self._templates.list(user_id)}
        firings = await self._schedules.firings(schedule_id, user_id, FIRINGS)
        return _view(schedule, names), [await self._outcome(user_id, each) for each in firings]

    async def _outcome(self, user_id: str, firing: Firing) -> FiringView:
        shown = _firing(firing)
        if firing.workflow_id is None:
            return shown
        try:
            workflow = await self._workflows.get(firing.workflow_id, user_id)
        except NotFound:
            return shown
        spent = money(workflow.cost) if workflow.cost else ""
        problem = problem_of(workflow.error)
        return FiringView(firing.due_at, State.of(workflow.status.value), workflow.id, spent, problem)

    async def create(self, user_id: str, typed: ScheduleTyped, files: Sequence[Upload]) -> str:
        """Raises `InvalidInput`, `NotFound` for a saved plan that is gone, `Conflict` for too many."""
        terms, limit = _terms(typed), self._asset.parse(typed.max_cost)
        if limit.atomic <= 0:
            raise InvalidInput(
                "the limit must be more than zero", field="max_cost", next_step="enter an amount such as 0.50"
            )
        kept = [
            await self._workflows.add_file(each.filename, each.data, each.media_type, user_id=user_id) for each in files
        ]
        task = ScheduledTask(
            text="" if typed.saved_id else typed.text, template_id=typed.saved_id, files=tuple(kept), max_cost=limit,
            auto_approve=typed.auto_approve,
        )  # fmt: skip
        return (await self._schedules.create(user_id, terms, task)).id

    async def change(self, user_id: str, schedule_id: str, typed: ScheduleTyped) -> None:
        """Its name and rhythm. Raises `NotFound`, `InvalidInput`."""
        await self._schedules.change(schedule_id, user_id, _terms(typed))

    async def pause(self, user_id: str, schedule_id: str, *, paused: bool) -> None:
        """Raises `NotFound`."""
        switch = self._schedules.pause if paused else self._schedules.resume
        await switch(schedule_id, user_id)

    async def delete(self, user_id: str, schedule_id: str) -> None:
        """Raises `NotFound`."""
        await self._schedules.delete(schedule_id, user_id)


def _terms(typed: ScheduleTyped) -> ScheduleTerms:
    missed = Missed(typed.missed) if typed.missed in set(Missed) else Missed.ONCE
    return ScheduleTerms(typed.name, typed.rhythm.expression, typed.timezone, missed)


def _view(schedule: Schedule, names: dict[str, str], last: FiringView | None = None) -> ScheduleView:
    task = schedule.task
    saved = names.get(task.template_id, "a saved plan that is gone") if task.template_id else ""
    state = OFF if schedule.paused else OVER if schedule.next_at is None else ON
    return ScheduleView(
        id=schedule.id, name=schedule.name, task=task.text or saved, saved_id=task.template_id,
        rhythm=read_rhythm(schedule.cron), timezone=schedule.timezone, missed=schedule.missed.value,
        limit=money(task.max_cost), asks=not task.auto_approve, state=state, paused=schedule.paused,
        next_at=None if schedule.paused else schedule.next_at,
        next_text="" if schedule.next_at is None else _there(schedule.next_at, schedule.timezone),
        files=[file.name for file in task.files], last=last,
    )  # fmt: skip


def _there(moment: datetime, timezone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(timezone)):%a %d %b %Y, %H:%M}"


def _firing(firing: Firing) -> FiringView:
    problem: Problem | None = problem_of(firing.error)
    state = STATES.get(firing.state) or State.of(firing.state)
    return FiringView(firing.due_at, state, firing.workflow_id or "", problem=problem)
