"""What the indexer keeps and tells: places on the chain, events found there, and changes for handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from agentnexus.platform.database import Connection
from agentnexus.rails.evm.indexer.events import Arguments


@dataclass(frozen=True, slots=True)
class Place:
    """A block by number and hash. The place before a chain's first block has the number -1 and no hash."""

    number: int
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest block at a moment, and the number of the newest whose events are final enough to be told."""

    place: Place
    final: int
    asked_at: datetime

    @property
    def number(self) -> int:
        return self.place.number


class EventState(StrEnum):
    SEEN = "seen"  # not as deep as handlers want it
    APPLIED = "applied"
    ORPHANED = "orphaned"  # was applied, and its block is on the chain no more


@dataclass(frozen=True, slots=True)
class IndexedEvent:
    """An event by the place that makes it unique: block hash, transaction and log index."""

    contract: str
    event: str
    arguments: Arguments
    transaction: str
    log_index: int
    block: Place
    state: EventState


class ChangeKind(StrEnum):
    APPLIED = "applied"
    REVERTED = "reverted"


@dataclass(frozen=True, slots=True)
class Change:
    """An event that became final enough, or one that was told so and is gone.

    `round` counts the times it was applied: a block can leave the chain and come back.
    """

    kind: ChangeKind
    event: IndexedEvent
    network: str
    round: int

    @property
    def key(self) -> str:
        """For effects outside of the handler's transaction: never the same for two changes."""
        event = self.event
        where = f"{event.block.hash}:{event.transaction}:{event.log_index}"
        return f"{self.network}:{where}:{self.round}:{self.kind}"


# Runs in the transaction that notes the change as told: its writes there happen once. What it raises stops the changes
# behind it until it succeeds.
Handler: TypeAlias = Callable[[Connection, Change], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a round left off. `leads` is False when another process reads the chain, and then nothing was done."""

    leads: bool
    head: int
    place: Place
    events: int = 0
    reverted_to: int | None = None

    @property
    def is_at_head(self) -> bool:
        return self.leads and self.place.number >= self.head


@dataclass(frozen=True, slots=True)
class HandlerStatus:
    """How far a handler is behind. `failures` in a row, and what the last one said."""

    handler: str
    waiting: int
    failures: int
    last_error: str


@dataclass(frozen=True, slots=True)
class Status:
    """An indexer as people see it. `followed_at`: when it last had everything up to the head."""

    name: str
    network: str
    place: int
    head: int
    followed_at: datetime | None
    holder: str
    events: int
    handlers: tuple[HandlerStatus, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "network": self.network,
            "place": self.place,
            "head": self.head,
            "behind_blocks": max(self.head - self.place, 0),
            "followed_at": None if self.followed_at is None else self.followed_at.isoformat(),
            "holder": self.holder,
            "events": self.events,
            "handlers": [
                {"handler": h.handler, "waiting": h.waiting, "failures": h.failures, "last_error": h.last_error}
                for h in self.handlers
            ],
        }
