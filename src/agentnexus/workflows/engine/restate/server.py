"""A Restate server of our own, for development and tests: one process on 127.0.0.1, without telemetry."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
from asyncio.subprocess import DEVNULL, STDOUT, Process
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from agentnexus.core.errors import Unavailable
from agentnexus.platform.process import die_with_parent, free_port, wait_until_ready

START_SECONDS = 60.0
STOP_SECONDS = 10.0
CONFIGURATION = """
disable-telemetry = true
default-num-partitions = {partitions}
rocksdb-total-memory-size = "{memory_mib}.0 MiB"
shutdown-timeout = "5s"
log-filter = "warn"
log-disable-ansi-codes = true
listen-mode = "tcp"
[worker.invoker]
eager-state-size-limit = "1.0 MiB"
concurrent-invocations-limit = 1000
[admin]
bind-address = "127.0.0.1:{admin}"
advertised-address = "http://127.0.0.1:{admin}/"
disable-web-ui = true
[ingress]
bind-address = "127.0.0.1:{ingress}"
advertised-address = "http://127.0.0.1:{ingress}/"
"""


def find_restate() -> Path:
    """The binary: ``NEXUS_RESTATE_SERVER``, the npm package of this platform, or the PATH. Raises `Unavailable`."""
    named = os.environ.get("NEXUS_RESTATE_SERVER")
    if named:
        return Path(named)
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine().lower())
    package = f"node_modules/@restatedev/restate-server-{platform.system().lower()}-{machine}/bin/restate-server"
    for root in (Path.cwd(), *Path(__file__).resolve().parents):
        if (root / package).is_file():
            return root / package
    on_path = shutil.which("restate-server")
    if on_path:
        return Path(on_path)
    raise Unavailable(
        "restate-server is not installed",
        next_step="run `npm ci` in the project folder, or set NEXUS_RESTATE_SERVER; or NEXUS_ENGINE=postgres",
    )


class RestateServer:
    """``async with RestateServer(folder) as server``: stops with the block and with this process.

    `folder` keeps its data, so that it can be started again. Each of the `partitions` has a log of its own: more of
    them cost a single machine more than they give it.
    """

    def __init__(self, folder: Path, *, partitions: int = 1, memory_mib: int = 256) -> None:
        self._folder = folder
        self._partitions = partitions
        self._memory_mib = memory_mib
        self._ports = (free_port(), free_port(), free_port())
        self._process: Process | None = None

    @property
    def ingress_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[1]}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it, or start it again on its data. Raises `Unavailable` with its log when it does not come up."""
        binary = find_restate()
        self._folder.mkdir(parents=True, exist_ok=True)
        ingress, admin, node = self._ports
        configuration = self._folder / "restate.toml"
        configuration.write_text(
            CONFIGURATION.format(partitions=self._partitions, memory_mib=self._memory_mib, ingress=ingress, admin=admin)
        )
        with (self._folder / "restate.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                binary, "-c", configuration, "--bind-ip", "127.0.0.1", "--bind-port", str(node),
                "--advertised-host", "127.0.0.1", "--node-name", "nexus", "--base-dir", self._folder / "data",
                "--no-logo",
                stdin=DEVNULL, stdout=log, stderr=STDOUT, preexec_fn=partial(die_with_parent, parent=os.getpid()),
            )  # fmt: skip
        await wait_until_ready(self._answers, what="restate-server", timeout_seconds=START_SECONDS)

    async def stop(self) -> None:
        """Ask it to stop, and make it after some seconds."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it without a word, as a power cut would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _answers(self) -> bool:
        """Up when it can also be asked about its state: its partitions have leaders then."""
        if self._process is not None and self._process.returncode is not None:
            log = (self._folder / "restate.log").read_text(errors="replace")[-1000:]
            raise Unavailable(f"restate-server ended with {self._process.returncode}: {log}")
        try:
            async with httpx.AsyncClient() as client:
                question = {"query": "select count(*) as entries from state"}
                accept = {"accept": "application/json"}
                answer = await client.post(f"{self.admin_url}/query", json=question, headers=accept)
                health = await client.get(f"{self.ingress_url}/restate/health")
        except httpx.HTTPError:
            return False
        return answer.is_success and health.is_success
