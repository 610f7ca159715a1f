"""Role `registry`: x402 registry and Bazaar over HTTP."""

from __future__ import annotations

import httpx

from agentnexus.bootstrap.ground import open_chain, open_ground
from agentnexus.bootstrap.serving import serve_app
from agentnexus.markets.x402.registry.app import registry_app
from agentnexus.markets.x402.registry.store import RegistryStore

PROBE_SECONDS = 5.0


async def run_registry(host: str, port: int) -> None:
    """List sellers; ratings are checked against the configured chain."""
    async with open_ground() as ground, open_chain(ground) as chain, httpx.AsyncClient(timeout=PROBE_SECONDS) as probe:
        app = registry_app(
            RegistryStore(ground.database), clock=ground.clock, ids=ground.ids, paid=chain.paid, probe=probe
        )
        await serve_app(app, host, port)
