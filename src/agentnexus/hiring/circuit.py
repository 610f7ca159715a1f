"""Whether a market is asked again: one that hangs or keeps failing is left alone for a while, then tried by one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

FAILURES_MAX = 3  # in a row, of those that are noticed at once; one that keeps people waiting is enough
COOL_SECONDS = 5.0
COOL_MAX_SECONDS = 60.0


class CircuitState(StrEnum):
    """Closed: asked as ever. Open: left alone. Half open: its time is up, and one question may try it."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class Circuit:
    """Of one market. Times are seconds of a monotonic clock."""

    failures: int = 0
    opened: int = 0
    open_until: float | None = None
    probing: bool = False

    def state(self, now: float) -> CircuitState:
        if self.open_until is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self.open_until else CircuitState.HALF_OPEN

    def take_probe(self, now: float) -> bool:
        """Whether the caller is the one that may try; others are refused until it is known how that went."""
        if self.state(now) is not CircuitState.HALF_OPEN or self.probing:
            return False
        self.probing = True
        return True

    def succeeded(self) -> None:
        self.failures = self.opened = 0
        self.open_until, self.probing = None, False

    def failed(self, now: float, *, slow: bool = False) -> None:
        """`slow`: somebody waited for it in vain. A failed try opens it again, for twice as long."""
        self.failures += 1
        tried, self.probing = self.probing, False
        if slow or tried or self.failures >= FAILURES_MAX:
            self.open_until = now + min(COOL_SECONDS * 2**self.opened, COOL_MAX_SECONDS)
            self.opened = min(self.opened + 1, 10)

    def let_go(self) -> None:
        """The try told nothing: another may have it."""
        self.probing = False

    def seconds_left(self, now: float) -> float:
        """Until it may be tried; 0 when it may."""
        return 0.0 if self.open_until is None else max(0.0, self.open_until - now)
