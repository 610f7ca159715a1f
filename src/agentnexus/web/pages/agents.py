"""The marketplace: the list that searches as you type, an agent's page, and its form."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from agentnexus.core.errors import InvalidInput, NexusError
from agentnexus.core.money import Money
from agentnexus.web.doors import AgentQuery
from agentnexus.web.forms import Form, Parsed, Upload, build_form, check, parse_form
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.uploads import posted, text_of
from agentnexus.web.rendering import fragment, is_fragment, page
from agentnexus.web.views.agents import AgentView
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.schemas import schema_rows

SORTS: Final = (
    ("", "Recommended"),
    ("popularity", "Most run"),
    ("price", "Cheapest"),
    ("rating", "Best rated"),
    ("newest", "Newest"),
)
MAX_EXAMPLES: Final = 5


async def marketplace(request: Request) -> Response:
    """GET /marketplace?q=&category=&max_price=&sort=&cursor=; htmx gets the list only."""
    filters = {
        "query": request.query_params.get("q", "").strip()[:200],
        "category": request.query_params.get("category", "")[:60],
        "max_price": request.query_params.get("max_price", "")[:20],
        "sort": request.query_params.get("sort", "")[:20],
    }
    sort = filters["sort"] if filters["sort"] in dict(SORTS) else ""
    cursor = request.query_params.get("cursor", "")[:500]
    query = AgentQuery(filters["query"], filters["category"], _price(request, filters["max_price"]), sort, cursor)
    found = await doors_of(request).catalogue.search(query)
    known = {"q": filters["query"], "category": filters["category"], "max_price": filters["max_price"], "sort": sort}
    more = {name: value for name, value in {**known, "cursor": found.next_cursor}.items() if value}
    more_url = "/marketplace?" + urlencode(more)
    if is_fragment(request):
        html = fragment("components/agents.html", "listing", found, filters["query"], more_url)
        return HTMLResponse(html, headers={"Cache-Control": "no-store", "Vary": "HX-Request"})
    return page(request, "pages/marketplace.html", page=found, filters=filters, sorts=SORTS, more_url=more_url)


def _price(request: Request, text: str) -> Money | None:
    """A price limit that cannot be read is no limit: the list is never an error while someone types."""
    try:
        limit = doors_of(request).asset.parse(text) if text else None
    except InvalidInput:
        return None
    return limit if limit is not None and limit.atomic >= 0 else None


async def agent(request: Request) -> Response:
    """GET /agents/{agent_id}?example=N"""
    found = await doors_of(request).catalogue.agent(request.path_params["agent_id"])
    chosen = request.query_params.get("example", "")
    index = int(chosen) if chosen.isdigit() and int(chosen) < min(len(found.examples), MAX_EXAMPLES) else None
    value = found.examples[index].input if index is not None else None
    return _agent_page(request, found, build_form(found.input_schema or {}, value), value, example_index=index)


def _agent_page(
    request: Request,
    found: AgentView,
    form: Form,
    value: object,
    *,
    example_index: int | None = None,
    error: NexusError | None = None,
    status: int = 200,
) -> Response:
    raw = json.dumps(value, indent=2, ensure_ascii=False) if value else "{}"
    return page(
        request, "pages/agent.html", status=error.http_status if error else status, agent=found, form=form,
        raw_json=raw if len(raw) <= 20_000 else "{}", example_index=example_index, problem=problem_of(error),
        inputs=schema_rows(found.input_schema or {}), outputs=schema_rows(found.output_schema or {}),
    )  # fmt: skip


async def run(request: Request) -> Response:
    """POST /agents/{agent_id}/run: the form, its add/remove buttons for those without scripts, or raw JSON."""
    doors = doors_of(request)
    found = await doors.catalogue.agent(request.path_params["agent_id"])
    schema = found.input_schema or {}
    data = await posted(request)
    parsed = _raw_json(data) if "_json" in data else parse_form(schema, data)
    if "_run" not in data and ("_add" in data or "_remove" in data):
        value = _edited(parsed.value, data)
        return _agent_page(request, found, build_form(schema, value, parsed.errors), value)
    errors = {**check(schema, parsed.value), **parsed.errors}
    if errors or not isinstance(parsed.value, dict):
        form = build_form(schema, parsed.value, errors or {"": "The input must be a JSON object."})
        return _agent_page(request, found, form, parsed.value, status=422)
    try:
        run_id = await doors.runs.run_agent(
            await doors.user(request), found, parsed.value, text_of(data, "_key", limit=64)
        )
    except NexusError as error:
        return _agent_page(request, found, build_form(schema, parsed.value), parsed.value, error=error)
    return RedirectResponse(f"/tasks/{run_id}", 303)


def _raw_json(data: dict[str, list[str | Upload]]) -> Parsed:
    text = next((value for value in data["_json"] if isinstance(value, str)), "")
    try:
        return Parsed(json.loads(text))
    except (ValueError, RecursionError):
        return Parsed({}, {"": "The JSON you sent cannot be read. Check commas, quotes and brackets."})


def _edited(value: object, data: dict[str, list[str | Upload]]) -> object:
    """`value` with one list item more (``_add``) or less (``_remove``), at the pointer the button carries."""
    add = next((text for text in data.get("_add", ()) if isinstance(text, str)), "")
    remove = next((text for text in data.get("_remove", ()) if isinstance(text, str)), "")
    pointer = add or remove.rpartition("/")[0]
    *inner, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]] or [""]
    place = value
    for part in inner:
        if isinstance(place, list) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, dict):
            place = place.setdefault(part, {})
    if isinstance(place, dict):
        items = place.setdefault(last, [])
        at = remove.rpartition("/")[2]
        if add and isinstance(items, list):
            items.append(None)
        elif isinstance(items, list) and at.isdigit() and int(at) < len(items):
            del items[int(at)]
    return value


routes = [
    Route("/marketplace", marketplace),
    Route("/agents/{agent_id}", agent),
    Route("/agents/{agent_id}/run", run, methods=["POST"]),
]
