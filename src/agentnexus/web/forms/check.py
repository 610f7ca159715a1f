"""Validation of a form's value in words for people. The seller validates again: this is the early, friendly check."""

from __future__ import annotations

from itertools import islice
from typing import Final

import jsonschema_rs

from agentnexus.core.errors import InvalidInput
from agentnexus.hiring.schemas import INSTANCE_DEPTH_MAX, Schemas, depth_of
from agentnexus.web.forms.model import join_pointer
from agentnexus.web.forms.schema import Schema

MAX_ERRORS: Final = 50
UNUSABLE: Final = "This agent describes its input in a way that cannot be checked here. Try another agent."
ONE_NEEDED: Final = "One of the fields that belong together here is needed."
TOO_DEEP: Final = "This is nested too deeply."

MESSAGES: Final = {
    "minLength": "Write at least {limit} characters.",
    "maxLength": "Write at most {limit} characters.",
    "minimum": "Must be {limit} or more.",
    "maximum": "Must be {limit} or less.",
    "exclusiveMinimum": "Must be more than {limit}.",
    "exclusiveMaximum": "Must be less than {limit}.",
    "multipleOf": "Must be a multiple of {limit}.",
    "minItems": "Add at least {limit}.",
    "maxItems": "At most {limit} are allowed.",
    "enum": "Choose one of the listed values.",
    "const": "Choose one of the listed values.",
    "pattern": "This does not have the form that is asked for.",
    "format": "This does not have the form that is asked for.",
    "contentEncoding": "This is not a file.",
    "uniqueItems": "Each one may appear only once.",
    "additionalProperties": "There is a field here that this agent does not know.",
    "unevaluatedProperties": "There is a field here that this agent does not know.",
    "anyOf": "None of the accepted forms fits. Check which fields belong together.",
    "oneOf": "Exactly one of the accepted forms must fit. Check which fields belong together.",
}
SEVERAL_FIT: Final = "More than one of the accepted forms fits. Leave out what belongs to the others."
TYPES: Final = {"string": "text", "object": "a group of fields", "array": "a list", "boolean": "yes or no"}


def check(schema: Schema, value: object) -> dict[str, str]:
    """``{pointer: message}`` for everything wrong with `value`; empty when it is fine.

    A schema that is itself unusable (a stranger wrote it) is one error at the pointer ``""``.
    """
    if not schema:
        return {}
    if depth_of(value, INSTANCE_DEPTH_MAX) > INSTANCE_DEPTH_MAX:
        return {"": TOO_DEEP}
    try:
        Schemas(capacity=1).compile(schema)  # the guard: size, depth, work, references
        validator = jsonschema_rs.validator_for(dict(schema), validate_formats=True, offline=True)
        errors = list(islice(validator.iter_errors(value), MAX_ERRORS))
    except (InvalidInput, ValueError, TypeError, OverflowError):
        return {"": UNUSABLE}
    found: dict[str, str] = {}
    for error in errors:
        pointer, message = _explain(_nearest(error))
        found.setdefault(pointer, message)
    return found


def _nearest(error: jsonschema_rs.ValidationError) -> jsonschema_rs.ValidationError:
    """Inside a union: the complaint of the alternative that came nearest (deepest place, right type), else its own."""
    for _ in range(8):
        branches = _branches(error)
        complaints = [each for branch in branches for each in branch]
        real = [
            each
            for each in complaints
            if each.kind.name != "type" or len(each.instance_path) > len(error.instance_path)
        ]
        if (
            not all(branches)
            or not real
            or _missing(error)
            or (len(real) > 1 and all(each.kind.name == "required" for each in real))
        ):
            break
        error = max(real, key=lambda each: len(each.instance_path))
    return error


def _branches(error: jsonschema_rs.ValidationError) -> list[list[jsonschema_rs.ValidationError]]:
    """What each alternative of a union complains of; nothing for one that fits."""
    return getattr(error.kind, "context", None) or []


def _missing(error: jsonschema_rs.ValidationError) -> list[str]:
    """Of alternatives that only say what must be there, none of which is: the first name of each; else empty."""
    branches = _branches(error)
    if any(each.kind.name not in ("required", "not") for branch in branches for each in branch):
        return []
    names = [
        [str(each.kind.as_dict()["property"]) for each in branch if each.kind.name == "required"] for branch in branches
    ]
    return [found[0] for found in names] if all(names) else []


def _explain(error: jsonschema_rs.ValidationError) -> tuple[str, str]:
    pointer = ""
    for part in error.instance_path:
        pointer = join_pointer(pointer, part)
    name = error.kind.name
    facts = error.kind.as_dict()
    limit = facts.get("limit", facts.get("multiple_of"))
    missing = _missing(error)
    if missing:
        return join_pointer(pointer, missing[0]), ONE_NEEDED
    if not all(_branches(error)):
        return pointer, SEVERAL_FIT
    if name == "required":
        return join_pointer(pointer, str(facts["property"])), "This is needed."
    if limit == 1 and name in ("minLength", "minItems", "minProperties"):
        return pointer, "This is needed."
    if name == "type":
        return pointer, _type_message([str(kind) for kind in facts["types"]])
    return pointer, MESSAGES.get(name, "This does not fit what the agent accepts.").format(limit=limit)


def _type_message(types: list[str]) -> str:
    if "integer" in types and "number" not in types:
        return "Enter a whole number."
    if "number" in types:
        return "Enter a number, like 12 or 0.5."
    return f"This must be {' or '.join(TYPES.get(kind, 'empty') for kind in types)}."
