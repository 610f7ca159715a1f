"""Finds the fields a caller's JSON Schema asks for as ``Label: value`` lines or two-column table rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

FieldValue = str | int | float | bool | None

NUMBER = re.compile(r"[-+]?\d[\d\s.,'\u2019]*")


def find_fields(schema: Mapping[str, object], text: str, rows: Iterable[list[str]]) -> dict[str, FieldValue]:
    """Value by property name; None for what the document does not say."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    pairs = {_key(row[0]): row[1] for row in rows if len(row) == 2 and row[0] and row[1]}
    found: dict[str, FieldValue] = {}
    for name, definition in properties.items():
        described = definition if isinstance(definition, dict) else {}
        labels = [str(label) for label in (described.get("title"), name) if label]
        raw = next((value for label in labels if (value := _labelled(label, text) or pairs.get(_key(label)))), None)
        found[str(name)] = None if raw is None else coerce(raw, described.get("type"))
    return found


def coerce(raw: str, wanted: object) -> FieldValue:
    """The text as the JSON type asked for, or None when it is not one."""
    if wanted in ("number", "integer"):
        match = NUMBER.search(raw)
        value = parse_number(match[0]) if match else None
        return int(value) if value is not None and wanted == "integer" else value
    if wanted == "boolean":
        return {"yes": True, "true": True, "x": True, "no": False, "false": False}.get(raw.strip().lower())
    return raw


def parse_number(text: str) -> float | None:
    """A number with either decimal sign: the last separator decides when it is followed by other than three digits."""
    compact = re.sub(r"[\s'\u2019]", "", text).rstrip(".,")
    last = max(compact.rfind("."), compact.rfind(","))
    grouped = last >= 0 and len(compact) - last - 1 == 3 and (compact[last] == "," or compact.count(".") > 1)
    if last >= 0 and not grouped:
        compact = re.sub(r"[.,]", "", compact[:last]) + "." + compact[last + 1 :]
    else:
        compact = re.sub(r"[.,]", "", compact)
    try:
        return float(compact)
    except ValueError:
        return None


def _key(label: str) -> str:
    return re.sub(r"[\W_]+", " ", label).strip().lower()


def _labelled(label: str, text: str) -> str | None:
    spaced = r"[\s_-]*".join(re.escape(word) for word in _key(label).split())
    match = re.search(rf"^\s*{spaced}\s*[:=]\s*(\S.*)$", text, re.IGNORECASE | re.MULTILINE) if spaced else None
    return match[1].strip() if match else None
