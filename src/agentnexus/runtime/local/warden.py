"""One small process per run, outside the sandbox: starts it, ends it at the deadline or on demand, reports its end.

The lifeline is a packet socket to the supervisor. When the supervisor vanishes the lifeline closes and the run ends;
when the warden vanishes the kernel ends the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from dataclasses import asdict, dataclass
from typing import Never

from agentnexus.runtime.local import cgroups, guest, kernel

EXIT_PREFIX = b"exit "
BROKEN_PREFIX = b"broken "
STARTED = b"started"
TERMINATE_PREFIX = b"terminate "


@dataclass(frozen=True, slots=True)
class Exit:
    """How the first process of a run ended. `ended_by`: itself, timeout, supervisor."""

    code: int
    signal: int
    ended_by: str
    wall_ms: int
    memory_peak_bytes: int
    cpu_ms: int
    oom_kills: int
    process_limit_hits: int

    @classmethod
    def parse(cls, packet: bytes) -> Exit:
        return cls(**json.loads(packet.removeprefix(EXIT_PREFIX)))


def main(order: guest.Order, host: cgroups.Host, seccomp: bytes, fds: list[int], zygote_pid: int) -> Never:
    """`fds`: frames, stdout, stderr, lifeline. Never returns."""
    kernel.die_with_parent()
    if os.getppid() != zygote_pid:
        os._exit(1)
    frames, lifeline = socket.socket(fileno=fds[0]), socket.socket(fileno=fds[3])
    lifeline.send(STARTED)
    group = None
    try:
        group = cgroups.Group(host, order.name)
        group.limit(memory_bytes=order.memory_bytes, processes=order.processes, cpu=order.cpu)
        started = time.monotonic()
        pid = _fork(order, group, seccomp, fds, (frames, lifeline))
    except OSError as error:
        lifeline.send(BROKEN_PREFIX + str(error).encode())
        if group is not None:
            group.remove()
        os._exit(1)
    frames.close()
    ended_by = _watch(pid, lifeline, started + order.timeout_seconds)
    _, status = os.waitpid(pid, 0)
    usage = group.usage()
    code = os.waitstatus_to_exitcode(status)
    report = Exit(max(code, 0), max(-code, 0), ended_by, int((time.monotonic() - started) * 1000), **asdict(usage))
    with contextlib.suppress(OSError):
        lifeline.send(EXIT_PREFIX + json.dumps(asdict(report)).encode())
    group.remove()
    os._exit(0)


def _fork(
    order: guest.Order,
    group: cgroups.Group,
    seccomp: bytes,
    fds: list[int],
    sockets: tuple[socket.socket, socket.socket],
) -> int:
    """The child is process 1 of a new pid namespace, where nothing survives it."""
    kernel.unshare(kernel.CLONE_NEWPID)
    warden_ended, warden_lives = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(warden_lives)
        os.setsid()
        kernel.die_with_parent()
        os.dup2(fds[1], 1)
        os.dup2(fds[2], 2)
        guest.main(order, group, seccomp, *sockets, warden_ended=warden_ended)
    for descriptor in (fds[1], fds[2], warden_ended):
        os.close(descriptor)
    return pid


def _watch(pid: int, lifeline: socket.socket, deadline: float) -> str:
    """Until process `pid` is dead; says who ended it."""
    descriptor = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(lifeline, select.POLLIN)
    ended_by, overdue = "itself", "timeout"
    while True:
        ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
        if descriptor in ready:
            break
        if lifeline.fileno() in ready:
            grace = _grace(lifeline)
            if grace is not None and overdue == "timeout":
                deadline, overdue = min(deadline, time.monotonic() + grace), "supervisor"
                kernel.kill(descriptor, signal.SIGTERM)
                continue
            ended_by = "supervisor"
        elif time.monotonic() < deadline:
            continue
        else:
            ended_by = overdue
        kernel.kill(descriptor, signal.SIGKILL)
        poll.unregister(lifeline)
        select.select([descriptor], [], [])
        break
    os.close(descriptor)
    return ended_by


def _grace(lifeline: socket.socket) -> float | None:
    """Seconds to wait after a polite stop; None for an end at once (also when the supervisor is gone)."""
    try:
        packet = lifeline.recv(64)
    except OSError:
        return None
    if not packet.startswith(TERMINATE_PREFIX):
        return None
    return float(packet.removeprefix(TERMINATE_PREFIX))
