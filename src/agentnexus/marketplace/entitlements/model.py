"""Uses of bought runs, and what somebody may run, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from agentnexus.marketplace.executions.model import USE_KEY


class UseState(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"  # its result is its owner's; the seller has its price, or gets it (`settled_at`)
    FAILED = "failed"  # nothing was charged, and the run is still there


@dataclass(frozen=True, slots=True)
class Use:
    """A run that a purchase pays for."""

    id: str
    user_id: str
    key: str
    agent_id: str
    purchase_id: str
    execution_id: str
    input_hash: str
    state: UseState
    created_at: datetime
    error: Mapping[str, object] | None = None
    transaction: str = ""
    retries: int = 0
    next_try_at: datetime | None = None
    finished_at: datetime | None = None
    settled_at: datetime | None = None

    @property
    def run_key(self) -> str:
        """Of its execution."""
        return f"{USE_KEY}{self.id}"


LOOK_AFTER = timedelta(seconds=30)  # for so long nobody else asks after a run that is under way


@dataclass(frozen=True, slots=True)
class Token:
    """Where a user's right to an agent is on the chain."""

    user_id: str
    agent_id: str
    wallet: str
    token_id: int


@dataclass(frozen=True, slots=True)
class Access:
    """What somebody may run now.

    Args:
        runs_left: that may be started; what the chain says, less what is under way.
        under_way: runs that were started and are not settled.
    """

    runs_left: int
    under_way: int


class RightStatus(StrEnum):
    ACTIVE = "active"
    USED_UP = "used_up"
    EXPIRED = "expired"
    REVOKED = "revoked"  # refunded, or taken back


@dataclass(frozen=True, slots=True)
class Right:
    """A user's entitlement to one agent, over all their purchases of it.

    Args:
        token_id: on chain, of `wallet`.
        expires_at: when the first of the runs that are left ends.
    """

    agent_id: str
    agent_name: str
    status: RightStatus
    runs_left: int
    runs_bought: int
    runs_used: int
    under_way: int
    expires_at: datetime | None
    wallet: str
    token_id: int
    purchases: tuple[str, ...]
