"""Telling handlers: in the order of the changes, each in the transaction that notes it as told.

A handler that fails stops at that change, and its failure can be read; the other handlers go on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import asyncpg

from agentnexus.core.errors import InvalidInput, NexusError
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.logs import log
from agentnexus.rails.evm.indexer.model import Change, ChangeKind, Handler
from agentnexus.rails.evm.indexer.store import Scope, event_of

CHANGES_AT_ONCE = 100
ERROR_CHARS_MAX = 500
_WAITING = """
select c.position, c.kind, c.round as change_round, e.*
from indexer.change c join indexer.event e using (name, network, block_hash, transaction, log_index)
where c.name = $1 and c.network = $2 and c.position > $3 and ($4::text[] is null or c.event = any($4))
order by c.position limit $5
"""


@dataclass(frozen=True, slots=True)
class _Subscription:
    call: Handler
    events: list[str] | None


class Delivery:
    """The handlers of this process and their turns."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope.row
        self._handlers: dict[str, _Subscription] = {}

    def subscribe(self, handler: str, call: Handler, events: Collection[str] | None) -> None:
        """Raises `InvalidInput` for a name that is taken."""
        if handler in self._handlers:
            raise InvalidInput(f"there is a handler {handler} already", field="handler")
        self._handlers[handler] = _Subscription(call, None if events is None else sorted(events))

    async def deliver(self) -> int:
        """One batch for each handler that no other process is telling; how many changes were told."""
        return sum([await self._tell(name, each) for name, each in self._handlers.items()])

    async def _tell(self, handler: str, subscription: _Subscription) -> int:
        async with self._database.transaction() as connection:
            position = await self._turn(connection, handler)
            if position is None:
                return 0
            newest = await connection.fetchval(
                "select coalesce(max(position), 0) from indexer.change where name = $1 and network = $2", *self._scope
            )
            rows = await connection.fetch(_WAITING, *self._scope, position, subscription.events, CHANGES_AT_ONCE)
            told, failure, before = 0, "", position
            for row in rows:
                failure = await self._call(connection, handler, subscription, row)
                if failure:
                    break
                told, position = told + 1, row["position"]
            if not failure and len(rows) < CHANGES_AT_ONCE:
                position = max(position, newest)  # the rest is not for this handler
            if position == before and not failure:
                return 0
            await connection.execute(
                "update indexer.handler set position = $4, last_error = $5,"
                " failures = case when $5 = '' then 0 when $6 > 0 then 1 else failures + 1 end"
                " where name = $1 and network = $2 and handler = $3",
                *self._scope,
                handler,
                position,
                failure,
                told,
            )
            return told

    async def _turn(self, connection: Connection, handler: str) -> int | None:
        """The handler's position, locked; None while another process tells it."""
        select = (
            "select position from indexer.handler where name = $1 and network = $2 and handler = $3"
            " for update skip locked"
        )
        position: int | None = await connection.fetchval(select, *self._scope, handler)
        if position is None:
            await connection.execute(
                "insert into indexer.handler (name, network, handler) select $1, $2, $3"
                " from indexer.follower where name = $1 and network = $2 on conflict do nothing",
                *self._scope,
                handler,
            )
            position = await connection.fetchval(select, *self._scope, handler)
        return position

    async def _call(
        self, connection: Connection, handler: str, subscription: _Subscription, row: asyncpg.Record
    ) -> str:
        """What went wrong, or nothing. A failed call leaves nothing behind in the transaction."""
        change = Change(ChangeKind(row["kind"]), event_of(row), self._scope[1], row["change_round"])
        try:
            async with connection.transaction():
                await subscription.call(connection, change)
        except (NexusError, OSError, asyncpg.PostgresError) as error:
            log.warning("indexer.handler_failed", handler=handler, change=change.key, error=str(error))
            return (str(error) or type(error).__name__)[:ERROR_CHARS_MAX]
        return ""
