"""The engine's contract, the same for every backend: replay, retries, waits, signals, cancel, events, fencing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agentnexus.core.canonical import Json
from agentnexus.core.clock import SeededEntropy
from agentnexus.core.errors import AgentRefused, AgentTimeout, BudgetExceeded, NexusError, NotFound, SellerFailed
from agentnexus.core.events import EventName
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.port import (
    Draft,
    NewRun,
    Phase,
    Retry,
    Run,
    RunCancelled,
    RunState,
    StepContext,
    Transition,
)
from agentnexus.workflows.engine.worker import WorkerSettings

from .conftest import QUICK, Bench, run_to_end, state_is, until


def value(output: Json):
    async def function(_context: StepContext) -> Json:
        return output

    return function


async def test_a_body_runs_and_its_output_is_kept(bench: Bench) -> None:
    engine = bench.engine()

    async def body(run: Run, given: Json) -> Json:
        return {"doubled": await run.step("double", value([given, given]))}

    engine.register("double", body)
    record = await run_to_end(bench, engine, NewRun("r1", "double", {"n": 1}, tenant="u1"))
    assert record.state is RunState.COMPLETED
    assert record.output == {"doubled": [{"n": 1}, {"n": 1}]}
    assert record.finished_at is not None


async def test_starting_the_same_id_again_changes_nothing(bench: Bench) -> None:
    engine = bench.engine()
    assert await engine.start(NewRun("r1", "b", 1))
    assert not await engine.start(NewRun("r1", "b", 2))
    answers = await asyncio.gather(*(engine.start(NewRun("r2", "b", n)) for n in range(5)))
    assert sorted(answers) == [False] * 4 + [True]
    assert (await engine.get("r1")).input == 1


async def test_an_unknown_run_is_not_found(bench: Bench) -> None:
    engine = bench.engine()
    for call in (engine.get("no"), engine.signal("no", "s"), engine.cancel("no")):
        with pytest.raises(NotFound):
            await call


async def test_parallel_steps_really_overlap(bench: Bench) -> None:
    engine = bench.engine()
    meeting = asyncio.Barrier(3)

    async def meet(context: StepContext) -> Json:
        await meeting.wait()
        return context.key

    async def body(run: Run, _given: Json) -> Json:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run.step(key, meet)) for key in "abc"]
        return [task.result() for task in tasks]

    engine.register("meet", body)
    assert (await run_to_end(bench, engine, NewRun("r1", "meet", None))).output == ["a", "b", "c"]


async def test_a_step_key_used_twice_fails_the_run(bench: Bench) -> None:
    engine = bench.engine()

    async def body(run: Run, _given: Json) -> Json:
        await run.step("same", value(1))
        return await run.step("same", value(2))

    engine.register("twice", body)
    record = await run_to_end(bench, engine, NewRun("r1", "twice", None))
    assert record.state is RunState.FAILED
    assert "used twice" in str(record.error)


async def test_a_retryable_error_is_tried_again_after_the_backoff(bench: Bench) -> None:
    engine = bench.engine()
    attempts: list[int] = []

    async def flaky(context: StepContext) -> Json:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise SellerFailed("down")
        return "up"

    def narrate(transition: Transition) -> list[Draft]:
        names = {
            Phase.STARTED: EventName.STEP_STARTED, Phase.RETRYING: EventName.STEP_RETRYING,
            Phase.COMPLETED: EventName.STEP_COMPLETED, Phase.FAILED: EventName.STEP_FAILED,
        }  # fmt: skip
        return [Draft(names[transition.phase], {"attempt": transition.attempt})]

    async def body(run: Run, _given: Json) -> Json:
        return await run.step("s", flaky, retry=Retry(attempts=3, first_delay_seconds=10), narrate=narrate)

    engine.register("flaky", body)
    await engine.start(NewRun("r1", "flaky", None))
    async with bench.working(engine) as worker, asyncio.timeout(20):
        await until(lambda: attempts == [1], "first attempt")
        await state_is(engine, "r1", RunState.WAITING)  # the backoff holds no worker
        await bench.move(4.9, worker)
        assert attempts == [1]  # never before half of the delay
        await bench.move(5.1, worker)
        await until(lambda: attempts == [1, 2], "second attempt")
        await state_is(engine, "r1", RunState.WAITING)
        await bench.move(20, worker)
        record = await engine.result("r1")
    assert record.output == "up"
    assert attempts == [1, 2, 3]
    events = [(e.name, e.data["attempt"]) async for e in engine.events("r1")]
    assert events == [
        (EventName.STEP_STARTED, 1), (EventName.STEP_RETRYING, 1), (EventName.STEP_STARTED, 2),
        (EventName.STEP_RETRYING, 2), (EventName.STEP_STARTED, 3), (EventName.STEP_COMPLETED, 3),
    ]  # fmt: skip


async def test_a_permanent_error_is_not_tried_again_and_keeps_its_class(bench: Bench) -> None:
    engine = bench.engine()
    attempts: list[int] = []
    caught: list[NexusError] = []

    async def refuse(context: StepContext) -> Json:
        attempts.append(context.attempt)
        raise AgentRefused("the file is encrypted", next_step="remove the password", field="file")

    async def body(run: Run, _given: Json) -> Json:
        try:
            await run.step("s", refuse, retry=Retry(attempts=5, first_delay_seconds=0))
        except AgentRefused as error:
            caught.append(error)
            raise
        return None

    engine.register("refuse", body)
    record = await run_to_end(bench, engine, NewRun("r1", "refuse", None))
    assert attempts == [1]
    assert record.state is RunState.FAILED
    assert record.error == {
        "code": "agent_refused",
        "message": "the file is encrypted",
        "next_step": "remove the password",
        "details": {"field": "file"},
    }
    assert caught[0].next_step == "remove the password"


async def test_attempts_are_bounded(bench: Bench) -> None:
    engine = bench.engine()
    attempts: list[int] = []

    async def down(context: StepContext) -> Json:
        attempts.append(context.attempt)
        raise SellerFailed("down")

    async def body(run: Run, _given: Json) -> Json:
        return await run.step("s", down, retry=Retry(attempts=3, first_delay_seconds=0))

    engine.register("down", body)
    record = await run_to_end(bench, engine, NewRun("r1", "down", None))
    assert attempts == [1, 2, 3]
    assert (record.error or {})["code"] == "seller_failed"


async def test_an_unexpected_exception_is_recorded_with_its_place(bench: Bench) -> None:
    engine = bench.engine()

    async def fault(_context: StepContext) -> Json:
        return {}["missing"]

    async def body(run: Run, _given: Json) -> Json:
        return await run.step("s", fault)

    engine.register("fault", body)
    record = await run_to_end(bench, engine, NewRun("r1", "fault", None))
    assert (record.error or {})["code"] == "internal"
    assert "KeyError" in str(record.error)
    assert "test_engine.py" in str(record.error)


async def test_a_step_over_its_time_is_cancelled(bench: Bench) -> None:
    engine = bench.engine()
    stopped = asyncio.Event()

    async def slow(_context: StepContext) -> Json:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return None

    async def body(run: Run, _given: Json) -> Json:
        try:
            return await run.step("s", slow, timeout_seconds=0.01)
        except AgentTimeout as error:
            return error.message

    engine.register("slow", body)
    record = await run_to_end(bench, engine, NewRun("r1", "slow", None))
    assert "0.01 seconds" in str(record.output)
    assert stopped.is_set()


@pytest.mark.parametrize("output", [{1, 2}, float("nan"), b"bytes"])
async def test_an_output_that_is_not_json_fails_the_step_and_nothing_else(bench: Bench, output: object) -> None:
    engine = bench.engine()

    async def body(run: Run, _given: Json) -> Json:
        return await run.step("s", value(output))  # type: ignore[arg-type]  # wrong on purpose

    engine.register("b", body)
    record = await run_to_end(bench, engine, NewRun("r1", "b", None))
    assert (record.error or {})["code"] == "invalid_input"


@pytest.mark.parametrize("output", [{1, 2}, float("nan"), b"bytes"])
async def test_an_output_of_the_whole_run_that_is_not_json_fails_the_run(bench: Bench, output: object) -> None:
    engine = bench.engine()

    async def body(_run: Run, _given: Json) -> Json:
        return output  # type: ignore[return-value]  # wrong on purpose

    engine.register("b", body)
    record = await run_to_end(bench, engine, NewRun("r1", "b", None))
    assert record.state is RunState.FAILED
    assert (record.error or {})["code"] == "invalid_input"


async def test_a_run_whose_end_cannot_be_told_is_given_up_and_does_not_stay_with_its_worker(bench: Bench) -> None:
    engine = DurableEngine(bench.journal, settings=replace(QUICK, recoveries_max=2), entropy=SeededEntropy(1))
    told: list[RunState] = []

    async def body(_run: Run, _given: Json) -> Json:
        return "done"

    def cannot(state: RunState, _output: Json, _error: NexusError | None) -> list[Draft]:
        told.append(state)
        if len(told) <= 2:
            raise KeyError("a word that is missing")
        return []

    engine.register("b", body, cannot)
    record = await run_to_end(bench, engine, NewRun("r1", "b", None))
    assert record.state is RunState.COMPLETED
    assert record.recoveries == 2


async def test_text_that_postgres_refuses_is_replaced_not_lost(bench: Bench) -> None:
    engine = bench.engine()

    async def body(run: Run, _given: Json) -> Json:
        return await run.step("s", value({"text": "a\x00b\ud800c", "raw": "\\u0000"}))

    engine.register("b", body)
    record = await run_to_end(bench, engine, NewRun("r1", "b", None))
    assert record.output == {"text": "a\ufffdb?c", "raw": "\\u0000"}


async def test_sleep_is_durable_and_holds_no_worker(bench: Bench) -> None:
    engine = bench.engine()

    async def body(run: Run, _given: Json) -> Json:
        await run.sleep("nap", 3600)
        return await run.step("after", value("rested"))

    engine.register("nap", body)
    await engine.start(NewRun("r1", "nap", None))
    async with bench.working(engine) as worker:
        await state_is(engine, "r1", RunState.WAITING)
        await until(lambda: worker.running == 0, "no slot held")
    await bench.move(3599)
    async with bench.working(engine) as worker:  # another worker, after a restart
        assert (await engine.get("r1")).state is RunState.WAITING
        await bench.move(2, worker)
        async with asyncio.timeout(20):
            assert (await engine.result("r1")).output == "rested"


async def test_a_delayed_start_waits_for_its_time(bench: Bench) -> None:
    engine = bench.engine()

    async def body(_run: Run, _given: Json) -> Json:
        return "ran"

    engine.register("b", body)
    later = bench.clock.now().replace(hour=13)
    await engine.start(NewRun("r1", "b", None, available_at=later))
    async with bench.working(engine) as worker:
        await engine.start(NewRun("r2", "b", None))
        async with asyncio.timeout(20):
            await engine.result("r2")
        assert (await engine.get("r1")).state is RunState.WAITING
        await bench.move(3600, worker)
        async with asyncio.timeout(20):
            assert (await engine.result("r1")).output == "ran"


async def test_a_signal_reaches_a_waiting_run_once_per_key(bench: Bench) -> None:
    engine = bench.engine()

    async def body(run: Run, _given: Json) -> Json:
        first = await run.receive("first", "approve")
        second = await run.receive("second", "approve")
        assert first is not None
        assert second is not None
        return [first.payload, second.payload]

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    async with bench.working(engine):
        await state_is(engine, "r1", RunState.WAITING)
        assert await engine.signal("r1", "other", "not for us")
        assert await engine.signal("r1", "approve", {"by": 1}, key="k1")
        assert not await engine.signal("r1", "approve", {"by": "again"}, key="k1")
        await state_is(engine, "r1", RunState.WAITING)
        twice = await asyncio.gather(*(engine.signal("r1", "approve", {"by": 2}, key="k2") for _ in range(6)))
        assert twice.count(True) == 1
        async with asyncio.timeout(20):
            record = await engine.result("r1")
    assert record.output == [{"by": 1}, {"by": 2}]
    assert not await engine.signal("r1", "approve")


async def test_signals_sent_before_the_run_looks_are_kept_in_order(bench: Bench) -> None:
    engine = bench.engine()

    async def body(run: Run, _given: Json) -> Json:
        got = [await run.receive(f"n{n}", "number") for n in range(3)]
        return [signal.payload if signal else None for signal in got]

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    for number in range(3):
        await engine.signal("r1", "number", number)
    async with bench.working(engine), asyncio.timeout(20):
        assert (await engine.result("r1")).output == [0, 1, 2]


async def test_waiting_for_a_signal_has_an_end(bench: Bench) -> None:
    engine = bench.engine()

    async def body(run: Run, _given: Json) -> Json:
        return "nobody" if await run.receive("wait", "approve", timeout_seconds=60) is None else "somebody"

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    async with bench.working(engine) as worker:
        await state_is(engine, "r1", RunState.WAITING)
        await bench.move(61, worker)
        async with asyncio.timeout(20):
            assert (await engine.result("r1")).output == "nobody"


async def test_cancel_reaches_the_running_step_and_clean_up_still_runs(bench: Bench) -> None:
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
        try:
            await run.step("endless", endless)
        except RunCancelled as stop:
            trace.append(stop.reason)
            await run.step("undo", undo, shielded=True)
            raise
        return None

    def narrate_end(state: RunState, _output: Json, error: NexusError | None) -> list[Draft]:
        assert error is not None
        return [Draft(EventName.WORKFLOW_CANCELLED, {"state": state.value, "why": error.message})]

    engine.register("b", body, narrate_end)
    await engine.start(NewRun("r1", "b", None))
    async with bench.working(engine), asyncio.timeout(20):
        await working.wait()
        assert await engine.cancel("r1", "no longer wanted")
        record = await engine.result("r1")
    assert record.state is RunState.CANCELLED
    assert trace == ["stopped", "no longer wanted", "undone"]
    events = [event async for event in engine.events("r1")]
    assert [(e.name, e.data) for e in events] == [
        (EventName.WORKFLOW_CANCELLED, {"state": "cancelled", "why": "no longer wanted"})
    ]
    assert not await engine.cancel("r1")


async def test_a_run_cancelled_before_it_began_does_no_step(bench: Bench) -> None:
    engine = bench.engine()
    ran: list[str] = []

    async def touch(_context: StepContext) -> Json:
        ran.append("ran")
        return None

    async def body(run: Run, _given: Json) -> Json:
        return await run.step("s", touch)

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    await engine.cancel("r1")
    async with bench.working(engine), asyncio.timeout(20):
        assert (await engine.result("r1")).state is RunState.CANCELLED
    assert ran == []


async def test_cancel_wakes_a_run_that_waits_for_a_signal(bench: Bench) -> None:
    engine = bench.engine()

    async def body(run: Run, _given: Json) -> Json:
        await run.receive("wait", "never")
        return None

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    async with bench.working(engine), asyncio.timeout(20):
        await state_is(engine, "r1", RunState.WAITING)
        await engine.cancel("r1", "changed my mind")
        record = await engine.result("r1")
    assert (record.error or {})["message"] == "changed my mind"


async def test_higher_priority_first_then_oldest(bench: Bench) -> None:
    bench.settings = WorkerSettings(runs_max=1, claim_max=1)
    engine = bench.engine()
    order: list[str] = []

    async def body(run: Run, _given: Json) -> Json:
        order.append(run.id)
        return None

    engine.register("b", body)
    for run_id, priority in (("low-1", 0), ("low-2", 0), ("high", 5), ("urgent", 9)):
        await engine.start(NewRun(run_id, "b", None, priority=priority))
        bench.clock.advance(1)
    async with bench.working(engine), asyncio.timeout(20):
        await engine.result("low-2")
    assert order == ["urgent", "high", "low-1", "low-2"]


async def test_a_worker_leaves_bodies_it_does_not_know_to_others(bench: Bench) -> None:
    knowing, ignorant = bench.engine(), bench.engine()

    async def body(_run: Run, _given: Json) -> Json:
        return "known"

    knowing.register("b", body)
    ignorant.register("other", body)
    await knowing.start(NewRun("r1", "b", None))
    async with bench.working(ignorant):
        await ignorant.start(NewRun("r2", "other", None))
        async with asyncio.timeout(20):
            await ignorant.result("r2")
        assert (await knowing.get("r1")).state is RunState.QUEUED
        async with bench.working(knowing), asyncio.timeout(20):
            assert (await knowing.result("r1")).output == "known"


async def test_events_replay_then_stream_live_without_loss_or_repeat(bench: Bench) -> None:
    engine = bench.engine()
    gate = asyncio.Event()

    async def noisy(context: StepContext) -> Json:
        for number in range(20):
            context.emit(Draft(EventName.STEP_PROGRESS, {"n": number}))
        await gate.wait()
        for number in range(20, 40):
            context.emit(Draft(EventName.STEP_PROGRESS, {"n": number}))
        return None

    async def body(run: Run, _given: Json) -> Json:
        return await run.step("s", noisy)

    def narrate_end(_state: RunState, _output: Json, _error: NexusError | None) -> list[Draft]:
        return [Draft(EventName.WORKFLOW_COMPLETED)]

    engine.register("b", body, narrate_end)
    await engine.start(NewRun("r1", "b", None, drafts=(Draft(EventName.WORKFLOW_PLANNING),)))
    seen: list[int] = []
    async with bench.working(engine), asyncio.timeout(20):
        async for event in engine.events("r1"):
            seen.append(event.sequence)
            if len(seen) == 15:
                break  # the client goes away …
        gate.set()
        async for event in engine.events("r1", after=seen[-1]):  # … and comes back
            seen.append(event.sequence)
    assert seen == list(range(1, 43))
    everything = [event async for event in engine.events("r1")]
    assert [e.data["n"] for e in everything[1:-1]] == list(range(40))
    assert everything[0].name is EventName.WORKFLOW_PLANNING
    assert everything[-1].name is EventName.WORKFLOW_COMPLETED


async def test_a_mark_is_told_once_even_after_a_restart(bench: Bench) -> None:
    engine = bench.engine()

    async def body(run: Run, _given: Json) -> Json:
        await run.mark("told", Draft(EventName.WORKFLOW_EXECUTING, {}, {"status": "executing"}))
        await run.receive("wait", "go")
        return None

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None, attributes={"status": "planning", "kept": True}))
    async with bench.working(engine), asyncio.timeout(20):
        await state_is(engine, "r1", RunState.WAITING)
        await engine.signal("r1", "go")
        record = await engine.result("r1")
    assert record.attributes == {"status": "executing", "kept": True}
    assert [e.sequence async for e in engine.events("r1")] == [1]


async def test_runs_are_listed_per_tenant_newest_first_by_page(bench: Bench) -> None:
    engine = bench.engine()
    for number in range(5):
        await engine.start(NewRun(f"r{number}", "b", None, tenant="ann"))
        bench.clock.advance(1)
    await engine.start(NewRun("other", "b", None, tenant="bob"))
    first = await engine.list_runs("ann", 3)
    assert [run.id for run in first] == ["r4", "r3", "r2"]
    rest = await engine.list_runs("ann", 3, before=(first[-1].created_at, first[-1].id))
    assert [run.id for run in rest] == ["r1", "r0"]

    async def six_are_queued() -> bool:
        return (await engine.counts()).get(RunState.QUEUED) == 6

    await until(six_are_queued, "all are counted")


async def test_a_failed_branch_stops_its_neighbours_and_the_first_error_is_the_runs(bench: Bench) -> None:
    engine = bench.engine()
    neighbour_stopped = asyncio.Event()
    started = asyncio.Event()

    async def fail(_context: StepContext) -> Json:
        await started.wait()
        raise BudgetExceeded("too dear")

    async def neighbour(_context: StepContext) -> Json:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            neighbour_stopped.set()
        return None

    async def body(run: Run, _given: Json) -> Json:
        async with asyncio.TaskGroup() as group:
            group.create_task(run.step("bad", fail))
            group.create_task(run.step("good", neighbour))
        return None

    engine.register("b", body)
    record = await run_to_end(bench, engine, NewRun("r1", "b", None))
    assert (record.error or {})["code"] == "budget_exceeded"
    assert neighbour_stopped.is_set()


async def test_a_stopping_worker_hands_its_runs_over_at_once(bench: Bench) -> None:
    engine = bench.engine()
    working = asyncio.Event()
    hold = asyncio.Event()
    trace: list[str] = []

    async def first(_context: StepContext) -> Json:
        trace.append("first")
        return "recorded"

    async def long(context: StepContext) -> Json:
        trace.append(f"long {context.idempotency_key[:4]}")
        working.set()
        await hold.wait()
        return "done"

    async def body(run: Run, _given: Json) -> Json:
        return [await run.step("first", first), await run.step("long", long)]

    engine.register("b", body)
    await engine.start(NewRun("r1", "b", None))
    async with bench.working(engine), asyncio.timeout(20):
        await working.wait()
    assert (await engine.get("r1")).state is RunState.QUEUED
    assert (await engine.get("r1")).recoveries == 0
    hold.set()
    async with bench.working(engine), asyncio.timeout(20):
        assert (await engine.result("r1")).output == ["recorded", "done"]
    assert trace[0] == "first"
    assert trace.count("first") == 1
    assert len(set(trace[1:])) == 1  # the repeat carries the same key


async def test_the_order_in_which_steps_ended_is_recorded_even_when_the_clock_stands_still(bench: Bench) -> None:
    engine = bench.engine()
    names = ["c", "a", "b"]
    done = {name: asyncio.Event() for name in names}
    orders: list[list[str]] = []

    async def body(run: Run, _given: Json) -> Json:
        async def step(name: str) -> None:
            async def wait(_context: StepContext) -> Json:
                before = names.index(name)
                if before:
                    await done[names[before - 1]].wait()
                return None

            await run.step(name, wait)
            done[name].set()

        async with asyncio.TaskGroup() as group:
            for name in sorted(names):
                group.create_task(step(name))
        orders.append(order(run))
        await run.receive("go", "go")  # another worker, or this one with nothing in memory, reads it back
        return None

    def order(run: Run) -> list[str]:
        ends = {name: known.ended_at for name in names if (known := run.recorded(name)) is not None}
        assert None not in ends.values()
        assert len(set(ends.values())) == len(names)
        return sorted(names, key=lambda name: str(ends[name]))

    engine.register("ordered", body)
    await engine.start(NewRun("run-order", "ordered", None))
    async with bench.working(engine), asyncio.timeout(20):
        await state_is(engine, "run-order", RunState.WAITING)
    async with bench.working(engine), asyncio.timeout(20):
        await engine.signal("run-order", "go")
        await engine.result("run-order")
    assert len(orders) > 1
    assert all(found == names for found in orders)
