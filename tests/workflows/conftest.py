"""One acceptance suite, three backends: every test that takes `bench` runs in memory, on PostgreSQL and on Restate."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentnexus.core.clock import ManualClock, SeededEntropy
from agentnexus.platform.database import Database
from agentnexus.platform.process import free_port
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.journal import Journal
from agentnexus.workflows.engine.memory import MemoryJournal
from agentnexus.workflows.engine.port import NewRun, RunRecord, RunState
from agentnexus.workflows.engine.postgres.journal import PostgresJournal
from agentnexus.workflows.engine.restate.endpoint import serve
from agentnexus.workflows.engine.restate.ingress import Ingress
from agentnexus.workflows.engine.restate.journal import RestateJournal
from agentnexus.workflows.engine.restate.server import RestateServer
from agentnexus.workflows.engine.worker import Worker, WorkerSettings

from .site import Site, open_site

QUICK = WorkerSettings(lease_seconds=1e7, suspend_after_seconds=0.05, look_seconds=0.02, renew_seconds=0.05)


@dataclass
class Bench:
    """Engines over one journal, with a clock moved by hand."""

    journal: Journal
    clock: ManualClock
    settings: WorkerSettings = QUICK

    def engine(self) -> DurableEngine:
        return DurableEngine(self.journal, settings=self.settings, entropy=SeededEntropy(1))

    @asynccontextmanager
    async def working(self, engine: DurableEngine) -> AsyncIterator[Worker]:
        worker = engine.worker()
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def move(self, seconds: float, *workers: Worker) -> None:
        """Move time; every worker looks at its waits again."""
        self.clock.advance(seconds)
        for worker in workers:
            worker.poke()


async def until(condition: Callable[[], Awaitable[bool] | bool], what: str = "the condition") -> None:
    """Wait for a condition to hold; fails with its name after 20 s."""
    try:
        async with asyncio.timeout(20):
            while True:
                answer = condition()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"never came: {what}")


async def state_is(engine: DurableEngine, run_id: str, state: RunState) -> None:
    async def holds() -> bool:
        return (await engine.get(run_id)).state is state

    await until(holds, f"{run_id} {state}")


async def run_to_end(bench: Bench, engine: DurableEngine, run: NewRun) -> RunRecord:
    await engine.start(run)
    async with bench.working(engine), asyncio.timeout(20):
        return await engine.result(run.id)


@asynccontextmanager
async def open_bench(
    kind: str, clock: ManualClock, database_url: str, restate: RestateServer | None
) -> AsyncIterator[Bench]:
    """A journal of the kind, empty."""
    async with AsyncExitStack() as stack:
        if kind == "memory":
            yield Bench(MemoryJournal(clock), clock)
        elif kind == "postgres":
            database = await Database.open(database_url, max_size=10)
            stack.push_async_callback(database.close)
            wakeups = await stack.enter_async_context(Wakeups(database))
            yield Bench(PostgresJournal(database, wakeups, clock), clock)
        else:
            assert restate is not None
            ingress = await stack.enter_async_context(Ingress(restate.ingress_url, restate.admin_url))
            journal = RestateJournal(ingress, secrets.token_hex(4), clock)
            await stack.enter_async_context(serve(journal.station, ingress, "127.0.0.1", free_port()))
            stack.push_async_callback(journal.close)
            yield Bench(journal, clock)


@pytest.fixture(scope="session")
def restate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestateServer]:
    """One server for all tests; each has a namespace of its own in it."""
    server = RestateServer(tmp_path_factory.mktemp("restate"), partitions=2)
    with ThreadPoolExecutor(1) as thread:  # which has a loop of its own, whatever loop this is asked for in
        runner = asyncio.Runner()
        thread.submit(lambda: runner.run(server.start())).result()
        yield server
        thread.submit(lambda: runner.run(server.stop())).result()
        thread.submit(runner.close).result()


@pytest.fixture(params=["postgres", "restate"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RestateServer | None]:
    """A Restate that a test may kill, or none: then PostgreSQL is the backend."""
    if request.param == "postgres":
        yield None
        return
    async with RestateServer(tmp_path / "restate") as started:
        yield started


@pytest.fixture(params=["memory", "postgres", "restate"])
async def bench(request: pytest.FixtureRequest, clock: ManualClock, database_url: str) -> AsyncIterator[Bench]:
    """The engine's contract, on every backend."""
    restate = request.getfixturevalue("restate") if request.param == "restate" else None
    async with open_bench(request.param, clock, database_url, restate) as opened:
        yield opened


@pytest.fixture(params=["memory", "postgres"])
async def leased(request: pytest.FixtureRequest, clock: ManualClock, database_url: str) -> AsyncIterator[Bench]:
    """Journals that lease runs to workers and hand them out themselves."""
    async with open_bench(request.param, clock, database_url, None) as opened:
        yield opened


@pytest.fixture
async def site(database: Database) -> AsyncIterator[Site]:
    """The API as people and programs meet it."""
    async with open_site(database) as opened:
        yield opened
