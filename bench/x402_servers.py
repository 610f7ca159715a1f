"""Server processes of the x402 benchmark: ``python -m bench.x402_servers <role> <settings as JSON>``.

Roles: ``ours`` (seller with the facilitator in process), ``official`` (FastAPI and the official middleware) and
``official-facilitator`` (the official facilitator behind its three routes; ``async`` as documented).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping

import uvicorn
import uvloop
from fastapi import FastAPI, Request
from starlette.types import ASGIApp
from x402.schemas import PaymentPayload, PaymentRequirements, SettleResponse, SupportedResponse, VerifyResponse

from agentnexus.core.money import Asset, Money
from agentnexus.devnet.accounts import development_accounts
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.pricing import PricedRoute, exact
from agentnexus.markets.x402.reservations_postgres import PostgresReservations
from agentnexus.markets.x402.sell import SellerMiddleware
from agentnexus.platform.database import Database
from agentnexus.platform.process import die_with_parent
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.transactions import TransactionSender

NETWORK = "eip155:31337"
Settings = Mapping[str, str]
Roles = Mapping[str, Callable[[Settings], Coroutine[None, None, ASGIApp]]]
Verifies = Callable[[PaymentPayload, PaymentRequirements], Awaitable[VerifyResponse]]
Settles = Callable[[PaymentPayload, PaymentRequirements], Awaitable[SettleResponse]]


def priced(settings: Settings) -> PaymentRequirements:
    """What every server of the benchmark asks for."""
    asset = Asset("USDC", 6, f"{NETWORK}/erc20:{settings['asset']}")
    pay_to = settings["pay_to"]
    return exact(Money(asset, 1000), pay_to, domain_name="USD Coin", domain_version="2", timeout_seconds=300)


def bare_app() -> FastAPI:
    """The work that is sold: next to nothing, so that the rest shows."""
    app = FastAPI()

    @app.get("/paid")
    async def paid() -> dict[str, str]:
        return {"result": "the answer"}

    @app.get("/free")
    async def free() -> dict[str, str]:
        return {"result": "the answer"}

    return app


async def ours(settings: Settings) -> ASGIApp:
    """Our seller: Postgres reservations, the facilitator in process."""
    database = await Database.open(settings["database_url"])
    sender = await TransactionSender.open(database, Rpc(settings["rpc_url"]), 31337)
    asset = Asset("USDC", 6, f"{NETWORK}/erc20:{settings['asset']}")
    facilitator = Facilitator.on(sender, development_accounts()["relayer"].signer, [asset])
    return SellerMiddleware(
        bare_app(),
        routes=[PricedRoute("GET /paid", [priced(settings)])],
        facilitator=facilitator,
        reservations=PostgresReservations(database, settled_here=True),
    )


async def official(settings: Settings) -> ASGIApp:
    """The official middleware, asking an official facilitator over HTTP."""
    from x402.http import FacilitatorConfig, HTTPFacilitatorClient, PaymentOption, RouteConfig
    from x402.http.middleware.fastapi import PaymentMiddlewareASGI
    from x402.mechanisms.evm.exact import ExactEvmServerScheme
    from x402.schemas import AssetAmount

    from x402 import x402ResourceServer

    asked = priced(settings)
    server = x402ResourceServer(HTTPFacilitatorClient(FacilitatorConfig(url=settings["facilitator_url"])))
    scheme = ExactEvmServerScheme()  # type: ignore[no-untyped-call]  # the package leaves it untyped
    server.register(NETWORK, scheme)  # type: ignore[arg-type]  # its own classes do not match its protocol
    price = AssetAmount(amount=asked.amount, asset=asked.asset, extra=asked.extra)
    option = PaymentOption(scheme="exact", pay_to=asked.pay_to, network=NETWORK, price=price)
    app = bare_app()
    app.add_middleware(PaymentMiddlewareASGI, routes={"GET /paid": RouteConfig(accepts=option)}, server=server)
    return app


async def official_facilitator(settings: Settings) -> ASGIApp:
    """The official async facilitator with the routes its documentation shows."""
    from x402.mechanisms.evm.exact import register_exact_evm_facilitator
    from x402.mechanisms.evm.signers import FacilitatorWeb3Signer

    from x402 import x402Facilitator

    inner = x402Facilitator()
    signer = FacilitatorWeb3Signer(development_accounts()["alice"].private_key, settings["rpc_url"])
    register_exact_evm_facilitator(inner, signer, NETWORK)
    return three_routes(inner.verify, inner.settle, inner.get_supported)


def three_routes(verifies: Verifies, settles: Settles, supports: Callable[[], SupportedResponse]) -> FastAPI:
    """The HTTP face that the documentation of the official facilitator shows."""
    app = FastAPI()

    def read(body: dict[str, object]) -> tuple[PaymentPayload, PaymentRequirements]:
        payload = PaymentPayload.model_validate(body["paymentPayload"])
        return payload, PaymentRequirements.model_validate(body["paymentRequirements"])

    @app.post("/verify")
    async def verify(request: Request) -> dict[str, object]:
        return (await verifies(*read(await request.json()))).model_dump(by_alias=True, exclude_none=True)

    @app.post("/settle")
    async def settle(request: Request) -> dict[str, object]:
        return (await settles(*read(await request.json()))).model_dump(by_alias=True, exclude_none=True)

    @app.get("/supported")
    async def supported() -> dict[str, object]:
        return supports().model_dump(by_alias=True, exclude_none=True)

    return app


ROLES: Roles = {
    "ours": ours,
    "official": official,
    "official-facilitator": official_facilitator,
}


async def serve(app: ASGIApp, port: int) -> None:
    """Until killed."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off", access_log=False)
    await uvicorn.Server(config).serve()


def command(roles: Roles) -> None:
    """The command line of a module of roles."""

    async def main(role: str, settings: Settings) -> None:
        await serve(await roles[role](settings), int(settings["port"]))

    die_with_parent(parent=os.getppid())
    uvloop.run(main(sys.argv[1], json.loads(sys.argv[2])))


if __name__ == "__main__":
    command(ROLES)
