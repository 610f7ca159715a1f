"""Token buckets per caller: a steady rate with a burst, `RateLimited` with the seconds to wait beyond it."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from agentnexus.core.errors import RateLimited
from agentnexus.core.ports import Clock

CALLERS_KEPT = 50_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Limiter:
    """At most `per_minute` calls a minute and `burst` at once, per key, in this process."""

    def __init__(self, clock: Clock, *, per_minute: int, burst: int | None = None) -> None:
        self._clock = clock
        self._rate = per_minute / 60
        self._burst = float(burst or per_minute)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str) -> None:
        """Count one call; raises `RateLimited` (details: ``retry_after_seconds``)."""
        now = self._clock.monotonic()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._burst, now)
            if len(self._buckets) > CALLERS_KEPT:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            wait = math.ceil((1 - bucket.tokens) / self._rate)
            raise RateLimited("too many requests", next_step=f"wait {wait} s", retry_after_seconds=wait)
        bucket.tokens -= 1
