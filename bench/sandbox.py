"""Request to result of a trivial agent: warm sandbox, cold sandbox, plain child process, bubblewrap. Prints JSON.

``python bench/sandbox.py [--runs 60] [--parallel 4] [--preload numpy,pypdf]``; takes about 15 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from agentnexus.core.errors import IsolationUnavailable
from agentnexus.runtime.base import BundleRuntime
from agentnexus.runtime.bundle import Bundle
from agentnexus.runtime.local.sandbox import LocalSandbox
from agentnexus.runtime.port import RunRequest
from agentnexus.runtime.unsafe import UnsafeLocal

MANIFEST = """
name = "org.agentnexus.bench-echo"
version = "1.0.0"
title = "Echo"
summary = "Gives back what it gets."
categories = ["bench"]
capability = "bench.echo"
preload = {preload}
[limits]
cpu = 1.0
concurrency = 100
"""
CODE = """
from pydantic import BaseModel
from agentnexus.sdk import Context, agent

class Text(BaseModel):
    text: str

@agent
def run(request: Text, context: Context) -> Text:
    context.progress(0.0)
    return request
"""
GOAL_P50_MS = 150.0


def summary(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    ordered = sorted(value * 1000 for value in seconds)
    return {
        "runs": len(ordered),
        "p50_ms": round(statistics.median(ordered), 1),
        "p95_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 1),
        "min_ms": round(ordered[0], 1),
        "max_ms": round(ordered[-1], 1),
    }


async def measure(count: int, work: Callable[[int], Awaitable[None]]) -> dict[str, float]:
    seconds = []
    for number in range(count):
        started = time.perf_counter()
        await work(number)
        seconds.append(time.perf_counter() - started)
    return summary(seconds)


async def one(runtime: BundleRuntime, bundle: Bundle, execution_id: str) -> float:
    """Seconds to the first update."""
    started, first = time.perf_counter(), 0.0
    async for _ in runtime.run(bundle, RunRequest(execution_id, {"text": "hello"})):
        first = first or time.perf_counter() - started
    return first


async def sandbox(folder: Path, runs: int, parallel: int) -> dict[str, object]:
    started = time.perf_counter()
    async with LocalSandbox() as runtime:
        bundle = await runtime.prepare(folder)
        cold = time.perf_counter() - started
        for number in range(5):
            await one(runtime, bundle, f"warm-{number}")
        firsts: list[float] = []

        async def run(number: int) -> None:
            firsts.append(await one(runtime, bundle, f"run-{number}"))

        whole = await measure(runs, run)
        gate = asyncio.Semaphore(parallel)

        async def guarded(number: int) -> None:
            async with gate:
                await one(runtime, bundle, f"parallel-{number}")

        started = time.perf_counter()
        await asyncio.gather(*(guarded(number) for number in range(runs)))
        rate = runs / (time.perf_counter() - started)
    return {
        "cold_ms": round(cold * 1000, 1),
        "first_update": summary(firsts),
        "result": whole,
        "runs_per_second": round(rate, 1),
        "parallel": parallel,
    }


async def unsafe(folder: Path, runs: int) -> dict[str, float]:
    async with UnsafeLocal() as runtime:
        bundle = await runtime.prepare(folder)

        async def run(number: int) -> None:
            await one(runtime, bundle, f"run-{number}")

        return await measure(runs, run)


async def command(arguments: list[str], runs: int) -> dict[str, float]:
    async def run(number: int) -> None:
        process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.DEVNULL)
        if await process.wait():
            raise SystemExit(f"{arguments[0]} failed")

    return await measure(runs, run)


def bubblewrap(folder: Path, program: list[str]) -> list[str] | None:
    found = shutil.which("bwrap")
    if found is None:
        return None
    options = ["--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run"]
    return [found, *options, "--chdir", str(folder), "--cap-drop", "ALL", "--die-with-parent", *program]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--preload", default="numpy")
    options = parser.parse_args()
    report: dict[str, object] = {"load_average": os.getloadavg()[0], "cpus": os.cpu_count(), "goal_p50_ms": GOAL_P50_MS}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        preload = json.dumps([name for name in options.preload.split(",") if name])
        (folder / "agent.toml").write_text(MANIFEST.format(preload=preload))
        (folder / "agent.py").write_text(CODE)
        program = [sys.executable, "-c", "import sys; sys.path.insert(0, '.'); import agent"]
        try:
            report["sandbox"] = await sandbox(folder, options.runs, options.parallel)
        except IsolationUnavailable as error:
            report["sandbox"] = error.to_json()
        few = max(5, options.runs // 6)
        report["unsafe_local"] = await unsafe(folder, few)
        with contextlib.chdir(folder):
            report["plain_python_importing_the_agent"] = await command(program, few)
            wrapped = bubblewrap(folder, program)
            report["bubblewrap_importing_the_agent"] = await command(wrapped, few) if wrapped else "not installed"
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
