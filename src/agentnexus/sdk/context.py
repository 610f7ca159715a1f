"""What an agent can say and ask while it works: log, progress, files, charges, secrets, the time left."""

from __future__ import annotations

import base64
import json
import operator
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

Emit: TypeAlias = Callable[[str, dict[str, object]], None]
"""Called as ``emit(event_type, data)``; every event type is one of `EVENT_TYPES`."""

EVENT_TYPES = ("start", "log", "progress", "output", "artifact", "charge", "metric", "completed")


class Refusal(Exception):
    """Raise it when this input can never be served: nothing is charged and nothing is retried.

    Args:
        message: one sentence for the buyer.
        next_step: what the buyer can do about it.
        field: the input field at fault, as a dotted path.
    """

    def __init__(self, message: str, *, next_step: str = "", field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.field = field


class Cancelled(BaseException):
    """Raised inside the agent when the buyer cancels: clean up and let it pass."""


class Context:
    """One execution, as the agent sees it. Safe to use from the agent's own threads.

    Args:
        execution_id: the platform's id of this run.
        emit: where events go (a pipe in the sandbox, a stream on the server, a list in tests).
        secrets: values handed over for this run only.
        user_id: who pays, as an opaque id.
        metadata: what the caller attached.
        timeout_seconds: time from now until the platform ends the run; None means no limit.
    """

    def __init__(
        self,
        execution_id: str = "local",
        *,
        emit: Emit | None = None,
        secrets: Mapping[str, str] | None = None,
        user_id: str = "",
        metadata: Mapping[str, object] | None = None,
        timeout_seconds: float | None = None,
    ) -> None:
        self.execution_id = execution_id
        self.user_id = user_id
        self.metadata = dict(metadata or {})
        self._emit: Emit = emit or _ignore
        self._secrets = dict(secrets or {})
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._charges = 0

    @property
    def seconds_left(self) -> float | None:
        """Time until the platform ends the run; None when there is no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def log(self, message: str, level: str = "info") -> None:
        """Say something to the buyer and the operator. `level`: debug, info, warning or error."""
        self._emit("log", {"message": message, "level": level})

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """How far the work is: `fraction` 0..1, or None when it cannot be told."""
        if fraction is not None:
            fraction = min(1.0, max(0.0, fraction))
        self._emit("progress", {"fraction": fraction, "message": message})

    def output(self, chunk: object) -> None:
        """A piece of the answer ahead of the whole; any JSON value."""
        self._emit("output", {"chunk": chunk})

    def artifact(self, name: str, media_type: str, data: bytes | str) -> None:
        """Hand over a file. `name` is a plain file name without folders."""
        raw = data.encode() if isinstance(data, str) else bytes(data)
        encoded = base64.b64encode(raw).decode()
        self._emit("artifact", {"name": name, "media_type": media_type, "size_bytes": len(raw), "data": encoded})

    def charge(self, event: str, count: int = 1, *, key: str = "") -> None:
        """Ask the platform to bill `count` of a priced event; caps and prices are the platform's to decide.

        `key` makes a repeat harmless: the same key is billed once. Without one, every call is its own.
        """
        count = operator.index(count)
        if count < 1:
            raise ValueError("charge a count of at least 1")
        self._charges += 1
        self._emit("charge", {"event": event, "count": count, "key": key or f"{event}#{self._charges}"})

    def metric(self, name: str, value: int) -> None:
        """A whole figure about the work (pages read, rows seen); shown beside the result, never billed."""
        self._emit("metric", {"name": name, "value": operator.index(value)})

    def secret(self, name: str) -> str:
        """A secret named in the manifest. Raises `KeyError` when the buyer or operator gave none."""
        try:
            return self._secrets[name]
        except KeyError:
            raise KeyError(f"no secret named {name}: list it under `secrets` in agent.toml and hand it over") from None


class Recorder:
    """Keeps every event of a run, for tests: ``recorder = Recorder(); Context(emit=recorder)``."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event_type: str, data: dict[str, object]) -> None:
        json.dumps(data)
        self.events.append((event_type, data))

    def of(self, event_type: str) -> list[dict[str, object]]:
        """The data of all events of one type, in order."""
        return [data for kind, data in self.events if kind == event_type]


def _ignore(event_type: str, data: dict[str, object]) -> None:
    del event_type, data
