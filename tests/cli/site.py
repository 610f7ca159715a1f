"""A node for the command line to talk to: a real application on a real port, and people with homes of their own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from click.testing import CliRunner
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from agentnexus.cli.app import nexus
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.process import free_port
from agentnexus.rails.evm.signer import DEVELOPMENT_ACCOUNTS, DEVELOPMENT_MNEMONIC, derive_key, signer_from_hex


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, object]:
        answer: dict[str, object] = json.loads(self.stdout)
        return answer


@dataclass(frozen=True)
class Terminal:
    """Somebody's: `home` is their NEXUS home."""

    url: str
    home: Path

    async def run(self, *arguments: str, typed: str | None = None) -> Done:
        """In a thread: the command has a loop of its own."""
        clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith("NEXUS_")}
        environment = {**clean, "NEXUS_API_URL": self.url, "NEXUS_HOME": str(self.home)}
        result = await asyncio.to_thread(
            CliRunner().invoke, nexus, arguments, input=typed, env=environment, standalone_mode=False
        )
        assert result.exception is None, result.output
        return Done(result.return_value, result.stdout, result.stderr)

    async def told(self, *arguments: str) -> dict[str, object]:
        """The JSON of a command that succeeds."""
        done = await self.run(*arguments, "--json")
        assert done.code == 0, done.stdout + done.stderr
        return done.json


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The address of the application. Its log stays out of what commands print in the same process."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", lifespan="off"))
    with capture_logs():
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{port}"
            server.should_exit = True
            await serving


def key_file(folder: Path, secret: str, name: str = "key") -> Path:
    """A file with a hex key, for its owner only."""
    path = folder / name
    path.write_text(secret)
    path.chmod(0o600)
    return path


def key_of(chain: DevelopmentChain, account: str, folder: Path) -> Path:
    """A file with the key of one of the chain's accounts."""
    secrets = [derive_key(DEVELOPMENT_MNEMONIC, index).hex() for index in range(DEVELOPMENT_ACCOUNTS)]
    address, kind = chain.accounts[account].address, chain.network.kind
    (secret,) = [each for each in secrets if signer_from_hex(each, kind).public_id == address]
    return key_file(folder, secret, account)
