"""`Journal` on Restate: every run is a virtual object, claims are the orders that Restate sent to this process."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog
from pydantic import TypeAdapter

from agentnexus.core.canonical import Json
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import InvalidInput, NotFound, Unavailable
from agentnexus.core.events import Event
from agentnexus.core.ports import Clock
from agentnexus.workflows.engine.journal import Claim, News, Write, encode
from agentnexus.workflows.engine.port import NewRun, RunRecord, RunState
from agentnexus.workflows.engine.postgres.writes import RunWrites, fold, newest_only
from agentnexus.workflows.engine.restate.ingress import Ingress
from agentnexus.workflows.engine.restate.shapes import (
    Answer,
    Change,
    Entry,
    Freeing,
    Head,
    Interest,
    Keys,
    Look,
    Moment,
    Opening,
    Page,
    Posting,
    Pulse,
    Taken,
    Taking,
    Tale,
    Tally,
    record,
)
from agentnexus.workflows.engine.restate.station import Held, Station
from agentnexus.workflows.engine.restate.watching import Listeners, RestateWatch, Topics

log = structlog.get_logger(__name__)
RUN, WORKER, TENANT = "NexusRun", "NexusWorker", "NexusTenant"
PULSE_LOOK_SECONDS = 0.9
FRESH_SECONDS = 5.0
CALLS_MAX = 64  # in flight at once, per batch
NAMESPACE = re.compile("[A-Za-z0-9_-]{1,64}")
YES = TypeAdapter(bool)
NOTHING = TypeAdapter(None)
ANSWER = TypeAdapter(Answer)
LOOK = TypeAdapter(Look)
TAKEN: TypeAdapter[Taken | None] = TypeAdapter(Taken | None)
TALE = TypeAdapter(Tale)
OUTPUTS = TypeAdapter(dict[str, str])
SIZE = TypeAdapter(int)
PLACES = TypeAdapter(list[str])


class RestateJournal:
    """Any number of these, in any number of processes, share one Restate.

    Args:
        namespace: keeps the runs of several economies apart in one Restate; letters, digits, ``-`` and ``_``.
        clock: given by tests and simulations, whose waits end when the clock says so; without one Restate's timers do.
        heard: the workers keep events elsewhere too (`telling`).
    """

    def __init__(
        self, ingress: Ingress, namespace: str = "nexus", clock: Clock | None = None, *, heard: bool = False
    ) -> None:
        self._ingress = ingress
        if not NAMESPACE.fullmatch(namespace):
            raise InvalidInput(f"not a namespace: {namespace!r}", next_step="use letters, digits, - and _")
        self._namespace = namespace
        self._clock = clock or SystemClock()
        self._simulated = clock is not None
        self._heard = heard
        self._due: dict[str, datetime] = {}  # only kept when simulated
        self._fresh: deque[tuple[float, str, str]] = deque(maxlen=10_000)
        self._topics = Topics()
        self._workers: set[str] = set()
        self._pulses: dict[str, tuple[int, float]] = {}
        self._looked_at = 0.0
        self._slots = asyncio.Semaphore(CALLS_MAX)
        self._listeners = Listeners(ingress, self._key, self._topics)
        self.station = Station(lambda: self._topics.notify(""))

    def now(self) -> datetime:
        return self._clock.now()

    def _key(self, name: str) -> str:
        return f"{self._namespace}/{name}"

    def _id(self, key: str) -> str:
        return key.partition("/")[2]

    async def close(self) -> None:
        """Stop waiting for changes."""
        await self._listeners.close()

    # ---- runs ----

    async def enqueue(self, runs: Sequence[NewRun]) -> list[bool]:
        return list(await asyncio.gather(*(self._open(run) for run in runs)))

    async def _open(self, run: NewRun) -> bool:
        async with self._slots:
            opening = Opening.of(run, self.now(), heard=self._heard)
            made = await self._ingress.call(RUN, "open", opening, YES, key=self._key(run.id))
        if made:
            entry = Entry(run_id=run.id, at=opening.at)
            self._fresh.append((asyncio.get_running_loop().time(), run.tenant, entry.place))
        if made and run.available_at is not None and self._simulated:
            self._due[run.id] = run.available_at
        return made

    async def claim(self, worker: str, bodies: Sequence[str], limit: int, *, sated: Sequence[str] = ()) -> list[Claim]:
        if worker not in self._workers:
            return []
        claims = await asyncio.gather(*(self._take(worker, held) for held in self.station.next(bodies, limit, sated)))
        return [claim for claim in claims if claim is not None]

    async def _take(self, worker: str, held: Held) -> Claim | None:
        run_id = held.order.run_id
        taking = Taking(ticket=held.order.ticket, worker=worker, at=self.now())
        try:
            taken = await self._ingress.call(RUN, "take", taking, TAKEN, key=run_id)
        except (Unavailable, asyncio.CancelledError):
            self.station.put_back(held)
            raise
        if taken is None:
            self.station.finish(held)
            return None
        self.station.began(held, worker)
        return taken.claim(self._id(run_id))

    async def commit(self, writes: Sequence[Write]) -> list[bool]:
        newest = newest_only(fold(writes))
        answers = await asyncio.gather(*(self._commit(run_id, entry) for run_id, entry in newest.items()))
        held = dict(zip(newest, answers, strict=True))
        return [held[write.run_id] and newest[write.run_id].epoch == write.epoch for write in writes]

    async def _commit(self, run_id: str, entry: RunWrites) -> bool:
        async with self._slots:
            written = await self._ingress.call(
                RUN, "commit", Change.of(entry, heard=self._heard), YES, key=self._key(run_id)
            )
        order = self.station.of_run(self._key(run_id))
        if not written and order is not None:
            self.station.put_back(order)
        elif entry.end is not None:
            if order is not None:
                self.station.finish(order)
            if self._simulated and entry.end.available_at is not None:
                self._due[run_id] = entry.end.available_at
        if written and (entry.events or entry.end is not None):
            self._topics.notify(run_id)
        return written

    async def free(self, run_id: str, epoch: int) -> None:
        freeing = Freeing(epoch=epoch, at=self.now())
        await self._ingress.call(RUN, "free", freeing, NOTHING, key=self._key(run_id))
        order = self.station.of_run(self._key(run_id))
        if order is not None:
            self.station.put_back(order)

    async def signal(self, run_id: str, name: str, payload: Json, key: str) -> bool:
        return await self._deliver(run_id, Posting(name=name, payload=encode(payload), key=key, at=self.now()))

    async def cancel(self, run_id: str, reason: str) -> bool:
        return await self._deliver(run_id, Posting(name="", payload=reason, key="", at=self.now(), cancel=True))

    async def _deliver(self, run_id: str, posting: Posting) -> bool:
        answer = await self._ingress.call(RUN, "deliver", posting, ANSWER, key=self._key(run_id))
        if answer is Answer.MISSING:
            raise NotFound(f"there is no run {run_id}", next_step="check the id")
        self._listeners.ring(run_id)
        return answer is Answer.DONE

    # ---- workers ----

    async def register(self, worker: str, lease_seconds: float) -> None:
        await self._beat(worker, Pulse(seconds=lease_seconds, first=True))
        self._workers.add(worker)

    async def renew(self, worker: str, lease_seconds: float) -> bool:
        alive = await self._beat(worker, Pulse(seconds=lease_seconds))
        if not alive:
            self._leave(worker)
        return alive

    async def _beat(self, worker: str, pulse: Pulse) -> bool:
        return await self._ingress.call(WORKER, "beat", pulse, YES, key=self._key(worker))

    async def retire(self, worker: str) -> None:
        self._leave(worker)
        await self._ingress.call(WORKER, "bury", Pulse(seconds=0), YES, key=self._key(worker))

    def _leave(self, worker: str) -> None:
        """What the worker still had goes to another one here, or with our requests to another process."""
        self._workers.discard(worker)
        self._listeners.keep(worker, {})
        for held in self.station.of_worker(worker):
            self.station.put_back(held)

    async def repair(self, limit: int) -> int:
        return await self._rouse_due(limit) + await self._free_orphans(limit)

    async def _rouse_due(self, limit: int) -> int:
        due = sorted((at, run_id) for run_id, at in self._due.items() if at <= self.now())[:limit]
        for _, run_id in due:
            del self._due[run_id]
            await self._ingress.call(RUN, "rouse", Moment(at=self.now()), YES, key=self._key(run_id))
        return len(due)

    async def _free_orphans(self, limit: int) -> int:
        """A worker whose process is gone lost its orders already; one that is frozen or cut off is given up here."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at < PULSE_LOOK_SECONDS:
            return 0
        self._looked_at = now
        freed = 0
        rows = await self._entries(WORKER, "pulse")
        self._pulses = {key: seen for key, seen in self._pulses.items() if key in rows}
        for key, text in rows.items():
            pulse = Pulse.model_validate_json(text)
            count, since = self._pulses.get(key, (-1, now))
            if count != pulse.count:
                self._pulses[key] = (pulse.count, now)
            elif now - since > pulse.seconds:
                freed += await self._give_up(key, pulse.count, limit)
        return freed

    async def _give_up(self, worker_key: str, count: int, limit: int) -> int:
        worker = self._id(worker_key)
        log.warning("worker given up", worker=worker)
        heads = await self._entries(RUN, "head", f'"owner":"{worker}"')
        orphans = {key: Head.model_validate_json(text) for key, text in heads.items()}
        running = [(key, head) for key, head in orphans.items() if head.state is RunState.RUNNING][:limit]
        for key, head in running:
            await self.free(self._id(key), head.epoch)
        if len(running) < limit:
            await self._ingress.call(WORKER, "bury", Pulse(seconds=0, count=count), YES, key=worker_key)
        return len(running)

    async def _entries(self, service: str, entry: str, holds: str = "") -> dict[str, str]:
        return await self._ingress.entries(service, entry, self._key(""), holds)

    async def news(self, worker: str, signals_known: Mapping[str, int]) -> list[News]:
        found = []
        for run_id in self._listeners.keep(worker, signals_known):
            head = (await self._look(run_id)).head
            if head is None:
                continue
            if head.cancel_reason is not None:
                self._listeners.cancelled(worker, run_id)
            if head.owner == worker:
                found.append(News(run_id, head.cancel_reason, [post.letter() for post in head.letters]))
        return found

    # ---- reading ----

    async def _look(self, run_id: str) -> Look:
        return await self._ingress.call(RUN, "look", None, LOOK, key=self._key(run_id))

    async def get(self, run_id: str) -> RunRecord:
        look = await self._look(run_id)
        if look.head is None:
            raise NotFound(f"there is no run {run_id}", next_step="check the id")
        return record(run_id, look.head, look.input, look.output)

    async def outputs(self, run_id: str, keys: Sequence[str]) -> dict[str, str]:
        return await self._ingress.call(RUN, "outputs", Keys(keys=list(keys)), OUTPUTS, key=self._key(run_id))

    async def list_runs(self, tenant: str, limit: int, before: tuple[datetime, str] | None) -> list[RunRecord]:
        """A run is in the index some milliseconds after its start; what this process started it lists at once."""
        last = "" if before is None else Entry(run_id=before[1], at=before[0]).place
        wanted = Page(before=last, limit=limit)
        indexed = await self._ingress.call(TENANT, "page", wanted, PLACES, key=self._key(tenant))
        now = asyncio.get_running_loop().time()
        while self._fresh and now - self._fresh[0][0] > FRESH_SECONDS:
            self._fresh.popleft()
        own = {place for _, of, place in self._fresh if of == tenant and (not last or place < last)}
        places = sorted(own.union(indexed), reverse=True)[:limit]
        return list(await asyncio.gather(*(self.get(place.partition(" ")[2]) for place in places)))

    async def count_of(self, tenant: str) -> int:
        return await self._ingress.call(TENANT, "size", None, SIZE, key=self._key(tenant))

    async def counts(self) -> Mapping[RunState, int]:
        """Runs that ended are counted exactly, some milliseconds late; the others by Restate's own view of them."""
        counts: Counter[RunState] = Counter()
        for tally in await self._tallies():
            counts.update(tally.ended)
        begun = sum(int(text) for text in (await self._entries(TENANT, "count")).values())
        orders = await self._ingress.open_calls("NexusDrive")
        active = max(0, begun - counts.total())
        here = self.station.running
        counts[RunState.RUNNING] = min(here, active)
        counts[RunState.QUEUED] = min(max(0, orders - here), active - counts[RunState.RUNNING])
        counts[RunState.WAITING] = active - counts[RunState.RUNNING] - counts[RunState.QUEUED]
        return {state: count for state, count in counts.items() if count}

    async def _tallies(self) -> list[Tally]:
        return [Tally.model_validate_json(text) for text in (await self._entries("NexusTally", "tally")).values()]

    async def recent(self, limit: int) -> list[RunRecord]:
        entries = [entry for tally in await self._tallies() for entry in tally.recent]
        entries.sort(key=lambda entry: entry.place, reverse=True)
        return list(await asyncio.gather(*(self.get(entry.run_id) for entry in entries[:limit])))

    async def read_events(self, run_id: str, after: int, limit: int) -> list[Event]:
        tale = await self._ingress.call(RUN, "events", Page(after=after, limit=limit), TALE, key=self._key(run_id))
        return [told.event(run_id, number) for number, told in enumerate(tale.told, start=after + 1)]

    async def wait_for_work(self, timeout_seconds: float) -> None:
        await self._topics.wait("", timeout_seconds)

    def watch(self, run_id: str, *, end_only: bool = False) -> RestateWatch:
        interest = Interest.END if end_only else Interest.EVENTS

        async def sequence() -> int:
            head = (await self._look(run_id)).head
            return 0 if head is None else head.sequence

        return RestateWatch(
            self._ingress, self._topics, key=self._key(run_id), topic=run_id, interest=interest, sequence=sequence
        )
