"""HTTP face of the registry (port-3001 API) and the Bazaar (``/discovery/...``)."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentnexus.core.errors import Conflict, InvalidInput, NotAllowed, SellerFailed
from agentnexus.core.ports import Clock, Ids
from agentnexus.markets.x402.registry.dialects import registration_of, replacement_of, status_of
from agentnexus.markets.x402.registry.model import Change, Query, Rating, Registration, Service
from agentnexus.markets.x402.registry.ownership import canonical_owner, text_of, verified_address
from agentnexus.markets.x402.registry.store import RegistryStore
from agentnexus.markets.x402.wire import PAYMENT_REQUIRED, read_required, to_json
from agentnexus.platform.http import BodyLimit, RequestContext, install_error_handlers, metrics_page
from agentnexus.rails.evm.proofs import ProvenPayment

BODY_BYTES_MAX = 256 * 1024
PROBE_SECONDS = 5.0
STAND_IN = {"scheme": "exact", "network": "eip155:0", "asset": "?", "amount": "1", "payTo": "?"}
SEND_ACCEPTS = "send accepts [{scheme, network, asset, amount, payTo}], or answer unpaid calls with your 402 first"
PaidLookup = Callable[[str, str, str, str], Awaitable[ProvenPayment | None]]
M = TypeVar("M", bound=BaseModel)


class RegistryApp:
    """The registry's use cases behind routes.

    Args:
        paid: ``await paid(network, transaction, payer, payee)``: that payment as its chain has it, if it has.
        probe: client that fetches a service's own 402 to check that its payee is the owner. It is given strangers'
            addresses: its transport decides which may be asked (`OutboundTransport`).
    """

    def __init__(
        self, store: RegistryStore, *, clock: Clock, ids: Ids, paid: PaidLookup, probe: httpx.AsyncClient
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._paid = paid
        self._probe = probe

    async def register(self, request: Request) -> Response:
        body = await request.body()
        sender = await self._sender(request, body)
        entry = await self._entry(registration_of(_json(body)), sender)
        return _listed(await self._register(entry, sender), 201)

    async def replace(self, request: Request) -> Response:
        """PUT: the owner registers the same address again; what the body leaves out stays. It is live afterwards."""
        body = await request.body()
        sender = await self._sender(request, body)
        service = await self._found(request)
        _require_owner(service, sender)
        known = service.registration.model_dump(mode="json")
        entry = await self._entry(replacement_of(known, _json(body)), sender)
        if entry.url != service.registration.url:
            raise InvalidInput(
                "a service keeps its address", next_step="POST /services/register for the new address", field="url"
            )
        return _listed(await self._register(entry, sender), 200)

    async def _entry(self, body: dict[str, object], sender: str) -> Registration:
        """A registration by its owner that pays the owner; terms it does not state are its own 402's."""
        if "accepts" not in body and isinstance(body.get("url"), str):
            checked = _read(Registration, body | {"accepts": [STAND_IN]})  # every other field, before we ask anybody
            try:
                body = body | {"accepts": await self._terms(checked.url)}
            except (SellerFailed, InvalidInput) as error:
                raise InvalidInput(
                    f"accepts is missing, and {error.message}", next_step=SEND_ACCEPTS, field="accepts"
                ) from error
        entry = _read(Registration, body)
        if canonical_owner(entry.ownerWalletAddress) != sender:
            raise NotAllowed(
                "ownerWalletAddress is not the address that signed", next_step="register under the signing address"
            )
        if any(canonical_owner(accept.payTo) != sender for accept in entry.accepts):
            raise NotAllowed("accepts pays somebody else", next_step="every payTo must be the owner's address")
        return entry

    async def _register(self, entry: Registration, sender: str) -> Service:
        """Whoever came first has the address, unless its own 402 says that it pays the sender and nobody else."""
        try:
            return await self._store.register(self._ids.new("svc"), entry, sender, self._clock.now())
        except Conflict as conflict:
            try:
                payees = await self._payees(entry.url)
            except (SellerFailed, InvalidInput):
                raise conflict from None
            if payees != {sender}:
                raise
        await self._store.clear_address(entry.url, sender)
        return await self._store.register(self._ids.new("svc"), entry, sender, self._clock.now())

    async def discover(self, request: Request) -> Response:
        services, total = await self._store.search(_query(request))
        return JSONResponse([service.to_json() for service in services], headers={"X-Total-Count": str(total)})

    async def service(self, request: Request) -> Response:
        return JSONResponse((await self._found(request)).to_json())

    async def change(self, request: Request) -> Response:
        return await self._changed(request, lambda body: body)

    async def change_status(self, request: Request) -> Response:
        return await self._changed(request, status_of)

    async def _changed(self, request: Request, words: Callable[[object], object]) -> Response:
        body = await request.body()
        sender = await self._sender(request, body)
        service = await self._found(request)
        _require_owner(service, sender)
        change = _read(Change, words(_json(body)))
        return JSONResponse((await self._store.change(service.id, change, self._clock.now())).to_json())

    async def verify(self, request: Request) -> Response:
        """Ask the service itself: its 402 must pay the owner. Then it is marked verified."""
        service = await self._found(request)
        await self._check_endpoint(service)
        return JSONResponse((await self._store.mark_verified(service.id)).to_json())

    async def rate(self, request: Request) -> Response:
        body = await request.body()
        payer = await self._sender(request, body)
        service, rating = await self._found(request), _read(Rating, _json(body))
        if payer == service.owner:
            raise NotAllowed("owners do not rate themselves")
        await self._require_payment(service, rating, payer)
        rated = await self._store.rate(service.id, rating, payer, self._clock.now())
        average = rated.rating_sum / rated.rating_count
        return JSONResponse({"success": True, "newAverageRating": round(average, 2)})

    async def _require_payment(self, service: Service, rating: Rating, payer: str) -> None:
        """Who rates has paid the service its price, and has not had it back. Raises `NotAllowed` saying what lacks."""
        payment = await self._paid(rating.network, rating.transaction, payer, service.owner)
        if payment is None:
            raise NotAllowed(
                "that transaction does not pay this service from your address",
                next_step="rate with the transaction in your receipt",
            )
        price = await self._store.price_at(service.id, rating.network, payment.asset, payment.at)
        if price is None or payment.amount < price:
            asked = "takes another token" if price is None else f"cost {price} atomic units then, not {payment.amount}"
            raise NotAllowed(f"this service {asked}", next_step="rate with a payment of the listed price")
        if payment.returned >= payment.amount:
            raise NotAllowed("that payment was sent back to you", next_step="rate with a payment that the service kept")

    async def stats(self, request: Request) -> Response:
        service = await self._found(request)
        ratings = await self._store.ratings(service.id)
        return JSONResponse(service.to_json() | {"ratings": ratings, "metrics": []})

    async def metrics(self, request: Request) -> Response:
        return JSONResponse(await self._store.ratings((await self._found(request)).id))

    async def by_owner(self, request: Request) -> Response:
        services = await self._store.by_owner(canonical_owner(request.path_params["address"]))
        return JSONResponse([service.to_json() for service in services])

    async def categories(self, _request: Request) -> Response:
        return JSONResponse(await self._store.categories())

    async def resources(self, request: Request) -> Response:
        """GET /discovery/resources and /discovery/search (x402 v2 §Bazaar)."""
        query = _query(request)
        services, total = await self._store.search(query)
        return JSONResponse(
            {
                "x402Version": 2,
                "items": [service.to_bazaar() for service in services],
                "resources": [service.to_bazaar() for service in services],
                "pagination": {"limit": query.limit, "offset": query.offset, "total": total},
            }
        )

    async def health(self, _request: Request) -> Response:
        await self._store.categories()
        return JSONResponse({"status": "ok", "timestamp": self._clock.now().isoformat()})

    async def _found(self, request: Request) -> Service:
        return await self._store.get(request.path_params["id"])

    async def _sender(self, request: Request, body: bytes) -> str:
        now = self._clock.now()
        sender = verified_address(request.method, request.url.path, body, request.headers, now)
        seconds = int(request.headers["x-owner-time"])
        text = text_of(request.method, request.url.path, body, seconds)
        await self._store.use_signature(hashlib.sha256(text + sender.encode()).digest(), now)
        return sender

    async def _check_endpoint(self, service: Service) -> None:
        if await self._payees(service.registration.url) != {service.owner}:
            raise NotAllowed("the service's own 402 does not pay the owner", next_step="register its true payee")

    async def _payees(self, url: str) -> set[str]:
        """Whom the service itself asks to be paid; raises `SellerFailed` without a 402."""
        return {canonical_owner(str(accept.get("payTo", ""))) for accept in await self._terms(url)}

    async def _terms(self, url: str) -> list[dict[str, object]]:
        """The `accepts` of the service's own 402; raises `SellerFailed` without a 402."""
        status, header, content = await self._ask_for_terms(url)
        if status != 402:
            raise SellerFailed("the service did not answer 402 to an unpaid call", next_step="put a price on it")
        accepts = to_json(read_required(header, content)).get("accepts")
        return [accept for accept in accepts if isinstance(accept, dict)] if isinstance(accepts, list) else []

    async def _ask_for_terms(self, url: str) -> tuple[int, str | None, bytes]:
        """Status, terms header and body of an unpaid call, as far as we read; says little of what went wrong.

        Anybody may have an address asked, so this must neither hold us up nor tell a stranger what is inside.
        """
        content = b""
        try:
            async with asyncio.timeout(PROBE_SECONDS), self._probe.stream("POST", url, json={}) as answer:
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > BODY_BYTES_MAX:
                        raise SellerFailed("the service answers too much", next_step="answer 402 with its terms only")
        except (httpx.HTTPError, TimeoutError) as error:
            raise SellerFailed("the service does not answer", next_step="start it, then verify again") from error
        return answer.status_code, answer.headers.get(PAYMENT_REQUIRED), content


def registry_app(
    store: RegistryStore, *, clock: Clock, ids: Ids, paid: PaidLookup, probe: httpx.AsyncClient
) -> RequestContext:
    """The ASGI application."""
    face = RegistryApp(store, clock=clock, ids=ids, paid=paid, probe=probe)
    app = Starlette(
        routes=[
            Route("/services/register", face.register, methods=["POST"]),
            Route("/services/discover", face.discover),
            Route("/services/owner/{address}", face.by_owner),
            Route("/services", face.discover),
            Route("/services/{id}", face.service),
            Route("/services/{id}", face.change, methods=["PATCH"]),
            Route("/services/{id}", face.replace, methods=["PUT"]),
            Route("/services/{id}/status", face.change_status, methods=["PATCH"]),
            Route("/services/{id}/stats", face.stats),
            Route("/services/{id}/metrics", face.metrics),
            Route("/services/{id}/verify", face.verify, methods=["POST"]),
            Route("/services/{id}/rate", face.rate, methods=["POST"]),
            Route("/categories", face.categories),
            Route("/discovery/resources", face.resources),
            Route("/discovery/search", face.resources),
            Route("/health", face.health),
            Route("/metrics", metrics_page),
        ]
    )
    install_error_handlers(app)
    return RequestContext(BodyLimit(app, BODY_BYTES_MAX))


def _listed(service: Service, status: int) -> Response:
    """The entry bare, as most clients read it, and wrapped, as the templates do."""
    return JSONResponse(service.to_json() | {"success": True, "service": service.to_json()}, status)


def _require_owner(service: Service, sender: str) -> None:
    if service.owner != sender:
        raise NotAllowed("only the owner may change a service", next_step="sign with the owner's key")


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the body is not JSON: {error}", next_step="send one JSON object") from error


def _read(model: type[M], value: object) -> M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [{"field": ".".join(map(str, e["loc"])), "problem": e["msg"]} for e in error.errors()]
        raise InvalidInput("Validation failed", next_step="mend the named fields", fields=problems) from error


def _query(request: Request) -> Query:
    values: dict[str, object] = dict(request.query_params)
    values["tags"] = [tag for text in request.query_params.getlist("tags") for tag in text.split(",") if tag]
    return _read(Query, values)
