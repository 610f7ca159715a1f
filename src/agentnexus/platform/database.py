"""PostgreSQL through asyncpg: one pool, JSON values as Python values, one transaction per request or job."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self, TypeAlias

import asyncpg

from agentnexus.core.errors import Unavailable

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
IDLE_TRANSACTION_MS = 30_000
# The server or the way to it is gone. What is wrong with a statement is not among these.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server ended the connection in the middle of our sending
)


def _encode(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


async def prepare_connection(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """jsonb travels as Python values everywhere in the house."""
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, schema="pg_catalog", encoder=_encode, decoder=json.loads)


async def _keep_session(_connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Nothing: settings and locks on pooled connections are transaction-local, and asyncpg rolls back what is open.

    The default resets the session at every release, which doubles the round trips of single statements.
    """


class Database:
    """A pool of connections to one PostgreSQL database (15 to 18)."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], url: str) -> None:
        self.pool = pool
        self.url = url

    @classmethod
    async def open(cls, url: str, *, min_size: int = 1, max_size: int = 10) -> Self:
        """Connect; raises `Unavailable` naming what to check when the server is not there."""
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=min_size,
                max_size=max_size,
                init=prepare_connection,
                reset=_keep_session,
                server_settings={
                    "idle_in_transaction_session_timeout": str(IDLE_TRANSACTION_MS),
                    "timezone": "UTC",
                    "application_name": "agentnexus",
                },
            )
        except (OSError, asyncpg.PostgresError) as error:
            raise _gone(error) from error
        return cls(pool, url)

    async def close(self) -> None:
        await self.pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection outside any transaction, for single statements.

        Raises `Unavailable` when the server goes away; whether the statement was done is then not known.
        """
        try:
            connection = await self.pool.acquire()
        except (OSError, *LOST) as error:
            raise _gone(error) from error
        try:
            yield connection
        except LOST as error:
            raise _gone(error) from error
        finally:
            await self.pool.release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside one transaction: committed at the end, rolled back by any exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection


def _gone(error: Exception) -> Unavailable:
    return Unavailable(
        f"the database does not answer: {error}",
        next_step="check DATABASE_URL, or unset it to use the embedded database (`nexus doctor`)",
    )
