"""A posted form → the JSON it stands for. Names are JSON pointers, so the schema and the names find each other."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agentnexus.web.forms.model import NAME_PREFIX, Kind, join_pointer
from agentnexus.web.forms.moments import from_picker
from agentnexus.web.forms.schema import MAX_DEPTH, Reader, Schema, encode_option

MAX_ITEMS: Final = 200
MISSING: Final = object()
NAME_KEYS: Final = ("name", "filename", "file_name")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as the browser sent it. `media_type` is the browser's guess, not a fact."""

    filename: str
    media_type: str
    data: bytes


FormData = Mapping[str, Sequence["str | Upload"]]


@dataclass(frozen=True, slots=True)
class Parsed:
    """`value` is what was posted as JSON; where text could not be read it stays text, and `errors` says so."""

    value: object
    errors: dict[str, str] = field(default_factory=dict)


def parse_form(schema: Schema, data: FormData) -> Parsed:
    """Read the posted `data` by `schema`. Unknown names are ignored; nothing is raised for bad input."""
    parser = _Parser(schema, data)
    value = parser.top()
    return Parsed(value, parser.errors)


class _Parser:
    def __init__(self, schema: Schema, data: FormData) -> None:
        self._reader = Reader(schema)
        self._root = self._reader.read(schema)
        self._data = {name.removeprefix(NAME_PREFIX): values for name, values in data.items()}
        self.errors: dict[str, str] = {}

    def top(self) -> object:
        if self._reader.properties(self._root):
            return self._group("", "", self._root, 0)
        value = self._value("", "", "", self._root, depth=0)
        return {} if value is MISSING else value

    def _group(self, name: str, pointer: str, flat: Schema, depth: int) -> dict[str, object]:
        result: dict[str, object] = {}
        files: list[Upload] = []
        for key, part in self._reader.properties(flat).items():
            shape = self._reader.read(part)
            place = join_pointer(name, key)
            value = self._value(place, join_pointer(pointer, key), key, shape, depth=depth + 1)
            if value is not MISSING and not (self._may_be_left_out(flat, key, shape) and self._untouched(value, shape)):
                result[key] = value
            files += self._uploads(place)
        self._name_after_file(result, self._reader.properties(flat), files)
        return result

    def _may_be_left_out(self, flat: Schema, key: str, shape: Schema) -> bool:
        """An optional group that nobody filled in is absent, and its required fields are not asked for."""
        required = flat.get("required")
        return self._reader.kind(shape, key) is Kind.GROUP and not (isinstance(required, list) and key in required)

    def _untouched(self, value: object, shape: Schema) -> bool:
        """Whether it is what a form posts that nobody filled in: unticked boxes and what was chosen beforehand."""
        parts = self._reader.properties(shape)
        if isinstance(value, dict) and parts:
            return all(
                key in parts and self._untouched(inner, self._reader.read(parts[key])) for key, inner in value.items()
            )
        return value == {} or value == shape.get("default", False if shape.get("type") == "boolean" else MISSING)

    def _name_after_file(
        self, result: dict[str, object], properties: Mapping[str, object], files: list[Upload]
    ) -> None:
        """Someone who attached one file and left its name empty meant the file's own name."""
        if len(files) != 1:
            return
        key = next((key for key in NAME_KEYS if key in properties), None)
        if key is not None and key not in result and files[0].filename:
            result[key] = files[0].filename
        if "media_type" in properties and "media_type" not in result and files[0].media_type:
            result["media_type"] = files[0].media_type

    def _value(self, name: str, pointer: str, key: str, flat: Schema, *, depth: int) -> object:
        kind = self._reader.kind(flat, key) if depth <= MAX_DEPTH else Kind.JSON
        value: object
        match kind:
            case Kind.GROUP:
                value = self._group(name, pointer, flat, depth)
                value = value if value or name in self._data else MISSING
            case Kind.LIST:
                value = self._list(name, pointer, flat, depth)
            case Kind.CHOICE:
                value = self._choice(name, pointer, key, flat, depth)
            case Kind.BOOLEAN:
                value = self._boolean(name)
            case Kind.CHECKS:
                value = self._checks(name, self._reader.read(flat.get("items")))
            case Kind.FILE | Kind.FILES:
                value = self._files(name, several=kind is Kind.FILES)
            case _:
                value = self._scalar(name, pointer, kind, flat)
        return value

    def _checks(self, name: str, items: Schema) -> object:
        known = {encode_option(item): item for item in self._reader.choices(items)}
        return [known.get(text, text) for text in self._texts(name) if text] or MISSING

    def _files(self, name: str, *, several: bool) -> object:
        files = [base64.b64encode(upload.data).decode() for upload in self._uploads(name)]
        files = files or [text for text in self._texts(name) if text]
        if not files:
            return MISSING
        return files if several else files[0]

    def _boolean(self, name: str) -> object:
        # A hidden "false" comes with every checkbox, so that an unticked box and an absent one differ.
        texts = self._texts(name)
        return MISSING if not texts else "true" in texts

    def _scalar(self, name: str, pointer: str, kind: Kind, flat: Schema) -> object:
        texts = self._texts(name)
        text = texts[0] if texts else ""
        if not text.strip():
            return MISSING
        if kind is Kind.NUMBER:
            return self._number(text.strip(), pointer, whole=flat.get("type") == "integer")
        if kind is Kind.JSON:
            return self._json(text, pointer)
        known = {encode_option(item): item for item in self._reader.choices(flat)}
        if known:
            return known.get(text, text)
        if kind is Kind.TEXT and flat.get("format") in ("date-time", "time"):
            return from_picker(text.strip())
        return text.replace("\r\n", "\n") if kind is Kind.TEXTAREA else text

    def _number(self, text: str, pointer: str, *, whole: bool) -> object:
        if len(text) <= 40 and re.fullmatch(r"[+-]?\d+", text):
            return int(text)
        if whole or len(text) > 40 or not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", text):
            self.errors[pointer] = "Enter a whole number." if whole else "Enter a number, like 12 or 0.5."
            return text
        number = float(text)
        if number in (float("inf"), float("-inf")):
            self.errors[pointer] = "This number is too large."
            return text
        return number

    def _json(self, text: str, pointer: str) -> object:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
            self.errors[pointer] = f"This is not valid JSON{where}."
            return text

    def _list(self, name: str, pointer: str, flat: Schema, depth: int) -> object:
        items = self._reader.read(flat.get("items"))
        found: list[object] = []
        for at in self._indexes(name):
            place = join_pointer(name, at)
            value = self._value(place, join_pointer(pointer, len(found)), "", items, depth=depth + 1)
            if value is not MISSING and value != {}:
                found.append(value)
        return found or MISSING

    def _choice(self, name: str, pointer: str, key: str, flat: Schema, depth: int) -> object:
        variants = self._reader.variants(flat)
        texts = self._texts(name)
        chosen = int(texts[0]) if texts and re.fullmatch(r"\d{1,2}", texts[0]) else 0
        if chosen >= len(variants):
            return MISSING
        return self._value(join_pointer(name, f"~{chosen}"), pointer, key, variants[chosen], depth=depth + 1)

    def _indexes(self, name: str) -> list[int]:
        heads = {each[len(name) + 1 :].partition("/")[0] for each in self._data if each.startswith(f"{name}/")}
        return sorted(int(head) for head in heads if re.fullmatch(r"\d{1,6}", head))[:MAX_ITEMS]

    def _texts(self, name: str) -> list[str]:
        return [value for value in self._data.get(name, ()) if isinstance(value, str)]

    def _uploads(self, name: str) -> list[Upload]:
        values = self._data.get(name, ())
        return [value for value in values if isinstance(value, Upload) and (value.filename or value.data)]
