"""One workflow's events as its watchers share them: the newest in a ring, each drawn once. Pure.

A watcher is only a number, the last sequence it was given: it holds no events of its own, so that a thousand slow ones
cost no more memory than a thousand quick ones.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentnexus.core.events import Event
from agentnexus.workflows.dialect import event_json

RING = 512


@dataclass(frozen=True, slots=True)
class Frame:
    """An event as it goes out: `text` is its JSON."""

    sequence: int
    name: str
    text: str

    @classmethod
    def of(cls, event: Event) -> Frame:
        text = json.dumps(event_json(event), ensure_ascii=False, separators=(",", ":"))
        return cls(event.sequence, event.name.value, text)


@dataclass(slots=True)
class Feed:
    """The end of a workflow's events. `last` is the newest sequence read, `ended` that none will follow."""

    run_id: str
    last: int
    ended: bool = False
    watchers: int = 0
    frames: list[Frame] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, frames: Sequence[Frame], *, ended: bool) -> None:
        """What was read behind `last`, in order; wakes all watchers."""
        fresh = [frame for frame in frames if frame.sequence > self.last]
        if not fresh and ended == self.ended:
            return
        self.frames.extend(fresh)
        if len(self.frames) > 2 * RING:
            del self.frames[:-RING]
        self.last = fresh[-1].sequence if fresh else self.last
        self.ended = ended
        woken, self.changed = self.changed, asyncio.Event()
        woken.set()

    def after(self, sequence: int) -> Sequence[Frame] | None:
        """Frames behind a sequence, oldest first; None when some of them are not in the ring any more."""
        if sequence >= self.last:
            return ()
        if not self.frames or sequence + 1 < self.frames[0].sequence:
            return None
        return self.frames[sequence + 1 - self.frames[0].sequence :]
