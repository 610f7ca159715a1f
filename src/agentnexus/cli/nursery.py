"""The process that roles are forked from: it imports everything once, so that a role starts, and comes back, at once.

Its standard input is a UNIX socket. It reads one request a line, ``{"id", "arguments", "environment", "log"}`` and
``"listens": true`` when a listening socket for the role comes along with it (SCM_RIGHTS), and answers on standard
output with ``{"id", "pid"}`` and, when that role has ended, ``{"id", "exit"}``. It ends when its input closes; the
roles end with it, because the kernel signals them.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, Self, TypedDict

from agentnexus.platform.process import LISTENER, die_with_parent

PRELOADED = (
    "agentnexus.bootstrap.roles.api",
    "agentnexus.bootstrap.roles.facilitator",
    "agentnexus.bootstrap.roles.registry",
    "agentnexus.bootstrap.roles.worker",
    "agentnexus.cli.roles",
    "agentnexus.platform.logs",
    "uvloop",
    # uvicorn loads these by name when it starts to serve
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "uvicorn.lifespan.off",
)
CHUNK_BYTES = 65_536
LISTENERS_MAX = 64
FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Order(TypedDict):
    """One role to start: the arguments of `nexus`, what to add to the environment, the file for its output."""

    id: int
    arguments: list[str]
    environment: dict[str, str]
    log: str
    listens: NotRequired[bool]


@dataclass(slots=True)
class Forker:
    """`run` returns None in this process when it is over, and the order in a forked role.

    `listeners` are sockets whose orders are not complete yet: they come in order, and never after their order.
    """

    wake_up: int
    children: dict[int, int]
    orders: socket.socket
    buffer: bytes = b""
    listeners: deque[int] = field(default_factory=deque)

    @classmethod
    def open(cls) -> Self:
        """Let SIGCHLD be seen by `select`."""
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        return cls(reading, {}, socket.socket(fileno=os.dup(0)))

    def run(self) -> Order | None:
        """Serve orders until the input closes; a forked role comes back with its order."""
        while True:
            ready, _, _ = select.select([self.orders.fileno(), self.wake_up], [], [])
            if self.wake_up in ready:
                os.read(self.wake_up, CHUNK_BYTES)
                self._reap()
            if self.orders.fileno() not in ready:
                continue
            data, descriptors, _, _ = socket.recv_fds(self.orders, CHUNK_BYTES, LISTENERS_MAX, FLAGS)
            self.listeners.extend(descriptors)
            if not data:
                return None
            *lines, self.buffer = (self.buffer + data).split(b"\n")
            for line in lines:
                order: Order = json.loads(line)
                if self._fork(order):
                    return order

    def _fork(self, order: Order) -> bool:
        """True in the role, False in the nursery."""
        nursery = os.getpid()
        listener = self.listeners.popleft() if order.get("listens") else None
        pid = os.fork()
        if pid == 0:
            for others in self.listeners:
                os.close(others)
            self.orders.close()
            become_role(order, nursery, listener)
            return True
        if listener is not None:
            os.close(listener)
        self.children[pid] = order["id"]
        _answer({"id": order["id"], "pid": pid})
        return False

    def _reap(self) -> None:
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            identifier = self.children.pop(pid, None)
            if identifier is not None:
                _answer({"id": identifier, "exit": os.waitstatus_to_exitcode(status)})


def become_role(order: Order, nursery: int, listener: int | None) -> None:
    """Turn a fresh fork into a process of its own: session, signals, output, environment, and the socket it serves."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    die_with_parent(signal.SIGTERM, parent=nursery)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    os.environ.update(order["environment"])
    if listener is not None:
        os.environ[LISTENER] = str(listener)
    sys.argv = ["nexus", *order["arguments"]]


def _answer(message: dict[str, int]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def main() -> int:
    """Import, then serve; in a forked role: the exit code of its `nexus` command."""
    from importlib import import_module

    for name in PRELOADED:
        import_module(name)
    from agentnexus.cli.app import nexus

    gc.collect()
    gc.freeze()  # roles share these pages for longer when the collector leaves them alone
    order = Forker.open().run()
    if order is None:
        return 0
    Path("/proc/self/comm").write_text(f"nexus-{order['arguments'][0]}"[:15], encoding="ascii")
    return int(nexus(args=order["arguments"], prog_name="nexus", standalone_mode=False))


if __name__ == "__main__":
    sys.exit(main())
