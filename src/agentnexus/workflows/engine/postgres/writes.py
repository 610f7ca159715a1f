"""Writes of one flush as the column arrays of the commit statement; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agentnexus.workflows.engine.journal import End, StepRow, Write, encode


@dataclass(slots=True)
class RunWrites:
    """All writes of one run in one flush, folded in order."""

    epoch: int
    at: datetime
    steps: dict[str, StepRow] = field(default_factory=dict)
    timers: dict[str, datetime] = field(default_factory=dict)
    events: list[tuple[str, datetime, str]] = field(default_factory=list)
    attributes: dict[str, object] = field(default_factory=dict)
    end: End | None = None

    def add(self, write: Write) -> None:
        self.at = write.at
        for row in write.steps:
            self.steps[row.key] = row
        for key, due in write.timers:
            self.timers.setdefault(key, due)
        for draft in write.drafts:
            self.events.append((draft.name.value, write.at, encode(draft.data)))
            self.attributes.update(draft.attributes)
        if write.end is not None:
            self.end = write.end


def fold(writes: Sequence[Write]) -> dict[tuple[str, int], RunWrites]:
    """By (run, epoch). Two epochs of one run in one flush (a worker that lost and regained it) stay apart."""
    folded: dict[tuple[str, int], RunWrites] = {}
    for write in writes:
        identity = (write.run_id, write.epoch)
        entry = folded.get(identity)
        if entry is None:
            entry = folded[identity] = RunWrites(write.epoch, write.at)
        entry.add(write)
    return folded


def newest_only(folded: dict[tuple[str, int], RunWrites]) -> dict[str, RunWrites]:
    """Per run the writes of its highest epoch: older ones are fenced by definition."""
    newest: dict[str, RunWrites] = {}
    for (run_id, epoch), entry in folded.items():
        if run_id not in newest or newest[run_id].epoch < epoch:
            newest[run_id] = entry
    return newest


def columns(runs: dict[str, RunWrites]) -> list[list[object]]:
    """The 27 arrays of `sql.COMMIT`, runs in id order so that concurrent flushes lock in one order."""
    ordered = sorted(runs.items())
    heads = [_head(run_id, entry) for run_id, entry in ordered]
    steps = [_step(run_id, row) for run_id, entry in ordered for row in entry.steps.values()]
    timers = [(run_id, key, due) for run_id, entry in ordered for key, due in entry.timers.items()]
    events = [
        (run_id, place, name, at, data)
        for run_id, entry in ordered
        for place, (name, at, data) in enumerate(entry.events, start=1)
    ]
    return [*_turn(heads, 10), *_turn(steps, 9), *_turn(timers, 3), *_turn(events, 5)]


def _head(run_id: str, entry: RunWrites) -> tuple[object, ...]:
    end = entry.end
    return (
        run_id,
        entry.epoch,
        entry.at,
        len(entry.events),
        encode(entry.attributes) if entry.attributes else None,
        None if end is None else end.state.value,
        None if end is None else end.output,
        None if end is None or end.error is None else encode(end.error),
        None if end is None else end.available_at,
        0 if end is None else end.signals_seen,
    )


def _step(run_id: str, row: StepRow) -> tuple[object, ...]:
    error = None if row.error is None else encode(row.error)
    return (
        run_id, row.key, row.phase.value, row.attempt, row.output, error, row.started_at, row.ended_at, row.retry_at
    )  # fmt: skip


def _turn(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[index] for row in rows] for index in range(width)]
