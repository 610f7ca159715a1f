"""One function per role: open what it needs, run until stopped, close in order."""

from __future__ import annotations

import httpx

from agentnexus.bootstrap.ground import open_chain, open_ground
from agentnexus.bootstrap.serving import serve_app
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.facilitator_app import facilitator_app
from agentnexus.markets.x402.registry.app import registry_app
from agentnexus.markets.x402.registry.store import RegistryStore
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
            RegistryStore(ground.database),
            clock=ground.clock,
            ids=ground.ids,
            paid=chain.paid,
            probe=probe,
        )
        await serve_app(app, host, port)
