"""Durable engines side by side: workers that share the load, a worker that is killed, a table that has grown.

``python -m bench.engines [--url URL]`` prints JSON: workflows a second with one and two worker processes on PostgreSQL
and on Restate, the seconds until a killed worker's runs go on, and the latency of every statement beside 400,000 runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp

import uvloop

from agentnexus.platform.database import Database
from agentnexus.platform.embedded import EmbeddedPostgres
from agentnexus.platform.migrations.run import migrate
from agentnexus.platform.process import free_port
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.journal import End, Journal, Write
from agentnexus.workflows.engine.port import NewRun, RunState
from agentnexus.workflows.engine.postgres.journal import PostgresJournal
from agentnexus.workflows.engine.restate.door import RestatePlaces, restate_engine
from agentnexus.workflows.engine.restate.server import RestateServer
from bench.peers.restate_workflows import native
from bench.workflows import fresh_database

COUNTS = {"postgres": {"single": 4000, "dag": 1500}, "restate": {"single": 300, "dag": 120}}
GROWN, QUEUED, TENANTS = 400_000, 20_000, 100
NATIVE_CALLERS = 64
HELD = 300  # more than one worker's slots: both have some


@asynccontextmanager
async def workers(
    count: int, url: str, places: RestatePlaces | None
) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Worker processes, ready."""
    more = [] if places is None else [json.dumps(asdict(places))]
    found = []
    for _ in range(count):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.peers.engine_worker", url, *more, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        found.append(process)
    try:
        yield found
    finally:
        for process in found:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def watcher(url: str, places: RestatePlaces | None) -> AsyncIterator[DurableEngine]:
    """An engine that starts runs and works on none."""
    if places is not None:
        async with restate_engine(places, works=False) as engine:
            yield engine
        return
    database = await Database.open(url, max_size=8)
    async with Wakeups(database) as wakeups:
        yield DurableEngine(PostgresJournal(database, wakeups))
    await database.close()


async def ended(engine: DurableEngine) -> int:
    return sum(count for state, count in (await engine.counts()).items() if state.final)


async def drained(engine: DurableEngine, name: str, body: str, count: int) -> float:
    """Runs a second, from the first start to the last end."""
    before = await ended(engine)
    began = time.perf_counter()
    await asyncio.gather(*(engine.start(NewRun(f"{name}-{n}", body, None, tenant=f"t{n % 8}")) for n in range(count)))
    while await ended(engine) - before < count:
        await asyncio.sleep(0.02 if count > 1000 else 0.3)  # a count costs Restate as much as some runs
    return count / (time.perf_counter() - began)


async def scaling(kind: str, url: str, places: RestatePlaces | None) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    async with watcher(url, places) as engine:
        for number in (1, 2):
            async with workers(number, url, places):
                await drained(engine, f"warm-{number}", "single", 50)
                for body, count in COUNTS[kind].items():
                    rate = await drained(engine, f"{body}-{number}", body, count)
                    found[f"{body}-{number}"] = {"per_second": round(rate, 1)}
    return found


async def takeover(url: str, places: RestatePlaces | None) -> float:
    """Seconds from a kill -9 to the end of the last run that the dead worker had, by one that lives on.

    Each run is one step of a second, which begins again at the other worker and is not counted.
    """
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(watcher(url, places))
        running = await stack.enter_async_context(workers(2, url, places))
        ids = [f"taken-{number}" for number in range(HELD)]
        await asyncio.gather(*(engine.start(NewRun(run_id, "still", None)) for run_id in ids))
        await asyncio.sleep(0.6)
        running[0].kill()
        began = time.perf_counter()
        await asyncio.gather(*(engine.result(run_id) for run_id in ids))
        return round(time.perf_counter() - began - 1.0, 2)


async def latency(call: Callable[[int], Awaitable[object]], times: int = 200) -> dict[str, float]:
    """Of calls one after the other."""
    taken = []
    for number in range(times):
        began = time.perf_counter()
        await call(number)
        taken.append((time.perf_counter() - began) * 1000)
    taken.sort()
    return {"p50_ms": round(statistics.median(taken), 2), "p95_ms": round(taken[int(times * 0.95)], 2)}


FILL = """
insert into workflow.run (id, body, tenant, state, priority, turn, input, attributes, output, sequence, available_at,
                          created_at, updated_at, finished_at)
select 'old-' || n, 'workflow', 'tenant-' || n % $2, case when n <= $3 then 'queued' else 'completed' end, 0, n / $2,
       '{"text": "a task"}', '{"status": "completed"}', '{}', 2, now(), now() - n * interval '1 second', now(),
       case when n > $3 then now() - n * interval '1 second' end
from generate_series(1, $1) n
"""


async def grown(url: str) -> dict[str, dict[str, float]]:
    """Every statement of the journal beside many runs that ended and a long queue."""
    database = await Database.open(url, max_size=4)
    async with database.connection() as connection:
        await connection.execute(FILL, GROWN, TENANTS, QUEUED, timeout=120)
        await connection.execute("insert into workflow.tally select state, count(*) from workflow.run group by state")
        await connection.execute("insert into workflow.pace values (0, 0)")
        await connection.execute("vacuum analyze workflow.run", timeout=120)
    async with Wakeups(database) as wakeups:
        journal: Journal = PostgresJournal(database, wakeups)
        await journal.register("w", 3600)

        async def claim_and_end(number: int) -> None:
            (claim,) = await journal.claim("w", ["workflow"], 1)
            end = Write(claim.run.id, claim.epoch, journal.now(), end=End(RunState.COMPLETED, output="1"))
            assert await journal.commit([end]) == [True], number

        busy = [f"tenant-{number}" for number in range(4)]
        calls: dict[str, Callable[[int], Awaitable[object]]] = {
            "counts for /health": lambda _n: journal.counts(),
            "get": lambda n: journal.get(f"old-{n + 1}"),
            "list of a user": lambda n: journal.list_runs(f"tenant-{n % TENANTS}", 50, None),
            "last that ended": lambda _n: journal.recent(50),
            "enqueue one": lambda n: journal.enqueue([NewRun(f"new-{n}", "workflow", None, tenant="ann")]),
            "claim 64": lambda _n: journal.claim("w", ["workflow"], 64),
            "claim 64 beside 4 users with their share": lambda _n: journal.claim("w", ["workflow"], 64, sated=busy),
            "claim and end one": claim_and_end,
        }
        found = {name: await latency(call, 100 if "64" in name else 200) for name, call in calls.items()}
    await database.close()
    return found


async def bench(base: str, folder: Path) -> dict[str, object]:
    result: dict[str, object] = {}
    target = await fresh_database(base, "bench_engines")
    await migrate(target)
    result["postgres"] = await scaling("postgres", target, None)
    result["takeover_seconds"] = {"postgres": await takeover(target, None)}
    async with RestateServer(folder / "restate") as server:
        places = RestatePlaces(server.ingress_url, server.admin_url, port=free_port())
        result["restate"] = await scaling("restate", target, places)
        other = RestatePlaces(server.ingress_url, server.admin_url, port=free_port(), namespace="other")
        taken = result["takeover_seconds"]
        assert isinstance(taken, dict)
        taken["restate"] = await takeover(target, other)
    result["restate_native"] = await native(folder / "native", NATIVE_CALLERS, 2.0)
    full = await fresh_database(base, "bench_grown")
    await migrate(full)
    result["beside_400000_runs"] = await grown(full)
    return result


async def main(url: str | None) -> None:
    folder = Path(mkdtemp(prefix="nexus-bench-", dir="/tmp"))
    folder.chmod(0o755)
    server = None if url else EmbeddedPostgres(folder)
    try:
        base = url or (await server.start() if server else "")
        print(json.dumps(await bench(base, folder), indent=2))
    finally:
        if server is not None:
            await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    given = parser.parse_args()
    uvloop.run(main(given.url))
