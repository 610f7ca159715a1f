"""What this process knows about each seller right now: peak latency, success, work in flight, ejections."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

LATENCY_TAU_SECONDS = 30.0
PEAK_FACTOR = 3.0
SUCCESS_HALF_LIFE_SECONDS = 3_600.0
PRIOR_SUCCESSES = 2.0
PRIOR_FAILURES = 0.5
EJECT_AFTER_ERRORS = 3
EJECTED_SHARE_MAX = 0.5
EJECTION_BASE_SECONDS = 30.0
EJECTION_MAX_SECONDS = 300.0
ENTRIES_MAX = 50_000


@dataclass(slots=True)
class SellerLoad:
    """Live figures of one seller for one capability. Times are seconds of a monotonic clock."""

    latency_seconds: float | None = None
    successes: float = 0.0
    failures: float = 0.0
    in_flight: int = 0
    tried: int = 0
    errors_in_a_row: int = 0
    times_ejected: int = 0
    ejected_until: float | None = None
    probing: bool = False
    busy_until: float = 0.0
    seen_at: float = 0.0

    def success(self, now: float) -> float:
        """Expected success, 0-1: decayed outcomes over a Beta prior."""
        decay = float(0.5 ** (max(0.0, now - self.seen_at) / SUCCESS_HALF_LIFE_SECONDS))
        good = PRIOR_SUCCESSES + self.successes * decay
        return good / (good + PRIOR_FAILURES + self.failures * decay)

    def observe_latency(self, seconds: float, now: float) -> None:
        """Peak-EWMA: a sample far above jumps up at once, calmer ones pull down with time."""
        if self.latency_seconds is None or seconds > PEAK_FACTOR * self.latency_seconds:
            self.latency_seconds = seconds
            return
        share = 1 - math.exp(-max(1.0, now - self.seen_at) / LATENCY_TAU_SECONDS)
        self.latency_seconds += share * (seconds - self.latency_seconds)

    def decay(self, now: float) -> None:
        factor = 0.5 ** (max(0.0, now - self.seen_at) / SUCCESS_HALF_LIFE_SECONDS)
        self.successes *= factor
        self.failures *= factor
        self.seen_at = now

    def available(self, now: float) -> bool:
        """Not ejected, or its time is up and nobody probes it yet; not asking for patience either."""
        if now < self.busy_until:
            return False
        return self.ejected_until is None or (now >= self.ejected_until and not self.probing)


@dataclass(slots=True)
class LoadTable:
    """`SellerLoad` by (seller key, capability)."""

    entries: dict[tuple[str, str], SellerLoad] = field(default_factory=dict)

    def of(self, seller: str, capability: str) -> SellerLoad:
        """The entry, made when new; of too many, those that were never tried are dropped first."""
        known = self.entries.get((seller, capability))
        if known is None:
            if len(self.entries) >= ENTRIES_MAX:
                self.entries = {key: entry for key, entry in self.entries.items() if entry.in_flight or entry.tried}
            known = self.entries[(seller, capability)] = SellerLoad()
        return known

    def started(self, seller: str, capability: str, now: float) -> None:
        """A job goes out. The first one to a seller whose ejection is over is its probe."""
        load = self.of(seller, capability)
        load.in_flight += 1
        load.tried += 1
        if load.ejected_until is not None and now >= load.ejected_until:
            load.probing = True

    def finished(self, seller: str, capability: str, now: float, *, seconds: float, succeeded: bool) -> None:
        """A job came back; a failure that is the buyer's own fault is not reported here at all."""
        load = self.of(seller, capability)
        load.in_flight = max(0, load.in_flight - 1)
        load.observe_latency(seconds, now)
        load.decay(now)
        if succeeded:
            load.successes += 1
            load.errors_in_a_row = 0
            load.ejected_until = None
            load.times_ejected = 0
        else:
            load.failures += 1
            load.errors_in_a_row += 1
            self._maybe_eject(load, capability, now)
        load.probing = False

    def abandoned(self, seller: str, capability: str) -> None:
        """A job ended without saying anything about the seller (cancelled, over budget, wrong input)."""
        load = self.of(seller, capability)
        load.in_flight = max(0, load.in_flight - 1)
        load.probing = False

    def busy(self, seller: str, capability: str, now: float, retry_after_seconds: float) -> None:
        """The seller asks for patience (429): stay away for so long, but it is no error."""
        self.of(seller, capability).busy_until = now + min(retry_after_seconds, EJECTION_MAX_SECONDS)

    def _maybe_eject(self, load: SellerLoad, capability: str, now: float) -> None:
        if not load.probing and load.errors_in_a_row < EJECT_AFTER_ERRORS:
            return
        peers = [entry for (_, name), entry in self.entries.items() if name == capability]
        ejected = sum(entry.ejected_until is not None and entry is not load for entry in peers)
        if ejected + 1 > max(1, EJECTED_SHARE_MAX * len(peers)):
            return
        load.times_ejected += 1
        load.ejected_until = now + min(EJECTION_BASE_SECONDS * load.times_ejected, EJECTION_MAX_SECONDS)
