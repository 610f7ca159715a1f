"""The supervisor's side of a zygote: starts it, hands it runs, notices its death and starts it again with back-off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentnexus.core.errors import AgentFailed, InvalidInput, IsolationUnavailable
from agentnexus.runtime.local.zygote import MAX_PACKET_BYTES

START_SECONDS = 120.0
MAX_FAILED_STARTS = 4
FIRST_BACK_OFF_SECONDS = 0.1
# No token of the supervisor may be in here: the zygote's memory is what every agent's memory starts from.
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(slots=True)
class _Process:
    process: asyncio.subprocess.Process
    control: socket.socket


class Zygote:
    """One preloaded Python for all agents that want the same modules. `launch` starts or restarts it as needed."""

    def __init__(self, preload: Sequence[str], workspace: Path, prefix: str) -> None:
        self._preload = tuple(preload)
        self._workspace = workspace
        self._prefix = prefix
        self._current: _Process | None = None
        self._lock = asyncio.Lock()
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """Of the living process."""
        return self._current.process.pid if self._current and self._current.process.returncode is None else None

    async def start(self) -> None:
        """Make sure that it runs and is ready. Raises `AgentFailed` after too many failed starts."""
        await self._alive()

    async def launch(self, order: Mapping[str, object], fds: Sequence[int]) -> None:
        """Fork a run; the far ends in `fds` (frames, stdout, stderr, lifeline) stay the caller's to close."""
        packet = json.dumps(order).encode()
        if len(packet) > MAX_PACKET_BYTES:
            raise AgentFailed("The order for the run is too long.", next_step="Use a shorter folder name.")
        for _ in range(MAX_FAILED_STARTS):
            current = await self._alive()
            try:
                await _send(current.control, packet, fds)
            except (BrokenPipeError, ConnectionResetError):
                await self._discard(current)
            else:
                return
        raise AgentFailed("The sandbox helper keeps ending.", next_step="See the operator's log.")

    async def close(self) -> None:
        if self._current is not None:
            await self._discard(self._current)

    async def _alive(self) -> _Process:
        async with self._lock:
            if self.pid is not None and self._current is not None:
                return self._current
            if self._current is not None:
                await self._discard(self._current)
            back_off = FIRST_BACK_OFF_SECONDS
            for attempt in range(1, MAX_FAILED_STARTS + 1):
                try:
                    self._current = await self._begin()
                except AgentFailed:
                    if attempt == MAX_FAILED_STARTS:
                        raise
                    await asyncio.sleep(back_off)
                    back_off *= 4
                else:
                    return self._current
            raise AssertionError("the loop returns or raises")

    async def _begin(self) -> _Process:
        root = self._workspace / "root"
        await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        arguments = ("-I", "-m", "agentnexus.runtime.local.zygote", str(theirs.fileno()), str(os.getpid()))
        self.starts += 1
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                pass_fds=[theirs.fileno()],
                env=_ENVIRONMENT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        current = _Process(process, ours)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(self._discard, current)
            await self._wait_until_ready(current, root)
            undo.pop_all()
        return current

    async def _wait_until_ready(self, current: _Process, root: Path) -> None:
        setup = {"root": str(root), "preload": self._preload, "prefix": self._prefix}
        try:
            async with asyncio.timeout(START_SECONDS):
                packet = await _ask(current.control, json.dumps(setup).encode())
            answer = json.loads(packet) if packet else {"failed": "it ended"}
        except (TimeoutError, ConnectionError) as error:
            answer = {"failed": str(error) or "it took too long"}
        if "preload" in answer:
            raise InvalidInput(
                f"agent.toml, preload: {answer['preload']}", next_step="Name installed modules.", field="preload"
            )
        failed = str(answer.get("failed", ""))
        if "Operation not permitted" in failed or "cgroup" in failed:
            raise IsolationUnavailable(
                f"This host cannot isolate agents: {failed}",
                next_step="`nexus doctor` lists what is missing and how to get it.",
            )
        if failed:
            raise AgentFailed(
                f"The sandbox helper did not start: {failed}", next_step="`nexus doctor` checks the host."
            )

    async def _discard(self, current: _Process) -> None:
        if self._current is current:
            self._current = None
        current.control.close()
        if current.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                current.process.kill()
        await current.process.wait()


async def _send(control: socket.socket, packet: bytes, fds: Sequence[int]) -> None:
    """One packet with descriptors; waits for room without holding up the loop."""
    while True:
        try:
            socket.send_fds(control, [packet], fds)
        except BlockingIOError:
            await _writable(control)
        else:
            return


async def _writable(control: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(control, wake)
    try:
        await ready
    finally:
        loop.remove_writer(control)


async def _ask(control: socket.socket, setup: bytes) -> bytes:
    """Send and read the answer. Who ended before reading has reset the socket; what it said first is still there."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(BrokenPipeError):
        await loop.sock_sendall(control, setup)
    try:
        return await loop.sock_recv(control, MAX_PACKET_BYTES)
    except ConnectionResetError:
        return await loop.sock_recv(control, MAX_PACKET_BYTES)
