"""Workflow engine: workflows a second and overhead per step, beside a naive engine doing the same durable work.

``python -m bench.workflows [--url URL] [--seconds 5] [--concurrency 256]`` prints JSON. The naive engine is what one
writes first: one transaction per step with a row lock on the run, no group commit, no fence, no events, no lease.
DBOS, a library for the same work, runs beside it on the same server where it can be installed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import asyncpg
import uvloop

from agentnexus.core.canonical import Json
from agentnexus.core.events import EventName
from agentnexus.platform.database import Database
from agentnexus.platform.embedded import EmbeddedPostgres
from agentnexus.platform.migrations.run import migrate
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.port import Draft, NewRun, Phase, Run, StepContext, Transition
from agentnexus.workflows.engine.postgres.journal import PostgresJournal
from agentnexus.workflows.engine.worker import WorkerSettings
from bench.peers.environment import PeerMissing, peer_output

DBOS_VERSION = "dbos==3.4.0"
DBOS_CALLERS = (1, 16, 64)  # it gets slower beyond
DAG = (("a", ()), ("b", ("a",)), ("c", ("a",)), ("d", ("a",)), ("e", ("b", "c", "d")))
RunOne = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Measured:
    """Workflows a second from start to seen end, with latencies in ms."""

    name: str
    concurrency: int
    workflows: int
    seconds: float
    latencies_ms: Sequence[float]

    def to_json(self) -> dict[str, object]:
        ordered = sorted(self.latencies_ms)
        return {
            "name": self.name,
            "concurrency": self.concurrency,
            "workflows": self.workflows,
            "per_second": round(self.workflows / self.seconds, 1),
            "p50_ms": round(statistics.median(ordered), 2),
            "p95_ms": round(ordered[int(len(ordered) * 0.95)], 2),
        }


async def measure(name: str, run_one: RunOne, concurrency: int, seconds: float) -> Measured:
    """Callers in a closed loop, each starting the next workflow when its last has ended."""
    latencies: list[float] = []
    numbers = iter(range(10**9))
    ending = time.perf_counter() + seconds

    async def caller() -> None:
        while time.perf_counter() < ending:
            began = time.perf_counter()
            await run_one(f"{name}-{next(numbers)}")
            latencies.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return Measured(name, concurrency, len(latencies), time.perf_counter() - began, latencies)


async def nothing(context: StepContext) -> Json:
    return context.key


async def a_second(_context: StepContext) -> Json:
    await asyncio.sleep(1)
    return None


def narrate(transition: Transition) -> list[Draft]:
    """What a product emits: an event at the start and one at the end of each step."""
    name = EventName.STEP_STARTED if transition.phase is Phase.STARTED else EventName.STEP_COMPLETED
    return [Draft(name, {"step": transition.key}, {f"step:{transition.key}": transition.phase.value})]


def bodies(engine: DurableEngine) -> None:
    async def single(run: Run, _given: Json) -> Json:
        return await run.step("a", nothing)

    async def dag(run: Run, _given: Json) -> Json:
        return await _dag(run, None)

    async def told(run: Run, _given: Json) -> Json:
        return await _dag(run, narrate)

    async def still(run: Run, _given: Json) -> Json:
        return await run.step("still", a_second)

    for name, body in (("single", single), ("dag", dag), ("told", told), ("still", still)):
        engine.register(name, body)


async def _dag(run: Run, words: Callable[[Transition], Sequence[Draft]] | None) -> Json:
    await run.step("a", nothing, narrate=words)
    await asyncio.gather(*(run.step(key, nothing, narrate=words) for key in "bcd"))
    return await run.step("e", nothing, narrate=words)


NAIVE_TABLES = """
create table naive_run (id text primary key, state text not null, output jsonb);
create table naive_step (run text not null, key text not null, output jsonb, primary key (run, key));
"""


async def naive(database: Database, run_id: str, steps: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    """One transaction for each checkpoint."""
    async with database.transaction() as connection:
        await connection.execute("insert into naive_run values ($1, 'running')", run_id)

    async def step(key: str) -> None:
        async with database.transaction() as connection:
            await connection.execute("select 1 from naive_run where id = $1 for update", run_id)
            await connection.execute("insert into naive_step values ($1, $2, $3)", run_id, key, key)

    done: set[str] = set()
    while len(done) < len(steps):
        ready = [key for key, waits in steps if key not in done and set(waits) <= done]
        await asyncio.gather(*(step(key) for key in ready))
        done.update(ready)
    async with database.transaction() as connection:
        await connection.execute("update naive_run set state = 'done', output = $2 where id = $1", run_id, "x")


async def bench(url: str, seconds: float, concurrency: int) -> dict[str, object]:
    database = await Database.open(url, max_size=16)
    async with database.connection() as connection:
        await connection.execute(NAIVE_TABLES)
    measured: list[Measured] = []
    async with Wakeups(database) as wakeups:
        engine = DurableEngine(
            PostgresJournal(database, wakeups), settings=WorkerSettings(runs_max=max(concurrency, 64), claim_max=256)
        )
        bodies(engine)
        worker = asyncio.create_task(engine.work())

        def through(body: str) -> RunOne:
            async def run_one(run_id: str) -> None:
                await engine.start(NewRun(run_id, body, None))
                await engine.result(run_id)

            return run_one

        for body in ("single", "dag", "told"):
            await measure(f"warm-{body}", through(body), 16, 0.5)
            async with database.connection() as connection:
                await connection.execute("analyze workflow.run")  # what autovacuum does within its first minute
            for callers in (1, 16, concurrency):
                measured.append(await measure(f"{body}-{callers}", through(body), callers, seconds))
        worker.cancel()
        await asyncio.wait([worker])
    for name, steps in (("naive-single", DAG[:1]), ("naive-dag", DAG)):
        for callers in (1, 16, concurrency):
            run = lambda run_id, steps=steps: naive(database, run_id, steps)  # noqa: E731 - bound to this shape
            measured.append(await measure(f"{name}-{callers}", run, callers, seconds))
    await database.close()
    rows = {entry.name: entry.to_json() for entry in measured}
    return {"results": rows, "overhead_per_step_ms": _overhead(rows, concurrency)}


def _overhead(rows: dict[str, dict[str, object]], concurrency: int) -> dict[str, float]:
    """Latency that one more step on the path adds (the DAG has two more than the single), alone and under load."""

    def p50(name: str) -> float:
        return float(str(rows[name]["p50_ms"]))

    return {
        f"at_{callers}": round((p50(f"dag-{callers}") - p50(f"single-{callers}")) / 2, 3)
        for callers in (1, concurrency)
    }


async def dbos(base: str, seconds: float) -> dict[str, object]:
    """The same two workflows with DBOS on the same server, or why there are none."""
    target = await fresh_database(base, "bench_dbos")
    task = {"url": target, "callers": DBOS_CALLERS, "seconds": seconds}
    try:
        text = await peer_output(DBOS_VERSION, Path("bench/peers/dbos_workflows.py"), json.dumps(task))
    except PeerMissing as missing:
        return {"results": {}, "left_out": str(missing)}
    peer: dict[str, object] = json.loads(text)
    return peer


async def fresh_database(base: str, name: str) -> str:
    """An empty database on the server of `base`; its URL."""
    connection = await asyncpg.connect(base)
    await connection.execute(f"drop database if exists {name}")
    await connection.execute(f"create database {name}")
    await connection.close()
    return f"{base.rsplit('/', 1)[0]}/{name}"


async def main(url: str | None, seconds: float, concurrency: int) -> None:
    folder = Path(mkdtemp(prefix="nexus-bench-", dir="/tmp"))
    folder.chmod(0o755)
    server = None if url else EmbeddedPostgres(folder)
    base = url or (await server.start() if server else "")
    try:
        target = await fresh_database(base, "bench_workflows")
        await migrate(target)
        measured = await bench(target, seconds, concurrency)
        peer = await dbos(base, seconds)
        print(json.dumps({**measured, "peers": {DBOS_VERSION: peer}}, indent=2))
    finally:
        if server is not None:
            await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=256)
    given = parser.parse_args()
    uvloop.run(main(given.url, given.seconds, given.concurrency))
