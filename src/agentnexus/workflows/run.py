"""The durable body of a workflow: plan, wait for approval, hire the steps of the DAG, undo when it cannot be finished.

Everything here may be repeated on another worker at any point: effects are steps, hires carry keys made of the
workflow, the step and the attempt, and whether a step is over is asked of the journal, never of memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import count

from agentnexus.core.canonical import Json
from agentnexus.core.errors import AgentTimeout, NexusError, Unavailable
from agentnexus.core.events import EventName
from agentnexus.core.money import Money
from agentnexus.core.payments import Limits
from agentnexus.platform.telemetry import observed, workflows_active
from agentnexus.workflows.engine.port import (
    Draft,
    Phase,
    Retry,
    Run,
    RunCancelled,
    RunState,
    StepContext,
)
from agentnexus.workflows.estimate import to_reserve
from agentnexus.workflows.granting import granted
from agentnexus.workflows.model import (
    Estimate,
    Plan,
    PlanStep,
    StepStatus,
    WorkflowRequest,
    WorkflowStatus,
    as_json,
)
from agentnexus.workflows.plan_run import (
    CLEANING,
    SKIPPED_KEY,
    Means,
    PlanRun,
    budget_id,
    dearer_than_approved,
    hire_key,
    step_key,
)
from agentnexus.workflows.ports import EscrowFunds
from agentnexus.workflows.rollback import Rollback
from agentnexus.workflows.schedule import cut_off, ready, urgency
from agentnexus.workflows.telling import (
    Reporter,
    Teller,
    known_outcome,
    money_of,
    status_draft,
    step_attribute,
    warnings_of,
    was_told,
)
from agentnexus.workflows.transforming import holds, transformed

BODY = "workflow"
APPROVE = "approve"
"""The signal of a review: ``{revision, plan, estimate}`` is an edit, with ``by`` an approval."""
APPROVAL_SECONDS = 24 * 3600.0
UNDO_TIME = timedelta(hours=1)  # the budget outlives the workflow's time by this, or nothing could be undone after it
PLANNING = Retry(attempts=4, first_delay_seconds=0.5, longest_delay_seconds=5)


def body_of(means: Means) -> Callable[[Run, Json], Awaitable[Json]]:
    """The body to register with the engine under `BODY`."""

    async def body(run: Run, given: Json) -> Json:
        with observed("workflow", run.id), workflows_active.track_inprogress():
            try:
                output = await whole(run, WorkflowRequest.model_validate(given))
            except (NexusError, RunCancelled):
                await _release(run, means.funds)
                raise
            await _release(run, means.funds)
            return output

    async def whole(run: Run, request: WorkflowRequest) -> Json:
        plan, priced = await _plan(run, means, request)
        grant = await granted(run, means.approvals, request, plan)
        if grant.given:
            approved = [status_draft(EventName.WORKFLOW_APPROVED, WorkflowStatus.APPROVED, by=grant.grant_id)]
        else:
            plan, priced, approved = await _approval(run, request, plan, priced, grant.objection)
        # Who approves a price has approved no more than that; `max_cost` is for what goes ahead by itself.
        allowed = to_reserve(priced, request.max_cost) if approved and not grant.given else request.max_cost
        begun: dict[str, object] = {
            "status": WorkflowStatus.EXECUTING.value,
            "started_at": means.clock.now().isoformat(),
        }
        executing = Draft(EventName.WORKFLOW_EXECUTING, {}, begun)
        await run.mark("executing", *approved, executing)
        deadline = await run.limit_time("deadline", request.max_seconds)
        under = grant.grant_id if grant.given else ""
        work = PlanRun(run, means, request, plan, priced)
        conductor = Conductor(work, deadline, allowed, under)
        return await conductor.conduct()

    return body


def narrate_end(state: RunState, output: Json, error: NexusError | None) -> Sequence[Draft]:
    """The event that ends a workflow."""
    ends = {
        RunState.COMPLETED: (EventName.WORKFLOW_COMPLETED, WorkflowStatus.COMPLETED),
        RunState.FAILED: (EventName.WORKFLOW_FAILED, WorkflowStatus.FAILED),
        RunState.CANCELLED: (EventName.WORKFLOW_CANCELLED, WorkflowStatus.CANCELLED),
    }
    name, status = ends[state]
    data: dict[str, object] = {} if error is None else {"error": error.to_json()}
    return [status_draft(name, status, **data)]


async def _plan(run: Run, means: Means, request: WorkflowRequest) -> tuple[Plan, Estimate]:
    async def function(_context: StepContext) -> Json:
        planned = await means.planning.plan(request)
        return {"plan": planned.plan.model_dump(mode="json"), "estimate": planned.estimate.model_dump(mode="json")}

    found = await run.step("plan", function, retry=PLANNING, timeout_seconds=request.max_seconds)
    assert isinstance(found, Mapping)
    plan = Plan.model_validate(found["plan"])
    await run.mark("plan-ready", _plan_ready(plan, found["plan"], found["estimate"]))
    return plan, Estimate.model_validate(found["estimate"])


def _plan_ready(plan: Plan, plan_json: object, estimate_json: object, **data: object) -> Draft:
    steps = {f"step:{step.id}": step_attribute(StepStatus.PENDING) for step in plan.steps}
    attributes: dict[str, object] = {
        "planner": plan.planner, "plan": plan_json, "estimate": estimate_json, **steps,
    }  # fmt: skip
    told: dict[str, object] = {
        "planner": plan.planner,
        "steps": [{"id": s.id, "title": s.title, "depends_on": list(s.depends_on)} for s in plan.steps],
    }
    return Draft(EventName.WORKFLOW_PLAN_READY, {**told, **data}, attributes)


async def _approval(
    run: Run, request: WorkflowRequest, plan: Plan, priced: Estimate, objection: str
) -> tuple[Plan, Estimate, list[Draft]]:
    """The plan to run, its price, and who approved them. Edits are told; the one the approval names is what runs.

    `objection` says why no grant allows the plan; then only a person can.
    """
    if request.auto_approve and not objection:
        return plan, priced, []
    why = {"objection": objection} if objection else {}
    await run.mark("ask", status_draft(EventName.WORKFLOW_AWAITING_APPROVAL, WorkflowStatus.AWAITING_APPROVAL, **why))
    revision = 0
    for number in count(1):
        key = "approval" if number == 1 else f"approval-{number}"
        signal = await run.receive(key, APPROVE, timeout_seconds=APPROVAL_SECONDS)
        if signal is None:
            raise RunCancelled("nobody approved the plan within a day")
        said = signal.payload if isinstance(signal.payload, Mapping) else {}
        edited = int(str(said.get("revision", 0)))
        if edited > revision:  # an older edit that comes late is part of it
            revision, plan = edited, Plan.model_validate(said["plan"])
            priced = Estimate.model_validate(said["estimate"])
            await run.mark(f"edited-{edited}", _plan_ready(plan, said["plan"], said["estimate"], revision=edited))
        if "by" in said:
            return plan, priced, [status_draft(EventName.WORKFLOW_APPROVED, WorkflowStatus.APPROVED, by=said["by"])]
    raise AssertionError("counting never ends")


async def _release(run: Run, funds: EscrowFunds | None) -> None:
    """However it ended: what was set aside and not spent is its owner's again."""
    if funds is None:
        return

    async def function(_context: StepContext) -> Json:
        await funds.release(run.id)
        return None

    try:
        await run.step("release", function, retry=CLEANING, shielded=True)
    except NexusError as error:
        await run.mark("not-release", Draft(EventName.STEP_PROGRESS, {"funds_kept": True, "error": error.to_json()}))


@dataclass(slots=True)
class Conductor:
    """Runs one approved plan to its end for at most `allowed`, under the `grant` that allowed it, if one did."""

    work: PlanRun
    deadline: datetime
    allowed: Money
    grant: str = ""

    async def conduct(self) -> Json:
        """The workflow's result; raises the first step's error after undoing what can be undone."""
        try:
            await self.work.run.step("budget", self._make_budget, retry=CLEANING)
            await self._steps()
            return await self.work.run.step("result", self._result)
        except (NexusError, RunCancelled) as error:
            await Rollback(self.work, error).run()
            raise

    async def _make_budget(self, _context: StepContext) -> Json:
        allowed = self.allowed
        if self.work.means.funds is not None:  # an approval has reserved already: then this changes nothing
            await self.work.means.funds.reserve(self.work.request.user_id, self.work.run.id, allowed)
            set_aside = await self.work.means.funds.set_aside(self.work.run.id)
            allowed = allowed if set_aside is None else min(allowed, set_aside)
        limits = Limits(total=allowed)
        above = self.grant or self.work.request.parent_budget
        parent = above or await self.work.means.root_budget(self.work.request.user_id)
        await self.work.means.budgets.create(
            budget_id(self.work.run.id),
            parent=parent,
            owner=self.work.request.user_id,
            asset=self.work.request.max_cost.asset,
            limits=limits,
            expires_at=self.deadline + UNDO_TIME,
        )
        return None

    async def _steps(self) -> None:
        """Start each step once what it waits for is there, the most urgent first; the first failure stops all."""
        for step in self.work.plan.steps:
            self._recall(step)
            if step.id in self.work.results:
                await self._capture(step, self.work.results[step.id])
        urgent = urgency(self.work.plan, {entry.step: entry.seconds for entry in self.work.estimate.steps})
        at_once = self.work.request.max_parallel
        tasks: dict[asyncio.Task[None], str] = {}
        try:
            while tasks or len(self.work.results) < len(self.work.plan.steps):
                for step in ready(self.work.plan, self.work.results, tasks.values(), at_once, urgent):
                    tasks[asyncio.create_task(self._one(step), name=f"step-{step.id}")] = step.id
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del tasks[task]
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _recall(self, step: PlanStep) -> None:
        """What is over before this worker began; a failure recorded there ends the workflow before anything starts."""
        known = self.work.run.recorded(step_key(step))
        if known is None:
            return
        if known.phase is Phase.FAILED and known.error is not None:
            raise known.error
        if known.phase is Phase.COMPLETED and isinstance(known.output, Mapping):
            self.work.results[step.id] = known.output

    async def _one(self, step: PlanStep) -> None:
        teller = Teller(step, told=partial(was_told, self.work.run))
        reason = await self._why_not(step)
        found = await self.work.run.step(
            step_key(step),
            partial(self._skip, reason) if reason else partial(self._transform if step.local else self._hire, step),
            retry=step.retry.policy(),
            timeout_seconds=step.timeout_seconds if step.local else None,  # a hire ends itself, money and all
            narrate=teller.skipped if reason else teller.narrate,
        )
        assert isinstance(found, Mapping)
        self.work.results[step.id] = found
        await self._capture(step, found)

    async def _why_not(self, step: PlanStep) -> str:
        """Why a step is not to run; the same on every worker, since it comes from what the journal holds."""
        skipped = {step_id for step_id, result in self.work.results.items() if SKIPPED_KEY in result}
        missing = cut_off(step, skipped)
        if missing is not None:
            return f"step {missing} was skipped"
        if step.when is None or holds(step.when, await self.work.outputs()):
            return ""
        return "its condition does not hold"

    async def _skip(self, reason: str, _context: StepContext) -> Json:
        return {SKIPPED_KEY: reason, **money_of((), self.work.request.max_cost)}

    async def _transform(self, step: PlanStep, _context: StepContext) -> Json:
        assert step.transform is not None
        output = await asyncio.to_thread(transformed, step.transform, await self.work.outputs())
        return as_json({**money_of((), self.work.request.max_cost), **await self.work.kept(output)})

    async def _capture(self, step: PlanStep, found: Mapping[str, object]) -> None:
        """What the step was paid comes out of the prepaid balance; once, however often it is said."""
        if self.work.means.funds is not None and not step.local and SKIPPED_KEY not in found:
            await self.work.run.step(f"capture-{step.id}", self.work.capturing(step_key(step), found), retry=CLEANING)

    async def _hire(self, step: PlanStep, context: StepContext) -> Json:
        need = await self.work.need(step, context.attempt)
        prefer = (step.offer.seller,) if step.offer is not None and context.attempt == 1 else ()
        key = hire_key(self.work.run.id, step.id, context.attempt)
        reporter = Reporter(step, context, self.work.means.clock, self.work.request.max_cost, self.work.run)
        try:
            hired = await known_outcome(
                lambda: self.work.means.hirer.hire(
                    need,
                    budget_id=budget_id(self.work.run.id),
                    key=key,
                    user_id=self.work.request.user_id,
                    prefer=prefer,
                    on_update=reporter.tell,
                    deadline_seconds=self._seconds_left(step),
                    task=self.work.run.id,
                    only=self.work.only(step),
                )
            )
        except NexusError as error:
            with suppress(Unavailable):  # which must not take the place of the real error: it would be tried again
                reporter.money(await self.work.means.hirer.receipts(key))
            raise dearer_than_approved(error, step, need) from error
        receipts = hired.receipts or (hired.receipt,)
        return as_json({**money_of(receipts, self.work.request.max_cost), **await self.work.kept(hired.output)})

    def _seconds_left(self, step: PlanStep) -> float:
        """Of the step's own time or of the workflow's, whichever is less."""
        left = (self.deadline - self.work.means.clock.now()).total_seconds()
        if left <= 0:
            raise AgentTimeout(
                f"the workflow did not finish within {self.work.request.max_seconds:g} seconds",
                next_step="allow more time, or split the task",
            )
        return left if step.timeout_seconds is None else min(left, step.timeout_seconds)

    async def _result(self, _context: StepContext) -> Json:
        found = await self.work.filled({"result": self.work.plan.output})
        warned = warnings_of(self.work.plan.steps, await self.work.outputs())
        return as_json({**found, "warnings": [warning.model_dump() for warning in warned]})
