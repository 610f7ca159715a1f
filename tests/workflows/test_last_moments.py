"""Hires that end in the very moment in which they are stopped: their sellers are paid, so they are undone or told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from agentnexus.core.errors import AgentRefused, PaidUndelivered, PaymentUnknown, SellerFailed
from agentnexus.core.events import Event
from agentnexus.core.money import Money
from agentnexus.core.offers import Capability, Need
from agentnexus.core.payments import PaymentState, Receipt, ReceiptStatus
from agentnexus.hiring.model import Hired
from agentnexus.workflows import rollback, telling
from agentnexus.workflows.engine.port import NewRun, Retry
from agentnexus.workflows.model import Plan, PlanStep, StepRetry, StepState, StepStatus, Undo, Workflow, WorkflowRequest
from agentnexus.workflows.run import BODY
from agentnexus.workflows.worker import WorkflowRoom, open_room

from .catalogue import USDC, offer_of
from .conftest import Bench
from .scripted import AT, ScriptedFunds, ScriptedHirer, receipt_of
from .test_service import DOLLAR, House

WF = "wf_moment"
CENT = USDC.parse("0.01")
BACK = Undo(capability="undo.it", input={"of": {"$step": "one", "path": "result.text"}})


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "UNKNOWN_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(telling, "UNKNOWN_TRIES", 2)
    monkeypatch.setattr(rollback, "CLEANING", Retry(attempts=3, first_delay_seconds=0, longest_delay_seconds=0))


@pytest.fixture
def house(bench: Bench) -> House:
    names = ("do.it", "do.more", "fail.now", "undo.it")
    return House(bench, ScriptedHirer([offer_of(Capability(name=name), "0.01") for name in names]))


def one(undo: Undo | None = BACK, **more: object) -> PlanStep:
    return PlanStep(id="one", title="", capability="do.it", undo=undo, **more)  # type: ignore[arg-type]


def step_one(ended: Workflow) -> StepState:
    return next(step for step in ended.steps if step.id == "one")


async def conduct(house: House, *steps: PlanStep, room: WorkflowRoom | None = None) -> tuple[Workflow, Sequence[Event]]:
    room = room or house.room()
    request = WorkflowRequest(
        user_id="ann", text="x", max_cost=DOLLAR, auto_approve=True, plan=Plan(planner="hand", steps=steps)
    )

    async def overtake() -> None:
        """The hire is done; before its answer comes, it is stopped."""
        if not any(step.capability == "fail.now" for step in steps):
            await room.engine.cancel(WF, "enough")
        done.set()
        await asyncio.Event().wait()

    async def fail_after(_need: Need, _key: str) -> object:
        await done.wait()
        raise AgentRefused("no")

    done = asyncio.Event()
    house.hirer.ways_back.setdefault("do.it", overtake)
    house.hirer.acts.setdefault("fail.now", fail_after)
    async with house.working(room) as workflows:
        await room.engine.start(NewRun(WF, BODY, request.model_dump(mode="json"), tenant="ann"))
        ended = await workflows.result(WF, "ann")
        return ended, [event async for event in workflows.events(WF, "ann")]


@pytest.mark.parametrize("stopped_by", ["cancel", "neighbour"])
async def test_what_was_done_when_it_was_stopped_is_undone_with_its_own_output(house: House, stopped_by: str) -> None:
    neighbour = [PlanStep(id="bad", title="", capability="fail.now")] if stopped_by == "neighbour" else []
    ended, told = await conduct(house, one(), *neighbour)
    assert ended.status.value == ("cancelled" if stopped_by == "cancel" else "failed")
    assert house.hirer.needs[f"{WF}:undo-one:1"].input == {"of": "do.it done"}  # the output that nobody had heard of
    assert step_one(ended).status is StepStatus.COMPENSATED
    assert ended.not_undone == ()
    names = [event.name.value for event in told if event.data.get("step") == "one"]
    assert names[-6:] == [
        "payment.reserved", "payment.settled", "step.completed", "payment.reserved", "payment.settled",
        "step.compensated",
    ]  # fmt: skip
    # Asked again for its answer, and not hired again.
    assert [key for key in house.hirer.answers if ":one:" in key] == [f"{WF}:one:1"]


async def test_what_was_done_when_it_was_stopped_and_has_no_undo_is_told(house: House) -> None:
    ended, told = await conduct(house, one(undo=None))
    assert [(left.step, left.paid) for left in ended.not_undone] == [("one", CENT)]
    assert "undone" in ended.not_undone[0].reason
    assert [event.data["reason"] for event in told if event.data.get("not_undone") is True] == [
        ended.not_undone[0].reason
    ]
    assert step_one(ended).status is StepStatus.COMPLETED
    assert ended.cost == CENT
    assert ended.to_task_json()["not_undone"] == [{"step": "one", "reason": ended.not_undone[0].reason,
                                                   "paid": ended.not_undone[0].paid.to_json()}]  # fmt: skip


async def test_a_hire_whose_answer_is_lost_is_told_when_its_undo_needs_it(house: House) -> None:
    hire = house.hirer.hire

    async def forgetful(need: Need, **more: object) -> Hired:
        if more["key"] in house.hirer.answers and need.capability == "do.it":
            raise AgentRefused("its output is not kept any more")
        return await hire(need, **more)  # type: ignore[arg-type]

    house.hirer.hire = forgetful  # type: ignore[method-assign,assignment]
    ended, _ = await conduct(house, one())
    assert [left.step for left in ended.not_undone] == ["one"]
    assert ended.cost == CENT


async def test_several_that_were_done_are_undone_last_done_first(house: House) -> None:
    both = asyncio.Event()
    order: list[str] = []

    async def second_first(_need: Need, _key: str) -> object:
        await both.wait()
        return {"result": {"text": "one"}}

    async def stay() -> None:
        both.set()
        await asyncio.Event().wait()

    async def undo(need: Need, _key: str) -> object:
        order.append(str(need.input["of"]))
        return {}

    house.hirer.acts |= {"do.it": second_first, "undo.it": undo}
    house.hirer.ways_back["do.more"] = stay
    two = PlanStep(id="two", title="", capability="do.more", undo=Undo(capability="undo.it", input={"of": "two"}))
    await conduct(house, one(), two)
    assert order == ["one", "two"]


async def test_money_kept_without_a_result_is_told_and_nothing_else_is(house: House) -> None:
    async def kept(_key: str, reason: str = "") -> list[Receipt]:
        return [receipt_of(house.hirer.catalogue[0], WF, ReceiptStatus.FAILED, PaymentState.CONFIRMED)]

    house.hirer.cancel = kept  # type: ignore[method-assign]
    ended, _ = await conduct(house, one())
    assert [(left.step, left.paid) for left in ended.not_undone] == [("one", CENT)]
    assert step_one(ended).status is StepStatus.FAILED
    assert f"{WF}:undo-one:1" not in house.hirer.calls


async def test_a_step_that_failed_and_was_paid_is_told(house: House) -> None:
    async def paid_for_nothing(_need: Need, key: str) -> object:
        house.hirer.written[key].append(
            receipt_of(house.hirer.catalogue[0], key, ReceiptStatus.FAILED, PaymentState.CONFIRMED)
        )
        raise PaidUndelivered("it has the money")

    house.hirer.acts["do.it"] = paid_for_nothing
    ended, _ = await conduct(house, one())
    assert ended.status.value == "failed"
    assert [(left.step, left.paid) for left in ended.not_undone] == [("one", CENT)]


# ---- undoing costs money too ----


async def test_what_undoing_cost_is_in_the_receipts_and_in_the_cost(house: House) -> None:
    ended, _ = await conduct(house, one())
    keys = [f"{WF}:one:1", f"{WF}:undo-one:1"]
    assert [receipt.id for receipt in ended.receipts] == [house.hirer.written[key][0].id for key in keys]
    assert ended.cost == CENT + CENT
    assert (step_one(ended).attempts, step_one(ended).undo_attempts) == (1, 1)
    assert step_one(ended).receipt == ended.receipts[0].id


async def test_an_undo_that_was_paid_and_not_done_is_in_the_cost_and_the_step_is_told(house: House) -> None:
    async def paid_for_nothing(_need: Need, key: str) -> object:
        house.hirer.written[key].append(
            receipt_of(house.hirer.catalogue[0], key, ReceiptStatus.FAILED, PaymentState.CONFIRMED)
        )
        raise PaidUndelivered("it has the money")

    house.hirer.acts["undo.it"] = paid_for_nothing
    funds = ScriptedFunds()
    funds.balances["ann"] = DOLLAR
    ended, told = await conduct(house, one(), room=funded(house, funds))
    assert [(left.step, left.paid) for left in ended.not_undone] == [("one", CENT)]
    assert ended.cost == CENT + CENT
    assert funds.captured == {(WF, "step:one"): CENT, (WF, "undo-one"): CENT}
    assert funds.balances["ann"] == DOLLAR - ended.cost
    errors = [event.data["error"]["code"] for event in told if event.data.get("not_undone") is True]  # type: ignore[index]
    assert errors == ["paid_undelivered"]


async def test_an_undo_whose_outcome_was_unknown_and_which_was_done_counts_as_done(house: House) -> None:
    hire = house.hirer.hire

    async def unsure(need: Need, **more: object) -> Hired:
        found = await hire(need, **more)  # type: ignore[arg-type]
        if need.capability == "undo.it":
            raise PaymentUnknown("the chain is silent")
        return found

    house.hirer.hire = unsure  # type: ignore[method-assign,assignment]
    ended, _ = await conduct(house, one())
    assert ended.not_undone == ()
    assert step_one(ended).status is StepStatus.COMPENSATED
    assert ended.cost == CENT + CENT


async def test_an_undo_tried_twice_shows_both_attempts(house: House) -> None:
    async def second_time(_need: Need, key: str) -> object:
        if key.endswith(":1"):
            raise SellerFailed("not yet")
        return {}

    house.hirer.acts["undo.it"] = second_time
    twice = StepRetry(attempts=2, first_delay_seconds=0, longest_delay_seconds=0)
    ended, _ = await conduct(house, one(retry=twice))
    assert step_one(ended).undo_attempts == 2
    assert [receipt.status for receipt in ended.receipts] == [
        ReceiptStatus.SETTLED, ReceiptStatus.REFUNDED, ReceiptStatus.SETTLED,
    ]  # fmt: skip
    assert ended.cost == CENT + CENT


# ---- workers that are cut off ----


async def test_a_hire_that_began_before_its_start_was_written_is_found(house: House) -> None:
    """The worker died between the two; another one rolls back."""

    class Written(ScriptedFunds):
        """While the budget is made, a hire under the step's key is there already."""

        async def reserve(self, user_id: str, workflow_id: str, amount: Money) -> None:
            await ScriptedFunds.reserve(self, user_id, workflow_id, amount)
            await begin(house)
            await room.engine.cancel(WF, "enough")

    found = Written()
    found.balances["ann"] = DOLLAR
    room = funded(house, found)
    ended, _ = await conduct(house, one(), room=room)
    assert step_one(ended).status is StepStatus.COMPENSATED
    assert ended.cost == CENT + CENT
    assert found.balances["ann"] == DOLLAR - ended.cost


async def test_a_hire_by_a_worker_that_was_cut_off_until_the_end_is_told(house: House) -> None:
    revoke = house.budgets.revoke

    async def revoking(budget_id: str) -> object:
        await begin(house)  # just before the budget is closed
        return await revoke(budget_id)

    house.budgets.revoke = revoking  # type: ignore[method-assign]

    async def never(_need: Need, _key: str) -> object:
        await room.engine.cancel(WF, "enough")
        await asyncio.Event().wait()
        return None

    async def nothing(key: str, reason: str = "") -> list[Receipt]:
        return list(house.hirer.written.get(key, []))

    house.hirer.acts["do.it"] = never
    house.hirer.cancel = nothing  # type: ignore[method-assign]
    room = house.room()
    ended, _ = await conduct(house, one(), room=room)
    assert [(left.step, left.paid, left.reason) for left in ended.not_undone] == [("one", CENT, rollback.TOO_LATE)]
    assert ended.cost == CENT


async def begin(house: House) -> None:
    """Somebody else hires for step one, and it is done."""
    key = f"{WF}:one:1"
    offer = house.hirer.catalogue[0]
    receipt = receipt_of(offer, key, ReceiptStatus.SETTLED, PaymentState.CONFIRMED)
    house.hirer.written[key] = [receipt.model_copy(update={"finished_at": AT})]
    house.hirer.answers[key] = Hired(receipt, {"result": {"text": "do.it done"}}, (receipt,))


def funded(house: House, funds: ScriptedFunds) -> WorkflowRoom:
    return open_room(
        house.bench.engine(), hirer=house.hirer, budgets=house.budgets, blobs=house.blobs, clock=house.bench.clock,
        funds=funds,
    )  # fmt: skip
