"""Child processes that stop with their parent, free ports, and waiting until a server answers."""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable

from agentnexus.core.errors import Unavailable
from agentnexus.platform.logs import log

PR_SET_PDEATHSIG = 1
STREAMS_WANTED = 12_000  # ten thousand watchers, the database, and what sellers and agents need
PORTS = range(20_000, 32_000)
PORT_TRIES = 200
BACKLOG = 2048
LISTENER = "NEXUS_LISTENER_FD"


def die_with_parent(sign: signal.Signals = signal.SIGTERM, *, parent: int | None = None) -> None:
    """Ask Linux to signal this process when its parent ends, however it ends.

    `parent` is the pid expected: when it is already gone (a race at start) the process exits at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(sign), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), sign)


def raise_file_limit(wanted: int = STREAMS_WANTED) -> int:
    """As many open files as the system allows this process; a warning when live streams would run out of them."""
    import resource

    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if 0 <= hard < wanted:
        log.warning("process.few_open_files", allowed=hard, wanted=wanted, next_step="raise `ulimit -Hn`")
    return hard


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody has right now. Raises `Unavailable` when none is found.

    By chance, and below those that systems give to outgoing connections: one of these, or another process asking at
    the same moment, would take it before its server does.
    """
    for _ in range(PORT_TRIES):
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise Unavailable(
        f"no free port between {PORTS.start} and {PORTS.stop}", next_step="end programs that listen there"
    )


def listen_on(port: int, host: str = "127.0.0.1") -> socket.socket | None:
    """A listening socket, so that the port is ours from now on; None when somebody has it. 0 is any free port."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        return None
    return listener


def inherited_listener() -> socket.socket | None:
    """The listening socket that whoever started this process has handed down, if any; taken once."""
    descriptor = os.environ.pop(LISTENER, None)
    return socket.socket(fileno=int(descriptor)) if descriptor else None


async def wait_until_ready(
    check: Callable[[], Awaitable[bool]], *, what: str, timeout_seconds: float, interval_seconds: float = 0.02
) -> None:
    """Poll `check` until it is true; raises `Unavailable` naming `what` when time is up."""
    try:
        async with asyncio.timeout(timeout_seconds):
            while not await check():  # noqa: ASYNC110 - polls another process, no event to wait for
                await asyncio.sleep(interval_seconds)
    except TimeoutError as error:
        raise Unavailable(f"{what} did not become ready in {timeout_seconds:.0f} s") from error


async def port_open(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
