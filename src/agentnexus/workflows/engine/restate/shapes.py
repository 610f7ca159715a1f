"""What travels between workers and Restate, and what Restate keeps of a run; outputs and payloads are JSON text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from agentnexus.core.events import Event, EventName
from agentnexus.workflows.engine.journal import Claim, Letter, StepRow, decode, encode
from agentnexus.workflows.engine.port import NewRun, Phase, RunRecord, RunState
from agentnexus.workflows.engine.postgres.writes import RunWrites


class Shape(BaseModel):
    model_config = ConfigDict(extra="ignore")  # an older worker reads what a newer one wrote


class Step(Shape):
    """A `StepRow`."""

    key: str
    phase: Phase
    attempt: int
    started_at: datetime
    ended_at: datetime | None = None
    output: str | None = None
    error: str | None = None
    retry_at: datetime | None = None

    @classmethod
    def of(cls, row: StepRow) -> Step:
        error = None if row.error is None else encode(row.error)
        return cls(
            key=row.key, phase=row.phase, attempt=row.attempt, started_at=row.started_at, ended_at=row.ended_at,
            output=row.output, error=error, retry_at=row.retry_at,
        )  # fmt: skip

    def row(self) -> StepRow:
        error = None if self.error is None else json.loads(self.error)
        return StepRow(
            self.key, self.phase, self.attempt, self.started_at, self.ended_at, self.output, error, self.retry_at
        )


class Told(Shape):
    """An event as kept."""

    name: EventName
    at: datetime
    data: str

    def event(self, run_id: str, sequence: int) -> Event:
        return Event(name=self.name, subject=run_id, sequence=sequence, at=self.at, data=json.loads(self.data))


class Telling(Shape):
    """Events of a run for whoever keeps them elsewhere; `first` is the sequence of the first."""

    run_id: str
    tenant: str
    first: int
    told: list[Told]


class Tale(Shape):
    told: list[Told]


class Post(Shape):
    """A signal as kept."""

    position: int
    name: str
    payload: str

    def letter(self) -> Letter:
        return Letter(self.position, self.name, decode(self.payload))


class Interest(StrEnum):
    """What a bell rings for."""

    EVENTS = "events"
    END = "end"
    NEWS = "news"


class Bell(Shape):
    """Somebody waits for a change of a run; `known` is what they have seen: a sequence, or a count of letters."""

    awakeable: str
    interest: Interest
    known: int = 0


class Head(Shape):
    """A run without its input, output, steps and events, which have entries of their own.

    `ticket` counts how often it was queued: an order with another ticket is void. `epoch` is the fence.
    """

    body: str
    tenant: str
    priority: int
    state: RunState
    attributes: str = "{}"
    error: str | None = None
    sequence: int = 0
    epoch: int = 0
    recoveries: int = 0
    ticket: int = 0
    owner: str = ""
    cancel_reason: str | None = None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    steps: list[str] = []
    timers: dict[str, datetime] = {}
    letters: list[Post] = []
    signal_keys: list[str] = []
    bells: list[Bell] = []

    def rings(self, bell: Bell) -> bool:
        """Whether there is something the bell's owner does not know."""
        if self.state.final:
            return True
        if bell.interest is Interest.EVENTS:
            return self.sequence > bell.known
        if bell.interest is Interest.NEWS:
            return len(self.letters) > bell.known or self.cancel_reason is not None
        return False


class Opening(Shape):
    """A `NewRun`; `delay_seconds` is how long Restate waits before it queues a delayed one.

    `heard`: somebody keeps the events of runs elsewhere.
    """

    run_id: str
    body: str
    tenant: str
    priority: int
    input: str
    attributes: str
    told: list[Told]
    at: datetime
    delay_seconds: float | None = None
    heard: bool = False

    @classmethod
    def of(cls, run: NewRun, at: datetime, *, heard: bool = False) -> Opening:
        attributes = dict(run.attributes)
        for draft in run.drafts:
            attributes.update(draft.attributes)
        delay = None if run.available_at is None else max(0.0, (run.available_at - at).total_seconds())
        return cls(
            run_id=run.id, body=run.body, tenant=run.tenant, priority=run.priority, input=encode(run.input),
            attributes=encode(attributes), at=at, delay_seconds=delay, heard=heard,
            told=[Told(name=draft.name, at=at, data=encode(draft.data)) for draft in run.drafts],
        )  # fmt: skip


class Order(Shape):
    """A queued run on its way to a worker."""

    run_id: str
    ticket: int
    body: str
    tenant: str
    priority: int


class Taking(Shape):
    ticket: int
    worker: str
    at: datetime


class Taken(Shape):
    """What a worker needs to go on with a run."""

    head: Head
    input: str
    steps: list[Step]

    def claim(self, run_id: str) -> Claim:
        return Claim(
            record(run_id, self.head, self.input, None),
            self.head.epoch,
            self.head.cancel_reason,
            {step.key: step.row() for step in self.steps},
            dict(self.head.timers),
            [post.letter() for post in self.head.letters],
        )


class Ending(Shape):
    state: RunState
    output: str | None = None
    error: str | None = None
    delay_seconds: float | None = None
    signals_seen: int = 0


class Change(Shape):
    """Everything one commit writes of one run."""

    epoch: int
    at: datetime
    steps: list[Step]
    timers: dict[str, datetime]
    told: list[Told]
    attributes: str
    end: Ending | None = None
    heard: bool = False

    @classmethod
    def of(cls, entry: RunWrites, *, heard: bool = False) -> Change:
        end = entry.end
        ending = None if end is None else Ending(
            state=end.state, output=end.output, error=None if end.error is None else encode(end.error),
            delay_seconds=_delay(end.available_at, entry.at), signals_seen=end.signals_seen,
        )  # fmt: skip
        return cls(
            epoch=entry.epoch, at=entry.at, steps=[Step.of(row) for row in entry.steps.values()],
            timers=entry.timers, attributes=encode(entry.attributes), end=ending, heard=heard,
            told=[Told(name=EventName(name), at=at, data=data) for name, at, data in entry.events],
        )  # fmt: skip


class Freeing(Shape):
    epoch: int
    at: datetime


class Moment(Shape):
    at: datetime


class Posting(Shape):
    """A signal, or with `cancel` the wish to stop (then `payload` is the reason as it is)."""

    name: str
    payload: str
    key: str
    at: datetime
    cancel: bool = False


class Answer(StrEnum):
    DONE = "done"
    REPEATED = "repeated"
    ENDED = "ended"
    MISSING = "missing"


class Look(Shape):
    head: Head | None
    input: str = "null"
    output: str | None = None


class Keys(Shape):
    """Which steps are asked about."""

    keys: list[str]


class Page(Shape):
    """A question for up to `limit` things after (or, of a tenant's runs, before) a place."""

    after: int = 0
    before: str = ""
    limit: int


class Waiting(Shape):
    """Wait for a change of a run; `known` as in `Bell`."""

    run_id: str
    interest: Interest
    known: int
    seconds: float


class Entry(Shape):
    """A run in an index; entries sort by time, then id."""

    run_id: str
    at: datetime

    @property
    def place(self) -> str:
        return f"{self.at.timestamp():020.6f} {self.run_id}"


class Ended(Shape):
    run_id: str
    at: datetime
    state: RunState


class Tally(Shape):
    """How many runs ended how, and the last of them."""

    ended: dict[RunState, int] = {}
    recent: list[Entry] = []


class Pulse(Shape):
    """A worker's sign of life: it is given up when `count` has not moved for `seconds`."""

    seconds: float
    count: int = 0
    first: bool = False


def record(run_id: str, head: Head, given: str, output: str | None) -> RunRecord:
    return RunRecord(
        run_id, head.body, head.tenant, head.state, decode(given), decode(output),
        None if head.error is None else json.loads(head.error), json.loads(head.attributes), head.sequence,
        head.priority, head.recoveries, head.created_at, head.updated_at, head.finished_at,
    )  # fmt: skip


def merged(attributes: str, changes: str) -> str:
    """Top-level keys are replaced."""
    if changes == "{}":
        return attributes
    kept: Mapping[str, object] = json.loads(attributes)
    return encode({**kept, **json.loads(changes)})


def in_order(steps: Iterable[str], more: Sequence[Step]) -> list[str]:
    """Step keys in the order of their first appearance."""
    return list(dict.fromkeys([*steps, *(step.key for step in more)]))


def _delay(due: datetime | None, at: datetime) -> float | None:
    return None if due is None else max(0.0, (due - at).total_seconds())
