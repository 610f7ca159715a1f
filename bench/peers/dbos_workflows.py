"""DBOS in the workflow benchmark: the one-step workflow and the five-step DAG, callers in a closed loop.

Run by `bench.workflows` with the Python of an environment of its own: ``dbos_workflows.py <task as JSON>`` prints
``{"results": {name: {...}}}``. DBOS is no part of the project: it is neither imported nor locked.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TypedDict

import dbos

Body = Callable[[], Awaitable[str]]


class Task(TypedDict):
    """What to measure, and on which database."""

    url: str
    callers: list[int]
    seconds: float


async def _nothing(key: str) -> str:
    return key


nothing: Callable[[str], Awaitable[str]] = dbos.DBOS.step()(_nothing)


async def _single() -> str:
    return await nothing("a")


async def _dag() -> str:
    await nothing("a")
    await asyncio.gather(*(nothing(key) for key in "bcd"))
    return await nothing("e")


BODIES: dict[str, Body] = {"single": dbos.DBOS.workflow()(_single), "dag": dbos.DBOS.workflow()(_dag)}


async def measure(body: Body, callers: int, seconds: float) -> dict[str, object]:
    """Workflows a second from start to seen end, with latencies in ms."""
    latencies: list[float] = []
    ending = time.perf_counter() + seconds

    async def caller() -> None:
        while time.perf_counter() < ending:
            began = time.perf_counter()
            with dbos.SetWorkflowID(str(uuid.uuid4())):
                await body()
            latencies.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    elapsed = time.perf_counter() - began
    ordered = sorted(latencies)
    return {
        "concurrency": callers,
        "workflows": len(ordered),
        "per_second": round(len(ordered) / elapsed, 1),
        "p50_ms": round(statistics.median(ordered), 2),
        "p95_ms": round(ordered[int(len(ordered) * 0.95)], 2),
    }


async def main(task: Task) -> dict[str, object]:
    """All figures, each body warmed up first."""
    results = {}
    for name, body in BODIES.items():
        await measure(body, 8, 0.5)
        for callers in task["callers"]:
            results[f"dbos-{name}-{callers}"] = await measure(body, callers, task["seconds"])
    return {"results": results}


if __name__ == "__main__":
    given: Task = json.loads(sys.argv[1])
    dbos.DBOS(config={"name": "bench", "system_database_url": given["url"], "log_level": "ERROR"})
    dbos.DBOS.launch()
    try:
        sys.stdout.write(json.dumps(asyncio.run(main(given))))
    finally:
        dbos.DBOS.destroy()
