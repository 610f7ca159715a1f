"""The seller's side: every listed agent as a priced route, its run as the handler behind the payment.

Success answers 200 with the output. Any failure answers with a status of 400 or more, and the x402 middleware settles
nothing then: that is the whole refund rule.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from x402.schemas import PaymentRequirements

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.core.ports import Clock, Ids
from agentnexus.marketplace.executions.model import SOLD_KEY
from agentnexus.marketplace.executions.service import Executions
from agentnexus.marketplace.listings.model import Listing
from agentnexus.markets.x402.facilitation import Facilitation
from agentnexus.markets.x402.pricing import PricedRoute
from agentnexus.markets.x402.reservations import Reservations
from agentnexus.markets.x402.sell import PaidCall, SellerMiddleware
from agentnexus.platform.http import install_error_handlers

PATH = "/x402/agents/{agent_id}"
EXECUTION_HEADER = "X-Execution-ID"
MIB = 1024 * 1024
REQUEST_BYTES_MAX = 48 * MIB  # a file of the agents' own limit (32 MiB), base64-encoded, and the rest of the input
RESPONSE_BYTES_MAX = 32 * MIB


def seller_app(executions: Executions) -> Starlette:
    """The handlers alone: they only run for calls that the middleware has checked a payment for."""

    async def run(request: Request) -> Response:
        call = getattr(request.state, "x402", None)
        if not isinstance(call, PaidCall):
            raise NotAllowed("this agent is sold over x402", next_step="call it through the paid route")
        execution = await executions.run(
            request.path_params["agent_id"],
            _json(await request.body()),
            f"{SOLD_KEY}{call.payment_id}",
            user_id=f"{call.network}:{call.payer}",
            execution_id=request.headers.get(EXECUTION_HEADER, ""),
        )
        return JSONResponse(execution.output, headers={EXECUTION_HEADER: execution.id})

    app = Starlette(routes=[Route(PATH, run, methods=["POST"])])
    install_error_handlers(app)
    return app


Beside = Callable[[Listing], Sequence[PaymentRequirements]]


def nothing_beside(_listing: Listing) -> Sequence[PaymentRequirements]:
    """A listing is sold for what it says and for nothing else."""
    return ()


def seller_routes(listings: Sequence[Listing], beside: Beside = nothing_beside) -> list[PricedRoute]:
    """One priced route per listing, with the description and schemas that a 402 and the Bazaar show.

    `beside`: what pays for a listing as well, on other networks than it is listed on.
    """
    return [
        PricedRoute(
            pattern=f"POST {listing.path}",
            price=[*(PaymentRequirements.model_validate(accept) for accept in listing.accepts), *beside(listing)],
            description=f"{listing.manifest.title}: {listing.manifest.summary}",
            output_schema=listing.output_schema,
            extensions={"bazaar": _bazaar(listing)},
            max_request_bytes=REQUEST_BYTES_MAX,
            max_response_bytes=RESPONSE_BYTES_MAX,
        )
        for listing in listings
    ]


def sold(
    app: ASGIApp,
    listings: Sequence[Listing],
    *,
    facilitator: Facilitation,
    reservations: Reservations,
    public_url: str,
    clock: Clock,
    ids: Ids,
) -> SellerMiddleware:
    """`app` (which serves `seller_app` under ``/x402``) with the listings' routes behind their prices."""
    return SellerMiddleware(
        app,
        routes=seller_routes(listings),
        facilitator=facilitator,
        reservations=reservations,
        public_url=public_url,
        clock=clock,
        ids=ids,
    )


def _bazaar(listing: Listing) -> dict[str, object]:
    example = listing.manifest.examples[0].input if listing.manifest.examples else {}
    small = example if len(json.dumps(example)) <= 1000 else {}
    return {
        "info": {"input": {"type": "http", "method": "POST", "bodyType": "json", "body": small}},
        "schema": listing.input_schema,
    }


def _json(body: bytes) -> object:
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            "the body is not JSON", next_step="send the input as one JSON object", field="body"
        ) from error
    return value
