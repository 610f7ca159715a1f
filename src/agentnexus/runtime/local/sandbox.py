"""The door of the local sandbox: bundles in, updates out, at most so many runs per agent at a time."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from agentnexus.core.clock import SystemEntropy
from agentnexus.core.errors import AgentFailed, Conflict, InvalidInput, Unavailable
from agentnexus.core.ports import Entropy
from agentnexus.core.updates import Result, Update
from agentnexus.runtime.bundle import IGNORED_FOLDERS, Bundle, hash_folder, read_bundle
from agentnexus.runtime.egress import EgressProxy, EgressRecord
from agentnexus.runtime.limits import MAXIMUM, Limits
from agentnexus.runtime.local import probe
from agentnexus.runtime.local.run import Ends, LocalRun
from agentnexus.runtime.local.spawner import Zygote
from agentnexus.runtime.port import RunRequest
from agentnexus.runtime.supervisor import Supervisor, check_input, check_output, check_schema
from agentnexus.runtime.text import Redactor

DESCRIBE_SECONDS = 60.0
DEFAULT_QUEUE_LENGTH = 100
DEFAULT_IDLE_SECONDS = 3600.0

EgressAudit = Callable[[str, EgressRecord], None]
"""Called with the execution id and one finished connection."""


@dataclass(slots=True)
class _Line:
    """Runs of one agent: those going on and those waiting."""

    slots: asyncio.Semaphore
    waiting: int = 0


class LocalSandbox:
    """A `Runtime` made of namespaces, cgroups and seccomp. ``async with LocalSandbox() as sandbox``.

    Args:
        maximum: the operator's limits; no run gets more, whatever its manifest asks.
        queue_length: runs that may wait per agent before `Unavailable`.
        idle_seconds: an unused zygote ends after this time.
        egress_audit: told of every connection an agent makes through its proxy.
        egress_loopback: for tests only: lets agents reach this machine by allowed host names.
    """

    def __init__(
        self,
        *,
        maximum: Limits = MAXIMUM,
        queue_length: int = DEFAULT_QUEUE_LENGTH,
        idle_seconds: float = DEFAULT_IDLE_SECONDS,
        entropy: Entropy | None = None,
        egress_audit: EgressAudit | None = None,
        egress_loopback: bool = False,
    ) -> None:
        self._maximum = maximum
        self._queue_length = queue_length
        self._idle_seconds = idle_seconds
        self._entropy = entropy or SystemEntropy()
        self._egress_audit = egress_audit
        self._egress_loopback = egress_loopback
        self._workspace: Path | None = None
        self._prefix = ""
        self._zygotes: dict[tuple[str, ...], Zygote] = {}
        self._idle: dict[tuple[str, ...], asyncio.TimerHandle] = {}
        self._busy: dict[tuple[str, ...], int] = {}
        self._lines: dict[str, _Line] = {}
        self._runs: dict[str, LocalRun] = {}
        self._staging = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Raises `IsolationUnavailable` naming everything this host lacks."""
        await asyncio.to_thread(probe.require_isolation)
        self._workspace = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="nexus-sandbox-"))
        self._prefix = f"nexus-{self._entropy.random_bytes(6).hex()}-"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every run and helper; what is iterated elsewhere ends with `AgentFailed`."""
        for run in list(self._runs.values()):
            run.terminate(0)
        for timer in self._idle.values():
            timer.cancel()
        for zygote in self._zygotes.values():
            await zygote.close()
        await asyncio.gather(*self._closing)
        self._zygotes.clear()
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
        supervisor = Supervisor(allowed, Redactor(request.secrets), caps, bundle.name)
        usage: dict[str, int] = {}
        async with self._slot(bundle.name, allowed.concurrency):
            parts = self._isolated(bundle, request, allowed, supervisor, usage=usage)
            async with contextlib.aclosing(parts) as updates:
                async for update in updates:
                    yield update
        output = (supervisor.outcome or {}).get("output")
        if bundle.output_schema is not None:
            await asyncio.to_thread(check_output, bundle.output_schema, output, bundle.name)
        yield Result(output, metering=usage | supervisor.metering)

    async def cancel(self, execution_id: str, *, grace_seconds: float = 2.0) -> bool:
        """See `Runtime.cancel`."""
        run = self._runs.get(execution_id)
        if run is not None:
            run.terminate(grace_seconds)
        return run is not None

    def helper_pids(self) -> list[int]:
        """Process ids of the living zygotes, for health pages and tests."""
        return [pid for zygote in self._zygotes.values() if (pid := zygote.pid) is not None]

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
        async with self._zygote(bundle) as zygote:
            ends = await _launch(zygote, self._order(bundle, folder, limits))
            proxy = self._proxy(bundle, request.execution_id)
            redact = Redactor(request.secrets)
            run = LocalRun(ends, supervisor, limits=limits, redact=redact, agent=bundle.name, proxy=proxy)
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

    def _order(self, bundle: Bundle, folder: Path, limits: Limits) -> dict[str, object]:
        return {
            "name": self._prefix + self._entropy.random_bytes(8).hex(),
            "folder": str(folder),
            "entry": bundle.manifest.entry,
            "memory_bytes": limits.memory_bytes,
            "processes": limits.processes,
            "cpu": limits.cpu,
            "tmp_bytes": limits.tmp_bytes,
            "open_files": limits.open_files,
            "timeout_seconds": limits.timeout_seconds,
            "egress": bool(bundle.manifest.egress.hosts),
        }

    def _limits(self, bundle: Bundle, limits: Limits | None) -> Limits:
        wanted = Limits.wanted(bundle.manifest.limits)
        return (wanted if limits is None else wanted.within(limits)).within(self._maximum)

    def _proxy(self, bundle: Bundle, execution_id: str) -> EgressProxy | None:
        hosts = bundle.manifest.egress.hosts
        if not hosts:
            return None

        def audit(record: EgressRecord) -> None:
            if self._egress_audit is not None:
                self._egress_audit(execution_id, record)

        return EgressProxy(hosts, audit=audit, allow_loopback=self._egress_loopback)

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

    @contextlib.asynccontextmanager
    async def _zygote(self, bundle: Bundle) -> AsyncIterator[Zygote]:
        if self._workspace is None:
            raise Unavailable("The sandbox is closed.", next_step="Open it: `async with LocalSandbox()`.")
        key = tuple(sorted(set(bundle.manifest.preload)))
        if key not in self._zygotes:
            self._zygotes[key] = Zygote(key, self._workspace / f"zygote-{len(self._zygotes)}", self._prefix)
        if key in self._idle:
            self._idle.pop(key).cancel()
        self._busy[key] = self._busy.get(key, 0) + 1
        try:
            yield self._zygotes[key]
        finally:
            self._busy[key] -= 1
            if not self._busy[key] and self._workspace is not None:
                loop = asyncio.get_running_loop()
                self._idle[key] = loop.call_later(self._idle_seconds, self._retire, key)

    def _retire(self, key: tuple[str, ...]) -> None:
        self._idle.pop(key, None)
        task = asyncio.get_running_loop().create_task(self._zygotes[key].close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _stage(self, bundle: Bundle) -> Path:
        """A private copy by content hash: readable for the agent's user and safe from later changes of the folder."""
        if self._workspace is None:
            raise Unavailable("The sandbox is closed.", next_step="Open it: `async with LocalSandbox()`.")
        staged = self._workspace / "bundles" / bundle.code_hash.removeprefix("sha256:")
        async with self._staging:
            if not await asyncio.to_thread(staged.exists):
                await asyncio.to_thread(_copy, bundle, staged)
        return staged


async def _launch(zygote: Zygote, order: Mapping[str, object]) -> Ends:
    ends = Ends.make()
    try:
        await zygote.launch(order, ends.far)
    except BaseException:
        ends.close()
        raise
    ends.close_far()
    return ends


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
