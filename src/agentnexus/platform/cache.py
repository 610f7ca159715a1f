"""Two-level cache: this process, then Redis where configured. Identical misses run once.

When the source fails and an expired value is still kept, that value is served marked stale, so a dead market
never empties the shelf.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import NexusError
from agentnexus.core.ports import Clock


class SecondLevel(Protocol):
    """What a shared cache must do; `RedisLevel` is the adapter."""

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None: ...

    async def delete(self, key: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Cached:
    """A value with how it was found: `hit` without asking the source, `stale` after the source failed."""

    value: object
    hit: bool
    stale: bool = False


@dataclass(slots=True)
class _Entry:
    value: object
    fresh_until: float


@dataclass(slots=True)
class CacheStatistics:
    hits: int = 0
    misses: int = 0
    stale: int = 0


class Cache:
    """JSON values by key, at most `capacity` in the process, least recently used out first."""

    def __init__(
        self,
        *,
        ttl_seconds: float = 60,
        capacity: int = 10_000,
        clock: Clock | None = None,
        second: SecondLevel | None = None,
    ) -> None:
        self.ttl_seconds = ttl_seconds
        self.statistics = CacheStatistics()
        self._capacity = capacity
        self._clock = clock or SystemClock()
        self._second = second
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._loading: dict[str, asyncio.Future[object]] = {}

    async def get_or_load(self, key: str, load: Callable[[], Awaitable[object]]) -> Cached:
        """The fresh value, or `load()` run once however many callers wait; its error only when nothing is kept."""
        entry = self._entries.get(key)
        if entry is not None and entry.fresh_until > self._clock.monotonic():
            self._entries.move_to_end(key)
            self.statistics.hits += 1
            return Cached(entry.value, hit=True)
        shared = await self._from_second(key)
        if shared is not None:
            return shared
        try:
            return Cached(await self._load_once(key, load), hit=False)
        except (NexusError, OSError, TimeoutError):
            if entry is None:
                raise
            self.statistics.stale += 1
            return Cached(entry.value, hit=True, stale=True)

    def kept(self, key: str) -> Cached | None:
        """What this process has, fresh or marked stale, without asking anybody."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        return Cached(entry.value, hit=True, stale=entry.fresh_until <= self._clock.monotonic())

    async def _from_second(self, key: str) -> Cached | None:
        if self._second is None or (raw := await self._second.get(key)) is None:
            return None
        try:
            value = json.loads(raw)
        except ValueError:
            return None  # what somebody else left there is no value of ours: ask the source, which overwrites it
        self._remember(key, value)
        self.statistics.hits += 1
        return Cached(value, hit=True)

    async def _load_once(self, key: str, load: Callable[[], Awaitable[object]]) -> object:
        running = self._loading.get(key)
        if running is not None:
            return await asyncio.shield(running)
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._loading[key] = future
        self.statistics.misses += 1
        try:
            value = await load()
        except BaseException as error:
            # Waiters get the same outcome; a cancelled leader looks to them like a failed source.
            failure = TimeoutError("the query was cancelled") if isinstance(error, asyncio.CancelledError) else error
            future.set_exception(failure)
            future.exception()
            raise
        finally:
            del self._loading[key]
        future.set_result(value)
        await self._store(key, value)
        return value

    async def _store(self, key: str, value: object) -> None:
        self._remember(key, value)
        if self._second is not None:
            await self._second.set(key, json.dumps(value).encode(), self.ttl_seconds)

    def _remember(self, key: str, value: object) -> None:
        self._entries[key] = _Entry(value, self._clock.monotonic() + self.ttl_seconds)
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    async def clear(self, key: str | None = None) -> None:
        """Forget one key, or everything this process holds."""
        if key is None:
            self._entries.clear()
            return
        self._entries.pop(key, None)
        if self._second is not None:
            await self._second.delete(key)
