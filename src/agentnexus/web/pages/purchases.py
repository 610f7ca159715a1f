"""Buying runs of an agent, following the purchase, what is left of it, and each run with it."""

from __future__ import annotations

import re
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

RUNS_USUAL: Final = 5
RUNS_MAX: Final = 1000
COUNT: Final = re.compile(r"[0-9]{1,6}")
PURCHASE_PANELS = Panels("components/purchases.html", ("head", "problem", "signing", "way", "facts"))
USE_PANELS = Panels("components/purchases.html", ("use_head", "use_problem", "use_result", "use_facts"))


async def terms(request: Request) -> Response:
    """GET /agents/{agent_id}/buy?runs=N"""
    text = request.query_params.get("runs", "").strip()[:20]
    try:
        quantity = _count(text or str(RUNS_USUAL))
    except InvalidInput as error:
        return await _terms(request, RUNS_USUAL, text, error)
    return await _terms(request, quantity, str(quantity))


async def _terms(request: Request, quantity: int, typed: str, error: NexusError | None = None) -> Response:
    """`typed` stays in the field, what is computed is of `quantity` runs."""
    doors = doors_of(request)
    agent = await doors.catalogue.agent(request.path_params["agent_id"])
    found = await doors.purchases.terms(await doors.user(request), agent, quantity)
    return page(
        request, "pages/buy.html", status=error.http_status if error else 200, agent=agent, terms=found, typed=typed,
        problem=problem_of(error),
    )  # fmt: skip


async def buy(request: Request) -> Response:
    """POST /agents/{agent_id}/buy; `key` is the form's own: sent twice, it is one purchase."""
    doors, data = doors_of(request), await posted(request)
    typed = text_of(data, "runs", limit=20)
    try:
        quantity = _count(typed)
    except InvalidInput as error:
        return await _terms(request, RUNS_USUAL, typed, error)
    user, agent_id = await doors.user(request), request.path_params["agent_id"]
    shown = text_of(data, "at_most", limit=60)
    at_most = Decimal(shown) if AMOUNT.fullmatch(shown) else None
    try:
        purchase_id = await doors.purchases.buy(user, agent_id, quantity, text_of(data, "key", limit=100), at_most)
    except NexusError as error:
        return await _terms(request, quantity, typed, error)
    return RedirectResponse(f"/purchases/{purchase_id}", 303)


def _count(text: str) -> int:
    if not COUNT.fullmatch(text) or not 1 <= int(text) <= RUNS_MAX:
        raise InvalidInput(
            "that is no number of runs", field="runs", next_step=f"buy between 1 and {RUNS_MAX:,} at once"
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
    doors = doors_of(request)
    before = request.query_params.get("before", "")[:200]
    found = await doors.purchases.entitlements(await doors.user(request), before)
    return page(request, "pages/entitlements.html", page=found, before=before)


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
    Route("/uses/{use_id}", use),
    Route("/uses/{use_id}/live", use_stream),
    Route("/uses/{use_id}/result.json", use_result),
    Route("/uses/{use_id}/file", use_file),
]
