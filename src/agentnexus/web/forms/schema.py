"""Reading a JSON Schema that a stranger wrote: references, merges and nullable unions, all within fixed bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from agentnexus.web.forms.model import Kind

Schema = Mapping[str, object]

MAX_DEPTH: Final = 6
MAX_OPTIONS: Final = 300
MAX_HOPS: Final = 16
MAX_PROPERTIES: Final = 200
LONG_TEXT: Final = 200
LONG_NAMES: Final = frozenset(
    {"text", "body", "html", "markdown", "prompt", "message", "content", "instruction", "notes"}
)
EDITORS: Final = {"textarea": Kind.TEXTAREA, "file": Kind.FILE, "json": Kind.JSON, "text": Kind.TEXT}
SIMPLE_TYPES: Final = {"boolean": Kind.BOOLEAN, "integer": Kind.NUMBER, "number": Kind.NUMBER}


def as_schema(value: object) -> Schema:
    """The schema object, or an empty one (which allows anything) for `true`, `false` and nonsense."""
    return value if isinstance(value, Mapping) else {}


def as_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def encode_option(value: object) -> str:
    """How an enum value travels in a form: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def hints(flat: Schema) -> Schema:
    """The agent author's wishes for the form (``x-ui``: editor, order, section, prefill, unit, secret, accept)."""
    return as_schema(flat.get("x-ui"))


def _order(wishes: Schema) -> int:
    order = wishes.get("order")
    return order if isinstance(order, int) else 1000


class Reader:
    """Resolves what a schema says at one place. Only references inside the same document are followed."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def read(self, schema: object) -> Schema:
        """The flat schema: local ``$ref`` followed, ``allOf`` merged, ``null`` alternatives dropped."""
        flat = dict(as_schema(schema))
        for _ in range(MAX_HOPS):
            if "$ref" in flat:
                reference = flat.pop("$ref")
                flat = {**self._target(reference), **flat}
            elif isinstance(flat.get("allOf"), list):
                flat = self._merged(flat)
            elif (only := self._single_alternative(flat)) is not None:
                flat = only
            else:
                return self._without_null_type(flat)
        return {}

    def variants(self, flat: Schema) -> list[Schema]:
        """Shapes to choose between, when ``oneOf``/``anyOf`` gives several that each look different."""
        for keyword in ("oneOf", "anyOf"):
            listed = flat.get(keyword)
            if isinstance(listed, list):
                shapes = [self.read(item) for item in listed[:12]]
                shapes = [shape for shape in shapes if shape.get("type") != "null"]
                if len(shapes) > 1 and all(_says_shape(shape) for shape in shapes):
                    return shapes
        return []

    def properties(self, flat: Schema) -> dict[str, object]:
        found = flat.get("properties")
        if not isinstance(found, Mapping):
            return {}
        named = {str(name): found[name] for name in list(found)[:MAX_PROPERTIES]}
        return dict(sorted(named.items(), key=lambda item: _order(hints(as_schema(item[1])))))

    def kind(self, flat: Schema, name: str) -> Kind:
        """The control for this place; `name` only tells long texts from short ones."""
        type_ = flat.get("type")
        if isinstance(flat.get("enum"), list) or "const" in flat:
            kind = Kind.SELECT if len(self.choices(flat)) <= MAX_OPTIONS else Kind.TEXT
        elif self.variants(flat):
            kind = Kind.CHOICE
        elif isinstance(type_, str) and type_ in SIMPLE_TYPES:
            kind = SIMPLE_TYPES[type_]
        elif type_ == "string":
            kind = _string_kind(flat, name)
        elif type_ == "array":
            kind = self._array_kind(flat)
        else:
            kind = Kind.GROUP if self.properties(flat) else Kind.JSON
        return kind

    def choices(self, flat: Schema) -> list[object]:
        if "const" in flat:
            return [flat["const"]]
        listed = flat.get("enum")
        return [item for item in listed if item is not None] if isinstance(listed, list) else []

    def _array_kind(self, flat: Schema) -> Kind:
        items = self.read(flat.get("items"))
        if not items:
            return Kind.JSON
        # Generators of schemas rarely write uniqueItems; only who says false means the same choice twice.
        if items.get("enum") and flat.get("uniqueItems") is not False and len(self.choices(items)) <= MAX_OPTIONS:
            return Kind.CHECKS
        return Kind.FILES if self.kind(items, "") is Kind.FILE else Kind.LIST

    def _target(self, reference: object) -> Schema:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return {}
        place: object = self._root
        for part in reference[1:].split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            place = place.get(key) if isinstance(place, Mapping) else None
        return as_schema(place)

    def _merged(self, flat: dict[str, object]) -> dict[str, object]:
        parts = flat.pop("allOf")
        result = flat
        for part in parts[:MAX_HOPS] if isinstance(parts, list) else []:
            result = _merge(result, as_schema(part))
        return result

    def _single_alternative(self, flat: dict[str, object]) -> dict[str, object] | None:
        for keyword in ("anyOf", "oneOf"):
            listed = flat.get(keyword)
            if not isinstance(listed, list):
                continue
            real = [item for item in listed if as_schema(item).get("type") != "null"]
            if len(real) == 1:
                rest = {key: value for key, value in flat.items() if key != keyword}
                return _merge(dict(as_schema(real[0])), rest)
        return None

    def _without_null_type(self, flat: dict[str, object]) -> dict[str, object]:
        listed = flat.get("type")
        if isinstance(listed, list):
            real = [item for item in listed if item != "null"]
            flat["type"] = real[0] if len(real) == 1 else None
        return flat


def _says_shape(shape: Schema) -> bool:
    return any(keyword in shape for keyword in ("type", "enum", "const", "properties"))


def _merge(base: dict[str, object], other: Schema) -> dict[str, object]:
    result = {**base, **other}
    for keyword in ("properties", "$defs"):
        mine, theirs = base.get(keyword), other.get(keyword)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            result[keyword] = {**mine, **theirs}
    mine, theirs = base.get("required"), other.get("required")
    if isinstance(mine, list) and isinstance(theirs, list):
        result["required"] = [*mine, *theirs]
    return result


def _string_kind(flat: Schema, name: str) -> Kind:
    wishes = hints(flat)
    longest = flat.get("maxLength")
    if flat.get("contentEncoding") == "base64" or flat.get("format") in ("binary", "byte", "base64"):
        kind = Kind.FILE
    elif flat.get("format") == "password" or flat.get("writeOnly") is True or wishes.get("secret") is True:
        kind = Kind.SECRET
    elif wishes.get("editor") in EDITORS:
        kind = EDITORS[str(wishes["editor"])]
    elif flat.get("format") or flat.get("pattern"):
        kind = Kind.TEXT
    elif isinstance(longest, int):
        roomy = longest > LONG_TEXT and (longest > 2000 or name in LONG_NAMES)
        kind = Kind.TEXTAREA if roomy else Kind.TEXT
    else:
        kind = Kind.TEXTAREA if name in LONG_NAMES else Kind.TEXT
    return kind
