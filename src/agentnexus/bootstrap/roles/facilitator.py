"""Role `facilitator`: x402 verify and settle over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agentnexus.bootstrap.ground import Ground, open_chain, open_ground
from agentnexus.bootstrap.serving import serve_app
from agentnexus.bootstrap.sponsoring import sponsor_limits
from agentnexus.bootstrap.upkeep import PURGE_SECONDS, repeat
from agentnexus.core.errors import Unavailable
from agentnexus.markets.x402.facilitation import ClaimedFacilitation
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.facilitator_app import facilitator_app
from agentnexus.markets.x402.facilitators import Facilitators
from agentnexus.markets.x402.sponsor import Sponsor
from agentnexus.platform.logs import log
from agentnexus.rails.evm.settlement import AuthorizationSettler

if TYPE_CHECKING:
    from agentnexus.bootstrap.sponsors import SolanaSponsor

RETRY_SECONDS = 2.0
KEEP_SECONDS = 60.0


async def run_facilitator(host: str, port: int) -> None:
    """Verify and settle for the configured chains, fees paid by our keys for whom the settings say."""
    async with open_ground() as ground, open_chain(ground, required=False) as chain:
        settler = AuthorizationSettler(chain.sender, chain.signer(ground.settings.relayer_key, "relayer_key"))
        sponsor = Sponsor(ground.database, ground.clock, sponsor_limits(ground.settings, chain, host))
        facilitator = Facilitator([settler], [chain.usdc], clock=ground.clock, sponsor=sponsor)

        async def purge() -> None:
            await sponsor.purge()

        async with _on_solana(ground, host) as solana, asyncio.TaskGroup() as group:
            members: list[ClaimedFacilitation] = [facilitator]
            if solana is not None:
                members.append(solana.facilitator)
            background = [
                group.create_task(_recover(settler), name="recover"),
                group.create_task(repeat("sponsored-gas", purge, PURGE_SECONDS), name="purge"),
            ]
            if solana is not None:
                background.append(group.create_task(repeat("solana", solana.keep, KEEP_SECONDS), name="solana"))
            await serve_app(facilitator_app(Facilitators(members)), host, port)
            for task in background:
                task.cancel()


@asynccontextmanager
async def _on_solana(ground: Ground, host: str) -> AsyncIterator[SolanaSponsor | None]:
    """None where no fee payer is configured. Raises `Unavailable` when the Solana parts are not installed."""
    settings = ground.settings
    if settings.solana_rpc_url is None or settings.solana_sponsor_keypair is None:
        yield None
        return
    try:
        from agentnexus.bootstrap.sponsors import open_sponsor
    except ImportError as error:
        raise Unavailable(
            "the Solana parts are not installed", next_step="install them: uv sync --extra solana"
        ) from error
    async with open_sponsor(ground, host) as sponsor:
        yield sponsor


async def _recover(settler: AuthorizationSettler) -> None:
    """Send again what the last process left behind, as soon as there is a chain."""
    while True:
        try:
            await settler.recover()
            return
        except Unavailable as error:
            log.info("facilitator.waits_for_chain", reason=error.message)
        await asyncio.sleep(RETRY_SECONDS)
