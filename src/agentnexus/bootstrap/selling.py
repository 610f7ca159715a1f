"""The selling side of a node: agents of the folder, listed, run in the sandbox, paid over x402, announced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from agentnexus.bootstrap.authoring import open_runtime
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.upkeep import repeat
from agentnexus.core.errors import NexusError, NotFound, Unavailable
from agentnexus.core.ports import Blobs
from agentnexus.marketplace.executions.service import Executions
from agentnexus.marketplace.listings.model import Listing
from agentnexus.marketplace.listings.service import Listings, Till
from agentnexus.marketplace.publish import Publisher
from agentnexus.markets.x402.facilitator_client import FacilitatorClient
from agentnexus.markets.x402.reservations_postgres import PostgresReservations
from agentnexus.platform.logs import log
from agentnexus.platform.neighbour import NeighbourTransport
from agentnexus.platform.wakeups import Wakeups
from agentnexus.rails.evm.signer import LocalSigner
from agentnexus.rails.evm.token import Token
from agentnexus.runtime.bundle import Bundle, read_bundle
from agentnexus.runtime.port import Runtime

ABANDONED_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Selling:
    """What the API process sells with. `listed` is what had a price when it started."""

    listings: Listings
    executions: Executions
    listed: tuple[Listing, ...]
    facilitator: FacilitatorClient
    reservations: PostgresReservations
    publisher: Publisher
    runtime: Runtime
    folders: tuple[Path, ...]


@asynccontextmanager
async def open_selling(
    ground: Ground, chain: Chain, http: httpx.AsyncClient, blobs: Blobs, wakeups: Wakeups
) -> AsyncIterator[Selling]:
    """Lists every agent of the folder; one that cannot be prepared is left out and logged, never the others."""
    settings = ground.settings
    if settings.facilitator_url is None or settings.registry_url is None or settings.api_url is None:
        raise Unavailable(
            "the seller's side needs to know where things are",
            next_step="set NEXUS_FACILITATOR_URL, NEXUS_REGISTRY_URL and NEXUS_API_URL",
        )
    sellers = chain.sellers(settings.seller_keys)
    listings = Listings(ground.database, ground.clock, await _till(chain))
    folders = tuple(sorted(path.parent for path in settings.agents_dir.glob("*/agent.toml")))
    async with (
        open_runtime(unsafe_local=settings.unsafe_local) as runtime,
        httpx.AsyncClient(transport=NeighbourTransport()) as neighbours,
    ):
        bundles = await _list_agents(listings, runtime, folders, sellers)
        executions = Executions(
            ground.database,
            listings,
            runtime,
            bundles=bundles,
            blobs=blobs,
            wakeups=wakeups,
            clock=ground.clock,
            ids=ground.ids,
        )
        yield Selling(
            listings=listings,
            executions=executions,
            listed=tuple([await listings.get(name) for name in bundles]),
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
    """For ever: end runs whose buyer never came back, so that none stays queued."""

    async def close() -> None:
        await executions.close_abandoned()

    await repeat("abandoned", close, ABANDONED_SECONDS)


async def _till(chain: Chain) -> Till:
    token = Token(chain.sender.rpc, chain.usdc.reference, chain.sender.network.chain_id)
    domain = await token.domain()
    return Till(chain.usdc, domain.name, domain.version)


async def _list_agents(
    listings: Listings, runtime: Runtime, folders: tuple[Path, ...], sellers: list[LocalSigner]
) -> dict[str, Bundle]:
    """All at once: on a new node every agent runs once, to say what it takes and gives."""

    async def one(folder: Path, seller: LocalSigner) -> Bundle | None:
        try:
            bundle = await _bundle(listings, runtime, folder)
            await listings.publish(bundle, seller.public_id)
        except NexusError as error:
            log.error("selling.not_listed", agent=folder.name, reason=error.message, next_step=error.next_step)
            return None
        return bundle

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(one(folder, sellers[min(number, len(sellers) - 1)]))
            for number, folder in enumerate(folders)
        ]
    bundles = [bundle for task in tasks if (bundle := task.result()) is not None]
    return {bundle.name: bundle for bundle in bundles}


async def _bundle(listings: Listings, runtime: Runtime, folder: Path) -> Bundle:
    """The schemas come from the catalogue while the code is the same: a warm start runs no agent."""
    bundle = await asyncio.to_thread(read_bundle, folder)
    try:
        known = await listings.get(bundle.name)
    except NotFound:
        return await runtime.prepare(folder)
    if known.code_hash != bundle.code_hash:
        return await runtime.prepare(folder)
    return replace(bundle, input_schema=dict(known.input_schema), output_schema=dict(known.output_schema))
