"""Waiting for changes of runs: events of this process at once, those of others through a bell that Restate holds."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from pydantic import TypeAdapter

from agentnexus.core.errors import Unavailable
from agentnexus.workflows.engine.restate.ingress import Ingress
from agentnexus.workflows.engine.restate.shapes import Interest, Waiting

BELL_SECONDS = 120.0
GRACE_SECONDS = 0.2  # what changes sooner, and here, costs no bell
RUNG = TypeAdapter(bool)


class Topics:
    """Events by name, inside one process."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def notify(self, topic: str) -> None:
        event = self._events.pop(topic, None)
        if event is not None:
            event.set()

    def watch(self, topic: str) -> asyncio.Event:
        """Set at the next `notify`, counted from now."""
        return self._events[topic]

    async def wait(self, topic: str, timeout_seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._events[topic].wait()


async def ring(ingress: Ingress, key: str, interest: Interest, known: int) -> bool:
    """Wait at Restate; False when nothing happened for a long time, or Restate is away."""
    waiting = Waiting(run_id=key, interest=interest, known=known, seconds=BELL_SECONDS)
    try:
        return await ingress.call("NexusBell", "wait", waiting, RUNG, timeout_seconds=BELL_SECONDS + 30)
    except Unavailable:
        await asyncio.sleep(GRACE_SECONDS)  # asked again: not at once
        return False


class RestateWatch:
    """A `Watch` of one run. One bell at a time is kept at Restate, over any number of `changed`."""

    def __init__(
        self,
        ingress: Ingress,
        topics: Topics,
        *,
        key: str,
        topic: str,
        interest: Interest,
        sequence: Callable[[], Awaitable[int]],
    ) -> None:
        self._ingress = ingress
        self._key = key
        self._topic = topic
        self._interest = interest
        self._topics = topics
        self._sequence = sequence
        self._known = 0
        self._here = asyncio.Event()
        self._bell: asyncio.Task[bool] | None = None

    async def __aenter__(self) -> RestateWatch:
        self._here = self._topics.watch(self._topic)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._bell is not None:
            self._bell.cancel()
            await asyncio.wait([self._bell])

    async def changed(self, timeout_seconds: float) -> None:
        """Returns for changes of this process, those of others, or when time is up."""
        try:
            async with asyncio.timeout(timeout_seconds):
                with suppress(TimeoutError):
                    async with asyncio.timeout(GRACE_SECONDS):
                        await self._here.wait()
                        return
                await self._anywhere()
        except TimeoutError:
            return
        finally:
            self._here = self._topics.watch(self._topic)

    async def _anywhere(self) -> None:
        if self._bell is None:
            # The reader may have read before this look: it is told at once when there was more by then.
            self._bell = asyncio.create_task(ring(self._ingress, self._key, self._interest, self._known))
        here = asyncio.ensure_future(self._here.wait())
        try:
            await asyncio.wait([here, self._bell], return_when=asyncio.FIRST_COMPLETED)
        finally:
            here.cancel()
        if self._bell.done():
            self._bell = None
            self._known = await self._sequence()


class Listeners:
    """Bells for the runs that workers of this process hold: a signal or a cancel from elsewhere reaches them."""

    def __init__(self, ingress: Ingress, key_of: Callable[[str], str], topics: Topics) -> None:
        self._ingress = ingress
        self._key_of = key_of
        self._topics = topics
        self._seen: dict[tuple[str, str], float] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._rung: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str]] = set()

    def ring(self, run_id: str) -> None:
        """Something was sent to a run by this process."""
        self._rung |= {identity for identity in self._seen if identity[1] == run_id}
        self._topics.notify("")

    def keep(self, worker: str, known: Mapping[str, int]) -> list[str]:
        """Listen for the runs a worker holds, with the signals it knows, and no others; returns those with news."""
        for identity in [identity for identity in self._seen if identity[0] == worker and identity[1] not in known]:
            self._forget(identity)
        now = asyncio.get_running_loop().time()
        for run_id, letters in known.items():
            identity = (worker, run_id)
            first = self._seen.setdefault(identity, now)
            if identity not in self._tasks and identity not in self._told and now - first >= GRACE_SECONDS:
                self._tasks[identity] = asyncio.create_task(self._listen(identity, letters))
        rung = [identity for identity in self._rung if identity[0] == worker]
        self._rung.difference_update(rung)
        return [run_id for _, run_id in rung]

    def cancelled(self, worker: str, run_id: str) -> None:
        """The worker knows that the run is to stop: nothing more is to be heard."""
        self._told.add((worker, run_id))

    async def close(self) -> None:
        for identity in list(self._seen):
            self._forget(identity)

    def _forget(self, identity: tuple[str, str]) -> None:
        del self._seen[identity]
        self._rung.discard(identity)
        self._told.discard(identity)
        task = self._tasks.pop(identity, None)
        if task is not None:
            task.cancel()

    async def _listen(self, identity: tuple[str, str], known: int) -> None:
        key = self._key_of(identity[1])
        while not await ring(self._ingress, key, Interest.NEWS, known):
            continue
        self._rung.add(identity)
        del self._tasks[identity]
        self._topics.notify("")
