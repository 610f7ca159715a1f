"""`nexus up` as a process of its own, read line by line, and everything that belongs to it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from pathlib import Path

import psutil

from agentnexus.platform.process import wait_until_ready

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 100


def environment(home: Path) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("NEXUS_", "DATABASE_URL"))}
    return clean | {"NEXUS_HOME": str(home)}


class Up:
    """A started `nexus up`; `lines` is what it has printed so far."""

    def __init__(self, home: Path, process: Process) -> None:
        self.home = home
        self.process = process
        self.lines: list[str] = []

    @classmethod
    async def start(cls, home: Path, *arguments: str) -> Up:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agentnexus.cli", "up", *arguments,
            cwd=ROOT, env=environment(home), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT,
        )  # fmt: skip
        return cls(home, process)

    async def prints(self, text: str) -> str:
        """The first line with `text`; fails with all output when the command ends without it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"ended without printing {text!r}:\n{''.join(self.lines)}"
                self.lines.append(line)
                if text in line:
                    return line

    async def ends(self) -> tuple[int, str]:
        """Exit code and all output."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            self.lines.append((await self.process.stdout.read()).decode())
            return await self.process.wait(), "".join(self.lines)

    def family(self) -> list[psutil.Process]:
        """It and all its descendants, as they are now."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def facts(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.home / "devnet.json").read_text())
        return found

    async def nexus(self, *arguments: str) -> tuple[int, str, str]:
        """Another `nexus` command in the same home: exit code, standard output, standard error."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agentnexus.cli", *arguments,
            cwd=ROOT, env=environment(self.home), stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


async def gone(family: list[psutil.Process]) -> None:
    """Wait until none of them runs any more."""

    async def none_left() -> bool:
        return not [each for each in family if running(each)]

    await wait_until_ready(none_left, what=f"the end of {[running(each) for each in family]}", timeout_seconds=30)


def running(process: psutil.Process) -> str:
    """What it is, empty when it has ended."""
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else process.name()
    except psutil.NoSuchProcess:
        return ""
