"""Role `registry`: x402 registry and Bazaar over HTTP."""

from __future__ import annotations

from contextlib import AsyncExitStack

import httpx

from agentnexus.bootstrap.ground import open_chain, open_ground
from agentnexus.bootstrap.serving import serve_app
from agentnexus.markets.x402.registry.app import registry_app
from agentnexus.markets.x402.registry.store import RegistryStore
from agentnexus.platform.outbound import OutboundTransport
from agentnexus.platform.settings import Environment

PROBE_SECONDS = 5.0


async def run_registry(host: str, port: int) -> None:
    """List sellers; ratings are checked against the configured chain."""
    async with AsyncExitStack() as stack:
        ground = await stack.enter_async_context(open_ground())
        chain = await stack.enter_async_context(open_chain(ground, required=False))
        transport = OutboundTransport(allow_loopback=ground.settings.environment is Environment.LOCAL)
        probe = await stack.enter_async_context(httpx.AsyncClient(timeout=PROBE_SECONDS, transport=transport))
        app = registry_app(
            RegistryStore(ground.database), clock=ground.clock, ids=ground.ids, paid=chain.paid, probe=probe
        )
        await serve_app(app, host, port)
