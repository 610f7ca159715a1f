"""What sellers, files and servers say, made fit for a terminal: nothing in it moves the cursor or sets the title."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

from agentnexus.runtime.text import clean

Value = TypeVar("Value")
DEPTH_MAX = 50
TOO_DEEP = "…"


def printable(value: Value, depth: int = 0) -> Value:
    """The same JSON value with control characters of every text shown as escapes; line ends stay."""
    found: object = value
    if isinstance(value, str):
        found = "\n".join(clean(line) for line in value.split("\n"))
    elif depth > DEPTH_MAX:
        found = TOO_DEEP
    elif isinstance(value, Mapping):
        found = {printable(key, depth + 1): printable(each, depth + 1) for key, each in value.items()}
    elif isinstance(value, list):
        found = [printable(each, depth + 1) for each in value]
    return cast("Value", found)
