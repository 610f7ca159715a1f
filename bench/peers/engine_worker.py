"""A worker process of the engine benchmark: ``python -m bench.peers.engine_worker URL [RESTATE PLACES]``."""

from __future__ import annotations

import json
import sys

import uvloop

from agentnexus.platform.database import Database
from agentnexus.platform.process import die_with_parent
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.postgres.journal import PostgresJournal
from agentnexus.workflows.engine.restate.door import RestatePlaces, restate_engine
from agentnexus.workflows.engine.worker import WorkerSettings
from bench.workflows import bodies

SETTINGS = WorkerSettings(runs_max=256, claim_max=128)


async def work(engine: DurableEngine) -> None:
    bodies(engine)
    print("working", flush=True)
    await engine.work()


async def main(url: str, places: RestatePlaces | None) -> None:
    if places is not None:
        async with restate_engine(places, works=True, settings=SETTINGS) as engine:
            await work(engine)
    database = await Database.open(url, max_size=16)
    async with Wakeups(database) as wakeups:
        await work(DurableEngine(PostgresJournal(database, wakeups), settings=SETTINGS))


if __name__ == "__main__":
    die_with_parent()
    chosen = RestatePlaces(**json.loads(sys.argv[2])) if len(sys.argv) > 2 else None
    uvloop.run(main(sys.argv[1], chosen))
