"""The composed HTTP application: rooms' routers, health, metrics, and the edge that guards them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from agentnexus.api.reference import reference_page
from agentnexus.core.errors import InvalidInput
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
) -> FastAPI:
    """Compose the app. `routers` are (prefix, router); `pages` come last, so that no page hides an API route."""
    app = FastAPI(title="AgentNexus", version=version, description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.callers = callers
    app.state.limiter = limiter
    install_error_handlers(app)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    for prefix, router in routers:
        app.include_router(router, prefix=prefix)
    _add_health(app, checks, clock, version)
    app.add_route("/api/docs", lambda _request: reference_page(app.openapi()), include_in_schema=False)
    app.router.routes.extend(pages)
    return app


def guarded(app: ASGIApp, max_body_bytes: int, by_prefix: Mapping[str, int] | None = None) -> ASGIApp:
    """Request ids and body limits around everything, the paid routes included."""
    return RequestContext(BodyLimit(app, max_body_bytes, by_prefix))


async def _on_invalid_request(_request: Request, error: Exception) -> Response:
    """FastAPI's own complaint, in our one error shape and with the fields named."""
    assert isinstance(error, RequestValidationError)
    problems = [{"field": ".".join(str(part) for part in e["loc"]), "problem": e["msg"]} for e in error.errors()]
    return error_response(
        InvalidInput("the request is not valid", next_step="mend the named fields (see /api/docs)", fields=problems)
    )


def _add_health(app: FastAPI, checks: Mapping[str, Check], clock: Clock, version: str) -> None:
    @app.get("/health", tags=["health"])
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "healthy"}

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
