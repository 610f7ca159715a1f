"""Tasks: the list, one task live, approving, stopping, and everything about it that can be downloaded."""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Match, Route
from starlette.types import Scope

from agentnexus.core.errors import NexusError
from agentnexus.web.doors import PlanEdit
from agentnexus.web.live import RUN_PANELS, STREAM_HEADERS, live
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.downloads import download, json_bytes, result_file, result_json
from agentnexus.web.pages.uploads import posted, text_of
from agentnexus.web.rendering import page
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.runs import FINAL

LATELY: Final = 12
STEP_ID: Final = re.compile(r"[a-z0-9_]{1,32}")


async def index(request: Request) -> Response:
    """GET /workflows: what waits for the visitor, what is under way, what ended lately."""
    doors = doors_of(request)
    runs, more = await doors.runs.recent(await doors.user(request))
    ended = [run for run in runs if run.state.name in FINAL]
    waiting = [run for run in runs if run.state.name == "awaiting_approval"]
    busy = [run for run in runs if run not in ended and run not in waiting]
    return page(
        request, "pages/workflows.html", waiting=waiting, busy=busy, lately=ended[:LATELY],
        more=more or len(ended) > LATELY,
    )  # fmt: skip


async def show(request: Request) -> Response:
    """GET /tasks/{run_id}"""
    doors = doors_of(request)
    run = await doors.runs.view(await doors.user(request), request.path_params["run_id"])
    return page(request, "pages/workflow.html", run=run, refused=None)


async def stream(request: Request) -> Response:
    """GET /tasks/{run_id}/live: server-sent events that keep the page's panels current."""
    doors = doors_of(request)
    user, run_id = await doors.user(request), request.path_params["run_id"]
    await doors.runs.view(user, run_id)  # a stranger's id is a 404 here, not a broken stream
    events = live(doors.runs.follow(user, run_id), RUN_PANELS)
    return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)


async def approve(request: Request) -> Response:
    """POST /tasks/{run_id}/approve"""
    doors = doors_of(request)
    await doors.runs.approve(await doors.user(request), request.path_params["run_id"])
    return RedirectResponse(f"/tasks/{request.path_params['run_id']}", 303)


async def edit(request: Request) -> Response:
    """POST /tasks/{run_id}/plan: one step changed; a refusal comes back on the task's page."""
    doors = doors_of(request)
    user, run_id = await doors.user(request), request.path_params["run_id"]
    data = await posted(request)
    wanted = PlanEdit(
        step=text_of(data, "step", limit=64), seller=text_of(data, "seller", limit=500),
        cap=text_of(data, "cap", limit=40), drop=bool(text_of(data, "drop", limit=1)),
    )  # fmt: skip
    try:
        await doors.runs.edit(user, run_id, wanted)
    except NexusError as error:
        run = await doors.runs.view(user, run_id)
        refused = problem_of(error)
        return page(request, "pages/workflow.html", status=error.http_status, run=run, refused=refused)
    # The step that was changed is in sight again, in its open fold; a step that is gone leads to the new price.
    place = "run-approval" if wanted.drop or not STEP_ID.fullmatch(wanted.step) else f"change-{wanted.step}"
    return RedirectResponse(f"/tasks/{run_id}#{place}", 303)


async def cancel(request: Request) -> Response:
    """POST /tasks/{run_id}/cancel"""
    doors = doors_of(request)
    await doors.runs.cancel(await doors.user(request), request.path_params["run_id"])
    return RedirectResponse(f"/tasks/{request.path_params['run_id']}", 303)


async def result(request: Request) -> Response:
    """GET /tasks/{run_id}/result.json"""
    doors = doors_of(request)
    value = await doors.runs.result(await doors.user(request), request.path_params["run_id"])
    return result_json(value)


async def file(request: Request) -> Response:
    """GET /tasks/{run_id}/file?at=<JSON pointer into the result>"""
    doors = doors_of(request)
    value = await doors.runs.result(await doors.user(request), request.path_params["run_id"])
    return result_file(request, value)


async def receipt(request: Request) -> Response:
    """GET /tasks/{run_id}/receipts/{receipt_id}.json, exactly as it was signed."""
    doors = doors_of(request)
    receipt_id = request.path_params["receipt_id"]
    body = await doors.runs.receipt(await doors.user(request), request.path_params["run_id"], receipt_id)
    name = re.sub(r"[^A-Za-z0-9_-]", "-", receipt_id)[:60]
    return download(json_bytes(body), "application/json", f"receipt-{name}.json")


class BrowserRoute(Route):
    """Answers only those who ask for HTML, so that one address can serve people here and programs elsewhere."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """No match unless the request prefers HTML."""
        if scope["type"] == "http" and prefers_html(Headers(scope=scope).get("accept", "")):
            return super().matches(scope)
        return Match.NONE, {}


def prefers_html(accept: str) -> bool:
    """Browsers name HTML first; programs ask for JSON or for anything."""
    html, json_ = accept.find("text/html"), accept.find("application/json")
    return html >= 0 and (json_ < 0 or html < json_)


# The API answers the same address with JSON: the composed application puts this one before it.
shared_routes = [BrowserRoute("/workflows/{run_id}", show)]

routes = [
    *shared_routes,
    Route("/workflows", index),
    Route("/tasks/{run_id}", show),
    Route("/tasks/{run_id}/live", stream),
    Route("/tasks/{run_id}/approve", approve, methods=["POST"]),
    Route("/tasks/{run_id}/plan", edit, methods=["POST"]),
    Route("/tasks/{run_id}/cancel", cancel, methods=["POST"]),
    Route("/tasks/{run_id}/result.json", result),
    Route("/tasks/{run_id}/file", file),
    Route("/tasks/{run_id}/receipts/{receipt_id}.json", receipt),
]
