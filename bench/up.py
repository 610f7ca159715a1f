"""How long a person waits: for the economy to be up (first start, later starts), for live offers, for the command.

``python -m bench.up [--starts 3]`` prints JSON. Each start is the command `nexus up` in a process of its own, from its
beginning to the line that says everything is ready, in one folder: the first makes database, chains and listings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

START_SECONDS = 100.0
READY = b"ready in"


@asynccontextmanager
async def economy(home: Path) -> AsyncIterator[float]:
    """How many seconds it took; it runs meanwhile."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agentnexus.cli", "up", "--free-ports"),
        env={**os.environ, "NEXUS_HOME": str(home)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            async for line in process.stdout:
                if READY in line:
                    break
        yield time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGINT)
        await process.stdout.read()  # a full pipe would keep it from ending
        await process.wait()


async def offers(home: Path, count: int) -> list[float]:
    """Milliseconds of `count` searches over HTTP; the first asks the markets, all refresh."""
    facts = json.loads((home / "devnet.json").read_text(encoding="utf-8"))
    headers = {"Authorization": f"Bearer {(home / 'token').read_text(encoding='ascii').strip()}"}
    took = []
    async with httpx.AsyncClient(base_url=facts["api_url"], headers=headers, trust_env=False) as client:
        for _ in range(count):
            began = time.perf_counter()
            answer = await client.get("/api/v1/offers", params={"need": "pdf.extract", "refresh": "true"})
            answer.raise_for_status()
            took.append((time.perf_counter() - began) * 1e3)
    return took


async def command() -> float:
    """Milliseconds of `nexus --help`."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agentnexus.cli", "--help"), stdout=asyncio.subprocess.DEVNULL
    )
    await process.wait()
    return (time.perf_counter() - began) * 1e3


async def run(home: Path, starts: int) -> dict[str, object]:
    async with economy(home) as cold_seconds:
        took = await offers(home, 40)
    warm_seconds = []
    for _ in range(starts):
        async with economy(home) as seconds:
            warm_seconds.append(seconds)
    return {
        "first_start_seconds": round(cold_seconds, 2),
        "warm_start_seconds": round(statistics.median(warm_seconds), 2),
        "live_offers_ms": {"first": round(took[0], 1), "p50": round(statistics.median(took), 1)},
        "command_ms": round(statistics.median([await command() for _ in range(7)]), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--starts", type=int, default=3)
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="nexus-bench-", dir="/tmp"))
    home.chmod(0o755)  # the database runs as another user
    try:
        json.dump(asyncio.run(run(home, given.starts)), sys.stdout, indent=2)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print()


if __name__ == "__main__":
    main()
