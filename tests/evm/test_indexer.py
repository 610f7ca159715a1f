"""The indexer on a real chain: what happened is told once and in order, and taken back when the chain takes it back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from agentnexus.core.errors import Conflict, InvalidInput, NotFound
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.process import wait_until_ready
from agentnexus.platform.telemetry import indexer_behind_blocks
from agentnexus.rails.evm.contracts.abi import abi_of
from agentnexus.rails.evm.contracts.artifacts import load_artifact
from agentnexus.rails.evm.encoding import word
from agentnexus.rails.evm.indexer.events import Source, source
from agentnexus.rails.evm.indexer.history import find_events
from agentnexus.rails.evm.indexer.indexer import Indexer
from agentnexus.rails.evm.indexer.model import Change, ChangeKind, EventState
from agentnexus.rails.evm.networks import Network, NetworkKind

USDC = abi_of("TestUSDC")
APPLIED, REVERTED = ChangeKind.APPLIED, ChangeKind.REVERTED


@dataclass
class Listener:
    """What a handler was told: kind and amount, in order."""

    heard: list[tuple[ChangeKind, int]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    async def __call__(self, _connection: Connection, change: Change) -> None:
        value = change.event.arguments["value"]
        assert isinstance(value, int)
        self.heard.append((change.kind, value))
        self.keys.append(change.key)

    def take(self) -> list[tuple[ChangeKind, int]]:
        heard, self.heard = self.heard, []
        return heard


@dataclass
class Bench:
    """A chain, an indexer of its USDC's transfers, and a listener."""

    chain: DevelopmentChain
    database: Database
    listener: Listener = field(default_factory=Listener)

    def indexer(
        self,
        *,
        name: str = "test",
        sources: Sequence[Source] = (),
        confirmations: int = 1,
        listens: bool = True,
        network: Network | None = None,
        lease_seconds: float = 15.0,
    ) -> Indexer:
        indexer = Indexer(
            self.database,
            self.chain.rpc,
            network or self.chain.network,
            sources or [source(self.chain.usdc.reference, USDC, "Transfer")],
            name=name,
            confirmations=confirmations,
            lease_seconds=lease_seconds,
        )
        if listens:
            indexer.subscribe("listener", self.listener)
        return indexer

    async def pay(self, value: int) -> None:
        await self.chain.mint(self.chain.accounts["seller-1"].address, value)

    async def told(self, indexer: Indexer) -> list[tuple[ChangeKind, int]]:
        await indexer.poll()
        await indexer.deliver()
        return self.listener.take()


@pytest.fixture
def bench(chain: DevelopmentChain, database: Database) -> Bench:
    return Bench(chain, database)


async def test_an_event_is_kept_and_told_once(bench: Bench) -> None:
    indexer = bench.indexer()
    assert await bench.told(indexer) == []
    await bench.pay(42)
    assert await bench.told(indexer) == [(APPLIED, 42)]
    assert await bench.told(indexer) == []
    (event,) = await find_events(bench.database, "test", bench.chain.network.caip2)
    assert event.event == "Transfer"
    assert event.state is EventState.APPLIED
    assert event.arguments == {
        "from": "0x" + "00" * 20,
        "to": bench.chain.accounts["seller-1"].address,
        "value": 42,
    }


async def test_how_far_it_is_behind_is_measured(bench: Bench) -> None:
    gauge = indexer_behind_blocks.labels("test", bench.chain.network.caip2)
    gauge.set(99)
    await bench.indexer().poll()
    assert gauge._value.get() == 0


async def test_history_is_read_from_the_start_block(bench: Bench) -> None:
    everything = source(bench.chain.usdc.reference, USDC, "Transfer", start_block=0)
    indexer = bench.indexer(sources=[everything])
    await bench.pay(7)
    told = await bench.told(indexer)
    assert told[-1] == (APPLIED, 7)
    assert len(told) > 5
    assert {kind for kind, _ in told} == {APPLIED}


async def test_an_event_waits_for_its_confirmations_but_can_be_seen_before(bench: Bench) -> None:
    indexer = bench.indexer(confirmations=3)
    await bench.told(indexer)
    await bench.pay(42)
    assert await bench.told(indexer) == []
    (event,) = await find_events(bench.database, "test", bench.chain.network.caip2)
    assert event.state is EventState.SEEN
    await bench.chain.mine()
    assert await bench.told(indexer) == []
    await bench.chain.mine()
    assert await bench.told(indexer) == [(APPLIED, 42)]


async def test_several_contracts_and_events_come_in_the_order_of_the_chain(bench: Bench) -> None:
    creation = load_artifact("TestUSDC").bytecode + word(bench.chain.accounts["deployer"].address)
    other = await bench.chain.deploy(creation)
    usdc = bench.chain.usdc.reference
    indexer = bench.indexer(
        sources=[source(usdc, USDC, "Transfer"), source(other, USDC, "Transfer"), source(usdc, USDC, "Approval")]
    )
    await bench.told(indexer)
    for index, (contract, call) in enumerate([(usdc, "mint"), (other, "mint"), (usdc, "approve"), (usdc, "mint")]):
        await _call(bench.chain, contract, call, 100 + index)
    assert await bench.told(indexer) == [(APPLIED, 100), (APPLIED, 101), (APPLIED, 102), (APPLIED, 103)]
    found = await find_events(bench.database, "test", bench.chain.network.caip2, contract=other)
    assert [event.arguments["value"] for event in found] == [101]
    found = await find_events(bench.database, "test", bench.chain.network.caip2, event="Approval")
    assert [event.arguments["value"] for event in found] == [102]


async def test_an_indexed_value_narrows_a_source(bench: Bench) -> None:
    seller = bench.chain.accounts["seller-1"].address
    indexer = bench.indexer(sources=[source(bench.chain.usdc.reference, USDC, "Transfer", to=seller)])
    await bench.told(indexer)
    await bench.chain.mint(bench.chain.accounts["seller-2"].address, 1)
    await bench.pay(2)
    assert await bench.told(indexer) == [(APPLIED, 2)]
    with pytest.raises(InvalidInput, match="value"):
        source(bench.chain.usdc.reference, USDC, "Transfer", value=3)


async def test_an_event_that_a_reorganisation_drops_is_taken_back(bench: Bench) -> None:
    indexer = bench.indexer()
    await bench.told(indexer)
    before = await bench.chain.snapshot()
    await bench.pay(42)
    assert await bench.told(indexer) == [(APPLIED, 42)]
    await bench.chain.revert(before)
    await bench.pay(7)
    assert await bench.told(indexer) == [(REVERTED, 42), (APPLIED, 7)]
    assert await bench.told(indexer) == []
    found = await find_events(bench.database, "test", bench.chain.network.caip2)
    assert [event.arguments["value"] for event in found] == [7]


async def test_several_dropped_events_are_taken_back_newest_first(bench: Bench) -> None:
    indexer = bench.indexer()
    await bench.told(indexer)
    before = await bench.chain.snapshot()
    for value in (1, 2, 3):
        await bench.pay(value)
    await bench.told(indexer)
    await bench.chain.revert(before)
    await bench.chain.mine(5)
    assert await bench.told(indexer) == [(REVERTED, 3), (REVERTED, 2), (REVERTED, 1)]


async def test_an_event_moved_to_another_block_is_told_again(bench: Bench) -> None:
    indexer = bench.indexer()
    await bench.told(indexer)
    await bench.pay(42)
    await bench.told(indexer)
    await bench.chain.rpc.call("anvil_reorg", 1, [])
    await bench.pay(42)
    assert await bench.told(indexer) == [(REVERTED, 42), (APPLIED, 42)]


async def test_an_event_below_the_fork_is_left_alone(bench: Bench) -> None:
    """The indexer looked only after both blocks, so it must find the event's own block to know that it stands."""
    indexer = bench.indexer()
    await bench.told(indexer)
    await bench.pay(42)
    before = await bench.chain.snapshot()
    await bench.chain.mine()
    assert await bench.told(indexer) == [(APPLIED, 42)]
    await bench.chain.revert(before)
    await bench.pay(7)
    assert await bench.told(indexer) == [(APPLIED, 7)]


async def test_a_development_chain_put_back_to_fewer_blocks_is_noticed(bench: Bench) -> None:
    indexer = bench.indexer()
    await bench.told(indexer)
    before = await bench.chain.snapshot()
    await bench.pay(42)
    await bench.told(indexer)
    await bench.chain.revert(before)
    assert await bench.told(indexer) == [(REVERTED, 42)]


async def test_a_development_chain_that_was_started_anew_is_read_from_the_start(
    bench: Bench, own_chain: DevelopmentChain
) -> None:
    sources = [source(bench.chain.usdc.reference, USDC, "Transfer", start_block=0)]
    indexer = bench.indexer(sources=sources)
    await bench.pay(42)
    told = await bench.told(indexer)
    await indexer.store.resign()
    anew = Bench(own_chain, bench.database).indexer(sources=sources, listens=False)
    anew.subscribe("listener", bench.listener)
    again = await bench.told(anew)
    assert again[: len(told)] == [(REVERTED, value) for _, value in reversed(told)]
    assert again[len(told) :] == told[:-1], "the same money in the beginning, but not what was paid since"


async def test_an_event_that_vanishes_before_it_was_told_leaves_nothing(bench: Bench) -> None:
    indexer = bench.indexer(confirmations=3)
    await bench.told(indexer)
    before = await bench.chain.snapshot()
    await bench.pay(42)
    assert await bench.told(indexer) == []
    await bench.chain.revert(before)
    await bench.chain.mine(4)
    assert await bench.told(indexer) == []
    assert await find_events(bench.database, "test", bench.chain.network.caip2) == []


async def test_a_block_that_comes_back_is_told_again_under_another_key(bench: Bench) -> None:
    indexer = bench.indexer()
    await bench.told(indexer)
    before = await bench.chain.snapshot()
    await bench.pay(42)
    state = await bench.chain.rpc.call("anvil_dumpState")
    await bench.told(indexer)
    hash_before = (await find_events(bench.database, "test", bench.chain.network.caip2))[0].block.hash
    await bench.chain.revert(before)
    await bench.told(indexer)
    await bench.chain.rpc.call("anvil_loadState", state)
    assert await bench.told(indexer) == [(APPLIED, 42)]
    assert (await find_events(bench.database, "test", bench.chain.network.caip2))[0].block.hash == hash_before
    assert len(set(bench.listener.keys)) == 3


async def test_a_deep_reorganisation_of_a_real_network_stops_the_indexer(bench: Bench) -> None:
    network = Network(31337, NetworkKind.TESTNET, "pretended")
    indexer = bench.indexer(network=network)
    before = await bench.chain.snapshot()
    await bench.pay(42)
    await bench.told(indexer)
    await bench.chain.mine(300)
    await bench.told(indexer)
    await bench.chain.revert(before)
    await bench.chain.mine(400)
    with pytest.raises(Conflict, match="blocks ago"):
        await indexer.poll()
    assert bench.listener.take() == []


async def test_a_real_networks_node_that_lags_is_waited_for(bench: Bench) -> None:
    network = Network(31337, NetworkKind.TESTNET, "pretended")
    indexer = bench.indexer(network=network)
    await bench.told(indexer)
    before = await bench.chain.snapshot()
    await bench.pay(42)
    assert await bench.told(indexer) == [(APPLIED, 42)]
    await bench.chain.revert(before)
    assert await bench.told(indexer) == []


async def test_a_source_added_later_is_read_from_its_start(bench: Bench) -> None:
    usdc = bench.chain.usdc.reference
    start = await bench.chain.rpc.read_int("eth_blockNumber") + 1
    indexer = bench.indexer()
    await bench.told(indexer)
    await _call(bench.chain, usdc, "approve", 5)
    await bench.pay(6)
    assert await bench.told(indexer) == [(APPLIED, 6)]
    await indexer.store.resign()
    both = bench.indexer(sources=[source(usdc, USDC, "Transfer"), source(usdc, USDC, "Approval", start_block=start)])
    assert await bench.told(both) == [(APPLIED, 5)]
    await _call(bench.chain, usdc, "approve", 8)
    assert await bench.told(both) == [(APPLIED, 8)]


async def test_a_source_that_another_process_does_not_know_has_no_gap(bench: Bench) -> None:
    """Two versions of a program take turns: the older one moves on without the newer one's source."""
    usdc = bench.chain.usdc.reference
    old = bench.indexer(listens=False)
    new = bench.indexer(sources=[source(usdc, USDC, "Transfer"), source(usdc, USDC, "Approval")])
    await bench.told(new)
    await new.store.resign()
    await _call(bench.chain, usdc, "approve", 5)
    assert (await old.poll()).leads
    await old.store.resign()
    assert await bench.told(new) == [(APPLIED, 5)]


async def test_one_process_reads_and_the_next_takes_over_when_it_resigns(bench: Bench) -> None:
    one, two = bench.indexer(listens=False), bench.indexer()
    assert (await one.poll()).leads
    assert not (await two.poll()).leads
    await bench.pay(42)
    assert await bench.told(two) == []
    await one.poll()
    assert await bench.told(two) == [(APPLIED, 42)], "a process that does not read may tell"
    await one.store.resign()
    assert (await two.poll()).is_at_head


async def test_one_of_two_processes_tells_each_change(bench: Bench) -> None:
    one, two = bench.indexer(), bench.indexer()
    await one.poll()
    for value in range(20):
        await bench.pay(value + 1)
    await one.poll()
    await asyncio.gather(*(each.deliver() for each in (one, two, one, two)))
    assert bench.listener.take() == [(APPLIED, value + 1) for value in range(20)]


async def test_what_a_handler_writes_is_written_once_although_it_fails_between(bench: Bench) -> None:
    await bench.database.pool.execute("create table heard (value bigint)")
    failures = [True, True, False, False]

    async def note(connection: Connection, change: Change) -> None:
        await connection.execute("insert into heard values ($1)", change.event.arguments["value"])
        if change.event.arguments["value"] == 2 and failures.pop(0):
            raise Conflict("the ledger is closed")

    indexer = bench.indexer(listens=False)
    indexer.subscribe("note", note)
    await indexer.poll()
    for value in (1, 2, 3):
        await bench.pay(value)
    await indexer.poll()
    assert await indexer.deliver() == 1
    (status,) = (await indexer.status()).handlers
    assert (status.waiting, status.failures) == (2, 1)
    assert "closed" in status.last_error
    assert await indexer.deliver() == 0
    assert (await indexer.status()).handlers[0].failures == 2
    assert await indexer.deliver() == 2
    assert (await indexer.status()).handlers[0].failures == 0
    heard = await bench.database.pool.fetch("select value from heard")
    assert [row["value"] for row in heard] == [1, 2, 3]


async def test_a_handler_that_fails_does_not_hold_up_the_others(bench: Bench) -> None:
    async def refuse(_connection: Connection, _change: Change) -> None:
        raise Conflict("never")

    indexer = bench.indexer()
    indexer.subscribe("refuses", refuse)
    await bench.told(indexer)
    await bench.pay(42)
    assert await bench.told(indexer) == [(APPLIED, 42)]


async def test_a_handler_hears_only_the_events_it_asked_for(bench: Bench) -> None:
    usdc = bench.chain.usdc.reference
    indexer = bench.indexer(sources=[source(usdc, USDC, "Transfer"), source(usdc, USDC, "Approval")], listens=False)
    indexer.subscribe("listener", bench.listener, events=["Approval"])
    await bench.told(indexer)
    await bench.pay(1)
    await _call(bench.chain, usdc, "approve", 2)
    await bench.pay(3)
    assert await bench.told(indexer) == [(APPLIED, 2)]
    assert (await indexer.status()).handlers[0].waiting == 0
    with pytest.raises(InvalidInput, match="already"):
        indexer.subscribe("listener", bench.listener)


async def test_a_killed_reader_is_replaced_and_nothing_is_lost_or_told_twice(bench: Bench, database_url: str) -> None:
    await bench.database.pool.execute("create table heard (value bigint)")
    task = json.dumps({"database_url": database_url, "rpc_url": bench.chain.rpc_url})
    victim = await _worker(task)
    await _tables_have(bench, "select count(*) from indexer.follower where followed_at is not null", 1)
    for value in (1, 2):
        await bench.pay(value)
    await _tables_have(bench, "select count(*) from heard", 2)
    os.kill(victim.pid, signal.SIGKILL)
    await victim.wait()
    for value in (3, 4):
        await bench.pay(value)
    heir = await _worker(task)
    await _tables_have(bench, "select count(*) from heard", 4)
    heir.terminate()
    await heir.wait()
    rows = await bench.database.pool.fetch("select value from heard order by value")
    assert [row["value"] for row in rows] == [1, 2, 3, 4]


async def test_an_indexer_that_runs_tells_as_blocks_come_and_resigns_when_stopped(bench: Bench) -> None:
    indexer = bench.indexer()
    running = asyncio.create_task(indexer.run())
    await _tables_have(bench, "select count(*) from indexer.follower where followed_at is not null", 1)
    await bench.pay(42)

    async def heard() -> bool:
        return bench.listener.heard == [(APPLIED, 42)]

    await wait_until_ready(heard, what="the listener", timeout_seconds=20)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (await indexer.status()).holder == ""
    assert (await indexer.status()).to_json()["behind_blocks"] == 0


async def test_the_status_of_an_indexer_that_never_ran_says_so(bench: Bench) -> None:
    with pytest.raises(NotFound, match="has run"):
        await bench.indexer().status()


def test_an_indexer_needs_sources_and_each_once(chain: DevelopmentChain, database: Database) -> None:
    twice = [source(chain.usdc.reference, USDC, "Transfer")] * 2
    for sources in ([], twice):
        with pytest.raises(InvalidInput, match="each once"):
            Indexer(database, chain.rpc, chain.network, sources, name="wrong")


async def _call(chain: DevelopmentChain, contract: str, call: str, value: int) -> None:
    """Mint to or approve seller-1, as the deployer."""
    kinds = {"mint": "40c10f19", "approve": "095ea7b3"}
    data = bytes.fromhex(kinds[call]) + word(chain.accounts["seller-1"].address) + word(value)
    before = await chain.rpc.read_int("eth_blockNumber")
    fields = {"from": chain.accounts["deployer"].address, "to": contract, "data": "0x" + data.hex(), "gas": hex(10**6)}
    await chain.rpc.call("eth_sendTransaction", fields)

    async def mined() -> bool:
        return await chain.rpc.read_int("eth_blockNumber") > before

    await wait_until_ready(mined, what="a block", timeout_seconds=20)


async def _worker(task: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.evm.index_worker", stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(task.encode() + b"\n")
    await process.stdin.drain()
    return process


async def _tables_have(bench: Bench, query: str, count: int) -> None:
    async def there() -> bool:
        return bool(await bench.database.pool.fetchval(query) == count)

    await wait_until_ready(there, what=query, timeout_seconds=40)
