"""JSON Schemas read as types: parts of an output by path, and whether a template fits an input. Pure.

What cannot be told from the schemas (open objects, no schema at all) counts as fitting: the seller's own check at
hiring time has the last word. What can be told to be wrong is refused before money moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

from agentnexus.core.errors import InvalidInput
from agentnexus.core.offers import Schema
from agentnexus.hiring.schemas import Schemas, names_needed
from agentnexus.workflows.references import FileReference, Reference, StepReference, is_index, read_reference

ANYTHING: Schema = {}
FILE_TYPE: Schema = {"type": "string", "contentEncoding": "base64"}
TEXT_TYPE: Schema = {"type": "string"}
BRANCHES_MAX = 32
SCHEMAS = Schemas()


def as_schema(value: object) -> Schema:
    """A subschema; `true` and what is not a schema mean anything."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else ANYTHING


def _target(reference: str, root: Schema) -> Schema:
    """What a local ``$ref`` names; foreign ones mean anything and are never fetched."""
    if not reference.startswith("#"):
        return ANYTHING
    found: object = root
    for part in reference[1:].split("/")[1:]:
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return as_schema(found)


def branches(schema: Schema, root: Schema) -> list[Schema]:
    """The alternatives a schema allows, without ``null``; at most `BRANCHES_MAX` of them.

    Alternatives that only say which of the schema's own members must be there are no other shapes.

    Sellers write these schemas: each reference is followed once, so that none can multiply the work.
    """
    found: list[Schema] = []
    followed: set[str] = set()
    waiting = [schema]
    while waiting and len(found) < BRANCHES_MAX:
        option = waiting.pop()
        reference = option.get("$ref")
        if isinstance(reference, str):
            if reference not in followed:
                followed.add(reference)
                waiting.append(_target(reference, root))
            continue
        unions = (value for word in ("anyOf", "oneOf") if _is_list(value := option.get(word)))
        inner = next((value for value in unions if not names_needed(value)), None)
        if inner is not None:
            waiting.extend(as_schema(each) for each in reversed(inner))
        elif option.get("type") != "null":
            found.append(option)
    return found


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def types_of(schema: Schema) -> frozenset[str]:
    """Type names a schema without alternatives allows; empty means any."""
    declared = schema.get("type")
    if isinstance(declared, str):
        return frozenset({declared})
    if isinstance(declared, Sequence):
        return frozenset(str(name) for name in declared if name != "null")
    if "properties" in schema:
        return frozenset({"object"})
    if "items" in schema:
        return frozenset({"array"})
    return frozenset()


def at_path(schema: Schema, parts: Sequence[str], root: Schema | None = None) -> list[Schema]:
    """Possible types of a part of a value; an empty list means that there is no such part."""
    root = schema if root is None else root
    options = branches(schema, root)
    for part in parts:
        options = [found for option in options for found in _child(option, part, root)][:BRANCHES_MAX]
    return options


def _child(schema: Schema, part: str, root: Schema) -> list[Schema]:
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and part in properties:
        return branches(as_schema(properties[part]), root)
    kinds = types_of(schema)
    if is_index(part) and (not kinds or "array" in kinds):
        return branches(as_schema(schema.get("items")), root)
    if kinds and "object" not in kinds:
        return []
    extra = schema.get("additionalProperties", not isinstance(properties, Mapping))
    return [] if extra is False else branches(as_schema(extra), root)


def mismatch(source: Schema, target: Schema) -> str | None:
    """Why a value of type `source` may not stand where `target` is asked; `None` when it may."""
    has, wants = types_of(source), types_of(target)
    if has and wants and not has & wants and not (wants == {"number"} and has == {"integer"}):
        return f"is {_names(has)}, {_names(wants)} is asked"
    encoded, asked = source.get("contentEncoding"), target.get("contentEncoding")
    if asked == "base64" and encoded != "base64" and has == {"string"}:
        return "is text, a file is asked"
    if encoded == "base64" and asked is None and wants == {"string"}:
        return "is a file, text is asked"
    return None


def _names(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds))


def problems(
    template: object, schema: Schema, type_of: Mapping[str, Schema], place: str = "input", root: Schema | None = None
) -> Iterator[str]:
    """Why a template cannot be the input of `schema`; `type_of` has the output schemas of earlier steps by id."""
    root = schema if root is None else root
    options = branches(schema, root)
    if not options:
        return
    found = [list(_problems_of(template, option, type_of, place, root)) for option in options]
    yield from min(found, key=len)


def _problems_of(
    template: object, schema: Schema, type_of: Mapping[str, Schema], place: str, root: Schema
) -> Iterator[str]:
    reference = read_reference(template)
    if reference is not None:
        yield from _reference_problems(reference, schema, type_of, place)
    elif not holds_reference(template):
        yield from _value_problems(template, schema, place, root)
    elif isinstance(template, Mapping):
        yield from _object_problems(template, schema, type_of, place, root)
    elif isinstance(template, Sequence):
        if not _allows(schema, "array"):
            yield f"{place} is a list, {_names(types_of(schema))} is asked"
            return
        items = as_schema(schema.get("items"))
        for number, item in enumerate(template):
            yield from problems(item, items, type_of, f"{place}.{number}", root)


def _reference_problems(
    reference: Reference, schema: Schema, type_of: Mapping[str, Schema], place: str
) -> Iterator[str]:
    if isinstance(reference, FileReference):
        reason = mismatch(FILE_TYPE if reference.form == "base64" else TEXT_TYPE, schema)
        if reason is not None:
            yield f"{place} {reason}"
        return
    if isinstance(reference, StepReference):
        yield from _step_reference_problems(reference, schema, type_of, place)
    else:
        yield f"{place} uses $item outside of a list"


def _step_reference_problems(
    reference: StepReference, schema: Schema, type_of: Mapping[str, Schema], place: str
) -> Iterator[str]:
    if reference.step not in type_of:
        return  # reported where the graph is checked
    options = at_path(type_of[reference.step], reference.parts)
    if reference.has_default and holds_reference(reference.default):
        yield f"{place}: a default is a plain value"
    if not options:
        yield f"{place}: step {reference.step} does not give {reference.path!r}"
        return
    reasons = [mismatch(option, schema) for option in options]
    if all(reasons):
        yield f"{place}: {reference.step}.{reference.path} {reasons[0]}"


def _object_problems(
    template: Mapping[str, object], schema: Schema, type_of: Mapping[str, Schema], place: str, root: Schema
) -> Iterator[str]:
    if not _allows(schema, "object"):
        yield f"{place} is an object, {_names(types_of(schema))} is asked"
        return
    declared = schema.get("properties")
    properties = declared if isinstance(declared, Mapping) else {}
    required = schema.get("required")
    for name in required if isinstance(required, Sequence) else ():
        if name not in template:
            yield f"{place}.{name} is missing"
    for name, item in template.items():
        if name in properties:
            yield from problems(item, as_schema(properties[name]), type_of, f"{place}.{name}", root)
        elif schema.get("additionalProperties") is False:
            yield f"{place}.{name} is not known to the seller"


def _value_problems(value: object, schema: Schema, place: str, root: Schema) -> Iterator[str]:
    definitions: Schema = {name: root[name] for name in ("$defs", "definitions") if name in root}
    try:
        compiled = SCHEMAS.compile({**definitions, **schema})
    except InvalidInput:
        return  # cannot be told here, and nobody can be hired with it
    for problem in compiled.problems(value):
        yield f"{place}{problem.path.replace('/', '.')}: {problem.message}"[:300]


def holds_reference(value: object) -> bool:
    """Whether there is any reference inside."""
    if read_reference(value) is not None:
        return True
    if isinstance(value, Mapping):
        return any(holds_reference(item) for item in value.values())
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and any(map(holds_reference, value))


def _allows(schema: Schema, kind: str) -> bool:
    kinds = types_of(schema)
    return not kinds or kind in kinds
