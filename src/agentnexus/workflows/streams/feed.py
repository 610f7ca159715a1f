"""One workflow's events as its watchers share them: the newest in a ring, each drawn once. Pure.

A watcher is only a number, the last sequence it was given: it holds no events of its own, so that a thousand slow ones
cost no more memory than a thousand quick ones. Those that keep up may be written to directly, without being woken.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentnexus.core.events import Event
from agentnexus.platform.frames import Write, text_frame
from agentnexus.workflows.dialect import event_json

RING = 512


@dataclass(frozen=True, slots=True)
class Frame:
    """An event as it goes out: `text` is its JSON, `wire` the same as a WebSocket message."""

    sequence: int
    name: str
    text: str
    wire: bytes

    @classmethod
    def of(cls, event: Event) -> Frame:
        text = json.dumps(event_json(event), ensure_ascii=False, separators=(",", ":"))
        return cls(event.sequence, event.name.value, text, text_frame(text))


@dataclass(eq=False, slots=True)
class Tap:
    """A watcher that is written to directly as long as it keeps up. `after` is the last sequence it was given."""

    write: Write
    after: int
    over: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def push(self, frames: Sequence[Frame], wire: bytes) -> None:
        """`wire` is all of `frames`, of which it may have the first ones already."""
        if self.over.done():
            return
        if self.after >= frames[0].sequence:
            wire = b"".join(frame.wire for frame in frames if frame.sequence > self.after)
        if not wire:
            return
        if self.write(wire):
            self.after = frames[-1].sequence
        else:
            self.close()

    def close(self) -> None:
        """It is for the watcher itself to go on."""
        if not self.over.done():
            self.over.set_result(None)


@dataclass(slots=True)
class Feed:
    """The end of a workflow's events. `last` is the newest sequence read, `ended` that none will follow."""

    run_id: str
    last: int
    ended: bool = False
    watchers: int = 0
    frames: list[Frame] = field(default_factory=list)
    taps: set[Tap] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, frames: Sequence[Frame], *, ended: bool) -> Sequence[Frame]:
        """What was read behind `last`, in order; wakes who waits, and returns what is new for the taps."""
        fresh = [frame for frame in frames if frame.sequence > self.last]
        if not fresh and ended == self.ended:
            return fresh
        self.frames.extend(fresh)
        if len(self.frames) > 2 * RING:
            del self.frames[:-RING]
        self.last = fresh[-1].sequence if fresh else self.last
        self.ended = ended
        woken, self.changed = self.changed, asyncio.Event()
        woken.set()
        return fresh

    async def written_to(self, write: Write, after: int) -> int:
        """Be written to directly from `after` on, the newest there is; the last sequence given when that ended."""
        tap = Tap(write, after)
        self.taps.add(tap)
        try:
            await tap.over
        finally:
            self.taps.discard(tap)
        return tap.after

    def after(self, sequence: int) -> Sequence[Frame] | None:
        """Frames behind a sequence, oldest first; None when some of them are not in the ring any more."""
        if sequence >= self.last:
            return ()
        if not self.frames or sequence + 1 < self.frames[0].sequence:
            return None
        return self.frames[sequence + 1 - self.frames[0].sequence :]
