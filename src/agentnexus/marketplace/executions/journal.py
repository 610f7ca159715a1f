"""Writes a run's events in the order they happen, many at a time, without holding up the run."""

from __future__ import annotations

import asyncio
from functools import partial
from types import TracebackType
from typing import Self

from agentnexus.core.events import Event, EventName
from agentnexus.core.ports import Clock
from agentnexus.marketplace.executions.patience import patiently
from agentnexus.marketplace.executions.store import ExecutionStore
from agentnexus.platform.wakeups import Wakeups


def topic(execution_id: str) -> str:
    """Where readers of this execution's events wait."""
    return f"execution:{execution_id}"


class RunJournal:
    """``async with RunJournal(...) as journal``; `say` returns at once, leaving waits until all is written."""

    def __init__(
        self, store: ExecutionStore, wakeups: Wakeups, clock: Clock, *, execution_id: str, owner: str, last: int
    ) -> None:
        self._store = store
        self._wakeups = wakeups
        self._clock = clock
        self._execution_id = execution_id
        self._owner = owner
        self._last = last
        self._waiting: list[Event] = []
        self._work = asyncio.Event()
        self._closing = False
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write(), name=f"journal-{self._execution_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._work.set()
        assert self._writer is not None, "entered before left"
        # A cancelled run still writes what was said: its readers would otherwise miss why it ended.
        await asyncio.shield(self._writer)

    def say(self, name: EventName, data: dict[str, object]) -> None:
        """Add an event now; it is written soon."""
        self._waiting.append(self.next_event(name, data))
        self._work.set()

    def next_event(self, name: EventName, data: dict[str, object]) -> Event:
        """The event that comes next, for a caller that writes it itself."""
        self._last += 1
        return Event(name=name, subject=self._execution_id, sequence=self._last, at=self._clock.now(), data=data)

    async def _write(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            events, self._waiting = self._waiting, []
            if events:
                await patiently(partial(self._store.append, self._execution_id, self._owner, events))
                self._wakeups.notify(topic(self._execution_id))
            elif self._closing:
                return
            if self._closing:
                self._work.set()
