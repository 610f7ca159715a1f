"""Parts of the x402 tests: a purse straight on a rail, a shop with a counted handler, and a scripted facilitator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from x402.schemas import PaymentRequirements, SettleResponse, SupportedResponse, VerifyResponse

from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Hold, Payment, PaymentRequest
from agentnexus.markets.x402.facilitation import Facilitation
from agentnexus.markets.x402.pricing import PricedRoute, exact
from agentnexus.markets.x402.reservations import Claim, MemoryReservations, Reservation, Reservations
from agentnexus.markets.x402.sell import SellerMiddleware
from agentnexus.markets.x402.turn import CheckoutLimits
from agentnexus.markets.x402.wire import PAYMENT_REQUIRED, decode_header, encode_header
from agentnexus.rails.evm.eip3009 import Authorization, SignedAuthorization, nonce_for
from agentnexus.rails.evm.signer import EvmSigner
from agentnexus.rails.evm.typed_data import Domain
from agentnexus.rails.evm.wallet import EvmRail
from agentnexus.rails.solana.authorize import Authorizations

PRICE = 20_000
START = int(time.time())  # one for all, so that signing twice gives the same bytes
TOKEN = "0x" + "44" * 20
PAYEE = "0x" + "22" * 20


class RailPurse:
    """A purse without budget or books: every call goes to the rail, holds are remembered by binding."""

    def __init__(self, rail: EvmRail | Authorizations, job: str = "job-1") -> None:
        self.rail = rail
        self._job = job
        self.holds: dict[str, Hold] = {}
        self.refunds: list[str] = []

    async def hold(self, request: PaymentRequest) -> Hold:
        if request.binding not in self.holds:
            self.holds[request.binding] = await self.rail.open(request, f"{self._job}:{request.binding}")
        return self.holds[request.binding]

    async def pay(self, request: PaymentRequest) -> Payment:
        return await self.rail.send(request, request.binding)

    async def release(self, hold: Hold, proof: dict[str, object]) -> Payment:
        return await self.rail.settle(hold, proof)

    async def refund(self, hold: Hold, reason: str) -> Payment:
        self.refunds.append(reason)
        return await self.rail.cancel(hold)

    async def lookup(self, payment: Payment) -> Payment:
        return await self.rail.lookup(payment)


class ScriptedFacilitator:
    """A foreign facilitator that answers as told, with what a real chain does not show on demand.

    `settle_script` is used from the left; when it is empty every settlement succeeds.
    """

    def __init__(self) -> None:
        self.verify_reason: str | None = None
        self.settle_script: list[SettleResponse | Exception] = []
        self.verified = 0
        self.settled = 0

    def get_supported(self) -> SupportedResponse:
        return SupportedResponse(kinds=[])

    async def verify(self, payload: object, requirements: object) -> VerifyResponse:
        self.verified += 1
        await asyncio.sleep(0)
        return VerifyResponse(is_valid=self.verify_reason is None, invalid_reason=self.verify_reason)

    async def settle(self, payload: object, requirements: object) -> SettleResponse:
        self.settled += 1
        await asyncio.sleep(0)
        if self.settle_script:
            step = self.settle_script.pop(0)
            if isinstance(step, Exception):
                raise step
            return step
        return SettleResponse(success=True, transaction="0x" + "ab" * 32, network="eip155:31337", payer=PAYEE)


def outcome(reason: str, transaction: str = "") -> SettleResponse:
    """A settlement that did not succeed."""
    return SettleResponse(success=False, error_reason=reason, transaction=transaction, network="eip155:31337")


@dataclass
class Work:
    """The seller's work: counts its runs, and waits, fails or overflows when told to."""

    runs: int = 0
    status: int = 200
    gate: asyncio.Event | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None
    size: int = 0
    chunks: int = 3
    seen: list[object] = field(default_factory=list)

    async def report(self, request: Request) -> Response:
        body = await request.body()
        await self._work(request)
        content = {"run": self.runs, "echo": body.decode(), "path": request.url.path, "pad": "x" * self.size}
        return JSONResponse(content, self.status, headers={"x-work": str(self.runs)})

    async def stream(self, request: Request) -> Response:
        await self._work(request)

        async def chunks() -> AsyncIterator[bytes]:
            for number in range(self.chunks):
                yield f"part {number} of run {self.runs}\n".encode()

        return StreamingResponse(chunks(), self.status, media_type="text/plain")

    async def _work(self, request: Request) -> None:
        self.runs += 1
        self.seen.append(getattr(request.state, "x402", None))
        self.started.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/report", self.report, methods=["GET", "POST"]),
                Route("/other", self.report, methods=["GET", "POST"]),
                Route("/agents/{name}", self.report, methods=["POST"]),
                Route("/stream", self.stream),
                Route("/free", self.report),
            ]
        )


def requirement(
    amount: int = PRICE, *, asset: str = TOKEN, pay_to: str = PAYEE, network: str = "eip155:31337"
) -> PaymentRequirements:
    token = Asset("USDC", 6, f"{network}/erc20:{asset.lower()}")
    return exact(Money(token, amount), pay_to, domain_name="USD Coin", domain_version="2")


ROUTES = ("GET /report", "POST /report", "GET /other", "POST /agents/{name}")


@dataclass
class Shop:
    """A priced app in this process, and a client that does not pay by itself."""

    work: Work
    http: httpx.AsyncClient
    reservations: Reservations
    facilitator: Facilitation

    async def header(self, path: str = "/report", method: str = "GET", **arguments: object) -> dict[str, object]:
        response = await self.http.request(method, path, **arguments)  # type: ignore[arg-type]  # passed through
        assert response.status_code == 402, response.text
        return decode_header(response.headers[PAYMENT_REQUIRED], part=PAYMENT_REQUIRED)


@asynccontextmanager
async def open_shop(
    facilitator: Facilitation,
    *,
    accepts: Sequence[PaymentRequirements] | None = None,
    reservations: Reservations | None = None,
    work: Work | None = None,
    limits: CheckoutLimits | None = None,
    routes: Sequence[PricedRoute] | None = None,
) -> AsyncIterator[Shop]:
    work = work or Work()
    price = accepts or (requirement(),)
    reservations = reservations or MemoryReservations()
    priced = routes or [
        *(PricedRoute(pattern, price, description="a report") for pattern in ROUTES),
        PricedRoute("GET /stream", price, streaming=True),
    ]
    app = SellerMiddleware(work.app(), routes=priced, facilitator=facilitator, reservations=reservations, limits=limits)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield Shop(work, http, reservations, facilitator)


async def late_copy(
    shop: Shop, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> asyncio.Task[httpx.Response]:
    """A copy of the request that has found the store empty and waits for its check."""
    reservations, looked = shop.reservations, asyncio.Event()
    find = reservations.find

    async def noticed(claim: Claim) -> Reservation | None:
        found = await find(claim)
        looked.set()
        return found

    monkeypatch.setattr(reservations, "find", noticed)
    copy = asyncio.create_task(shop.http.get("/report", headers=headers))
    async with asyncio.timeout(20):
        await looked.wait()
    monkeypatch.setattr(reservations, "find", find)
    return copy


async def sign(
    signer: EvmSigner,
    asked: PaymentRequirements,
    key: str,
    *,
    valid_for: int = 3600,
    valid_after: int = 0,
    value: int | None = None,
    payee: str | None = None,
    chain_id: int = 31337,
) -> dict[str, object]:
    """The scheme payload of an `exact` payment, with whatever terms the test wants wrong."""
    authorization = Authorization(
        payer=signer.public_id,
        payee=payee or asked.pay_to.lower(),
        value=int(asked.amount) if value is None else value,
        valid_after=valid_after,
        valid_before=START + valid_for,
        nonce=nonce_for(key),
    )
    domain = Domain("USD Coin", "2", chain_id, asked.asset.lower())
    signature = await signer.sign(authorization.digest(domain))
    return SignedAuthorization(authorization, signature).to_json()


def v2_payment(asked: PaymentRequirements, payload: dict[str, object], **more: object) -> dict[str, str]:
    """Headers of a v2 payment."""
    accepted = asked.model_dump(mode="json", by_alias=True)
    return {"PAYMENT-SIGNATURE": encode_header({"x402Version": 2, "accepted": accepted, "payload": payload, **more})}


def v1_payment(payload: dict[str, object], network: str = "eip155:31337") -> dict[str, str]:
    """Headers of a v1 payment."""
    return {"X-PAYMENT": encode_header({"x402Version": 1, "scheme": "exact", "network": network, "payload": payload})}


def identified(identifier: str) -> dict[str, object]:
    """The payment-identifier extension as a client sends it."""
    return {"extensions": {"payment-identifier": {"info": {"required": False, "id": identifier}}}}
