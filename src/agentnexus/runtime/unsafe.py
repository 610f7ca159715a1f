"""`--unsafe-local`: agents as plain child processes, for code you trust on a machine that cannot isolate.

There are limits on memory, files, CPU and time, but an agent can read what you can read and reach what you can reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Self

from agentnexus.runtime import agent_side
from agentnexus.runtime.base import BundleRuntime
from agentnexus.runtime.bundle import Bundle
from agentnexus.runtime.limits import Limits
from agentnexus.runtime.local import warden
from agentnexus.runtime.local.run import Ends, LocalRun
from agentnexus.runtime.port import RunRequest
from agentnexus.runtime.supervisor import Supervisor
from agentnexus.runtime.text import Redactor

_PACKET_BYTES = 64


class UnsafeLocal(BundleRuntime):
    """A `Runtime` without isolation. Everything else (schemas, limits, redaction, verdicts) is as in the sandbox."""

    async def __aenter__(self) -> Self:
        await self._open_workspace("unsafe")
        return self

    @contextlib.asynccontextmanager
    async def _start(
        self, bundle: Bundle, folder: Path, limits: Limits, supervisor: Supervisor, request: RunRequest
    ) -> AsyncIterator[LocalRun]:
        ends = Ends.make()
        frames, stdout, stderr, far_lifeline = ends.far
        lifeline = socket.socket(fileno=os.dup(far_lifeline))
        lifeline.setblocking(False)
        with tempfile.TemporaryDirectory(dir=self._workspace) as scratch:
            with contextlib.ExitStack() as undo:
                undo.callback(ends.close)
                undo.callback(lifeline.close)
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-m", "agentnexus.runtime.unsafe"),
                    *(str(frames), str(folder), bundle.manifest.entry, str(limits.timeout_seconds)),
                    *(str(limits.memory_bytes), str(limits.open_files), str(limits.tmp_bytes)),
                    pass_fds=[frames],
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    cwd=scratch,
                    env={"PATH": os.defpath, "HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8"},
                    start_new_session=True,
                )
                undo.pop_all()
            ends.close_far()
            watch = asyncio.create_task(_watch(process, lifeline, limits.timeout_seconds))
            redact = Redactor(request.secrets)
            try:
                yield LocalRun(ends, supervisor, limits=limits, redact=redact, agent=bundle.name, proxy=None)
            finally:
                await watch


async def _watch(process: asyncio.subprocess.Process, lifeline: socket.socket, timeout_seconds: float) -> None:
    """What the warden does in the sandbox: end the process group at the deadline or on demand, then report."""
    started = time.monotonic()
    ended_by = "itself"
    orders = asyncio.create_task(_obey(process, lifeline))
    try:
        async with asyncio.timeout(timeout_seconds):
            await process.wait()
    except TimeoutError:
        ended_by = "timeout"
    _kill_group(process)
    code = await process.wait()
    if orders.done() and ended_by == "itself":
        ended_by = "supervisor"
    orders.cancel()
    await asyncio.gather(orders, return_exceptions=True)
    wall_ms = int((time.monotonic() - started) * 1000)
    report = warden.Exit(max(code, 0), max(-code, 0), ended_by, wall_ms, 0, 0, 0, 0)
    with contextlib.suppress(OSError):
        lifeline.send(warden.EXIT_PREFIX + json.dumps(asdict(report)).encode())
    lifeline.close()


async def _obey(process: asyncio.subprocess.Process, lifeline: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    packet = await loop.sock_recv(lifeline, _PACKET_BYTES)
    if packet.startswith(warden.TERMINATE_PREFIX):
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(packet.removeprefix(warden.TERMINATE_PREFIX))):
                await loop.sock_recv(lifeline, _PACKET_BYTES)
    _kill_group(process)


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _main(arguments: list[str]) -> None:
    """The child: limits on, then the agent."""
    frames, folder, entry = socket.socket(fileno=int(arguments[0])), Path(arguments[1]), arguments[2]
    timeout_seconds, memory_bytes, open_files, file_bytes = float(arguments[3]), *map(int, arguments[4:])
    wanted = {
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_NOFILE: open_files,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: int(timeout_seconds) + 5,
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    agent_side.serve_one(frames, folder, entry, timeout_seconds)


if __name__ == "__main__":
    _main(sys.argv[1:])
