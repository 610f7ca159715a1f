"""`Journal` in one process's memory: the supported fake, same contract, nothing durable."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from agentnexus.core.canonical import Json
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import NotFound
from agentnexus.core.events import Event
from agentnexus.core.ports import Clock
from agentnexus.workflows.engine.journal import Claim, Letter, News, StepRow, Write, decode, encode
from agentnexus.workflows.engine.port import Draft, NewRun, Phase, RunRecord, RunState
from agentnexus.workflows.engine.turns import Turns


@dataclass(slots=True)
class Stored:
    """One run with all that belongs to it."""

    run: RunRecord
    available_at: datetime | None
    turn: int = 0
    owner: str | None = None
    epoch: int = 0
    cancel_reason: str | None = None
    steps: dict[str, StepRow] = field(default_factory=dict)
    timers: dict[str, datetime] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    signal_keys: set[str] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)

    def tell(self, drafts: Sequence[Draft], at: datetime) -> None:
        attributes = dict(self.run.attributes)
        for draft in drafts:
            attributes.update(draft.attributes)
            data = json.loads(encode(draft.data))
            sequence = len(self.events) + 1
            self.events.append(Event(name=draft.name, subject=self.run.id, sequence=sequence, at=at, data=data))
        self.run = replace(
            self.run, attributes=json.loads(encode(attributes)), sequence=len(self.events), updated_at=at
        )

    def move(self, state: RunState, at: datetime | None) -> None:
        self.run = replace(self.run, state=state)
        self.owner = None
        self.available_at = at


class MemoryWatch:
    def __init__(self, changes: dict[str, asyncio.Event], topic: str) -> None:
        self._changes = changes
        self._topic = topic
        self._event = asyncio.Event()

    async def __aenter__(self) -> MemoryWatch:
        self._event = self._changes[self._topic]
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def changed(self, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event = self._changes[self._topic]


class MemoryJournal:
    """All methods finish without waiting, so each is atomic in its event loop."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._runs: dict[str, Stored] = {}
        self._leases: dict[str, datetime] = {}
        self._changes: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._turns = Turns()

    def now(self) -> datetime:
        return self._clock.now()

    def _notify(self, topic: str) -> None:
        event = self._changes.pop(topic, None)
        if event is not None:
            event.set()

    def _find(self, run_id: str) -> Stored:
        stored = self._runs.get(run_id)
        if stored is None:
            raise NotFound(f"there is no run {run_id}", next_step="check the id")
        return stored

    async def enqueue(self, runs: Sequence[NewRun]) -> list[bool]:
        answers = [self._insert(run) for run in runs]
        self._notify("")
        return answers

    def _insert(self, new: NewRun) -> bool:
        if new.id in self._runs:
            return False
        now = self.now()
        state = RunState.QUEUED if new.available_at is None else RunState.WAITING
        record = RunRecord(
            new.id, new.body, new.tenant, state, decode(encode(new.input)), None, None,
            dict(new.attributes), 0, new.priority, 0, now, now, None,
        )  # fmt: skip
        turn = self._turns.next(new.tenant, new.priority) if state is RunState.QUEUED else 0
        stored = self._runs[new.id] = Stored(record, new.available_at or now, turn)
        stored.tell(new.drafts, now)
        return True

    async def claim(self, worker: str, bodies: Sequence[str], limit: int, *, sated: Sequence[str] = ()) -> list[Claim]:
        if worker not in self._leases or self._leases[worker] <= self.now():
            return []
        queued = [
            s
            for s in self._runs.values()
            if s.run.state is RunState.QUEUED and s.run.body in bodies and s.run.tenant not in sated
        ]
        queued.sort(key=lambda s: (-s.run.priority, s.turn, s.available_at or s.run.created_at, s.run.id))
        claims = []
        for stored in queued[:limit]:
            self._turns.served(stored.run.priority, stored.turn)
            stored.owner = worker
            stored.epoch += 1
            stored.run = replace(stored.run, state=RunState.RUNNING)
            claims.append(
                Claim(
                    stored.run, stored.epoch, stored.cancel_reason,
                    dict(stored.steps), dict(stored.timers), list(stored.letters),
                )
            )  # fmt: skip
        return claims

    async def commit(self, writes: Sequence[Write]) -> list[bool]:
        return [self._apply(write) for write in writes]

    def _apply(self, write: Write) -> bool:
        stored = self._runs.get(write.run_id)
        if stored is None or stored.epoch != write.epoch or stored.run.state is not RunState.RUNNING:
            return False
        stored.steps.update({row.key: row for row in write.steps})
        for key, due in write.timers:
            stored.timers.setdefault(key, due)
        stored.tell(write.drafts, write.at)
        if write.end is not None:
            self._finish(stored, write)
        self._notify(write.run_id)
        return True

    def _finish(self, stored: Stored, write: Write) -> None:
        end = write.end
        assert end is not None
        state = end.state
        unread = len(stored.letters) > end.signals_seen or stored.cancel_reason is not None
        if state is RunState.WAITING and unread:
            state = RunState.QUEUED
        stored.move(state, end.available_at if state is RunState.WAITING else write.at)
        if state.final:
            error = None if end.error is None else dict(end.error)
            stored.run = replace(stored.run, output=decode(end.output), error=error, finished_at=write.at)
        self._notify("")

    async def free(self, run_id: str, epoch: int) -> None:
        stored = self._find(run_id)
        if stored.epoch == epoch and stored.run.state is RunState.RUNNING:
            self._take_back(stored)

    def _take_back(self, stored: Stored) -> None:
        stored.epoch += 1
        stored.run = replace(stored.run, recoveries=stored.run.recoveries + 1)
        stored.run = replace(stored.run, updated_at=self.now())
        stored.move(RunState.QUEUED, stored.available_at)  # it keeps its place in the queue
        self._notify("")

    async def register(self, worker: str, lease_seconds: float) -> None:
        self._leases[worker] = self.now() + timedelta(seconds=lease_seconds)

    async def renew(self, worker: str, lease_seconds: float) -> bool:
        if worker not in self._leases or self._leases[worker] <= self.now():
            return False
        await self.register(worker, lease_seconds)
        return True

    async def retire(self, worker: str) -> None:
        self._leases.pop(worker, None)
        self._notify("")

    async def repair(self, limit: int) -> int:
        now = self.now()
        running = [s for s in self._runs.values() if s.run.state is RunState.RUNNING]
        orphans = [s for s in running if self._leases.get(s.owner or "", now) <= now][:limit]
        for stored in orphans:
            self._take_back(stored)
        due = [
            (stored.available_at, stored.run.id, stored)
            for stored in self._runs.values()
            if stored.run.state is RunState.WAITING and stored.available_at and stored.available_at <= now
        ]
        for at, _, stored in (woken := sorted(due, key=lambda entry: entry[:2])[:limit]):
            stored.turn = self._turns.next(stored.run.tenant, stored.run.priority)
            stored.move(RunState.QUEUED, at)
        if orphans or woken:
            self._notify("")
        return len(orphans) + len(woken)

    async def news(self, worker: str, signals_known: Mapping[str, int]) -> list[News]:
        owned = [s for s in self._runs.values() if s.owner == worker]
        return [
            News(s.run.id, s.cancel_reason, list(s.letters))
            for s in owned
            if s.cancel_reason is not None or len(s.letters) > signals_known.get(s.run.id, 0)
        ]

    async def signal(self, run_id: str, name: str, payload: Json, key: str) -> bool:
        stored = self._find(run_id)
        if stored.run.state.final or (key and key in stored.signal_keys):
            return False
        stored.signal_keys.add(key)
        stored.letters.append(Letter(len(stored.letters) + 1, name, decode(encode(payload))))
        if stored.run.state is RunState.WAITING:
            stored.turn = self._turns.next(stored.run.tenant, stored.run.priority)
        self._rouse(stored)
        return True

    async def cancel(self, run_id: str, reason: str) -> bool:
        stored = self._find(run_id)
        if stored.run.state.final:
            return False
        if stored.cancel_reason is None:
            stored.cancel_reason = reason
        stored.turn = 0
        self._rouse(stored)
        return True

    def _rouse(self, stored: Stored) -> None:
        if stored.run.state is RunState.WAITING:
            stored.move(RunState.QUEUED, self.now())
        self._notify("")

    async def get(self, run_id: str) -> RunRecord:
        return self._find(run_id).run

    async def outputs(self, run_id: str, keys: Sequence[str]) -> dict[str, str]:
        rows = self._runs[run_id].steps if run_id in self._runs else {}
        found = [rows[key] for key in keys if key in rows]
        return {row.key: row.output or "null" for row in found if row.phase is Phase.COMPLETED}

    async def list_runs(self, tenant: str, limit: int, before: tuple[datetime, str] | None) -> list[RunRecord]:
        runs = [s.run for s in self._runs.values() if s.run.tenant == tenant]
        runs.sort(key=lambda run: (run.created_at, run.id), reverse=True)
        return [run for run in runs if before is None or (run.created_at, run.id) < before][:limit]

    async def count_of(self, tenant: str) -> int:
        return sum(stored.run.tenant == tenant for stored in self._runs.values())

    async def counts(self) -> Mapping[RunState, int]:
        return Counter(stored.run.state for stored in self._runs.values())

    async def recent(self, limit: int) -> list[RunRecord]:
        ended = [stored.run for stored in self._runs.values() if stored.run.finished_at is not None]
        return sorted(ended, key=lambda run: run.finished_at or run.created_at, reverse=True)[:limit]

    async def read_events(self, run_id: str, after: int, limit: int) -> list[Event]:
        return self._find(run_id).events[after : after + limit]

    async def wait_for_work(self, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._changes[""].wait()
        except TimeoutError:
            return

    def watch(self, run_id: str, *, end_only: bool = False) -> MemoryWatch:
        del end_only  # waking too often is allowed
        return MemoryWatch(self._changes, run_id)
