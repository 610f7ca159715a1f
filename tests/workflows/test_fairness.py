"""Users share the workers: who starts a thousand workflows waits for them alone; nobody else waits behind them."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.core.canonical import Json
from agentnexus.core.clock import ManualClock
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.journal import Claim, End, Journal, Write
from agentnexus.workflows.engine.memory import MemoryJournal
from agentnexus.workflows.engine.port import NewRun, Run, RunState, StepContext
from agentnexus.workflows.engine.postgres.journal import LOOK_PAST, PostgresJournal
from agentnexus.workflows.engine.turns import Turns
from agentnexus.workflows.engine.worker import WorkerSettings

from .conftest import Bench, state_is, until
from .test_journals import START, now_or_never

LONG = 1e6


def many(tenant: str, count: int, priority: int = 0) -> list[NewRun]:
    return [NewRun(f"{tenant}-{n:04}", "b", None, tenant=tenant, priority=priority) for n in range(count)]


async def claim_ids(journal: Journal, limit: int, **more: list[str]) -> list[str]:
    claims = await journal.claim("w", ["b"], limit, **more)
    return [claim.run.id for claim in claims]


async def served(journal: Journal, limit: int) -> list[str]:
    """Tenants in the order in which they get one slot after the other."""
    return [run_id.rpartition("-")[0] for _ in range(limit) for run_id in await claim_ids(journal, 1)]


async def test_one_run_of_a_user_does_not_wait_behind_a_thousand_of_another(leased: Bench) -> None:
    journal = leased.journal
    await journal.register("w", LONG)
    await journal.enqueue(many("greedy", 1000))
    leased.clock.advance(60)
    assert len(await claim_ids(journal, 8)) == 8
    await journal.enqueue(many("modest", 1))
    assert "modest" in await served(journal, 2)


async def test_users_take_turns_and_each_ones_runs_go_oldest_first(leased: Bench) -> None:
    journal = leased.journal
    await journal.register("w", LONG)
    for tenant, count in (("a", 30), ("b", 3), ("c", 30)):
        await journal.enqueue(many(tenant, count))
        leased.clock.advance(1)
    order = [run_id for _ in range(15) for run_id in await claim_ids(journal, 1)]
    assert order[:9] == [f"{tenant}-{n:04}" for n in range(3) for tenant in "abc"]
    assert order[9:] == ["a-0003", "c-0003", "a-0004", "c-0004", "a-0005", "c-0005"]


async def test_who_was_away_does_not_come_back_with_turns_saved_up(leased: Bench) -> None:
    journal = leased.journal
    await journal.register("w", LONG)
    await journal.enqueue(many("late", 1))
    await journal.enqueue(many("steady", 100))
    await served(journal, 51)
    await journal.enqueue([NewRun(f"late-{n + 1:04}", "b", None, tenant="late") for n in range(50)])
    assert Counter(await served(journal, 20)) == {"late": 10, "steady": 10}


async def test_a_schedule_cannot_reserve_places_in_front_of_those_who_are_there_by_then(leased: Bench) -> None:
    journal = leased.journal
    await journal.register("w", LONG)
    later = leased.clock.now().replace(hour=13)
    await journal.enqueue(
        [NewRun(f"planner-{n:03}", "b", None, tenant="planner", available_at=later) for n in range(50)]
    )
    await journal.enqueue(many("steady", 100))
    await served(journal, 40)
    leased.clock.advance(3600)
    await journal.register("w", LONG)
    assert await journal.repair(100) == 50
    assert Counter(await served(journal, 20)) == {"planner": 10, "steady": 10}


async def test_priorities_come_before_turns_and_have_lines_of_their_own(leased: Bench) -> None:
    journal = leased.journal
    await journal.register("w", LONG)
    await journal.enqueue(many("a", 4))
    await journal.enqueue(many("b", 4, priority=5))
    leased.clock.advance(1)
    await journal.enqueue([NewRun(f"a-urgent-{n}", "b", None, tenant="a", priority=5) for n in range(2)])
    order = [run_id for _ in range(8) for run_id in await claim_ids(journal, 1)]
    assert order == ["b-0000", "a-urgent-0", "b-0001", "a-urgent-1", "b-0002", "b-0003", "a-0000", "a-0001"]


async def test_a_cancelled_run_is_next_so_that_what_it_holds_comes_back(leased: Bench) -> None:
    journal = leased.journal
    await journal.register("w", LONG)
    await journal.enqueue(many("a", 100))
    assert await journal.cancel("a-0099", "no longer wanted")
    assert await claim_ids(journal, 1) == ["a-0099"]


async def test_tenants_that_have_their_share_are_passed_over(leased: Bench) -> None:
    journal = leased.journal
    await journal.register("w", LONG)
    await journal.enqueue(many("a", LOOK_PAST - 10))
    await journal.enqueue(many("b", 2))
    assert await claim_ids(journal, 5, sated=["a", "b"]) == []
    assert sorted(await claim_ids(journal, 5, sated=["a"])) == ["b-0000", "b-0001"]
    assert await claim_ids(journal, 1, sated=["b"]) == ["a-0000"]


async def test_one_users_long_runs_leave_a_slot_for_somebody_else(leased: Bench) -> None:
    leased.settings = WorkerSettings(runs_max=8, tenant_share=0.75, look_seconds=0.02, suspend_after_seconds=LONG)
    engine = leased.engine()
    gate = asyncio.Event()
    at_work: Counter[str] = Counter()

    async def body(run: Run, _given: Json) -> Json:
        async def long(_context: StepContext) -> Json:
            at_work[run.tenant] += 1
            await gate.wait()
            at_work[run.tenant] -= 1
            return None

        return await run.step("long", long)

    engine.register("b", body)
    for run in many("greedy", 30):
        await engine.start(run)
    async with leased.working(engine), asyncio.timeout(20):
        await until(lambda: at_work["greedy"] == 6, "the greedy one has its share")
        await engine.start(NewRun("modest-1", "b", None, tenant="modest"))
        await until(lambda: at_work["modest"] == 1, "the modest one has a slot")
        assert at_work["greedy"] == 6
        gate.set()
        for run in many("greedy", 30):
            assert (await engine.result(run.id)).state is RunState.COMPLETED


async def test_runs_of_nobody_in_particular_may_take_every_slot(leased: Bench) -> None:
    leased.settings = WorkerSettings(runs_max=4, tenant_share=0.5, look_seconds=0.02, suspend_after_seconds=LONG)
    engine = leased.engine()
    gate = asyncio.Event()
    waiting: set[str] = set()

    async def body(run: Run, _given: Json) -> Json:
        async def long(_context: StepContext) -> Json:
            waiting.add(run.id)
            await gate.wait()
            return None

        return await run.step("long", long)

    engine.register("b", body)
    for number in range(4):
        await engine.start(NewRun(f"r{number}", "b", None))
    async with leased.working(engine), asyncio.timeout(20):
        await until(lambda: len(waiting) == 4, "all slots are taken")
        gate.set()
        await engine.result("r3")


@pytest.mark.parametrize("share", [0, -1, 1.01])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        WorkerSettings(tenant_share=share)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 30)), min_size=2, max_size=12),
    st.integers(1, 5),
)
def test_while_two_users_both_wait_neither_gets_more_than_one_turn_ahead(
    arrivals: list[tuple[str, int]], served_between: int
) -> None:
    journal = MemoryJournal(ManualClock(START))
    now_or_never(journal.register("w", LONG))
    queued: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    got: Counter[str] = Counter()
    since: dict[frozenset[str], Counter[str]] = {}

    def serve() -> None:
        for claim in now_or_never(journal.claim("w", ["b"], 1)):
            tenant = claim.run.tenant
            both = [frozenset((tenant, other)) for other in "abcd" if other != tenant and queued[other]]
            for pair in list(since):
                if tenant in pair and pair not in both:
                    del since[pair]
            for pair in both:
                since.setdefault(pair, Counter())[tenant] += 1
                one, other = sorted(pair)
                assert abs(since[pair][one] - since[pair][other]) <= 2
            queued[tenant] -= 1
            got[tenant] += 1

    for tenant, count in arrivals:
        runs = [NewRun(f"{tenant}{numbers[tenant] + n}", "b", None, tenant=tenant) for n in range(count)]
        numbers[tenant] += count
        queued[tenant] += count
        since = {pair: counts for pair, counts in since.items() if tenant not in pair}
        now_or_never(journal.enqueue(runs))
        for _ in range(served_between):
            serve()
    while sum(queued.values()):
        serve()
    assert got == numbers


def test_an_idle_line_starts_at_the_pace() -> None:
    turns = Turns()
    assert [turns.next("a", 0) for _ in range(3)] == [1, 2, 3]
    turns.served(0, 3)
    assert turns.next("b", 0) == 4
    assert turns.next("a", 0) == 4
    assert turns.next("b", 1) == 1


async def plan_of(database: Database, statement: str, *arguments: object) -> str:
    async with database.connection() as connection:
        rows = await connection.fetch(f"explain (analyze, format text) {statement}", *arguments)
    return "\n".join(row[0] for row in rows)


async def test_a_claim_from_a_long_queue_reads_the_head_of_an_index_and_no_more(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "insert into workflow.run (id, body, tenant, state, priority, turn, input, attributes, sequence,"
            " available_at, created_at, updated_at) select 'r' || n, 'b', 'greedy', 'queued', 0, n, 'null', '{}', 0,"
            " now(), now(), now() from generate_series(1, 30000) n"
        )
        await connection.execute("insert into workflow.pace values (0, 0)")
        await connection.execute("analyze workflow.run")
    async with Wakeups(database) as wakeups:
        journal = PostgresJournal(database, wakeups)
        await journal.register("w", LONG)
        await journal.enqueue(many("modest", 1))
        assert "modest-0000" in await claim_ids(journal, 4)
        assert await claim_ids(journal, 4, sated=["greedy"]) == []
    head = (
        "select id from workflow.run where state = 'queued' and body = any($1::text[])"
        " order by priority desc, turn, available_at, id limit 64 for update skip locked"
    )
    plan = await plan_of(database, head, ["b"])
    assert "Index Scan using run_queued" in plan
    assert "Sort" not in plan


async def fill_and_move(journal: Journal, clock: ManualClock) -> None:
    """A bit of everything that moves runs between states."""
    await journal.register("w", 5)
    await journal.enqueue(many("a", 10))
    await journal.enqueue([NewRun("d-1", "b", None, available_at=clock.now().replace(hour=13))])
    claims = {claim.run.id: claim for claim in await journal.claim("w", ["b"], 6)}

    def ending(claim: Claim, state: RunState) -> Write:
        return Write(claim.run.id, claim.epoch, clock.now(), end=End(state, output="null"))

    ends = [RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED, RunState.WAITING, RunState.WAITING]
    await journal.commit([ending(claim, state) for claim, state in zip(claims.values(), ends, strict=False)])
    waiting = [run_id for run_id in claims if (await journal.get(run_id)).state is RunState.WAITING]
    await journal.signal(waiting[0], "go", None, "k")
    await journal.signal(waiting[0], "go", None, "k")
    await journal.cancel(waiting[1], "enough")
    await journal.cancel("d-1", "enough")
    clock.advance(6)
    await journal.repair(100)


async def test_the_tally_says_what_a_count_of_all_runs_would_say(database: Database, clock: ManualClock) -> None:
    async with Wakeups(database) as wakeups:
        journal = PostgresJournal(database, wakeups, clock)
        await fill_and_move(journal, clock)
        for _ in range(80):  # enough changes for a repair to fold them
            await journal.free("nobody", 1)
            await journal.enqueue(many(f"t{_}", 1))
        before = await journal.counts()
        await journal.repair(100)
        async with database.connection() as connection:
            rows = await connection.fetch("select state, count(*) as runs from workflow.run group by state")
            kept = await connection.fetchval("select count(*) from workflow.tally")
        assert {RunState(row["state"]): row["runs"] for row in rows} == before == await journal.counts()
        assert kept <= len(RunState)


async def test_a_run_still_queued_when_it_is_cancelled_ends_without_a_step(leased: Bench) -> None:
    leased.settings = WorkerSettings(runs_max=1, look_seconds=0.02, suspend_after_seconds=LONG)
    engine = leased.engine()
    gate, ran = asyncio.Event(), []

    async def body(run: Run, _given: Json) -> Json:
        async def wait(_context: StepContext) -> Json:
            ran.append(run.id)
            await gate.wait()
            return None

        return await run.step("s", wait)

    engine.register("b", body)
    async with leased.working(engine), asyncio.timeout(20):
        await engine.start(NewRun("first", "b", None, tenant="a"))
        await state_is(engine, "first", RunState.RUNNING)
        for run in many("a", 5):
            await engine.start(run)
        assert await engine.cancel("a-0004")
        gate.set()
        assert (await engine.result("a-0004")).state is RunState.CANCELLED
        assert (await engine.result("a-0003")).state is RunState.COMPLETED
    assert sorted(ran) == ["a-0000", "a-0001", "a-0002", "a-0003", "first"]
