"""Buying runs or a month of an agent, following the purchase, what is left, passing it on, and each run with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from agentnexus.core.errors import InvalidInput, NexusError
from agentnexus.core.money import AMOUNT
from agentnexus.web.live import STREAM_HEADERS, Panels, live
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.downloads import result_file, result_json
from agentnexus.web.pages.signing import signed_of
from agentnexus.web.pages.uploads import posted, text_of
from agentnexus.web.rendering import page
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.purchases import PERIOD, RUNS, Order, Passing

RUNS_USUAL: Final = 5
RUNS_MAX: Final = 1000
TYPED: Final = ("agent_id", "kind", "to", "count", "token_id")
COUNT: Final = re.compile(r"[0-9]{1,6}")
TOKEN: Final = re.compile(r"[0-9]{1,78}")
PURCHASE_PANELS = Panels("components/purchases.html", ("head", "problem", "signing", "way", "facts"))
USE_PANELS = Panels("components/purchases.html", ("use_head", "use_problem", "use_result", "use_facts"))


async def terms(request: Request) -> Response:
    """GET /agents/{agent_id}/buy?runs=N, or ?kind=period&upgrade=1"""
    told = {name: request.query_params.get(name, "").strip()[:20] for name in ("kind", "runs", "upgrade")}
    runs = told["runs"] or str(RUNS_USUAL)
    try:
        order = _order(told["kind"] or RUNS, runs, told["upgrade"])
    except InvalidInput as error:
        return await _terms(request, Order(RUNS, RUNS_USUAL), runs, error)
    return await _terms(request, order, str(order.quantity))


async def _terms(request: Request, order: Order, typed: str, error: NexusError | None = None) -> Response:
    """`typed` stays in the field, what is computed is of the order."""
    doors = doors_of(request)
    agent = await doors.catalogue.agent(request.path_params["agent_id"])
    if order.kind == PERIOD and not agent.month_price:
        error = error or InvalidInput(
            f"{agent.name} is sold by the run only", next_step="choose how many", field="kind"
        )
        order, typed = Order(RUNS, RUNS_USUAL), str(RUNS_USUAL)
    found = await doors.purchases.terms(await doors.user(request), agent, order)
    return page(
        request, "pages/buy.html", status=error.http_status if error else 200, agent=agent, terms=found, typed=typed,
        problem=problem_of(error),
    )  # fmt: skip


async def buy(request: Request) -> Response:
    """POST /agents/{agent_id}/buy; `key` is the form's own: sent twice, it is one purchase."""
    doors, data = doors_of(request), await posted(request)
    typed = text_of(data, "runs", limit=20)
    try:
        order = _order(text_of(data, "kind", limit=20) or RUNS, typed, text_of(data, "upgrade", limit=20))
    except InvalidInput as error:
        return await _terms(request, Order(RUNS, RUNS_USUAL), typed, error)
    user, agent_id = await doors.user(request), request.path_params["agent_id"]
    shown = text_of(data, "at_most", limit=60)
    at_most = Decimal(shown) if AMOUNT.fullmatch(shown) else None
    try:
        purchase_id = await doors.purchases.buy(user, agent_id, order, text_of(data, "key", limit=100), at_most)
    except NexusError as error:
        return await _terms(request, order, typed, error)
    return RedirectResponse(f"/purchases/{purchase_id}", 303)


def _order(kind: str, runs: str, upgrade: str) -> Order:
    """Raises `InvalidInput` for what cannot be bought."""
    if kind == PERIOD:
        return Order(PERIOD, upgrade=bool(upgrade))
    if kind != RUNS:
        raise InvalidInput("that is nothing that is sold", field="kind", next_step="buy runs, or a month")
    return Order(RUNS, _count(runs))


def _count(text: str) -> int:
    if not COUNT.fullmatch(text) or not 1 <= int(text) <= RUNS_MAX:
        raise InvalidInput(
            "that is no number of runs", field="runs", next_step=f"choose between 1 and {RUNS_MAX:,} at once"
        )
    return int(text)


async def show(request: Request) -> Response:
    """GET /purchases/{purchase_id}"""
    return await _show(request)


async def _show(request: Request, error: NexusError | None = None) -> Response:
    doors = doors_of(request)
    found = await doors.purchases.purchase(await doors.user(request), request.path_params["purchase_id"])
    status = error.http_status if error else 200
    return page(request, "pages/purchase.html", status=status, purchase=found, refused=problem_of(error))


async def stream(request: Request) -> Response:
    """GET /purchases/{purchase_id}/live"""
    doors = doors_of(request)
    user, purchase_id = await doors.user(request), request.path_params["purchase_id"]
    await doors.purchases.purchase(user, purchase_id)  # a stranger's id is a 404 here, not a broken stream
    events = live(doors.purchases.follow(user, purchase_id), PURCHASE_PANELS)
    return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)


async def sign(request: Request) -> Response:
    """POST /purchases/{purchase_id}/signature"""
    doors, data = doors_of(request), await posted(request)
    try:
        await doors.purchases.sign(await doors.user(request), request.path_params["purchase_id"], signed_of(data))
    except NexusError as error:
        return await _show(request, error)
    return RedirectResponse(f"/purchases/{request.path_params['purchase_id']}", 303)


async def refund(request: Request) -> Response:
    """POST /purchases/{purchase_id}/refund: what was not used comes back."""
    doors = doors_of(request)
    try:
        await doors.purchases.refund(await doors.user(request), request.path_params["purchase_id"])
    except NexusError as error:
        return await _show(request, error)
    return RedirectResponse(f"/purchases/{request.path_params['purchase_id']}", 303)


async def entitlements(request: Request) -> Response:
    """GET /entitlements?before=…: what is left, and every purchase."""
    return await _entitlements(request)


async def _entitlements(
    request: Request, typed: Mapping[str, str] | None = None, error: NexusError | None = None
) -> Response:
    """What was typed stays in the form of that agent and kind, with the problem beside it."""
    doors = doors_of(request)
    before = request.query_params.get("before", "")[:200]
    found = await doors.purchases.entitlements(await doors.user(request), before)
    return page(
        request, "pages/entitlements.html", status=error.http_status if error else 200, page=found, before=before,
        typed=dict.fromkeys(TYPED, "") | dict(typed or {}), problem=problem_of(error),
    )  # fmt: skip


async def pass_on(request: Request) -> Response:
    """POST /entitlements/{agent_id}/pass-on: says what it means; with `sure`, leads to the wallet's operation."""
    doors, data = doors_of(request), await posted(request)
    agent_id, key = request.path_params["agent_id"], text_of(data, "key", limit=100)
    typed = {name: text_of(data, name, limit=100) for name in ("kind", "to", "count", "token_id")}
    month = int(typed["token_id"]) if TOKEN.fullmatch(typed["token_id"]) else None
    user = await doors.user(request)
    try:
        passing = Passing(typed["kind"], typed["to"], _count(typed["count"]), key, month)
        if not text_of(data, "sure", limit=10):
            shown = await doors.purchases.passing(user, agent_id, passing)
            return page(request, "pages/pass_on.html", shown=shown)
        operation_id = await doors.purchases.pass_on(user, agent_id, passing)
    except NexusError as error:
        return await _entitlements(request, {"agent_id": agent_id, **typed}, error)
    return RedirectResponse(f"/wallet/operations/{operation_id}", 303)


async def use(request: Request) -> Response:
    """GET /uses/{use_id}"""
    doors = doors_of(request)
    found = await doors.purchases.use(await doors.user(request), request.path_params["use_id"])
    return page(request, "pages/use.html", use=found)


async def use_stream(request: Request) -> Response:
    """GET /uses/{use_id}/live"""
    doors = doors_of(request)
    user, use_id = await doors.user(request), request.path_params["use_id"]
    await doors.purchases.use(user, use_id)
    events = live(doors.purchases.follow_use(user, use_id), USE_PANELS)
    return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)


async def use_result(request: Request) -> Response:
    """GET /uses/{use_id}/result.json"""
    doors = doors_of(request)
    value = await doors.purchases.use_result(await doors.user(request), request.path_params["use_id"])
    return result_json(value)


async def use_file(request: Request) -> Response:
    """GET /uses/{use_id}/file?at=<JSON pointer into the result>"""
    doors = doors_of(request)
    value = await doors.purchases.use_result(await doors.user(request), request.path_params["use_id"])
    return result_file(request, value)


routes = [
    Route("/agents/{agent_id}/buy", terms, methods=["GET"]),
    Route("/agents/{agent_id}/buy", buy, methods=["POST"]),
    Route("/purchases/{purchase_id}", show),
    Route("/purchases/{purchase_id}/live", stream),
    Route("/purchases/{purchase_id}/signature", sign, methods=["POST"]),
    Route("/purchases/{purchase_id}/refund", refund, methods=["POST"]),
    Route("/entitlements", entitlements),
    Route("/entitlements/{agent_id}/pass-on", pass_on, methods=["POST"]),
    Route("/uses/{use_id}", use),
    Route("/uses/{use_id}/live", use_stream),
    Route("/uses/{use_id}/result.json", use_result),
    Route("/uses/{use_id}/file", use_file),
]
