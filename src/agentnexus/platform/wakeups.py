"""Wake sleeping readers of this and other processes: one LISTEN connection per process, coalesced NOTIFY.

A wake-up carries no data: readers fetch by cursor. It is sent outside the writing transaction, because NOTIFY
inside one takes a global lock at commit. A lost wake-up costs a reader its poll interval, never an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

import asyncpg

from agentnexus.core.errors import Unavailable
from agentnexus.platform.database import Database
from agentnexus.platform.logs import log

CHANNEL = "nexus_wakeup"
RECONNECT_SECONDS = 0.5


class Wakeups:
    """``async with Wakeups(database) as wakeups``; `notify(topic)` wakes every `wait(topic)` everywhere."""

    def __init__(self, database: Database, *, coalesce_seconds: float = 0.005) -> None:
        self._database = database
        self._coalesce_seconds = coalesce_seconds
        # By topic, while somebody holds it: topics are as many as runs, and most are waited for once.
        self._waiting: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        self._callbacks: dict[str, list[Callable[[], None]]] = {}
        self._pending: set[str] = set()
        self._kick = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        listening = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._listen(listening), name="wakeups-listen"),
            asyncio.create_task(self._flush(), name="wakeups-flush"),
        ]
        await listening.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def notify(self, topic: str) -> None:
        """Wake local waiters now and other processes within some milliseconds."""
        self._wake(topic)
        self._pending.add(topic)
        self._kick.set()

    def watch(self, topic: str) -> asyncio.Event:
        """Set at the next `notify(topic)`, counted from now: take it before reading, so that no change is missed."""
        return self._waiting.setdefault(topic, asyncio.Event())

    def subscribe(self, topic: str, woken: Callable[[], None]) -> Callable[[], None]:
        """Call `woken` at every `notify(topic)` of any process, until the returned function is called."""
        self._callbacks.setdefault(topic, []).append(woken)

        def unsubscribe() -> None:
            rest = [each for each in self._callbacks.get(topic, ()) if each is not woken]
            if rest:
                self._callbacks[topic] = rest
            else:
                self._callbacks.pop(topic, None)

        return unsubscribe

    async def wait(self, topic: str, timeout_seconds: float) -> bool:
        """True when woken, False when time is up. Check your condition again either way."""
        event = self._waiting.setdefault(topic, asyncio.Event())
        try:
            async with asyncio.timeout(timeout_seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True

    def _wake(self, topic: str) -> None:
        event = self._waiting.pop(topic, None)
        if event is not None:
            event.set()
        for woken in self._callbacks.get(topic, ()):
            woken()

    async def _flush(self) -> None:
        while True:
            await self._kick.wait()
            await asyncio.sleep(self._coalesce_seconds)
            self._kick.clear()
            topics, self._pending = sorted(self._pending), set()
            try:
                async with self._database.connection() as connection:
                    await connection.execute("select pg_notify($1, t) from unnest($2::text[]) as t", CHANNEL, topics)
            except (Unavailable, asyncpg.PostgresError) as error:
                log.warning("wakeups.notify_failed", error=str(error))

    async def _listen(self, listening: asyncio.Event) -> None:
        while True:
            try:
                await self._listen_once(listening)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("wakeups.listen_failed", error=str(error))
            listening.set()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_once(self, listening: asyncio.Event) -> None:
        connection = await asyncpg.connect(self._database.url)
        gone = asyncio.Event()
        connection.add_termination_listener(lambda _connection: gone.set())
        try:
            await connection.add_listener(CHANNEL, lambda _c, _pid, _channel, topic: self._wake(str(topic)))
            listening.set()
            await gone.wait()
        finally:
            await connection.close(timeout=1)
