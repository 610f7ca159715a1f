"""Locks of hires: one holder over all processes, given back whatever happens to it, cancelled, killed or frozen."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import asyncpg
import pytest

from agentnexus.hiring.locks import HireLocks
from agentnexus.platform.database import Database


@pytest.fixture
async def here(database: Database) -> AsyncIterator[HireLocks]:
    locks = HireLocks(database, beat_seconds=0.05, frozen_seconds=0.3)
    yield locks
    await locks.close()


@pytest.fixture
async def there(database: Database) -> AsyncIterator[HireLocks]:
    locks = HireLocks(database, beat_seconds=0.05, frozen_seconds=0.3)
    yield locks
    await locks.close()


async def is_free(locks: HireLocks, key: str) -> bool:
    async with locks.try_hold(key) as taken:
        return taken


async def test_a_cancelled_wait_for_the_server_leaves_no_lock_behind(here: HireLocks, there: HireLocks) -> None:
    async def hire() -> None:
        async with here.hold("k"):
            await asyncio.Event().wait()

    for turns in range(12):  # cancelled at each of the first points where it waits
        task = asyncio.create_task(hire())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            while not await is_free(there, "k"):
                await asyncio.sleep(0)


async def test_a_hire_cancelled_while_it_gives_its_lock_back_still_gives_it_back(
    here: HireLocks, there: HireLocks
) -> None:
    ended = asyncio.Event()

    async def hire() -> None:
        async with here.hold("k"):
            ended.set()

    task = asyncio.create_task(hire())
    await ended.wait()
    await here._wire.acquire()  # giving back has to wait
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    here._wire.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        while not await is_free(there, "k"):
            await asyncio.sleep(0)


async def test_an_unlock_that_finds_no_server_does_not_cost_the_answer(here: HireLocks, database: Database) -> None:
    async with here.hold("k"):
        async with database.connection() as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'agentnexus-hires'"
            )
        answer = "paid and delivered"
    assert answer
    assert await is_free(here, "k")


async def holder(url: str, key: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.hiring.holder", url, key, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    return process


async def test_a_frozen_process_does_not_keep_a_hire_for_ever(here: HireLocks, database: Database) -> None:
    process = await holder(database.url, "k")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20), here.hold("k"):
            assert not await is_free(HireLocks(database), "k")
    finally:
        process.kill()
        await process.wait()


async def test_a_killed_process_gives_its_hires_back(here: HireLocks, database: Database) -> None:
    process = await holder(database.url, "k")
    assert not await is_free(here, "k")
    process.kill()
    await process.wait()
    async with asyncio.timeout(20), here.hold("k"):
        pass


async def test_a_holder_that_shows_life_is_waited_for(here: HireLocks, there: HireLocks) -> None:
    asked = asyncio.Event()
    end_frozen = there._end_frozen

    async def counted(number: int) -> None:
        await end_frozen(number)
        asked.set()

    there._end_frozen = counted  # type: ignore[method-assign]

    async def wait_for_it() -> None:
        async with there.hold("k"):
            pass

    async with asyncio.timeout(20), here.hold("k"):
        connection = here._connection
        waiting = asyncio.create_task(wait_for_it())
        await asked.wait()
        asked.clear()
        await asked.wait()
        assert here._connection is connection
        assert connection is not None
        assert not connection.is_closed()
        assert not waiting.done()
    await waiting


async def test_a_hire_is_locked_in_this_and_in_every_other_process(database: Database) -> None:
    here, there = HireLocks(database), HireLocks(database)
    async with (
        here.hold("k"),
        here.try_hold("k") as mine,
        there.try_hold("k") as theirs,
        there.try_hold("other") as free,
    ):
        assert (mine, theirs, free) == (False, False, True)
    async with there.try_hold("k") as theirs:
        assert theirs
    await here.close()
    await there.close()


async def test_who_waits_for_a_lock_gets_it_when_it_is_free(database: Database) -> None:
    here, there = HireLocks(database), HireLocks(database)
    order: list[str] = []
    held, go_on = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with here.hold("k"):
            held.set()
            await go_on.wait()
            order.append("first")

    async def second() -> None:
        await held.wait()
        async with there.hold("k"):
            order.append("second")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(first())
        tasks.create_task(second())
        await held.wait()
        go_on.set()
    assert order == ["first", "second"]
    await here.close()
    await there.close()


async def test_a_lost_lock_connection_is_opened_again_with_its_locks(database: Database) -> None:
    here, there = HireLocks(database), HireLocks(database)
    async with here.hold("k"):
        connection = here._connection
        assert connection is not None
        connection.terminate()
        async with here.hold("other"), there.try_hold("k") as theirs:
            assert not theirs
    await here.close()
    await there.close()


async def test_a_lock_ends_with_the_connection_of_a_dead_process(database: Database) -> None:
    dead = await asyncpg.connect(database.url)
    locks = HireLocks(database)
    async with locks.hold("k"):
        number = next(iter(locks._held))
    assert await dead.fetchval("select pg_try_advisory_lock($1)", number)
    async with locks.try_hold("k") as taken:
        assert not taken
    await dead.close()
    async with asyncio.timeout(5), locks.hold("k"):
        assert number in locks._held
    await locks.close()
