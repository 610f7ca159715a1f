"""Environments of their own for libraries that are measured beside ours and are no part of the project."""

from __future__ import annotations

import asyncio
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

FOLDER = Path(".nexus/bench")
INSTALL_SECONDS = 120.0
RUN_SECONDS = 60.0


class PeerMissing(Exception):
    """The peer cannot be installed or run here; the benchmark says so and goes on."""


async def peer_output(requirement: str, script: Path, *arguments: str) -> str:
    """What `script` prints under a Python that has `requirement` (``name==version``); raises `PeerMissing`."""
    python = await _python_with(requirement)
    return await _run(RUN_SECONDS, str(python), str(script), *arguments)


async def _python_with(requirement: str) -> Path:
    """The Python of the requirement's own environment, made at first use."""
    place = FOLDER / requirement.replace("==", "-")
    python, ready = place / "bin/python", place / "ready"
    if ready.exists():
        return python
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise PeerMissing("there is no uv to install it with")
    await _run(INSTALL_SECONDS, uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place))
    await _run(INSTALL_SECONDS, uv, "pip", "install", "--quiet", "--python", str(python), requirement)
    ready.touch()
    return python


async def _run(seconds: float, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(seconds):
            output, complaint = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise PeerMissing(f"{Path(command[0]).name} did not end within {seconds:.0f} s") from None
    if process.returncode != 0:
        raise PeerMissing(f"{Path(command[0]).name} failed: {complaint.decode(errors='replace')[-300:]}")
    return output.decode()
