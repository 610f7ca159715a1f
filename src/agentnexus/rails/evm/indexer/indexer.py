"""The indexer: follows events of several contracts on one chain, in any number of processes of which one reads.

indexer = Indexer(database, rpc, network, [source(escrow, deposited)], name="contracts")
indexer.subscribe("purchases", on_change)      # before run(), in every process that shall be told
await indexer.run()                            # until cancelled
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Collection, Sequence
from datetime import timedelta

import asyncpg

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import Conflict, InvalidInput, NexusError
from agentnexus.core.ports import Clock
from agentnexus.platform.database import Database
from agentnexus.platform.logs import log
from agentnexus.platform.telemetry import indexer_behind_blocks
from agentnexus.rails.evm.indexer.delivery import Delivery
from agentnexus.rails.evm.indexer.events import Source
from agentnexus.rails.evm.indexer.model import Handler, Head, Place, Progress, Status
from agentnexus.rails.evm.indexer.reader import REORGANISATION_BLOCKS, SPAN_BLOCKS, ChainMoved, LogReader, Span
from agentnexus.rails.evm.indexer.store import IndexerStore, Scope
from agentnexus.rails.evm.networks import Network, NetworkKind
from agentnexus.rails.evm.rpc import Rpc

LEASE_SECONDS = 15.0
POLL_SECONDS_MIN, POLL_SECONDS_MAX = 0.2, 2.0
NOTED_EVERY = timedelta(seconds=1)  # that nothing new was there
# So often a chain may move while one round reads it, before the round gives up.
_MOVES_MAX = 8


class Indexer:
    """Follows `sources` on one network.

    Args:
        name: of this follower; its place survives restarts under it, and processes with one name take turns.
        confirmations: blocks until an event is told, the including one counted; the network's when None.
        lease_seconds: how long the others wait for a leader that died.
    """

    def __init__(
        self,
        database: Database,
        rpc: Rpc,
        network: Network,
        sources: Sequence[Source],
        *,
        name: str,
        confirmations: int | None = None,
        lease_seconds: float = LEASE_SECONDS,
        span_blocks: int = SPAN_BLOCKS,
        clock: Clock | None = None,
    ) -> None:
        if len({each.key for each in sources}) != len(sources) or not sources:
            raise InvalidInput("an indexer needs sources, each once", field="sources")
        self.network = network
        self.name = name
        self._sources = {each.key: each for each in sources}
        self._confirmations = max(network.confirmations if confirmations is None else confirmations, 1)
        self._lease_seconds = lease_seconds
        self._clock = clock or SystemClock()
        self._reader = LogReader(rpc, blocks=span_blocks)
        scope = Scope(name, network.caip2)
        self.store = IndexerStore(database, scope, f"{os.getpid()}-{secrets.token_hex(6)}")
        self._delivery = Delivery(database, scope)
        self._is_enrolled = False
        self._is_even = False  # all sources are read up to the place
        self._stayed: Head | None = None

    def subscribe(self, handler: str, call: Handler, events: Collection[str] | None = None) -> None:
        """Have `call` told of every change of events of these names (None: all), in order, from the first on.

        `handler` names it over all processes: each change is told to one of them.
        """
        self._delivery.subscribe(handler, call, events)

    async def run(self) -> None:
        """Read and tell until cancelled; what fails for an expected reason is logged and tried again."""
        pause = min(max(self.network.block_seconds / 2, POLL_SECONDS_MIN), POLL_SECONDS_MAX)
        try:
            while True:
                try:
                    await self.poll()
                    told = await self.deliver()
                except (NexusError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    log.warning("indexer.failed", error=str(error))
                    told = 0
                if not told:
                    await asyncio.sleep(pause)
        finally:
            await asyncio.shield(self._resign())

    async def poll(self) -> Progress:
        """Read up to the head, once. Does nothing while another process leads.

        Raises `ChainUnavailable`, `NodeError`, and `Conflict` for a reorganisation deeper than chains have.
        """
        if not self._is_enrolled:
            await self.store.enrol(self._reader.blocks)
            self._is_enrolled = True
        lead = await self.store.lead(self._lease_seconds)
        head = None if lead is None else await self._head()
        if lead is None or head is None:
            return Progress(False, -1, Place(-1))
        self._is_even = self._is_even and lead.kept
        self._reader.blocks = lead.span_blocks
        place = await self._begin(head)
        found, reverted_to = 0, None
        for _ in range(_MOVES_MAX):
            try:
                place, more = await self._follow(place, head)
                behind = indexer_behind_blocks.labels(self.name, self.network.caip2)
                behind.set(max(head.number - place.number, 0))
                return Progress(True, head.number, place, found + more, reverted_to)
            except ChainMoved:
                fork = await self._rewind()
                reverted_to = fork.number if reverted_to is None else min(reverted_to, fork.number)
                place = fork
                head = await self._head() or head
        raise Conflict(
            f"{self.network.caip2} moved {_MOVES_MAX} times while it was read",
            next_step="ask one node only, not several that disagree",
        )

    async def deliver(self) -> int:
        """Tell the handlers of this process what waits for them; how many changes that was."""
        return await self._delivery.deliver()

    async def status(self) -> Status:
        """Raises `NotFound` for an indexer that never ran."""
        return await self.store.status()

    async def _head(self) -> Head | None:
        asked_at = self._clock.now()
        place = await self._reader.head()
        return None if place is None else Head(place, place.number - self._confirmations + 1, asked_at)

    async def _resign(self) -> None:
        try:
            await self.store.resign()
        except (NexusError, asyncpg.InterfaceError) as error:
            log.info("indexer.not_resigned", error=str(error))

    async def _begin(self, head: Head) -> Place:
        """The place to go on from; for a new follower, before the earliest start of a source."""
        known = await self.store.place()
        if known is not None:
            return known
        starts = [head.number + 1 if each.start_block is None else each.start_block for each in self._sources.values()]
        before = min(*starts, head.number + 1) - 1
        (place,) = await self._reader.places([before]) if before >= 0 else [None]
        await self.store.begin(place or Place(before))
        return await self.store.place() or Place(before)

    async def _follow(self, place: Place, head: Head) -> tuple[Place, int]:
        """Read from `place` to `head`; where that ended and how many events there were. Raises `ChainMoved`."""
        if head.number < place.number:
            # On a real network that is a node that lags; a development chain is put back in earnest.
            if self.network.kind is NetworkKind.LOCAL:
                raise ChainMoved
            return place, 0
        found = 0 if self._is_even else await self._backfill(place, head)
        if not self._is_even:
            return place, found
        if place.number == head.number:
            await self._stay(place, head)
        while place.number < head.number:
            span = await self._reader.read(place, head.number, head.number, list(self._sources.values()))
            kept = None if span is None else await self._put(span, self._sources.values(), head)
            if span is None or kept is None:
                break
            place, found = span.last, found + kept
            await self.store.lead(self._lease_seconds)
        return place, found

    async def _put(self, span: Span, sources: Collection[Source], head: Head, *, backfill: bool = False) -> int | None:
        return await self.store.put(span, list(sources), head, backfill=backfill, span_blocks=self._reader.blocks)

    async def _stay(self, place: Place, head: Head) -> None:
        """No new block: make sure that the newest is still ours, and tell of what became final."""
        if place.hash not in ("", head.place.hash):
            raise ChainMoved
        known = self._stayed
        if known is not None and known.place == head.place and head.asked_at - known.asked_at < NOTED_EVERY:
            return
        if await self.store.followed(place, head):
            self._stayed = head

    async def _backfill(self, place: Place, head: Head) -> int:
        """Read sources that were added later up to the place of the others; how many events they had."""
        wanted = {
            key: place.number if each.start_block is None else min(each.start_block - 1, place.number)
            for key, each in self._sources.items()
        }
        read_to = await self.store.read_to(wanted)
        found = 0
        for number in sorted({each for each in read_to.values() if each < place.number}):
            late = [self._sources[key] for key, reached in read_to.items() if reached == number]
            at = Place(number)
            while at.number < place.number:
                span = await self._reader.read(at, place.number, head.number, late)
                kept = None if span is None else await self._put(span, late, head, backfill=True)
                if span is None or kept is None:
                    return found
                at, found = span.last, found + kept
        self._is_even = True
        return found

    async def _rewind(self) -> Place:
        """Go back to the newest block we know that is still on the chain, and take back what was above."""
        top = await self.store.place()
        assert top is not None  # there is one since the first poll
        fork = await self._fork(top)
        if self.network.kind is not NetworkKind.LOCAL and top.number - fork.number > REORGANISATION_BLOCKS:
            raise Conflict(
                f"the node's chain left ours {top.number - fork.number} blocks ago",
                next_step="check that it is the right node and in step; no real reorganisation is that deep",
                place=top.number,
                fork=fork.number,
            )
        if await self.store.rewind(top, fork):
            log.warning("indexer.reorganisation", network=self.network.caip2, place=top.number, fork=fork.number)
        return await self.store.place() or fork

    async def _fork(self, top: Place) -> Place:
        """The newest of our blocks that the node has as well; else the place before the first."""
        below = top.number
        while known := [place for place in await self.store.remembered(below, 64) if place.number >= 0]:
            for place, there in zip(known, await self._reader.places([e.number for e in known]), strict=True):
                if place == there:
                    return place
            below = known[-1].number - 1
        return Place(await self.store.start())
