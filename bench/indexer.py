"""How fast the indexer reads, keeps and tells events of a local chain, and how soon after its block one is told.

Run: python -m bench.indexer [events]; prints JSON. Needs `npm ci`; starts its own chain and database. Beside it: how
fast the node alone hands the same logs out, which nobody can be faster than.
"""

from __future__ import annotations

import asyncio
import sys
import time

from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.evm.contracts.abi import abi_of
from agentnexus.rails.evm.encoding import to_hex, topic, word
from agentnexus.rails.evm.indexer.events import source
from agentnexus.rails.evm.indexer.indexer import Indexer
from agentnexus.rails.evm.indexer.model import Change
from bench.ground import measure_on_chain

EVENTS_PER_BLOCK = 250
TOLD = 60
# Logs `Transfer(caller, caller, n)` for n from its argument down to one.
_LOOP = "6000355b8015603c57806000523333" + "7f" + topic("Transfer(address,address,uint256)")[2:]
_RUNTIME = _LOOP + "60206000a360019003600356" + "5b00"
_EMITTER = bytes.fromhex("603e80600b6000396000f3" + _RUNTIME)


async def emit(chain: DevelopmentChain, emitter: str, count: int) -> None:
    """One block with this many events."""
    before = await chain.rpc.read_int("eth_blockNumber")
    deployer = chain.accounts["deployer"].address
    fields = {"from": deployer, "to": emitter, "data": to_hex(word(count)), "gas": hex(50_000 + 3_000 * count)}
    await chain.rpc.call("eth_sendTransaction", {**fields})
    while await chain.rpc.read_int("eth_blockNumber") == before:
        await asyncio.sleep(0.002)


async def node_alone(chain: DevelopmentChain, emitter: str) -> float:
    """Logs a second from the node, nothing done with them."""
    head = await chain.rpc.read_int("eth_blockNumber")
    started, found = time.perf_counter(), 0
    for first in range(0, head + 1, 50):
        answer = await chain.rpc.call(
            "eth_getLogs", {"address": emitter, "fromBlock": hex(first), "toBlock": hex(first + 49)}
        )
        found += len(answer) if isinstance(answer, list) else 0
    return found / (time.perf_counter() - started)


async def run(chain: DevelopmentChain, database: Database, events: int) -> dict[str, object]:
    emitter = await chain.deploy(_EMITTER)
    for _ in range(events // EVENTS_PER_BLOCK):
        await emit(chain, emitter, EVENTS_PER_BLOCK)
    told = asyncio.Event()
    count = 0

    async def hear(_connection: Connection, _change: Change) -> None:
        nonlocal count
        count += 1
        told.set()

    sources = [source(emitter, abi_of("TestUSDC"), "Transfer", start_block=0)]
    indexer = Indexer(database, chain.rpc, chain.network, sources, name="bench", span_blocks=50)
    indexer.subscribe("bench", hear)
    cpu, started = time.process_time(), time.perf_counter()
    kept = (await indexer.poll()).events
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    started = time.perf_counter()
    while await indexer.deliver():
        pass
    telling = time.perf_counter() - started
    walls = []
    for _ in range(TOLD):
        told.clear()
        await emit(chain, emitter, 1)
        started = time.perf_counter()
        await indexer.poll()
        await indexer.deliver()
        await told.wait()
        walls.append(time.perf_counter() - started)
    walls.sort()
    return {
        "events": kept,
        "kept_per_second": round(kept / elapsed, 1),
        "kept_cpu_us": round(cpu / kept * 1e6, 1),
        "told_per_second": round((count - TOLD) / telling, 1),
        "node_alone_per_second": round(await node_alone(chain, emitter), 1),
        "block_to_handler": {"p50_ms": round(walls[TOLD // 2] * 1e3, 2), "p95_ms": round(walls[-4] * 1e3, 2)},
    }


if __name__ == "__main__":
    measure_on_chain(run, int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
