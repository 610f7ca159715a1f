"""Fixtures shared by all rooms: a real PostgreSQL per session, a fresh migrated database per test."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.ledger.wallet_signatures import RECURSION_MAX
from agentnexus.platform.database import Database
from agentnexus.platform.embedded import EmbeddedPostgres
from agentnexus.platform.migrations.run import migrate

pytest_plugins: list[str] = ["tests.chain_fixtures"]
_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _interrupts_are_heard() -> None:
    """Shells start what runs in the background with SIGINT ignored, and so would every program that tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _recursion_limit_of_the_program() -> None:
    """Test modules import eth_account themselves, and with it a limit at which deep JSON kills the process."""
    sys.setrecursionlimit(RECURSION_MAX)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server with a migrated database named ``template``. ``NEXUS_TEST_DATABASE_URL`` uses yours."""
    own = os.environ.get("NEXUS_TEST_DATABASE_URL")
    folder = Path("/tmp") / f"nexus-test-{os.getpid()}"  # short and enterable by the server's own user
    server = None if own else EmbeddedPostgres(folder, durable=False)
    with asyncio.Runner() as runner:
        url = own or runner.run(server.start())  # type: ignore[union-attr]  # one of the two is set
        runner.run(_make_template(url))
        yield url
        if server is not None:
            runner.run(server.stop())
    if not own:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


async def _make_template(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("drop database if exists template_nexus")
    await connection.execute("create database template_nexus")
    await connection.close()
    await migrate(_with_name(url, "template_nexus"))


def _with_name(url: str, name: str) -> str:
    return url.rsplit("/", 1)[0] + f"/{name}"


@asynccontextmanager
async def fresh_database(postgres_url: str) -> AsyncIterator[str]:
    """URL of a fresh migrated database, dropped afterwards."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"create database {name} template template_nexus strategy file_copy")
    yield _with_name(postgres_url, name)
    await connection.execute(f"drop database {name} with (force)")
    await connection.close()


@pytest.fixture
async def database_url(postgres_url: str) -> AsyncIterator[str]:
    async with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture
async def other_database(postgres_url: str) -> AsyncIterator[Database]:
    """A second node's own."""
    async with fresh_database(postgres_url) as url:
        opened = await Database.open(url, max_size=10)
        yield opened
        await opened.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(database_url, max_size=10)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 11, 20, 12, 0, tzinfo=UTC))
