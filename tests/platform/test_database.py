"""The database adapter and its migrations on a real PostgreSQL."""

from __future__ import annotations

import asyncpg
import pytest

from agentnexus.core.errors import Unavailable
from agentnexus.platform.database import Database
from agentnexus.platform.migrations.run import current, head, migrate


async def test_json_values_come_back_as_they_went_in(database: Database) -> None:
    async with database.connection() as connection:
        value = {"a": [1, None, "ü", {"b": True}]}
        assert await connection.fetchval("select $1::jsonb", value) == value


async def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("create table t (n int)")
    with pytest.raises(RuntimeError, match="stop"):
        async with database.transaction() as connection:
            await connection.execute("insert into t values (1)")
            raise RuntimeError("stop")
    async with database.connection() as connection:
        assert await connection.fetchval("select count(*) from t") == 0


async def test_an_absent_server_is_unavailable_with_advice() -> None:
    with pytest.raises(Unavailable) as caught:
        await Database.open("postgresql://postgres@127.0.0.1:1/none")
    assert "DATABASE_URL" in caught.value.next_step


async def test_migrations_go_down_to_nothing_and_up_again(database_url: str) -> None:
    assert await current(database_url) == head()
    await migrate(database_url, "base")
    connection = await asyncpg.connect(database_url)
    left = await connection.fetch(
        "select nspname from pg_namespace where nspname !~ '^(pg_|information_schema|public)'"
    )
    await connection.close()
    assert [row["nspname"] for row in left] == []
    await migrate(database_url)
    assert await current(database_url) == head()
