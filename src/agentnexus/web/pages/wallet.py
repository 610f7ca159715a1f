"""A person's own wallet: make it, see it, send, sign, take the key along."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from agentnexus.core.errors import NexusError
from agentnexus.identity.origin import local_path
from agentnexus.web.live import STREAM_HEADERS, Panels, live
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.signing import signed_of
from agentnexus.web.pages.uploads import posted, text_of
from agentnexus.web.rendering import page
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.wallet import SendTyped

ADDRESS_CHARS, AMOUNT_CHARS, ID_CHARS = 100, 60, 2000
TYPED = (
    "form", "kind", "credential_id", "address", "to", "amount", "asset", "gas", "guardian", "days", "allowance", "key",
)  # fmt: skip
PANELS = Panels("components/wallet.html", ("head", "signing", "facts"))


async def index(request: Request) -> Response:
    """GET /wallet?before=…; ``?done=created`` after one was made, ``?next=/…`` is where making it leads to."""
    return await _index(request, {"next": request.query_params.get("next", "")})


async def _index(request: Request, typed: Mapping[str, str], error: NexusError | None = None) -> Response:
    """What was typed stays in its form; ``typed["form"]`` says beside which one the problem is shown."""
    doors = doors_of(request)
    before = request.query_params.get("before", "")[:200]
    found = await doors.wallet.page(await doors.user(request), before)
    return page(
        request, "pages/wallet.html", status=error.http_status if error else 200, page=found,
        problem=problem_of(error), typed=dict.fromkeys(TYPED, "") | dict(typed), before=before,
        next_path=local_path(typed.get("next", ""), ""),
        done=request.query_params.get("done", "")[:20] if request.method == "GET" else "",
    )  # fmt: skip


async def create(request: Request) -> Response:
    """POST /wallet: of one kind, once; asking again is harmless."""
    doors, data = doors_of(request), await posted(request)
    typed = {name: text_of(data, name, limit=ID_CHARS) for name in ("kind", "credential_id", "address", "next")}
    try:
        await doors.wallet.create(
            await doors.user(request), typed["kind"], credential_id=typed["credential_id"], address=typed["address"]
        )
    except NexusError as error:
        return await _index(request, {"form": "create", **typed}, error)
    return RedirectResponse(local_path(typed["next"], f"/wallet?{urlencode({'done': 'created'})}"), 303)


async def send(request: Request) -> Response:
    """POST /wallet/send: leads to the operation, which may wait for a signature."""
    doors, data = doors_of(request), await posted(request)
    typed = SendTyped(
        to=text_of(data, "to", limit=ADDRESS_CHARS), amount=text_of(data, "amount", limit=AMOUNT_CHARS),
        asset=text_of(data, "asset", limit=ADDRESS_CHARS), gas=text_of(data, "gas", limit=20),
        key=text_of(data, "key", limit=100),
    )  # fmt: skip
    try:
        operation_id = await doors.wallet.send(await doors.user(request), typed)
    except NexusError as error:
        # Nothing moved, so what is corrected is a new transfer; what may have moved is asked after again.
        kept = typed.key if error.code == "payment_unknown" else ""
        shown = {"to": typed.to, "amount": typed.amount, "asset": typed.asset, "gas": typed.gas, "key": kept}
        offer = error.details.get("allow")  # gas in USDC, which the paymaster may not take yet
        if isinstance(offer, Mapping):
            shown["allowance"] = str(offer.get("amount", ""))
        return await _index(request, {"form": "send", **shown}, error)
    return RedirectResponse(f"/wallet/operations/{operation_id}", 303)


async def guardian(request: Request) -> Response:
    """POST /wallet/guardian: whoever may replace a lost key, after some days."""
    doors, data = doors_of(request), await posted(request)
    typed = {name: text_of(data, name, limit=ADDRESS_CHARS) for name in ("guardian", "days", "key")}
    user = await _owner(request)
    try:
        operation_id = await doors.wallet.set_guardian(user, typed["guardian"], typed["days"], typed["key"])
    except NexusError as error:
        return await _index(request, {"form": "guardian", **typed, "key": ""}, error)
    return RedirectResponse(f"/wallet/operations/{operation_id}", 303)


async def allow_gas(request: Request) -> Response:
    """POST /wallet/gas: what paying gas in USDC needs before."""
    doors, data = doors_of(request), await posted(request)
    amount, key = text_of(data, "amount", limit=AMOUNT_CHARS), text_of(data, "key", limit=ADDRESS_CHARS)
    try:
        operation_id = await doors.wallet.allow_gas(await doors.user(request), amount, key)
    except NexusError as error:
        return await _index(request, {"form": "gas", "allowance": amount}, error)
    return RedirectResponse(f"/wallet/operations/{operation_id}", 303)


async def cancel_recovery(request: Request) -> Response:
    """POST /wallet/recovery: refuse the new owners that somebody proposed."""
    doors, data = doors_of(request), await posted(request)
    try:
        operation_id = await doors.wallet.cancel_recovery(
            await doors.user(request), text_of(data, "key", limit=ADDRESS_CHARS)
        )
    except NexusError as error:
        return await _index(request, {}, error)
    return RedirectResponse(f"/wallet/operations/{operation_id}", 303)


async def operation(request: Request) -> Response:
    """GET /wallet/operations/{operation_id}"""
    return await _operation(request)


async def _operation(request: Request, error: NexusError | None = None) -> Response:
    doors = doors_of(request)
    found = await doors.wallet.operation(await doors.user(request), request.path_params["operation_id"])
    status = error.http_status if error else 200
    return page(request, "pages/operation.html", status=status, operation=found, refused=problem_of(error))


async def stream(request: Request) -> Response:
    """GET /wallet/operations/{operation_id}/live"""
    doors = doors_of(request)
    user, operation_id = await doors.user(request), request.path_params["operation_id"]
    await doors.wallet.operation(user, operation_id)  # a stranger's id is a 404 here, not a broken stream
    events = live(doors.wallet.follow(user, operation_id), PANELS)
    return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)


async def sign(request: Request) -> Response:
    """POST /wallet/operations/{operation_id}/signature"""
    doors, data = doors_of(request), await posted(request)
    operation_id = request.path_params["operation_id"]
    try:
        await doors.wallet.sign(await doors.user(request), operation_id, signed_of(data))
    except NexusError as error:
        return await _operation(request, error)
    return RedirectResponse(f"/wallet/operations/{operation_id}", 303)


async def discard(request: Request) -> Response:
    """POST /wallet/operations/{operation_id}/discard: nobody is to sign it any more."""
    doors, operation_id = doors_of(request), request.path_params["operation_id"]
    try:
        await doors.wallet.discard(await doors.user(request), operation_id)
    except NexusError as error:
        return await _operation(request, error)
    return RedirectResponse(f"/wallet/operations/{operation_id}", 303)


async def confirm_export(request: Request) -> Response:
    """GET /wallet/export: what it means, before the key is shown."""
    found = await doors_of(request).wallet.page(await _owner(request))
    return page(request, "pages/export.html", page=found, secret="", problem=None)


async def export(request: Request) -> Response:
    """POST /wallet/export: the key, on a page that no cache keeps."""
    doors, data = doors_of(request), await posted(request)
    user = await _owner(request)
    found = await doors.wallet.page(user)
    if not text_of(data, "confirm", limit=10):
        return page(request, "pages/export.html", page=found, secret="", problem=None, status=422)
    try:
        secret = await doors.wallet.export(user)
    except NexusError as error:
        return page(
            request, "pages/export.html", page=found, secret="", problem=problem_of(error), status=error.http_status
        )
    return page(request, "pages/export.html", page=found, secret=secret, problem=None)


async def _owner(request: Request) -> str:
    """The visitor. Where this node signs by itself, only who has just signed in: a stolen session is not enough."""
    doors = doors_of(request)
    user = await doors.user(request)
    if await doors.wallet.signed_here(user):
        await doors.sign_in.require_recent(request)
    return user


routes = [
    Route("/wallet", index, methods=["GET"]),
    Route("/wallet", create, methods=["POST"]),
    Route("/wallet/send", send, methods=["POST"]),
    Route("/wallet/guardian", guardian, methods=["POST"]),
    Route("/wallet/gas", allow_gas, methods=["POST"]),
    Route("/wallet/recovery", cancel_recovery, methods=["POST"]),
    Route("/wallet/export", confirm_export, methods=["GET"]),
    Route("/wallet/export", export, methods=["POST"]),
    Route("/wallet/operations/{operation_id}", operation),
    Route("/wallet/operations/{operation_id}/live", stream),
    Route("/wallet/operations/{operation_id}/signature", sign, methods=["POST"]),
    Route("/wallet/operations/{operation_id}/discard", discard, methods=["POST"]),
]
