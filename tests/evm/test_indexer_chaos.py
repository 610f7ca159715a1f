"""Indexers that take turns, lose their lead and meet a chain that changes its mind: in the end they know what is."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from agentnexus.core.errors import Conflict
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.evm.contracts.abi import Abi, abi_of
from agentnexus.rails.evm.encoding import quantity
from agentnexus.rails.evm.errors import NodeError, Reverted
from agentnexus.rails.evm.indexer.events import source
from agentnexus.rails.evm.indexer.history import find_events, total
from agentnexus.rails.evm.indexer.indexer import Indexer
from agentnexus.rails.evm.indexer.model import Change, ChangeKind, Place
from agentnexus.rails.evm.indexer.reader import Span
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue

STEPS = 25
USDC = abi_of("TestUSDC")


@dataclass
class Ledger:
    """What a handler makes of changes: every applied event is there once, and gone when it was reverted."""

    standing: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    async def __call__(self, _connection: Connection, change: Change) -> None:
        event = change.event
        place = (event.block.hash, event.transaction, event.log_index)
        self.standing[place] += 1 if change.kind is ChangeKind.APPLIED else -1
        assert self.standing[place] in (0, 1), "told twice, or taken back without having been told"

    def now(self) -> set[tuple[str, str, int]]:
        return {place for place, count in self.standing.items() if count}


def indexer_of(chain: DevelopmentChain, database: Database, *, name: str = "chaos", **options: object) -> Indexer:
    sources = [source(chain.usdc.reference, USDC, "Transfer", start_block=0)]
    return Indexer(database, chain.rpc, chain.network, sources, name=name, confirmations=1, **options)  # type: ignore[arg-type]  # options by name


async def on_chain(chain: DevelopmentChain) -> set[tuple[str, str, int]]:
    """Transfers that the node itself has."""
    topics: list[RpcValue] = [USDC.topic("Transfer")]
    query: dict[str, RpcValue] = {"address": chain.usdc.reference, "topics": topics, "fromBlock": "0x0"}
    logs = await chain.rpc.call("eth_getLogs", query)
    assert isinstance(logs, list)
    found = set()
    for log in logs:
        assert isinstance(log, dict)
        found.add((str(log["blockHash"]), str(log["transactionHash"]), quantity(log["logIndex"])))
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whatever_happens_handlers_end_with_what_is_on_the_chain(
    chain: DevelopmentChain, database: Database, seed: int
) -> None:
    chance, ledger = random.Random(seed), Ledger()
    indexers = [indexer_of(chain, database, span_blocks=chance.choice([1, 3, 50])) for _ in range(2)]
    for each in indexers:
        each.subscribe("ledger", ledger)
    payee = chain.accounts["seller-1"].address
    base, snapshot = await chain.rpc.read_int("eth_blockNumber"), await chain.snapshot()
    for step in range(STEPS):
        match chance.randrange(8):
            case 0 | 1 | 2:
                await chain.mint(payee, step + 1)
            case 3:
                await chain.mine(chance.randrange(1, 4))
            case 4:
                depth = min(2, await chain.rpc.read_int("eth_blockNumber") - base)
                await chain.rpc.call("anvil_reorg", depth, [])
            case 5:
                await chain.revert(snapshot)
                snapshot = await chain.snapshot()
            case _:
                await _turn(chance.choice(indexers), delivers=chance.random() < 0.8)
    await _turn(indexers[0], delivers=True)
    assert ledger.now() == await on_chain(chain)
    kept = await find_events(database, "chaos", chain.network.caip2)
    assert {(e.block.hash, e.transaction, e.log_index) for e in kept} == await on_chain(chain)


async def _turn(indexer: Indexer, *, delivers: bool) -> None:
    assert (await indexer.poll()).is_at_head
    while delivers and await indexer.deliver():
        pass
    await indexer.store.resign()


async def test_one_that_lost_the_lead_writes_nothing(chain: DevelopmentChain, database: Database) -> None:
    """It was frozen between reading and writing; meanwhile another led, and left the place where it was."""
    frozen, other = indexer_of(chain, database), indexer_of(chain, database)
    progress = await frozen.poll()
    await database.pool.execute("update indexer.follower set held_until = '-infinity'")
    assert (await other.poll()).leads
    head = await frozen._head()
    assert head is not None
    span = Span(progress.place, Place(progress.place.number + 1, "0x01"), ())
    assert await frozen.store.put(span, [], head, backfill=False, span_blocks=1) is None
    assert not await frozen.store.followed(progress.place, head)
    assert not await frozen.store.rewind(progress.place, Place(0, "0x02"))
    assert await other.store.place() == progress.place
    assert not (await frozen.poll()).leads


async def test_what_was_read_from_another_place_than_the_present_is_not_written(
    chain: DevelopmentChain, database: Database
) -> None:
    indexer = indexer_of(chain, database)
    progress = await indexer.poll()
    head = await indexer._head()
    assert head is not None
    elsewhere = Place(progress.place.number, "0x" + "ee" * 32)
    span = Span(elsewhere, Place(progress.place.number + 1, "0x01"), ())
    assert await indexer.store.put(span, [], head, backfill=False, span_blocks=1) is None
    assert not await indexer.store.followed(elsewhere, head)
    assert not await indexer.store.rewind(elsewhere, Place(0, "0x02"))
    assert await indexer.store.place() == progress.place


@dataclass
class _RestlessNode(Rpc):
    """A node whose blocks have another hash each time somebody looks."""

    url_of: str
    looks: int = 0

    def __post_init__(self) -> None:
        super().__init__(self.url_of)

    async def batch(self, calls: Sequence[Call]) -> list[RpcValue | NodeError | Reverted]:
        answers = await super().batch(calls)
        self.looks += 1
        for answer in answers:
            if isinstance(answer, dict) and "hash" in answer:
                answer["hash"] = f"0x{self.looks:064x}"
        return answers


async def test_nodes_that_never_agree_are_an_error_and_not_an_endless_loop(
    chain: DevelopmentChain, database: Database
) -> None:
    async with _RestlessNode(chain.rpc_url) as rpc:
        sources = [source(chain.usdc.reference, USDC, "Transfer", start_block=0)]
        indexer = Indexer(database, rpc, chain.network, sources, name="restless", span_blocks=1)
        with pytest.raises(Conflict, match="moved 8 times"):
            await indexer.poll()


async def test_a_log_that_does_not_read_as_its_event_is_left_out(chain: DevelopmentChain, database: Database) -> None:
    """Of a contract that is not what the sources say: the same topic, with the amount among the topics."""
    inputs = [
        {"name": n, "type": t, "indexed": True} for n, t in (("a", "address"), ("b", "address"), ("c", "uint256"))
    ]
    wrong = Abi([{"type": "event", "name": "Transfer", "inputs": inputs}])
    sources = [source(chain.usdc.reference, wrong, "Transfer", start_block=0)]
    indexer = Indexer(database, chain.rpc, chain.network, sources, name="wrong", confirmations=1)
    progress = await indexer.poll()
    assert progress.is_at_head
    assert progress.events == 0
    assert await find_events(database, "wrong", chain.network.caip2) == []


async def test_events_are_found_page_by_page_and_by_their_arguments(
    chain: DevelopmentChain, database: Database
) -> None:
    indexer = indexer_of(chain, database)
    payee = chain.accounts["outsider"].address
    for value in (5, 6, 7):
        await chain.mint(payee, value)
    await indexer.poll()
    network = chain.network.caip2
    to_payee = await find_events(database, "chaos", network, arguments={"to": payee})
    assert [event.arguments["value"] for event in to_payee] == [5, 6, 7]
    first = await find_events(database, "chaos", network, arguments={"to": payee}, limit=2)
    after = (first[-1].block.number, first[-1].log_index)
    assert await find_events(database, "chaos", network, arguments={"to": payee}, after=after) == to_payee[2:]
    one = await find_events(database, "chaos", network, transaction=to_payee[1].transaction)
    assert one == [to_payee[1]]
    assert await find_events(database, "another", network) == []
    summed = await total(database, "chaos", network, event="Transfer", argument="value", where={"to": payee})
    assert summed is not None
    assert summed.amount == 18
    assert summed.place.number == await chain.rpc.read_int("eth_blockNumber")
    assert await total(database, "another", network, event="Transfer", argument="value", where={}) is None


async def test_the_span_is_remembered_over_restarts(chain: DevelopmentChain, database: Database) -> None:
    """A node that takes ten blocks at once is not asked for thousands again by the next process."""
    await indexer_of(chain, database, span_blocks=3).poll()
    kept = await database.pool.fetchval("select span_blocks from indexer.follower where name = 'chaos'")
    heir = indexer_of(chain, database, span_blocks=2000)
    await database.pool.execute("update indexer.follower set holder = ''")
    await heir.poll()
    assert kept == await database.pool.fetchval("select span_blocks from indexer.follower where name = 'chaos'") < 2000
