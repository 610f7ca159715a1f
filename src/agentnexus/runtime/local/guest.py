"""Inside the sandbox: close the last doors, only then load the agent's code, run it once, send frames."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import resource
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Never

from agentnexus.runtime.local import cgroups, jail, kernel, wire
from agentnexus.sdk.context import Cancelled, Context
from agentnexus.sdk.execute import ErrorBody, Outcome, execute_blocking, load_agent

PROXY_PORT = 3128
_NAMESPACES = (
    kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP
)
_UNRAISABLE_EXIT = 70


@dataclass(frozen=True, slots=True)
class Order:
    """What the supervisor asks for: paths are the host's, sizes bytes, times seconds."""

    name: str
    root: Path
    folder: Path
    entry: str
    memory_bytes: int
    processes: int
    cpu: float
    tmp_bytes: int
    open_files: int
    timeout_seconds: float
    egress: bool


def main(order: Order, group: cgroups.Group, seccomp: bytes, frames: socket.socket, lifeline: socket.socket) -> Never:
    """The first process of the run's pid namespace. Never returns; when it ends, the kernel ends all the others."""
    try:
        listener = _close_doors(order, group, frames, lifeline)
        if listener is not None:
            socket.send_fds(lifeline, [b"proxy"], [listener.fileno()])
            listener.close()
        lifeline.close()
        kernel.load_seccomp(seccomp)
    except OSError as error:
        _send(frames, {"type": "broken", "message": f"the sandbox could not be closed: {error}"})
        os._exit(1)
    _reseed()
    request = wire.read_blocking(frames)
    channel = _Channel(frames)
    if request.get("task") == "describe":
        channel.final(_describe(order, channel))
    else:
        channel.final(_run(order, request, channel))
    os._exit(0)


def _close_doors(
    order: Order, group: cgroups.Group, frames: socket.socket, lifeline: socket.socket
) -> socket.socket | None:
    """From root on the host to nobody in a box; everything but the system call filter."""
    kernel.last_capability()
    group.enter()
    kernel.unshare(_NAMESPACES)
    kernel.loopback_up()
    listener = _listen() if order.egress else None
    socket.sethostname("agent")
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    jail.enter(order.root, order.folder, order.tmp_bytes)
    _limit(order)
    keep = {1, 2, frames.fileno(), lifeline.fileno()} | ({listener.fileno()} if listener else set())
    _close_others(keep)
    kernel.drop_privileges(jail.USER_ID, jail.GROUP_ID)
    kernel.die_with_parent()
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(_environment(egress=order.egress))
    return listener


def _listen() -> socket.socket:
    """The proxy's door: opened in here, served by the supervisor outside, so this socket is the run's identity."""
    listener = socket.create_server(("127.0.0.1", PROXY_PORT))
    listener.setblocking(False)
    return listener


def _environment(*, egress: bool) -> dict[str, str]:
    values = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108 - this /tmp belongs to one run
        "TMPDIR": "/tmp",  # noqa: S108 - this /tmp belongs to one run
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    proxy = f"http://127.0.0.1:{PROXY_PORT}"
    return {**values, "HTTPS_PROXY": proxy, "https_proxy": proxy} if egress else values


def _limit(order: Order) -> None:
    def at_most(kind: int, value: int) -> None:
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))

    at_most(resource.RLIMIT_CORE, 0)
    at_most(resource.RLIMIT_NOFILE, order.open_files)
    at_most(resource.RLIMIT_FSIZE, order.tmp_bytes)
    at_most(resource.RLIMIT_MEMLOCK, 64 * 1024)
    at_most(resource.RLIMIT_CPU, int(order.timeout_seconds * max(1.0, order.cpu)) + 5)
    # A file beyond the size limit is an error in the agent, not the death of it.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _close_others(keep: set[int]) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    previous = 1
    for descriptor in sorted(keep - {1}):
        os.closerange(previous + 1, descriptor)
        previous = descriptor
    os.closerange(previous + 1, 1 << 20)


def _reseed() -> None:
    """Siblings are copies of one process: without this they would all draw the same numbers."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(int.from_bytes(os.urandom(4), "big"))


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


def _run(order: Order, request: dict[str, object], channel: _Channel) -> Outcome:
    secrets, metadata = request.get("secrets"), request.get("metadata")
    context = Context(
        str(request.get("execution_id", "")),
        emit=channel.emit,
        secrets=secrets if isinstance(secrets, dict) else None,
        user_id=str(request.get("user_id", "")),
        metadata=metadata if isinstance(metadata, dict) else None,
        timeout_seconds=order.timeout_seconds,
    )
    _cancel_on_sigterm()
    try:
        agent = load_agent(jail.AGENT_FOLDER, order.entry)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the edge to an author's code
        return _not_loadable(error)
    return execute_blocking(agent, request.get("input"), context)


def _describe(order: Order, channel: _Channel) -> Outcome:
    del channel
    try:
        agent = load_agent(jail.AGENT_FOLDER, order.entry)
        return Outcome("completed", {"input": agent.input_schema, "output": agent.output_schema})
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the edge to an author's code
        return _not_loadable(error)


def _not_loadable(error: BaseException) -> Outcome:
    message = f"The agent's code does not load: {type(error).__name__}: {error}"
    return Outcome("failed", error=ErrorBody("agent_failed", message, "The author has to correct it."))


def _cancel_on_sigterm() -> None:
    def stop(number: int, frame: FrameType | None) -> Never:
        del number, frame
        raise Cancelled

    signal.signal(signal.SIGTERM, stop)
    gc.enable()


def _send(frames: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        frames.sendall(wire.encode(message))
