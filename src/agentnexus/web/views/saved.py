"""Plans kept to be run again, as their page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SavedField:
    """A value of the plan that may be given anew; `value` is what it was saved with."""

    name: str
    label: str
    value: str


@dataclass(frozen=True, slots=True)
class SavedPlan:
    id: str
    name: str
    text: str
    limit: str
    steps: Sequence[str]
    fields: Sequence[SavedField]
    files: Sequence[str]
