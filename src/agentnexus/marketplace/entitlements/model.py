"""Uses of bought runs, and what somebody may run, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from agentnexus.marketplace.executions.model import USE_KEY
from agentnexus.marketplace.purchases.kinds import Kind


class UseState(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"  # its result is its owner's; the seller has its price, or gets it (`settled_at`)
    FAILED = "failed"  # nothing was charged, and the run is still there


@dataclass(frozen=True, slots=True)
class Use:
    """A run that a purchase pays for, on a token of `wallet`."""

    id: str
    user_id: str
    key: str
    agent_id: str
    purchase_id: str
    wallet: str
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
        runs_left: bought ones that may be started; what the chain says, less what is under way.
        under_way: runs that were started and are not settled.
        until: when the period ends that allows runs now; None without one.
        period_runs_left: that it still allows; None: as many as they like, or no period.
    """

    runs_left: int
    under_way: int
    until: datetime | None = None
    period_runs_left: int | None = None


class RightStatus(StrEnum):
    ACTIVE = "active"
    USED_UP = "used_up"
    EXPIRED = "expired"
    REVOKED = "revoked"  # refunded, taken back, or passed on


@dataclass(frozen=True, slots=True)
class Right:
    """A user's entitlement to one agent: all runs they have of it, or one month.

    Args:
        runs_left: None: as many as they like.
        usage_count: runs that succeeded; `max_usage` how many there may be in all, None without a limit.
        runs_bought: tokens.
        starts_at: of a month.
        expires_at: when the first of the runs that are left ends; the month's end.
        token_id: on chain, of `wallet`; the newest of them.
        purchases: the user's own, oldest first; what they were given by others is not among them.
    """

    agent_id: str
    agent_name: str
    kind: Kind
    status: RightStatus
    runs_left: int | None
    runs_bought: int
    usage_count: int
    max_usage: int | None
    under_way: int
    starts_at: datetime | None
    expires_at: datetime | None
    transferable: bool
    wallet: str
    token_id: int
    purchases: tuple[str, ...]
