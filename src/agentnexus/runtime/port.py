"""The interface of every runtime: the same agent runs unchanged on each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agentnexus.core.updates import Update
from agentnexus.runtime.bundle import Bundle
from agentnexus.runtime.limits import Limits


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One execution. `secrets` live in memory for this run only; `charge_caps` is event name to greatest count."""

    execution_id: str
    input: object
    user_id: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    metadata: Mapping[str, object] = field(default_factory=dict)
    charge_caps: Mapping[str, int] | None = None


class Runtime(Protocol):
    """Runs agents in isolation. Use as ``async with``."""

    async def prepare(self, folder: Path) -> Bundle:
        """Read an agent's folder and learn its schemas, running its code isolated. `InvalidInput`, `AgentFailed`."""

    def run(self, bundle: Bundle, request: RunRequest, limits: Limits | None = None) -> AsyncIterator[Update]:
        """Updates as they come, one `Result` at the end. Closing the iterator ends the run and every process of it.

        `Result.metering` has ``wall_ms``, ``cpu_ms``, ``memory_peak_bytes``, ``charge:<event>`` and ``metric:<name>``.
        Raises `InvalidInput` (names the field), `AgentRefused` (permanent), `AgentTimeout`, `LimitExceeded` (names the
        ``limit``), `BadResult` (its own schema forbids the output), `AgentFailed`, `Unavailable` (queue full).
        """

    async def cancel(self, execution_id: str, *, grace_seconds: float = 2.0) -> bool:
        """Ask the agent to stop, end it after the grace. False when no such run is going on here."""

    async def close(self) -> None:
        """End every run and every helper process."""
