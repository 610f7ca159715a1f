"""A JSON Schema as rows of documentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agentnexus.web.forms.schema import Reader, Schema, as_text, encode_option

MAX_ROWS: Final = 80
MAX_DEPTH: Final = 3


@dataclass(frozen=True, slots=True)
class SchemaRow:
    name: str
    kind: str
    required: bool
    description: str


def schema_rows(schema: Schema) -> list[SchemaRow]:
    """One row per field, inner fields as ``pages[].text``; bounded in depth and number."""
    rows: list[SchemaRow] = []
    reader = Reader(schema)
    _collect(reader, reader.read(schema), "", rows, 0)
    return rows[:MAX_ROWS]


def _collect(reader: Reader, flat: Schema, prefix: str, rows: list[SchemaRow], depth: int) -> None:
    listed = flat.get("required")
    required = listed if isinstance(listed, list) else []
    for name, part in reader.properties(flat).items():
        if len(rows) >= MAX_ROWS:
            return
        inner = reader.read(part)
        rows.append(SchemaRow(prefix + name, _kind(reader, inner), name in required, _meaning(inner)))
        items = reader.read(inner.get("items"))
        if depth < MAX_DEPTH and reader.properties(inner):
            _collect(reader, inner, f"{prefix}{name}.", rows, depth + 1)
        elif depth < MAX_DEPTH and reader.properties(items):
            _collect(reader, items, f"{prefix}{name}[].", rows, depth + 1)


def _kind(reader: Reader, flat: Schema) -> str:
    if flat.get("contentEncoding") == "base64":
        return "file (base64)"
    choices = reader.choices(flat)
    if choices:
        return "one of " + ", ".join(encode_option(choice)[:40] for choice in choices[:8])
    if flat.get("type") == "array" and flat.get("items"):
        items = reader.read(flat.get("items"))
        return f"list of {_kind(reader, items)}"
    return as_text(flat.get("format")) or as_text(flat.get("type")) or "anything"


def _meaning(flat: Schema) -> str:
    parts = [(as_text(flat.get("description")) or as_text(flat.get("title")))[:400]]
    for keyword, words in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most characters:")):
        if isinstance(flat.get(keyword), int | float):
            parts.append(f"{words} {flat[keyword]}")
    if "default" in flat and flat["default"] is not None:
        parts.append(f"default {encode_option(flat['default'])[:60]}")
    return " · ".join(part for part in parts if part)
