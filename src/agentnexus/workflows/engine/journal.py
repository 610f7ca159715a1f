"""What a storage backend must do for the engine; the rest (replay, retries, waits) is the same code for all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from agentnexus.core.canonical import Json
from agentnexus.core.errors import InvalidInput
from agentnexus.core.events import Event
from agentnexus.workflows.engine.port import Draft, NewRun, Phase, RunRecord, RunState


def encode(value: object) -> str:
    """JSON text that PostgreSQL takes: no NaN, and U+0000 (which jsonb refuses) replaced by U+FFFD."""
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"not JSON: {error}", next_step="return only JSON values from a step") from error
    if "\\u0000" in text:
        text = json.dumps(_without_nul(value), separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # lone surrogates


def _without_nul(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, Mapping):
        return {str(_without_nul(key)): _without_nul(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_without_nul(item) for item in value]
    return value


def decode(text: str | None) -> Json:
    value: Json = None if text is None else json.loads(text)
    return value


@dataclass(frozen=True, slots=True)
class StepRow:
    """The recorded state of one step. `output` is JSON text, `error` the form of `NexusError.to_json`."""

    key: str
    phase: Phase
    attempt: int
    started_at: datetime
    ended_at: datetime | None = None
    output: str | None = None
    error: Mapping[str, object] | None = None
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class End:
    """The owner lets go of a run: for good (a final state), to wait (with the next due time), or back to the queue."""

    state: RunState
    output: str | None = None
    error: Mapping[str, object] | None = None
    available_at: datetime | None = None
    signals_seen: int = 0


@dataclass(frozen=True, slots=True)
class Write:
    """What one commit changes for one run, if `epoch` still is the run's. Order within a run is kept."""

    run_id: str
    epoch: int
    at: datetime
    steps: tuple[StepRow, ...] = ()
    timers: tuple[tuple[str, datetime], ...] = ()
    drafts: tuple[Draft, ...] = ()
    end: End | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A signal as stored; positions count from 1 per run."""

    position: int
    name: str
    payload: Json


@dataclass(frozen=True, slots=True)
class Claim:
    """A run handed to a worker with everything recorded so far."""

    run: RunRecord
    epoch: int
    cancel_reason: str | None = None
    steps: Mapping[str, StepRow] = field(default_factory=dict)
    timers: Mapping[str, datetime] = field(default_factory=dict)
    letters: Sequence[Letter] = ()


@dataclass(frozen=True, slots=True)
class News:
    """What reached an owned run from outside since `signals_known`."""

    run_id: str
    cancel_reason: str | None
    letters: Sequence[Letter]


class Journal(Protocol):
    """Durable storage of runs. `now` is a parameter of everything that compares times, so simulations can move it."""

    def now(self) -> datetime: ...

    async def enqueue(self, runs: Sequence[NewRun]) -> list[bool]:
        """One commit; False for ids that exist."""

    async def claim(self, worker: str, bodies: Sequence[str], limit: int, *, sated: Sequence[str] = ()) -> list[Claim]:
        """Take up to `limit` queued runs of `bodies`, none of the `sated` tenants; nobody else gets them.

        Highest priority first; within a priority the tenants take turns, and each one's runs go oldest first. A worker
        whose lease lapsed gets nothing.
        """

    async def commit(self, writes: Sequence[Write]) -> list[bool]:
        """One commit; False for writes whose run belongs to somebody else by now (nothing of them is written)."""

    async def free(self, run_id: str, epoch: int) -> None:
        """Queue a run again whose owner no longer knows what was written; counts as a recovery."""

    async def register(self, worker: str, lease_seconds: float) -> None: ...

    async def renew(self, worker: str, lease_seconds: float) -> bool:
        """False when the lease lapsed: every run this worker thought it had may be somebody else's."""

    async def retire(self, worker: str) -> None:
        """End the lease now; what it owned is free for others."""

    async def repair(self, limit: int) -> int:
        """Free runs of workers whose lease lapsed and wake runs whose time came; returns how many."""

    async def news(self, worker: str, signals_known: Mapping[str, int]) -> list[News]: ...

    async def signal(self, run_id: str, name: str, payload: Json, key: str) -> bool: ...

    async def cancel(self, run_id: str, reason: str) -> bool: ...

    async def get(self, run_id: str) -> RunRecord: ...

    async def outputs(self, run_id: str, keys: Sequence[str]) -> dict[str, str]:
        """JSON texts of those of the steps that are completed, by key; of an unknown run none."""

    async def list_runs(self, tenant: str, limit: int, before: tuple[datetime, str] | None) -> list[RunRecord]:
        """Newest first by (created_at, id); `before` is the last one of the page before."""

    async def count_of(self, tenant: str) -> int:
        """How many runs a tenant has; like lists, a distributed backend may be some milliseconds late."""

    async def counts(self) -> Mapping[RunState, int]: ...

    async def recent(self, limit: int) -> list[RunRecord]: ...

    async def read_events(self, run_id: str, after: int, limit: int) -> list[Event]: ...

    async def wait_for_work(self, timeout_seconds: float) -> None:
        """Return early when runs were queued or signals sent (spurious returns are fine)."""

    def watch(self, run_id: str, *, end_only: bool = False) -> Watch:
        """Register interest in a run's events (or only in its end) before reading, so that none is missed."""


class Watch(Protocol):
    """`async with` it; `changed` returns after a change since the last call, or after the time."""

    async def __aenter__(self) -> Watch: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def changed(self, timeout_seconds: float) -> None: ...
