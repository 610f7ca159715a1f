"""The selling side of a node: agents of the folder, listed, run in the sandbox, paid over x402, announced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.sandboxing import AgentSecrets, open_runtime
from agentnexus.bootstrap.stock import Stock, till_of
from agentnexus.bootstrap.upkeep import repeat
from agentnexus.core.errors import NexusError, Unavailable
from agentnexus.core.ports import Blobs
from agentnexus.marketplace.executions.service import Executions
from agentnexus.marketplace.listings.model import Listing
from agentnexus.marketplace.listings.service import Listings
from agentnexus.marketplace.publish import Publisher
from agentnexus.markets.x402.facilitator_client import FacilitatorClient
from agentnexus.markets.x402.reservations_postgres import PostgresReservations
from agentnexus.platform.logs import log
from agentnexus.platform.neighbour import NeighbourTransport
from agentnexus.platform.wakeups import Wakeups
from agentnexus.runtime.port import Runtime

ABANDONED_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Selling:
    """What the API process sells with."""

    listings: Listings
    executions: Executions
    stock: Stock
    facilitator: FacilitatorClient
    reservations: PostgresReservations
    publisher: Publisher
    runtime: Runtime
    folders: tuple[Path, ...]

    @property
    def listed(self) -> tuple[Listing, ...]:
        """What is on sale now; more when the chain was away at the start."""
        return self.stock.listed


@asynccontextmanager
async def open_selling(
    ground: Ground, chain: Chain, http: httpx.AsyncClient, blobs: Blobs, wakeups: Wakeups
) -> AsyncIterator[Selling]:
    """Lists every agent of the folder, see `Stock.open`; raises `Unavailable` for what is not configured."""
    settings = ground.settings
    if settings.facilitator_url is None or settings.registry_url is None or settings.api_url is None:
        raise Unavailable(
            "the seller's side needs to know where things are",
            next_step="set NEXUS_FACILITATOR_URL, NEXUS_REGISTRY_URL and NEXUS_API_URL",
        )
    sellers = chain.sellers(settings.seller_keys)
    till = till_of(chain)
    listings = Listings(ground.database, ground.clock, till)
    folders = tuple(sorted(path.parent for path in settings.agents_dir.glob("*/agent.toml")))
    async with (
        open_runtime(settings, unsafe_local=settings.unsafe_local) as runtime,
        httpx.AsyncClient(transport=NeighbourTransport()) as neighbours,
    ):
        secrets = AgentSecrets(settings.agent_secrets_file)
        stock = Stock(listings, runtime, till, folders, sellers, secrets=secrets)
        await stock.open()
        executions = Executions(
            ground.database,
            listings,
            runtime,
            bundles=stock.bundles,
            blobs=blobs,
            wakeups=wakeups,
            clock=ground.clock,
            ids=ground.ids,
            secrets_of=secrets.of,
        )
        yield Selling(
            listings=listings,
            executions=executions,
            stock=stock,
            facilitator=FacilitatorClient(settings.facilitator_url, neighbours),
            reservations=PostgresReservations(ground.database, settled_here=settings.facilitator_shares_database),
            publisher=Publisher(
                listings,
                http,
                ground.clock,
                registry_url=settings.registry_url,
                api_url=settings.api_url,
                signers={signer.public_id: signer for signer in sellers},
            ),
            runtime=runtime,
            folders=folders,
        )


async def warm(runtime: Runtime, folders: tuple[Path, ...]) -> None:
    """Start each agent's helper ahead of its first run, one after the other."""
    for folder in folders:
        try:
            await runtime.prepare(folder)
        except NexusError as error:
            log.warning("selling.not_warm", agent=folder.name, reason=error.message)


async def close_abandoned(executions: Executions) -> None:
    """For ever: end runs whose buyer never came back, so that none stays queued; forget those of long ago."""

    async def close() -> None:
        await executions.close_abandoned()
        await executions.forget()

    await repeat("abandoned", close, ABANDONED_SECONDS)
