"""The facilitator over HTTP: ``POST /verify``, ``POST /settle``, ``GET /supported``, ``GET /health``.

An invalid payment is an answer (200), not an HTTP error; 400 is for what is not a facilitator request at all, 503 for
"cannot be asked at the moment".
"""

from __future__ import annotations

import re

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agentnexus.core.errors import InvalidInput
from agentnexus.markets.x402.facilitation import CLAIM_HEADER, ClaimedFacilitation
from agentnexus.markets.x402.wire import (
    MAX_BODY_BYTES,
    AnyPayload,
    AnyRequirements,
    parse_object,
    read_payload,
    read_requirements,
    to_json,
)
from agentnexus.platform.http import BodyLimit, RequestContext, install_error_handlers, metrics_page

CLAIM = re.compile(r"[A-Za-z0-9-]{1,64}")


async def _messages(request: Request) -> tuple[AnyPayload, AnyRequirements]:
    """The payload and the requirements of a request; raises `WireError` (400)."""
    body = parse_object(await request.body(), limit=MAX_BODY_BYTES, part="body")
    payload, requirements = body.get("paymentPayload"), body.get("paymentRequirements")
    if not isinstance(payload, dict) or not isinstance(requirements, dict):
        raise InvalidInput(
            "the body needs the objects paymentPayload and paymentRequirements",
            next_step="send {x402Version, paymentPayload, paymentRequirements}",
            field="paymentPayload",
        )
    # Older clients state the version beside the payload only.
    presented = read_payload({"x402Version": body.get("x402Version"), **payload})
    return presented, read_requirements(requirements, presented.x402_version)


def _claim(request: Request) -> str:
    """For whom to settle; empty for clients that know nothing of claims."""
    claim = request.headers.get(CLAIM_HEADER, "")
    if claim and not CLAIM.fullmatch(claim):
        raise InvalidInput(
            f"{CLAIM_HEADER} has 1 to 64 letters, digits and dashes", next_step="send a UUID", field=CLAIM_HEADER
        )
    return claim


def facilitator_app(facilitator: ClaimedFacilitation) -> Starlette:
    """An ASGI app around a facilitator."""

    async def verify(request: Request) -> JSONResponse:
        return JSONResponse(to_json(await facilitator.verify(*await _messages(request))))

    async def settle(request: Request) -> JSONResponse:
        return JSONResponse(to_json(await facilitator.settle_for(*await _messages(request), _claim(request))))

    async def supported(_request: Request) -> JSONResponse:
        return JSONResponse(to_json(facilitator.get_supported()))

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "healthy"})

    app = Starlette(
        routes=[
            Route("/verify", verify, methods=["POST"]),
            Route("/settle", settle, methods=["POST"]),
            Route("/supported", supported),
            Route("/health", health),
            Route("/metrics", metrics_page),
        ],
        middleware=[Middleware(RequestContext), Middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)],
    )
    install_error_handlers(app)
    return app
