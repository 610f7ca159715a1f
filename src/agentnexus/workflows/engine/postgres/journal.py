"""`Journal` on PostgreSQL. Wake-ups go out after the commit and never inside it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import datetime, timedelta

import asyncpg

from agentnexus.core.canonical import Json
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import NotFound, Unavailable
from agentnexus.core.events import Event, EventName
from agentnexus.core.ports import Clock
from agentnexus.platform.batching import Refused
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.journal import Claim, Letter, News, StepRow, Write, encode
from agentnexus.workflows.engine.port import NewRun, Phase, RunRecord, RunState
from agentnexus.workflows.engine.postgres import sql
from agentnexus.workflows.engine.postgres.writes import RunWrites, columns, fold, newest_only

WORK_TOPIC = "workflow-work"
LOOK_PAST = 512  # queued runs per priority that a claim may pass over because their tenants have their share
# After these the statement was certainly rolled back; after anything else it may have been committed.
REFUSALS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.DeadlockDetectedError,
)
RECORD_COLUMNS = [field.name for field in fields(RunRecord) if field.name != "state"]


class RunWatch:
    """Wakes when one topic is notified, in any process."""

    def __init__(self, wakeups: Wakeups, topic: str) -> None:
        self._wakeups = wakeups
        self._topic = topic
        self._event = asyncio.Event()

    async def __aenter__(self) -> RunWatch:
        self._event = self._wakeups.watch(self._topic)
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def changed(self, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event = self._wakeups.watch(self._topic)


class PostgresJournal:
    """Any number of these, in any number of processes, share one database.

    `clock` is given by tests and simulations; without one the database's clock decides about leases.
    """

    def __init__(self, database: Database, wakeups: Wakeups, clock: Clock | None = None) -> None:
        self._database = database
        self._wakeups = wakeups
        self._clock = clock or SystemClock()
        self._given_clock = clock

    def now(self) -> datetime:
        return self._clock.now()

    def _lease_now(self) -> datetime | None:
        return None if self._given_clock is None else self._given_clock.now()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._database.connection() as connection:
                yield connection
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
            raise Unavailable(f"the database does not answer: {error}", next_step="check the database") from error
        except REFUSALS as error:
            raise Refused(f"the database refused: {error}", next_step="see the database log") from error
        except asyncpg.PostgresError as error:
            raise Unavailable(f"the database failed: {error}", next_step="see the database log") from error

    async def enqueue(self, runs: Sequence[NewRun]) -> list[bool]:
        unique: dict[str, NewRun] = {}
        for run in runs:
            unique.setdefault(run.id, run)
        heads = [
            (r.id, r.body, r.tenant, r.priority, encode(r.input), encode(_first_attributes(r)), r.available_at,
             len(r.drafts))
            for r in unique.values()
        ]  # fmt: skip
        events = [
            (run.id, place, draft.name.value, encode(draft.data))
            for run in unique.values()
            for place, draft in enumerate(run.drafts, start=1)
        ]
        arrays = [[row[i] for row in heads] for i in range(8)] + [[row[i] for row in events] for i in range(4)]
        async with self._connection() as connection:
            made = {row["id"] for row in await connection.fetch(sql.ENQUEUE, *arrays, self.now())}
        if made:
            self._wakeups.notify(WORK_TOPIC)
        answers = []
        for run in runs:
            answers.append(run.id in made)
            made.discard(run.id)  # the second of two equal ids in one batch started nothing
        return answers

    async def claim(self, worker: str, bodies: Sequence[str], limit: int, *, sated: Sequence[str] = ()) -> list[Claim]:
        arguments = (worker, list(bodies), limit, self.now(), self._lease_now())
        async with self._connection() as connection:
            if sated:
                rows = await connection.fetch(sql.CLAIM_BESIDE, *arguments, list(sated), LOOK_PAST + limit)
            else:
                rows = await connection.fetch(sql.CLAIM, *arguments)
            seen = [row["id"] for row in rows if row["epoch"] > 1]
            signalled = [row["id"] for row in rows if row["signals"] > 0]
            steps = await connection.fetch(sql.READ_STEPS, seen) if seen else []
            timers = await connection.fetch(sql.READ_TIMERS, seen) if seen else []
            letters = await connection.fetch(sql.READ_SIGNALS, signalled) if signalled else []
        return _claims(rows, steps, timers, letters)

    async def commit(self, writes: Sequence[Write]) -> list[bool]:
        newest = newest_only(fold(writes))
        async with self._connection() as connection:
            held = {row["id"] for row in await connection.fetch(sql.COMMIT, *columns(newest))}
        self._tell(newest, held)
        return [write.run_id in held and newest[write.run_id].epoch == write.epoch for write in writes]

    def _tell(self, newest: Mapping[str, RunWrites], held: set[str]) -> None:
        """Only what a reader can see: an event or the end. A bare checkpoint wakes nobody."""
        for run_id, entry in newest.items():
            if run_id not in held:
                continue
            if entry.events or entry.end is not None:
                self._wakeups.notify(run_topic(run_id))
            if entry.end is not None and entry.end.state.final:
                self._wakeups.notify(_end_topic(run_id))

    async def free(self, run_id: str, epoch: int) -> None:
        async with self._connection() as connection:
            await connection.execute(sql.FREE, run_id, epoch, self.now())
        self._wakeups.notify(WORK_TOPIC)

    async def register(self, worker: str, lease_seconds: float) -> None:
        async with self._connection() as connection:
            await connection.execute(sql.REGISTER, worker, self._lease_now(), timedelta(seconds=lease_seconds))

    async def renew(self, worker: str, lease_seconds: float) -> bool:
        async with self._connection() as connection:
            span = timedelta(seconds=lease_seconds)
            return await connection.fetchval(sql.RENEW, worker, self._lease_now(), span) is not None

    async def retire(self, worker: str) -> None:
        async with self._connection() as connection:
            await connection.execute(sql.RETIRE, worker)
        self._wakeups.notify(WORK_TOPIC)

    async def repair(self, limit: int) -> int:
        now = self._lease_now()
        async with self._connection() as connection:
            freed = await connection.fetch(sql.TAKE_BACK, now, limit)
            woken = await connection.fetch(sql.WAKE_DUE, now, limit)
            await connection.execute(sql.BURY, now)
            await connection.execute(sql.FOLD_TALLY)
        if freed or woken:
            self._wakeups.notify(WORK_TOPIC)
        return len(freed) + len(woken)

    async def news(self, worker: str, signals_known: Mapping[str, int]) -> list[News]:
        async with self._connection() as connection:
            rows = await connection.fetch(sql.NEWS, worker)
            behind = [row["id"] for row in rows if row["signals"] > signals_known.get(row["id"], 0)]
            letters = _letters(await connection.fetch(sql.READ_SIGNALS, behind)) if behind else {}
        return [
            News(row["id"], row["cancel_reason"], letters.get(row["id"], ()))
            for row in rows
            if row["id"] in letters or row["cancel_reason"] is not None
        ]

    async def signal(self, run_id: str, name: str, payload: Json, key: str) -> bool:
        async with self._connection() as connection:
            try:
                position = await connection.fetchval(sql.SIGNAL, run_id, name, encode(payload), key, self.now())
            except asyncpg.UniqueViolationError:
                return False  # the same key at the same instant: the other one is the first
            if position is None:
                await self._must_exist(connection, run_id)
                return False
        self._wakeups.notify(WORK_TOPIC)
        return True

    async def cancel(self, run_id: str, reason: str) -> bool:
        async with self._connection() as connection:
            if await connection.fetchval(sql.CANCEL, run_id, reason, self.now()) is None:
                await self._must_exist(connection, run_id)
                return False
        self._wakeups.notify(WORK_TOPIC)
        return True

    async def _must_exist(self, connection: Connection, run_id: str) -> None:
        if await connection.fetchval(sql.EXISTS, run_id) is None:
            raise NotFound(f"there is no run {run_id}", next_step="check the id")

    async def get(self, run_id: str) -> RunRecord:
        async with self._connection() as connection:
            row = await connection.fetchrow(sql.GET, run_id)
        if row is None:
            raise NotFound(f"there is no run {run_id}", next_step="check the id")
        return _record(row)

    async def outputs(self, run_id: str, keys: Sequence[str]) -> dict[str, str]:
        async with self._connection() as connection:
            return {row["key"]: row["output"] for row in await connection.fetch(sql.OUTPUTS, run_id, list(keys))}

    async def list_runs(self, tenant: str, limit: int, before: tuple[datetime, str] | None) -> list[RunRecord]:
        created_at, run_id = before or (None, None)
        async with self._connection() as connection:
            return [_record(row) for row in await connection.fetch(sql.LIST, tenant, limit, created_at, run_id)]

    async def count_of(self, tenant: str) -> int:
        async with self._connection() as connection:
            return int(await connection.fetchval(sql.COUNT_OF, tenant))

    async def counts(self) -> Mapping[RunState, int]:
        async with self._connection() as connection:
            return {RunState(row["state"]): row["runs"] for row in await connection.fetch(sql.COUNTS)}

    async def recent(self, limit: int) -> list[RunRecord]:
        async with self._connection() as connection:
            return [_record(row) for row in await connection.fetch(sql.RECENT, limit)]

    async def read_events(self, run_id: str, after: int, limit: int) -> list[Event]:
        async with self._connection() as connection:
            rows = await connection.fetch(sql.READ_EVENTS, run_id, after, limit)
        return [
            Event(name=EventName(row["name"]), subject=run_id, sequence=row["sequence"], at=row["at"], data=row["data"])
            for row in rows
        ]

    async def wait_for_work(self, timeout_seconds: float) -> None:
        await self._wakeups.wait(WORK_TOPIC, timeout_seconds)

    def watch(self, run_id: str, *, end_only: bool = False) -> RunWatch:
        return RunWatch(self._wakeups, _end_topic(run_id) if end_only else run_topic(run_id))


def run_topic(run_id: str) -> str:
    """What is notified after every commit that holds an event of a run."""
    return f"workflow-run:{run_id}"


def _end_topic(run_id: str) -> str:
    return f"workflow-end:{run_id}"


def _first_attributes(run: NewRun) -> dict[str, object]:
    attributes = dict(run.attributes)
    for draft in run.drafts:
        attributes.update(draft.attributes)
    return attributes


def _record(row: asyncpg.Record) -> RunRecord:
    values = {name: row[name] for name in RECORD_COLUMNS}
    return RunRecord(state=RunState(row["state"]), **values)


def _letters(rows: Sequence[asyncpg.Record]) -> dict[str, list[Letter]]:
    by_run: dict[str, list[Letter]] = defaultdict(list)
    for row in rows:
        by_run[row["run_id"]].append(Letter(row["position"], row["name"], row["payload"]))
    return by_run


def _claims(
    rows: Sequence[asyncpg.Record],
    steps: Sequence[asyncpg.Record],
    timers: Sequence[asyncpg.Record],
    letters: Sequence[asyncpg.Record],
) -> list[Claim]:
    steps_of: dict[str, dict[str, StepRow]] = defaultdict(dict)
    for row in steps:
        steps_of[row["run_id"]][row["key"]] = StepRow(
            row["key"], Phase(row["state"]), row["attempt"], row["started_at"], row["ended_at"],
            row["output"], row["error"], row["retry_at"],
        )  # fmt: skip
    timers_of: dict[str, dict[str, datetime]] = defaultdict(dict)
    for row in timers:
        timers_of[row["run_id"]][row["key"]] = row["due_at"]
    letters_of = _letters(letters)
    return [
        Claim(
            _record(row), row["epoch"], row["cancel_reason"], steps_of.get(row["id"], {}),
            timers_of.get(row["id"], {}), letters_of.get(row["id"], ()),
        )
        for row in rows
    ]  # fmt: skip
