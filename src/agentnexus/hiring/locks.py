"""One runner per hire over all processes: PostgreSQL session locks, which end with the process that held them.

Safety does not rest on this (every payment is idempotent by its key); it spares sellers and wallets double work.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from agentnexus.platform.database import Database

POLL_SECONDS_FIRST = 0.02
POLL_SECONDS_MAX = 0.5


class HireLocks:
    """Locks by hire key on one connection of its own. Call `close` before the process ends."""

    def __init__(self, database: Database) -> None:
        self._url = database.url
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._wire = asyncio.Lock()
        self._local: dict[str, tuple[asyncio.Lock, int]] = {}
        self._held: set[int] = set()

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Wait until nobody else runs this hire, here or in another process."""
        async with self._here(key):
            number = _number(key)
            pause = POLL_SECONDS_FIRST
            while not await self._take(number):
                await asyncio.sleep(pause)
                pause = min(2 * pause, POLL_SECONDS_MAX)
            try:
                yield
            finally:
                await self._give(number)

    @asynccontextmanager
    async def try_hold(self, key: str) -> AsyncIterator[bool]:
        """Whether this hire is free right now; if so it is held inside."""
        if key in self._local:
            yield False
            return
        async with self._here(key):
            number = _number(key)
            taken = await self._take(number)
            try:
                yield taken
            finally:
                if taken:
                    await self._give(number)

    @asynccontextmanager
    async def _here(self, key: str) -> AsyncIterator[None]:
        lock, users = self._local.get(key, (asyncio.Lock(), 0))
        self._local[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._local[key]
            if users == 1:
                del self._local[key]
            else:
                self._local[key] = (lock, users - 1)

    async def _take(self, number: int) -> bool:
        async with self._wire:
            connection = await self._open()
            taken = bool(await connection.fetchval("select pg_try_advisory_lock($1)", number))
            if taken:
                self._held.add(number)
            return taken

    async def _give(self, number: int) -> None:
        async with self._wire:
            self._held.discard(number)
            if self._connection is not None and not self._connection.is_closed():
                await self._connection.fetchval("select pg_advisory_unlock($1)", number)

    async def _open(self) -> asyncpg.Connection[asyncpg.Record]:
        """The connection; after a loss a new one, with the locks of running hires taken again."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._url, server_settings={"application_name": "agentnexus-hires"}
            )
            for number in self._held:
                await self._connection.fetchval("select pg_try_advisory_lock($1)", number)
        return self._connection

    async def close(self) -> None:
        async with self._wire:
            if self._connection is not None:
                await self._connection.close()
                self._connection = None


def _number(key: str) -> int:
    return int.from_bytes(hashlib.sha256(b"hire\x1f" + key.encode()).digest()[:8], "big", signed=True)
