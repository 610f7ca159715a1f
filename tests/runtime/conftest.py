"""A sandbox for the whole session where the host can isolate; where it cannot, the refusal itself is the test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import pytest_asyncio

from agentnexus.core.errors import IsolationUnavailable, NexusError
from agentnexus.core.updates import Artifact, Log, Progress, Result, Update
from agentnexus.runtime.base import BundleRuntime
from agentnexus.runtime.bundle import Bundle
from agentnexus.runtime.egress import EgressRecord
from agentnexus.runtime.limits import Limits
from agentnexus.runtime.local import probe
from agentnexus.runtime.local.sandbox import LocalSandbox
from agentnexus.runtime.port import RunRequest

HOSTILE = Path(__file__).parent / "hostile"
MANIFEST = """
name = "org.agentnexus.test-{name}"
version = "1.0.0"
title = "Test {name}"
summary = "Tries things."
categories = ["test"]
capability = "test.{capability}"
{top}
[pricing]
per_run = "0.01"
events = [{{ name = "page", price = "0.001", maximum = 5 }}]
[limits]
memory_mib = 128
cpu = 1.0
timeout_seconds = 20
tmp_mib = 8
processes = 24
{rest}
"""
audited: list[tuple[str, EgressRecord]] = []
_numbers = iter(range(1, 1_000_000))


@dataclass
class Ended:
    """Everything one run said, and how it ended."""

    updates: list[Update] = field(default_factory=list)
    error: NexusError | None = None

    @property
    def result(self) -> Result:
        last = self.updates[-1] if self.updates else None
        assert isinstance(last, Result), self.error
        return last

    @property
    def output(self) -> dict[str, object]:
        assert isinstance(self.result.output, dict)
        return self.result.output

    @property
    def logs(self) -> list[Log]:
        return [update for update in self.updates if isinstance(update, Log)]

    @property
    def text(self) -> str:
        return "\n".join(log.message for log in self.logs)

    @property
    def progress(self) -> list[Progress]:
        return [update for update in self.updates if isinstance(update, Progress)]

    @property
    def artifacts(self) -> list[Artifact]:
        return [update for update in self.updates if isinstance(update, Artifact)]


def write_agent(folder: Path, code: str, *, name: str = "custom", top: str = "", rest: str = "") -> Path:
    """An agent's folder with this code as `agent.py`."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {"name": name.replace("_", "-"), "capability": name.replace("-", "_")}
    (folder / "agent.toml").write_text(MANIFEST.format(**words, top=top, rest=rest))
    (folder / "agent.py").write_text(code)
    return folder


async def collect(sandbox: BundleRuntime, bundle: Bundle, value: object, **changes: object) -> Ended:
    """Run to the end. `changes` are fields of `RunRequest`, or `limits`."""
    limits = changes.pop("limits", None)
    assert limits is None or isinstance(limits, Limits)
    request = replace(RunRequest(f"run-{next(_numbers)}", value), **changes)  # type: ignore[arg-type]
    ended = Ended()
    try:
        async for update in sandbox.run(bundle, request, limits):
            ended.updates.append(update)
    except NexusError as error:
        ended.error = error
    return ended


async def _all_here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@contextlib.asynccontextmanager
async def _opened() -> AsyncIterator[LocalSandbox]:
    if any(not check.present for check in probe.checks()):
        with pytest.raises(IsolationUnavailable, match="cannot isolate") as refused:
            await LocalSandbox().__aenter__()
        assert refused.value.next_step
        pytest.skip("this host cannot isolate; its refusal was checked")
    async with LocalSandbox(
        egress_audit=lambda run, row: audited.append((run, row)), egress_resolve=_all_here, egress_loopback=True
    ) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox() -> AsyncIterator[LocalSandbox]:
    """One for all tests that run in the session's loop."""
    async with _opened() as opened:
        yield opened


@pytest.fixture
async def sandbox_once() -> AsyncIterator[LocalSandbox]:
    """One in the test's own loop."""
    async with _opened() as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def hostile(
    sandbox: LocalSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Awaitable[Bundle]]:
    """The prepared bundle of ``hostile/<name>.py``."""
    ready: dict[str, Bundle] = {}

    async def prepared(name: str) -> Bundle:
        if name not in ready:
            folder = tmp_path_factory.mktemp(name)
            code = (HOSTILE / f"{name}.py").read_text()
            ready[name] = await sandbox.prepare(write_agent(folder, code, name=name, top='secrets = ["API_KEY"]'))
        return ready[name]

    return prepared
