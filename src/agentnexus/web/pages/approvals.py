"""Session approvals: list, draft, sign with a wallet (or paste its signature), what was spent under each, take back."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from agentnexus.core.errors import InvalidInput, NexusError
from agentnexus.web.forms import FormData
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.uploads import posted, text_of
from agentnexus.web.rendering import page
from agentnexus.web.views.money import ToSign
from agentnexus.web.views.problems import problem_of

TYPED: Final = ("wallet", "total", "per_payment", "per_day", "capabilities", "hours")
HOURS: Final = (("1", "an hour"), ("24", "a day"), ("168", "a week"), ("720", "30 days"))
DOCUMENT_CHARS: Final = 64_000


async def index(request: Request) -> Response:
    """GET /money/approvals"""
    return await _index(request)


async def _index(request: Request, typed: dict[str, str] | None = None, error: NexusError | None = None) -> Response:
    doors = doors_of(request)
    found = await doors.money.approvals(await doors.user(request))
    field = str(error.details.get("field", "")) if error else ""
    return page(
        request, "pages/approvals.html", status=error.http_status if error else 200, page=found, hours=HOURS,
        typed=dict.fromkeys(TYPED, "") | (typed or {}), problem=problem_of(error), field=field,
    )  # fmt: skip


async def show(request: Request) -> Response:
    """GET /money/approval?id="""
    doors = doors_of(request)
    grant_id = request.query_params.get("id", "")[:300]
    return page(request, "pages/approval.html", page=await doors.money.approval(await doors.user(request), grant_id))


async def draft(request: Request) -> Response:
    """POST /money/approvals/draft: nothing is kept; the next page shows what the wallet signs."""
    doors, data = doors_of(request), await posted(request)
    typed = {name: text_of(data, name, limit=2000) for name in TYPED}
    try:
        shown = await doors.money.draft(
            await doors.user(request), typed["wallet"], {name: typed[name] for name in TYPED[1:4]},
            typed["capabilities"].replace(",", " ").split(), _hours(typed["hours"]),
        )  # fmt: skip
    except NexusError as error:
        return await _index(request, typed, error)
    return _sign(request, shown)


async def proof(request: Request) -> Response:
    """POST /money/wallets/proof"""
    doors, data = doors_of(request), await posted(request)
    typed = {"wallet": text_of(data, "wallet", limit=200)}
    try:
        shown = await doors.money.proof(await doors.user(request), typed["wallet"])
    except NexusError as error:
        return await _index(request, typed, error)
    return _sign(request, shown)


def _sign(request: Request, shown: ToSign, error: NexusError | None = None) -> Response:
    status = error.http_status if error else 200
    return page(request, "pages/sign.html", status=status, shown=shown, problem=problem_of(error))


async def approve(request: Request) -> Response:
    """POST /money/approvals: the document with its wallet's signature."""
    doors, data = doors_of(request), await posted(request)
    try:
        made = await doors.money.approve(await doors.user(request), *_signed(data))
    except NexusError as error:
        return _sign(request, _again(data, "approval"), error)
    return RedirectResponse(f"/money/approval?id={quote(made, safe='')}", 303)


async def link(request: Request) -> Response:
    """POST /money/wallets"""
    doors, data = doors_of(request), await posted(request)
    try:
        await doors.money.link(await doors.user(request), *_signed(data))
    except NexusError as error:
        return _sign(request, _again(data, "wallet"), error)
    return RedirectResponse("/money/approvals", 303)


async def revoke(request: Request) -> Response:
    """POST /money/approval/revoke"""
    doors = doors_of(request)
    grant_id = text_of(await posted(request), "id", limit=300)
    await doors.money.revoke(await doors.user(request), grant_id)
    return RedirectResponse(f"/money/approval?id={quote(grant_id, safe='')}", 303)


def _signed(data: FormData) -> tuple[str, str]:
    return text_of(data, "document", limit=DOCUMENT_CHARS), text_of(data, "signature", limit=20_000)


def _again(data: FormData, kind: str) -> ToSign:
    """The page to sign on as it was, from its own hidden fields."""

    def field(name: str) -> str:
        return text_of(data, name, limit=DOCUMENT_CHARS)

    return ToSign(kind, field("wallet"), field("scheme"), field("payload"), field("document"))


def _hours(text: str) -> int:
    if text not in {value for value, _ in HOURS}:
        raise InvalidInput("choose how long it lasts", field="hours", next_step="choose one of the durations")
    return int(text)


routes = [
    Route("/money/approvals", index, methods=["GET"]),
    Route("/money/approvals", approve, methods=["POST"]),
    Route("/money/approvals/draft", draft, methods=["POST"]),
    Route("/money/approval", show),
    Route("/money/approval/revoke", revoke, methods=["POST"]),
    Route("/money/wallets/proof", proof, methods=["POST"]),
    Route("/money/wallets", link, methods=["POST"]),
]
