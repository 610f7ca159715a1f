"""Processes of our own that tests kill at a named step: ``python -m <module> <settings as JSON>``."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from agentnexus.platform.process import free_port, port_open, wait_until_ready


class DoomedProcess:
    """One program on one port; `run` starts it, as often as it was killed.

    The program takes ``port``, ``folder`` and ``hang`` (the step it stops at) among its settings, and creates
    ``hanging`` in the folder when it has stopped.
    """

    def __init__(self, module: str, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._module = module
        self._settings = {**settings, "port": str(self.port), "folder": str(folder)}

    @asynccontextmanager
    async def run(self, hang: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
        settings = json.dumps({**self._settings, "hang": hang})
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", self._module, settings)
        try:
            await wait_until_ready(lambda: port_open("127.0.0.1", self.port), what=self._module, timeout_seconds=60)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def kill_when_hanging(self, process: asyncio.subprocess.Process) -> None:
        async def hanging() -> bool:
            return (self.folder / "hanging").exists()

        await wait_until_ready(hanging, what=f"{self._module} to reach its last step", timeout_seconds=30)
        process.send_signal(signal.SIGKILL)
        await process.wait()
