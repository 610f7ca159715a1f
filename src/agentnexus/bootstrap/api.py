"""The application of the API process: every router, the pages, and the paid routes behind their prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import httpx
from fastapi import APIRouter
from starlette.types import ASGIApp

from agentnexus.api.app import create_api, guarded
from agentnexus.api.grant_routes import grant_routes
from agentnexus.api.hiring_routes import hiring_routes
from agentnexus.api.metrics_routes import metrics_routes
from agentnexus.api.money_routes import WalletView, money_routes
from agentnexus.api.preference_routes import preference_routes
from agentnexus.api.token_routes import token_routes
from agentnexus.bootstrap.buying import Buying
from agentnexus.bootstrap.gas import contracts_checks, gas_routes, load_contracts, open_paymaster
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.pages import open_doors
from agentnexus.bootstrap.parts import Parts, Reception
from agentnexus.bootstrap.prepaid import prepaid_hires
from agentnexus.bootstrap.purchasing import routes_of as purchase_routes_of
from agentnexus.bootstrap.wallets import routes_of as wallet_routes_of
from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.escrow.routes import escrow_routes, no_escrow_routes
from agentnexus.hiring.cashier import Wallet
from agentnexus.marketplace.executions.routes import execution_routes
from agentnexus.marketplace.listings.routes import listing_routes
from agentnexus.marketplace.sell import REQUEST_BYTES_MAX, seller_app, sold
from agentnexus.markets.x402.sell import SellerMiddleware
from agentnexus.platform.http import Check
from agentnexus.web.app import create_pages, shared_pages
from agentnexus.workflows.desk import ROUTERS
from agentnexus.workflows.dialect import health_json

API = "/api/v1"
FORM_BYTES = 64 * 1024  # what a multipart form adds around a file
SIGN_IN_BYTES_MAX = 64 * 1024  # strangers send these


@dataclass(frozen=True, slots=True)
class Composed:
    """The whole application of the API process, and in it what puts the paid routes behind their prices."""

    app: ASGIApp
    till: SellerMiddleware


def compose(parts: Parts) -> Composed:
    """Every part put together."""
    ground, selling, reception = parts.ground, parts.selling, Reception.of(parts)
    doors = open_doors(parts, reception)

    async def figures() -> Mapping[str, object]:
        return health_json(await parts.room.workflows.health())

    app = create_api(
        routers=[*(("", router) for router in ROUTERS), *_routers(parts, reception)],
        pages=[*seller_app(selling.executions).routes, *create_pages(doors)],
        callers=reception.callers,
        limiter=reception.limiter,
        checks=_checks(ground, parts.chain, parts.buying.http) | {"agents": selling.stock.check},
        clock=ground.clock,
        version=version("agentnexus"),
        figures=figures,
    )
    # A browser that follows a workflow's address gets its page; programs get JSON.
    app.router.routes[:0] = shared_pages(doors)
    app.state.workflows = parts.room.workflows
    app.state.desk, app.state.streams = parts.desk, parts.desk.streams
    app.state.asset = parts.chain.usdc
    paid = sold(
        app,
        selling.listed,
        facilitator=selling.facilitator,
        reservations=selling.reservations,
        public_url=parts.api_url,
        clock=ground.clock,
        ids=ground.ids,
    )
    limits = {"/x402/": REQUEST_BYTES_MAX, f"{API}/auth/": SIGN_IN_BYTES_MAX, "/connect": SIGN_IN_BYTES_MAX}
    return Composed(guarded(paid, ground.settings.max_upload_bytes + FORM_BYTES, limits), paid)


def _routers(parts: Parts, reception: Reception) -> list[tuple[str, APIRouter]]:
    """Each with the prefix it is put at."""
    ground, chain, buying, selling, wallets = parts.ground, parts.chain, parts.buying, parts.selling, parts.wallets
    budgets, grants = reception.budgets, reception.grants
    prepaid = prepaid_hires(parts.escrow, buying.hiring, buying.books, chain.usdc, ground.clock)
    paymaster = open_paymaster(ground, chain, buying.books) if wallets is None else wallets.paymaster
    escrow = no_escrow_routes() if parts.escrow is None else escrow_routes(parts.escrow, ground.ids)
    routers = [
        hiring_routes(buying.hiring, budgets, chain.usdc, ground.ids, prepaid=prepaid, rater=buying.rater),
        preference_routes(buying.hiring.records),
        money_routes(buying.books, budgets, *_wallets(chain, buying)),
        grant_routes(grants, budgets, ground.ids),
        gas_routes(paymaster),
        wallet_routes_of(wallets, reception.signing_in.passkeys),
        purchase_routes_of(parts.purchasing, ground),
        *reception.signing_in.routers(),
        token_routes(reception.tokens),
        metrics_routes(buying.books, reception.economics, grants.approvers, budgets),
        listing_routes(selling.listings, ground.clock, parts.api_url),
        execution_routes(selling.executions, ground.clock),
    ]
    return [*((API, router) for router in routers), ("", escrow)]


def _wallets(chain: Chain, buying: Buying) -> tuple[WalletView, list[WalletView]]:
    """The wallet on the EVM chain, and those on other networks."""
    others = [] if buying.solana is None else [_wallet(buying.solana.wallet, buying.solana.usdc)]
    return _wallet(buying.wallet, chain.usdc), others


def _wallet(wallet: Wallet, asset: Asset) -> WalletView:
    async def on_chain() -> Money:
        return await wallet.rail.balance(asset)

    return WalletView(
        network=asset.network,
        address=wallet.address,
        account=wallet.account(asset),
        asset=asset,
        on_chain=on_chain,
    )


def _checks(ground: Ground, chain: Chain, http: httpx.AsyncClient) -> dict[str, Check]:
    """The parts that this process cannot work without come first; then its neighbours."""

    async def database() -> None:
        async with ground.database.connection() as connection:
            await connection.execute("select 1")

    async def evm() -> None:
        await chain.sender.rpc.chain_id()

    checks: dict[str, Check] = {"database": database, "chain": evm, **contracts_checks(ground, load_contracts(ground))}
    neighbours = {"facilitator": ground.settings.facilitator_url, "registry": ground.settings.registry_url}
    for name, url in neighbours.items():
        if url is not None:
            checks[name] = partial(_answers, http, url)
    return checks


async def _answers(http: httpx.AsyncClient, url: str) -> None:
    try:
        answer = await http.get(f"{url}/health")
    except httpx.HTTPError as error:
        raise Unavailable(f"{url} does not answer: {error or type(error).__name__}") from error
    if answer.status_code != 200:
        raise Unavailable(f"{url} answered {answer.status_code}")
