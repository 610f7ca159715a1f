"""Several workers over one engine: one that is lost in the middle of a step is taken over, on both durable backends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentnexus.core.errors import Unavailable
from agentnexus.platform.database import Database
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.port import NewRun, RunState
from agentnexus.workflows.engine.restate import door
from agentnexus.workflows.engine.restate import server as server_module
from agentnexus.workflows.engine.restate.door import RestatePlaces, restate_engine
from agentnexus.workflows.engine.restate.server import RestateServer, find_restate

from .backends import Backend
from .conftest import until
from .test_chaos import ROOT, STEPS
from .worker_process import TABLES

LEASE, RENEW = "5", "1.5"  # as in production
RUNS = 15


@asynccontextmanager
async def worker(url: str, backend: Backend) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.workflows.worker_process", url, LEASE, RENEW, backend.to_json(),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"working\n"
        yield process
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
            await process.communicate()


async def in_the_middle(database: Database) -> None:
    """Steps have begun that have not had their effect yet, and every worker has some."""

    async def some() -> bool:
        async with database.connection() as connection:
            return int(await connection.fetchval("select count(*) from executions")) >= RUNS

    await until(some, "steps run")


async def all_end_once(engine: DurableEngine, database: Database, ids: list[str]) -> int:
    """Every run ended well, every effect happened once; returns how many runs were taken over."""
    taken_over = 0
    for run_id in ids:
        record = await engine.result(run_id)
        assert record.state is RunState.COMPLETED, record.error
        assert record.output == ["a", "b", "c", "d", "e"]
        taken_over += record.recoveries > 0
        events = [event async for event in engine.events(run_id)]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    async with database.connection() as connection:
        assert await connection.fetchval("select count(*) from effects") == len(ids) * STEPS
    return taken_over


@pytest.mark.chaos
async def test_of_three_workers_one_killed_in_mid_step_is_taken_over_by_the_others(
    server: RestateServer | None, database: Database, database_url: str
) -> None:
    backend = Backend.on(server)
    async with database.connection() as connection:
        await connection.execute(TABLES)
    ids = [f"run-{number:02}" for number in range(RUNS)]
    async with (
        backend.engine(database, works=False) as engine,
        worker(database_url, backend) as first, worker(database_url, backend), worker(database_url, backend),
    ):  # fmt: skip
        await asyncio.gather(*(engine.start(NewRun(run_id, "diamond", None, tenant=run_id[-1])) for run_id in ids))
        await in_the_middle(database)
        first.kill()
        async with asyncio.timeout(60):
            assert await all_end_once(engine, database, ids) > 0


@pytest.mark.chaos
async def test_a_worker_frozen_in_mid_step_is_given_up_and_fenced(
    server: RestateServer | None, database: Database, database_url: str
) -> None:
    """On Restate the next worker answers at another address, as when a balancer drops the one that is silent."""
    backend, beside = Backend.on(server), Backend.on(server)
    async with database.connection() as connection:
        await connection.execute(TABLES)
    async with backend.engine(database, works=False) as engine, worker(database_url, backend) as frozen:
        await engine.start(NewRun("slow", "slow", None))

        async def begun() -> bool:
            async with database.connection() as connection:
                return bool(await connection.fetchval("select exists (select from executions)"))

        await until(begun, "the step runs")
        os.kill(frozen.pid, signal.SIGSTOP)
        async with worker(database_url, beside), asyncio.timeout(60):
            record = await engine.result("slow")
            os.kill(frozen.pid, signal.SIGCONT)
            await engine.start(NewRun("later", "diamond", None))
            await engine.result("later")
    assert record.recoveries == 1
    assert record.output == "slept"
    async with database.connection() as connection:
        assert await connection.fetchval("select count(*) from effects where run = 'slow'") == 1


async def test_a_cancel_from_another_process_reaches_the_step_that_runs(
    server: RestateServer | None, database: Database, database_url: str
) -> None:
    backend = Backend.on(server)
    async with database.connection() as connection:
        await connection.execute(TABLES)
    async with backend.engine(database, works=False) as engine, worker(database_url, backend):
        await engine.start(NewRun("long", "long", None))

        async def begun() -> bool:
            async with database.connection() as connection:
                return bool(await connection.fetchval("select exists (select from executions)"))

        await until(begun, "the step runs")
        assert await engine.cancel("long", "enough")
        async with asyncio.timeout(20):
            assert (await engine.result("long")).state is RunState.CANCELLED


async def test_the_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(Unavailable, match="not installed") as missing:
        async with restate_engine(RestatePlaces(), works=False):
            raise AssertionError("opened without its packages")
    assert "agentnexus[restate]" in missing.value.next_step


async def test_the_server_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module.platform, "machine", lambda: "abacus")
    monkeypatch.setattr(server_module.shutil, "which", lambda _name: None)
    with pytest.raises(Unavailable, match="not installed") as missing:
        find_restate()
    assert "npm ci" in missing.value.next_step


async def test_a_restate_that_does_not_answer_is_said_to(server: RestateServer | None) -> None:
    if server is not None:
        await server.kill()
    url = "http://127.0.0.1:9" if server is None else server.ingress_url
    async with restate_engine(RestatePlaces(url, url), works=False) as engine:
        for call in (engine.get("r1"), engine.start(NewRun("r1", "b", None)), engine.cancel("r1")):
            with pytest.raises(Unavailable, match="Restate does not answer"):
                await call


async def test_the_server_stops_with_the_process_that_started_it(server: RestateServer | None) -> None:
    if server is None:
        return
    script = (
        "import asyncio, pathlib, sys\n"
        "from agentnexus.workflows.engine.restate.server import RestateServer\n"
        "async def main():\n"
        "    server = RestateServer(pathlib.Path(sys.argv[1]), partitions=1)\n"
        "    await server.start()\n"
        "    print(server._process.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(server._folder / "other"), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    parent.kill()
    await parent.communicate()

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    await until(gone, "the server has ended")
