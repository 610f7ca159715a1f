"""JSON Schemas of strangers, made safe: bounded size and depth, no remote references, linear patterns, compiled once.

Sellers write these schemas, so every one is treated as hostile: it may try to fetch an address, to burn CPU with a
pattern, or to double its own work at every reference.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import jsonschema_rs

from agentnexus.core.errors import InvalidInput

SCHEMA_BYTES_MAX = 256 * 1024
SCHEMA_DEPTH_MAX = 64
SCHEMA_WORK_MAX = 50_000
INSTANCE_DEPTH_MAX = 200
RECURSION_WORK_MAX = 10_000_000
PATTERN_BYTES_MAX = 1 << 20
PROBLEMS_MAX = 5
RULE = frozenset({"required", "not", "title", "description"})  # `not`: that what is required may not be null
INDEX = re.compile(r"[0-9]{1,9}")  # as RFC 6901 counts; what `str.isdigit` takes `int` may refuse


@dataclass(frozen=True, slots=True)
class Problem:
    """One way in which a value breaks a schema: `path` is a JSON pointer, "" for the whole value."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path or '(whole)'}: {self.message}"


@dataclass(slots=True)
class _Survey:
    """What one walk over a schema learns: its depth, its expanded size and how often it refers to itself."""

    root: object
    depth: int = 0
    back_references: int = 0
    weights: dict[str, int] = field(default_factory=dict)
    open_references: set[str] = field(default_factory=set)

    def weigh(self, node: object, depth: int = 0) -> int:
        """Number of nodes a validator may visit for one level of input, references expanded."""
        self.depth = max(self.depth, depth)
        if depth > SCHEMA_DEPTH_MAX:
            raise InvalidInput(f"the schema is nested deeper than {SCHEMA_DEPTH_MAX}", field="schema")
        weight = 1
        for key, child in _children(node):
            if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(child, str):
                weight += self._weigh_reference(child)
            else:
                weight += self.weigh(child, depth + 1)
            if weight > SCHEMA_WORK_MAX:
                raise InvalidInput("the schema multiplies its own work", field="schema")
        return weight

    def _weigh_reference(self, reference: str) -> int:
        if not reference.startswith("#"):
            raise InvalidInput(f"the schema refers to another document: {reference[:100]!r}", field="schema")
        if reference in self.open_references:
            self.back_references += 1
            return 1
        if reference not in self.weights:
            self.open_references.add(reference)
            self.weights[reference] = self.weigh(_resolve(self.root, reference))
            self.open_references.discard(reference)
        return self.weights[reference]


def _children(node: object) -> Iterator[tuple[str, object]]:
    if isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, list | tuple):
        yield from (("", child) for child in node)


def _resolve(root: object, reference: str) -> object:
    """The node a local pointer names; anchors and dangling pointers weigh nothing (the compiler refuses the latter)."""
    node = root
    for part in reference[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping) and name in node:
            node = node[name]
        elif isinstance(node, list) and INDEX.fullmatch(name) and int(name) < len(node):
            node = node[int(name)]
        else:
            return None
    return node


def depth_of(value: object, limit: int) -> int:
    """Nesting depth of a JSON value, counted without recursion; stops at `limit` + 1."""
    depth = 0
    level = [value]
    while level:
        level = [child for node in level for _, child in _children(node) if isinstance(child, Mapping | list | tuple)]
        depth += 1
        if depth > limit:
            break
    return depth


class CompiledSchema:
    """One accepted schema. Reusable and safe to share between tasks."""

    def __init__(self, schema: Mapping[str, object]) -> None:
        survey = _Survey(schema)
        survey.weigh(schema)
        self._back_references = survey.back_references
        try:
            self._validator = jsonschema_rs.validator_for(
                dict(schema),
                validate_formats=True,
                pattern_options=jsonschema_rs.RegexOptions(
                    size_limit=PATTERN_BYTES_MAX, dfa_size_limit=PATTERN_BYTES_MAX
                ),
                offline=True,
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise InvalidInput(f"not a usable JSON Schema: {_short(str(error))}", field="schema") from error

    def problems(self, value: object) -> tuple[Problem, ...]:
        """At most `PROBLEMS_MAX` problems; empty when the value fits."""
        depth = depth_of(value, INSTANCE_DEPTH_MAX)
        if depth > INSTANCE_DEPTH_MAX:
            return (Problem("", f"nested deeper than {INSTANCE_DEPTH_MAX}"),)
        if self._back_references > 1 and self._back_references**depth > RECURSION_WORK_MAX:
            return (Problem("", "too deep for a schema that refers to itself in several places"),)
        try:
            if self._validator.is_valid(value):
                return ()
            errors = islice(self._validator.iter_errors(value), PROBLEMS_MAX)
            return tuple(Problem(_pointer(error.instance_path), _short(error.message)) for error in errors)
        except (ValueError, TypeError, OverflowError) as error:  # values JSON has no word for
            return (Problem("", f"not a JSON value: {_short(str(error))}"),)


def names_needed(alternatives: object) -> tuple[tuple[str, ...], ...]:
    """``(("a",), ("b", "c"))`` of ``[{"required": ["a"]}, {"required": ["b", "c"]}]``: which names each one asks for.

    Empty unless that is all they do: such alternatives describe no other shapes, they are a rule about this one.
    """
    listed = alternatives if isinstance(alternatives, list) else []
    found = [each.get("required") if isinstance(each, Mapping) and each.keys() <= RULE else None for each in listed]
    named = [tuple(str(name) for name in names) for names in found if isinstance(names, list) and names]
    return tuple(named) if len(named) == len(listed) else ()


def _pointer(path: list[str | int]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _short(text: str, limit: int = 300) -> str:
    """Messages quote the value, which may be a whole file."""
    first = text.partition("\n")[0]
    return first if len(first) <= limit else first[: limit - 1] + "…"


class Schemas:
    """Compiled schemas by content; the `capacity` most recently used are kept, refusals too."""

    def __init__(self, capacity: int = 2048) -> None:
        self._capacity = capacity
        self._compiled: OrderedDict[str, CompiledSchema | InvalidInput] = OrderedDict()

    def compile(self, schema: Mapping[str, object]) -> CompiledSchema:
        """Raises `InvalidInput` when the schema is too large, too deep, refers outside or is not a schema."""
        key = _fingerprint(schema)
        known = self._compiled.get(key)
        if known is None:
            known = self._try(schema)
            self._compiled[key] = known
            if len(self._compiled) > self._capacity:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        if isinstance(known, InvalidInput):
            raise InvalidInput(known.message, field="schema")
        return known

    @staticmethod
    def _try(schema: Mapping[str, object]) -> CompiledSchema | InvalidInput:
        try:
            return CompiledSchema(schema)
        except InvalidInput as error:
            return error

    def problems(self, schema: Mapping[str, object], value: object) -> tuple[Problem, ...]:
        """How `value` breaks `schema`; an empty schema allows everything, an unusable one allows nothing."""
        if not schema:
            return ()
        try:
            return self.compile(schema).problems(value)
        except InvalidInput as error:
            return (Problem("", f"cannot be checked: {error.message}"),)


def _fingerprint(schema: Mapping[str, object]) -> str:
    """The schema's own text as cache key: exact, and cheaper than a canonical form."""
    try:
        text = json.dumps(schema, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the schema is not JSON: {_short(str(error))}", field="schema") from error
    if len(text) > SCHEMA_BYTES_MAX:
        raise InvalidInput(f"the schema is larger than {SCHEMA_BYTES_MAX} bytes", field="schema")
    return text
