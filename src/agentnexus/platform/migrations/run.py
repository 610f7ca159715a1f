"""Bring a database to the newest schema (or back), and the helper the revisions call."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from agentnexus.core.errors import Unavailable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

HERE = Path(__file__).parent
LOCK_ID = 0x4E58_5553  # "NXUS": one migrating process at a time


@cache
def head() -> str:
    """Newest revision, read from the file names so that a warm start need not import Alembic."""
    return max(path.name[1:5] for path in (HERE / "versions").glob("v[0-9]*.py"))


async def current(url: str) -> str | None:
    """Revision the database is at; None for an empty one."""
    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError) as error:
        raise Unavailable(f"the database does not answer: {error}", next_step="check DATABASE_URL") from error
    try:
        if await connection.fetchval("select to_regclass('public.alembic_version')") is None:
            return None
        revision: str | None = await connection.fetchval("select version_num from public.alembic_version")
        return revision
    finally:
        await connection.close()


async def migrate(url: str, revision: str = "head") -> None:
    """Upgrade to `revision` (``head`` by default) or downgrade to it. Does nothing when already there."""
    now = await current(url)
    target = head() if revision == "head" else revision
    if now == target:
        return
    down = target == "base" or (now is not None and target < now)
    await _run_alembic(url, target, down=down)


async def _run_alembic(url: str, target: str, *, down: bool) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url), isolation_level="READ COMMITTED"
    )
    try:
        async with engine.connect() as connection:
            await connection.exec_driver_sql(f"select pg_advisory_xact_lock({LOCK_ID})")
            await connection.run_sync(_alembic, target, down)
            await connection.commit()
    finally:
        await engine.dispose()


def _alembic(connection: Connection, target: str, down: bool) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    if down:
        command.downgrade(config, target)
    else:
        command.upgrade(config, target)


def run_sql(name: str) -> None:
    """Run one file of ``sql/`` (several statements) inside the migration's transaction."""
    from alembic import op

    text = (HERE / "sql" / name).read_text(encoding="utf-8")
    raw = op.get_bind().connection.dbapi_connection
    assert raw is not None
    # The asyncpg adapter prepares single statements; its own `execute` without arguments takes a script.
    raw.run_async(lambda connection: connection.execute(text))


def main(url: str, revision: str = "head") -> None:
    """Blocking form for scripts."""
    asyncio.run(migrate(url, revision))
