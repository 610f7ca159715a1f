"""What the workflow page says: money told plainly in every state, steps with offers, receipts with their chain."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agentnexus.core.payments import ReceiptStatus
from agentnexus.web.adapters.run_view import run_summary, run_view
from agentnexus.web.views.runs import State
from agentnexus.workflows.model import PlanStep, StepStatus, StepWarning, Workflow, WorkflowStatus
from tests.web import samples

WORKFLOWS = samples.sample_workflows()


@pytest.mark.parametrize(
    ("run_id", "label", "approve", "cancel", "final"),
    [
        ("wf_planning", "Planning", False, True, False),
        ("wf_approval", "Waiting for you", True, True, False),
        ("wf_executing", "Working", False, True, False),
        ("wf_completed", "Done", False, False, True),
        ("wf_failed", "Failed", False, False, True),
        ("wf_cancelled", "Cancelled", False, False, True),
    ],
)
def test_each_state_allows_what_makes_sense(run_id: str, label: str, approve: bool, cancel: bool, final: bool) -> None:
    view = run_view(WORKFLOWS[run_id])
    assert view.state.label == label
    assert (view.can_approve, view.can_cancel, view.final) == (approve, cancel, final)


def test_before_approval_the_plan_is_shown_with_prices() -> None:
    view = run_view(WORKFLOWS["wf_approval"])
    assert [step.state.label for step in view.steps] == ["Not started"] * 4
    assert [step.price for step in view.steps] == ["0.02 USDC", "0.015 USDC", "0.01 USDC", "0.012 USDC"]
    assert view.steps[3].depends_on == ("s1", "s2")
    assert (view.money.expected, view.money.worst, view.money.spent) == ("0.057 USDC", "0.114 USDC", "")
    assert len(view.wide.nodes) == len(view.tall.nodes) == 4


def test_while_it_runs_what_is_set_aside_is_what_running_steps_may_cost() -> None:
    view = run_view(WORKFLOWS["wf_executing"])
    assert view.money.reserved == "0.025 USDC"
    assert view.money.spent == "0.02 USDC"
    assert view.steps[1].fraction == 0.4
    assert view.steps[1].message == "page 3 of 8"


def test_a_failure_says_what_was_paid_and_what_came_back() -> None:
    view = run_view(WORKFLOWS["wf_failed"])
    assert (view.money.spent, view.money.refunded, view.money.reserved) == ("0.02 USDC", "0.015 USDC", "")
    assert view.problem is not None
    assert view.problem.next_step == "Check that sales.csv has a header line, then run it again."
    assert view.steps[1].problem is not None
    assert view.duration == "31.0 s"


def test_a_receipt_shows_amount_chain_and_where_the_money_is() -> None:
    paid, back = run_view(WORKFLOWS["wf_failed"]).receipts
    assert (paid.amount, paid.state.tone, back.amount, back.state.tone) == ("0.02 USDC", "done", "0.00 USDC", "back")
    (payment,) = back.payments
    assert payment.amount == "0.015 USDC"
    assert payment.network == "local chain (eip155:31337)"
    assert payment.transaction == ""
    assert payment.refund_transaction.startswith("0x7b")
    assert "money is yours" in back.note


def test_attempts_that_never_touched_money_are_kept_apart() -> None:
    tried = samples.receipt(9, "pdf.extract", "PDF extractor", "0.02", ReceiptStatus.FAILED)
    view = run_view(samples.workflow("wf_x", WorkflowStatus.FAILED, receipts=(tried,)))
    assert [receipt.moved for receipt in view.receipts] == [False]
    assert view.receipts[0].state == State("failed", "Nothing paid", "wait")


def test_a_payment_in_another_asset_is_shown_by_its_own_id() -> None:
    made = samples.receipt(1, "pdf.extract", "PDF extractor", "0.02")
    other = "eip155:1/erc20:0x" + "cd" * 20
    foreign = made.model_copy(update={"payments": (made.payments[0].model_copy(update={"asset": other}),)})
    view = run_view(samples.workflow("wf_x", WorkflowStatus.COMPLETED, receipts=(foreign,), cost=samples.USDC.zero()))
    assert view.receipts[0].payments[0].amount == f"20000 of {other}"
    assert view.money.spent == ""


def test_a_single_run_uses_its_sellers_schema_and_leads_back_to_its_agent() -> None:
    made = samples.receipt(1, "pdf.extract", "PDF extractor", "0.02")
    schema = {
        "type": "object",
        "properties": {"result": {"type": "object", "properties": {"n": {"title": "Pages read"}}}},
    }
    capability = made.offer.capability.model_copy(update={"output_schema": schema})
    endpoint = "http://127.0.0.1:8402/x402/agents/org.agentnexus.pdf-extractor"
    offer = made.offer.model_copy(update={"capability": capability, "endpoint": endpoint})
    view = run_view(
        samples.workflow(
            "wf_x", WorkflowStatus.COMPLETED, planner="single", result={"result": {"n": 3}},
            receipts=(made.model_copy(update={"offer": offer}),), finished_at=samples.START + timedelta(seconds=1),
        )
    )  # fmt: skip
    assert view.agent_id == "org.agentnexus.pdf-extractor"
    assert view.planner == ""
    assert view.blocks[0].children[0].label == "Pages read"


@pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=lambda each: each.id)
def test_every_workflow_has_a_line_in_the_list(workflow: Workflow) -> None:
    line = run_summary(workflow)
    assert line.id == workflow.id
    assert line.text
    assert line.steps == (len(workflow.steps) or (len(workflow.plan.steps) if workflow.plan else 0))


def test_what_the_planner_notes_and_agents_warn_of_stands_on_the_page() -> None:
    done = WORKFLOWS["wf_completed"]
    assert done.plan is not None
    warned = StepWarning(step="s1", title="PDF extractor", warning="pages 2 are scans")
    plan = done.plan.model_copy(update={"notes": ("b.csv is not used",)})
    view = run_view(done.model_copy(update={"warnings": (warned,) * 50, "plan": plan}))
    assert view.notes == ("b.csv is not used",)
    assert [block.text for block in view.blocks[:20]] == ["PDF extractor: pages 2 are scans"] * 20
    assert view.blocks[20:] == run_view(done).blocks
    own = next(block.text for block in run_view(done).blocks if block.kind == "note")
    again = run_view(done.model_copy(update={"warnings": (warned.model_copy(update={"warning": own}),)}))
    assert again.blocks == run_view(done).blocks, "what the result itself warns of is said once"


def test_a_step_that_is_done_here_says_so_and_one_left_out_is_not_needed() -> None:
    done = WORKFLOWS["wf_completed"]
    assert done.plan is not None
    first = done.plan.steps[0]
    here = PlanStep.model_validate({"id": first.id, "title": "Join", "transform": {"op": "join", "parts": ["x"]}})
    plan = done.plan.model_copy(update={"steps": (here, *done.plan.steps[1:])})
    skipped = done.steps[0].model_copy(update={"status": StepStatus.SKIPPED, "capability": here.capability})
    view = run_view(done.model_copy(update={"plan": plan, "steps": (skipped, *done.steps[1:])}))
    assert (view.steps[0].seller, view.steps[0].price, view.steps[0].state.label) == ("done here", "free", "Not needed")
