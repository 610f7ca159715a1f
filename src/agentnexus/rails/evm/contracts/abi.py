"""Contracts' ABI as Python: calldata, returned values, events and custom errors, encoded and decoded by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts.artifacts import load_artifact
from agentnexus.rails.evm.encoding import from_hex, keccak, selector, to_hex
from agentnexus.rails.evm.receipts import Log

AbiValue: TypeAlias = "bool | int | str | bytes | Sequence[AbiValue]"
Entry: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Function:
    """One function: four selector bytes, and the types it takes and returns."""

    name: str
    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EventType:
    """One event. `inputs` are (name, type, indexed) in the order they were declared."""

    name: str
    topic: str
    inputs: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True, slots=True)
class ErrorType:
    """One custom error, as (name, type) of its arguments."""

    name: str
    selector: bytes
    inputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Event:
    """What a contract told: the event's name and its arguments by theirs (addresses in lower case)."""

    name: str
    arguments: Mapping[str, AbiValue]
    log: Log


class Abi:
    """The functions, events and errors of one contract; overloaded functions are known by their full signature."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.functions: dict[str, Function] = {}
        self.events: dict[str, EventType] = {}
        self.errors: dict[bytes, ErrorType] = {}
        self.constructor: tuple[str, ...] = ()
        for entry in entries:
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        name, parameters = str(entry.get("name", "")), _parameters(entry, "inputs")
        types = tuple(type_of(each) for each in parameters)
        signature = f"{name}({','.join(types)})"
        match entry.get("type"):
            case "function":
                outputs = tuple(type_of(each) for each in _parameters(entry, "outputs"))
                function = Function(name, selector(signature), types, outputs)
                self.functions.setdefault(name, function)
                self.functions[signature] = function
            case "event":
                inputs = tuple(
                    (str(each["name"]), kind, bool(each.get("indexed")))
                    for each, kind in zip(parameters, types, strict=True)
                )
                topic = to_hex(keccak(signature.encode()))
                self.events[topic] = EventType(name, topic, inputs)
            case "error":
                named = tuple((str(each["name"]), kind) for each, kind in zip(parameters, types, strict=True))
                self.errors[selector(signature)] = ErrorType(name, selector(signature), named)
            case "constructor":
                self.constructor = types
            case _:
                pass

    def encode(self, name: str, values: Sequence[AbiValue]) -> bytes:
        """Calldata. Raises `InvalidInput` for values that do not fit the function's types."""
        function = self.function(name)
        return function.selector + encode_values(function.inputs, values, field=name)

    def decode(self, name: str, data: bytes) -> tuple[AbiValue, ...]:
        """What a call returned. Raises `InvalidInput` when it is not what the function returns."""
        return decode_values(self.function(name).outputs, data, field=name)

    def function(self, name: str) -> Function:
        try:
            return self.functions[name]
        except KeyError:
            raise InvalidInput(f"the contract has no function {name}", field="name") from None

    def topic(self, name: str) -> str:
        """Topic zero of an event."""
        return next(topic for topic, event in self.events.items() if event.name == name)

    def event(self, log: Log) -> Event | None:
        """A log as one of this contract's events; None for any other, and for one that does not decode."""
        declared = self.events.get(log.topics[0]) if log.topics else None
        if declared is None:
            return None
        indexed = [(name, kind) for name, kind, is_indexed in declared.inputs if is_indexed]
        plain = [(name, kind) for name, kind, is_indexed in declared.inputs if not is_indexed]
        if len(log.topics) != len(indexed) + 1:
            return None
        try:
            values = decode_values([kind for _, kind in plain], log.data, field=declared.name)
            topics = [
                decode_values([_topic_type(kind)], from_hex(topic), field=name)[0]
                for (name, kind), topic in zip(indexed, log.topics[1:], strict=True)
            ]
        except InvalidInput:
            return None
        names = [name for name, _ in (*plain, *indexed)]
        return Event(declared.name, dict(zip(names, (*values, *topics), strict=True)), log)


@cache
def abi_of(name: str) -> Abi:
    """The committed ABI of one of our contracts."""
    return Abi(load_artifact(name).abi)


def encode_values(types: Sequence[str], values: Sequence[AbiValue], *, field: str = "values") -> bytes:
    """ABI encoding. Raises `InvalidInput` naming `field`."""
    try:
        return encode(types, values)
    except (EncodingError, OverflowError, TypeError, ValueError) as error:
        raise InvalidInput(f"{field}: {error}", field=field) from error


def decode_values(types: Sequence[str], data: bytes, *, field: str = "data") -> tuple[AbiValue, ...]:
    """ABI decoding. Raises `InvalidInput` naming `field`."""
    try:
        values: tuple[AbiValue, ...] = decode(types, data)
    except (DecodingError, OverflowError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{field}: the contract returned something else than it should: {error}",
            field=field,
            next_step="check that the address is the contract it should be",
        ) from error
    return values


def type_of(parameter: Entry) -> str:
    """The canonical type of an ABI parameter, tuples written out."""
    kind = str(parameter["type"])
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(type_of(each) for each in _parameters(parameter, "components"))
    return f"({inner}){kind.removeprefix('tuple')}"


def _parameters(entry: Entry, key: str) -> Sequence[Entry]:
    found = entry.get(key, [])
    return found if isinstance(found, list) else []


def _topic_type(kind: str) -> str:
    """Values that do not fit a word are there by their hash."""
    return kind if kind.rstrip("0123456789") in {"uint", "int", "address", "bool"} or _is_word(kind) else "bytes32"


def _is_word(kind: str) -> bool:
    return kind.startswith("bytes") and kind != "bytes" and not kind.endswith("]")
