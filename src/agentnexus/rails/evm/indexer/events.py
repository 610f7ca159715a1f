"""What is looked for, and how it reads: sources are a contract's event, narrowed by indexed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts.abi import Abi, AbiValue, EventType, encode_values
from agentnexus.rails.evm.encoding import address, keccak, to_hex
from agentnexus.rails.evm.receipts import Log
from agentnexus.rails.evm.rpc import RpcValue

Argument: TypeAlias = "bool | int | str | list[Argument]"
Arguments: TypeAlias = "dict[str, Argument]"


@dataclass(frozen=True, slots=True)
class Source:
    """An event of a contract, from a block on.

    Args:
        where: indexed arguments and the values to look for; anything when empty.
        start_block: where it is read from the first time; when None, from where the indexer is then, or the head.
    """

    contract: str
    abi: Abi = field(compare=False, repr=False)
    event: EventType
    where: tuple[tuple[str, tuple[str | int, ...]], ...] = ()
    start_block: int | None = None
    topics: list[RpcValue] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "contract", address(self.contract, field="contract"))
        object.__setattr__(self, "topics", _topics(self.event, dict(self.where)))

    @property
    def key(self) -> str:
        """The same for the same source in every process, whatever its start."""
        narrowed = keccak(repr(sorted(self.where)).encode()).hex()[:16] if self.where else ""
        return ":".join((self.contract, self.event.topic, narrowed)).rstrip(":")

    def takes(self, log: Log) -> bool:
        """Asked once more here: a node that ignores a filter must not make an event."""
        if log.contract != self.contract or len(log.topics) < len(self.topics):
            return False
        pairs = zip(self.topics, log.topics, strict=False)
        return all(wanted is None or found == wanted or _among(found, wanted) for wanted, found in pairs)

    def read(self, log: Log) -> Arguments | None:
        """Arguments by name: integers as they are, addresses and bytes as lower-case hex, tuples and arrays as lists.

        None for a log that this event cannot have made.
        """
        event = self.abi.event(log)
        return None if event is None else {name: _plain(value) for name, value in event.arguments.items()}


def source(
    contract: str, abi: Abi, event: str, *, start_block: int | None = None, **where: str | int | Sequence[str | int]
) -> Source:
    """A `Source`, with the wanted values of indexed arguments by name: ``source(token, abi, "Transfer", to=[bob])``.

    Raises `InvalidInput` for an event the contract does not have, or one that is not indexed so.
    """
    found = [each for each in abi.events.values() if each.name == event]
    if len(found) != 1:
        raise InvalidInput(f"the contract has {len(found)} events named {event}", field="event")
    narrowed = tuple((name, (v,) if isinstance(v, str | int) else tuple(v)) for name, v in sorted(where.items()))
    return Source(contract, abi, found[0], narrowed, start_block)


def filters(sources: Sequence[Source]) -> list[dict[str, RpcValue]]:
    """As few ``eth_getLogs`` filters as ask for all of these: plain ones together, a narrowed one each."""
    plain = [each for each in sources if not each.where]
    asked: list[dict[str, RpcValue]] = [
        {"address": each.contract, "topics": each.topics} for each in sources if each.where
    ]
    if plain:
        contracts: list[RpcValue] = [*sorted({each.contract for each in plain})]
        topics: list[RpcValue] = [*sorted({each.event.topic for each in plain})]
        asked.append({"address": contracts, "topics": [topics]})
    return asked


def _topics(event: EventType, where: Mapping[str, Sequence[str | int]]) -> list[RpcValue]:
    """What to ask a node for: this event, with one of the given values in each named argument."""
    indexed = [(name, kind) for name, kind, is_indexed in event.inputs if is_indexed]
    if unknown := set(where) - {name for name, _ in indexed}:
        raise InvalidInput(f"{event.name} is not indexed by {', '.join(sorted(unknown))}", field="where")
    topics: list[RpcValue] = [event.topic]
    for name, kind in indexed:
        wanted = where.get(name)
        topics.append(None if wanted is None else [to_hex(encode_values([kind], [each])) for each in wanted])
    while topics[-1] is None:
        topics.pop()
    return topics


def _among(found: str, wanted: RpcValue) -> bool:
    return isinstance(wanted, list) and found in wanted


def _plain(value: AbiValue) -> Argument:
    if isinstance(value, bytes):
        return to_hex(value)
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")  # PostgreSQL keeps no NUL, and a contract may say what it likes
    if isinstance(value, int):
        return value
    return [_plain(each) for each in value]
