"""The process that runs are forked from: it has the heavy imports done, holds no secret, and never loads agent code.

Started as ``python -I -m agentnexus.runtime.local.zygote CONTROL_FD PARENT_PID``; talks packets over CONTROL_FD.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

from agentnexus.runtime.local import cgroups, guest, jail, kernel, seccomp, warden

MAX_PACKET_BYTES = 64 * 1024
FDS_PER_RUN = 4
# Imported ahead of any run: what most agents and the SDK use on their way.
COMMON_MODULES = ("base64", "csv", "datetime", "decimal", "email", "io", "re", "statistics", "uuid", "zipfile")


def main(control_fd: int, parent_pid: int) -> int:
    """Until the supervisor closes the control socket."""
    kernel.die_with_parent()
    if os.getppid() != parent_pid:
        return 1
    control = socket.socket(fileno=control_fd)
    setup = json.loads(control.recv(MAX_PACKET_BYTES))
    try:
        host = cgroups.find()
        if isinstance(host, str):
            raise OSError(host)
        root = Path(setup["root"])
        os.umask(0o022)  # agents must pass the folders of the skeleton, whatever the operator's habits are
        jail.build(root)
        program = seccomp.compile_filter()
        cgroups.sweep(host, setup["prefix"])
        for name in (*COMMON_MODULES, *setup["preload"]):
            importlib.import_module(name)
    except ImportError as error:
        control.send(json.dumps({"preload": str(error)}).encode())
        return 1
    except (OSError, RuntimeError) as error:
        control.send(json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode())
        return 1
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    kernel.last_capability()
    gc.collect()
    gc.disable()
    gc.freeze()
    control.send(json.dumps({"ready": os.getpid(), "threads": _threads()}).encode())
    _serve(control, host, root, program)
    return 0


def _serve(control: socket.socket, host: cgroups.Host, root: Path, program: bytes) -> None:
    own_pid = os.getpid()
    while True:
        packet, fds, _, _ = socket.recv_fds(control, MAX_PACKET_BYTES, FDS_PER_RUN)
        if not packet:
            return
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            wanted = json.loads(packet)
            order = guest.Order(**{**wanted, "root": root, "folder": Path(wanted["folder"])})
            warden.main(order, host, program, fds, own_pid)
        for descriptor in fds:
            os.close(descriptor)


def _threads() -> int:
    """More than one is a danger: a lock held by another thread at the fork is held for ever in the child."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
