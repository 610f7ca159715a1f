"""The agents of the folder, as far as they are on sale: listed at the start, or once the chain says what money is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import replace
from pathlib import Path

from agentnexus.bootstrap.ground import CHAIN_START_SECONDS, Chain
from agentnexus.bootstrap.sandboxing import AgentSecrets
from agentnexus.core.errors import NexusError, NotFound, Unavailable
from agentnexus.marketplace.listings.model import Listing, ListingStatus
from agentnexus.marketplace.listings.service import Listings, Till
from agentnexus.platform.logs import log
from agentnexus.rails.evm.signer import LocalSigner
from agentnexus.rails.evm.token import Token
from agentnexus.runtime.bundle import Bundle, read_bundle
from agentnexus.runtime.port import Runtime

RETRY_SECONDS = 2.0


def till_of(chain: Chain) -> Callable[[], Awaitable[Till]]:
    """Reads what agents are paid in from the chain, once."""
    token = Token(chain.sender.rpc, chain.usdc.reference, chain.sender.network.chain_id)

    async def read() -> Till:
        domain = await token.domain()
        return Till(chain.usdc, domain.name, domain.version)

    return read


class Stock:
    """What this node sells.

    Args:
        folders: one agent each. An agent that was listed before is paid to the seller it had, since its reputation is
            that seller's; a new one to the seller of its place, or the next one that nobody has; the last has the rest.
        secrets: what the operator gives agents; one that lacks a secret is not listed.
    """

    def __init__(
        self,
        listings: Listings,
        runtime: Runtime,
        till: Callable[[], Awaitable[Till]],
        folders: Sequence[Path],
        sellers: Sequence[LocalSigner],
        *,
        secrets: AgentSecrets,
    ) -> None:
        self._secrets = secrets
        self._listings = listings
        self._runtime = runtime
        self._till = till
        self._folders = tuple(folders)
        self._sellers = tuple(sellers)
        self.bundles: dict[str, Bundle] = {}
        self.listed: tuple[Listing, ...] = ()
        self.left_out: dict[str, NexusError] = {}
        self.is_complete = False

    async def open(self) -> None:
        """List every agent; while the chain does not answer, those that were listed before go on as they were.

        One that cannot be prepared is left out and logged, never the others.
        """
        try:
            async with asyncio.timeout(CHAIN_START_SECONDS):
                await self._till()
        except (Unavailable, TimeoutError):
            await self._list_all(self._as_listed)
            log.warning("selling.incomplete", listed=[listing.id for listing in self.listed])
            return
        await self._list_all(self._published)
        self.is_complete = True

    async def complete(self, changed: Callable[[], None]) -> None:
        """Wait for the chain, then list every agent; calls `changed` when that was necessary."""
        if self.is_complete:
            return
        while True:
            try:
                await self._till()
                break
            except Unavailable as error:
                log.info("selling.waits_for_chain", reason=error.message)
                await asyncio.sleep(RETRY_SECONDS)
        await self._list_all(self._published)
        self.is_complete = True
        changed()

    async def check(self) -> None:
        """Raises `Unavailable` when nothing is on sale, with the reason of the first agent that was left out."""
        if self.listed or not self.is_complete:
            return
        if not self._folders:
            raise Unavailable(
                "no agent is on sale: the agents' folder holds none",
                next_step="start in the folder that has `agents`, or set NEXUS_AGENTS_DIR",
            )
        name = min(self.left_out)  # the first of the folder
        error = self.left_out[name]
        raise Unavailable(f"no agent is on sale: {name}: {error.message}", next_step=error.next_step)

    async def _list_all(self, offer: Callable[[Bundle, str], Awaitable[bool]]) -> None:
        """All at once: on a new node every agent runs once, to say what it takes and gives."""

        async def one(folder: Path, seller: LocalSigner) -> Bundle | None:
            try:
                bundle = await self._bundle(folder)
                self._secrets.of(bundle.manifest)
                return bundle if await offer(bundle, seller.public_id) else None
            except NexusError as error:
                self.left_out[folder.name] = error
                log.error("selling.not_listed", agent=folder.name, reason=error.message, next_step=error.next_step)
                return None

        self.left_out.clear()
        places = await self._places()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(*place)) for place in places]
        self.bundles.update({bundle.name: bundle for task in tasks if (bundle := task.result()) is not None})
        self.listed = tuple([await self._listings.get(name) for name in self.bundles])

    async def _places(self) -> list[tuple[Path, LocalSigner]]:
        """Every folder with whom its agent is paid to; a folder more or less moves no other agent."""
        ours = {signer.public_id.lower(): signer for signer in self._sellers}
        listed = await self._listings.payees()
        names = [await asyncio.to_thread(_name_of, folder) for folder in self._folders]
        taken = set(listed.values())
        places: list[tuple[Path, LocalSigner]] = []
        for number, (folder, name) in enumerate(zip(self._folders, names, strict=True)):
            seller = ours.get(listed.get(name, ""))
            if seller is None:
                seller = self._new_seller(number, taken)
                taken.add(seller.public_id.lower())
            places.append((folder, seller))
        return places

    def _new_seller(self, number: int, taken: Set[str]) -> LocalSigner:
        own = min(number, len(self._sellers) - 1)
        free = (each for each in (self._sellers[own], *self._sellers) if each.public_id.lower() not in taken)
        return next(free, self._sellers[-1])

    async def _published(self, bundle: Bundle, seller: str) -> bool:
        await self._listings.publish(bundle, seller)
        return True

    async def _as_listed(self, bundle: Bundle, seller: str) -> bool:
        """Whether exactly this is on sale already, paid to the same seller."""
        try:
            known = await self._listings.get(bundle.name)
        except NotFound:
            return False
        same = (known.code_hash, known.seller, known.manifest) == (bundle.code_hash, seller, bundle.manifest)
        return same and known.status is ListingStatus.ACTIVE

    async def _bundle(self, folder: Path) -> Bundle:
        """The schemas come from the catalogue while the code is the same: a warm start runs no agent."""
        bundle = await asyncio.to_thread(read_bundle, folder)
        try:
            known = await self._listings.get(bundle.name)
        except NotFound:
            return await self._runtime.prepare(folder)
        if known.code_hash != bundle.code_hash:
            return await self._runtime.prepare(folder)
        return replace(bundle, input_schema=dict(known.input_schema), output_schema=dict(known.output_schema))


def _name_of(folder: Path) -> str:
    """Of the agent in it; empty where none can be read, which is told when it is listed."""
    try:
        return read_bundle(folder).name
    except NexusError:
        return ""
