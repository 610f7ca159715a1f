"""The half of a run that shares a process with the agent's code: take the request, run once, send frames."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Never

from agentnexus.runtime.local import wire
from agentnexus.sdk.context import Cancelled, Context
from agentnexus.sdk.execute import ErrorBody, Outcome, execute_blocking, load_agent


def serve_one(frames: socket.socket, folder: Path, entry: str, timeout_seconds: float) -> Never:
    """One request, one outcome, the end of the process. Threads that the agent left running do not hold it up."""
    request = wire.read_blocking(frames)
    channel = _Channel(frames)
    channel.final(_outcome(request, channel, folder, entry, timeout_seconds))
    os._exit(0)


class _Channel:
    """The agent's only way out: one frame at a time, from any of its threads."""

    def __init__(self, frames: socket.socket) -> None:
        self._frames = frames
        self._lock = threading.Lock()

    def emit(self, event_type: str, data: dict[str, object]) -> None:
        frame = wire.encode({**data, "type": event_type})
        with self._lock:
            self._frames.sendall(frame)

    def final(self, outcome: Outcome) -> None:
        """The last frame; printed text goes out before it."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        try:
            self.emit("completed", outcome.to_json())
        except (ValueError, TypeError, RecursionError) as error:
            body = ErrorBody("agent_failed", f"The result cannot be written as JSON: {error}")
            self.emit("completed", Outcome("failed", error=body).to_json())


def _outcome(
    request: dict[str, object], channel: _Channel, folder: Path, entry: str, timeout_seconds: float
) -> Outcome:
    signal.signal(signal.SIGTERM, _cancel)
    try:
        agent = load_agent(folder, entry)
        if request.get("task") == "describe":
            return Outcome("completed", {"input": agent.input_schema, "output": agent.output_schema})
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the edge to an author's code
        message = f"The agent's code does not load: {type(error).__name__}: {error}"
        return Outcome("failed", error=ErrorBody("agent_failed", message, "The author has to correct it."))
    secrets, metadata = request.get("secrets"), request.get("metadata")
    context = Context(
        str(request.get("execution_id", "")),
        emit=channel.emit,
        secrets=secrets if isinstance(secrets, dict) else None,
        user_id=str(request.get("user_id", "")),
        metadata=metadata if isinstance(metadata, dict) else None,
        timeout_seconds=timeout_seconds,
    )
    return execute_blocking(agent, request.get("input"), context)


def _cancel(number: int, frame: FrameType | None) -> Never:
    del number, frame
    raise Cancelled
