"""What a PDF says about itself: properties, outline, filled form fields."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import pypdf
from pdf_opening import PARSER_FAULTS
from pypdf.generic import Destination

MAX_OUTLINE_ENTRIES = 1000
MAX_FORM_FIELDS = 2000
MAX_VALUE_CHARACTERS = 5000

ValueT = TypeVar("ValueT")


def read_metadata(reader: pypdf.PdfReader) -> dict[str, str]:
    """Document properties by lower-case name (title, author, …), times as RFC 3339."""
    info = tolerant(lambda: reader.metadata, None)
    found = {"pdf_version": str(reader.pdf_header).removeprefix("%PDF-")}
    if info is None:
        return found
    for name in ("Title", "Author", "Subject", "Keywords", "Creator", "Producer"):
        value = tolerant(partial(info.get, f"/{name}"), None)
        if value is not None and str(value).strip():
            found[name.lower()] = str(value).strip()[:MAX_VALUE_CHARACTERS]
    created = tolerant(lambda: info.creation_date, None)
    modified = tolerant(lambda: info.modification_date, None)
    found |= {key: rfc3339(at) for key, at in (("created", created), ("modified", modified)) if at is not None}
    return found


def rfc3339(at: datetime) -> str:
    """UTC text of a time; one without a zone is taken as UTC."""
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def read_outline(reader: pypdf.PdfReader) -> list[tuple[int, str, int | None]]:
    """(level from 1, title, page from 1 or None) in document order."""
    entries: list[tuple[int, str, int | None]] = []

    def walk(items: list[object], level: int) -> None:
        for item in items:
            if len(entries) >= MAX_OUTLINE_ENTRIES or level > 20:
                return
            if isinstance(item, list):
                walk(item, level + 1)
            elif isinstance(item, Destination):
                entries.append((level, str(item.title).strip(), _page_number(reader, item)))

    no_outline: list[object] = []
    walk(tolerant(lambda: list[object](reader.outline), no_outline), 1)
    return entries


def _page_number(reader: pypdf.PdfReader, destination: Destination) -> int | None:
    index = tolerant(lambda: reader.get_destination_page_number(destination), None)
    return None if index is None or index < 0 else index + 1


def read_forms(reader: pypdf.PdfReader) -> dict[str, str | bool | None]:
    """Form fields by full name: text, choice, or whether a box is ticked; None when left blank."""
    fields = tolerant(reader.get_fields, None) or {}
    return {name: _field_value(field) for name, field in list(fields.items())[:MAX_FORM_FIELDS]}


def _field_value(field: pypdf.generic.PdfObject | pypdf.generic.Field) -> str | bool | None:
    value = tolerant(lambda: field.get("/V"), None) if isinstance(field, dict) else None
    if isinstance(field, dict) and field.get("/FT") == "/Btn":
        return value not in (None, "/Off", "")
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)[:MAX_VALUE_CHARACTERS]
    return None if value is None else str(value).removeprefix("/")[:MAX_VALUE_CHARACTERS]


def tolerant(read: Callable[[], ValueT], otherwise: ValueT) -> ValueT:
    """A detail that a damaged file does not give is missing, not fatal."""
    try:
        return read()
    except PARSER_FAULTS:
        return otherwise
