"""JSON Schema (2020-12) and a value → the form model. Pure; bounded in depth and size whatever the schema says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from agentnexus.web.forms.check import ONE_NEEDED
from agentnexus.web.forms.model import Field, Form, Kind, Option, join_pointer
from agentnexus.web.forms.moments import to_picker
from agentnexus.web.forms.needs import Need, names_of, need_of
from agentnexus.web.forms.schema import MAX_DEPTH, MAX_OPTIONS, Reader, Schema, as_text, encode_option, hints
from agentnexus.web.views.text import capital

MAX_FIELDS: Final = 400
MAX_ITEMS: Final = 50
MAX_KEPT: Final = 2_000_000  # base64 characters of a file carried through a re-drawn form
INPUT_TYPES: Final = {
    "email": "email", "idn-email": "email", "uri": "url", "url": "url", "iri": "url", "date": "date",
    "date-time": "datetime-local", "time": "time", "color": "color",
}  # fmt: skip
MISSING: Final = object()
VARIANT: Final = re.compile(r"/~0\d+(?=/|$)")  # the part of a control's name that says which variant it belongs to


def build_form(schema: Schema, value: object = None, errors: Mapping[str, str] | None = None) -> Form:
    """The form for an object `schema`, filled with `value`; `errors` maps JSON pointers to messages.

    A pointer that no field has shows its message on top of the form, so none is lost.
    """
    builder = _Builder(schema, dict(errors or {}))
    fields, needs = builder.top(value)
    return Form(fields=fields, errors=tuple(dict.fromkeys(builder.errors.values())), needs=needs)


class _Builder:
    def __init__(self, schema: Schema, errors: dict[str, str]) -> None:
        self._reader = Reader(schema)
        self._root = self._reader.read(schema)
        self._left = MAX_FIELDS
        self.errors = errors

    def top(self, value: object) -> tuple[tuple[Field, ...], tuple[Need, ...]]:
        if self._reader.properties(self._root):
            return self._group("", self._root, value, 0)
        return (self._field("", "Input", self._root, value, required=True, depth=0),), ()

    def _group(
        self, pointer: str, flat: Schema, value: object, depth: int
    ) -> tuple[tuple[Field, ...], tuple[Need, ...]]:
        """The fields of an object, and what is needed between them."""
        fields = {field.pointer: field for field in self._members(pointer, flat, value, depth)}
        places = {name: join_pointer(pointer, name) for name in self._reader.properties(flat)}
        known = {name: fields[place] for name, place in places.items() if place in fields}
        ids, labels = {name: f.id for name, f in known.items()}, {name: f.label for name, f in known.items()}
        needs = []
        for exactly, alternatives in names_of(flat):
            need = need_of(exactly, alternatives, ids, labels)
            if need is None:
                continue
            needs.append(need)
            for at, name in enumerate(name for group in alternatives for name in group):
                field = fields[places[name]]
                error = need.text if at == 0 and field.error == ONE_NEEDED else field.error
                fields[field.pointer] = replace(field, alternative=True, error=error)
        return tuple(fields.values()), tuple(needs)

    def _members(self, pointer: str, flat: Schema, value: object, depth: int) -> tuple[Field, ...]:
        listed = flat.get("required")
        required = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
        given = value if isinstance(value, Mapping) else {}
        return tuple(
            self._field(
                join_pointer(pointer, name), name, self._reader.read(part), given.get(name, MISSING),
                required=name in required, depth=depth + 1,
            )
            for name, part in self._reader.properties(flat).items()
            if self._left > 0
        )  # fmt: skip

    def _field(self, pointer: str, name: str, flat: Schema, value: object, *, required: bool, depth: int) -> Field:
        self._left -= 1
        kind = self._reader.kind(flat, name) if depth <= MAX_DEPTH else Kind.JSON
        if value is MISSING:
            value = flat.get("default", hints(flat).get("prefill", MISSING))
        value = MISSING if value is None else value
        label = (as_text(flat.get("title")) or _words(name))[:120]
        base = Field(
            pointer=pointer, kind=kind, label=label, description=capital(as_text(flat.get("description"))[:600]),
            unit=(as_text(hints(flat).get("unit")) or _unit(flat, kind))[:40],
            section=as_text(hints(flat).get("section"))[:80],
            required=required and kind not in (Kind.BOOLEAN, Kind.CHECKS),
            error=self.errors.pop(VARIANT.sub("", pointer), ""),
        )  # fmt: skip
        return self._filled(base, flat, value, depth)

    def _filled(self, base: Field, flat: Schema, value: object, depth: int) -> Field:
        match base.kind:
            case Kind.GROUP:
                children, needs = self._group(base.pointer, flat, value, depth)
                field = replace(base, children=children, needs=needs)
            case Kind.LIST:
                field = self._list(base, flat, value, depth)
            case Kind.CHOICE:
                field = self._choice(base, flat, value, depth)
            case Kind.SELECT:
                field = replace(base, options=self._options(flat, [value]))
            case Kind.CHECKS:
                chosen = value if isinstance(value, list) else []
                field = replace(base, options=self._options(self._reader.read(flat.get("items")), chosen))
            case Kind.BOOLEAN:
                field = replace(base, checked=value is True)
            case Kind.FILE | Kind.FILES:
                field = self._file(base, flat, value)
            case Kind.JSON:
                field = replace(base, value=_json_text(value))
            case _:
                shown = "" if value is MISSING else encode_option(value)
                shown = to_picker(shown) if flat.get("format") in ("date-time", "time") else shown
                attributes = _attributes(base.kind, flat)
                field = replace(base, value=shown, attributes=attributes, options=self._suggestions(flat))
        return field

    def _list(self, base: Field, flat: Schema, value: object, depth: int) -> Field:
        items = self._reader.read(flat.get("items"))
        least = flat.get("minItems")
        given = list(value[:MAX_ITEMS]) if isinstance(value, list) else []
        wanted = least if isinstance(least, int) and 0 < least <= 10 else 0
        given += [MISSING] * (wanted - len(given))
        single = as_text(items.get("title")) or _singular(base.label)
        inside = depth + 1
        children = tuple(
            self._field(join_pointer(base.pointer, at), f"{single} {at + 1}", items, item, required=True, depth=inside)
            for at, item in enumerate(given)
            if self._left > 0
        )
        marker = f"__{depth}__"
        blank = self._field(join_pointer(base.pointer, marker), single, items, MISSING, required=True, depth=depth + 1)
        return replace(base, children=children, blank=blank, marker=marker)

    def _choice(self, base: Field, flat: Schema, value: object, depth: int) -> Field:
        variants = self._reader.variants(flat)
        chosen = next((at for at, shape in enumerate(variants) if _fits(shape, value)), 0)
        labels = [as_text(shape.get("title")) or _type_words(shape) for shape in variants]
        options = tuple(Option(str(at), label, at == chosen) for at, label in enumerate(labels))
        drawn: dict[int, Field] = {}
        # The chosen variant comes first: errors are handed out once, and they are about it.
        for at in sorted(range(len(variants)), key=lambda at: at != chosen):
            place, given = join_pointer(base.pointer, f"~{at}"), value if at == chosen else MISSING
            drawn[at] = self._field(place, labels[at], variants[at], given, required=False, depth=depth + 1)
        return replace(base, options=options, children=tuple(drawn[at] for at in sorted(drawn)))

    def _file(self, base: Field, flat: Schema, value: object) -> Field:
        source = self._reader.read(flat.get("items")) if base.kind is Kind.FILES else flat
        media = as_text(hints(source).get("accept")) or as_text(source.get("contentMediaType"))
        kept = value if isinstance(value, str) and 0 < len(value) <= MAX_KEPT else ""
        return replace(base, attributes={"accept": media} if media else {}, kept=kept)

    def _options(self, flat: Schema, chosen: Sequence[object]) -> tuple[Option, ...]:
        picked = {encode_option(item) for item in chosen if item is not MISSING}
        found = [encode_option(item) for item in self._reader.choices(flat)]
        return tuple(Option(text, _words(text) if text.islower() else text[:200], text in picked) for text in found)

    def _suggestions(self, flat: Schema) -> tuple[Option, ...]:
        listed = self._reader.choices(flat) or flat.get("examples")
        if not isinstance(listed, list):
            return ()
        return tuple(Option(encode_option(item)[:200], encode_option(item)[:200]) for item in listed[:MAX_OPTIONS])


def _json_text(value: object) -> str:
    if value is MISSING:
        return ""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _attributes(kind: Kind, flat: Schema) -> dict[str, str]:
    if kind is Kind.NUMBER:
        return _number_attributes(flat)
    found: dict[str, str] = {}
    for keyword, attribute in (("minLength", "minlength"), ("maxLength", "maxlength")):
        limit = flat.get(keyword)
        if isinstance(limit, int) and limit >= 0:
            found[attribute] = str(limit)
    if kind is Kind.TEXT:
        found["type"] = INPUT_TYPES.get(as_text(flat.get("format")), "text")
        pattern = as_text(flat.get("pattern"))
        if pattern and len(pattern) <= 200:
            # HTML patterns are anchored, JSON Schema ones are not.
            found["pattern"] = pattern if pattern.startswith("^") and pattern.endswith("$") else f".*(?:{pattern}).*"
    return found


def _number_attributes(flat: Schema) -> dict[str, str]:
    found = {"step": "1" if flat.get("type") == "integer" else "any", "inputmode": "decimal"}
    for keyword, attribute in (("minimum", "min"), ("maximum", "max")):
        limit = flat.get(keyword)
        if isinstance(limit, int | float) and not isinstance(limit, bool):
            found[attribute] = str(limit)
    step = flat.get("multipleOf")
    if isinstance(step, int | float) and step > 0:
        found["step"] = str(step)
    return found


def _unit(flat: Schema, kind: Kind) -> str:
    return "UTC" if kind is Kind.TEXT and flat.get("format") in ("date-time", "time") else ""


def _fits(shape: Schema, value: object) -> bool:
    kinds: dict[str, type | tuple[type, ...]] = {
        "string": str, "object": dict, "array": list, "boolean": bool, "number": (int, float), "integer": int,
    }  # fmt: skip
    wanted = kinds.get(as_text(shape.get("type")))
    return wanted is not None and isinstance(value, wanted)


def _words(name: str) -> str:
    text = name.replace("_", " ").replace("-", " ").strip()
    return text[:1].upper() + text[1:]


def _singular(label: str) -> str:
    return label[:-1] if label.endswith("s") and not label.endswith("ss") and len(label) > 3 else label


def _type_words(shape: Schema) -> str:
    words = {"string": "Text", "object": "Details", "array": "List", "number": "Number", "integer": "Number"}
    return words.get(as_text(shape.get("type")), "Other")
