"""A workflow of the engine room → the view its page shows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import PaymentRecord, PaymentState, Receipt, ReceiptStatus
from agentnexus.web.adapters.events import RunLog
from agentnexus.web.forms.schema import Schema
from agentnexus.web.results import Block, blocks_of
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.runs import (
    Choice,
    MoneyView,
    PaymentView,
    ReceiptView,
    RunSummary,
    RunView,
    State,
    StepView,
)
from agentnexus.web.views.text import duration, money, network_name, plural, size
from agentnexus.workflows.model import SINGLE, PlanStep, StepEstimate, StepOffer, StepState, Workflow, WorkflowStatus

MARKET: Final = "market"
"""The planner of one step whose seller the market chooses."""
PLANNERS: Final = {
    "offline": "the offline planner", "llm": "a language model", "hand": "hand", SINGLE: "", MARKET: "",
}  # fmt: skip
HERE, FREE = "done here", "free"
WARNINGS_SHOWN: Final = 20
PAID: Final = frozenset({PaymentState.CONFIRMED, PaymentState.RELEASED})
NOTES: Final = {
    ReceiptStatus.SETTLED: "The result passed its check and the seller was paid.",
    ReceiptStatus.REFUNDED: "The work was not delivered as promised. The payment was cancelled and the money is yours.",
    ReceiptStatus.FAILED: "It failed before any money moved.",
}


def run_view(workflow: Workflow, log: RunLog | None = None) -> RunView:
    """Everything the page shows, from the workflow's state and what its events said."""
    planned = {step.id: step for step in workflow.plan.steps} if workflow.plan else {}
    steps = tuple(_step(at, state, planned.get(state.id)) for at, state in enumerate(_states(workflow), start=1))
    if workflow.status is WorkflowStatus.AWAITING_APPROVAL and workflow.estimate is not None:
        estimates = {entry.step: entry for entry in workflow.estimate.steps}
        steps = tuple(_reviewable(step, planned[step.id], estimates.get(step.id)) for step in steps)
    result = workflow.result
    return RunView(
        id=workflow.id,
        text=workflow.text or (steps[0].title if steps else "One run"),
        state=State.of(workflow.status.value),
        created_at=workflow.created_at,
        planner=PLANNERS.get(workflow.planner, workflow.planner),
        steps=steps,
        money=_money(workflow),
        receipts=tuple(_receipt(receipt, workflow) for receipt in workflow.receipts),
        notes=workflow.plan.notes if workflow.plan else (),
        blocks=_with_warnings(workflow, blocks_of(result, _output_schema(workflow))) if result is not None else (),
        problem=problem_of(workflow.error),
        log=tuple(log.lines) if log else (),
        duration=_took(workflow.created_at, workflow.finished_at),
        agent_id=_agent_id(workflow),
        files=tuple((file.name, size(file.size_bytes)) for file in workflow.files),
    )


def _with_warnings(workflow: Workflow, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """What agents warned of on the way stands first, unless the result says so itself."""
    shown = {block.text for block in blocks}
    said = [entry for entry in workflow.warnings if entry.warning not in shown][:WARNINGS_SHOWN]
    return (*(Block("note", text=f"{entry.title}: {entry.warning}") for entry in said), *blocks)


def run_summary(workflow: Workflow) -> RunSummary:
    """One line of the list."""
    return RunSummary(
        id=workflow.id,
        text=workflow.text or (workflow.steps[0].title if workflow.steps else "One run"),
        state=State.of(workflow.status.value),
        created_at=workflow.created_at,
        steps=len(workflow.steps) or (len(workflow.plan.steps) if workflow.plan else 0),
        spent=money(workflow.cost) if workflow.cost else "",
    )


def _states(workflow: Workflow) -> Sequence[StepState]:
    """The steps as they stand; before the start, the plan's steps as not started."""
    if workflow.steps or workflow.plan is None:
        return workflow.steps
    return [StepState(id=step.id, title=step.title, capability=step.capability) for step in workflow.plan.steps]


def _step(number: int, state: StepState, planned: PlanStep | None) -> StepView:
    offer = planned.offer if planned else None
    local = planned is not None and planned.local
    return StepView(
        id=state.id,
        number=number,
        title=state.title or state.capability,
        capability=state.capability,
        state=State.of(state.status.value),
        seller=(offer.title or offer.seller_name or offer.seller) if offer else HERE if local else "",
        market=offer.market if offer else "",
        price=money(offer.price) if offer else FREE if local else "",
        attempts=state.attempts,
        duration=duration(state.duration_ms),
        fraction=state.progress,
        message=state.message[:300],
        problem=problem_of(state.error),
        depends_on=planned.depends_on if planned else (),
    )


def _reviewable(view: StepView, planned: PlanStep, estimate: StepEstimate | None) -> StepView:
    """With what its owner may choose from before the approval."""
    if planned.offer is None:
        return view
    offers = {offer.id: offer for offer in (planned.offer, *(estimate.alternatives if estimate else ()))}
    cheapest_first = sorted(offers.values(), key=lambda offer: offer.price.decimal)
    chosen = planned.offer.id
    choices = tuple(_choice(offer, offer.id == chosen) for offer in cheapest_first)
    cap = "" if planned.max_price is None else f"{planned.max_price.decimal.normalize():f}"
    return replace(view, choices=choices, cap=cap)


def _choice(offer: StepOffer, chosen: bool) -> Choice:
    label = offer.title or offer.seller_name or offer.seller
    rating = f"{offer.rating:.1f} of 5, {plural(offer.ratings, 'rating')}" if offer.ratings else ""
    return Choice(offer.id, label, money(offer.price), chosen, offer.market, duration(offer.latency_ms or None), rating)


def _money(workflow: Workflow) -> MoneyView:
    estimate = workflow.estimate
    refunded = _sum(workflow, {PaymentState.REFUNDED})
    reserved = _reserved(workflow)
    waiting = not workflow.status.final
    return MoneyView(
        limit=money(workflow.max_cost),
        expected=money(estimate.expected) if estimate else "",
        worst=money(estimate.worst_case) if estimate and estimate.worst_case != estimate.expected else "",
        reserved=money(reserved) if waiting and reserved else "",
        spent=money(workflow.cost) if workflow.cost else "",
        refunded=money(refunded) if refunded else "",
    )


def _reserved(workflow: Workflow) -> Money:
    """What running steps hold: the most each of them may cost."""
    running = {step.id for step in workflow.steps if step.status.value in ("running", "retrying")}
    prices = [
        step.offer.price for step in (workflow.plan.steps if workflow.plan else ()) if step.offer and step.id in running
    ]
    amount = workflow.max_cost.asset.zero()
    for price in prices:
        if price.asset == amount.asset:
            amount = amount + price
    return amount


def _sum(workflow: Workflow, states: set[PaymentState]) -> Money:
    asset = workflow.max_cost.asset
    payments = [payment for receipt in workflow.receipts for payment in receipt.payments]
    atomic = sum(each.worth(asset.caip19) for each in payments if each.state in states)
    return Money(asset, atomic)


def _receipt(receipt: Receipt, workflow: Workflow) -> ReceiptView:
    asset = receipt.offer.price.per_job.asset
    paid = sum(int(each.amount) for each in receipt.payments if each.state in PAID and each.asset == asset.caip19)
    state = (
        State("failed", "Nothing paid", "wait") if receipt.status is ReceiptStatus.FAILED else State.of(receipt.status)
    )
    return ReceiptView(
        id=receipt.id,
        title=receipt.offer.title or receipt.offer.capability.name,
        seller=receipt.offer.seller.name or receipt.offer.seller.key,
        market=receipt.offer.market,
        state=state,
        amount=money(Money(asset, paid)),
        note=NOTES[receipt.status],
        finished_at=receipt.finished_at,
        result_hash=receipt.result_hash,
        signer=receipt.signer,
        payments=tuple(_payment(payment, asset) for payment in receipt.payments),
    )


def _payment(payment: PaymentRecord, asset: Asset) -> PaymentView:
    known = payment.asset == asset.caip19
    return PaymentView(
        state=State.of(payment.state.value),
        amount=money(Money(asset, int(payment.amount))) if known else f"{payment.amount} of {payment.asset}",
        network=network_name(payment.network),
        payer=payment.payer,
        payee=payment.payee,
        transaction=payment.transaction,
        refund_transaction=payment.refund_transaction,
    )


def _output_schema(workflow: Workflow) -> Schema | None:
    """Of a single run: what its seller promised. A plan's result is made of several."""
    if workflow.planner not in (SINGLE, MARKET) or not workflow.receipts:
        return None
    return workflow.receipts[-1].offer.capability.output_schema


def _agent_id(workflow: Workflow) -> str:
    """Of a single run on this node: the agent whose page runs it again."""
    if workflow.planner != SINGLE or not workflow.receipts:
        return ""
    before, mark, agent_id = workflow.receipts[-1].offer.endpoint.rpartition("/x402/agents/")
    return agent_id if mark and before else ""


def _took(start: datetime, end: datetime | None) -> str:
    return duration((end - start).total_seconds() * 1000) if end else ""
