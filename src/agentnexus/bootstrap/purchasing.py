"""Buying runs on the chain, wired: the API begins and runs, the worker ends, settles, follows and compares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter

from agentnexus.bootstrap.gas import load_contracts
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.stock import till_of
from agentnexus.bootstrap.upkeep import RECONCILE_SECONDS, repeat
from agentnexus.ledger.books import Books
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.marketplace.entitlements.service import Entitlements
from agentnexus.marketplace.entitlements.store import EntitlementStore
from agentnexus.marketplace.executions.service import Executions
from agentnexus.marketplace.listings.service import Listings
from agentnexus.marketplace.purchases.acts import Acts
from agentnexus.marketplace.purchases.market import Market
from agentnexus.marketplace.purchases.mirror import Mirror
from agentnexus.marketplace.purchases.reconcile import reconcile
from agentnexus.marketplace.purchases.routes import no_purchase_routes, purchase_routes
from agentnexus.marketplace.purchases.service import Purchases
from agentnexus.platform.wakeups import Wakeups
from agentnexus.rails.evm.indexer.indexer import Indexer
from agentnexus.rails.evm.token import Token
from agentnexus.wallets.service import Wallets

FORGET_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Purchasing:
    """What a process buys and runs with."""

    market: Market
    purchases: Purchases
    entitlements: Entitlements
    mirror: Mirror


@asynccontextmanager
async def open_purchasing(
    ground: Ground,
    chain: Chain,
    books: Books,
    wakeups: Wakeups,
    *,
    wallets: Wallets | None,
    executions: Executions | None = None,
) -> AsyncIterator[Purchasing | None]:
    """None where there are no wallets: then there are no contracts, or no key that orchestrates.

    Args:
        executions: where agents run; without, this process only ends and settles what others began.
    """
    manifest = load_contracts(ground)
    if wallets is None or manifest is None:
        yield None
        return
    rpc, clock, ids = chain.sender.rpc, ground.clock, ground.ids
    market = Market(
        chain.sender,
        manifest.escrow(rpc),
        manifest.entitlements(rpc),
        Token(rpc, chain.usdc.reference, chain.sender.network.chain_id),
        chain.signer(ground.settings.relayer_key, "relayer_key"),
    )
    # Where users live and who they are is checked here, once there is something that knows: `checks`.
    acts = Acts(
        market,
        wallets,
        Listings(ground.database, clock, till_of(chain)),
        books,
        PersonalBudgets(books, chain.usdc),
        EntitlementStore(ground.database),
        clock,
    )
    purchases = Purchases(ground.database, acts, wakeups, clock=clock, ids=ids)
    entitlements = Entitlements(ground.database, purchases, executions, wakeups, clock=clock, ids=ids)
    mirror = Mirror(purchases, manifest.address("Escrow"), wakeups, clock)
    try:
        yield Purchasing(market, purchases, entitlements, mirror)
    finally:
        await entitlements.close()
        await purchases.close()


async def keep_purchases(purchasing: Purchasing, ground: Ground) -> None:
    """For ever: end what others began, settle runs, and compare with the chain."""
    compare = partial(_compare, purchasing, ground)
    async with asyncio.TaskGroup() as group:
        group.create_task(purchasing.purchases.keep(), name="purchases")
        group.create_task(purchasing.entitlements.keep(), name="entitlements")
        group.create_task(repeat("purchases-reconcile", compare, RECONCILE_SECONDS), name="purchases-reconcile")
        forget = purchasing.entitlements.forget
        group.create_task(repeat("uses-forget", forget, FORGET_SECONDS), name="uses-forget")


def follow_deals(purchasing: Purchasing, indexer: Indexer) -> None:
    """Before the indexer runs."""
    purchasing.mirror.follow(indexer)


def routes_of(purchasing: Purchasing | None, ground: Ground) -> APIRouter:
    """``/purchases/…`` and what belongs to it, or what says that there are none."""
    if purchasing is None:
        return no_purchase_routes()
    return purchase_routes(purchasing.purchases, purchasing.entitlements, ground.clock)


async def _compare(purchasing: Purchasing, ground: Ground) -> None:
    await reconcile(purchasing.purchases, purchasing.market, ground.clock)
