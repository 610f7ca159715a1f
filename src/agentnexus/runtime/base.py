"""What all runtimes on this machine share: schemas, staging by content hash, places and queue, the final verdict."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from agentnexus.core.clock import SystemEntropy
from agentnexus.core.errors import AgentFailed, Conflict, InvalidInput, Unavailable
from agentnexus.core.ports import Entropy
from agentnexus.core.updates import Result, Update
from agentnexus.runtime.bundle import IGNORED_FOLDERS, Bundle, hash_folder, read_bundle
from agentnexus.runtime.limits import MAXIMUM, Limits
from agentnexus.runtime.local.cgroups import process_lives
from agentnexus.runtime.local.run import LocalRun
from agentnexus.runtime.port import RunRequest
from agentnexus.runtime.supervisor import Supervisor, check_input, check_output, check_schema
from agentnexus.runtime.text import Redactor

DESCRIBE_SECONDS = 60.0
DEFAULT_QUEUE_LENGTH = 100


@dataclass(slots=True)
class _Line:
    """Runs of one agent: those going on and those waiting."""

    slots: asyncio.Semaphore
    waiting: int = 0


class BundleRuntime(ABC):
    """A `Runtime` without the one thing that differs: how a process is started (`_start`)."""

    def __init__(
        self, *, maximum: Limits = MAXIMUM, queue_length: int = DEFAULT_QUEUE_LENGTH, entropy: Entropy | None = None
    ) -> None:
        self._maximum = maximum
        self._queue_length = queue_length
        self._entropy = entropy or SystemEntropy()
        self._workspace: Path | None = None
        self._lines: dict[str, _Line] = {}
        self._runs: dict[str, LocalRun] = {}
        self._staging = asyncio.Lock()

    async def _open_workspace(self, kind: str) -> None:
        self._workspace = await asyncio.to_thread(_make_workspace, kind)

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every run and helper; what is iterated elsewhere ends with `AgentFailed`."""
        for run in list(self._runs.values()):
            run.terminate(0)
        if self._workspace is not None:
            await asyncio.to_thread(shutil.rmtree, self._workspace, ignore_errors=True)
            self._workspace = None

    async def prepare(self, folder: Path) -> Bundle:
        """Read an agent's folder, load its code once inside the sandbox, and learn its schemas; warms its zygote."""
        bundle = await asyncio.to_thread(read_bundle, folder)
        limits = replace(self._limits(bundle, None), timeout_seconds=DESCRIBE_SECONDS)
        request = RunRequest(f"describe-{self._entropy.random_bytes(8).hex()}", None)
        supervisor = Supervisor(limits, Redactor({}), {}, bundle.name)
        async with contextlib.aclosing(self._isolated(bundle, request, limits, supervisor, task="describe")) as updates:
            async for _ in updates:
                pass
        schemas = (supervisor.outcome or {}).get("output")
        if not isinstance(schemas, dict):
            raise AgentFailed("The agent did not say what it takes and gives.", next_step="Use the SDK's @agent.")
        for name in ("input", "output"):
            check_schema(schemas[name])
        return replace(bundle, input_schema=schemas["input"], output_schema=schemas["output"])

    async def run(
        self, bundle: Bundle, request: RunRequest, limits: Limits | None = None
    ) -> AsyncGenerator[Update, None]:
        """See `Runtime.run`. The code that runs is the code that was hashed: a changed folder is a `Conflict`."""
        if request.execution_id in self._runs:
            raise Conflict(f"{request.execution_id} is already running", next_step="Use a new execution id.")
        if bundle.input_schema is not None:
            await asyncio.to_thread(check_input, bundle.input_schema, request.input)
        allowed = self._limits(bundle, limits)
        caps = request.charge_caps
        if caps is None:
            caps = {event.name: event.maximum for event in bundle.manifest.pricing.events}
        redact = Redactor(request.secrets)
        supervisor = Supervisor(allowed, redact, caps, bundle.name)
        usage: dict[str, int] = {}
        async with self._slot(bundle.name, allowed.concurrency):
            parts = self._isolated(bundle, request, allowed, supervisor, usage=usage)
            async with contextlib.aclosing(parts) as updates:
                async for update in updates:
                    yield update
        output = (supervisor.outcome or {}).get("output")
        if bundle.output_schema is not None:
            await asyncio.to_thread(check_output, bundle.output_schema, output, bundle.name, redact)
        yield Result(output, metering=usage | supervisor.metering)

    async def cancel(self, execution_id: str, *, grace_seconds: float = 2.0) -> bool:
        """See `Runtime.cancel`."""
        run = self._runs.get(execution_id)
        if run is not None:
            run.terminate(grace_seconds)
        return run is not None

    @abstractmethod
    def _start(
        self, bundle: Bundle, folder: Path, limits: Limits, supervisor: Supervisor, request: RunRequest
    ) -> contextlib.AbstractAsyncContextManager[LocalRun]:
        """Start the run's process; leaving the context gives back whatever it needed."""

    async def _isolated(
        self,
        bundle: Bundle,
        request: RunRequest,
        limits: Limits,
        supervisor: Supervisor,
        *,
        task: str = "run",
        usage: dict[str, int] | None = None,
    ) -> AsyncGenerator[Update, None]:
        folder = await self._stage(bundle)
        async with self._start(bundle, folder, limits, supervisor, request) as run:
            self._runs[request.execution_id] = run
            try:
                async with contextlib.aclosing(run.updates(_message(request, task))) as updates:
                    async for update in updates:
                        yield update
            finally:
                del self._runs[request.execution_id]
        if usage is not None and run.exit is not None:
            usage["wall_ms"] = run.exit.wall_ms
            usage["cpu_ms"] = run.exit.cpu_ms
            usage["memory_peak_bytes"] = run.exit.memory_peak_bytes

    def _limits(self, bundle: Bundle, limits: Limits | None) -> Limits:
        wanted = Limits.wanted(bundle.manifest.limits)
        return (wanted if limits is None else wanted.within(limits)).within(self._maximum)

    @contextlib.asynccontextmanager
    async def _slot(self, agent: str, concurrency: int) -> AsyncIterator[None]:
        line = self._lines.setdefault(agent, _Line(asyncio.Semaphore(concurrency)))
        if line.slots.locked() and line.waiting >= self._queue_length:
            raise Unavailable(f"{agent} has no free place: {line.waiting} runs wait", next_step="Try again later.")
        line.waiting += 1
        try:
            await line.slots.acquire()
        finally:
            line.waiting -= 1
        try:
            yield
        finally:
            line.slots.release()

    async def _stage(self, bundle: Bundle) -> Path:
        """A private copy by content hash: readable for the agent's user and safe from later changes of the folder."""
        if self._workspace is None:
            raise Unavailable("The sandbox is closed.", next_step="Open it: `async with LocalSandbox()`.")
        staged = self._workspace / "bundles" / bundle.code_hash.removeprefix("sha256:")
        async with self._staging:
            if not await asyncio.to_thread(staged.exists):
                await asyncio.to_thread(_copy, bundle, staged)
        return staged


def _make_workspace(kind: str) -> Path:
    """A private folder that names its owner, so that the next one clears away what a killed one left."""
    for left in Path(tempfile.gettempdir()).glob(f"nexus-{kind}-*-*"):
        if not process_lives(left.name.split("-")[2]):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"nexus-{kind}-{os.getpid()}-"))


def _copy(bundle: Bundle, staged: Path) -> None:
    partial = staged.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(bundle.folder, partial, symlinks=True, ignore=shutil.ignore_patterns(*IGNORED_FOLDERS))
    except OSError as error:
        raise InvalidInput(f"the agent's folder cannot be read: {error}", next_step="Check the folder.") from error
    if hash_folder(partial) != bundle.code_hash:
        shutil.rmtree(partial)
        raise Conflict(
            f"The code of {bundle.name} changed since it was read.", next_step="Prepare it again, then run it."
        )
    for path in (partial, *partial.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    partial.rename(staged)


def _message(request: RunRequest, task: str) -> Mapping[str, object]:
    return {
        "task": task,
        "execution_id": request.execution_id,
        "input": request.input,
        "user_id": request.user_id,
        "secrets": dict(request.secrets),
        "metadata": dict(request.metadata),
    }
