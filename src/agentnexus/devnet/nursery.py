"""Our end of the nursery: ask it for roles, and learn when they end."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from agentnexus.core.errors import Unavailable
from agentnexus.platform.process import die_with_parent

# One thread for linear algebra: none of ours is large, and a process with threads should not be forked.
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
GONE = -signal.SIGKILL


class Forked:
    """A role made by the nursery, with the part of asyncio's process interface that we use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def returncode(self) -> int | None:
        return self.ended.result() if self.ended.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    def send_signal(self, sign: int) -> None:
        if not self.ended.done():
            with suppress(ProcessLookupError):  # it has ended, and the news is on its way
                os.kill(self.pid, sign)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The nursery process and its roles; started at the first need and again after it was killed."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._numbers = itertools.count(1)
        self._orders: socket.socket | None = None
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._born: dict[int, asyncio.Future[Forked]] = {}
        self._roles: dict[int, Forked] = {}

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Let it import while other things start; does nothing while it runs."""
        async with self._starting:
            if self.pid is not None:
                return
            self._log.parent.mkdir(parents=True, exist_ok=True)
            self._close_orders()
            self._orders, theirs = socket.socketpair()
            with self._log.open("ab") as log, theirs:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "agentnexus.cli.nursery",
                    env={**os.environ, **SINGLE_THREADED},
                    stdin=theirs.fileno(),
                    stdout=PIPE,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=partial(die_with_parent, signal.SIGKILL, parent=os.getpid()),
                )
            self._reader = asyncio.create_task(self._read(self._process), name="nursery")

    async def spawn(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        listener: socket.socket | None = None,
    ) -> Forked:
        """Start ``nexus <arguments>``, which serves on `listener`; raises `Unavailable` when the nursery ends before.

        The listener stays ours: a role that is started again gets the same one, and nobody else ever has its port.
        """
        await self.start()
        assert self._orders is not None
        number = next(self._numbers)
        born: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
        self._born[number] = born
        order = {"id": number, "arguments": list(arguments), "environment": dict(environment), "log": str(log)}
        line = json.dumps(order | {"listens": listener is not None}).encode() + b"\n"
        with suppress(OSError):  # it has ended: whoever reads its answers ends the waiting
            socket.send_fds(self._orders, [line], [listener.fileno()] if listener else [])
        try:
            return await born
        finally:
            self._born.pop(number, None)

    async def stop(self) -> None:
        """End the nursery; roles that still run are signalled by the kernel."""
        process, reader = self._process, self._reader
        if process is None or reader is None:
            return
        self._close_orders()
        if process.returncode is None and not self._roles:
            process.kill()  # it may still be importing; there is nothing to lose
        await process.wait()
        await reader

    def _close_orders(self) -> None:
        orders, self._orders = self._orders, None
        if orders is not None:
            orders.close()

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            message: dict[str, int] = json.loads(line)
            number = message["id"]
            if "pid" in message:
                role = self._roles[number] = Forked(message["pid"])
                born = self._born.get(number)
                if born is not None and not born.done():
                    born.set_result(role)
                else:
                    role.kill()  # whoever asked was cancelled meanwhile
            elif (ended := self._roles.pop(number, None)) is not None:
                ended.ended.set_result(message["exit"])
        await process.wait()
        self._lose(process)

    def _lose(self, process: Process) -> None:
        """The nursery has ended, and its roles with it."""
        for role in self._roles.values():
            role.kill()  # the kernel's signal lets it finish requests, but its port is needed now
            role.ended.set_result(GONE)
        self._roles.clear()
        error = Unavailable(
            f"the process that starts the roles ended with code {process.returncode}", next_step=f"see {self._log}"
        )
        for born in self._born.values():
            if not born.done():
                born.set_exception(error)
