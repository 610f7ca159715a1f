"""Tasks of the past: what is looked for, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from agentnexus.core.money import Money
from agentnexus.web.views.runs import RunSummary

STATUSES: Final = (
    ("", "Any state"),
    ("completed", "Done"),
    ("failed", "Failed"),
    ("cancelled", "Cancelled"),
    ("awaiting_approval", "Waiting for you"),
    ("executing", "Working"),
    ("planning", "Planning"),
)


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Filters; empty means any. Days are UTC and both count, costs are what was paid, both ends included."""

    status: str = ""
    words: str = ""
    since: date | None = None
    until: date | None = None
    least: Money | None = None
    most: Money | None = None
    cursor: str = ""

    @property
    def filtered(self) -> bool:
        return any((self.status, self.words, self.since, self.until, self.least, self.most))


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """`next_cursor` is empty at the end; with it and few `runs`, the search stopped after `looked_at` tasks."""

    runs: Sequence[RunSummary] = field(default=())
    next_cursor: str = ""
    looked_at: int = 0
