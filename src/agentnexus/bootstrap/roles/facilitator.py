"""Role `facilitator`: x402 verify and settle over HTTP."""

from __future__ import annotations

import asyncio

from agentnexus.bootstrap.ground import open_chain, open_ground
from agentnexus.bootstrap.serving import serve_app
from agentnexus.bootstrap.sponsoring import sponsor_limits
from agentnexus.bootstrap.upkeep import PURGE_SECONDS, repeat
from agentnexus.core.errors import Unavailable
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.facilitator_app import facilitator_app
from agentnexus.markets.x402.sponsor import Sponsor
from agentnexus.platform.logs import log
from agentnexus.rails.evm.settlement import AuthorizationSettler

RETRY_SECONDS = 2.0


async def run_facilitator(host: str, port: int) -> None:
    """Verify and settle for the configured chain, gas paid by the relayer's key for whom the settings say."""
    async with open_ground() as ground, open_chain(ground, required=False) as chain:
        settler = AuthorizationSettler(chain.sender, chain.signer(ground.settings.relayer_key, "relayer_key"))
        sponsor = Sponsor(ground.database, ground.clock, sponsor_limits(ground.settings, chain, host))
        facilitator = Facilitator([settler], [chain.usdc], clock=ground.clock, sponsor=sponsor)

        async def purge() -> None:
            await sponsor.purge()

        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(_recover(settler), name="recover"),
                group.create_task(repeat("sponsored-gas", purge, PURGE_SECONDS), name="purge"),
            ]
            await serve_app(facilitator_app(facilitator), host, port)
            for task in background:
                task.cancel()


async def _recover(settler: AuthorizationSettler) -> None:
    """Send again what the last process left behind, as soon as there is a chain."""
    while True:
        try:
            await settler.recover()
            return
        except Unavailable as error:
            log.info("facilitator.waits_for_chain", reason=error.message)
        await asyncio.sleep(RETRY_SECONDS)
