"""Errors as pages for people and as JSON for programs: what happened, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ExceptionHandler

from agentnexus.core.errors import NexusError, RateLimited, SignInAgain
from agentnexus.identity.caller import SIGNED_OUT
from agentnexus.platform.logs import correlation_id, log
from agentnexus.web.rendering import is_fragment, page
from agentnexus.web.views.problems import sentence

TITLES: Final = {
    400: "That request does not fit",
    402: "There is not enough money for this",
    403: "This is not yours to open",
    404: "There is nothing at this address",
    409: "That is not possible right now",
    413: "That is too large",
    429: "Too many requests",
    500: "Something broke on our side",
    503: "A part this needs is not running",
}
BUG_TEXT: Final = "The error has been written down. Nothing was paid for work that was not done."


def wants_json(request: Request) -> bool:
    """Programs ask for JSON, or call addresses of the API."""
    accept = request.headers.get("accept", "")
    return request.url.path.startswith(("/api/", "/x402/")) or (
        "application/json" in accept and "text/html" not in accept
    )


def error_page(request: Request, status: int, message: str, next_step: str = "", code: str = "") -> Response:
    """The page for `status`, or its JSON twin."""
    if wants_json(request):
        error = {"code": code or "internal", "message": message} | ({"next_step": next_step} if next_step else {})
        return JSONResponse({"success": False, "error": error}, status)
    title = TITLES.get(status) or HTTPStatus(status).phrase
    return page(
        request, "pages/error.html", status=status, number=status, title=title, message=message, next_step=next_step,
        code=code, request_id=correlation_id.get(""),
    )  # fmt: skip


async def on_expected(request: Request, error: Exception) -> Response:
    """A `NexusError` with its own status, message and next step."""
    assert isinstance(error, NexusError)
    if isinstance(error, SignInAgain) and not wants_json(request) and not is_fragment(request):
        return RedirectResponse(f"/connect?{urlencode({'again': 1, 'next': _asked_on(request)})}", 303)
    if error.details.get("reason") == SIGNED_OUT and not wants_json(request):
        return _sign_in(request, error)
    answer = error_page(request, error.http_status, sentence(error.message), sentence(error.next_step), str(error.code))
    if isinstance(error, RateLimited) and "retry_after_seconds" in error.details:
        answer.headers["Retry-After"] = str(error.details["retry_after_seconds"])
    return answer


def _sign_in(request: Request, error: NexusError) -> Response:
    """Leads who looks at a page to where they sign in, and back; what was sent by a form has to be sent again."""
    if request.method == "GET" and "text/html" in request.headers.get("accept", "") and not is_fragment(request):
        return RedirectResponse(f"/connect?{urlencode({'next': _asked_on(request)})}", 303)
    advice = "Sign in (Connect, at the top), then send it again."
    return error_page(request, error.http_status, sentence(error.message), advice, str(error.code))


def _asked_on(request: Request) -> str:
    """The page that the visitor looks at: the one asked for, or the one with the form that was sent."""
    if request.method == "GET":
        return request.url.path + (f"?{request.url.query}" if request.url.query else "")
    form = urlsplit(request.headers.get("referer", ""))
    return form.path if form.path and form.netloc == request.headers.get("host") else "/"


async def on_http(request: Request, error: Exception) -> Response:
    """Unknown addresses and methods."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return error_page(
            request, 404, "The address may be mistyped, or what was here is gone.",
            "Go back to the start page, or search the marketplace.", "not_found",
        )  # fmt: skip
    answer = error_page(request, error.status_code, str(error.detail), code="invalid_input")
    answer.headers.update(error.headers or {})  # which methods are allowed
    return answer


async def on_bug(request: Request, error: Exception) -> Response:
    """A bug: the visitor gets the request id, the log gets the rest."""
    log.error("page.unexpected_error", path=request.url.path, exc_info=error)
    return error_page(request, 500, BUG_TEXT, "Try again. If it stays, report the request number below.", "internal")


handlers: Mapping[object, ExceptionHandler] = {NexusError: on_expected, HTTPException: on_http, Exception: on_bug}
