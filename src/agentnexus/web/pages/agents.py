"""The marketplace: the list that searches as you type, an agent's page, and its form."""

from __future__ import annotations

import json
import re
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from agentnexus.core.errors import InvalidInput, NexusError, NotAllowed
from agentnexus.core.money import Money
from agentnexus.web.doors import AgentQuery, Doors
from agentnexus.web.forms import Form, FormData, Parsed, Upload, build_form, check, parse_form
from agentnexus.web.forms.build import VARIANT
from agentnexus.web.forms.model import NAME_PREFIX
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.uploads import posted, text_of
from agentnexus.web.rendering import fragment, is_fragment, page
from agentnexus.web.views.agents import AgentView
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.purchases import Owned
from agentnexus.web.views.schemas import schema_rows

SORTS: Final = (
    ("", "Recommended"),
    ("popularity", "Most run"),
    ("price", "Cheapest"),
    ("rating", "Best rated"),
    ("newest", "Newest"),
)
MAX_EXAMPLES: Final = 5
ANY_SELLER: Final = "market"
ENTITLED: Final = "entitled"
USE_ID_CHARS: Final = 80
INDEX: Final = re.compile(r"[0-9]{1,6}")


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
    """GET /agents/{agent_id}?example=N, or ?use=… to begin with what a run of the visitor's was given."""
    found = await doors_of(request).catalogue.agent(request.path_params["agent_id"])
    chosen = request.query_params.get("example", "")
    index = int(chosen) if INDEX.fullmatch(chosen) and int(chosen) < min(len(found.examples), MAX_EXAMPLES) else None
    value: object = found.examples[index].input if index is not None else None
    use_id = request.query_params.get("use", "")[:USE_ID_CHARS]
    if use_id:
        value = await _given(request, use_id)
    return await _agent_page(
        request, found, build_form(found.input_schema or {}, value), value, example_index=index,
        is_input_gone=bool(use_id) and value is None,
    )  # fmt: skip


async def _given(request: Request, use_id: str) -> object:
    """What that run was given; None where nobody knows any more, or it is not the visitor's to know."""
    doors = doors_of(request)
    try:
        return await doors.purchases.use_input(await doors.user(request), use_id)
    except NexusError:
        return None


async def _agent_page(
    request: Request,
    found: AgentView,
    form: Form,
    value: object,
    *,
    example_index: int | None = None,
    error: NexusError | None = None,
    status: int = 200,
    is_input_gone: bool = False,
) -> Response:
    raw = json.dumps(value, indent=2, ensure_ascii=False) if value else "{}"
    return page(
        request, "pages/agent.html", status=error.http_status if error else status, agent=found, form=form,
        raw_json=raw if len(raw) <= 20_000 else "{}", example_index=example_index, problem=problem_of(error),
        inputs=schema_rows(found.input_schema or {}), outputs=schema_rows(found.output_schema or {}),
        owned=await _owned(request, found.id), is_input_gone=is_input_gone,
    )  # fmt: skip


async def _owned(request: Request, agent_id: str) -> Owned:
    """What the visitor has of it; whoever is not signed in may look at everything, and has nothing."""
    doors = doors_of(request)
    try:
        user = await doors.user(request)
    except NotAllowed:
        user = ""
    return await doors.purchases.owned(user, agent_id)


async def run(request: Request) -> Response:
    """POST /agents/{agent_id}/run: the form, its add/remove buttons for those without scripts, or raw JSON."""
    doors = doors_of(request)
    found = await doors.catalogue.agent(request.path_params["agent_id"])
    schema = found.input_schema or {}
    data = await posted(request)
    edited = "_run" not in data and ("_add" in data or "_remove" in data)
    parsed = _raw_json(data) if "_json" in data else parse_form(schema, _without_removed(data) if edited else data)
    if edited:
        value = _with_added(parsed.value, text_of(data, "_add", limit=1000))
        return await _agent_page(request, found, build_form(schema, value, parsed.errors), value)
    errors = {**check(schema, parsed.value), **parsed.errors}
    if errors or not isinstance(parsed.value, dict):
        form = build_form(schema, parsed.value, errors or {"": "The input must be a JSON object."})
        return await _agent_page(request, found, form, parsed.value, status=422)
    try:
        place = await _start(doors, await doors.user(request), found, parsed.value, data)
    except NexusError as error:
        return await _agent_page(request, found, build_form(schema, parsed.value), parsed.value, error=error)
    return RedirectResponse(place, 303)


async def _start(doors: Doors, user: str, found: AgentView, value: dict[str, object], data: FormData) -> str:
    """Begin it as the pressed button says: with a run the visitor owns, or paid now; where it can be followed."""
    how, key = text_of(data, "_run", limit=10), text_of(data, "_key", limit=64)
    if how == ENTITLED:
        return f"/uses/{await doors.purchases.run(user, found.id, value, key)}"
    return f"/tasks/{await doors.runs.run_agent(user, found, value, key, any_seller=how == ANY_SELLER)}"


def _raw_json(data: dict[str, list[str | Upload]]) -> Parsed:
    text = next((value for value in data["_json"] if isinstance(value, str)), "")
    try:
        return Parsed(json.loads(text))
    except (ValueError, RecursionError):
        return Parsed({}, {"": "The JSON you sent cannot be read. Check commas, quotes and brackets."})


def _without_removed(data: dict[str, list[str | Upload]]) -> dict[str, list[str | Upload]]:
    """What was posted without the list item whose "remove" was pressed, by the very name its controls have."""
    gone = NAME_PREFIX + text_of(data, "_remove", limit=1000)
    if gone == NAME_PREFIX:
        return data
    return {name: values for name, values in data.items() if name != gone and not name.startswith(f"{gone}/")}


def _with_added(value: object, pointer: str) -> object:
    """`value` with one empty item more in the list at the pointer that the pressed "add" carries."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in VARIANT.sub("", pointer).split("/")[1:]]
    place = value
    for at, part in enumerate(parts):
        if isinstance(place, dict):
            place = place.setdefault(part, [] if at == len(parts) - 1 else {})
        elif isinstance(place, list) and INDEX.fullmatch(part) and int(part) < len(place):
            place = place[int(part)]
        else:
            return value
    if isinstance(place, list) and pointer:
        place.append(None)
    return value


async def shelf(_request: Request) -> Response:
    """GET /agents: the parent of every agent's page."""
    return RedirectResponse("/marketplace", 308)


routes = [
    Route("/marketplace", marketplace),
    Route("/agents", shelf),
    Route("/agents/{agent_id}", agent),
    Route("/agents/{agent_id}/run", run, methods=["POST"]),
]
