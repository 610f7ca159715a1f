"""A workflow's time and its steps' times bound it, on every backend, whatever a seller, a planner or a backoff does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentnexus.core.errors import SellerFailed
from agentnexus.core.offers import Capability, Need
from agentnexus.workflows import run as body
from agentnexus.workflows.engine.port import NewRun, Retry, RunState
from agentnexus.workflows.engine.worker import Worker
from agentnexus.workflows.model import (
    Plan,
    PlanStep,
    StepRetry,
    StepStatus,
    Undo,
    Workflow,
    WorkflowRequest,
    WorkflowStatus,
)
from agentnexus.workflows.planner.port import Offered, Task
from agentnexus.workflows.run import BODY
from agentnexus.workflows.transforms import Pick
from agentnexus.workflows.worker import WorkflowRoom, open_room

from .catalogue import USDC, offer_of
from .conftest import Bench, state_is, until
from .scripted import ScriptedFunds, ScriptedHirer
from .test_service import DOLLAR, House

WF = "wf_time"


@pytest.fixture
def house(bench: Bench) -> House:
    return House(bench, ScriptedHirer([offer_of(Capability(name=name), "0.01") for name in ("do.it", "undo.it")]))


def request_of(*steps: PlanStep, max_seconds: float = 60, auto_approve: bool = True) -> WorkflowRequest:
    return WorkflowRequest(
        user_id="ann", text="x", max_cost=DOLLAR, auto_approve=auto_approve, max_seconds=max_seconds,
        plan=Plan(planner="hand", steps=steps),
    )  # fmt: skip


def step(name: str = "one", *waits: str, **more: object) -> PlanStep:
    return PlanStep(id=name, title="", capability="do.it", depends_on=waits, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def begun(house: House, room: WorkflowRoom, request: WorkflowRequest) -> AsyncIterator[Worker]:
    async with house.bench.working(room.engine) as worker, asyncio.timeout(30):  # type: ignore[arg-type]  # a DurableEngine
        await room.engine.start(NewRun(WF, BODY, request.model_dump(mode="json"), tenant="ann"))
        yield worker


async def over(room: WorkflowRoom) -> Workflow:
    return await room.workflows.result(WF, "ann")


async def wait_for_ever(_need: Need, _key: str) -> object:
    await asyncio.Event().wait()
    return None


async def test_a_seller_that_never_answers_is_stopped_when_the_time_is_over(house: House) -> None:
    """One that does not even keep to the deadline it was given."""
    house.hirer.acts["do.it"] = wait_for_ever
    funds = ScriptedFunds()
    funds.balances["ann"] = DOLLAR
    room = open_room(
        house.bench.engine(), hirer=house.hirer, budgets=house.budgets, blobs=house.blobs, clock=house.bench.clock,
        funds=funds,
    )  # fmt: skip
    async with begun(house, room, request_of(step())) as worker:
        await until(lambda: f"{WF}:one:1" in house.hirer.calls, "the hire")
        await house.bench.move(59, worker)
        assert (await room.engine.get(WF)).state is RunState.RUNNING
        await house.bench.move(1, worker)
        done = await over(room)
    assert (done.status, (done.error or {})["code"]) == (WorkflowStatus.FAILED, "agent_timeout")
    assert f"{WF}:one:1" in house.hirer.cancelled
    assert (house.budgets.made, funds.balances["ann"], done.cost) == ({}, DOLLAR, USDC.zero())


async def test_what_was_done_in_time_is_undone_after_it(house: House) -> None:
    async def first_only(need: Need, key: str) -> object:
        return {} if ":one:" in key else await wait_for_ever(need, key)

    house.hirer.acts["do.it"] = first_only
    room = house.room()
    steps = (step("one", undo=Undo(capability="undo.it")), step("two", "one"))
    async with begun(house, room, request_of(*steps)) as worker:
        await until(lambda: f"{WF}:two:1" in house.hirer.calls, "the second hire")
        await house.bench.move(60, worker)
        done = await over(room)
    assert done.status is WorkflowStatus.FAILED
    assert done.steps[0].status is StepStatus.COMPENSATED
    assert done.cost == USDC.parse("0.02")


async def test_a_step_that_waits_to_be_tried_again_is_not_tried_after_the_time(house: House) -> None:
    async def fail(_need: Need, _key: str) -> object:
        raise SellerFailed("busy")

    house.hirer.acts["do.it"] = fail
    room = house.room()
    slow = StepRetry(attempts=5, first_delay_seconds=500, longest_delay_seconds=500)
    async with begun(house, room, request_of(step(retry=slow))) as worker:
        await until(lambda: f"{WF}:one:1" in house.hirer.calls, "the first attempt")
        await state_is(room.engine, WF, RunState.WAITING)  # type: ignore[arg-type]  # a DurableEngine
        await house.bench.move(60, worker)
        done = await over(room)
    assert (done.status, (done.error or {})["code"]) == (WorkflowStatus.FAILED, "agent_timeout")
    assert list(house.hirer.calls) == [f"{WF}:one:1"]


async def test_the_time_goes_on_while_another_worker_takes_over(house: House) -> None:
    house.hirer.acts["do.it"] = wait_for_ever
    room = house.room()
    async with begun(house, room, request_of(step())) as worker:
        await until(lambda: f"{WF}:one:1" in house.hirer.calls, "the hire")
        await house.bench.move(40, worker)
    async with begun(house, room, request_of(step())) as worker:
        await until(lambda: house.hirer.calls[f"{WF}:one:1"] == 2, "the hire again")
        assert house.hirer.deadlines[f"{WF}:one:1"] == pytest.approx(20)
        await house.bench.move(20, worker)
        assert (await over(room)).status is WorkflowStatus.FAILED


async def test_waiting_for_an_approval_does_not_use_up_the_time(house: House) -> None:
    room = house.room()
    async with begun(house, room, request_of(step(), auto_approve=False)) as worker:
        await room.workflows.settle_at(WF, "ann")
        await house.bench.move(3600, worker)
        await room.workflows.approve(WF, "ann")
        done = await over(room)
    assert done.status is WorkflowStatus.COMPLETED
    assert house.hirer.deadlines[f"{WF}:one:1"] == pytest.approx(60)


@pytest.mark.parametrize(("own", "given"), [(None, 60), (7.5, 7.5), (600, 60)])
async def test_a_step_has_its_own_time_and_at_most_the_workflows(house: House, own: float | None, given: float) -> None:
    room = house.room()
    async with begun(house, room, request_of(step(timeout_seconds=own))):
        assert (await over(room)).status is WorkflowStatus.COMPLETED
    assert house.hirer.deadlines[f"{WF}:one:1"] == pytest.approx(given)


async def test_a_planner_that_never_answers_is_stopped(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "PLANNING", Retry(attempts=4, first_delay_seconds=0, longest_delay_seconds=0))
    asked = 0

    class Silent:
        name = "silent"

        async def plan(self, _task: Task, _offered: Offered) -> Plan:
            nonlocal asked
            asked += 1
            await asyncio.Event().wait()
            raise AssertionError

    room = open_room(
        house.bench.engine(), hirer=house.hirer, budgets=house.budgets, blobs=house.blobs, clock=house.bench.clock,
        planners=[Silent()],
    )  # fmt: skip
    request = WorkflowRequest(user_id="ann", text="do it", max_cost=DOLLAR, max_seconds=0.05)
    async with begun(house, room, request):
        done = await over(room)
    assert (done.status, (done.error or {})["code"]) == (WorkflowStatus.FAILED, "agent_timeout")
    assert asked == 1


async def test_a_transform_has_a_time_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def stuck(*_: object) -> object:
        release.wait()
        return None

    monkeypatch.setattr(body, "transformed", stuck)
    reshape = PlanStep(
        id="two", title="", depends_on=("one",), capability="plan.transform", timeout_seconds=0.05,
        transform=Pick(op="pick", source={"$step": "one"}, path="result"),
    )  # fmt: skip
    room = house.room()
    async with begun(house, room, request_of(step(), reshape)):
        done = await over(room)
        release.set()
    assert (done.status, (done.error or {})["code"]) == (WorkflowStatus.FAILED, "agent_timeout")
