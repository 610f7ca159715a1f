"""Both journals are one: random histories of workers, crashes, signals and cancels give the same answers on each,
and generated histories never break a promise of the engine."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import NotFound
from agentnexus.core.events import EventName
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.journal import Claim, End, Journal, StepRow, Write
from agentnexus.workflows.engine.memory import MemoryJournal
from agentnexus.workflows.engine.port import Draft, NewRun, Phase, RunState
from agentnexus.workflows.engine.postgres.journal import PostgresJournal

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
RUNS = [f"r{number}" for number in range(12)]
WORKERS = ["w0", "w1", "w2"]
LEASE = 5.0
Answer = TypeVar("Answer")


def write_of(clock: ManualClock, claim: Claim, dice: random.Random) -> Write:
    now = clock.now()
    kind = dice.randrange(5)
    if kind == 0:
        state = dice.choice([RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED])
        ended = End(state, output='{"done":true}', error={"code": "internal", "message": "x"})
        return Write(claim.run.id, claim.epoch, now, drafts=(Draft(EventName.WORKFLOW_COMPLETED),), end=ended)
    if kind == 1:
        due = now + timedelta(seconds=dice.randrange(1, 20)) if dice.random() < 0.7 else None
        seen = len(claim.letters)
        return Write(claim.run.id, claim.epoch, now, end=End(RunState.WAITING, available_at=due, signals_seen=seen))
    key = dice.choice("abc")
    row = StepRow(key, dice.choice([Phase.STARTED, Phase.COMPLETED]), 1, now, now, output='{"n":[1,"ü"]}')
    draft = Draft(EventName.STEP_PROGRESS, {"step": key}, {f"step:{key}": row.phase.value})
    timers = ((f"t-{key}", now + timedelta(seconds=3)),) if kind == 2 else ()
    return Write(claim.run.id, claim.epoch, now, steps=(row,), timers=timers, drafts=(draft,))


async def one_operation(journal: Journal, clock: ManualClock, dice: random.Random, claims: list[Claim]) -> object:
    """Do one random thing; the answer is comparable between journals."""
    worker, run_id = dice.choice(WORKERS), dice.choice(RUNS)
    match dice.randrange(9):
        case 0:
            later = clock.now() + timedelta(seconds=dice.randrange(1, 20)) if dice.random() < 0.3 else None
            wanted = [
                NewRun(r, "b", {"r": r}, tenant=dice.choice("xy"), priority=dice.randrange(3), available_at=later)
                for r in (run_id, run_id)
            ]
            return await journal.enqueue(wanted)
        case 1 | 2:
            sated = ["x"] if dice.random() < 0.2 else []
            taken = await journal.claim(worker, ["b"], dice.randrange(1, 4), sated=sated)
            claims.extend(taken)
            return sorted(
                (
                    c.run.id,
                    c.epoch,
                    c.run.recoveries,
                    c.cancel_reason,
                    sorted(c.steps),
                    sorted(c.timers),
                    len(c.letters),
                )
                for c in taken
            )
        case 3 | 4:
            chosen = [dice.choice(claims) for _ in range(dice.randrange(1, 4))] if claims else []
            distinct = list({(c.run.id, c.epoch): c for c in chosen}.values())
            return await journal.commit([write_of(clock, claim, dice) for claim in distinct])
        case 5:
            renewed = await journal.renew(worker, LEASE)
            if not renewed:
                await journal.register(worker, LEASE)
            return renewed
        case 6:
            return await journal.repair(100)
        case 7:
            try:
                if dice.random() < 0.6:
                    return await journal.signal(run_id, "go", {"n": 1}, dice.choice(["", "k1", "k2"]))
                return await journal.cancel(run_id, "enough")
            except NotFound:
                return "not found"
        case _:
            if claims:
                claim = dice.choice(claims)
                await journal.free(claim.run.id, claim.epoch)
            return None


async def all_there_is(journal: Journal) -> list[object]:
    found: list[object] = [dict(await journal.counts())]
    for run_id in RUNS:
        try:
            record = await journal.get(run_id)
            found.append(replace(record, updated_at=record.created_at))  # when it was last touched is no promise
        except NotFound:
            continue
        found.append(await journal.read_events(run_id, 0, 1000))
    found.append([run.id for run in await journal.list_runs("x", 10, None)])
    return found


@pytest.mark.parametrize("seed", range(6))
async def test_a_random_history_reads_the_same_in_memory_and_on_postgres(database: Database, seed: int) -> None:
    clocks = [ManualClock(START), ManualClock(START)]
    async with Wakeups(database) as wakeups:
        journals: list[Journal] = [MemoryJournal(clocks[0]), PostgresJournal(database, wakeups, clocks[1])]
        dice = [random.Random(seed), random.Random(seed)]
        claims: list[list[Claim]] = [[], []]
        for journal in journals:
            for worker in WORKERS:
                await journal.register(worker, LEASE)
        for turn in range(150):
            answers = [
                await one_operation(journal, clock, die, mine)
                for journal, clock, die, mine in zip(journals, clocks, dice, claims, strict=True)
            ]
            assert answers[0] == answers[1], f"seed {seed}, turn {turn}"
            # claims come in no promised order within one call: keep both lists alike for the choices to come
            for mine in claims:
                mine.sort(key=lambda claim: (claim.run.id, claim.epoch))
            seconds = dice[0].choice([0.5, 1.0, 2.0])
            assert seconds == dice[1].choice([0.5, 1.0, 2.0])
            for clock in clocks:
                clock.advance(seconds)
        assert await all_there_is(journals[0]) == await all_there_is(journals[1])


def now_or_never(work: Coroutine[object, None, Answer]) -> Answer:
    """The memory journal never waits, so its coroutines end at the first step."""
    try:
        work.send(None)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    raise AssertionError("the memory journal waited for something")


class Histories(RuleBasedStateMachine):
    """Crash, freeze, steal, signal and cancel in any order: fences hold, sequences have no gaps, ends are final."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(START)
        self.journal = MemoryJournal(self.clock)
        self.newest: dict[str, int] = {}
        self.ended: dict[str, RunState] = {}
        self.events: dict[str, int] = {}
        for worker in WORKERS:
            now_or_never(self.journal.register(worker, LEASE))

    @rule(run_id=st.sampled_from(RUNS))
    def start(self, run_id: str) -> None:
        made = now_or_never(self.journal.enqueue([NewRun(run_id, "b", None)]))
        assert made == [run_id not in self.events]
        self.events.setdefault(run_id, 0)

    @rule(target=claims, worker=st.sampled_from(WORKERS), limit=st.integers(1, 3))
    def claim(self, worker: str, limit: int) -> object:
        taken = now_or_never(self.journal.claim(worker, ["b"], limit))
        assert len(taken) <= limit
        for claim in taken:
            assert claim.epoch > self.newest.get(claim.run.id, 0)
            assert claim.run.id not in self.ended
            self.newest[claim.run.id] = claim.epoch
        return multiple(*taken)

    @rule(claim=claims, count=st.integers(0, 3))
    def checkpoint(self, claim: Claim, count: int) -> None:
        drafts = tuple(Draft(EventName.STEP_PROGRESS) for _ in range(count))
        write = Write(claim.run.id, claim.epoch, self.clock.now(), drafts=drafts)
        record = now_or_never(self.journal.get(claim.run.id))
        (held,) = now_or_never(self.journal.commit([write]))
        assert held == (record.state is RunState.RUNNING and self._epoch(claim.run.id) == claim.epoch)
        self.events[claim.run.id] += count if held else 0

    @rule(claim=consumes(claims), state=st.sampled_from([RunState.COMPLETED, RunState.CANCELLED, RunState.WAITING]))
    def end(self, claim: Claim, state: RunState) -> None:
        write = Write(claim.run.id, claim.epoch, self.clock.now(), end=End(state, output="null"))
        (held,) = now_or_never(self.journal.commit([write]))
        if held and state.final:
            self.ended[claim.run.id] = state

    @rule(seconds=st.sampled_from([1.0, 4.0, 6.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def repair(self) -> None:
        now_or_never(self.journal.repair(100))

    @rule(worker=st.sampled_from(WORKERS))
    def renew_or_return(self, worker: str) -> None:
        if not now_or_never(self.journal.renew(worker, LEASE)):
            now_or_never(self.journal.register(worker, LEASE))

    @rule(run_id=st.sampled_from(RUNS), key=st.sampled_from(["", "k"]))
    def signal(self, run_id: str, key: str) -> None:
        if run_id in self.events:
            sent = now_or_never(self.journal.signal(run_id, "go", None, key))
            assert not (sent and run_id in self.ended)

    @rule(run_id=st.sampled_from(RUNS))
    def cancel(self, run_id: str) -> None:
        if run_id in self.events:
            assert now_or_never(self.journal.cancel(run_id, "x")) == (run_id not in self.ended)

    def _epoch(self, run_id: str) -> int:
        return self.journal._runs[run_id].epoch

    @invariant()
    def promises_hold(self) -> None:
        for run_id, count in self.events.items():
            record = now_or_never(self.journal.get(run_id))
            told = now_or_never(self.journal.read_events(run_id, 0, 10_000))
            assert [event.sequence for event in told] == list(range(1, count + 1))
            assert record.sequence == count
            if run_id in self.ended:
                assert record.state is self.ended[run_id]
                assert record.finished_at is not None


Histories.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase
