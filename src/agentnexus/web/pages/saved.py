"""Plans kept to be run again: the list, keeping one, running one with other values and files, forgetting one."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from agentnexus.core.errors import NexusError
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.uploads import files_of, posted, text_of
from agentnexus.web.rendering import page
from agentnexus.web.views.problems import problem_of


async def index(request: Request) -> Response:
    """GET /saved"""
    return await _page(request)


async def _page(request: Request, error: NexusError | None = None) -> Response:
    doors = doors_of(request)
    saved = await doors.saved.all(await doors.user(request))
    status = error.http_status if error else 200
    return page(request, "pages/saved.html", status=status, saved=saved, problem=problem_of(error))


async def save(request: Request) -> Response:
    """POST /saved: keep the plan of a task."""
    doors = doors_of(request)
    data = await posted(request)
    try:
        run_id, name = text_of(data, "run", limit=200), text_of(data, "name", limit=200)
        await doors.saved.save(await doors.user(request), run_id, name)
    except NexusError as error:
        return await _page(request, error)
    return RedirectResponse("/saved", 303)


async def run(request: Request) -> Response:
    """POST /saved/{saved_id}/run: a new task of the kept plan; it asks for approval like any other."""
    doors = doors_of(request)
    data = await posted(request)
    values = {name: text_of(data, name) for name in data if "." in name}
    try:
        user = await doors.user(request)
        made = await doors.saved.run(user, request.path_params["saved_id"], values, files_of(data, "files"))
    except NexusError as error:
        return await _page(request, error)
    return RedirectResponse(f"/tasks/{made}", 303)


async def delete(request: Request) -> Response:
    """POST /saved/{saved_id}/delete"""
    doors = doors_of(request)
    await doors.saved.delete(await doors.user(request), request.path_params["saved_id"])
    return RedirectResponse("/saved", 303)


routes = [
    Route("/saved", index, methods=["GET"]),
    Route("/saved", save, methods=["POST"]),
    Route("/saved/{saved_id}/run", run, methods=["POST"]),
    Route("/saved/{saved_id}/delete", delete, methods=["POST"]),
]
