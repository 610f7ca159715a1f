"""Server-sent events: the wire form, and a bounded memory from which a client that lost its connection resumes."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

REPLAY_EVENTS = 1024


@dataclass(frozen=True, slots=True)
class Event:
    """`number` counts from 1 within one execution and is the ``id`` on the wire."""

    number: int
    type: str
    data: dict[str, object]

    def encode(self) -> bytes:
        """JSON escapes every line end, so data can never begin another field or event."""
        body = json.dumps(self.data, separators=(",", ":"))
        return f"id: {self.number}\nevent: {self.type}\ndata: {body}\n\n".encode()


class Stream:
    """The events of one execution. Any number of readers, each from where it likes; it ends with ``completed``."""

    def __init__(self, replay_events: int = REPLAY_EVENTS) -> None:
        self._events: deque[Event] = deque(maxlen=replay_events)
        self._last = 0
        self._ended = False
        self._changed = asyncio.Event()

    def add(self, event_type: str, data: dict[str, object]) -> None:
        """Nothing may follow ``completed``; what comes anyway is dropped."""
        if self._ended:
            return
        self._last += 1
        self._events.append(Event(self._last, event_type, data))
        self._ended = event_type == "completed"
        self._changed.set()
        self._changed = asyncio.Event()

    async def read(self, after: int = 0) -> AsyncIterator[Event]:
        """Events with a greater number than `after`, then live ones. What the memory no longer holds is skipped."""
        while True:
            changed = self._changed
            for event in [event for event in self._events if event.number > after]:
                after = event.number
                yield event
            if self._ended and after >= self._last:
                return
            if changed is self._changed:
                await changed.wait()
