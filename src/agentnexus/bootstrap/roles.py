"""One function per role: open what it needs, run until stopped, close in order."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack

import httpx

from agentnexus.bootstrap.api import compose
from agentnexus.bootstrap.buying import open_buying
from agentnexus.bootstrap.ground import open_chain, open_ground
from agentnexus.bootstrap.selling import open_selling, warm
from agentnexus.bootstrap.serving import end_with_parent, serve_app
from agentnexus.bootstrap.tasks import open_workflows
from agentnexus.bootstrap.upkeep import keep_up
from agentnexus.hiring.repair import Repair
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.facilitator_app import facilitator_app
from agentnexus.markets.x402.registry.app import registry_app
from agentnexus.markets.x402.registry.store import RegistryStore
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.wakeups import Wakeups
from agentnexus.rails.evm.settlement import AuthorizationSettler

PROBE_SECONDS = 5.0


async def run_facilitator(host: str, port: int) -> None:
    """x402 verify and settle for the configured chain, gas paid by the relayer's key."""
    async with open_ground() as ground, open_chain(ground) as chain:
        settler = AuthorizationSettler(chain.sender, chain.signer(ground.settings.relayer_key, "relayer_key"))
        await settler.recover()
        await serve_app(facilitator_app(Facilitator([settler], [chain.usdc], clock=ground.clock)), host, port)


async def run_registry(host: str, port: int) -> None:
    """x402 registry and Bazaar; ratings are checked against the configured chain."""
    async with open_ground() as ground, open_chain(ground) as chain, httpx.AsyncClient(timeout=PROBE_SECONDS) as probe:
        app = registry_app(
            RegistryStore(ground.database), clock=ground.clock, ids=ground.ids, paid=chain.paid, probe=probe
        )
        await serve_app(app, host, port)


async def run_worker() -> None:
    """Workflows, repair and upkeep until SIGTERM; what is under way then is taken over by another worker."""
    end_with_parent()
    stop = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    async with AsyncExitStack() as stack:
        ground = await stack.enter_async_context(open_ground())
        chain = await stack.enter_async_context(open_chain(ground))
        buying = await stack.enter_async_context(open_buying(ground, chain))
        wakeups = await stack.enter_async_context(Wakeups(ground.database))
        room = open_workflows(ground, chain, buying, PostgresBlobs(ground.database), wakeups)
        async with asyncio.TaskGroup() as group:
            work = [
                group.create_task(room.engine.work(), name="engine"),
                group.create_task(Repair(buying.hiring, clock=ground.clock).run(), name="repair"),
                group.create_task(keep_up(ground, chain, buying.books), name="upkeep"),
            ]
            await stop.wait()
            for task in work:
                task.cancel()


async def run_api(host: str, port: int) -> None:
    """API, pages, and the seller's side."""
    async with AsyncExitStack() as stack:
        ground = await stack.enter_async_context(open_ground())
        chain = await stack.enter_async_context(open_chain(ground))
        buying = await stack.enter_async_context(open_buying(ground, chain))
        wakeups = await stack.enter_async_context(Wakeups(ground.database))
        blobs = PostgresBlobs(ground.database)
        selling = await stack.enter_async_context(open_selling(ground, chain, buying.http, blobs, wakeups))
        room = open_workflows(ground, chain, buying, blobs, wakeups)
        app = compose(ground, chain, buying, selling, room)
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(selling.publisher.run(), name="publisher"),
                group.create_task(warm(selling.runtime, selling.folders), name="warm"),
            ]
            await serve_app(app, host, port)
            for task in background:
                task.cancel()
