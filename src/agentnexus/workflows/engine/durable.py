"""The engine over any journal: starts and watches runs, and executes them as one worker among many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agentnexus.core.canonical import Json
from agentnexus.core.clock import SystemEntropy, TimeOrderedIds
from agentnexus.core.errors import NexusError
from agentnexus.core.events import Event
from agentnexus.core.ports import Entropy, Ids
from agentnexus.platform.batching import GroupCommit
from agentnexus.workflows.engine.journal import Journal, decode
from agentnexus.workflows.engine.port import Body, Draft, EndNarrator, NewRun, RunRecord, RunState
from agentnexus.workflows.engine.worker import Worker, WorkerSettings

EVENT_PAGE = 500
WATCH_SECONDS = 5.0  # a stream looks by itself this often, should a wake-up be lost


@dataclass(frozen=True, slots=True)
class Registered:
    body: Body
    narrate_end: EndNarrator


def _says_nothing(_state: RunState, _output: Json, _error: NexusError | None) -> Sequence[Draft]:
    return ()


class DurableEngine:
    """Implements `Engine`. One instance serves any number of callers; `work` may run in some processes only."""

    def __init__(
        self,
        journal: Journal,
        *,
        settings: WorkerSettings | None = None,
        ids: Ids | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self.journal = journal
        self.settings = settings or WorkerSettings()
        self._ids = ids or TimeOrderedIds()
        self._entropy = entropy or SystemEntropy()
        self._bodies: dict[str, Registered] = {}
        self._starts: GroupCommit[NewRun, bool] = GroupCommit(journal.enqueue)

    def register(self, name: str, body: Body, narrate_end: EndNarrator | None = None) -> None:
        self._bodies[name] = Registered(body, narrate_end or _says_nothing)

    async def start(self, run: NewRun) -> bool:
        return await self._starts.submit(run)

    async def signal(self, run_id: str, name: str, payload: Json = None, *, key: str = "") -> bool:
        return await self.journal.signal(run_id, name, payload, key)

    async def cancel(self, run_id: str, reason: str = "") -> bool:
        return await self.journal.cancel(run_id, reason)

    async def get(self, run_id: str) -> RunRecord:
        return await self.journal.get(run_id)

    async def outputs(self, run_id: str, keys: Sequence[str]) -> Mapping[str, Json]:
        return {key: decode(text) for key, text in (await self.journal.outputs(run_id, keys)).items()}

    async def list_runs(self, tenant: str, limit: int, before: tuple[datetime, str] | None = None) -> list[RunRecord]:
        return await self.journal.list_runs(tenant, limit, before)

    async def count_of(self, tenant: str) -> int:
        return await self.journal.count_of(tenant)

    async def counts(self) -> Mapping[RunState, int]:
        return await self.journal.counts()

    async def recent(self, limit: int) -> list[RunRecord]:
        return await self.journal.recent(limit)

    async def result(self, run_id: str) -> RunRecord:
        async with self.journal.watch(run_id, end_only=True) as watch:
            while not (record := await self.journal.get(run_id)).state.final:
                await watch.changed(WATCH_SECONDS)
        return record

    async def events(self, run_id: str, after: int = 0) -> AsyncIterator[Event]:
        async with self.journal.watch(run_id) as watch:
            while True:
                record = await self.journal.get(run_id)
                page = await self.journal.read_events(run_id, after, EVENT_PAGE)
                for event in page:
                    after = event.sequence
                    yield event
                if record.state.final and after >= record.sequence:
                    return
                if not page:
                    await watch.changed(WATCH_SECONDS)

    def worker(self) -> Worker:
        """A worker of this engine under a name of its own."""
        bodies = {name: (entry.body, entry.narrate_end) for name, entry in self._bodies.items()}
        return Worker(self.journal, bodies, self.settings, self._ids, self._entropy)

    async def work(self) -> None:
        await self.worker().run()

    def now(self) -> datetime:
        return self.journal.now()
