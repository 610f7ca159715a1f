"""Server processes of the x402 benchmark on Solana: ``python -m bench.x402_solana_servers <role> <settings as JSON>``.

Roles as in `bench.x402_servers`: ``ours`` (seller with the facilitator in process), ``official`` (FastAPI and the
official middleware) and ``official-facilitator`` (the official facilitator behind its three routes, in threads: its
calls block).
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp
from x402.schemas import PaymentPayload, PaymentRequirements, SettleResponse, VerifyResponse

from agentnexus.core.clock import SystemClock
from agentnexus.core.money import Money
from agentnexus.devnet.solana.accounts import solana_accounts
from agentnexus.markets.x402.pricing import PricedRoute
from agentnexus.markets.x402.reservations_postgres import PostgresReservations
from agentnexus.markets.x402.sell import SellerMiddleware
from agentnexus.markets.x402.svm.facilitator import SolanaFacilitator
from agentnexus.markets.x402.svm.pricing import WithBlockhash, exact_on_solana
from agentnexus.markets.x402.svm.settle import TransferSettler
from agentnexus.markets.x402.svm.settlements import Settlements
from agentnexus.platform.database import Database
from agentnexus.rails.solana.cluster import Cluster
from agentnexus.rails.solana.networks import DEVNET, NetworkKind
from agentnexus.rails.solana.rpc import SolanaRpc
from agentnexus.rails.solana.signer import LocalSigner
from bench.x402_servers import Roles, Settings, bare_app, command, three_routes

SPONSORS = {"ours": "relayer", "official": "alice"}


def priced(stack: str) -> PaymentRequirements:
    """What a stack's server asks for; each has a fee payer and a payee of its own."""
    accounts = solana_accounts()
    seller = {"ours": "seller-1", "official": "seller-2"}[stack]
    price = Money(DEVNET.usdc, 1000)
    return exact_on_solana(price, accounts[seller].address, fee_payer=accounts[SPONSORS[stack]].address)


def signer_of(name: str) -> LocalSigner:
    """The rail's signer of a development account."""
    return LocalSigner(bytes(solana_accounts()[name].keypair), NetworkKind.TESTNET)


async def ours(settings: Settings) -> ASGIApp:
    """Our seller: Postgres reservations, the facilitator in process, a recent blockhash in each 402."""
    database = await Database.open(settings["database_url"])
    cluster = Cluster(SolanaRpc(settings["rpc_url"]))
    settler = TransferSettler(
        cluster, DEVNET.caip2, [signer_of(SPONSORS["ours"])], Settlements(database), SystemClock()
    )

    async def latest() -> tuple[str, int]:
        found = await cluster.latest_blockhash()
        return str(found.blockhash), found.last_valid_block_height

    return SellerMiddleware(
        bare_app(),
        routes=[PricedRoute("GET /paid", WithBlockhash([priced("ours")], latest, SystemClock()))],
        facilitator=SolanaFacilitator(settler, [DEVNET.usdc]),
        reservations=PostgresReservations(database, settled_here=True),
    )


async def official(settings: Settings) -> ASGIApp:
    """The official middleware, hinting blockhashes too, asking an official facilitator over HTTP."""
    from x402.http import FacilitatorConfig, HTTPFacilitatorClient, PaymentOption, RouteConfig
    from x402.http.middleware.fastapi import PaymentMiddlewareASGI
    from x402.mechanisms.svm.exact import ExactSvmServerScheme
    from x402.schemas import AssetAmount

    from x402 import x402ResourceServer

    asked = priced("official")
    server = x402ResourceServer(HTTPFacilitatorClient(FacilitatorConfig(url=settings["facilitator_url"])))
    server.register(DEVNET.caip2, ExactSvmServerScheme(settings["rpc_url"]))  # type: ignore[arg-type]  # its classes do not match its protocol
    price = AssetAmount(amount=asked.amount, asset=asked.asset, extra={})
    option = PaymentOption(scheme="exact", pay_to=asked.pay_to, network=DEVNET.caip2, price=price)
    app = bare_app()
    app.add_middleware(PaymentMiddlewareASGI, routes={"GET /paid": RouteConfig(accepts=option)}, server=server)
    return app


async def official_facilitator(settings: Settings) -> ASGIApp:
    """The official facilitator with the routes its documentation shows, each call in a thread."""
    from x402.mechanisms.svm.exact import register_exact_svm_facilitator
    from x402.mechanisms.svm.signers import FacilitatorKeypairSigner

    from x402 import x402FacilitatorSync

    inner = x402FacilitatorSync()
    keypair = solana_accounts()[SPONSORS["official"]].keypair
    register_exact_svm_facilitator(inner, FacilitatorKeypairSigner(keypair, settings["rpc_url"]), DEVNET.caip2)

    async def verify(payload: PaymentPayload, requirements: PaymentRequirements) -> VerifyResponse:
        return await asyncio.to_thread(inner.verify, payload, requirements)

    async def settle(payload: PaymentPayload, requirements: PaymentRequirements) -> SettleResponse:
        return await asyncio.to_thread(inner.settle, payload, requirements)

    return three_routes(verify, settle, inner.get_supported)


ROLES: Roles = {
    "ours": ours,
    "official": official,
    "official-facilitator": official_facilitator,
}

if __name__ == "__main__":
    command(ROLES)
