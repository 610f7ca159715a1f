"""What a durable engine offers: the contract that every backend's acceptance suite checks.

A body is ``async def body(run, input) -> output``. It must be deterministic: everything that touches the world happens
in a step. Steps are named by stable keys, so parallel steps may finish in any order and still replay. A step runs at
least once; its effect happens exactly once when it hands `StepContext.idempotency_key` to whatever it calls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeAlias

from agentnexus.core.canonical import Json, idempotency_key
from agentnexus.core.errors import NexusError
from agentnexus.core.events import Event, EventName


class RunState(StrEnum):
    """`waiting` holds no worker: a timer, a signal or a cancel makes it `queued` again."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)


class RunCancelled(Exception):
    """Raised in a body at its next unshielded wait once the run is cancelled."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "the run was cancelled")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Draft:
    """An event to append, with the run attributes that change in the same commit (top-level keys are replaced)."""

    name: EventName
    data: dict[str, object] = field(default_factory=dict)
    attributes: dict[str, object] = field(default_factory=dict)


class Phase(StrEnum):
    STARTED = "started"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Transition:
    """A step changed phase. `output` is set on completion, `error` on retry and failure.

    `ended_at` is set on what is recorded; in the order in which a run's steps completed it always grows.
    """

    key: str
    phase: Phase
    attempt: int
    output: Json = None
    error: NexusError | None = None
    duration_ms: int = 0
    retry_in_seconds: float = 0.0
    ended_at: datetime | None = None


Narrator: TypeAlias = Callable[[Transition], Sequence[Draft]]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a step may be attempted: exponential backoff with full jitter on `NexusError.retryable` errors."""

    attempts: int = 1
    first_delay_seconds: float = 1.0
    factor: float = 2.0
    longest_delay_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 100:
            raise ValueError(f"attempts must be 1 to 100, not {self.attempts}")
        if self.first_delay_seconds < 0 or self.factor < 1 or self.longest_delay_seconds < 0:
            raise ValueError("a retry delay cannot be negative nor shrink")

    def delay_seconds(self, attempt: int, uniform: float) -> float:
        """Wait after failed attempt number `attempt`: between half and the whole of the exponential delay."""
        whole = min(self.first_delay_seconds * self.factor ** (attempt - 1), self.longest_delay_seconds)
        return whole * (0.5 + 0.5 * uniform)


ONCE = Retry()


class StepContext(Protocol):
    """What a step function may use."""

    @property
    def run_id(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def attempt(self) -> int:
        """From 1; an attempt interrupted by a crash is repeated with the same number."""

    @property
    def idempotency_key(self) -> str:
        """The same for every repeat of the same attempt, on any worker."""

    def emit(self, draft: Draft) -> None:
        """Append an event without waiting for its commit (progress). Lost when the worker dies first."""


StepFunction: TypeAlias = Callable[[StepContext], Awaitable[Json]]


class Run(Protocol):
    """The body's handle on its run. All calls may be made from parallel tasks of the body."""

    @property
    def id(self) -> str: ...

    @property
    def tenant(self) -> str: ...

    async def step(
        self,
        key: str,
        function: StepFunction,
        *,
        retry: Retry = ONCE,
        narrate: Narrator | None = None,
        timeout_seconds: float | None = None,
        shielded: bool = False,
    ) -> Json:
        """Run `function` and record its output, or give back the recorded one.

        Raises the step's `NexusError` once its attempts are used up (again on every replay) and `RunCancelled` when
        the run is cancelled, after cancelling the function; a `shielded` step runs even then (clean-up). Raises
        `LimitExceeded` when the run has too many steps; more at once than the worker allows wait for each other.
        """

    def recorded(self, key: str) -> Transition | None:
        """What the journal holds of a step, without running it: a body that must not repeat looks here first."""

    async def mark(self, key: str, *drafts: Draft) -> None:
        """Append events once, whatever happens; works on a cancelled run."""

    async def sleep(self, key: str, seconds: float) -> None:
        """Durable: counted from the first time the run came here."""

    async def limit_time(self, key: str, seconds: float) -> datetime:
        """Set the run a deadline, durably counted from the first time it came here; returns when it is.

        Then its unshielded steps are stopped and every unshielded wait raises `AgentTimeout`, in backoff and suspended
        as well; clean-up goes on. The earliest of several counts.
        """

    async def receive(self, key: str, name: str, timeout_seconds: float | None = None) -> Signal | None:
        """The next signal called `name` that no other `receive` took, or `None` after the time."""


@dataclass(frozen=True, slots=True)
class Signal:
    name: str
    payload: Json = None


Body: TypeAlias = Callable[[Run, Json], Awaitable[Json]]
EndNarrator: TypeAlias = Callable[[RunState, Json, "NexusError | None"], Sequence[Draft]]


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to start. `id` is its idempotency key: starting the same id again changes nothing."""

    id: str
    body: str
    input: Json
    tenant: str = ""
    priority: int = 0
    available_at: datetime | None = None
    drafts: tuple[Draft, ...] = ()
    attributes: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as seen from outside."""

    id: str
    body: str
    tenant: str
    state: RunState
    input: Json
    output: Json
    error: dict[str, object] | None
    attributes: dict[str, object]
    sequence: int
    priority: int
    recoveries: int
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class Engine(Protocol):
    """Durable runs. `start`, `signal`, `cancel` and `events` work in any process; `work` executes bodies."""

    def register(self, name: str, body: Body, narrate_end: EndNarrator | None = None) -> None:
        """Name a body; `narrate_end` words the event that ends a run, in the same commit."""

    async def start(self, run: NewRun) -> bool:
        """Enqueue durably; False when the id exists already (nothing changed)."""

    async def signal(self, run_id: str, name: str, payload: Json = None, *, key: str = "") -> bool:
        """Deliver once per `key` (when given). False when repeated or when the run has ended; raises `NotFound`."""

    async def cancel(self, run_id: str, reason: str = "") -> bool:
        """Ask the run to stop, wherever it runs. False when it has ended; raises `NotFound`."""

    async def get(self, run_id: str) -> RunRecord:
        """Raises `NotFound`."""

    async def outputs(self, run_id: str, keys: Sequence[str]) -> Mapping[str, Json]:
        """What those of the steps gave that are completed, by key."""

    async def list_runs(self, tenant: str, limit: int, before: tuple[datetime, str] | None = None) -> list[RunRecord]:
        """Newest first by (created_at, id); `before` is the last one of the page before.

        A distributed backend may list a run some milliseconds after its start.
        """

    async def count_of(self, tenant: str) -> int:
        """How many runs a tenant has; like lists, a distributed backend may be some milliseconds late."""

    async def counts(self) -> Mapping[RunState, int]:
        """How many runs are in each state; like lists, a distributed backend may be some milliseconds late."""

    async def recent(self, limit: int) -> list[RunRecord]:
        """The runs that ended last, newest first."""

    async def result(self, run_id: str) -> RunRecord:
        """Wait until the run has ended."""

    def events(self, run_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Replay events with sequence > `after`, then live ones without gap or repeat; ends after the last."""

    async def work(self) -> None:
        """Execute runs until cancelled; on a clean stop hands unfinished runs to other workers at once."""


def step_idempotency_key(run_id: str, key: str, attempt: int) -> str:
    """What external calls of one step attempt are keyed with."""
    return idempotency_key("workflow-step", run_id, key, str(attempt))
