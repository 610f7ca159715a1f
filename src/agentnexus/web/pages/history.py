"""Every task so far: filtered by state, words, days and cost, page by page."""

from __future__ import annotations

from datetime import date
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money
from agentnexus.web.pages import doors_of
from agentnexus.web.rendering import page
from agentnexus.web.views.history import STATUSES, HistoryQuery
from agentnexus.web.views.problems import problem_of

FILTERS = ("status", "q", "since", "until", "least", "most")


async def index(request: Request) -> Response:
    """GET /history?status=&q=&since=&until=&least=&most=&cursor="""
    doors = doors_of(request)
    given = {name: request.query_params.get(name, "").strip()[:200] for name in FILTERS}
    typed = {name: value for name, value in given.items() if value}
    error = None
    try:
        query = _query(request, given)
        found = await doors.runs.history(await doors.user(request), query)
    except InvalidInput as problem:
        error, query = problem, HistoryQuery()
        given[str(problem.details.get("field", ""))] = ""
        found = await doors.runs.history(await doors.user(request), query)
    more = f"/history?{urlencode({**typed, 'cursor': found.next_cursor})}" if found.next_cursor else ""
    return page(
        request, "pages/history.html", status=error.http_status if error else 200, found=found, given=given,
        filtered=bool(typed), more_url=more, statuses=STATUSES, problem=problem_of(error),
    )  # fmt: skip


def _query(request: Request, given: dict[str, str]) -> HistoryQuery:
    """Raises `InvalidInput` for what cannot be read."""
    return HistoryQuery(
        status=given["status"] if given["status"] in dict(STATUSES) else "", words=given["q"],
        since=_day(given["since"], "since"), until=_day(given["until"], "until"),
        least=_amount(request, given["least"], "least"), most=_amount(request, given["most"], "most"),
        cursor=request.query_params.get("cursor", "")[:500],
    )  # fmt: skip


def _day(text: str, field: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise InvalidInput(f"{text} is no date", field=field, next_step="write it as 2026-11-21") from error


def _amount(request: Request, text: str, field: str) -> Money | None:
    try:
        return doors_of(request).asset.parse(text) if text else None
    except InvalidInput as error:
        raise InvalidInput(error.message, field=field, next_step="write a number such as 0.05") from error


routes = [Route("/history", index)]
