"""Role `api`: the HTTP API, the pages, and the seller's side of the listed agents."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from agentnexus.bootstrap.api import compose
from agentnexus.bootstrap.buying import open_buying
from agentnexus.bootstrap.desks import open_workflow_desk
from agentnexus.bootstrap.engines import open_engine
from agentnexus.bootstrap.ground import open_chain, open_ground
from agentnexus.bootstrap.parts import Parts
from agentnexus.bootstrap.prepaid import open_escrow
from agentnexus.bootstrap.purchasing import open_purchasing
from agentnexus.bootstrap.selling import Selling, close_abandoned, open_selling, warm
from agentnexus.bootstrap.serving import serve_app
from agentnexus.bootstrap.solana_prices import SolanaPrices
from agentnexus.bootstrap.tasks import open_workflows
from agentnexus.bootstrap.telling import forget_offers
from agentnexus.bootstrap.upkeep import repeat
from agentnexus.bootstrap.wallets import open_wallets
from agentnexus.ledger.economics import Economics
from agentnexus.ledger.gauges import REFRESH_SECONDS, refresh
from agentnexus.marketplace.sell import seller_routes
from agentnexus.markets.x402.sell import SellerMiddleware
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.process import raise_file_limit
from agentnexus.platform.wakeups import Wakeups


async def run_api(host: str, port: int) -> None:
    """Serve until SIGTERM, which drains open requests for some seconds. Starts, and says so, without the chain."""
    raise_file_limit()
    async with AsyncExitStack() as stack:
        ground = await stack.enter_async_context(open_ground())
        chain = await stack.enter_async_context(open_chain(ground, required=False))
        buying = await stack.enter_async_context(open_buying(ground, chain))
        wakeups = await stack.enter_async_context(Wakeups(ground.database))
        blobs = PostgresBlobs(ground.database)
        selling = await stack.enter_async_context(open_selling(ground, chain, buying.http, blobs, wakeups))
        escrow = await stack.enter_async_context(open_escrow(ground, buying.books))
        wallets = await stack.enter_async_context(open_wallets(ground, chain, buying.books))
        selling_ahead = open_purchasing(
            ground, chain, buying.books, wakeups, wallets=wallets, executions=selling.executions
        )
        purchasing = await stack.enter_async_context(selling_ahead)
        engine = await stack.enter_async_context(open_engine(ground, wakeups, works=False))
        room = open_workflows(ground, chain, buying, blobs, engine, escrow=escrow)
        desk = open_workflow_desk(ground, room, wakeups)
        composed = compose(
            Parts(ground, chain, buying, selling, room, desk, escrow=escrow, wallets=wallets, purchasing=purchasing)
        )

        stall = Stall(selling, composed.till, SolanaPrices(ground.settings, selling.facilitator))
        gauges = partial(refresh, Economics(ground.database, chain.usdc, buying.parity))
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(stall.sell(), name="publisher"),
                group.create_task(stall.sell_on_solana(), name="solana"),
                group.create_task(warm(selling.runtime, selling.folders), name="warm"),
                group.create_task(close_abandoned(selling.executions), name="abandoned"),
                group.create_task(forget_offers(wakeups, buying.offers), name="offers"),
                group.create_task(repeat("gauges", gauges, REFRESH_SECONDS), name="gauges"),
            ]
            if purchasing is not None:
                background.append(group.create_task(purchasing.entitlements.resume(), name="uses"))
            await serve_app(composed.app, host, port)
            for task in background:
                task.cancel()


@dataclass(frozen=True, slots=True)
class Stall:
    """What this process sells over x402: priced at its till, announced once everything is there."""

    selling: Selling
    till: SellerMiddleware
    prices: SolanaPrices

    def offer(self) -> None:
        """Prices of all that is listed now, in every currency that is known."""
        self.till.offer(seller_routes(self.selling.listed, self.prices.beside))

    async def sell(self) -> None:
        """Announce what is on sale, for ever."""
        await self.selling.stock.complete(self.offer)
        await self.selling.publisher.run()

    async def sell_on_solana(self) -> None:
        """Take USDC on Solana as well, once its facilitator has said who pays the fees."""
        if await self.prices.learn():
            self.offer()
