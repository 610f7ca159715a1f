"""The local sandbox: agents between namespaces, cgroups and seccomp, forked from preloaded helpers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Self

from agentnexus.core.errors import AgentFailed, Unavailable
from agentnexus.core.ports import Entropy
from agentnexus.platform.outbound import Resolve, resolve_by_system
from agentnexus.runtime.base import DEFAULT_QUEUE_LENGTH, BundleRuntime
from agentnexus.runtime.bundle import Bundle
from agentnexus.runtime.egress import EgressProxy, EgressRecord
from agentnexus.runtime.limits import MAXIMUM, Limits
from agentnexus.runtime.local import cgroups, probe, warden
from agentnexus.runtime.local.run import Ends, LocalRun, receive
from agentnexus.runtime.local.spawner import Zygote
from agentnexus.runtime.port import RunRequest
from agentnexus.runtime.supervisor import Supervisor
from agentnexus.runtime.text import Redactor

DEFAULT_IDLE_SECONDS = 3600.0
_LAUNCHES = 3

EgressAudit = Callable[[str, EgressRecord], None]
"""Called with the execution id and one finished connection."""


class LocalSandbox(BundleRuntime):
    """A `Runtime` made of namespaces, cgroups and seccomp. ``async with LocalSandbox() as sandbox``.

    Args:
        maximum: the operator's limits; no run gets more, whatever its manifest asks.
        queue_length: runs that may wait per agent before `Unavailable`.
        idle_seconds: an unused zygote ends after this time.
        egress_audit: told of every connection an agent makes through its proxy.
        egress_resolve: the name service behind the egress proxies.
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
        egress_resolve: Resolve = resolve_by_system,
        egress_loopback: bool = False,
    ) -> None:
        super().__init__(maximum=maximum, queue_length=queue_length, entropy=entropy)
        self._idle_seconds = idle_seconds
        self._egress_audit = egress_audit
        self._egress_resolve = egress_resolve
        self._egress_loopback = egress_loopback
        self._prefix = ""
        self._zygotes: dict[tuple[str, ...], Zygote] = {}
        self._idle: dict[tuple[str, ...], asyncio.TimerHandle] = {}
        self._busy: dict[tuple[str, ...], int] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Raises `IsolationUnavailable` naming everything this host lacks."""
        await asyncio.to_thread(probe.require_isolation)
        await self._open_workspace("sandbox")
        self._prefix = f"nexus-{os.getpid()}-{self._entropy.random_bytes(6).hex()}-"
        return self

    async def close(self) -> None:
        """End every run and helper; what is iterated elsewhere ends with `AgentFailed`."""
        for timer in self._idle.values():
            timer.cancel()
        for zygote in self._zygotes.values():
            await zygote.close()
        await asyncio.gather(*self._closing)
        self._zygotes.clear()
        await asyncio.to_thread(self._sweep)
        await super().close()

    def _sweep(self) -> None:
        """Groups whose warden ended with its zygote; one that is still emptying goes with the next sandbox."""
        host = cgroups.find()
        if isinstance(host, cgroups.Host) and self._prefix:
            cgroups.sweep(host, self._prefix)

    def helper_pids(self) -> list[int]:
        """Process ids of the living zygotes, for health pages and tests."""
        return [pid for zygote in self._zygotes.values() if (pid := zygote.pid) is not None]

    @contextlib.asynccontextmanager
    async def _start(
        self, bundle: Bundle, folder: Path, limits: Limits, supervisor: Supervisor, request: RunRequest
    ) -> AsyncIterator[LocalRun]:
        async with self._zygote(bundle) as zygote:
            ends = await _launch(zygote, self._order(bundle, folder, limits))
            redact = Redactor(request.secrets)
            proxy = self._proxy(bundle, request.execution_id)
            yield LocalRun(ends, supervisor, limits=limits, redact=redact, agent=bundle.name, proxy=proxy)

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

    def _proxy(self, bundle: Bundle, execution_id: str) -> EgressProxy | None:
        hosts = bundle.manifest.egress.hosts
        if not hosts:
            return None

        def audit(record: EgressRecord) -> None:
            if self._egress_audit is not None:
                self._egress_audit(execution_id, record)

        return EgressProxy(hosts, audit=audit, resolve=self._egress_resolve, allow_loopback=self._egress_loopback)

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


async def _launch(zygote: Zygote, order: Mapping[str, object]) -> Ends:
    """Hand the run over. A zygote that dies first has run nothing of the agent: the run goes to the next one."""
    for _ in range(_LAUNCHES):
        ends = Ends.make()
        with contextlib.ExitStack() as undo:
            undo.callback(ends.close)
            await zygote.launch(order, ends.far)
            ends.close_far()
            packet, _descriptors = await receive(ends.lifeline)
            if packet == warden.STARTED:
                undo.pop_all()
                return ends
    raise AgentFailed("The sandbox helper keeps ending.", next_step="See the operator's log.")
