"""The HTTP edge all our servers share: error answers, request ids, body limits, metrics, health."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping

import asyncpg
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentnexus.core.clock import TimeOrderedIds
from agentnexus.core.errors import InvalidInput, LimitExceeded, NexusError, NotFound
from agentnexus.platform.logs import correlation_id, log
from agentnexus.platform.telemetry import CONTENT_TYPE, http_seconds, render_metrics

REQUEST_ID = re.compile(rb"[A-Za-z0-9_.-]{1,64}")
CHECK_SECONDS = 3.0
LENGTH_DIGITS_MAX = 18
Check = Callable[[], Awaitable[object]]
UNSTORABLE = InvalidInput(
    "the request has a character or a number that cannot be kept",
    next_step="send plain text without NUL characters, and numbers of a sensible size",
)


def error_response(error: NexusError) -> JSONResponse:
    """``{success: false, error: {code, message, next_step?, details?}}`` with the error's own status."""
    headers = {}
    if error.http_status == 429 and "retry_after_seconds" in error.details:
        headers["Retry-After"] = str(error.details["retry_after_seconds"])
    return JSONResponse({"success": False, "error": error.to_json()}, error.http_status, headers=headers)


async def _on_nexus_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NexusError)
    return error_response(error)


async def _on_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "invalid_input"
    body = {"success": False, "error": {"code": code, "message": str(error.detail)}}
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _on_unstorable(_request: Request, error: Exception) -> Response:
    """A value from outside that no column takes, such as text with a NUL: the sender's to mend, not a bug of ours."""
    log.warning("http.unstorable_value", reason=type(error).__name__)
    return error_response(UNSTORABLE)


async def _on_bug(_request: Request, error: Exception) -> Response:
    log.error("http.unexpected_error", exc_info=error)
    body = {
        "success": False,
        "error": {
            "code": "internal",
            "message": "something went wrong on our side",
            "next_step": "try again; if it stays, report the request id",
            "details": {"request_id": correlation_id.get()},
        },
    }
    return JSONResponse(body, 500)


def install_error_handlers(app: Starlette) -> None:
    """Every error becomes the one documented shape; a bug becomes a 500 with the request id."""
    app.add_exception_handler(NexusError, _on_nexus_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(asyncpg.DataError, _on_unstorable)
    app.add_exception_handler(Exception, _on_bug)


class RequestContext:
    """Pure ASGI: takes or makes ``X-Request-ID``, binds it to the logs, answers with it, times the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ids = TimeOrderedIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        identifier = given.decode() if REQUEST_ID.fullmatch(given) else self._ids.new("req")
        token = correlation_id.set(identifier)
        started, status = time.perf_counter(), "500"

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                message["headers"] = [*message.get("headers", []), (b"x-request-id", identifier.encode())]
            await send(message)

        try:
            if "\x00" in scope["path"] and scope["type"] == "http":
                await error_response(UNSTORABLE)(scope, receive, send_with_id)
            else:
                await self._app(scope, receive, send_with_id)
        finally:
            correlation_id.reset(token)
            if scope["type"] == "http":
                http_seconds.labels(scope["method"], status).observe(time.perf_counter() - started)


class BodyLimit:
    """Pure ASGI: refuses bodies over `max_bytes`, declared or not, before anybody buffers them.

    `by_prefix` has other limits for paths that begin so.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, by_prefix: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._by_prefix = dict(by_prefix or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = next((n for prefix, n in self._by_prefix.items() if scope["path"].startswith(prefix)), self._max_bytes)
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or len(declared) > LENGTH_DIGITS_MAX or int(declared) > limit:
            await error_response(_too_large(limit))(scope, receive, send)
            return
        seen, started, exceeded = 0, False, False

        async def counted() -> Message:
            nonlocal seen, exceeded
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > limit:
                    exceeded = True
                    raise _too_large(limit)
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if exceeded and not started:
                return  # a framework may turn our refusal into its own vague 400: ours is sent below
            started = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except LimitExceeded:
            if not exceeded or started:
                raise
        if exceeded and not started:
            await error_response(_too_large(limit))(scope, receive, send)


def _too_large(limit_bytes: int) -> LimitExceeded:
    size = f"{limit_bytes >> 20} MiB" if limit_bytes >= 1 << 20 else f"{limit_bytes >> 10} KiB"
    return LimitExceeded(
        f"the request is larger than {size}",
        next_step="send less, or split the file",
        limit_bytes=limit_bytes,
    )


async def metrics_page(_request: Request) -> Response:
    """GET /metrics"""
    return Response(render_metrics(), media_type=CONTENT_TYPE)


async def run_checks(checks: Mapping[str, Check]) -> tuple[str, dict[str, object]]:
    """(healthy | degraded | unhealthy, {name: {status, responseTime, details?}}) of the named checks.

    They run at the same time; one that takes longer than three seconds is unhealthy.
    """
    entries = await asyncio.gather(*(_run_check(check) for check in checks.values()))
    failed = sum(entry["status"] != "healthy" for entry in entries)
    overall = "healthy" if not failed else "unhealthy" if failed == len(checks) else "degraded"
    return overall, dict(zip(checks, entries, strict=True))


async def _run_check(check: Check) -> dict[str, object]:
    started = time.perf_counter()
    entry: dict[str, object] = {"status": "healthy"}
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except TimeoutError:
        entry = {"status": "unhealthy", "details": f"no answer in {CHECK_SECONDS:g} s"}
    except (NexusError, OSError) as error:
        entry = {"status": "unhealthy", "details": str(error)}
    return entry | {"responseTime": round((time.perf_counter() - started) * 1000, 1)}


def not_found(what: str, identifier: str) -> NotFound:
    """The usual 404."""
    return NotFound(f"no {what} {identifier}", next_step=f"check the id; list what there is with `nexus {what}s`")
