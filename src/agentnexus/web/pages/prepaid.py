"""A prepaid account: open it with a wallet, top up and claim by signature, withdraw, see every movement."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from agentnexus.core.errors import NexusError
from agentnexus.web.adapters.prepaid import refusal
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.uploads import posted, text_of
from agentnexus.web.rendering import page
from agentnexus.web.views.money import ToSign
from agentnexus.web.views.problems import problem_of

WALLET_CHARS, SIGNATURE_CHARS, AMOUNT_CHARS, KEY_CHARS = 200, 20_000, 60, 100
POSITION_DIGITS = 18
DONE_CHARS = 200
TYPED = ("form", "wallet", "signature", "withdraw_amount", "asset", "key")


async def index(request: Request) -> Response:
    """GET /prepaid; ``?done=…`` and ``?amount=…`` after a form went through."""
    return await _index(request)


async def _index(request: Request, typed: dict[str, str] | None = None, error: NexusError | None = None) -> Response:
    """What was typed stays in its form; ``typed["form"]`` says beside which one the problem is shown."""
    doors = doors_of(request)
    found = await doors.prepaid.page(await doors.user(request), _position(request.query_params.get("before", "")))
    done = {name: request.query_params.get(name, "")[:DONE_CHARS] for name in ("done", "amount", "transaction")}
    return page(
        request, "pages/prepaid.html", status=error.http_status if error else 200, page=found, problem=refusal(error),
        typed=dict.fromkeys(TYPED, "") | (typed or {}),
        done=done if request.method == "GET" else dict.fromkeys(done, ""),
    )  # fmt: skip


def _position(text: str) -> int | None:
    """Where a page of the history begins; anything else is its beginning."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= POSITION_DIGITS else None


async def start(request: Request) -> Response:
    """POST /prepaid/open: the wallet; shows what it signs, or opens at once where no proof is asked for."""
    doors, data = doors_of(request), await posted(request)
    wallet, user = text_of(data, "wallet", limit=WALLET_CHARS), await doors.user(request)
    try:
        shown = await doors.prepaid.message(user, wallet)
        if (await doors.prepaid.page(user)).proves:
            return _sign(request, shown)
        await doors.prepaid.open(user, wallet, "")
    except NexusError as error:
        return await _index(request, {"form": "open", "wallet": wallet}, error)
    return _done("opened")


async def open_account(request: Request) -> Response:
    """POST /prepaid/accounts: the wallet with its signature."""
    doors, data = doors_of(request), await posted(request)
    wallet, signature = text_of(data, "wallet", limit=WALLET_CHARS), text_of(data, "signature", limit=SIGNATURE_CHARS)
    user = await doors.user(request)
    try:
        shown = await doors.prepaid.message(user, wallet)
    except NexusError as error:
        return await _index(request, {"form": "open", "wallet": wallet}, error)
    try:
        await doors.prepaid.open(user, wallet, signature)
    except NexusError as error:
        return _sign(request, shown, error)
    return _done("opened")


def _sign(request: Request, shown: ToSign, error: NexusError | None = None) -> Response:
    status = error.http_status if error else 200
    return page(request, "pages/prepaid_sign.html", status=status, shown=shown, problem=problem_of(error))


async def claim(request: Request) -> Response:
    """POST /prepaid/claim"""
    doors, data = doors_of(request), await posted(request)
    signature = text_of(data, "signature", limit=SIGNATURE_CHARS)
    try:
        amount = await doors.prepaid.claim(await doors.user(request), signature)
    except NexusError as error:
        return await _index(request, {"form": "claim", "signature": signature}, error)
    return _done("claimed", amount=amount)


async def withdraw(request: Request) -> Response:
    """POST /prepaid/withdraw; `key` is the form's own: sent twice, it is one withdrawal."""
    doors, data = doors_of(request), await posted(request)
    amount, asset = text_of(data, "withdraw_amount", limit=AMOUNT_CHARS), text_of(data, "asset", limit=20)
    key = text_of(data, "key", limit=KEY_CHARS)
    try:
        transaction = await doors.prepaid.withdraw(await doors.user(request), amount, asset, key)
    except NexusError as error:
        # An open withdrawal keeps its key, so that sending the form again asks after the same one.
        kept = key if error.code == "payment_unknown" else ""
        typed = {"form": "withdraw", "withdraw_amount": amount, "asset": asset, "key": kept}
        return await _index(request, typed, error)
    return _done("withdrawn", amount=f"{amount} {asset}", transaction=transaction)


def _done(what: str, **values: str) -> Response:
    return RedirectResponse(f"/prepaid?{urlencode({'done': what, **values})}", 303)


routes = [
    Route("/prepaid", index),
    Route("/prepaid/open", start, methods=["POST"]),
    Route("/prepaid/accounts", open_account, methods=["POST"]),
    Route("/prepaid/claim", claim, methods=["POST"]),
    Route("/prepaid/withdraw", withdraw, methods=["POST"]),
]
