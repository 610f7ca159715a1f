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


@pytest.mark.parametrize("where", ["connection", "transaction"])
async def test_a_connection_that_is_cut_off_is_unavailable_and_the_next_one_works(
    database: Database, where: str
) -> None:
    await_work = database.connection if where == "connection" else database.transaction
    with pytest.raises(Unavailable, match="does not answer") as caught:
        async with await_work() as connection:
            await connection.execute("select pg_terminate_backend(pg_backend_pid())")
            await connection.execute("select 1")
    assert "DATABASE_URL" in caught.value.next_step
    async with await_work() as connection:
        assert await connection.fetchval("select 1") == 1


async def test_a_pool_that_was_closed_is_unavailable(database_url: str) -> None:
    closed = await Database.open(database_url)
    await closed.close()
    with pytest.raises(Unavailable):
        async with closed.connection():
            pass


async def test_a_wrong_statement_or_argument_is_not_called_an_outage(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with database.connection() as connection:
            await connection.execute("select * from nowhere")
    with pytest.raises(asyncpg.DataError, match="invalid input"):
        async with database.connection() as connection:
            await connection.fetchval("select $1::int", "not a number")
    with pytest.raises(OSError, match="the caller's own"):
        async with database.connection():
            raise OSError("the caller's own")


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
