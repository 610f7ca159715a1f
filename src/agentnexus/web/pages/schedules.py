"""Tasks that begin by themselves: the list with a form for a new one, and each with its due times."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from agentnexus.core.errors import NexusError
from agentnexus.web.forms import FormData
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.uploads import files_of, posted, text_of
from agentnexus.web.rendering import page
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.rhythms import REPEATS, WEEKDAYS, ZONES, RhythmForm
from agentnexus.web.views.schedules import MISSED, ScheduleTyped

CHOICES = {"repeats": REPEATS, "weekdays": WEEKDAYS, "zones": ZONES, "missed": MISSED}


async def index(request: Request) -> Response:
    """GET /saved/schedules (``?plan=`` chooses a saved plan, ``?task=`` fills the words in)."""
    given = request.query_params
    typed = ScheduleTyped(text=given.get("task", "")[:5000], saved_id=given.get("plan", "")[:200])
    return await _index(request, typed)


async def _index(request: Request, typed: ScheduleTyped, error: NexusError | None = None) -> Response:
    doors = doors_of(request)
    user = await doors.user(request)
    status = error.http_status if error else 200
    return page(
        request, "pages/schedules.html", status=status, schedules=await doors.schedules.all(user),
        plans=await doors.saved.all(user), typed=typed, problem=problem_of(error), choices=CHOICES,
        field=_field(error),
    )  # fmt: skip


def _field(error: NexusError | None) -> str:
    return str(error.details.get("field", "")) if error is not None else ""


async def show(request: Request) -> Response:
    """GET /saved/schedules/{schedule_id}"""
    return await _show(request)


async def _show(request: Request, typed: ScheduleTyped | None = None, error: NexusError | None = None) -> Response:
    doors = doors_of(request)
    schedule, firings = await doors.schedules.one(await doors.user(request), request.path_params["schedule_id"])
    known = ScheduleTyped(
        name=schedule.name, rhythm=schedule.rhythm, timezone=schedule.timezone, missed=schedule.missed
    )
    return page(
        request, "pages/schedule.html", status=error.http_status if error else 200, schedule=schedule, firings=firings,
        typed=typed or known, problem=problem_of(error), choices=CHOICES, field=_field(error),
    )  # fmt: skip


def _typed(data: FormData) -> ScheduleTyped:
    """What was posted; raises `InvalidInput` for texts that are too long."""
    rhythm = RhythmForm(
        text_of(data, "repeats", limit=20), text_of(data, "at", limit=10), text_of(data, "weekday", limit=10),
        text_of(data, "day", limit=5), text_of(data, "cron", limit=100),
    )  # fmt: skip
    saved = text_of(data, "plan", limit=200)
    return ScheduleTyped(
        name=text_of(data, "name", limit=200), text=text_of(data, "text"), saved_id=saved, rhythm=rhythm,
        timezone=text_of(data, "timezone", limit=60) or "UTC", missed=text_of(data, "missed", limit=10),
        max_cost=text_of(data, "max_cost", limit=40), auto_approve=bool(text_of(data, "auto", limit=1)),
    )  # fmt: skip


async def create(request: Request) -> Response:
    """POST /saved/schedules: mistakes come back with what was typed."""
    doors, data = doors_of(request), await posted(request)
    typed = ScheduleTyped()
    try:
        typed = _typed(data)
        made = await doors.schedules.create(await doors.user(request), typed, files_of(data, "files"))
    except NexusError as error:
        return await _index(request, typed, error)
    return RedirectResponse(f"/saved/schedules/{made}", 303)


async def change(request: Request) -> Response:
    """POST /saved/schedules/{schedule_id}: another name or rhythm."""
    doors, data = doors_of(request), await posted(request)
    schedule_id, typed = request.path_params["schedule_id"], None
    try:
        typed = _typed(data)
        await doors.schedules.change(await doors.user(request), schedule_id, typed)
    except NexusError as error:
        return await _show(request, typed, error)
    return RedirectResponse(f"/saved/schedules/{schedule_id}", 303)


async def pause(request: Request) -> Response:
    """POST /saved/schedules/{schedule_id}/pause"""
    return await _switched(request, paused=True)


async def resume(request: Request) -> Response:
    """POST /saved/schedules/{schedule_id}/resume"""
    return await _switched(request, paused=False)


async def _switched(request: Request, *, paused: bool) -> Response:
    doors, schedule_id = doors_of(request), request.path_params["schedule_id"]
    await doors.schedules.pause(await doors.user(request), schedule_id, paused=paused)
    return RedirectResponse(f"/saved/schedules/{schedule_id}", 303)


async def delete(request: Request) -> Response:
    """POST /saved/schedules/{schedule_id}/delete: the tasks that it began stay."""
    doors = doors_of(request)
    await doors.schedules.delete(await doors.user(request), request.path_params["schedule_id"])
    return RedirectResponse("/saved/schedules", 303)


routes = [
    Route("/saved/schedules", index, methods=["GET"]),
    Route("/saved/schedules", create, methods=["POST"]),
    Route("/saved/schedules/{schedule_id}", show, methods=["GET"]),
    Route("/saved/schedules/{schedule_id}", change, methods=["POST"]),
    Route("/saved/schedules/{schedule_id}/pause", pause, methods=["POST"]),
    Route("/saved/schedules/{schedule_id}/resume", resume, methods=["POST"]),
    Route("/saved/schedules/{schedule_id}/delete", delete, methods=["POST"]),
]
