"""Inside the sandbox: close the last doors, only then load the agent's code, run it once, send frames."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import resource
import select
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from agentnexus.runtime import agent_side
from agentnexus.runtime.local import cgroups, jail, kernel, wire

PROXY_PORT = 3128
_NAMESPACES = (
    kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP
)


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


def main(
    order: Order,
    group: cgroups.Group,
    seccomp: bytes,
    frames: socket.socket,
    lifeline: socket.socket,
    *,
    warden_ended: int,
) -> Never:
    """The first process of the run's pid namespace. Never returns; when it ends, the kernel ends all the others.

    `warden_ended` is a pipe that reads as ended once the warden is gone.
    """
    try:
        listener = _close_doors(order, group, {frames.fileno(), lifeline.fileno(), warden_ended})
        _leave_without(warden_ended)
        if listener is not None:
            socket.send_fds(lifeline, [b"proxy"], [listener.fileno()])
            listener.close()
        lifeline.close()
        kernel.load_seccomp(seccomp)
    except OSError as error:
        _send(frames, {"type": "broken", "message": f"the sandbox could not be closed: {error}"})
        os._exit(1)
    _reseed()
    gc.enable()
    agent_side.serve_one(frames, jail.AGENT_FOLDER, order.entry, order.timeout_seconds)


def _close_doors(order: Order, group: cgroups.Group, own: set[int]) -> socket.socket | None:
    """From root on the host to nobody in a box; everything but the system call filter. `own` stays open."""
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
    _close_others({1, 2, *own} | ({listener.fileno()} if listener else set()))
    kernel.drop_privileges(jail.USER_ID, jail.GROUP_ID)
    kernel.die_with_parent()
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(_environment(egress=order.egress))
    return listener


def _leave_without(warden_ended: int) -> None:
    """Changing the user cleared the order to die with the warden: it may have died just before it was given again."""
    if select.select([warden_ended], [], [], 0)[0]:
        os._exit(1)
    os.close(warden_ended)


def _listen() -> socket.socket:
    """The proxy's door: opened in here, served by the supervisor outside, so this socket is the run's identity."""
    listener = socket.create_server(("127.0.0.1", PROXY_PORT))
    listener.setblocking(False)
    return listener


def _environment(*, egress: bool) -> dict[str, str]:
    values = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": jail.TMP_FOLDER,
        "TMPDIR": jail.TMP_FOLDER,
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


def _send(frames: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        frames.sendall(wire.encode(message))
