"""What a running job says on its way: progress, logs, parts, files, and at the end the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from agentnexus.core.payments import Payment, PaymentRecord


@dataclass(frozen=True, slots=True)
class Progress:
    """`fraction` 0..1 where known."""

    fraction: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    message: str
    level: str = "info"


@dataclass(frozen=True, slots=True)
class Partial:
    """A piece of a streamed answer."""

    data: object


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file the job made."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """Money for the job was set aside, and nobody has it yet; told again when a job that was cut off goes on."""

    payment: PaymentRecord


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a job: its output, the payments made for it, and the seller's own metering."""

    output: object
    payments: tuple[Payment, ...] = ()
    metering: dict[str, int] = field(default_factory=dict)


Update: TypeAlias = Progress | Log | Partial | Artifact | Held | Result
