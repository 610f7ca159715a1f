"""Reading logs from a node that may refuse large answers, lag behind, or change its mind about the chain.

One request asks for the block before a range, the logs in it and its last block: what comes back is of one chain, or
it is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.encoding import quantity
from agentnexus.rails.evm.errors import ChainUnavailable, NodeError, Reverted
from agentnexus.rails.evm.indexer.events import Source, filters
from agentnexus.rails.evm.indexer.model import Place
from agentnexus.rails.evm.receipts import Log
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue, call_object

SPAN_BLOCKS = 2_000
SPAN_BLOCKS_MAX = 20_000
# So far behind the head, logs are taken at their word; nearer, the hashes of their blocks are asked for as well.
REORGANISATION_BLOCKS = 256
_BLOCKS_AT_ONCE = 64
_TOO_MUCH_CODES = (-32005, -32602, -32012)
_TOO_MUCH = (
    "too many", "too large", "more than", "exceed", "limit", "range", "response size", "timeout", "timed out",
    "unanswered",
)  # fmt: skip
Answer: TypeAlias = "RpcValue | NodeError | Reverted"


class ChainMoved(Exception):
    """What was read is not of the chain that the place is on."""


@dataclass(frozen=True, slots=True)
class Span:
    """All logs of the sources from after `before` up to and with `last`."""

    before: Place
    last: Place
    logs: tuple[Log, ...]


class LogReader:
    """Reads spans of blocks. `blocks`, how many at once, halves when a node finds it too much, and grows again."""

    def __init__(self, rpc: Rpc, *, blocks: int = SPAN_BLOCKS, blocks_max: int = SPAN_BLOCKS_MAX) -> None:
        self._rpc = rpc
        self.blocks = blocks
        self._blocks_max = blocks_max

    async def head(self) -> Place | None:
        """The newest block; None when the node has none."""
        (answer,) = await self._rpc.batch([_block("latest")])
        return _place(answer)

    async def places(self, numbers: Sequence[int]) -> list[Place | None]:
        """The blocks of these numbers as the node has them now."""
        found: list[Place | None] = []
        for first in range(0, len(numbers), _BLOCKS_AT_ONCE):
            calls = [_block(hex(number)) for number in numbers[first : first + _BLOCKS_AT_ONCE]]
            found += [_place(answer) for answer in await self._rpc.batch(calls)]
        return found

    async def read(self, before: Place, upto: int, head: int, sources: Sequence[Source]) -> Span | None:
        """The logs after `before`, as far as one answer carries and not beyond `upto`.

        None when the node that answered does not have those blocks yet. Raises `ChainMoved`, `ChainUnavailable`,
        `NodeError` for what even one block is too much for.
        """
        asked = filters(sources)
        while True:
            last = min(before.number + self.blocks, upto)
            answers = await self._ask(before, last, asked)
            start, reached = _place(answers[0]), _place(answers[-1])
            if start is None or reached is None:
                return None
            if before.hash not in ("", start.hash):
                raise ChainMoved
            failed = next((answer for answer in answers[1:-1] if isinstance(answer, Exception)), None)
            if failed is None:
                self.blocks = min(2 * self.blocks, self._blocks_max) if last < upto else self.blocks
                logs = _logs(answers[1:-1], sources, before.number + 1, last)
                await self._check_blocks(logs, reached, head)
                return Span(before, reached, logs)
            if last <= before.number + 1 or not _too_much(failed):
                raise failed
            self.blocks = max((last - before.number) // 2, 1)

    async def _ask(self, before: Place, last: int, asked: Sequence[dict[str, RpcValue]]) -> list[Answer]:
        blocks: dict[str, RpcValue] = {"fromBlock": hex(before.number + 1), "toBlock": hex(last)}
        questions = [Call("eth_getLogs", ({**each, **blocks},)) for each in asked]
        try:
            return await self._rpc.batch([_block(hex(max(before.number, 0))), *questions, _block(hex(last))])
        except ChainUnavailable:
            self.blocks = max(self.blocks // 2, 1)  # it may have been the size of the answer
            raise

    async def _check_blocks(self, logs: Sequence[Log], reached: Place, head: int) -> None:
        """Logs of a block that another block has replaced are of a chain that is none."""
        claimed = {log.block_number: log.block_hash for log in logs}
        if any(claimed[log.block_number] != log.block_hash for log in logs):
            raise ChainMoved
        claimed.pop(reached.number, None)
        if any(log.block_number == reached.number and log.block_hash != reached.hash for log in logs):
            raise ChainMoved
        recent = [number for number in claimed if number > head - REORGANISATION_BLOCKS]
        if not recent:
            return
        *found, again = await self.places([*recent, reached.number])
        known = {each.number: each.hash for each in found if each is not None}
        if again != reached or any(known.get(number) != claimed[number] for number in recent):
            raise ChainMoved


def _block(which: str) -> Call:
    return Call("eth_getBlockByNumber", (which, False))


def _place(answer: Answer) -> Place | None:
    found = call_object(answer)
    return Place(quantity(found["number"]), str(found["hash"]).lower()) if found else None


def _too_much(error: Exception) -> bool:
    if not isinstance(error, NodeError):
        return False
    return error.rpc_code in _TOO_MUCH_CODES or any(each in error.rpc_message.lower() for each in _TOO_MUCH)


def _logs(answers: Sequence[Answer], sources: Sequence[Source], first: int, last: int) -> tuple[Log, ...]:
    """What the filters found and a source takes, each once, in the chain's order."""
    by_topic: dict[tuple[str, str], list[Source]] = {}
    for each in sources:
        by_topic.setdefault((each.contract, each.event.topic), []).append(each)
    found: dict[tuple[int, int], Log] = {}
    for answer in answers:
        if not isinstance(answer, list):
            raise InvalidInput("eth_getLogs did not answer with a list", field="logs")
        for value in answer:
            log = Log.from_json(value)
            takers = by_topic.get((log.contract, log.topics[0] if log.topics else ""), ())
            if first <= log.block_number <= last and any(each.takes(log) for each in takers):
                found[log.block_number, log.index] = log
    return tuple(found[key] for key in sorted(found))
