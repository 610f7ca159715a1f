"""Addresses that are told of events, and what was sent to them, as their pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentnexus.web.views.runs import State

EVENTS: Final = (
    ("workflow.awaiting_approval", "A plan waits for your approval", True),
    ("workflow.completed", "A task is done", True),
    ("workflow.failed", "A task failed", True),
    ("workflow.cancelled", "A task was cancelled", False),
    ("workflow.*", "Everything a task goes through", False),
    ("step.*", "Everything its steps go through", False),
    ("payment.*", "Every payment and refund", False),
)
SIGNATURES: Final = (
    ("hmac-sha256", "Its own secret (HMAC, v1)"),
    ("ed25519", "The key of this node (Ed25519, v1a)"),
)
FILTERS: Final = (("", "All"), ("delivered", "Delivered"), ("waiting", "Waiting"), ("failed", "Given up"))


@dataclass(frozen=True, slots=True)
class WebhookView:
    """`reason` says why it is off; `secret` is there only right after it was made."""

    id: str
    url: str
    events: Sequence[str]
    signature: str
    state: State
    enabled: bool
    reason: str
    created_at: datetime
    secret: str = ""
    last: DeliveryView | None = None

    @property
    def has_secret(self) -> bool:
        return self.signature == "hmac-sha256"


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One event on its way. `answer` begins what came back; `next_at` is when it is tried again."""

    run_id: str
    sequence: int
    event: str
    state: State
    attempts: int
    status: int | None
    answer: str
    at: datetime
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TrialView:
    """How an address answered a test message; `status` is None when nothing answered."""

    status: int | None
    answer: str

    @property
    def arrived(self) -> bool:
        return self.status is not None and 200 <= self.status < 300
