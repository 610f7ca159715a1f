"""Money: what was spent on what, and the budgets that limit it, with an editor that needs no scripts."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from agentnexus.core.errors import NexusError, NotFound
from agentnexus.web.adapters.money_views import LABELS
from agentnexus.web.forms import FormData
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.uploads import posted, text_of
from agentnexus.web.rendering import page
from agentnexus.web.views.problems import problem_of

WINDOWS: Final = (7, 30, 90)
AMOUNT_CHARS: Final = 60


async def overview(request: Request) -> Response:
    """GET /money?days=7|30|90"""
    doors = doors_of(request)
    asked = request.query_params.get("days", "")
    days = int(asked) if asked in {str(each) for each in WINDOWS} else 30
    found = await doors.money.overview(await doors.user(request), days)
    return page(request, "pages/money.html", money=found, windows=WINDOWS)


async def budget(request: Request) -> Response:
    """GET /money/budget?id= (without: the visitor's own)."""
    return await _budget(request, request.query_params.get("id", "")[:300])


async def _budget(
    request: Request, budget_id: str, *, typed: dict[str, str] | None = None, error: NexusError | None = None,
    adding: bool = False,
) -> Response:  # fmt: skip
    """What was typed stays in the form that could not be used."""
    doors = doors_of(request)
    found = await doors.money.budget(await doors.user(request), budget_id)
    field = str(error.details.get("field", "")) if error else ""
    return page(
        request, "pages/budget.html", status=error.http_status if error else 200, page=found, labels=LABELS,
        typed=typed or {}, problem=problem_of(error), field=field, adding=adding,
    )  # fmt: skip


async def change(request: Request) -> Response:
    """POST /money/budget: every limit as typed; an empty one is lifted."""
    data = await posted(request)
    budget_id = text_of(data, "id", limit=300)
    typed = _limits(data)
    doors = doors_of(request)
    try:
        await doors.money.change_budget(await doors.user(request), budget_id, typed)
    except NotFound:
        raise
    except NexusError as error:
        return await _budget(request, budget_id, typed=typed, error=error)
    return RedirectResponse(_address(budget_id), 303)


async def add(request: Request) -> Response:
    """POST /money/budget/add: cut a part off."""
    data = await posted(request)
    parent, name = text_of(data, "id", limit=300), text_of(data, "name", limit=200)
    typed = _limits(data)
    doors = doors_of(request)
    try:
        made = await doors.money.add_budget(await doors.user(request), parent, name, typed)
    except NotFound:
        raise
    except NexusError as error:
        return await _budget(request, parent, typed={**typed, "name": name}, error=error, adding=True)
    return RedirectResponse(_address(made), 303)


async def close(request: Request) -> Response:
    """POST /money/budget/close"""
    budget_id = text_of(await posted(request), "id", limit=300)
    doors = doors_of(request)
    await doors.money.close_budget(await doors.user(request), budget_id)
    return RedirectResponse(_address(budget_id), 303)


def _limits(data: FormData) -> dict[str, str]:
    return {name: text_of(data, name, limit=AMOUNT_CHARS) for name in LABELS if name in data}


def _address(budget_id: str) -> str:
    return f"/money/budget?id={quote(budget_id, safe='')}"


routes = [
    Route("/money", overview),
    Route("/money/budget", budget, methods=["GET"]),
    Route("/money/budget", change, methods=["POST"]),
    Route("/money/budget/add", add, methods=["POST"]),
    Route("/money/budget/close", close, methods=["POST"]),
]
