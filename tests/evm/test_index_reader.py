"""Reading logs from nodes that refuse, lag, change their mind or lie; the nodes here are scripted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
from eth_abi.abi import encode

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts.abi import Abi, abi_of
from agentnexus.rails.evm.encoding import to_hex, word
from agentnexus.rails.evm.errors import ChainUnavailable, NodeError, Reverted
from agentnexus.rails.evm.indexer.events import Source, filters, source
from agentnexus.rails.evm.indexer.model import Place
from agentnexus.rails.evm.indexer.reader import ChainMoved, LogReader
from agentnexus.rails.evm.receipts import Log
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue

Answer: TypeAlias = "RpcValue | NodeError | Reverted"
USDC = "0x" + "ab" * 20
OTHER = "0x" + "cd" * 20
ALICE, BOB = "0x" + "01" * 20, "0x" + "02" * 20
TRANSFER = source(USDC, abi_of("TestUSDC"), "Transfer", start_block=0)
HEAD = 10_000


@dataclass
class ScriptedNode(Rpc):
    """A chain whose block N has the hash of N and one transfer of N, but for what the test changes."""

    logs_max: int = 1_000_000
    refusal: NodeError | None = None
    missing_from: int = HEAD + 1
    hashes: dict[int, str] = field(default_factory=dict)
    log_hashes: dict[int, str] = field(default_factory=dict)
    extra: list[dict[str, RpcValue]] = field(default_factory=list)
    instead: list[Answer] = field(default_factory=list)
    is_down: bool = False
    spans: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__("http://127.0.0.1:1")

    async def batch(self, calls: Sequence[Call]) -> list[Answer]:
        if self.is_down:
            raise ChainUnavailable("no answer")
        return [self._answer(call) for call in calls]

    def _answer(self, call: Call) -> Answer:
        if call.method == "eth_getBlockByNumber":
            which = call.parameters[0]
            number = HEAD if which == "latest" else int(str(which), 16)
            if number >= self.missing_from:
                return None
            return {"number": hex(number), "hash": self.hashes.get(number, block_hash(number))}
        asked = call.parameters[0]
        assert isinstance(asked, dict)
        first, last = int(str(asked["fromBlock"]), 16), int(str(asked["toBlock"]), 16)
        self.spans.append((first, last))
        if self.instead:
            return self.instead.pop(0)
        if last - first + 1 > self.logs_max:
            return self.refusal
        return [*(transfer(n, self.log_hashes.get(n)) for n in range(first, last + 1)), *self.extra]


def block_hash(number: int) -> str:
    return to_hex(word(number))


def transfer(number: int, found_in: str | None = None, contract: str = USDC, index: int = 0) -> dict[str, RpcValue]:
    return {
        "address": contract,
        "topics": [TRANSFER.event.topic, to_hex(word(ALICE)), to_hex(word(BOB))],
        "data": to_hex(word(number)),
        "transactionHash": to_hex(word(number * 1000 + index)),
        "blockNumber": hex(number),
        "blockHash": found_in or block_hash(number),
        "logIndex": hex(index),
    }


def at(number: int) -> Place:
    return Place(number, block_hash(number))


async def test_a_span_has_its_logs_and_ends_at_its_last_block() -> None:
    node = ScriptedNode()
    span = await LogReader(node, blocks=10).read(at(100), HEAD, HEAD, [TRANSFER])
    assert span is not None
    assert span.last == at(110)
    assert [log.block_number for log in span.logs] == list(range(101, 111))


@pytest.mark.parametrize(
    "refusal",
    [
        NodeError("eth_getLogs", -32005, "query returned more than 10000 results"),
        NodeError("eth_getLogs", -32602, "Log response size exceeded. Try with this block range [0x1, 0x2]"),
        NodeError("eth_getLogs", -32000, "block range is too wide"),
        NodeError("eth_getLogs", -32614, "eth_getLogs is limited to a 10,000 range"),
        NodeError("eth_getLogs", 0, "the node left this request of a batch unanswered"),
    ],
)
async def test_a_range_that_is_too_much_is_halved_until_it_fits(refusal: NodeError) -> None:
    node = ScriptedNode(logs_max=7, refusal=refusal)
    reader = LogReader(node, blocks=2000)
    span = await reader.read(at(100), HEAD, HEAD, [TRANSFER])
    assert span is not None
    assert span.last == at(107)
    assert reader.blocks == 14, "twice what went well is tried next"
    assert [last - first + 1 for first, last in node.spans] == [2000, 1000, 500, 250, 125, 62, 31, 15, 7]


async def test_one_block_that_is_too_much_is_an_error() -> None:
    refusal = NodeError("eth_getLogs", -32005, "too many results")
    with pytest.raises(NodeError, match="too many"):
        await LogReader(ScriptedNode(logs_max=0, refusal=refusal)).read(at(100), HEAD, HEAD, [TRANSFER])


async def test_an_error_that_is_not_about_size_is_not_asked_again() -> None:
    node = ScriptedNode(instead=[NodeError("eth_getLogs", -32601, "no such method")])
    with pytest.raises(NodeError, match="no such method"):
        await LogReader(node).read(at(100), HEAD, HEAD, [TRANSFER])
    assert len(node.spans) == 1


async def test_a_node_that_does_not_answer_is_asked_for_less_next_time() -> None:
    reader = LogReader(ScriptedNode(is_down=True), blocks=100)
    with pytest.raises(ChainUnavailable):
        await reader.read(at(100), HEAD, HEAD, [TRANSFER])
    assert reader.blocks == 50


async def test_a_range_grows_while_all_goes_well_and_not_past_its_maximum() -> None:
    node = ScriptedNode()
    reader = LogReader(node, blocks=10, blocks_max=35)
    place = at(0)
    for _ in range(4):
        span = await reader.read(place, HEAD, HEAD, [TRANSFER])
        assert span is not None
        place = span.last
    assert [last - first + 1 for first, last in node.spans] == [10, 20, 35, 35]


async def test_another_block_before_the_range_means_that_the_chain_moved() -> None:
    node = ScriptedNode(hashes={100: block_hash(999)})
    with pytest.raises(ChainMoved):
        await LogReader(node).read(at(100), HEAD, HEAD, [TRANSFER])


async def test_a_node_that_has_not_got_the_blocks_yet_gives_nothing() -> None:
    """Behind a load balancer one node may know the head and another not: an empty answer of that one is no answer."""
    assert await LogReader(ScriptedNode(missing_from=105)).read(at(100), 110, 110, [TRANSFER]) is None
    assert await LogReader(ScriptedNode(missing_from=100)).read(at(100), 110, 110, [TRANSFER]) is None


async def test_logs_of_a_replaced_block_near_the_head_are_not_used() -> None:
    node = ScriptedNode(log_hashes={HEAD - 3: block_hash(999)})
    with pytest.raises(ChainMoved):
        await LogReader(node).read(at(HEAD - 10), HEAD, HEAD, [TRANSFER])


async def test_logs_of_another_last_block_are_not_used() -> None:
    node = ScriptedNode(log_hashes={500: block_hash(999)})
    with pytest.raises(ChainMoved):
        await LogReader(node).read(at(490), 500, HEAD, [TRANSFER])


async def test_two_hashes_of_one_block_are_not_used() -> None:
    node = ScriptedNode(extra=[transfer(495, block_hash(999), index=1)])
    with pytest.raises(ChainMoved):
        await LogReader(node).read(at(490), 500, HEAD, [TRANSFER])


async def test_what_nobody_asked_for_is_left_out() -> None:
    """A node that ignores the filter, or answers with blocks outside of the range."""
    foreign: list[dict[str, RpcValue]] = [
        transfer(495, contract=OTHER, index=1),
        transfer(9_000, index=2),
        {**transfer(495, index=3), "topics": [to_hex(word(7))]},
        {**transfer(495, index=4), "topics": []},
    ]
    span = await LogReader(ScriptedNode(extra=foreign)).read(at(490), 500, HEAD, [TRANSFER])
    assert span is not None
    assert [(log.block_number, log.index) for log in span.logs] == [(n, 0) for n in range(491, 501)]


async def test_an_answer_that_is_no_list_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="list"):
        await LogReader(ScriptedNode(instead=[None])).read(at(490), 500, HEAD, [TRANSFER])


async def test_a_chains_first_block_can_be_read() -> None:
    span = await LogReader(ScriptedNode(), blocks=3).read(Place(-1), HEAD, HEAD, [TRANSFER])
    assert span is not None
    assert [log.block_number for log in span.logs] == [0, 1, 2]


def test_sources_without_values_are_asked_for_together_and_narrowed_ones_each() -> None:
    usdc = abi_of("TestUSDC")
    sources = [
        source(USDC, usdc, "Transfer"),
        source(OTHER, usdc, "Transfer"),
        source(OTHER, usdc, "Approval"),
        source(USDC, usdc, "Approval", owner=ALICE, spender=[ALICE, BOB]),
    ]
    narrowed, together = filters(sources)
    assert narrowed["topics"] == [
        sources[3].event.topic,
        [to_hex(word(ALICE))],
        [to_hex(word(ALICE)), to_hex(word(BOB))],
    ]
    assert together["address"] == sorted([USDC, OTHER])
    assert together["topics"] == [sorted({sources[0].event.topic, sources[2].event.topic})]


def test_a_narrowed_source_takes_only_its_values() -> None:
    to_bob = source(USDC, abi_of("TestUSDC"), "Transfer", to=BOB)
    to_alice = source(USDC, abi_of("TestUSDC"), "Transfer", to=ALICE)
    log = Log.from_json(transfer(1))
    assert to_bob.takes(log)
    assert not to_alice.takes(log)
    assert to_bob.key != to_alice.key != source(USDC, abi_of("TestUSDC"), "Transfer").key


def _declared(*inputs: tuple[str, str, bool]) -> Source:
    parameters = [{"name": name, "type": kind, "indexed": indexed} for name, kind, indexed in inputs]
    return source(USDC, Abi([{"type": "event", "name": "Said", "inputs": parameters}]), "Said")


def test_arguments_become_plain_values_that_a_database_keeps() -> None:
    said = _declared(
        ("who", "address", True), ("text", "string", False), ("raw", "bytes", False), ("all", "uint8[]", False)
    )
    data = encode(["string", "bytes", "uint8[]"], ["a\0b", b"\x01\xff", [1, 2]])
    log = Log(USDC, (said.event.topic, to_hex(word(ALICE))), data, "0x1", 1, "0x2", 0)
    assert said.read(log) == {"who": ALICE, "text": "a\ufffdb", "raw": "0x01ff", "all": [1, 2]}


@pytest.mark.parametrize("data", [b"", b"\x01" * 31, b"\xff" * 64])
def test_a_log_that_does_not_read_as_its_event_is_nothing(data: bytes) -> None:
    said = _declared(("text", "string", False))
    assert said.read(Log(USDC, (said.event.topic,), data, "0x1", 1, "0x2", 0)) is None
    assert said.read(Log(USDC, (said.event.topic, to_hex(word(1))), data, "0x1", 1, "0x2", 0)) is None


def test_a_source_of_an_event_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInput, match="0 events named Gone"):
        source(USDC, abi_of("TestUSDC"), "Gone")
    with pytest.raises(InvalidInput, match="indexed"):
        source(USDC, abi_of("TestUSDC"), "Transfer", value=1)
    with pytest.raises(InvalidInput, match="contract"):
        source("0x12", abi_of("TestUSDC"), "Transfer")
