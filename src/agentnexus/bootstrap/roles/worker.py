"""Role `worker`: runs workflows and schedules, delivers webhooks, repairs what a crash left open, follows the chain."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack

from agentnexus.bootstrap.buying import open_buying
from agentnexus.bootstrap.desks import deliver_webhooks, open_workflow_desk
from agentnexus.bootstrap.engines import open_engine
from agentnexus.bootstrap.gas import follow_contracts, load_contracts, open_indexer
from agentnexus.bootstrap.ground import open_chain, open_ground
from agentnexus.bootstrap.prepaid import keep_prepaid, open_escrow, prepaid_hires, reconcile_treasury
from agentnexus.bootstrap.purchasing import follow_deals, keep_purchases, open_purchasing
from agentnexus.bootstrap.serving import end_with_parent
from agentnexus.bootstrap.tasks import open_workflows
from agentnexus.bootstrap.telling import forget_offers, tell
from agentnexus.bootstrap.upkeep import keep_up
from agentnexus.bootstrap.wallets import open_wallets
from agentnexus.hiring.repair import Repair
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.wakeups import Wakeups


async def run_worker() -> None:
    """Work until SIGTERM; what is under way then is taken over by another worker."""
    end_with_parent()
    stop = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    async with AsyncExitStack() as stack:
        ground = await stack.enter_async_context(open_ground())
        chain = await stack.enter_async_context(open_chain(ground, required=False))
        buying = await stack.enter_async_context(open_buying(ground, chain))
        wakeups = await stack.enter_async_context(Wakeups(ground.database))
        escrow = await stack.enter_async_context(open_escrow(ground, buying.books))
        wallets = await stack.enter_async_context(open_wallets(ground, chain, buying.books))
        purchasing = await stack.enter_async_context(
            open_purchasing(ground, chain, buying.books, wakeups, wallets=wallets)
        )
        engine = await stack.enter_async_context(open_engine(ground, wakeups, works=True))
        room = open_workflows(ground, chain, buying, PostgresBlobs(ground.database), engine, escrow=escrow)
        desk = open_workflow_desk(ground, room, wakeups)
        manifest = load_contracts(ground)
        async with asyncio.TaskGroup() as group:
            work = [
                group.create_task(room.engine.work(), name="engine"),
                group.create_task(Repair(buying.hiring, clock=ground.clock).run(), name="repair"),
                group.create_task(keep_up(ground, chain, buying.books, buying.solana), name="upkeep"),
                group.create_task(desk.scheduler.run(), name="scheduler"),
                group.create_task(deliver_webhooks(ground, buying), name="webhooks"),
                group.create_task(tell(ground.database, wakeups), name="outbox"),
                group.create_task(forget_offers(wakeups, buying.offers), name="offers"),
            ]
            if manifest is not None:
                indexer = open_indexer(ground, chain, manifest)
                if purchasing is not None:
                    follow_deals(purchasing, indexer)
                    work.append(group.create_task(keep_purchases(purchasing, ground), name="purchases"))
                following = follow_contracts(ground, chain, buying.books, manifest, indexer)
                work.append(group.create_task(following, name="contracts"))
            if wallets is not None:
                work.append(group.create_task(wallets.keep(), name="wallets"))
            if escrow is not None:
                hires = prepaid_hires(escrow, buying.hiring, buying.books, chain.usdc, ground.clock)
                work.append(group.create_task(keep_prepaid(escrow, room.engine, hires), name="prepaid"))
                treasury = reconcile_treasury(ground, escrow, buying.books)
                work.append(group.create_task(treasury, name="treasury"))
            await stop.wait()
            for task in work:
                task.cancel()
