"""A second process for the tests: indexes transfers of the chain's USDC and writes what it hears, until it is killed.

Reads one line of JSON from stdin: ``{rpc_url, database_url}``.
"""

from __future__ import annotations

import asyncio
import json
import sys

from agentnexus.devnet.chain import usdc_address
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.evm.contracts.abi import abi_of
from agentnexus.rails.evm.indexer.events import source
from agentnexus.rails.evm.indexer.indexer import Indexer
from agentnexus.rails.evm.indexer.model import Change
from agentnexus.rails.evm.networks import NETWORKS
from agentnexus.rails.evm.rpc import Rpc


async def hear(connection: Connection, change: Change) -> None:
    await connection.execute("insert into heard values ($1)", change.event.arguments["value"])


async def main() -> None:
    task = json.loads(sys.stdin.readline())
    database = await Database.open(task["database_url"], max_size=4)
    sources = [source(usdc_address(), abi_of("TestUSDC"), "Transfer")]
    rpc = Rpc(task["rpc_url"])
    indexer = Indexer(database, rpc, NETWORKS[31337], sources, name="killed", confirmations=1, lease_seconds=1.0)
    indexer.subscribe("hear", hear)
    await indexer.run()


if __name__ == "__main__":
    asyncio.run(main())
