"""What bounds a run: its deadline, its steps, how many at once. Every bound leaves clean-up alone."""

from __future__ import annotations

import asyncio

import pytest

from agentnexus.core.canonical import Json
from agentnexus.core.errors import AgentTimeout, NexusError, SellerFailed
from agentnexus.workflows.engine.port import NewRun, Retry, Run, RunState, StepContext
from agentnexus.workflows.engine.worker import WorkerSettings

from .conftest import QUICK, Bench, run_to_end, state_is, until


async def nothing(_context: StepContext) -> Json:
    return None


async def test_at_its_deadline_a_running_step_is_stopped_and_clean_up_still_runs(bench: Bench) -> None:
    engine = bench.engine()
    working = asyncio.Event()
    trace: list[str] = []

    async def endless(_context: StepContext) -> Json:
        working.set()
        try:
            await asyncio.Event().wait()
        finally:
            trace.append("stopped")
        return None

    async def undo(_context: StepContext) -> Json:
        trace.append("undone")
        return None

    async def body(run: Run, _given: Json) -> Json:
        await run.limit_time("time", 60)
        try:
            await run.step("endless", endless)
        except AgentTimeout:
            await run.step("undo", undo, shielded=True)
            raise
        return None

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    async with bench.working(engine) as worker, asyncio.timeout(20):
        await working.wait()
        await bench.move(59, worker)
        assert trace == []
        await bench.move(2, worker)
        record = await engine.result("r1")
    assert record.state is RunState.FAILED
    assert (record.error or {})["code"] == "agent_timeout"
    assert trace == ["stopped", "undone"]


@pytest.mark.parametrize("wait", ["signal", "sleep", "backoff"])
async def test_a_deadline_reaches_a_run_in_any_wait_and_counts_from_the_first_time(bench: Bench, wait: str) -> None:
    engine = bench.engine()

    async def failing(_context: StepContext) -> Json:
        raise SellerFailed("down")

    async def body(run: Run, _given: Json) -> Json:
        await run.limit_time("time", 100)
        match wait:
            case "signal":
                await run.receive("s", "never")
            case "sleep":
                await run.sleep("s", 1000)
            case _:
                patient = Retry(attempts=5, first_delay_seconds=1000, longest_delay_seconds=1000)
                await run.step("s", failing, retry=patient)
        return None

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    async with bench.working(engine):
        await state_is(engine, "r1", RunState.WAITING)
    await bench.move(99)
    async with bench.working(engine) as worker, asyncio.timeout(20):  # another worker, after a restart
        assert (await engine.get("r1")).state is RunState.WAITING
        await bench.move(2, worker)
        record = await engine.result("r1")
    assert (record.error or {})["code"] == "agent_timeout"


async def test_the_earliest_deadline_counts(bench: Bench) -> None:
    engine = bench.engine()

    async def body(run: Run, _given: Json) -> Json:
        await run.limit_time("long", 1000)
        await run.limit_time("short", 10)
        await run.limit_time("longer", 2000)
        await run.sleep("s", 100)
        return None

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    async with bench.working(engine) as worker, asyncio.timeout(20):
        await state_is(engine, "r1", RunState.WAITING)
        await bench.move(11, worker)
        assert (await engine.result("r1")).state is RunState.FAILED


async def test_a_run_in_time_never_hears_of_its_deadline(bench: Bench) -> None:
    engine = bench.engine()

    async def body(run: Run, _given: Json) -> Json:
        due = await run.limit_time("time", 60)
        await run.step("s", nothing)
        return due.isoformat()

    engine.register("b", body)
    began = bench.clock.now()
    record = await run_to_end(bench, engine, NewRun("r1", "b", None))
    assert record.state is RunState.COMPLETED
    assert str(record.output) > began.isoformat()


async def test_steps_beyond_the_limit_are_refused_and_clean_up_is_not(bench: Bench) -> None:
    bench.settings = WorkerSettings(
        lease_seconds=1e7, look_seconds=QUICK.look_seconds, renew_seconds=QUICK.renew_seconds, steps_max=3
    )
    engine = bench.engine()
    cleaned: list[str] = []

    async def clean(context: StepContext) -> Json:
        cleaned.append(context.key)
        return None

    async def body(run: Run, _given: Json) -> Json:
        try:
            for number in range(10):
                await run.step(f"s{number}", nothing)
        except NexusError:
            for number in range(5):
                await run.step(f"clean{number}", clean, shielded=True)
            raise
        return None

    engine.register("b", body)
    record = await run_to_end(bench, engine, NewRun("r1", "b", None))
    assert (record.error or {})["code"] == "limit_exceeded"
    assert "at most 3 steps" in str(record.error)
    assert len(cleaned) == 5


async def test_no_more_steps_run_at_once_than_allowed_and_all_run(bench: Bench) -> None:
    bench.settings = WorkerSettings(
        lease_seconds=1e7, look_seconds=QUICK.look_seconds, renew_seconds=QUICK.renew_seconds, parallel_max=3
    )
    engine = bench.engine()
    at_once, most, gate = 0, 0, asyncio.Event()

    async def crowded(context: StepContext) -> Json:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await gate.wait()
        at_once -= 1
        return context.key

    async def body(run: Run, _given: Json) -> Json:
        return list(await asyncio.gather(*(run.step(f"s{n}", crowded) for n in range(8))))

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    async with bench.working(engine), asyncio.timeout(20):
        await until(lambda: at_once == 3, "as many as are allowed")
        gate.set()
        record = await engine.result("r1")
    assert record.output == [f"s{n}" for n in range(8)]
    assert most == 3


async def test_a_cancelled_run_does_not_begin_the_steps_that_waited_for_room(bench: Bench) -> None:
    bench.settings = WorkerSettings(
        lease_seconds=1e7, look_seconds=QUICK.look_seconds, renew_seconds=QUICK.renew_seconds, parallel_max=1
    )
    engine = bench.engine()
    began: list[str] = []

    async def endless(context: StepContext) -> Json:
        began.append(context.key)
        await asyncio.Event().wait()
        return None

    async def body(run: Run, _given: Json) -> Json:
        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(run.step(f"s{number}", endless))
        return None

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    async with bench.working(engine), asyncio.timeout(20):
        await until(lambda: began == ["s0"], "one has begun")
        await engine.cancel("r1")
        assert (await engine.result("r1")).state is RunState.CANCELLED
    assert began == ["s0"]
