"""HTTP of schedules."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection

from agentnexus.core.errors import NotFound
from agentnexus.workflows.model import TEXT_MAX, FileRef
from agentnexus.workflows.routes import MILLISECONDS_MAX, Coin, Service, Who, money
from agentnexus.workflows.schedules.model import Firing, Missed, ScheduledTask
from agentnexus.workflows.schedules.service import Schedules, ScheduleTerms

router = APIRouter(tags=["schedules"], prefix="/schedules")


def schedules(connection: HTTPConnection) -> Schedules:
    """``app.state.desk`` is set in bootstrap."""
    found: Schedules = connection.app.state.desk.schedules
    return found


Kept = Annotated[Schedules, Depends(schedules)]


class TermsBody(BaseModel):
    """When it is due: cron of five fields in a time zone; `missed` times are skipped, run once, or all run."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str = Field(min_length=1, max_length=200)
    cron: str = Field(max_length=100)
    timezone: str = Field(default="UTC", max_length=60)
    missed: Missed = Missed.ONCE

    def terms(self) -> ScheduleTerms:
        return ScheduleTerms(self.name, self.cron, self.timezone, self.missed)


class ScheduleBody(TermsBody):
    """`input` is a task in words; or `templateId` with `inputs`. Limits count for each run."""

    input: str = Field(default="", max_length=TEXT_MAX)
    template_id: str = Field(default="", alias="templateId", max_length=200)
    inputs: dict[str, object] = Field(default_factory=dict, max_length=500)
    files: list[FileRef] = Field(default_factory=list, max_length=100)
    max_cost: str | int | float = Field(default="1", alias="maxCost")
    max_time: int = Field(default=600_000, alias="maxTime", ge=1, le=MILLISECONDS_MAX)
    auto_approve: bool = Field(default=False, alias="autoApprove")
    grant: str = Field(default="", max_length=200, description="a signed approval each run goes ahead under")


@router.post("", status_code=201)
async def create(body: ScheduleBody, kept: Kept, who: Who, coin: Coin, workflows: Service) -> dict[str, object]:
    """Begin a task at every due time, exactly once."""
    await workflows.require_files(who.acts_for, body.files)
    task = ScheduledTask(
        text=body.input, template_id=body.template_id, inputs=body.inputs, files=tuple(body.files),
        max_cost=money(body.max_cost, coin), max_seconds=body.max_time / 1000, auto_approve=body.auto_approve,
        grant=body.grant,
    )  # fmt: skip
    made = await kept.create(who.user_id, body.terms(), task)
    return {"success": True, "schedule": made.to_json()}


@router.get("")
async def show_all(kept: Kept, who: Who) -> dict[str, object]:
    """Yours, newest first."""
    return {"success": True, "schedules": [each.to_json() for each in await kept.list(who.user_id)]}


@router.get("/{schedule_id}")
async def show(schedule_id: str, kept: Kept, who: Who, workflows: Service) -> dict[str, object]:
    """With its last due times and what came of them: `status` and `error` are those of the task that was begun."""
    found = await kept.get(schedule_id, who.acts_for)
    firings = await kept.firings(schedule_id, who.acts_for)

    async def shown(firing: Firing) -> dict[str, object]:
        status, error = None, firing.error
        if firing.workflow_id is not None:
            with suppress(NotFound):  # tasks are forgotten some day
                begun = await workflows.get(firing.workflow_id, who.acts_for)
                status, error = begun.status.value, begun.error
        return {**firing.model_dump(mode="json"), "status": status, "error": error}

    return {"success": True, "schedule": found.to_json(), "firings": [await shown(each) for each in firings]}


@router.put("/{schedule_id}")
async def change(schedule_id: str, body: TermsBody, kept: Kept, who: Who) -> dict[str, object]:
    """Another name or rhythm from now on."""
    return {"success": True, "schedule": (await kept.change(schedule_id, who.acts_for, body.terms())).to_json()}


@router.post("/{schedule_id}/pause")
async def pause(schedule_id: str, kept: Kept, who: Who) -> dict[str, object]:
    """Not due until resumed."""
    return {"success": True, "schedule": (await kept.pause(schedule_id, who.acts_for)).to_json()}


@router.post("/{schedule_id}/resume")
async def resume(schedule_id: str, kept: Kept, who: Who) -> dict[str, object]:
    """Due again from now on; what fell into the pause is not run."""
    return {"success": True, "schedule": (await kept.resume(schedule_id, who.acts_for)).to_json()}


@router.delete("/{schedule_id}")
async def delete(schedule_id: str, kept: Kept, who: Who) -> dict[str, object]:
    """Forget it; the workflows stay."""
    await kept.delete(schedule_id, who.acts_for)
    return {"success": True}
