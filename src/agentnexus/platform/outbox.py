"""Domain events leave in the transaction that caused them and are read in commit order, at least once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from agentnexus.core.errors import NexusError
from agentnexus.core.events import Event, EventName
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.logs import log

BATCH = 200
ROUND_MAX = 25 * BATCH
TRY_LOCK = "select pg_try_advisory_xact_lock(hashtextextended('outbox:' || $1, 0))"
Handler = Callable[[Event], Awaitable[None]]


async def publish(connection: Connection, events: Sequence[Event]) -> None:
    """Write events in the caller's transaction; a repeated (subject, sequence) is dropped."""
    await connection.executemany(
        """insert into platform.outbox (name, subject, sequence, data, at) values ($1, $2, $3, $4, $5)
           on conflict (subject, sequence) do nothing""",
        [(str(event.name), event.subject, event.sequence, event.data, event.at) for event in events],
    )


async def prune(database: Database, older_than_seconds: float) -> int:
    """Forget events that old which every reader has passed; returns how many."""
    async with database.connection() as connection:
        done = await connection.execute(
            """delete from platform.outbox o where o.at < now() - make_interval(secs => $1)
                and o.txid < pg_snapshot_xmin(pg_current_snapshot())
                and not exists (select 1 from platform.outbox_cursor c
                                 where (c.last_txid, c.last_id) < (o.txid, o.id))""",
            older_than_seconds,
        )
    return int(done.rpartition(" ")[2])


class OutboxReader:
    """Feeds events to a handler, remembering where it was under `reader`.

    Rows are ordered by transaction and only read once every older transaction has ended, so a slow writer's events
    are never jumped over. The cursor moves after the handler returned: a crash repeats, it never loses. Of several
    processes with one reader's name, one reads at a time.
    """

    def __init__(self, database: Database, reader: str) -> None:
        self._database = database
        self._reader = reader

    async def drain(self, handler: Handler) -> int:
        """Handle what is ready, some thousands at most; returns how many events that was.

        0 also while another process is at it. What the handler raises ends the call; the event comes again.
        """
        handled = 0
        async with self._database.transaction() as guard:
            if not await guard.fetchval(TRY_LOCK, self._reader):
                return 0
            while handled < ROUND_MAX and (batch := await self._next_batch()):
                for txid, identifier, event in batch:
                    await handler(event)
                    await self._advance(txid, identifier)
                handled += len(batch)
        return handled

    async def follow(self, handler: Handler, pause_seconds: float) -> None:
        """Read for ever. A handler or a database that fails is logged and tried again."""
        while True:
            try:
                await self.drain(handler)
            except (NexusError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("outbox.failed", reader=self._reader, error=str(error))
            await asyncio.sleep(pause_seconds)

    async def _next_batch(self) -> list[tuple[int, int, Event]]:
        async with self._database.connection() as connection:
            await connection.execute(
                "insert into platform.outbox_cursor (reader) values ($1) on conflict do nothing", self._reader
            )
            rows = await connection.fetch(
                """select o.txid::text as txid, o.id, o.name, o.subject, o.sequence, o.data, o.at
                     from platform.outbox o, platform.outbox_cursor c
                    where c.reader = $1 and (o.txid, o.id) > (c.last_txid, c.last_id)
                      and o.txid < pg_snapshot_xmin(pg_current_snapshot())
                    order by o.txid, o.id limit $2""",
                self._reader,
                BATCH,
            )
        return [
            (
                int(row["txid"]),
                row["id"],
                Event(
                    name=EventName(row["name"]),
                    subject=row["subject"],
                    sequence=row["sequence"],
                    at=row["at"],
                    data=row["data"],
                ),
            )
            for row in rows
        ]

    async def _advance(self, txid: int, identifier: int) -> None:
        async with self._database.connection() as connection:
            await connection.execute(
                """update platform.outbox_cursor set last_txid = $2::text::xid8, last_id = $3
                    where reader = $1 and (last_txid, last_id) < ($2::text::xid8, $3)""",
                self._reader,
                str(txid),
                identifier,
            )
