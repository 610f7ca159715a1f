"""An execution's life, its events, and how its end becomes an error again for whoever asks later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from agentnexus.core.canonical import bytes_hash
from agentnexus.core.errors import (
    AgentFailed,
    AgentTimeout,
    Conflict,
    ErrorCode,
    NexusError,
    error_from_json,
)
from agentnexus.core.events import Event, EventName
from agentnexus.core.updates import Log, Partial, Progress, Update

ATTEMPTS_MAX = 3
BACKOFF_SECONDS = (0.5, 2.0)
ID_PATTERN = r"^exe_[0-9a-f]{32}$"
SOLD_KEY = "x402:"  # how the keys of runs begin that are paid for after them
USE_KEY = "use:"  # and those of runs on what somebody bought before
HANDED_OUT_ELSEWHERE = (SOLD_KEY, USE_KEY)
WORK = frozenset({"partial", "blob"})  # what an event carries of the work itself


class ExecutionStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self not in (ExecutionStatus.QUEUED, ExecutionStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Execution:
    """One run. `output` is set exactly when it completed; durations in milliseconds.

    `is_sold`: it ran for money, so its work is handed out by the till or to its buyer alone, not to who knows its id.
    """

    id: str
    agent_id: str
    version: str
    user_id: str
    status: ExecutionStatus
    attempts: int
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: int | None = None
    output: object = None
    error: Mapping[str, object] | None = None
    metering: Mapping[str, int] = field(default_factory=dict)
    is_sold: bool = False

    def to_json(self) -> dict[str, object]:
        """As ``/api/v1/executions/{id}`` shows it; the output of a sold run is in the paid answer only."""
        return {
            "id": self.id,
            "agentId": self.agent_id,
            "version": self.version,
            "status": self.status.value,
            "attempts": self.attempts,
            "output": None if self.is_sold else self.output,
            "error": self.error,
            "metering": dict(self.metering),
            "createdAt": self.created_at.isoformat(),
            "startedAt": self.started_at.isoformat() if self.started_at else None,
            "finishedAt": self.finished_at.isoformat() if self.finished_at else None,
            "durationMs": self.duration_ms,
        }

    def raise_if_failed(self) -> None:
        """Raises the error this execution ended in."""
        if self.status is ExecutionStatus.CANCELLED:
            raise Conflict("the execution was cancelled", next_step="start a new one", execution=self.id)
        if self.error is not None:
            raise error_from(self.error, self.id)


def status_of(error: NexusError) -> ExecutionStatus:
    """The state an error ends a run in."""
    return ExecutionStatus.TIMEOUT if isinstance(error, AgentTimeout) else ExecutionStatus.FAILED


def error_from(stored: Mapping[str, object], execution_id: str) -> NexusError:
    """The stored error as an exception of its own class again."""
    error = error_from_json(stored, AgentFailed)
    error.details["execution"] = execution_id
    return error


def transient(error: NexusError) -> bool:
    """Whether trying again may help: the process died or no place was free, not what the agent decided."""
    return error.retryable and error.code in (ErrorCode.AGENT_FAILED, ErrorCode.UNAVAILABLE)


def backoff_seconds(attempt: int) -> float:
    """Wait after the attempt with this number (from 1)."""
    return BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS)) - 1]


def output_bytes(value: object) -> bytes:
    """The kept form of an output: plain ASCII JSON, so that any text an agent makes can be stored."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def input_hash(agent_id: str, value: object) -> str:
    """``sha256:…`` of agent and input: what a repeated key must agree on."""
    return bytes_hash(json.dumps([agent_id, value], sort_keys=True, separators=(",", ":")).encode("ascii"))


def event_of(update: Update) -> tuple[EventName, dict[str, object]] | None:
    """The event an update becomes; None for results and files, which are kept elsewhere."""
    match update:
        case Log(message=message, level=level):
            return EventName.EXECUTION_LOG, {"message": storable(message), "level": level}
        case Progress(fraction=fraction, message=message):
            return EventName.EXECUTION_PROGRESS, {"fraction": fraction, "message": storable(message)}
        case Partial(data=data):
            return EventName.EXECUTION_PROGRESS, {"partial": storable(json.dumps(data))}
        case _:
            return None


def storable(text: str) -> str:
    """Text that PostgreSQL takes: without NULs and half surrogates."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", errors="replace").decode()


def event_json(event: Event, *, is_sold: bool = False) -> dict[str, object]:
    """``{name, sequence, at, data}``; of a sold run without the parts of its work."""
    data = {key: value for key, value in event.data.items() if key not in WORK} if is_sold else event.data
    return {"name": event.name.value, "sequence": event.sequence, "at": event.at.isoformat(), "data": data}
