"""Tasks that begin by themselves, as their pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agentnexus.web.views.rhythms import RhythmForm
from agentnexus.web.views.runs import Problem, State

MISSED = (
    ("once", "Run it once, late"),
    ("skip", "Leave it out"),
    ("all", "Run every one"),
)


@dataclass(frozen=True, slots=True)
class FiringView:
    """One due time and what came of it; `run_id` leads to the task, `spent` is what it cost."""

    due_at: datetime
    state: State
    run_id: str = ""
    spent: str = ""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """`task` is what it begins, in words; `next_text` is the next due time on the schedule's own clock."""

    id: str
    name: str
    task: str
    saved_id: str
    rhythm: RhythmForm
    timezone: str
    missed: str
    limit: str
    asks: bool
    state: State
    paused: bool
    next_at: datetime | None
    next_text: str
    files: Sequence[str] = ()
    last: FiringView | None = None


@dataclass(frozen=True, slots=True)
class ScheduleTyped:
    """A schedule as typed; the defaults are what a fresh form shows."""

    name: str = ""
    text: str = ""
    saved_id: str = ""
    rhythm: RhythmForm = field(default_factory=RhythmForm)
    timezone: str = "UTC"
    missed: str = "once"
    max_cost: str = "0.50"
    auto_approve: bool = False
