"""Workflows from task to result: planning, approval, parallel hires, retries, refunds, undo, cancel, restart."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from agentnexus.core.errors import (
    AgentRefused,
    BudgetExceeded,
    Conflict,
    InvalidInput,
    NoOffer,
    NotFound,
    PaymentUnknown,
    SellerFailed,
    Unavailable,
)
from agentnexus.core.events import EventName
from agentnexus.core.offers import Capability, Need
from agentnexus.platform.blobs import MemoryBlobs
from agentnexus.workflows import telling
from agentnexus.workflows.engine.port import NewRun, RunState
from agentnexus.workflows.model import (
    Plan,
    PlanStep,
    StepStatus,
    Undo,
    Workflow,
    WorkflowRequest,
    WorkflowStatus,
)
from agentnexus.workflows.run import BODY
from agentnexus.workflows.service import Workflows
from agentnexus.workflows.worker import WorkflowRoom, open_room

from .catalogue import USDC, agent_offers, offer_of
from .conftest import Bench, state_is, until
from .scripted import ScriptedBudgets, ScriptedHirer

DOLLAR = USDC.parse("1")


@dataclass
class House:
    """A room on a bench, with everything it was opened with."""

    bench: Bench
    hirer: ScriptedHirer
    budgets: ScriptedBudgets = field(default_factory=ScriptedBudgets)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)

    def room(self) -> WorkflowRoom:
        return open_room(
            self.bench.engine(), hirer=self.hirer, budgets=self.budgets, blobs=self.blobs, clock=self.bench.clock
        )

    @asynccontextmanager
    async def working(self, room: WorkflowRoom | None = None) -> AsyncIterator[Workflows]:
        room = room or self.room()
        async with self.bench.working(room.engine), asyncio.timeout(30):
            yield room.workflows


@pytest.fixture
def house(bench: Bench) -> House:
    return House(bench, ScriptedHirer(agent_offers()))


async def run(workflows: Workflows, text: str, *names: str, content: bytes = b"data", **more: object) -> Workflow:
    files = [await workflows.add_file(name, content + name.encode(), "") for name in names]
    made = await workflows.create("ann", text, files, max_cost=DOLLAR, auto_approve=True, **more)  # type: ignore[arg-type]
    return await workflows.result(made.id, "ann")


async def names_of(workflows: Workflows, workflow_id: str) -> list[str]:
    return [event.name.value async for event in workflows.events(workflow_id, "ann")]


async def test_a_task_becomes_a_plan_hires_and_a_result(house: House) -> None:
    async with house.working() as workflows:
        done = await run(workflows, "Summarise the report", "report.pdf")
        events = await names_of(workflows, done.id)
    assert done.status is WorkflowStatus.COMPLETED
    assert [(step.capability, step.status) for step in done.steps] == [
        ("pdf.extract", StepStatus.COMPLETED),
        ("text.summarize", StepStatus.COMPLETED),
    ]
    assert done.result == {"text": "text.summarize done", "answer": "yes"}
    assert done.cost == USDC.parse("0.03")
    assert done.estimate is not None
    assert done.estimate.expected == USDC.parse("0.03")
    assert [receipt.status.value for receipt in done.receipts] == ["settled", "settled"]
    assert house.hirer.needs[f"{done.id}:s1:1"].input == {"file": base64.b64encode(b"datareport.pdf").decode()}
    assert house.hirer.needs[f"{done.id}:s2:1"].input == {"text": "pdf.extract done"}
    assert house.hirer.prefers[f"{done.id}:s1:1"] == (agent_offers()[0].seller.key,)
    assert house.budgets.made[f"workflow:{done.id}"]["owner"] == "ann"
    step = ["step.started", "step.progress", "payment.reserved", "payment.settled", "step.completed"]
    assert events == [
        "workflow.planning", "workflow.plan_ready", "workflow.executing", *step, *step, "workflow.completed",
    ]  # fmt: skip


async def test_the_task_json_names_what_the_command_line_prints(house: House) -> None:
    async with house.working() as workflows:
        done = await run(workflows, "Summarise the report", "report.pdf")
    printed = done.to_task_json()
    assert printed["workflow_id"] == done.id
    assert printed["planner"] == "offline"
    assert printed["plan"] == {
        "steps": [
            {
                "id": "s1", "capability": "pdf.extract", "seller": agent_offers()[0].seller.key, "market": "x402",
                "depends_on": [], "price": USDC.parse("0.02").to_json(),
            },
            {
                "id": "s2", "capability": "text.summarize", "seller": agent_offers()[1].seller.key, "market": "x402",
                "depends_on": ["s1"], "price": USDC.parse("0.01").to_json(),
            },
        ]
    }  # fmt: skip
    steps = printed["steps"]
    assert isinstance(steps, list)
    assert [set(step) for step in steps] == [{"id", "status", "attempts", "duration_ms", "receipt"}] * 2
    receipts = printed["receipts"]
    assert isinstance(receipts, list)
    assert [step["receipt"] for step in steps] == [receipt["id"] for receipt in receipts]
    payment = receipts[0]["payments"][0]
    assert {"rail", "network", "asset", "amount", "transaction"} <= set(payment)
    assert payment["amount"] == "20000"


async def test_nothing_is_hired_before_approval(house: House) -> None:
    async with house.working() as workflows:
        file = await workflows.add_file("sales.csv", b"a,b\n1,2\n", "text/csv")
        made = await workflows.create("ann", "Analyse this", [file], max_cost=DOLLAR)
        assert made.status in (WorkflowStatus.PLANNING, WorkflowStatus.AWAITING_APPROVAL)
        asked = await workflows.settle_at(made.id, "ann")
        assert asked.status is WorkflowStatus.AWAITING_APPROVAL
        assert asked.estimate is not None
        assert not house.hirer.calls
        approved = await asyncio.gather(*(workflows.approve(made.id, "ann") for _ in range(3)))
        assert {entry.id for entry in approved} == {made.id}
        done = await workflows.result(made.id, "ann")
        assert done.status is WorkflowStatus.COMPLETED
        with pytest.raises(Conflict, match="completed already"):
            await workflows.approve(made.id, "ann")
        events = await names_of(workflows, made.id)
    assert sum(house.hirer.calls.values()) == 1
    assert events[:4] == [
        "workflow.planning", "workflow.plan_ready", "workflow.awaiting_approval", "workflow.approved",
    ]  # fmt: skip


async def test_a_plan_that_nobody_approves_ends_after_a_day(house: House) -> None:
    room = house.room()
    engine = room.engine
    async with house.bench.working(engine) as worker, asyncio.timeout(30):  # type: ignore[arg-type]  # a DurableEngine
        file = await room.workflows.add_file("sales.csv", b"a,b\n1,2\n", "text/csv")
        made = await room.workflows.create("ann", "Analyse this", [file], max_cost=DOLLAR)
        await state_is(engine, made.id, RunState.WAITING)  # type: ignore[arg-type]  # a DurableEngine
        await house.bench.move(25 * 3600, worker)
        done = await room.workflows.result(made.id, "ann")
    assert done.status is WorkflowStatus.CANCELLED
    assert "nobody approved" in str(done.error)


async def test_independent_steps_run_at_once(house: House) -> None:
    meeting = asyncio.Barrier(3)

    async def meet(_need: Need, _key: str) -> object:
        await meeting.wait()
        return {"result": {"text": "x"}}

    house.hirer.acts["pdf.extract"] = meet
    async with house.working() as workflows:
        done = await run(workflows, "What do these reports say on tides?", "a.pdf", "b.pdf", "c.pdf")
    assert done.status is WorkflowStatus.COMPLETED
    assert done.steps[3].capability == "knowledge.answer"


async def test_a_task_that_nobody_can_do_fails_before_money_moves(house: House) -> None:
    async with house.working() as workflows:
        done = await run(workflows, "Translate this into French", "report.pdf")
        events = await names_of(workflows, done.id)
    assert done.status is WorkflowStatus.FAILED
    assert done.error is not None
    assert done.error["code"] == "no_offer"
    assert "PDF extractor" in str(done.error["next_step"])
    assert not house.hirer.calls
    assert not house.budgets.made
    assert events == ["workflow.planning", "workflow.failed"]


async def test_a_budget_too_small_stops_before_money_moves(house: House) -> None:
    async with house.working() as workflows:
        file = await workflows.add_file("report.pdf", b"%PDF", "application/pdf")
        made = await workflows.create("ann", "Summarise it", [file], max_cost=USDC.parse("0.025"), auto_approve=True)
        done = await workflows.result(made.id, "ann")
    assert done.error is not None
    assert done.error["code"] == "budget_exceeded"
    assert "allow at least 0.03 USDC" in str(done.error["next_step"])
    assert not house.hirer.calls


async def test_a_plan_too_dear_is_made_thriftier(house: House) -> None:
    async with house.working() as workflows:
        file = await workflows.add_file("report.pdf", b"%PDF", "application/pdf")
        made = await workflows.create(
            "ann", "What is said about tides?", [file], max_cost=USDC.parse("0.025"), auto_approve=True
        )
        done = await workflows.result(made.id, "ann")
    assert [step.capability for step in done.steps] == ["knowledge.answer"]
    assert done.cost == USDC.parse("0.012")


async def test_a_failing_seller_is_tried_again_then_the_workflow_fails_and_is_refunded(house: House) -> None:
    async def down(_need: Need, _key: str) -> object:
        raise SellerFailed("the seller is down")

    house.hirer.acts["table.analyze"] = down
    room = house.room()
    async with house.bench.working(room.engine) as worker, asyncio.timeout(30):  # type: ignore[arg-type]  # a DurableEngine
        file = await room.workflows.add_file("sales.csv", b"a\n1\n", "")
        made = await room.workflows.create("ann", "Analyse sales.csv", [file], max_cost=DOLLAR, auto_approve=True)
        for attempt in (1, 2):
            await until(lambda attempt=attempt: house.hirer.calls[f"{made.id}:s1:{attempt}"] == 1)
            await state_is(room.engine, made.id, RunState.WAITING)  # type: ignore[arg-type]  # a DurableEngine
            await house.bench.move(60, worker)
        done = await room.workflows.result(made.id, "ann")
        events = await names_of(room.workflows, made.id)
    assert done.status is WorkflowStatus.FAILED
    assert done.error is not None
    assert done.error["code"] == "seller_failed"
    assert done.cost == USDC.zero()
    assert done.steps[0].attempts == 3
    assert done.steps[0].status is StepStatus.FAILED
    assert [receipt.status.value for receipt in done.receipts] == ["refunded"] * 3
    assert events.count("step.retrying") == 2
    assert events.count("payment.refunded") == 3
    assert events[-3:] == ["step.failed", "workflow.rolling_back", "workflow.failed"]


async def test_a_refusal_is_final_and_stops_the_neighbours_with_refunds(house: House) -> None:
    started = asyncio.Event()

    async def refuse(_need: Need, _key: str) -> object:
        await started.wait()
        raise AgentRefused("the file is encrypted", next_step="remove the password")

    async def endless(_need: Need, _key: str) -> object:
        started.set()
        await asyncio.Event().wait()
        return None

    house.hirer.acts["pdf.extract"] = refuse
    house.hirer.acts["table.analyze"] = endless
    async with house.working() as workflows:
        done = await run(workflows, "Summarise everything", "a.pdf", "b.csv")
    states = {step.capability: step.status for step in done.steps}
    assert done.error is not None
    assert done.error["message"] == "the file is encrypted"
    assert states == {
        "pdf.extract": StepStatus.FAILED,
        "table.analyze": StepStatus.REFUNDED,
        "text.summarize": StepStatus.SKIPPED,
    }
    table = next(step.id for step in done.steps if step.capability == "table.analyze")
    assert house.hirer.cancelled[f"{done.id}:{table}:1"] == "the file is encrypted"
    assert done.cost == USDC.zero()


async def test_cancel_stops_the_running_hire_and_gives_the_money_back(house: House) -> None:
    hiring = asyncio.Event()

    async def endless(_need: Need, _key: str) -> object:
        hiring.set()
        await asyncio.Event().wait()
        return None

    house.hirer.acts["text.summarize"] = endless
    async with house.working() as workflows:
        file = await workflows.add_file("report.pdf", b"%PDF", "application/pdf")
        made = await workflows.create("ann", "Summarise it", [file], max_cost=DOLLAR, auto_approve=True)
        await hiring.wait()
        await workflows.cancel(made.id, "ann")
        done = await workflows.result(made.id, "ann")
        with pytest.raises(Conflict):
            await workflows.cancel(made.id, "ann")
    assert done.status is WorkflowStatus.CANCELLED
    assert [step.status for step in done.steps] == [StepStatus.COMPLETED, StepStatus.REFUNDED]
    assert done.cost == USDC.parse("0.02")  # what was delivered is paid
    assert f"{made.id}:s2:1" in house.hirer.cancelled


async def test_cancel_while_waiting_for_approval_hires_nobody(house: House) -> None:
    async with house.working() as workflows:
        file = await workflows.add_file("sales.csv", b"a\n1\n", "")
        made = await workflows.create("ann", "Analyse it", [file], max_cost=DOLLAR)
        await workflows.settle_at(made.id, "ann")
        await workflows.cancel(made.id, "ann", "changed my mind")
        done = await workflows.result(made.id, "ann")
    assert done.status is WorkflowStatus.CANCELLED
    assert done.error == {"code": "cancelled", "message": "changed my mind"}
    assert not house.hirer.calls


async def test_completed_steps_are_undone_in_reverse_order_and_the_rest_is_named(house: House) -> None:
    order: list[str] = []

    def named(name: str):
        async def act(_need: Need, _key: str) -> object:
            order.append(name)
            if name == "fail":
                raise AgentRefused("no")
            return {"result": name}

        return act

    capabilities = ("book.flight", "book.hotel", "read.news", "pay.tax", "undo.flight", "undo.hotel")
    house.hirer.catalogue = [offer_of(Capability(name=name), "0.01") for name in capabilities]
    for name in capabilities:
        house.hirer.acts[name] = named("fail" if name == "pay.tax" else name)
    booked, back = {"id": {"$step": "flight", "path": "result"}}, Undo(capability="undo.hotel")
    steps = (
        PlanStep(id="flight", title="", capability="book.flight", undo=Undo(capability="undo.flight", input=booked)),
        PlanStep(id="hotel", title="", capability="book.hotel", depends_on=("flight",), undo=back),
        PlanStep(id="news", title="", capability="read.news", depends_on=("hotel",)),
        PlanStep(id="tax", title="", capability="pay.tax", depends_on=("news",)),
    )  # fmt: skip
    request = WorkflowRequest(
        user_id="ann", text="travel", max_cost=DOLLAR, auto_approve=True, plan=Plan(planner="hand", steps=steps)
    )
    room = house.room()
    async with house.working(room) as workflows:
        await room.engine.start(NewRun("wf_travel", BODY, request.model_dump(mode="json"), tenant="ann"))
        done = await workflows.result("wf_travel", "ann")
        told = [event async for event in workflows.events("wf_travel", "ann")]
    assert order == ["book.flight", "book.hotel", "read.news", "fail", "undo.hotel", "undo.flight"]
    assert [step.status for step in done.steps] == [
        StepStatus.COMPENSATED, StepStatus.COMPENSATED, StepStatus.COMPLETED, StepStatus.FAILED,
    ]  # fmt: skip
    rolling = next(event for event in told if event.name is EventName.WORKFLOW_ROLLING_BACK)
    assert rolling.data["not_undone"] == ["news"]
    assert house.hirer.needs["wf_travel:undo-flight:1"].input == {"id": "book.flight"}


async def test_an_undo_that_fails_is_reported_and_does_not_stop_the_others(house: House) -> None:
    async def refuse(_need: Need, _key: str) -> object:
        raise AgentRefused("no")

    names = ("do.one", "do.two", "fail.now", "undo.one", "undo.two")
    house.hirer.catalogue = [offer_of(Capability(name=name), "0.01") for name in names]
    house.hirer.acts |= {"fail.now": refuse, "undo.two": refuse}
    steps = (
        PlanStep(id="one", title="", capability="do.one", undo=Undo(capability="undo.one")),
        PlanStep(id="two", title="", capability="do.two", depends_on=("one",), undo=Undo(capability="undo.two")),
        PlanStep(id="three", title="", capability="fail.now", depends_on=("two",)),
    )
    request = WorkflowRequest(
        user_id="ann", text="x", max_cost=DOLLAR, auto_approve=True, plan=Plan(planner="hand", steps=steps)
    )
    room = house.room()
    async with house.working(room) as workflows:
        await room.engine.start(NewRun("wf_x", BODY, request.model_dump(mode="json"), tenant="ann"))
        done = await workflows.result("wf_x", "ann")
        told = [event async for event in workflows.events("wf_x", "ann")]
    assert [step.status for step in done.steps] == [StepStatus.COMPENSATED, StepStatus.COMPLETED, StepStatus.FAILED]
    assert any(event.data.get("not_undone") is True and event.data["step"] == "two" for event in told)


async def test_an_unknown_payment_is_asked_again_with_the_same_key(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "UNKNOWN_PAUSE_SECONDS", 0.0)
    tries: list[str] = []

    async def unsure(_need: Need, key: str) -> object:
        tries.append(key)
        if len(tries) < 3:
            raise PaymentUnknown("the chain did not answer")
        return {"result": "x"}

    house.hirer.acts["table.analyze"] = unsure
    async with house.working() as workflows:
        done = await run(workflows, "Analyse it", "sales.csv")
    assert done.status is WorkflowStatus.COMPLETED
    assert tries == [f"{done.id}:s1:1"] * 3


async def test_markets_that_are_down_while_planning_are_asked_again(house: House) -> None:
    answers = house.hirer.offers
    tries: list[int] = []

    async def flaky(*arguments: object, **named: object):
        tries.append(1)
        if len(tries) == 1:
            raise Unavailable("registry down")
        return await answers(*arguments, **named)  # type: ignore[arg-type]  # passed through

    house.hirer.offers = flaky  # type: ignore[method-assign]  # the market goes down once
    room = house.room()
    async with house.bench.working(room.engine) as worker, asyncio.timeout(30):  # type: ignore[arg-type]  # a DurableEngine
        file = await room.workflows.add_file("sales.csv", b"a\n1\n", "")
        made = await room.workflows.create("ann", "Analyse it", [file], max_cost=DOLLAR, auto_approve=True)
        await state_is(room.engine, made.id, RunState.WAITING)  # type: ignore[arg-type]  # a DurableEngine
        await house.bench.move(10, worker)
        assert (await room.workflows.result(made.id, "ann")).status is WorkflowStatus.COMPLETED


async def test_a_seller_that_breaks_its_shape_fails_the_next_step_with_the_path(house: House) -> None:
    async def wrong(_need: Need, _key: str) -> object:
        return {"result": {"other": 1}}

    house.hirer.acts["pdf.extract"] = wrong
    async with house.working() as workflows:
        done = await run(workflows, "Summarise it", "report.pdf")
    assert done.error is not None
    assert done.error["code"] == "invalid_plan"
    assert "result.text" in str(done.error["message"])
    assert done.cost == USDC.parse("0.02")


async def test_large_outputs_go_to_blobs_and_come_back_for_the_next_step(house: House) -> None:
    text = "tide " * 40_000

    async def long(_need: Need, _key: str) -> object:
        return {"result": {"text": text}}

    house.hirer.acts["pdf.extract"] = long
    async with house.working() as workflows:
        done = await run(workflows, "Summarise it", "report.pdf")
    assert done.steps[0].output.startswith("sha256:")
    assert house.hirer.needs[f"{done.id}:s2:1"].input == {"text": text}


async def test_one_run_button_is_a_workflow_of_one_pinned_step(house: House) -> None:
    async with house.working() as workflows:
        made = await workflows.create_single(
            "ann", "text.summarize", "text.summarize", {"text": "hello"}, max_cost=DOLLAR
        )
        done = await workflows.result(made.id, "ann")
    assert done.planner == "single"
    assert done.result == {"result": {"text": "text.summarize done", "answer": "yes"}}
    need = house.hirer.needs[f"{made.id}:s1:1"]
    assert need.constraints.sellers_allowed == (agent_offers()[1].seller.key,)
    assert house.hirer.only[f"{made.id}:s1:1"] == agent_offers()[1].endpoint


async def test_one_run_of_an_unknown_agent_is_refused_at_once(house: House) -> None:
    workflows = house.room().workflows
    with pytest.raises(NoOffer, match="does not sell"):
        await workflows.create_single("ann", "nobody.here", "text.summarize", {"text": "x"}, max_cost=DOLLAR)


async def test_wrong_input_for_a_pinned_step_fails_with_the_field(house: House) -> None:
    async with house.working() as workflows:
        made = await workflows.create_single("ann", "pdf.extract", "pdf.extract", {"fiel": "JVBERi0="}, max_cost=DOLLAR)
        done = await workflows.result(made.id, "ann")
    assert done.error is not None
    assert done.error["code"] == "invalid_plan"
    assert "is a required property" in str(done.error["details"])


async def test_a_stranger_finds_nothing_and_an_operator_everything(house: House) -> None:
    async with house.working() as workflows:
        done = await run(workflows, "Analyse it", "sales.csv")
        for call in (workflows.get, workflows.approve, workflows.cancel, workflows.result):
            with pytest.raises(NotFound):
                await call(done.id, "bob")
        with pytest.raises(NotFound):
            async for _ in workflows.events(done.id, "bob"):
                pytest.fail("a stranger saw an event")
        assert (await workflows.get(done.id, None)).id == done.id
        assert (await workflows.list("bob")).workflows == ()


async def test_the_list_is_newest_first_in_pages(house: House) -> None:
    workflows = house.room().workflows
    made = []
    for number in range(5):
        made.append((await workflows.create("ann", f"Analyse number {number}", max_cost=DOLLAR)).id)
        house.bench.clock.advance(1)
    first = await workflows.list("ann", 2)
    second = await workflows.list("ann", 2, first.next_cursor)
    third = await workflows.list("ann", 2, second.next_cursor)
    found = [entry.id for page in (first, second, third) for entry in page.workflows]
    assert found == made[::-1]
    assert third.next_cursor == ""
    with pytest.raises(InvalidInput):
        await workflows.list("ann", 2, "nonsense")


async def test_creating_with_the_same_key_gives_the_same_workflow(house: House) -> None:
    workflows = house.room().workflows
    first = await workflows.create("ann", "Analyse it", max_cost=DOLLAR, key="k")
    assert (await workflows.create("ann", "Analyse it", max_cost=DOLLAR, key="k")).id == first.id
    assert (await workflows.create("bob", "Analyse it", max_cost=DOLLAR, key="k")).id != first.id
    with pytest.raises(Conflict):
        await workflows.create("ann", "Analyse something else", max_cost=DOLLAR, key="k")


@pytest.mark.parametrize("text", ["", "  x ", "y" * 100_001])
async def test_a_task_of_no_or_absurd_length_is_refused(house: House, text: str) -> None:
    with pytest.raises(InvalidInput, match="characters"):
        await house.room().workflows.create("ann", text, max_cost=DOLLAR)


@pytest.mark.parametrize("amount", ["0", "-1"])
async def test_a_budget_of_nothing_is_refused(house: House, amount: str) -> None:
    with pytest.raises(InvalidInput, match="above zero"):
        await house.room().workflows.create("ann", "Analyse it", max_cost=USDC.parse(amount))


async def test_a_workflow_over_its_time_ends_with_refunds(house: House) -> None:
    async def slow(_need: Need, _key: str) -> object:
        house.bench.clock.advance(700)
        raise SellerFailed("gone")

    house.hirer.acts["table.analyze"] = slow
    room = house.room()
    async with house.working(room) as workflows:
        file = await workflows.add_file("sales.csv", b"a\n1\n", "")
        made = await workflows.create("ann", "Analyse it", [file], max_cost=DOLLAR, auto_approve=True)
        done = await workflows.result(made.id, "ann")
    assert done.error is not None
    assert done.error["code"] == "agent_timeout"
    assert "600 seconds" in str(done.error["message"])


async def test_another_worker_goes_on_where_a_stopped_one_was(house: House) -> None:
    hiring, open_gate = asyncio.Event(), asyncio.Event()

    async def wait(_need: Need, _key: str) -> object:
        hiring.set()
        await open_gate.wait()
        return {"result": {"text": "late"}}

    house.hirer.acts["text.summarize"] = wait
    async with house.working() as workflows:
        file = await workflows.add_file("report.pdf", b"%PDF", "application/pdf")
        made = await workflows.create("ann", "Summarise it", [file], max_cost=DOLLAR, auto_approve=True)
        await hiring.wait()
    open_gate.set()
    async with house.working() as workflows:
        done = await workflows.result(made.id, "ann")
        sequences = [event.sequence async for event in workflows.events(made.id, "ann")]
    assert done.status is WorkflowStatus.COMPLETED
    assert house.hirer.calls[f"{made.id}:s1:1"] == 1
    assert house.hirer.calls[f"{made.id}:s2:1"] == 2  # resumed with the same key
    assert sequences == list(range(1, len(sequences) + 1))
    assert not house.hirer.cancelled


async def health_with(workflows: Workflows, **counts: int) -> dict[str, object]:
    """Once it counts them: a backend may count a moment after it ends a run."""
    while True:
        health = await workflows.health()
        if all(health[name] == count for name, count in counts.items()) and health["recent"] == sum(counts.values()):
            return health
        await asyncio.sleep(0.02)


async def test_a_plan_that_was_declined_is_no_failure_of_the_node(house: House) -> None:
    async with house.working() as workflows:
        await run(workflows, "Analyse it", "sales.csv")
        file = await workflows.add_file("sales.csv", b"a,b", "")
        declined = await workflows.create("ann", "Analyse it", [file], max_cost=DOLLAR)
        await workflows.cancel(declined.id, "ann")
        await workflows.result(declined.id, "ann")
        health = await health_with(workflows, completed=1, cancelled=1)
    assert health["success_rate"] == 1.0


async def test_a_budget_refusal_while_hiring_fails_the_workflow(house: House) -> None:
    async def refuse(_need: Need, _key: str) -> object:
        raise BudgetExceeded("the day's limit is used up", next_step="wait until midnight", limit="per_day")

    house.hirer.acts["table.analyze"] = refuse
    async with house.working() as workflows:
        done = await run(workflows, "Analyse it", "sales.csv")
        health = await health_with(workflows, failed=1)
    assert done.error is not None
    assert done.error["details"] == {"limit": "per_day"}
    assert health["success_rate"] == 0.0
    assert health["error_rates"] == {"budget_exceeded": 1.0}
    assert health["total_cost"][0]["atomic"] == "0"  # type: ignore[index]  # a JSON tree
