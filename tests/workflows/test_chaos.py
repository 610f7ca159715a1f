"""Real workers in processes of their own, killed and frozen at random: every run ends, every effect happens once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.port import NewRun, RunState
from agentnexus.workflows.engine.postgres.journal import PostgresJournal

from .conftest import until
from .worker_process import TABLES

pytestmark = pytest.mark.chaos
LEASE, RENEW = 1.0, 0.3
STEPS = 5
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Crowd:
    """Worker processes over one database."""

    url: str
    processes: list[asyncio.subprocess.Process]

    async def spawn(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.workflows.worker_process", self.url, str(LEASE), str(RENEW),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        assert await process.stdout.readline() == b"working\n"
        self.processes.append(process)
        return process

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        self.processes.remove(process)
        process.kill()
        await process.communicate()


@asynccontextmanager
async def crowd(url: str, size: int) -> AsyncIterator[Crowd]:
    found = Crowd(url, [])
    try:
        for _ in range(size):
            await found.spawn()
        yield found
    finally:
        for process in list(found.processes):
            os.kill(process.pid, signal.SIGCONT)
            await found.kill(process)


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[DurableEngine]:
    async with database.connection() as connection:
        await connection.execute(TABLES)
    async with Wakeups(database) as wakeups:
        yield DurableEngine(PostgresJournal(database, wakeups))


async def start(engine: DurableEngine, count: int) -> list[str]:
    ids = [f"run-{number:03}" for number in range(count)]
    await asyncio.gather(*(engine.start(NewRun(run_id, "diamond", None)) for run_id in ids))
    return ids


async def all_done(engine: DurableEngine, count: int) -> bool:
    return (await engine.counts()).get(RunState.COMPLETED, 0) == count


async def check(engine: DurableEngine, database: Database, ids: list[str]) -> None:
    """All ended well, each effect once, events without a gap and in a sensible order."""
    async with database.connection() as connection:
        effects = await connection.fetchval("select count(*) from effects")
        keys = await connection.fetchval("select count(distinct key) from executions")
        executions = await connection.fetchval("select count(*) from executions")
        steps = await connection.fetchval("select count(*) from workflow.step where state = 'completed'")
    assert effects == keys == steps == len(ids) * STEPS
    assert executions >= effects
    for run_id in ids:
        record = await engine.get(run_id)
        assert record.state is RunState.COMPLETED
        assert record.output == ["a", "b", "c", "d", "e"]
        events = [event async for event in engine.events(run_id)]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        finished = [event.data["step"] for event in events if event.name.value == "step.completed"]
        assert sorted(finished, key=str) == ["a", "b", "c", "d", "e"]
        assert (finished[0], finished[-1]) == ("a", "e")
        assert events[-1].name.value == "workflow.completed"


async def test_workers_killed_at_random_points_lose_nothing_and_repeat_nothing(
    engine: DurableEngine, database: Database, database_url: str
) -> None:
    chance = random.Random(7)
    ids = await start(engine, 160)
    kills = 0
    async with crowd(database_url, 3) as workers, asyncio.TaskGroup() as spawning:
        while (before := (await engine.counts()).get(RunState.COMPLETED, 0)) < len(ids) - 40:
            target = before + chance.randrange(1, 30)

            async def reached(target: int = target) -> bool:
                return (await engine.counts()).get(RunState.COMPLETED, 0) >= target

            await until(reached, f"{target} runs are done")
            await workers.kill(chance.choice(workers.processes))
            kills += 1
            replacement = spawning.create_task(workers.spawn())
            if not workers.processes:
                await replacement
        async with asyncio.timeout(60):
            for run_id in ids:
                await engine.result(run_id)
    async with database.connection() as connection:
        taken_over = await connection.fetchval("select count(*) from workflow.run where recoveries > 0")
    assert kills >= 3
    assert taken_over > 0
    await check(engine, database, ids)


async def test_the_last_worker_killed_leaves_its_runs_to_one_that_starts_later(
    engine: DurableEngine, database: Database, database_url: str
) -> None:
    ids = await start(engine, 10)
    async with crowd(database_url, 1) as workers:

        async def running() -> bool:
            async with database.connection() as connection:
                return bool(await connection.fetchval("select exists (select from executions)"))

        await until(running, "something runs")
        await workers.kill(workers.processes[0])
        assert not await all_done(engine, len(ids))
        await workers.spawn()
        async with asyncio.timeout(60):
            for run_id in ids:
                await engine.result(run_id)
    assert any([(await engine.get(run_id)).recoveries > 0 for run_id in ids])
    await check(engine, database, ids)


async def test_a_worker_frozen_longer_than_its_lease_is_fenced_when_it_wakes(
    engine: DurableEngine, database: Database, database_url: str
) -> None:
    async with crowd(database_url, 1) as workers:
        frozen = workers.processes[0]
        ids = await start(engine, 20)

        async def holds() -> bool:
            return (await engine.counts()).get(RunState.RUNNING, 0) > 0

        await until(holds, "the worker holds runs")
        os.kill(frozen.pid, signal.SIGSTOP)
        await workers.spawn()
        async with asyncio.timeout(60):
            for run_id in ids:
                await engine.result(run_id)
        before = {run_id: (await engine.get(run_id)).sequence for run_id in ids}
        os.kill(frozen.pid, signal.SIGCONT)
        more = [f"later-{number}" for number in range(5)]
        for run_id in more:
            await engine.start(NewRun(run_id, "diamond", None))
        async with asyncio.timeout(60):
            for run_id in more:
                await engine.result(run_id)

        async def renamed() -> bool:
            async with database.connection() as connection:
                return int(await connection.fetchval("select count(*) from workflow.worker")) >= 3

        await until(renamed, "the woken worker goes on under a new name")
    assert {run_id: (await engine.get(run_id)).sequence for run_id in ids} == before
    await check(engine, database, ids + more)
