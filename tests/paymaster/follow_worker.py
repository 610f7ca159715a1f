"""A worker process for the tests: follows the paymaster's operations and settles them, until it is killed.

Reads one line of JSON from stdin: ``{rpc_url, database_url, paymaster}``.
"""

from __future__ import annotations

import asyncio
import json
import sys

from agentnexus.core.clock import SystemClock
from agentnexus.ledger.books import Books
from agentnexus.platform.database import Database
from agentnexus.rails.evm.indexer.indexer import Indexer
from agentnexus.rails.evm.networks import NETWORKS
from agentnexus.rails.evm.paymaster.accounts import GasAccounts
from agentnexus.rails.evm.paymaster.settling import Settling, sources_of
from agentnexus.rails.evm.rpc import Rpc


async def main() -> None:
    task = json.loads(sys.stdin.readline())
    database, clock, network = await Database.open(task["database_url"], max_size=6), SystemClock(), NETWORKS[31337]
    async with Rpc(task["rpc_url"]) as rpc, Books(database) as books:
        sources = sources_of(task["paymaster"], start_block=0)
        indexer = Indexer(database, rpc, network, sources, name="contracts", lease_seconds=1.0, clock=clock)
        accounts = GasAccounts(books, network, task["paymaster"])
        settling = Settling(database, accounts, rpc, indexer, clock=clock)
        settling.follow()

        async def keep() -> None:
            while True:
                await settling.keep()
                await asyncio.sleep(0.2)

        async with asyncio.TaskGroup() as group:
            group.create_task(indexer.run())
            group.create_task(keep())


if __name__ == "__main__":
    asyncio.run(main())
