"""Files inside a form's value → references: bytes are kept once as blobs, not copied through plans and journals."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agentnexus.web.forms.model import Kind
from agentnexus.web.forms.schema import Reader, Schema

NAME_KEYS: Final = ("name", "filename", "file_name")
MAX_DEPTH: Final = 8


@dataclass(slots=True)
class Lifted:
    """`value` with ``{"$file": n}`` where files were; `files` are (name, bytes) by that number."""

    value: dict[str, object] = field(default_factory=dict)
    files: list[tuple[str, bytes]] = field(default_factory=list)


def lift_files(schema: Schema, value: Mapping[str, object]) -> Lifted:
    """Every base64 file that `schema` knows about is taken out; anything else stays as it is."""
    lifted = Lifted()
    reader = Reader(schema)
    taken = _take(reader, reader.read(schema), value, lifted, name="file", depth=0)
    lifted.value = taken if isinstance(taken, dict) else dict(value)
    return lifted


def _take(reader: Reader, flat: Schema, value: object, lifted: Lifted, *, name: str, depth: int) -> object:
    if depth > MAX_DEPTH:
        return value
    if isinstance(value, Mapping):
        properties = reader.properties(flat)
        given = next((value[key] for key in NAME_KEYS if isinstance(value.get(key), str) and value[key]), name)
        return {
            key: _take(reader, reader.read(properties.get(key)), part, lifted, name=str(given), depth=depth + 1)
            for key, part in value.items()
        }
    if isinstance(value, list):
        items = reader.read(flat.get("items"))
        return [_take(reader, items, item, lifted, name=name, depth=depth + 1) for item in value]
    if isinstance(value, str) and reader.kind(flat, "") is Kind.FILE:
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return value
        lifted.files.append((name, data))
        return {"$file": len(lifted.files) - 1}
    return value
