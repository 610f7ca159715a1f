"""What the benchmarks of the EVM rail stand on: a chain and a migrated database of their own, gone afterwards."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.platform.embedded import EmbeddedPostgres
from agentnexus.platform.migrations.run import migrate

Run = Callable[[DevelopmentChain, Database, int], Awaitable[Mapping[str, object]]]


def measure_on_chain(run: Run, count: int) -> None:
    """Print what `run` measured with this many of whatever it counts."""
    asyncio.run(_measure(run, count))


async def _measure(run: Run, count: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="nexus-bench-"))
    server = EmbeddedPostgres(folder)
    try:
        url = await server.start()
        await migrate(url)
        database = await Database.open(url)
        async with DevelopmentChain() as chain:
            print(json.dumps(await run(chain, database, count), indent=2))
        await database.close()
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)
