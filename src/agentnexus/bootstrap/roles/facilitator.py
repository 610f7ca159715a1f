"""Role `facilitator`: x402 verify and settle over HTTP."""

from __future__ import annotations

from agentnexus.bootstrap.ground import open_chain, open_ground
from agentnexus.bootstrap.serving import serve_app
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.facilitator_app import facilitator_app
from agentnexus.rails.evm.settlement import AuthorizationSettler


async def run_facilitator(host: str, port: int) -> None:
    """Verify and settle for the configured chain, gas paid by the relayer's key."""
    async with open_ground() as ground, open_chain(ground) as chain:
        settler = AuthorizationSettler(chain.sender, chain.signer(ground.settings.relayer_key, "relayer_key"))
        await settler.recover()
        await serve_app(facilitator_app(Facilitator([settler], [chain.usdc], clock=ground.clock)), host, port)
