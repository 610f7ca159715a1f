"""One runner per hire over all processes: PostgreSQL session locks, which end with the process that held them.

A process that is frozen keeps its connection, and with it its locks. So holders show signs of life on that connection,
and who waits ends the connection of a holder that shows none. Safety does not rest on any of this (every payment is
idempotent by its key); it spares sellers and wallets double work.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import asyncpg

from agentnexus.platform.database import Database
from agentnexus.platform.logs import log

POLL_SECONDS_FIRST = 0.02
POLL_SECONDS_MAX = 0.5
BEAT_SECONDS = 1.5
FROZEN_SECONDS = 6.0
APPLICATION = "agentnexus-hires"
# The last: the server ended the connection in the middle of our sending.
LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

# Only a holder of ours, silent for so long; a lock's key is split over two unsigned columns.
END_FROZEN = """
select count(*) from (
    select pg_terminate_backend(held.pid) from pg_locks held join pg_stat_activity holder using (pid)
     where held.locktype = 'advisory' and held.granted and held.objsubid = 1
       and held.classid::bigint = $1 and held.objid::bigint = $2
       and held.database = (select oid from pg_database where datname = current_database())
       and holder.application_name = $3 and holder.pid <> pg_backend_pid()
       and holder.state_change < clock_timestamp() - make_interval(secs => $4)) ended
"""


class HireLocks:
    """Locks by hire key on one connection of its own. Call `close` before the process ends."""

    def __init__(
        self, database: Database, *, beat_seconds: float = BEAT_SECONDS, frozen_seconds: float = FROZEN_SECONDS
    ) -> None:
        self._url = database.url
        self._beat_seconds = beat_seconds
        self._frozen_seconds = frozen_seconds
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._wire = asyncio.Lock()
        self._local: dict[str, tuple[asyncio.Lock, int]] = {}
        self._held: set[int] = set()
        self._beating: asyncio.Task[None] | None = None
        self._unlocking: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Wait until nobody else runs this hire, here or in another process."""
        async with self._here(key):
            number = _number(key)
            pause, waited = POLL_SECONDS_FIRST, 0.0
            while not await self._take(number):
                if waited >= self._frozen_seconds:
                    await self._end_frozen(number)
                await asyncio.sleep(pause)
                waited += pause
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
        """Who is cancelled while the server decides gives back what it got."""
        taking = asyncio.create_task(self._try(number))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            self._later(self._undo(taking, number))
            raise

    async def _try(self, number: int) -> bool:
        async with self._wire:
            connection = await self._open()
            taken = bool(await connection.fetchval("select pg_try_advisory_lock($1)", number))
            if taken:
                self._held.add(number)
            if self._beating is None:
                self._beating = asyncio.create_task(self._beat(), name="hire-locks")
            return taken

    async def _undo(self, taking: asyncio.Task[bool], number: int) -> None:
        await asyncio.wait([taking])
        if taking.exception() is None and taking.result():
            await self._unlock(number)

    async def _give(self, number: int) -> None:
        """Finished even when the caller is cancelled meanwhile; a lost connection has given it back already."""
        await asyncio.shield(self._later(self._unlock(number)))

    async def _unlock(self, number: int) -> None:
        async with self._wire:
            self._held.discard(number)
            if self._connection is None or self._connection.is_closed():
                return
            try:
                await self._connection.fetchval("select pg_advisory_unlock($1)", number)
            except LOST as error:
                log.warning("hiring.lock_connection_lost", error=str(error))
                self._connection.terminate()

    def _later(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._unlocking.add(task)
        task.add_done_callback(self._unlocking.discard)
        return task

    async def _beat(self) -> None:
        """Signs of life while anything is held: others see when this connection last did something."""
        while True:
            await asyncio.sleep(self._beat_seconds)
            if not self._held:
                continue
            try:
                async with self._wire:
                    await (await self._open()).execute("select 1")
            except LOST as error:
                log.warning("hiring.lock_connection_lost", error=str(error))

    async def _end_frozen(self, number: int) -> None:
        high, low = number >> 32 & 0xFFFFFFFF, number & 0xFFFFFFFF
        async with self._wire:
            connection = await self._open()
            ended = await connection.fetchval(END_FROZEN, high, low, APPLICATION, self._frozen_seconds)
        if ended:
            log.warning("hiring.frozen_holder_ended", holders=ended)

    async def _open(self) -> asyncpg.Connection[asyncpg.Record]:
        """The connection; after a loss a new one, with the locks of running hires taken again."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._url, server_settings={"application_name": APPLICATION})
            for number in self._held:
                await self._connection.fetchval("select pg_try_advisory_lock($1)", number)
        return self._connection

    async def close(self) -> None:
        """Let go of everything."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
            self._beating = None
        if self._unlocking:
            await asyncio.wait(self._unlocking)
        async with self._wire:
            if self._connection is not None:
                await self._connection.close()
                self._connection = None


def _number(key: str) -> int:
    return int.from_bytes(hashlib.sha256(b"hire\x1f" + key.encode()).digest()[:8], "big", signed=True)
