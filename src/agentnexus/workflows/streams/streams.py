"""`Streams`: follow workflows live. One task reads for everybody; nobody who watches can hold up anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import NexusError
from agentnexus.core.ports import Clock
from agentnexus.platform.frames import Write
from agentnexus.platform.logs import log
from agentnexus.workflows.streams.feed import Feed, Frame
from agentnexus.workflows.streams.source import EventSource

PAGE = 200
LOOK_SECONDS = 5.0  # all feeds are looked at this often, should a wake-up be lost
RETRY_SECONDS = 0.5
REPLAYS_AT_ONCE = 4
WRITES_AT_ONCE = 500  # taps written to before others have a turn


class FellBehind(Exception):
    """A watcher was live and is now further behind than the ring reaches."""


class Streams:
    """All watchers of one process. The reader runs while there are any."""

    def __init__(self, source: EventSource, clock: Clock | None = None) -> None:
        self._source = source
        self.clock = clock or SystemClock()
        self._feeds: dict[str, Feed] = {}
        self._unwatch: dict[str, Callable[[], None]] = {}
        self._dirty: set[str] = set()
        self._kick = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._replays = asyncio.Semaphore(REPLAYS_AT_ONCE)

    @property
    def watchers(self) -> int:
        """How many follow something now."""
        return sum(feed.watchers for feed in self._feeds.values())

    async def follow(
        self, run_id: str, after: int, sequence: int, write: Write | None = None
    ) -> AsyncGenerator[Sequence[Frame], None]:
        """Frames behind `after`: those that happened, then live ones; ends after the last.

        Args:
            sequence: the newest event the caller knows of.
            write: takes live frames directly; only what it refuses is yielded.

        Raises `FellBehind` when the consumer takes too long between two batches, `Unavailable`.
        """
        with self._joined(run_id, min(after, sequence)) as feed:
            live = False
            while True:
                changed = feed.changed
                frames = feed.after(after)
                if frames is None:
                    if live:
                        raise FellBehind
                    frames = await self._replay(run_id, after)
                if frames:
                    after = frames[-1].sequence
                    yield frames
                    continue
                if feed.ended:
                    return
                live = True
                if write is None:
                    await changed.wait()
                else:
                    after = await feed.written_to(write, after)

    @contextmanager
    def _joined(self, run_id: str, start: int) -> Iterator[Feed]:
        feed = self._feeds.get(run_id)
        if feed is None:
            feed = self._feeds[run_id] = Feed(run_id, start)
            self._unwatch[run_id] = self._source.watch(run_id, lambda: self._mark(run_id))
            self._mark(run_id)
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read(), name="event-streams")
        feed.watchers += 1
        try:
            yield feed
        finally:
            feed.watchers -= 1
            if not feed.watchers:
                del self._feeds[run_id]
                self._unwatch.pop(run_id)()
                self._kick.set()

    def _mark(self, run_id: str) -> None:
        self._dirty.add(run_id)
        self._kick.set()

    async def _replay(self, run_id: str, after: int) -> Sequence[Frame]:
        """A page of what is older than the ring. Few at a time: a crowd that comes back must not starve the rest."""
        async with self._replays:
            news = await self._source.newer({run_id: after}, PAGE)
        return [Frame.of(event) for event in news[run_id].events]

    async def _read(self) -> None:
        while self._feeds:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._kick.wait()
            except TimeoutError:
                self._dirty.update(self._feeds)
            self._kick.clear()
            wanted = {run_id: feed.last for run_id in self._dirty if (feed := self._feeds.get(run_id)) is not None}
            self._dirty = set()
            if wanted:
                await self._fetch(wanted)

    async def _fetch(self, wanted: dict[str, int]) -> None:
        try:
            found = await self._source.newer(wanted, PAGE)
        except NexusError as error:
            log.warning("streams.read_failed", error=error.message)
            self._dirty.update(wanted)
            await asyncio.sleep(RETRY_SECONDS)
            self._kick.set()
            return
        for run_id, news in found.items():
            feed = self._feeds.get(run_id)
            if feed is None:
                continue
            await _write(feed, feed.add([Frame.of(event) for event in news.events], ended=news.ended))
            if news.more:
                self._mark(run_id)


async def _write(feed: Feed, frames: Sequence[Frame]) -> None:
    """To everybody who keeps up, as one piece; at the end everybody goes on alone."""
    if frames:
        wire = b"".join(frame.wire for frame in frames)
        for number, tap in enumerate(tuple(feed.taps), start=1):
            tap.push(frames, wire)
            if number % WRITES_AT_ONCE == 0:
                await asyncio.sleep(0)
    if feed.ended:
        for tap in tuple(feed.taps):
            tap.close()
