"""Leases and fencing, with a clock moved by hand: a dead worker's runs move on in time, a frozen one cannot write."""

from __future__ import annotations

import asyncio

import pytest

from agentnexus.core.canonical import Json
from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import NexusError, Unavailable
from agentnexus.core.events import EventName
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.journal import Claim, End, StepRow, Write
from agentnexus.workflows.engine.port import Draft, NewRun, Phase, Run, RunState, StepContext
from agentnexus.workflows.engine.postgres import sql
from agentnexus.workflows.engine.postgres.journal import PostgresJournal
from agentnexus.workflows.engine.worker import Worker, WorkerSettings

from .conftest import Bench, state_is, until

DEFAULTS = WorkerSettings()


def test_the_default_settings_take_over_within_six_seconds() -> None:
    assert DEFAULTS.lease_seconds + DEFAULTS.look_seconds < 6.0


def test_a_lease_that_would_lapse_between_renewals_is_refused() -> None:
    with pytest.raises(ValueError, match="renewed before"):
        WorkerSettings(lease_seconds=1, renew_seconds=1)


async def claim_one(leased: Bench, worker: str) -> Claim:
    await leased.journal.register(worker, DEFAULTS.lease_seconds)
    (claim,) = await leased.journal.claim(worker, ["b"], 10)
    return claim


def done(leased: Bench, claim: Claim, output: str = '"x"') -> Write:
    now = leased.clock.now()
    row = StepRow("s", Phase.COMPLETED, 1, now, now, output=output)
    return Write(claim.run.id, claim.epoch, now, steps=(row,), drafts=(Draft(EventName.STEP_COMPLETED),))


async def test_a_live_lease_protects_and_a_lapsed_one_frees(leased: Bench) -> None:
    journal = leased.journal
    await journal.enqueue([NewRun("r1", "b", None)])
    await claim_one(leased, "w1")
    leased.clock.advance(DEFAULTS.lease_seconds - 0.001)
    assert await journal.repair(10) == 0
    assert await journal.renew("w1", DEFAULTS.lease_seconds)
    leased.clock.advance(DEFAULTS.lease_seconds - 0.001)
    assert await journal.repair(10) == 0
    leased.clock.advance(0.001)
    assert not await journal.renew("w1", DEFAULTS.lease_seconds)
    assert await journal.repair(10) == 1
    assert (await journal.get("r1")).state is RunState.QUEUED
    assert (await journal.get("r1")).recoveries == 1


async def test_a_fenced_write_leaves_no_trace(leased: Bench) -> None:
    journal = leased.journal
    await journal.enqueue([NewRun("r1", "b", None)])
    old = await claim_one(leased, "w1")
    assert await journal.commit([done(leased, old)]) == [True]
    leased.clock.advance(6)
    await journal.repair(10)
    new = await claim_one(leased, "w2")
    assert new.steps["s"].output == '"x"'
    stale = done(leased, old, '"stale"')
    ending = Write("r1", old.epoch, leased.clock.now(), end=End(RunState.COMPLETED, output="1"))
    assert await journal.commit([stale, ending]) == [False, False]
    assert [event.sequence for event in await journal.read_events("r1", 0, 10)] == [1]
    assert (await journal.get("r1")).state is RunState.RUNNING
    assert await journal.commit([done(leased, new, '"y"')]) == [True]
    assert [event.sequence for event in await journal.read_events("r1", 0, 10)] == [1, 2]


async def test_writes_of_an_old_and_the_new_epoch_in_one_commit_stay_apart(leased: Bench) -> None:
    journal = leased.journal
    await journal.enqueue([NewRun("r1", "b", None)])
    old = await claim_one(leased, "w1")
    await journal.free("r1", old.epoch)
    new = await claim_one(leased, "w2")
    assert await journal.commit([done(leased, old), done(leased, new), done(leased, old)]) == [False, True, False]
    assert len(await journal.read_events("r1", 0, 10)) == 1


async def test_a_run_of_a_worker_nobody_knows_is_freed(leased: Bench) -> None:
    journal = leased.journal
    await journal.enqueue([NewRun("r1", "b", None)])
    await claim_one(leased, "w1")
    await journal.retire("w1")
    assert await journal.repair(10) == 1


async def test_a_worker_whose_lease_lapsed_or_that_never_registered_claims_nothing(leased: Bench) -> None:
    journal = leased.journal
    await journal.enqueue([NewRun("r1", "b", None)])
    assert await journal.claim("nobody", ["b"], 10) == []
    await journal.register("w1", DEFAULTS.lease_seconds)
    leased.clock.advance(DEFAULTS.lease_seconds)
    assert await journal.claim("w1", ["b"], 10) == []
    await journal.register("w2", DEFAULTS.lease_seconds)
    assert len(await journal.claim("w2", ["b"], 10)) == 1


async def test_claims_and_repairs_are_bounded_and_nobody_gets_the_same_run(leased: Bench) -> None:
    journal = leased.journal
    await journal.enqueue([NewRun(f"r{n:02}", "b", None) for n in range(20)])
    for worker in ("w1", "w2"):
        await journal.register(worker, DEFAULTS.lease_seconds)
    claims = await asyncio.gather(*(journal.claim(f"w{n % 2 + 1}", ["b"], 3) for n in range(6)))
    ids = [claim.run.id for some in claims for claim in some]
    assert len(ids) == len(set(ids)) == 18
    assert all(len(some) <= 3 for some in claims)
    leased.clock.advance(6)
    assert await journal.repair(5) == 5


async def test_the_time_of_takeover_is_the_lease_and_nothing_more(leased: Bench) -> None:
    """A worker dies without a word; another takes its run as soon as the lease is over, not before."""
    leased.settings = WorkerSettings(look_seconds=0.02, renew_seconds=0.05, suspend_after_seconds=1e9)
    engine = leased.engine()
    ran_on: list[str] = []

    async def body(run: Run, _given: Json) -> Json:
        async def note(_context: StepContext) -> Json:
            ran_on.append("second")
            return "rescued"

        return await run.step("s", note)

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    await claim_one(leased, "dead")
    looks = 0
    async with leased.working(engine) as worker, asyncio.timeout(20):
        leased.clock.advance(4.9)
        await worker.renew()
        await worker.look()
        looks += 1
        assert (await engine.get("r1")).state is RunState.RUNNING
        assert not ran_on
        leased.clock.advance(0.2)
        assert (await engine.result("r1")).output == "rescued"
    assert (await engine.get("r1")).recoveries == 1


async def test_a_worker_frozen_beyond_its_lease_falls_silent_and_goes_on_under_a_new_name(leased: Bench) -> None:
    leased.settings = WorkerSettings(
        look_seconds=0.02, renew_seconds=1000, lease_seconds=5000, suspend_after_seconds=1e9
    )
    engine, other = leased.engine(), leased.engine()
    entered, freeze = asyncio.Event(), asyncio.Event()
    effects: list[str] = []

    async def body(run: Run, _given: Json) -> Json:
        async def slow(context: StepContext) -> Json:
            effects.append(context.idempotency_key)
            if len(effects) == 1:
                entered.set()
                await freeze.wait()
            return len(effects)

        return await run.step("slow", slow)

    engine.register("b", body)
    other.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    async with leased.working(engine) as frozen, asyncio.timeout(20):
        await entered.wait()
        name = frozen.name
        leased.clock.advance(5001)  # it did not renew, as if stopped
        async with leased.working(other):
            record = await other.result("r1")
            assert record.output == 2
            freeze.set()  # the frozen one wakes and tries to write
            await frozen.renew()
            await until(lambda: frozen.running == 0, "the frozen worker lets go")
            assert frozen.name != name
            await engine.start(NewRun("r2", "b", None))
            assert (await engine.result("r2")).state is RunState.COMPLETED
    assert (await engine.get("r1")).output == 2
    assert effects[0] == effects[1]  # whoever keeps effects by key keeps one


async def test_a_run_that_kills_its_workers_is_given_up(leased: Bench) -> None:
    leased.settings = WorkerSettings(look_seconds=0.02, recoveries_max=2)
    engine = leased.engine()
    trace: list[str] = []

    async def body(run: Run, _given: Json) -> Json:
        async def effect(_context: StepContext) -> Json:
            trace.append("ran")
            return None

        async def clean(_context: StepContext) -> Json:
            trace.append("cleaned")
            return None

        try:
            return await run.step("effect", effect)
        except NexusError:
            await run.step("clean", clean, shielded=True)
            raise

    def narrate_end(state: RunState, _output: Json, error: NexusError | None) -> list[Draft]:
        assert error is not None
        return [Draft(EventName.WORKFLOW_FAILED, {"why": error.message})]

    engine.register("b", body, narrate_end)
    await engine.start(NewRun("r1", "b", None))
    for _ in range(3):
        claim = await claim_one(leased, f"victim-{_}")
        await leased.journal.free("r1", claim.epoch)
    async with leased.working(engine), asyncio.timeout(20):
        record = await engine.result("r1")
    assert trace == ["cleaned"]
    assert record.state is RunState.FAILED
    assert "every worker that took this run died" in str(record.error)
    assert [event.name async for event in engine.events("r1")] == [EventName.WORKFLOW_FAILED]


async def test_a_run_that_kills_workers_even_while_cleaning_up_is_ended_without_its_body(leased: Bench) -> None:
    leased.settings = WorkerSettings(look_seconds=0.02, recoveries_max=1)
    engine = leased.engine()
    ran: list[str] = []

    async def body(_run: Run, _given: Json) -> Json:
        ran.append("body")
        return None

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    for number in range(5):
        claim = await claim_one(leased, f"victim-{number}")
        await leased.journal.free("r1", claim.epoch)
    async with leased.working(engine), asyncio.timeout(20):
        assert (await engine.result("r1")).state is RunState.FAILED
    assert ran == []


async def test_a_commit_whose_outcome_is_unknown_makes_the_run_read_its_journal_again(leased: Bench) -> None:
    """The commit was done but the answer was lost: the run goes on from what is written, with no event twice."""
    engine = leased.engine()
    commit = leased.journal.commit
    lost: list[str] = []
    ran: list[str] = []

    async def losing(writes: list[Write]) -> list[bool]:
        answers = await commit(writes)
        if not lost and any(row.key == "a" for write in writes for row in write.steps):
            lost.append("answer")
            raise Unavailable("connection lost")
        return answers

    leased.journal.commit = losing  # type: ignore[method-assign,assignment]  # one lost answer

    async def body(run: Run, _given: Json) -> Json:
        async def note(context: StepContext) -> Json:
            ran.append(context.key)
            return context.key

        first = await run.step("a", note, narrate=lambda t: [Draft(EventName.STEP_COMPLETED, {"phase": t.phase.value})])
        return [first, await run.step("b", note)]

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    async with leased.working(engine), asyncio.timeout(20):
        assert (await engine.result("r1")).output == ["a", "b"]
    assert lost == ["answer"]
    assert ran.count("b") == 1
    events = [event async for event in engine.events("r1")]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.data["phase"] for event in events].count("completed") == 1


async def test_many_workers_share_the_load_and_each_run_ends_once(leased: Bench) -> None:
    engines = [leased.engine() for _ in range(3)]
    ran: list[str] = []

    async def body(run: Run, _given: Json) -> Json:
        async def note(_context: StepContext) -> Json:
            ran.append(run.id)
            return None

        await run.step("s", note)
        return run.id

    workers: list[Worker] = []
    for engine in engines:
        engine.register("b", body)
    ids = [f"r{number:03}" for number in range(60)]
    await asyncio.gather(*(engines[0].start(NewRun(run_id, "b", None)) for run_id in ids))
    async with (
        leased.working(engines[0]) as one,
        leased.working(engines[1]) as two,
        leased.working(engines[2]) as three,
    ):
        workers += [one, two, three]
        async with asyncio.timeout(30):
            records = [await engines[0].result(run_id) for run_id in ids]
    assert {record.output for record in records} == set(ids)
    assert sorted(ran) == ids


async def test_a_suspended_run_that_got_a_signal_while_letting_go_is_not_forgotten(leased: Bench) -> None:
    journal = leased.journal
    await journal.enqueue([NewRun("r1", "b", None)])
    claim = await claim_one(leased, "w1")
    await journal.signal("r1", "go", None, "")
    letting_go = Write("r1", claim.epoch, leased.clock.now(), end=End(RunState.WAITING, signals_seen=0))
    assert await journal.commit([letting_go]) == [True]
    assert (await journal.get("r1")).state is RunState.QUEUED


async def test_a_waiting_run_costs_nothing_until_its_time(leased: Bench) -> None:
    engine = leased.engine()

    async def body(run: Run, _given: Json) -> Json:
        await run.sleep("long", 1000)
        return "up"

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    async with leased.working(engine):
        await state_is(engine, "r1", RunState.WAITING)
    leased.clock.advance(999)
    assert await leased.journal.repair(10) == 0
    leased.clock.advance(2)
    assert await leased.journal.repair(10) == 1


async def test_a_repair_that_saw_a_dead_owner_does_not_take_the_run_from_the_next_one(
    database: Database, clock: ManualClock
) -> None:
    """Between the moment a repair looks and the moment it locks, the run is freed and claimed by somebody else."""
    async with Wakeups(database) as wakeups:
        journal = PostgresJournal(database, wakeups, clock)
        await journal.enqueue([NewRun("r1", "b", None)])
        await journal.register("dead", 5)
        await journal.claim("dead", ["b"], 1)
        clock.advance(6)
        await journal.register("alive", 1e6)
        looks_and_locks = sql.TAKE_BACK.partition("), freed")[0] + ") select id from orphan"
        async with database.transaction() as connection:
            repair = await connection.cursor(looks_and_locks, clock.now(), 10)  # has looked
            assert await journal.repair(10) == 1
            (claim,) = await journal.claim("alive", ["b"], 1)
            assert await repair.fetch(10) == []  # locks
        assert await journal.commit([done(Bench(journal, clock), claim)]) == [True]
