"""Sell any ASGI route over x402 v2 and v1: a middleware that answers 402 and checks payments out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send
from x402.schemas import PaymentPayload

from agentnexus.core.clock import SystemClock, TimeOrderedIds
from agentnexus.core.errors import InvalidInput, NexusError
from agentnexus.core.ports import Clock, Ids
from agentnexus.markets.x402.answers import error_response
from agentnexus.markets.x402.checkout import Checkout
from agentnexus.markets.x402.exchange import (
    Disconnected,
    HeaderList,
    read_body,
    replaying,
    request_hash,
    send_response,
)
from agentnexus.markets.x402.facilitation import Facilitation
from agentnexus.markets.x402.kinds import requirement_for, spent_by
from agentnexus.markets.x402.pricing import (
    Accepts,
    Demand,
    DemandCache,
    PricedRequest,
    PricedRoute,
    demand,
)
from agentnexus.markets.x402.reservations import Claim, Reservations, StoredResponse
from agentnexus.markets.x402.turn import CheckoutLimits, Sale
from agentnexus.markets.x402.wire import Presented, Resource, read_payment, to_v1

PATH_SAFE = "/:@!$&'()*+,;=~-._"


@dataclass(frozen=True, slots=True)
class PaidCall:
    """What a priced handler finds under ``scope["state"]["x402"]``: who pays how much, checked but not yet settled."""

    payment_id: str
    payer: str
    network: str
    asset: str
    amount: int
    version: int


@dataclass(frozen=True, slots=True)
class _Request:
    """One request to a priced route."""

    route: PricedRoute
    parameters: dict[str, str]
    scope: Scope
    receive: Receive
    send: Send
    url: str
    query: bytes
    signature: str | None
    legacy: str | None


class SellerMiddleware:
    """Puts priced routes of an ASGI app behind x402 v2 and v1 payments.

    Args:
        routes: the first match counts; what matches none passes through untouched.
        facilitator: checks and settles: `Facilitator` in process, `FacilitatorClient`, or a foreign client.
        reservations: who serves which payment; `PostgresReservations` except in tests and toys.
        public_url: scheme and host that clients use, when a proxy hides them; else taken from the request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Sequence[PricedRoute],
        facilitator: Facilitation,
        reservations: Reservations,
        limits: CheckoutLimits | None = None,
        public_url: str = "",
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        self._app = app
        self._routes = tuple(routes)
        self._public_url = public_url.rstrip("/")
        clock = clock or SystemClock()
        self._checkout = Checkout(
            facilitator, reservations, limits or CheckoutLimits(), clock, ids or TimeOrderedIds(clock)
        )
        self._demands = DemandCache()

    def offer(self, routes: Sequence[PricedRoute]) -> None:
        """From now on these routes have prices; what is being served goes on."""
        self._routes = tuple(routes)
        self._demands = DemandCache()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request = self._priced(scope, receive, send)
        if request is None:
            return await self._app(scope, receive, send)
        price = request.route.price
        if not request.signature and not request.legacy and not callable(price):
            return await send_demand(send, self._demands.get(request.route, price, request.url))
        try:
            return await self._paid_or_dynamic(request)
        except Disconnected:
            return None
        except NexusError as error:
            return await send_response(send, error_response(error))

    def _priced(self, scope: Scope, receive: Receive, send: Send) -> _Request | None:
        method, path = scope["method"], scope["path"]
        for route in self._routes:
            parameters = route.match(method, path)
            if parameters is not None:
                host, signature, legacy = _payment_headers(scope["headers"])
                query: bytes = scope.get("query_string", b"")
                base = self._public_url or f"{scope.get('scheme', 'http')}://{host or 'localhost'}"
                url = base + quote(path, safe=PATH_SAFE) + (f"?{query.decode('latin-1')}" if query else "")
                return _Request(route, parameters, scope, receive, send, url, query, signature, legacy)
        return None

    async def _paid_or_dynamic(self, request: _Request) -> None:
        body = await read_body(request.receive, request.route.max_request_bytes)
        accepts = await _accepts(request, body)
        if not accepts:
            return await self._app(request.scope, replaying(body, request.receive), request.send)
        presented = read_payment(request.signature, request.legacy)
        if presented is None:
            return await send_demand(request.send, demand(request.route, accepts, request.url, "payment required"))
        sale = self._sale(request, accepts, presented, body)
        if isinstance(sale, StoredResponse):
            return await send_response(request.send, sale)
        return await self._checkout.serve(sale)

    def _sale(self, request: _Request, accepts: Accepts, presented: Presented, body: bytes) -> Sale | StoredResponse:
        """The sale, or the refusal when the payment is not for this route at all."""
        route, scope = request.route, request.scope

        def refusal(reason: str) -> StoredResponse:
            made = demand(route, accepts, request.url, reason)
            return StoredResponse(402, _headers(made), made.body)

        requirement = requirement_for(presented, accepts)
        if requirement is None:
            return refusal("invalid_payment_requirements")
        if not _same_resource(presented, request.url):
            return refusal("resource_mismatch")
        identifier = presented.identifier
        if route.identifier_required and presented.version == 2 and identifier is None:
            return error_response(
                InvalidInput("this route needs a payment-identifier", next_step="send extensions.payment-identifier")
            )
        spent = spent_by(presented, requirement)
        payer = spent.payer
        claim = Claim(
            payment_id=spent.payment_id,
            payload_hash=presented.hash,
            request_hash=request_hash(scope["method"], scope["path"], request.query, body),
            resource=request.url,
            client_key=f"{requirement.network}:{payer}:{identifier}" if identifier else None,
        )
        amount = int(requirement.amount)
        call = PaidCall(claim.payment_id, payer, requirement.network, requirement.asset, amount, presented.version)

        async def handler(send: Send) -> None:
            await self._app(_with_call(scope, call), replaying(body, request.receive), send)

        return Sale(
            route=route,
            claim=claim,
            presented=presented,
            requirement=requirement,
            demanded=requirement
            if presented.version == 2
            else to_v1(requirement, Resource(request.url, route.description, route.mime_type)),
            refusal=refusal,
            handler=handler,
            send=request.send,
        )


async def _accepts(request: _Request, body: bytes) -> Accepts:
    price = request.route.price
    if not callable(price):
        return price
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.scope["headers"]}
    return await price(
        PricedRequest(
            method=request.scope["method"],
            path=request.scope["path"],
            parameters=request.parameters,
            query=request.query.decode("latin-1"),
            headers=headers,
            body=body,
        )
    )


def _payment_headers(headers: HeaderList) -> tuple[str, str | None, str | None]:
    """Host, PAYMENT-SIGNATURE and X-PAYMENT."""
    host = ""
    signature = legacy = None
    for name, value in headers:
        if name == b"host":
            host = value.decode("latin-1")
        elif name == b"payment-signature":
            signature = value.decode("latin-1")
        elif name == b"x-payment":
            legacy = value.decode("latin-1")
    return host, signature, legacy


def _same_resource(presented: Presented, url: str) -> bool:
    """EIP-3009 does not sign the resource; where the client names one (v2), it must be this one."""
    payload = presented.payload
    if not isinstance(payload, PaymentPayload) or payload.resource is None or not payload.resource.url:
        return True
    named, asked = urlsplit(payload.resource.url), urlsplit(url)
    return (named.path or "/", named.query) == (asked.path or "/", asked.query)


def _with_call(scope: Scope, call: PaidCall) -> Scope:
    """The handler's scope: told of the payment, and without server extensions that send files past us."""
    extensions = {key: value for key, value in scope.get("extensions", {}).items() if key != "http.response.pathsend"}
    return {**scope, "state": {**scope.get("state", {}), "x402": call}, "extensions": extensions}


def _headers(made: Demand) -> tuple[tuple[str, str], ...]:
    return (
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("payment-required", made.header.decode("ascii")),
    )


async def send_demand(send: Send, made: Demand) -> None:
    """A 402 in both versions."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(made.body)).encode()),
        (b"cache-control", b"no-store"),
        (b"payment-required", made.header),
    ]
    await send({"type": "http.response.start", "status": 402, "headers": headers})
    await send({"type": "http.response.body", "body": made.body})
