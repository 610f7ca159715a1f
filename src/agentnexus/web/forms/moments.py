"""Moments between RFC 3339, which schemas ask for, and what browsers' pickers speak: no zone, seconds left out. UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

PICKED: Final = re.compile(r"(\d{4}-\d\d-\d\dT)?\d\d:\d\d(:\d\d(\.\d{1,6})?)?", re.ASCII)
DAY: Final = "2000-01-02T"  # any day lends a time of day its date for a moment


def from_picker(text: str) -> str:
    """``2026-11-20T12:00`` → ``2026-11-20T12:00:00Z``; whatever a picker would not send is left as it is."""
    if not PICKED.fullmatch(text):
        return text
    return f"{text}Z" if text.count(":") == 2 else f"{text}:00Z"


def to_picker(text: str) -> str:
    """``2026-11-20T13:00:00+01:00`` → ``2026-11-20T12:00:00``, as pickers show it; other texts are left alone."""
    is_time = re.match(r"\d\d:\d\d", text) is not None
    try:
        moment = datetime.fromisoformat(DAY + text if is_time else text)
        shown = (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None).isoformat()
    except (ValueError, OverflowError):
        return text
    return shown[len(DAY) :] if is_time else shown
