"""The supervisor's side of one run: its four streams in, updates out, and the one verdict at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from agentnexus.core.errors import AgentFailed, AgentTimeout, LimitExceeded, NexusError
from agentnexus.core.updates import Update
from agentnexus.runtime.limits import Limits
from agentnexus.runtime.local import warden, wire
from agentnexus.runtime.supervisor import Supervisor, cancelled, exceeded
from agentnexus.runtime.text import Lines, Redactor

_CHUNK_BYTES = 64 * 1024
_PACKET_BYTES = 4096
_QUEUE_LENGTH = 256
# Base64 makes a third more of a file, names and punctuation a little.
_FRAME_EXTRA_BYTES = 64 * 1024

Proxy = Callable[[socket.socket], Awaitable[None]]
"""Serves an agent's way to the allowed hosts on a listening socket until cancelled."""


@dataclass(slots=True)
class Ends:
    """Both ends of a run's streams; the far ones go to the zygote and are closed here at once."""

    frames: socket.socket
    lifeline: socket.socket
    stdout: int
    stderr: int
    far: list[int] = field(default_factory=list)

    @classmethod
    def make(cls) -> Ends:
        frames, far_frames = socket.socketpair()
        lifeline, far_lifeline = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (frames, lifeline):
            end.setblocking(False)
        (stdout, far_stdout), (stderr, far_stderr) = os.pipe(), os.pipe()
        far = [far_frames.detach(), far_stdout, far_stderr, far_lifeline.detach()]
        return cls(frames, lifeline, stdout, stderr, far)

    def close_far(self) -> None:
        while self.far:
            os.close(self.far.pop())

    def close(self) -> None:
        """All of them, for a run that never began."""
        self.close_far()
        self.frames.close()
        self.lifeline.close()
        os.close(self.stdout)
        os.close(self.stderr)


class LocalRun:
    """One run. `updates` may be iterated once; leaving it early ends every process of the run."""

    def __init__(
        self, ends: Ends, supervisor: Supervisor, *, limits: Limits, redact: Redactor, agent: str, proxy: Proxy | None
    ) -> None:
        self._ends = ends
        self._supervisor = supervisor
        self._limits = limits
        self._redact = redact
        self._agent = agent
        self._proxy = proxy
        self._queue: asyncio.Queue[Update | None] = asyncio.Queue(_QUEUE_LENGTH)
        self._error: NexusError | None = None
        self._cancelled = False
        self._proxy_task: asyncio.Task[None] | None = None
        self._discarded_bytes = 0
        self.exit: warden.Exit | None = None

    async def updates(self, request: Mapping[str, object]) -> AsyncGenerator[Update, None]:
        """Send the request, pass on what the agent says. Raises what went wrong; returns after all processes ended."""
        reader, writer = await asyncio.open_unix_connection(sock=self._ends.frames)
        watch = asyncio.create_task(self._lifeline())
        # The far ends of these three close when the run's processes are gone, so they end by themselves.
        streams = [
            asyncio.create_task(self._frames(reader, writer, request)),
            asyncio.create_task(self._printed(self._ends.stdout, "info")),
            asyncio.create_task(self._printed(self._ends.stderr, "warning")),
        ]
        whole = asyncio.create_task(self._whole(watch, streams))
        try:
            while (update := await self._queue.get()) is not None:
                yield update
            await whole
        finally:
            self._kill()
            for task in streams:
                task.cancel()
            await asyncio.gather(*streams, return_exceptions=True)
            await _shielded(watch)
            whole.cancel()
            await asyncio.gather(whole, return_exceptions=True)
            writer.close()
            self._ends.lifeline.close()
            if self._proxy_task is not None:
                self._proxy_task.cancel()
                await asyncio.gather(self._proxy_task, return_exceptions=True)
        self._judge()

    def terminate(self, grace_seconds: float) -> None:
        """Ask the agent to stop; the warden ends it after the grace."""
        self._cancelled = True
        with contextlib.suppress(OSError):
            self._ends.lifeline.send(warden.TERMINATE_PREFIX + f"{grace_seconds:.3f}".encode())

    async def _whole(self, watch: asyncio.Task[None], streams: Iterable[asyncio.Task[None]]) -> None:
        await watch
        await asyncio.gather(*streams)
        await self._queue.put(None)

    async def _frames(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Mapping[str, object]
    ) -> None:
        limit = max(self._limits.output_bytes, self._limits.artifact_bytes * 4 // 3) + _FRAME_EXTRA_BYTES
        sending = asyncio.create_task(_send(writer, request))
        try:
            while (frame := await wire.read(reader, limit)) is not None:
                await self._put(self._supervisor.frame(frame))
                if self._supervisor.outcome is not None:
                    break
        except wire.BadFrame as error:
            self._fail(self._broken(str(error)))
        except NexusError as error:
            self._fail(error)
        except ConnectionError:
            pass  # The agent ended with words of ours unread; the exit report says why.
        finally:
            self._kill()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _printed(self, descriptor: int, level: str) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_CHUNK_BYTES)
        pipe = os.fdopen(descriptor, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        lines = Lines(self._redact)
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                self._discarded_bytes += len(chunk)
                if self._discarded_bytes > self._limits.log_flood_bytes:
                    self._fail(exceeded("log", f"{self._limits.log_flood_bytes} bytes of printed text"))
                    return
                await self._lines(lines.feed(chunk), level)
            await self._lines(lines.feed(b"", final=True), level)
        finally:
            transport.close()

    async def _lines(self, lines: Iterable[str], level: str) -> None:
        for line in lines:
            if not self._supervisor.silent:
                await self._put(self._supervisor.log(line, level))

    async def _put(self, updates: Iterable[Update]) -> None:
        for update in updates:
            await self._queue.put(update)

    async def _lifeline(self) -> None:
        """Until the warden reports the end, or is gone itself."""
        while True:
            packet, descriptors = await receive(self._ends.lifeline)
            if descriptors:
                self._serve_proxy(socket.socket(fileno=descriptors[0]))
            elif packet.startswith(warden.EXIT_PREFIX):
                self.exit = warden.Exit.parse(packet)
                return
            elif packet.startswith(warden.BROKEN_PREFIX):
                reason = packet.removeprefix(warden.BROKEN_PREFIX).decode(errors="replace")
                self._fail(AgentFailed(f"The sandbox could not start: {reason}", next_step="Try again."))
            elif not packet:
                return

    def _serve_proxy(self, listener: socket.socket) -> None:
        if self._proxy is None or self._proxy_task is not None:
            listener.close()
            return
        self._proxy_task = asyncio.ensure_future(self._proxy(listener))

    def _fail(self, error: NexusError) -> None:
        self._error = self._error or error
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            self._ends.lifeline.send(b"kill")

    def _judge(self) -> None:
        """Raise what ended the run, unless it delivered."""
        if self._error is not None:
            raise self._error
        end, said = self.exit, self._supervisor.outcome
        failure = self._supervisor.failure() if said is not None else None
        if said is not None and failure is None:
            return
        if self._cancelled:
            raise cancelled(self._agent)
        if end is None:
            raise AgentFailed(
                "The sandbox ended before the agent did.", next_step="Try again.", agent=self._agent, lost=True
            )
        if end.ended_by == "timeout":
            seconds = f"{self._limits.timeout_seconds:g}"
            raise AgentTimeout(
                f"The agent was not done after {seconds} seconds; its run was ended.",
                next_step="Send less, or allow more time.",
                agent=self._agent,
            )
        raise self._hit_limit(end) or failure or self._silent_end(end)

    def _hit_limit(self, end: warden.Exit) -> LimitExceeded | None:
        if end.oom_kills:
            return exceeded("memory", f"{self._limits.memory_bytes} bytes")
        if end.process_limit_hits:
            return exceeded("processes", f"{self._limits.processes} at a time")
        return None

    def _silent_end(self, end: warden.Exit) -> AgentFailed:
        how = f"by signal {end.signal}" if end.signal else f"with exit code {end.code}"
        return AgentFailed(
            f"The agent ended {how} and gave no result.", next_step="Its log may say more.", agent=self._agent
        )

    def _broken(self, how: str) -> NexusError:
        if "longer than" in how:
            return exceeded("output", f"{self._limits.output_bytes} bytes")
        return AgentFailed(
            f"The agent broke the protocol: {how}.", next_step="Hire another agent.", agent=self._agent, misbehaved=True
        )


async def _send(writer: asyncio.StreamWriter, request: Mapping[str, object]) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(await asyncio.to_thread(wire.encode, request))
        await writer.drain()


async def receive(lifeline: socket.socket) -> tuple[bytes, list[int]]:
    """One packet; empty when the warden is gone. asyncio has no call that also takes descriptors."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            packet, descriptors, _, _ = socket.recv_fds(lifeline, _PACKET_BYTES, 1)
        except BlockingIOError:
            await _readable(loop, lifeline)
        except ConnectionResetError:
            # The warden left a packet of ours unread. The kernel says so once, before its own last report.
            continue
        else:
            return packet, descriptors


async def _readable(loop: asyncio.AbstractEventLoop, lifeline: socket.socket) -> None:
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(lifeline, wake)
    try:
        await ready
    finally:
        loop.remove_reader(lifeline)


async def _shielded(task: asyncio.Task[None]) -> None:
    """Wait for the end of the processes even while being cancelled: it is a matter of milliseconds after a kill."""
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted
