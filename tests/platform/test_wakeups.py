"""Wake-ups on a real PostgreSQL: local at once, elsewhere soon, never lost between look and wait, nothing kept."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import NoReturn

import pytest

from agentnexus.core.errors import Unavailable
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Wakeups]:
    async with Wakeups(database) as wakeups:
        yield wakeups


@pytest.fixture
async def there(database_url: str) -> AsyncIterator[Wakeups]:
    database = await Database.open(database_url)
    async with Wakeups(database) as wakeups:
        yield wakeups
    await database.close()


async def test_a_waiter_in_another_process_is_woken(here: Wakeups, there: Wakeups) -> None:
    waiting = asyncio.create_task(there.wait("a", 20))
    await asyncio.sleep(0)
    here.notify("a")
    assert await waiting


async def test_a_waiter_for_something_else_sleeps_on(here: Wakeups) -> None:
    event = here.watch("a")
    here.notify("b")
    assert not event.is_set()
    assert not await here.wait("a", 0)


async def test_what_happens_between_look_and_wait_is_not_missed(here: Wakeups) -> None:
    event = here.watch("a")
    here.notify("a")
    async with asyncio.timeout(20):
        await event.wait()


async def test_everybody_who_waits_is_woken_and_the_next_wait_is_a_new_one(here: Wakeups) -> None:
    waiting = [asyncio.create_task(here.wait("a", 20)) for _ in range(20)]
    await asyncio.sleep(0)
    here.notify("a")
    assert all(await asyncio.gather(*waiting))
    assert not here.watch("a").is_set()


async def test_topics_that_nobody_waits_for_any_more_are_forgotten(here: Wakeups) -> None:
    for number in range(1000):
        here.watch(f"run:{number}")
        assert not await here.wait(f"run:{number}", 0)
    gc.collect()
    assert len(here._waiting) <= 1  # the last one may still be in a frame


async def test_after_its_connection_was_cut_it_listens_again(here: Wakeups, there: Wakeups, database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    async with asyncio.timeout(20):
        while True:
            waiting = asyncio.create_task(there.wait("a", 0.2))
            await asyncio.sleep(0)
            here.notify("a")
            if await waiting:
                break


async def test_notices_that_cannot_be_sent_do_not_stop_the_sender(
    here: Wakeups, there: Wakeups, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = asyncio.Event()

    def refuse() -> NoReturn:
        refused.set()
        raise Unavailable("nobody there")

    monkeypatch.setattr(database, "connection", refuse)
    here.notify("a")
    await refused.wait()
    monkeypatch.undo()
    waiting = asyncio.create_task(there.wait("b", 20))
    await asyncio.sleep(0)
    here.notify("b")
    assert await waiting
