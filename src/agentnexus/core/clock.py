"""Standard adapters of the time, id and randomness ports, and the ones tests replay runs with."""

from __future__ import annotations

import os
import random
import secrets
import time
import uuid
from datetime import UTC, datetime, timedelta

from agentnexus.core.ports import Clock, Entropy


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """Stands still until moved."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._elapsed += seconds


class SystemEntropy:
    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def uniform(self) -> float:
        return secrets.randbelow(1 << 53) / (1 << 53)


class SeededEntropy:
    """The same stream for the same seed: for replays and explainable choices, never for secrets."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - replays, not secrets

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uniform(self) -> float:
        return self._random.random()


class TimeOrderedIds:
    """UUID v7 (RFC 9562): 48 bits of milliseconds, then randomness; made here because PostgreSQL 15 has none."""

    def __init__(self, clock: Clock | None = None, entropy: Entropy | None = None) -> None:
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()

    def new(self, prefix: str = "") -> str:
        milliseconds = int(self._clock.now().timestamp() * 1000)
        tail = int.from_bytes(self._entropy.random_bytes(10), "big")
        value = (milliseconds & ((1 << 48) - 1)) << 80 | tail
        value = value & ~(0xF << 76) | 0x7 << 76
        value = value & ~(0x3 << 62) | 0x2 << 62
        identifier = uuid.UUID(int=value)
        return f"{prefix}_{identifier.hex}" if prefix else str(identifier)
