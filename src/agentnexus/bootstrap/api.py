"""The application of the API process: every router, the pages, and the paid routes behind their prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import httpx
from starlette.types import ASGIApp

from agentnexus.api.app import create_api, guarded
from agentnexus.api.grant_routes import grant_routes
from agentnexus.api.hiring_routes import hiring_routes
from agentnexus.api.metrics_routes import metrics_routes
from agentnexus.api.money_routes import WalletView, money_routes
from agentnexus.api.preference_routes import preference_routes
from agentnexus.api.token_routes import token_routes
from agentnexus.bootstrap.buying import Buying
from agentnexus.bootstrap.desks import webhook_trial
from agentnexus.bootstrap.gas import contracts_checks, gas_routes, load_contracts, open_paymaster
from agentnexus.bootstrap.granting import open_grants
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.prepaid import prepaid_hires
from agentnexus.bootstrap.purchasing import Purchasing
from agentnexus.bootstrap.purchasing import routes_of as purchase_routes_of
from agentnexus.bootstrap.selling import Selling
from agentnexus.bootstrap.signing_in import SigningIn, open_signing_in
from agentnexus.bootstrap.wallets import routes_of as wallet_routes_of
from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.escrow.routes import escrow_routes, no_escrow_routes
from agentnexus.escrow.service import Escrow
from agentnexus.hiring.cashier import Wallet
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.ledger.economics import Economics
from agentnexus.ledger.outlook import Outlook
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.marketplace.executions.routes import execution_routes
from agentnexus.marketplace.listings.routes import listing_routes
from agentnexus.marketplace.sell import REQUEST_BYTES_MAX, seller_app, sold
from agentnexus.markets.x402.sell import SellerMiddleware
from agentnexus.platform.http import Check
from agentnexus.platform.settings import Environment
from agentnexus.wallets.service import Wallets
from agentnexus.web.adapters.house import house_doors
from agentnexus.web.adapters.money import HouseMoney
from agentnexus.web.adapters.prepaid import HousePrepaid, NoPrepaid
from agentnexus.web.adapters.purchases import HousePurchases
from agentnexus.web.adapters.saved import HouseSaved
from agentnexus.web.adapters.schedules import HouseSchedules
from agentnexus.web.adapters.undeployed import NoPurchases, NoWallets
from agentnexus.web.adapters.wallet import HouseWallet
from agentnexus.web.adapters.webhooks import HouseWebhooks
from agentnexus.web.app import create_pages, shared_pages
from agentnexus.web.doors import PurchasesDoor, WalletDoor
from agentnexus.workflows.desk import ROUTERS, Desk
from agentnexus.workflows.dialect import health_json
from agentnexus.workflows.worker import WorkflowRoom

API = "/api/v1"
FORM_BYTES = 64 * 1024  # what a multipart form adds around a file
SIGN_IN_BYTES_MAX = 64 * 1024  # strangers send these


@dataclass(frozen=True, slots=True)
class Composed:
    """The whole application of the API process, and in it what puts the paid routes behind their prices."""

    app: ASGIApp
    till: SellerMiddleware


def compose(
    ground: Ground,
    chain: Chain,
    buying: Buying,
    selling: Selling,
    room: WorkflowRoom,
    *,
    desk: Desk,
    escrow: Escrow | None = None,
    wallets: Wallets | None = None,
    purchasing: Purchasing | None = None,
) -> Composed:
    """Every part put together."""
    settings = ground.settings
    budgets = PersonalBudgets(buying.books, chain.usdc)
    api_url = settings.api_url or ""
    local_user = settings.local_user if settings.environment is Environment.LOCAL else None
    tokens = Tokens(ground.database, ground.entropy)
    callers = Callers(tokens, local_user=local_user)
    limiter = Limiter(ground.database, per_minute=settings.requests_per_minute)
    signing_in = open_signing_in(ground, chain, callers, tokens, limiter)
    own_wallet, bought = _own_money(ground, wallets, purchasing, signing_in)
    grants, economics = open_grants(ground, chain, buying), Economics(ground.database, chain.usdc, buying.parity)
    doors = house_doors(
        workflows=room.workflows,
        listings=selling.listings,
        hiring=buying.hiring,
        money=HouseMoney(
            budgets,
            economics,
            grants,
            outlook=Outlook(ground.database, ground.clock),
            clock=ground.clock,
            ids=ground.ids,
        ),
        prepaid=NoPrepaid() if escrow is None else HousePrepaid(escrow),
        wallet=own_wallet,
        purchases=bought,
        saved=HouseSaved(desk.templates, room.workflows),
        schedules=HouseSchedules(desk.schedules, desk.templates, room.workflows, chain.usdc),
        webhooks=HouseWebhooks(desk.webhooks, webhook_trial(ground, buying)),
        sign_in=signing_in.page_door(),
        callers=callers,
        asset=chain.usdc,
        api_url=api_url,
        limiter=limiter,
    )

    async def figures() -> Mapping[str, object]:
        return health_json(await room.workflows.health())

    prepaid = prepaid_hires(escrow, buying.hiring, buying.books, chain.usdc, ground.clock)
    app = create_api(
        routers=[
            *(("", router) for router in ROUTERS),
            (API, hiring_routes(buying.hiring, budgets, chain.usdc, ground.ids, prepaid=prepaid, rater=buying.rater)),
            (API, preference_routes(buying.hiring.records)),
            (API, money_routes(buying.books, budgets, *_wallets(chain, buying))),
            (API, grant_routes(grants, budgets, ground.ids)),
            (API, gas_routes(open_paymaster(ground, chain, buying.books) if wallets is None else wallets.paymaster)),
            (API, wallet_routes_of(wallets, signing_in.passkeys)),
            (API, purchase_routes_of(purchasing, ground)),
            *((API, router) for router in signing_in.routers()),
            (API, token_routes(tokens)),
            (API, metrics_routes(buying.books, economics, grants.approvers, budgets)),
            (API, listing_routes(selling.listings, ground.clock, api_url)),
            (API, execution_routes(selling.executions, ground.clock)),
            ("", escrow_routes(escrow, ground.ids) if escrow is not None else no_escrow_routes()),
        ],
        pages=[*seller_app(selling.executions).routes, *create_pages(doors)],
        callers=callers,
        limiter=limiter,
        checks=_checks(ground, chain, buying.http) | {"agents": selling.stock.check},
        clock=ground.clock,
        version=version("agentnexus"),
        figures=figures,
    )
    # A browser that follows a workflow's address gets its page; programs get JSON.
    app.router.routes[:0] = shared_pages(doors)
    app.state.workflows = room.workflows
    app.state.desk, app.state.streams = desk, desk.streams
    app.state.asset = chain.usdc
    paid = sold(
        app,
        selling.listed,
        facilitator=selling.facilitator,
        reservations=selling.reservations,
        public_url=api_url,
        clock=ground.clock,
        ids=ground.ids,
    )
    limits = {"/x402/": REQUEST_BYTES_MAX, f"{API}/auth/": SIGN_IN_BYTES_MAX, "/connect": SIGN_IN_BYTES_MAX}
    return Composed(guarded(paid, settings.max_upload_bytes + FORM_BYTES, limits), paid)


def _own_money(
    ground: Ground, wallets: Wallets | None, purchasing: Purchasing | None, signing_in: SigningIn
) -> tuple[WalletDoor, PurchasesDoor]:
    """The pages of people's own wallets, and of what they buy with them."""
    if wallets is None:
        return NoWallets(), NoPurchases()
    play_money = ground.settings.environment is Environment.LOCAL
    own = HouseWallet(wallets, signing_in.passkeys.of, play_money=play_money)
    if purchasing is None:
        return own, NoPurchases()
    return own, HousePurchases(purchasing.purchases, purchasing.entitlements, own)


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
