"""What a workflow leaves behind when it cannot be finished: every hold asked back, undo in time, no budget open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from agentnexus.core.errors import AgentRefused, BudgetExceeded, NexusError, PaymentUnknown, Unavailable
from agentnexus.core.events import Event
from agentnexus.core.offers import Capability, Need
from agentnexus.core.payments import Limits, PaymentState, Receipt, ReceiptStatus
from agentnexus.ledger.memory import MemoryBooks
from agentnexus.workflows import rollback, telling
from agentnexus.workflows.engine.port import NewRun, Retry, RunState
from agentnexus.workflows.model import Plan, PlanStep, StepStatus, Undo, Workflow, WorkflowRequest, WorkflowStatus
from agentnexus.workflows.plan_run import budget_id
from agentnexus.workflows.run import BODY
from agentnexus.workflows.worker import WorkflowRoom, open_room

from .catalogue import USDC, offer_of
from .conftest import Bench, until
from .scripted import ScriptedBudgets, ScriptedHirer, receipt_of
from .test_service import DOLLAR, House

WF = "wf_back"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "UNKNOWN_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(telling, "UNKNOWN_TRIES", 2)
    monkeypatch.setattr(rollback, "CLEANING", Retry(attempts=3, first_delay_seconds=0, longest_delay_seconds=0))


@pytest.fixture
def house(bench: Bench) -> House:
    return House(bench, ScriptedHirer([]))


def plan_of(house: House, *steps: PlanStep, max_seconds: float = 600) -> WorkflowRequest:
    named = {step.capability for step in steps} | {step.undo.capability for step in steps if step.undo}
    house.hirer.catalogue = [offer_of(Capability(name=name), "0.01") for name in sorted(named)]
    return WorkflowRequest(
        user_id="ann", text="x", max_cost=DOLLAR, auto_approve=True, max_seconds=max_seconds,
        plan=Plan(planner="hand", steps=steps),
    )  # fmt: skip


async def conduct(
    house: House, request: WorkflowRequest, room: WorkflowRoom | None = None
) -> tuple[Workflow, Sequence[Event]]:
    room = room or house.room()
    async with house.working(room) as workflows:
        await room.engine.start(NewRun(WF, BODY, request.model_dump(mode="json"), tenant="ann"))
        done = await workflows.result(WF, "ann")
        return done, [event async for event in workflows.events(WF, "ann")]


async def refuse(_need: Need, _key: str) -> object:
    raise AgentRefused("no")


async def wait_for_ever(_need: Need, _key: str) -> object:
    await asyncio.Event().wait()
    return None


@pytest.mark.parametrize("error", [PaymentUnknown("the chain is silent"), Unavailable("the database is away")])
async def test_money_that_cannot_be_had_back_now_does_not_keep_the_rest_from_coming_back(
    house: House, error: NexusError
) -> None:
    both_started = asyncio.Event()

    async def started(need: Need, key: str) -> object:
        if len([k for k in house.hirer.calls if ":one:" in k or ":two:" in k]) == 2:
            both_started.set()
        return await wait_for_ever(need, key)

    async def fail_last(_need: Need, _key: str) -> object:
        await both_started.wait()
        raise AgentRefused("no")

    cancel = house.hirer.cancel

    async def cancelling(key: str, reason: str = "") -> object:
        if ":one:" in key:
            raise error
        return await cancel(key, reason)

    house.hirer.cancel = cancelling  # type: ignore[method-assign,assignment]
    house.hirer.acts |= {"hold.one": started, "hold.two": started, "fail.now": fail_last}
    request = plan_of(
        house,
        PlanStep(id="done", title="", capability="do.it", undo=Undo(capability="undo.it")),
        PlanStep(id="one", title="", capability="hold.one", depends_on=("done",)),
        PlanStep(id="two", title="", capability="hold.two", depends_on=("done",)),
        PlanStep(id="bad", title="", capability="fail.now", depends_on=("done",)),
    )
    done, told = await conduct(house, request)
    assert done.status is WorkflowStatus.FAILED
    assert done.error is not None
    assert done.error["code"] == "agent_refused"  # the reason, not what went wrong while cleaning up
    assert f"{WF}:two:1" in house.hirer.cancelled
    assert {step.id: step.status for step in done.steps} | {"one": None} == {
        "done": StepStatus.COMPENSATED, "one": None, "two": StepStatus.REFUNDED, "bad": StepStatus.FAILED,
    }  # fmt: skip
    left = [event.data for event in told if event.data.get("not_given_back")]
    assert [(data["step"], data["error"]["code"]) for data in left] == [("one", str(error.code))]  # type: ignore[index]


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_nothing_can_be_spent_under_a_workflow_that_was_rolled_back(house: House, how: str) -> None:
    house.hirer.acts |= {"do.it": refuse if how == "failed" else wait_for_ever}
    room = house.room()
    async with house.working(room) as workflows:
        request = plan_of(house, PlanStep(id="one", title="", capability="do.it"))
        await room.engine.start(NewRun(WF, BODY, request.model_dump(mode="json"), tenant="ann"))
        await until(lambda: f"{WF}:one:1" in house.hirer.calls, "the hire")
        assert budget_id(WF) in house.budgets.made or how == "failed"
        if how == "cancelled":
            await workflows.cancel(WF, "ann")
        done = await workflows.result(WF, "ann")
    assert done.status.value == how
    assert budget_id(WF) not in house.budgets.made


async def test_a_workflow_without_a_budget_yet_is_rolled_back_without_one(house: House) -> None:
    class Refusing(ScriptedBudgets):
        async def create(self, budget_id: str, **terms: object) -> object:
            raise BudgetExceeded("the owner has nothing left", limit="total")

    house.budgets = Refusing()
    done, _ = await conduct(house, plan_of(house, PlanStep(id="one", title="", capability="do.it")))
    assert (done.status, not house.hirer.calls) == (WorkflowStatus.FAILED, True)
    assert done.error is not None
    assert done.error["code"] == "budget_exceeded"


async def test_what_was_done_is_undone_even_when_the_time_is_over(house: House) -> None:
    """With the real rules of budgets: one that ended with the workflow's time would pay for no undo."""
    books = MemoryBooks(house.bench.clock)
    await books.deposit("top-up", "wallet", DOLLAR)

    async def pay(_need: Need, key: str) -> object:
        await books.reserve(
            key, budget_id=budget_id(WF), payer_account="wallet", payee_account="seller", amount=USDC.parse("0.01")
        )
        await books.capture(key)
        return {"result": "ok"}

    async def too_slow(_need: Need, _key: str) -> object:
        house.bench.clock.advance(700)
        raise Unavailable("gone")

    house.hirer.acts |= {"do.it": pay, "undo.it": pay, "be.slow": too_slow}
    request = plan_of(
        house,
        PlanStep(id="one", title="", capability="do.it", undo=Undo(capability="undo.it")),
        PlanStep(id="two", title="", capability="be.slow", depends_on=("one",)),
    )
    room = open_room(
        house.bench.engine(), hirer=house.hirer, budgets=books.budgets, blobs=house.blobs, clock=house.bench.clock
    )
    async with house.bench.working(room.engine) as worker, asyncio.timeout(30):  # type: ignore[arg-type]  # a DurableEngine
        await room.engine.start(NewRun(WF, BODY, request.model_dump(mode="json"), tenant="ann"))

        async def ended() -> bool:
            if (await room.engine.get(WF)).state is RunState.WAITING:
                await house.bench.move(60, worker)
            return (await room.engine.get(WF)).state.final

        await until(ended, "the end")
        done = await room.workflows.get(WF, "ann")
    assert done.error is not None
    assert done.error["code"] == "agent_timeout"
    assert [step.status for step in done.steps] == [StepStatus.COMPENSATED, StepStatus.REFUNDED]
    assert (await books.balance("seller", USDC)).posted == USDC.parse("0.02")
    status = await books.budgets.status(budget_id(WF))
    assert (status.open, status.limits) == (False, Limits(total=DOLLAR))
    assert status.expires_at is not None
    assert status.expires_at > house.bench.clock.now() + timedelta(minutes=30)


async def test_a_payment_that_stays_unknown_is_never_tried_again_under_another_key(house: House) -> None:
    async def unsure(_need: Need, _key: str) -> object:
        raise PaymentUnknown("the chain is silent")

    async def away(_key: str) -> object:
        raise Unavailable("the database is away")

    house.hirer.acts["do.it"] = unsure
    house.hirer.receipts = away  # type: ignore[method-assign,assignment]
    room = house.room()
    async with house.working(room):
        request = plan_of(house, PlanStep(id="one", title="", capability="do.it"))
        await room.engine.start(NewRun(WF, BODY, request.model_dump(mode="json"), tenant="ann"))
        record = await room.engine.result(WF)
    assert (record.error or {})["code"] == "payment_unknown"
    assert set(house.hirer.calls) == {f"{WF}:one:1"}


@pytest.mark.parametrize("ending", ["cancelled", "failed"])
async def test_what_a_seller_took_before_it_was_stopped_is_in_the_cost(house: House, ending: str) -> None:
    """The refund came too late: the seller had collected, so that the money is spent and must be shown."""

    async def too_late(key: str, reason: str = "") -> list[Receipt]:
        if key not in house.hirer.calls:
            return []
        return [receipt_of(house.hirer.catalogue[0], key, ReceiptStatus.FAILED, PaymentState.CONFIRMED)]

    async def unsure(_need: Need, _key: str) -> object:
        raise PaymentUnknown("no answer")

    house.hirer.cancel = too_late  # type: ignore[method-assign]
    house.hirer.acts["do.it"] = wait_for_ever if ending == "cancelled" else unsure
    room = house.room()
    async with house.working(room) as workflows:
        request = plan_of(house, PlanStep(id="one", title="", capability="do.it"))
        await room.engine.start(NewRun(WF, BODY, request.model_dump(mode="json"), tenant="ann"))
        await until(lambda: f"{WF}:one:1" in house.hirer.calls, "the hire")
        if ending == "cancelled":
            await workflows.cancel(WF, "ann")
        done = await workflows.result(WF, "ann")
    assert done.status.value == ending
    assert done.cost == USDC.parse("0.01")
