"""The composed HTTP application: rooms' routers, health, metrics, and the edge that guards them all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from agentnexus.api.reference import reference_page
from agentnexus.core.errors import NexusError
from agentnexus.core.ports import Clock
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.platform.http import (
    BodyLimit,
    Check,
    RequestContext,
    error_response,
    install_error_handlers,
    metrics_page,
    run_checks,
)
from agentnexus.platform.sentences import invalid_request

FIGURES_SECONDS = 2.0
PATIENCE_SECONDS = 1.0
Figures = Callable[[], Awaitable[Mapping[str, object]]]
DESCRIPTION = "Hire work on an open economy of agents, inside limits, with receipts anybody can check."


def create_api(
    *,
    routers: Sequence[tuple[str, APIRouter]],
    pages: Sequence[BaseRoute],
    callers: Callers,
    limiter: Limiter,
    checks: Mapping[str, Check],
    clock: Clock,
    version: str,
    figures: Figures | None = None,
) -> FastAPI:
    """Compose the app. `routers` are (prefix, router); `pages` come last, so that no page hides an API route.

    Args:
        figures: what ``GET /health`` tells beside that the process answers.
    """
    app = FastAPI(title="AgentNexus", version=version, description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.callers = callers
    app.state.limiter = limiter
    install_error_handlers(app)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    for prefix, router in routers:
        app.include_router(router, prefix=prefix)
    _add_health(app, checks, clock, version, figures)
    app.add_route("/api/docs", lambda _request: reference_page(app.openapi()), include_in_schema=False)
    app.router.routes.extend(pages)
    return app


def guarded(app: ASGIApp, max_body_bytes: int, by_prefix: Mapping[str, int] | None = None) -> ASGIApp:
    """Request ids and body limits around everything, the paid routes included."""
    return RequestContext(BodyLimit(app, max_body_bytes, by_prefix))


async def _on_invalid_request(_request: Request, error: Exception) -> Response:
    """FastAPI's own complaint, in our one error shape and with the fields named."""
    assert isinstance(error, RequestValidationError)
    return error_response(invalid_request(error))


class RecentFigures:
    """Figures that are at most two seconds old; without a quick answer the last ones, or none: a probe never waits."""

    def __init__(self, figures: Figures | None, clock: Clock) -> None:
        self._figures = figures
        self._clock = clock
        self._known: Mapping[str, object] = {}
        self._until = float("-inf")

    async def read(self) -> Mapping[str, object]:
        """The figures as JSON values."""
        if self._figures is None or self._clock.monotonic() < self._until:
            return self._known
        self._until = self._clock.monotonic() + FIGURES_SECONDS
        with suppress(TimeoutError, NexusError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                self._known = await self._figures()
        return self._known


def _add_health(app: FastAPI, checks: Mapping[str, Check], clock: Clock, version: str, figures: Figures | None) -> None:
    recent = RecentFigures(figures, clock)

    @app.get("/health", tags=["health"])
    async def live() -> dict[str, object]:
        """The process answers; with figures of the workflows when the database does."""
        now = clock.now().isoformat()
        return {"status": "healthy", "timestamp": now, "version": version, **await recent.read()}

    @app.get("/ready", tags=["health"])
    async def ready() -> JSONResponse:
        """The database answers: requests can be served."""
        overall, results = await run_checks({"database": checks["database"]})
        return JSONResponse({"status": overall, "checks": results}, 200 if overall == "healthy" else 503)

    @app.get("/health/deep", tags=["health"])
    async def deep() -> JSONResponse:
        """Every part, with its answer time in milliseconds."""
        overall, results = await run_checks(checks)
        body = {"status": overall, "timestamp": clock.now().isoformat(), "version": version, "checks": results}
        return JSONResponse(body, 503 if overall == "unhealthy" else 200)

    app.add_route("/metrics", metrics_page, include_in_schema=False)
