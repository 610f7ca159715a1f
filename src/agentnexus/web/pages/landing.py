"""The start page: what this is, live figures, and the box that a task is typed into."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from agentnexus.core.errors import InvalidInput, NexusError
from agentnexus.web.doors import AgentQuery, NewTask
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.uploads import files_of, posted, text_of
from agentnexus.web.rendering import THEME_COOKIE, THEMES, page
from agentnexus.web.views.problems import problem_of

DEFAULT_COST: Final = "0.50"
YEAR_SECONDS: Final = 31_536_000


async def landing(request: Request) -> Response:
    """GET / (``?task=`` fills the box in)."""
    return await _landing(request, task=request.query_params.get("task", "")[:5000])


async def _landing(
    request: Request, *, task: str = "", max_cost: str = DEFAULT_COST, error: NexusError | None = None
) -> Response:
    doors = doors_of(request)
    found = await doors.catalogue.search(AgentQuery(limit=4))
    return page(
        request, "pages/landing.html", status=error.http_status if error else 200, agents=found.agents[:4], task=task,
        figures=await doors.economy.figures(), max_cost=max_cost, problem=problem_of(error),
    )  # fmt: skip


async def new_task(request: Request) -> Response:
    """POST /tasks: planning starts at once, nothing is paid. Mistakes come back with what was typed."""
    doors = doors_of(request)
    data = await posted(request)
    text, cost = "", DEFAULT_COST
    try:
        text = text_of(data, "text")
        cost = text_of(data, "max_cost", limit=40) or DEFAULT_COST
        if not text:
            raise InvalidInput("there is no task yet", next_step="say in a sentence what you need", field="text")
        limit = doors.asset.parse(cost)
        if limit.atomic <= 0:
            raise InvalidInput("the limit must be more than zero", next_step="enter an amount such as 0.50")
        task = NewTask(text, files_of(data, "files"), limit, key=text_of(data, "_key", limit=64))
        run_id = await doors.runs.create(await doors.user(request), task)
    except NexusError as error:
        return await _landing(request, task=text, max_cost=cost, error=error)
    return RedirectResponse(f"/tasks/{run_id}", 303)


async def choose_theme(request: Request) -> Response:
    """POST /theme: the switch for those without scripts."""
    chosen = text_of(await posted(request), "theme", limit=10)
    back = request.headers.get("referer", "")
    path = back.partition(request.url.netloc)[2] if request.url.netloc in back else ""
    response = RedirectResponse(path if path.startswith("/") and not path.startswith("//") else "/", 303)
    if chosen in THEMES:
        response.set_cookie(THEME_COOKIE, chosen, max_age=YEAR_SECONDS, samesite="lax", path="/")
    return response


routes = [
    Route("/", landing),
    Route("/tasks", new_task, methods=["POST"]),
    Route("/theme", choose_theme, methods=["POST"]),
]
