"""Any plan whatever, run by a real engine: order, money, skipping and results agree with a model of ten lines."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import AgentRefused
from agentnexus.core.offers import Capability, Need
from agentnexus.workflows.engine.memory import MemoryJournal
from agentnexus.workflows.engine.port import NewRun
from agentnexus.workflows.model import Plan, PlanStep, StepStatus, Undo, Workflow, WorkflowRequest, WorkflowStatus
from agentnexus.workflows.run import BODY
from agentnexus.workflows.worker import open_room

from .catalogue import USDC, offer_of
from .conftest import Bench
from .scripted import ScriptedFunds, ScriptedHirer
from .test_service import DOLLAR, House

PRICE = USDC.parse("0.01")


@st.composite
def plans(draw: st.DrawFn) -> tuple[PlanStep, ...]:
    """Up to eight steps: hires and transforms, some with a condition on an earlier step, some with a default for it."""
    steps: list[PlanStep] = []
    for number in range(draw(st.integers(1, 8))):
        earlier = draw(st.lists(st.sampled_from([s.id for s in steps]), max_size=2, unique=True)) if steps else []
        default = {"default": "none"} if draw(st.booleans()) else {}
        used = [{"$step": step_id, "path": "text", **default} for step_id in earlier]
        body: dict[str, object] = {"capability": "a.b", "input": {"parts": used}}
        if draw(st.booleans()):
            template = {f"p{at}": part for at, part in enumerate(used)}
            body = {"transform": {"op": "choose", "when": {"value": 1, "test": "empty"}, "then": 0,
                                  "otherwise": {"text": f"s{number}", **template}}}  # fmt: skip
        if draw(st.integers(0, 3)) == 0:
            body["when"] = {"value": draw(st.booleans()), "test": "true"}
        body |= {"id": f"s{number}", "title": "", "depends_on": earlier}
        steps.append(PlanStep.model_validate(body))
    return tuple(draw(st.permutations(steps)))


def expected_to_run(steps: tuple[PlanStep, ...]) -> set[str]:
    """What runs: a step whose condition holds and that misses nothing it has no default for."""
    runs: set[str] = set()
    for step in sorted(steps, key=lambda each: each.id):
        missing = [d for d in step.depends_on if d not in runs and "default" not in str(step.templates)]
        wanted = step.when is None or step.when.value is True  # type: ignore[union-attr]  # only tests are drawn
        if wanted and not missing:
            runs.add(step.id)
    return runs


def house() -> House:
    clock = ManualClock(datetime(2026, 11, 21, tzinfo=UTC))
    return House(Bench(MemoryJournal(clock), clock), ScriptedHirer([offer_of(Capability(name="a.b"), "0.01")]))


def request(steps: tuple[PlanStep, ...]) -> WorkflowRequest:
    output = {step.id: {"$step": step.id, "path": "text"} for step in steps}
    plan = Plan(planner="hand", steps=steps, output=output)
    return WorkflowRequest(user_id="ann", text="x", max_cost=DOLLAR, auto_approve=True, plan=plan)


async def _run(
    where: House, steps: tuple[PlanStep, ...], funds: ScriptedFunds | None = None
) -> tuple[Workflow, list[tuple[str, str]]]:
    room = open_room(
        where.bench.engine(), hirer=where.hirer, budgets=where.budgets, blobs=where.blobs, clock=where.bench.clock,
        funds=funds,
    )  # fmt: skip
    async with where.working(room) as workflows, asyncio.timeout(20):
        await room.engine.start(NewRun("wf_any", BODY, request(steps).model_dump(mode="json"), tenant="ann"))
        done = await workflows.result("wf_any", "ann")
        told = [(e.name.value, str(e.data.get("step"))) async for e in workflows.events("wf_any", "ann")]
    return done, told


@settings(max_examples=40, deadline=None)
@given(plans())
async def test_what_runs_what_is_skipped_what_is_paid_and_in_which_order(steps: tuple[PlanStep, ...]) -> None:
    where = house()

    async def act(need: Need, key: str) -> object:
        assert need.input is not None
        return {"text": key.split(":")[1]}

    where.hirer.acts["a.b"] = act
    done, told = await _run(where, steps)
    runs = expected_to_run(steps)
    assert done.status is WorkflowStatus.COMPLETED
    assert {step.id for step in done.steps if step.status is StepStatus.COMPLETED} == runs
    assert {step.id for step in done.steps if step.status is StepStatus.SKIPPED} == {s.id for s in steps} - runs
    assert done.result == {step.id: step.id if step.id in runs else None for step in steps}
    hired = [step for step in steps if step.id in runs and not step.local]
    assert done.cost == PRICE * len(hired)
    assert set(where.hirer.calls.values()) <= {1}
    assert len(where.hirer.calls) == len(hired)
    order = [step for name, step in told if name == "step.started"]
    ended = [step for name, step in told if name in ("step.completed", "step.skipped")]
    assert sorted(order) == sorted(runs)
    assert sorted(ended) == sorted(step.id for step in steps)
    position = {pair: at for at, pair in enumerate(told)}
    for step in steps:
        for earlier in step.depends_on:
            if step.id in runs and earlier in runs:
                assert position["step.completed", earlier] < position["step.started", step.id]


@settings(max_examples=30, deadline=None)
@given(plans(), st.data())
async def test_wherever_it_fails_money_and_undo_agree(steps: tuple[PlanStep, ...], data: st.DataObject) -> None:
    """Every completed hire that declares an undo is undone once; nothing else is; what failed costs nothing."""
    where = house()
    where.hirer.catalogue.append(offer_of(Capability(name="un.do"), "0.01"))
    steps = tuple(s if s.local else s.model_copy(update={"undo": Undo(capability="un.do")}) for s in steps)
    hires = sorted(step.id for step in steps if not step.local and step.id in expected_to_run(steps))
    bad = data.draw(st.sampled_from(hires)) if hires else ""

    async def act(_need: Need, key: str) -> object:
        step = key.split(":")[1]
        if step == bad:
            raise AgentRefused("no", next_step="ask for something else")
        return {"text": step}

    where.hirer.acts["a.b"] = act
    funds = ScriptedFunds()
    funds.balances["ann"] = DOLLAR
    done, told = await _run(where, steps, funds)
    assert done.status is (WorkflowStatus.FAILED if bad else WorkflowStatus.COMPLETED)
    completed = {step for name, step in told if name == "step.completed"}
    bought = {step.id for step in steps if not step.local and step.id in completed}
    undone = {key.split(":")[1].removeprefix("undo-") for key in where.hirer.calls if ":undo-" in key}
    assert undone == (bought if bad else set())
    assert {step.id for step in done.steps if step.status is StepStatus.COMPENSATED} == undone
    assert done.cost == PRICE * (len(bought) + len(undone)), "an undo is paid, too"
    assert sum(amount.atomic for amount in funds.captured.values()) == done.cost.atomic
    assert funds.balances["ann"] == DOLLAR - done.cost
    assert funds.reserved == {}
