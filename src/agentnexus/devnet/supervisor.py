"""Child processes of the economy: started together, restarted when they crash, ended with us however we end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from agentnexus.core.errors import Unavailable
from agentnexus.devnet.nursery import Nursery
from agentnexus.platform.process import die_with_parent

FIRST_DELAY_SECONDS = 0.05
LAST_DELAY_SECONDS = 5.0
STOP_SECONDS = 10.0
QUICK_DEATHS_MAX = 5


class Running(Protocol):
    """What we need of a running program: asyncio's processes and the nursery's roles have it."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...

    def send_signal(self, signal: int, /) -> None: ...

    def kill(self) -> None: ...


class Child:
    """One supervised program. `restarts` counts how often it came back after a crash.

    With a `nursery` the arguments are those of `nexus` and the program is forked there, to serve on `listener`.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        nursery: Nursery | None = None,
        *,
        listener: socket.socket | None = None,
    ) -> None:
        self.name = name
        self.restarts = 0
        self.failure = ""
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._nursery = nursery
        self._listener = listener
        self._log = log
        self._process: Running | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start the program and keep it running from now on."""
        await self._spawn()
        self._watch = asyncio.create_task(self._keep_running(), name=f"watch-{self.name}")

    async def stop(self) -> None:
        """Ask it to end, insist after ten seconds."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def log_tail(self, characters: int = 1500) -> str:
        """The end of what it printed, for error messages."""
        return self._log.read_text(errors="replace")[-characters:] if self._log.exists() else ""

    def require_alive(self) -> None:
        """Raises `Unavailable` with the log's end when it keeps crashing."""
        if self.failure:
            raise Unavailable(f"{self.name} keeps ending: {self.failure}", next_step=f"see {self._log}")

    async def _spawn(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        if self._nursery is not None:
            self._process = await self._nursery.spawn(self._arguments, self._environment, self._log, self._listener)
            return
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments,
                env={**os.environ, **self._environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches us only, and we end the children in order
                preexec_fn=partial(die_with_parent, signal.SIGTERM, parent=os.getpid()),
            )

    async def _keep_running(self) -> None:
        quick = 0
        delay = FIRST_DELAY_SECONDS
        while not self._stopping:
            assert self._process is not None
            quick += 1
            try:
                async with asyncio.timeout(LAST_DELAY_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                quick, self.failure = 0, ""
                await self._process.wait()
            if quick >= QUICK_DEATHS_MAX:
                self.failure = self.log_tail(400) or f"exit code {self._process.returncode}"
            delay = min(delay * 2, LAST_DELAY_SECONDS) if quick > 1 else FIRST_DELAY_SECONDS
            await asyncio.sleep(delay)
            self.restarts += 1
            try:
                await self._spawn()
            except Unavailable as error:
                self.failure = error.message
