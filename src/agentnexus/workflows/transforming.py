"""What transforms and conditions make of earlier outputs. Pure: nothing is called, nothing is evaluated as code.

Templates are read from the plan and never from what sellers answered: an output that looks like a reference is data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeGuard, assert_never

from agentnexus.core.canonical import canonical_json
from agentnexus.core.errors import InvalidPlan
from agentnexus.core.offers import Schema
from agentnexus.workflows.references import (
    FileReference,
    ItemReference,
    StepReference,
    at_parts,
    part_of,
    read_reference,
    references,
)
from agentnexus.workflows.schemas import ANYTHING, TEXT_TYPE, at_path
from agentnexus.workflows.transforms import (
    AllOf,
    AnyOf,
    Choose,
    Condition,
    Filter,
    Join,
    Map,
    NoneOf,
    Pick,
    Template,
    Test,
    Transform,
)

ITEMS_MAX = 100_000
TEXT_MAX = 20 * 1024 * 1024
OUTPUT_MAX = 64 * 1024 * 1024
WORK_MAX = 20_000_000  # items times the length of what is done with each: some seconds
HOLE = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")
Outputs = Mapping[str, object]


class _Absent:
    """Stands for a value that is not there; unlike ``null``, which is one."""


ABSENT = _Absent()


def transformed(transform: Transform, outputs: Outputs) -> object:
    """The output of a transform step.

    Raises `InvalidPlan` where the values do not have the shape it needs, or where too much would come out.
    """
    made = _made(transform, outputs)
    if _size(made) > OUTPUT_MAX:
        raise InvalidPlan("too much comes out of this step", next_step="reshape a part of it")
    return made


def _made(transform: Transform, outputs: Outputs) -> object:
    match transform:
        case Filter() | Map():
            return _listed(transform, _items(value_of(transform.items, outputs)), outputs)
        case Join():
            return _joined(transform, [value_of(part, outputs) for part in transform.parts])
        case Template():
            return _filled(transform, {name: value_of(value, outputs) for name, value in transform.values.items()})
        case Choose():
            return value_of(transform.then if holds(transform.when, outputs) else transform.otherwise, outputs)
        case Pick():
            return _picked_parts(transform, value_of(transform.source, outputs))
        case _:
            assert_never(transform)


def _size(value: object) -> int:
    """About how long a value is as JSON; counting ends soon after `OUTPUT_MAX`, however often a part is repeated."""
    size, waiting = 0, [value]
    while waiting and size <= OUTPUT_MAX:
        each = waiting.pop()
        size += len(each) if isinstance(each, str) else 1
        if isinstance(each, Mapping):
            size += sum(map(len, each))
            waiting.extend(each.values())
        elif isinstance(each, Sequence) and not isinstance(each, str):
            waiting.extend(each)
    return size


def _listed(transform: Filter | Map, items: Sequence[object], outputs: Outputs) -> list[object]:
    template = transform.where.model_dump() if isinstance(transform, Filter) else transform.each
    if len(items) * _size(template) > WORK_MAX:
        raise InvalidPlan("this takes too long over so many items", next_step="filter or map a shorter list")
    if isinstance(transform, Filter):
        return [item for item in items if holds(transform.where, outputs, item)]
    return [value_of(transform.each, outputs, item) for item in items]


def _picked_parts(pick: Pick, source: object) -> object:
    if pick.path:
        return _picked(source, pick.path)
    return {name: _picked(source, path) for name, path in pick.paths.items()}


def value_of(template: object, outputs: Outputs, item: object = ABSENT) -> object:
    """A template with references to steps, and to the item of a list, replaced. Raises `InvalidPlan`."""
    reference = read_reference(template)
    if isinstance(reference, StepReference):
        return part_of(outputs, reference)
    if isinstance(reference, ItemReference) and item is not ABSENT:
        found = at_parts(item, reference.parts)
        if found is None and not reference.has_default:
            raise InvalidPlan(
                f"an item of the list has no {reference.path!r}", next_step="give the reference a default"
            )
        return reference.default if found is None else found[0]
    if reference is not None:
        raise InvalidPlan("only outputs of steps can be reshaped", next_step="give files to agents")
    if isinstance(template, Mapping):
        return {str(key): value_of(value, outputs, item) for key, value in template.items()}
    if isinstance(template, Sequence) and not isinstance(template, str | bytes):
        return [value_of(value, outputs, item) for value in template]
    return template


def holds(condition: Condition, outputs: Outputs, item: object = ABSENT) -> bool:
    """Whether a condition holds. What is not there counts as ``null``: no condition ever fails."""
    match condition:
        case AllOf():
            return all(holds(part, outputs, item) for part in condition.all)
        case AnyOf():
            return any(holds(part, outputs, item) for part in condition.any)
        case NoneOf():
            return not any(holds(part, outputs, item) for part in condition.none)
        case Test():
            return _test(condition, _lenient(condition.value, outputs, item), _lenient(condition.other, outputs, item))
        case _:
            assert_never(condition)


def _lenient(template: object, outputs: Outputs, item: object) -> object:
    try:
        return value_of(template, outputs, item)
    except InvalidPlan:
        return None


def _test(condition: Test, value: object, other: object) -> bool:
    match condition.test:
        case "equals" | "not_equals":
            return _same(value, other) is (condition.test == "equals")
        case "contains":
            return _contains(value, other)
        case "empty" | "not_empty":
            return (value in (None, "", [], {}, ())) is (condition.test == "empty")
        case "true" | "false":
            return value is (condition.test == "true")
        case _:
            return _ordered(condition.test, value, other)


def _same(value: object, other: object) -> bool:
    """JSON equality: ``1`` is ``1.0`` and is not ``true``."""
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    return value == other


def _ordered(test: Literal["more", "at_least", "less", "at_most"], value: object, other: object) -> bool:
    order = _order(value, other)
    if order is None:
        return False
    return {"more": order > 0, "at_least": order >= 0, "less": order < 0, "at_most": order <= 0}[test]


def _order(value: object, other: object) -> int | None:
    """Numbers with numbers and texts with texts; nothing else has an order."""
    if isinstance(value, str) and isinstance(other, str):
        return (value > other) - (value < other)
    return int(value > other) - int(value < other) if _is_number(value) and _is_number(other) else None


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _contains(value: object, other: object) -> bool:
    if isinstance(value, str):
        return isinstance(other, str) and other.casefold() in value.casefold()
    if isinstance(value, Mapping):
        return isinstance(other, str) and other in value
    return isinstance(value, Sequence) and any(_same(each, other) for each in value)


def _picked(source: object, path: str) -> object:
    found = at_parts(source, tuple(path.split(".")))
    if found is None:
        raise InvalidPlan(f"there is no {path!r} to pick", next_step="pick what the step before really gives")
    return found[0]


def _items(value: object) -> Sequence[object]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InvalidPlan("only a list can be filtered or mapped", next_step="refer to a list")
    if len(value) > ITEMS_MAX:
        raise InvalidPlan(
            f"the list has {len(value):,} items, {ITEMS_MAX:,} are the most", next_step="take a part of it"
        )
    return value


def _joined(join: Join, parts: Sequence[object]) -> object:
    if join.into == "text":
        return _text_of(join.separator, [part for part in parts if part is not None])
    if join.into == "list":
        return list(_items([item for part in parts for item in _items([] if part is None else part)]))
    merged: dict[str, object] = {}
    for part in parts:
        if not isinstance(part, Mapping):
            raise InvalidPlan("only objects can be joined into an object", next_step='choose into = "list" or "text"')
        merged |= {str(name): value for name, value in part.items()}
    return merged


def _text_of(separator: str, parts: Sequence[object]) -> str:
    texts: list[str] = []
    size = 0
    for part in parts:
        texts.append(_text(part))
        size += len(texts[-1]) + len(separator)
        if size > TEXT_MAX:
            raise _too_long()
    return separator.join(texts)


def _filled(template: Template, values: Mapping[str, object]) -> str:
    texts = {name: _text(value) for name, value in values.items()}

    def replace(match: re.Match[str]) -> str:
        return match.group()[0] if match.group(1) is None else texts[match.group(1)]

    if sum(len(texts[name]) for name in holes(template.text)) + len(template.text) > TEXT_MAX:
        raise _too_long()
    return HOLE.sub(replace, template.text)


def holes(text: str) -> list[str]:
    """Names of the values a template text asks for, as often as it does."""
    return [match.group(1) for match in HOLE.finditer(text) if match.group(1) is not None]


def _text(value: object) -> str:
    """Texts as they are, ``null`` as nothing, everything else as compact JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else canonical_json(value).decode()  # type: ignore[arg-type]  # JSON values


def _too_long() -> InvalidPlan:
    return InvalidPlan(
        f"the text would have more than {TEXT_MAX:,} characters", next_step="join fewer or shorter parts"
    )


def output_type(transform: Transform | None, types: Mapping[str, Schema]) -> Schema:
    """What is known of a transform's output before it runs."""
    match transform:
        case Template() | Join(into="text"):
            return TEXT_TYPE
        case Join(into="list") | Filter() | Map():
            return {"type": "array"}
        case Join():
            return {"type": "object"}
        case Pick():
            return _picked_type(transform, types)
        case _:
            return ANYTHING


def _picked_type(pick: Pick, types: Mapping[str, Schema]) -> Schema:
    if pick.paths:
        return {"type": "object", "properties": dict.fromkeys(pick.paths, ANYTHING)}
    reference = read_reference(pick.source)
    if not isinstance(reference, StepReference):
        return ANYTHING
    found = at_path(types.get(reference.step, ANYTHING), (*reference.parts, *pick.path.split(".")))
    return {"anyOf": found} if found else ANYTHING


def faults(transform: Transform | None, when: Condition | None) -> Iterator[str]:
    """What is wrong with a transform or condition beyond its references to steps."""
    for part in (transform, when):
        for reference in references(None if part is None else part.model_dump()):
            if isinstance(reference, FileReference):
                yield "a transform or condition uses a file; only agents read files"
    if when is not None and _uses_item(when.model_dump()):
        yield "its condition uses $item outside of a list"
    if isinstance(transform, Filter | Map) and _uses_item(transform.items):
        yield "its list uses $item outside of a list"
    if isinstance(transform, Pick | Join | Template | Choose) and _uses_item(transform.model_dump()):
        yield "it uses $item outside of filter or map"
    if isinstance(transform, Template):
        for name in sorted(set(holes(transform.text)) - set(transform.values)):
            yield f"its text asks for {{{name}}}, which is not among its values"


def _uses_item(template: object) -> bool:
    return any(isinstance(reference, ItemReference) for reference in references(template))
