"""The older dialect of workflow answers, in one place.

Answers carry two spellings side by side: our own (snake_case, exact money as ``{amount, atomic, …}``) and the camelCase
fields that clients of the earlier reasoning engine read, where money is a number of whole units and time is in
milliseconds. The names do not collide, so neither kind of client has to say which it is; only ``error`` has both in
one object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from agentnexus.core.canonical import canonical_json
from agentnexus.core.errors import error_class
from agentnexus.core.events import Event
from agentnexus.core.money import Money
from agentnexus.workflows.model import Plan, PlanStep, StepEstimate, StepState, StepStatus, Workflow
from agentnexus.workflows.outputs import StepOutput
from agentnexus.workflows.plan import layers
from agentnexus.workflows.references import references, steps_used
from agentnexus.workflows.schedule import critical_path

DONE = frozenset({StepStatus.COMPLETED, StepStatus.COMPENSATED})
ENDED = frozenset({*DONE, StepStatus.FAILED, StepStatus.REFUNDED})
OUTPUTS_MAX = 1 << 20  # bytes of outputs in one answer


def event_json(event: Event) -> dict[str, object]:
    """``{type, data, seq, at}``, with `workflowId` and `timestamp` for those who know these."""
    at = event.at.isoformat()
    return {
        "type": event.name.value, "data": event.data, "seq": event.sequence, "at": at,
        "workflowId": event.subject, "timestamp": at,
    }  # fmt: skip


def connected_json(workflow_id: str, at: datetime) -> dict[str, object]:
    """What a socket says before its first event; the number 0 comes before all events."""
    now = at.isoformat()
    return {"type": "connected", "data": {}, "seq": 0, "at": now, "workflowId": workflow_id, "timestamp": now}


def workflow_json(
    workflow: Workflow, events: Sequence[Event] | None = None, outputs: Mapping[str, StepOutput] | None = None
) -> dict[str, object]:
    """A workflow in both spellings; `events` and what its steps gave only where they were asked for."""
    own = workflow.model_dump(mode="json", exclude={"steps"})
    plan, estimate = workflow.plan, workflow.estimate
    seconds = None if estimate is None else estimate.seconds
    older: dict[str, object] = {
        "userId": workflow.user_id,
        "naturalLanguageInput": workflow.text,
        "intent": None if plan is None else intent_json(workflow, plan),
        "executionPlan": None if plan is None else plan_json(workflow, plan),
        "currentStep": next((step.id for step in workflow.steps if step.status is StepStatus.RUNNING), None),
        "stepResults": step_results(workflow, outputs),
        "estimatedCost": None if estimate is None else number(estimate.expected),
        "estimatedTime": None if seconds is None else round(seconds * 1000),
        "maxCost": number(workflow.max_cost),
        "totalCost": number(workflow.cost),
        "totalTime": _milliseconds(workflow.created_at, workflow.finished_at or workflow.updated_at),
        "paymentSignatures": payment_signatures(workflow),
        "createdAt": workflow.created_at.isoformat(),
        "startedAt": None if workflow.started_at is None else workflow.started_at.isoformat(),
        "completedAt": None if workflow.finished_at is None else workflow.finished_at.isoformat(),
    }
    if events is not None:
        older["events"] = [event_json(event) for event in events]
        last = events[-1].sequence if events else workflow.sequence
        older["eventsNext"] = last if last < workflow.sequence else None
    return {**own, **older, "steps": states_json(workflow, outputs), "error": _error(workflow)}


def intent_json(workflow: Workflow, plan: Plan) -> dict[str, object]:
    """``{rawInput, classification, entities, confidence, requiredCapabilities}``: what the task turned out to ask for.

    `confidence` is 1: what is shown was checked against what is on sale, else there would be no plan.
    """
    hired = [step.capability for step in plan.steps if not step.local]
    return {
        "rawInput": workflow.text,
        "classification": "single_step" if len(plan.steps) == 1 else "multi_step",
        "entities": {"files": [file.name for file in workflow.files]},
        "confidence": 1.0,
        "requiredCapabilities": list(dict.fromkeys(hired)),
    }


def number(amount: Money) -> float:
    """Money as that dialect has it: a number of whole units."""
    return float(amount.decimal)


def plan_json(workflow: Workflow, plan: Plan) -> dict[str, object]:
    """``{steps, dag, criticalPath, parallelGroups, totalEstimatedCost, totalEstimatedTime}``."""
    estimate = workflow.estimate
    of_step = {entry.step: entry for entry in estimate.steps} if estimate is not None else {}
    groups = layers(plan)
    known: Mapping[str, float | None] = {step.id: None for step in plan.steps}
    together = {step_id for group in groups if len(group) > 1 for step_id in group}
    path = critical_path(plan, {**known, **{key: entry.seconds for key, entry in of_step.items()}})
    seconds = None if estimate is None else estimate.seconds
    return {
        "steps": [_step_json(step, of_step.get(step.id), step.id in together) for step in plan.steps],
        "dag": {step.id: list(step.depends_on) for step in plan.steps},
        "criticalPath": path,
        "parallelGroups": groups,
        "totalEstimatedCost": 0.0 if estimate is None else number(estimate.expected),
        "totalEstimatedTime": 0 if seconds is None else round(seconds * 1000),
    }


def _step_json(step: PlanStep, estimate: StepEstimate | None, parallel: bool) -> dict[str, object]:
    offer, retry = step.offer, step.retry
    mapping = {key: list(steps_used(value)) for key, value in step.input.items() if steps_used(value)}
    return {
        "id": step.id,
        "type": step.kind,
        "serviceId": None if offer is None else offer.id,
        "serviceName": step.title if offer is None else offer.seller_name or offer.title or step.title,
        "serviceUrl": None if offer is None else offer.endpoint or None,
        "action": step.capability,
        "params": {key: value for key, value in step.input.items() if not list(references(value))},
        "inputMapping": mapping,
        "outputKey": step.id,
        "dependencies": list(step.depends_on),
        "parallelizable": parallel,
        "estimatedCost": 0.0 if estimate is None else number(estimate.expected),
        "estimatedTime": 0 if estimate is None or estimate.seconds is None else round(estimate.seconds * 1000),
        "retryPolicy": {
            "maxAttempts": retry.attempts,
            "backoffMultiplier": 2,
            "initialDelayMs": round(retry.first_delay_seconds * 1000),
            "maxDelayMs": round(retry.longest_delay_seconds * 1000),
        },
    }


def states_json(workflow: Workflow, outputs: Mapping[str, StepOutput] | None = None) -> list[dict[str, object]]:
    """The steps as they stand, with what they gave in `output`, and where to have it whole in `output_href`."""
    shown = _outputs_json(workflow, outputs)
    return [
        {
            **step.model_dump(mode="json"),
            "output": shown[step.id][0] if step.id in shown else None,
            "output_href": shown[step.id][1] if step.id in shown else None,
        }
        for step in workflow.steps
    ]


def _outputs_json(workflow: Workflow, outputs: Mapping[str, StepOutput] | None) -> dict[str, tuple[object, str]]:
    """By step: the output and its address. So much of them together is shown; large ones are only at their address."""
    shown: dict[str, tuple[object, str]] = {}
    left = OUTPUTS_MAX
    for step_id, found in (outputs or {}).items():
        size = 0 if found.blob else len(canonical_json(found.value))
        fits = not found.blob and size <= left
        left -= size if fits else 0
        shown[step_id] = (found.value if fits else None, f"/workflows/{workflow.id}/steps/{step_id}/output")
    return shown


def step_results(workflow: Workflow, outputs: Mapping[str, StepOutput] | None = None) -> dict[str, dict[str, object]]:
    """By step that has ended: ``{stepId, success, output, outputHref, cost, time, error, paymentSignature, attempts}``.

    `output` is None where it is large: then it is at `outputHref`.
    """
    shown = _outputs_json(workflow, outputs)
    nothing = (None, None)
    return {
        step.id: _result(workflow, step, *shown.get(step.id, nothing))
        for step in workflow.steps
        if step.status in ENDED
    }


def _result(workflow: Workflow, step: StepState, output: object, href: str | None) -> dict[str, object]:
    zero = workflow.max_cost.asset
    paid = 0
    signature = None
    for receipt in workflow.receipts:
        if receipt.id != step.receipt:
            continue
        for payment in receipt.payments:
            if payment.state.value in ("confirmed", "released"):
                paid += payment.worth(zero.caip19)
            signature = payment.transaction or signature
    return {
        "stepId": step.id,
        "success": step.status in DONE,
        "output": output,
        "outputHref": href,
        "cost": number(Money(zero, paid)),
        "time": step.duration_ms or 0,
        "error": None if step.error is None else str(step.error.get("message", "")),
        "paymentSignature": signature,
        "attempts": step.attempts,
    }


def payment_signatures(workflow: Workflow) -> list[str]:
    """Transactions of its receipts, each once, in order."""
    found = [payment.transaction for receipt in workflow.receipts for payment in receipt.payments]
    return list(dict.fromkeys(signature for signature in found if signature))


def _error(workflow: Workflow) -> dict[str, object] | None:
    if workflow.error is None:
        return None
    failed = next((step.id for step in workflow.steps if step.status is StepStatus.FAILED), None)
    kind = error_class(workflow.error.get("code"))
    return {
        **workflow.error,
        "stepId": failed,
        "timestamp": (workflow.finished_at or workflow.updated_at).isoformat(),
        "recoverable": kind is not None and kind.retryable,
    }


def health_json(figures: Mapping[str, object]) -> dict[str, object]:
    """The figures of `Workflows.health` as ``GET /health`` words them; times in milliseconds."""
    average = figures["average_seconds"]
    return {
        "successRate": figures["success_rate"],
        "averageExecutionTime": round(float(str(average)) * 1000) if average is not None else None,
        "totalCost": figures["total_cost"],
        "activeWorkflows": figures["active"],
        "queueDepth": figures["queued"],
        "errorRates": figures["error_rates"],
    }


def _milliseconds(start: datetime, end: datetime) -> int:
    return round((end - start).total_seconds() * 1000)
