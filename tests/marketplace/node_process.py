"""A second process of a node, to be killed: runs the trial agent under one key and prints how it ended."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta

from agentnexus.core.clock import SystemClock, TimeOrderedIds
from agentnexus.core.errors import NexusError
from agentnexus.marketplace.executions.service import Executions
from agentnexus.marketplace.listings.service import Listings, Till
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.runtime.local import probe
from agentnexus.runtime.local.sandbox import LocalSandbox
from agentnexus.runtime.unsafe import UnsafeLocal
from tests.marketplace.conftest import TRIAL, TRIAL_ID, USDC


async def main(url: str, key: str, lease_seconds: str, value: str) -> None:
    database = await Database.open(url, max_size=3)
    isolates = all(check.present for check in probe.checks())
    async with LocalSandbox() if isolates else UnsafeLocal() as runtime, Wakeups(database) as wakeups:
        bundle = await runtime.prepare(TRIAL)
        executions = Executions(
            database,
            Listings(database, SystemClock(), Till(USDC, "USD Coin", "2")),
            runtime,
            bundles={TRIAL_ID: bundle},
            blobs=PostgresBlobs(database),
            wakeups=wakeups,
            clock=SystemClock(),
            ids=TimeOrderedIds(),
            lease=timedelta(seconds=float(lease_seconds)),
        )
        print("ready", flush=True)
        try:
            ended = (await executions.run(TRIAL_ID, json.loads(value), key)).to_json()
        except NexusError as error:
            ended = error.to_json()
        print(json.dumps(ended), flush=True)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
