"""The durable body of a workflow: plan, wait for approval, hire the steps of the DAG, undo when it cannot be finished.

Everything here may be repeated on another worker at any point: effects are steps, hires carry keys made of the
workflow, the step and the attempt, and whether a step is over is asked of the journal, never of memory.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import count

from agentnexus.core.canonical import Json, canonical_json
from agentnexus.core.errors import AgentTimeout, NexusError, Unavailable
from agentnexus.core.events import EventName
from agentnexus.core.money import Money
from agentnexus.core.offers import Constraints, Need
from agentnexus.core.payments import Limits
from agentnexus.core.ports import Blobs, Clock
from agentnexus.workflows.engine.port import (
    Draft,
    Narrator,
    Phase,
    Retry,
    Run,
    RunCancelled,
    RunState,
    StepContext,
    StepFunction,
)
from agentnexus.workflows.granting import Approvals, granted
from agentnexus.workflows.model import (
    PARALLEL_MAX,
    Plan,
    PlanStep,
    StepStatus,
    Undo,
    WorkflowRequest,
    WorkflowStatus,
    as_json,
)
from agentnexus.workflows.planning import Planning
from agentnexus.workflows.ports import Budgets, EscrowFunds, Hirer, RootBudget
from agentnexus.workflows.references import SKIPPED, fill
from agentnexus.workflows.schedule import cut_off, ready, urgency
from agentnexus.workflows.telling import (
    Reporter,
    Teller,
    given_back,
    known_outcome,
    money_of,
    step_attribute,
    warnings_of,
)
from agentnexus.workflows.transforming import holds, transformed

BODY = "workflow"
APPROVE = "approve"
"""The signal of a review: ``{revision, plan, estimate}`` is an edit, with ``by`` an approval."""
APPROVAL_SECONDS = 24 * 3600.0
UNDO_TIME = timedelta(hours=1)  # the budget outlives the workflow's time by this, or nothing could be undone after it
SKIPPED_KEY = "skipped"  # in what the journal holds of a step that was not to run: why
INLINE_BYTES = 64 * 1024
PLANNING = Retry(attempts=4, first_delay_seconds=0.5, longest_delay_seconds=5)
CLEANING = Retry(attempts=20, first_delay_seconds=0.5, longest_delay_seconds=30)


@dataclass(frozen=True, slots=True)
class Means:
    """What the body works with."""

    hirer: Hirer
    planning: Planning
    budgets: Budgets
    blobs: Blobs
    clock: Clock
    root_budget: RootBudget
    funds: EscrowFunds | None = None
    approvals: Approvals | None = None


def body_of(means: Means) -> Callable[[Run, Json], Awaitable[Json]]:
    """The body to register with the engine under `BODY`."""

    async def body(run: Run, given: Json) -> Json:
        try:
            output = await whole(run, WorkflowRequest.model_validate(given))
        except (NexusError, RunCancelled):
            await _release(run, means.funds)
            raise
        await _release(run, means.funds)
        return output

    async def whole(run: Run, request: WorkflowRequest) -> Json:
        plan = await _plan(run, means, request)
        grant = await granted(run, means.approvals, request, plan)
        if grant.given:
            approved = [_status(EventName.WORKFLOW_APPROVED, WorkflowStatus.APPROVED, by=grant.grant_id)]
        else:
            plan, approved = await _approval(run, request, plan, grant.objection)
        executing = _status(EventName.WORKFLOW_EXECUTING, WorkflowStatus.EXECUTING)
        await run.mark("executing", *approved, executing)
        deadline = await run.step("deadline", _deadline(means, request))
        under = grant.grant_id if grant.given else ""
        conductor = Conductor(run, means, request, plan, datetime.fromisoformat(str(deadline)), under)
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
    return [_status(name, status, **data)]


def hire_key(run_id: str, step: str, attempt: int) -> str:
    """The idempotency key of one attempt; receipts are found by it."""
    return f"{run_id}:{step}:{attempt}"


def budget_id(run_id: str) -> str:
    return f"workflow:{run_id}"


def step_key(step: PlanStep) -> str:
    return f"step:{step.id}"


def _status(name: EventName, status: WorkflowStatus, **data: object) -> Draft:
    return Draft(name, data, {"status": status.value, **({"error": data["error"]} if "error" in data else {})})


def _deadline(means: Means, request: WorkflowRequest) -> Callable[[StepContext], Awaitable[Json]]:
    async def function(_context: StepContext) -> Json:
        return (means.clock.now() + timedelta(seconds=request.max_seconds)).isoformat()

    return function


async def _plan(run: Run, means: Means, request: WorkflowRequest) -> Plan:
    async def function(_context: StepContext) -> Json:
        planned = await means.planning.plan(request)
        return {"plan": planned.plan.model_dump(mode="json"), "estimate": planned.estimate.model_dump(mode="json")}

    found = await run.step("plan", function, retry=PLANNING)
    assert isinstance(found, Mapping)
    plan = Plan.model_validate(found["plan"])
    await run.mark("plan-ready", _plan_ready(plan, found["plan"], found["estimate"]))
    return plan


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


async def _approval(run: Run, request: WorkflowRequest, plan: Plan, objection: str) -> tuple[Plan, list[Draft]]:
    """The plan to run, and who approved it. Edits on the way are told; the one the approval names is what runs.

    `objection` says why no grant allows the plan; then only a person can.
    """
    if request.auto_approve and not objection:
        return plan, []
    why = {"objection": objection} if objection else {}
    await run.mark("ask", _status(EventName.WORKFLOW_AWAITING_APPROVAL, WorkflowStatus.AWAITING_APPROVAL, **why))
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
            await run.mark(f"edited-{edited}", _plan_ready(plan, said["plan"], said["estimate"], revision=edited))
        if "by" in said:
            return plan, [_status(EventName.WORKFLOW_APPROVED, WorkflowStatus.APPROVED, by=said["by"])]
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
    """Runs one approved plan to its end, under the `grant` that allowed it, if one did.

    `results` are what the journal holds of completed steps.
    """

    run: Run
    means: Means
    request: WorkflowRequest
    plan: Plan
    deadline: datetime
    grant: str = ""
    results: dict[str, Mapping[str, object]] = field(default_factory=dict)

    async def conduct(self) -> Json:
        """The workflow's result; raises the first step's error after undoing what can be undone."""
        try:
            await self.run.step("budget", self._make_budget, retry=CLEANING)
            await self._steps()
            return await self.run.step("result", self._result)
        except (NexusError, RunCancelled) as error:
            await self._roll_back(error)
            raise

    async def _make_budget(self, _context: StepContext) -> Json:
        allowed = self.request.max_cost
        if self.means.funds is not None:  # an approval has reserved already: then this changes nothing
            await self.means.funds.reserve(self.request.user_id, self.run.id, allowed)
            set_aside = await self.means.funds.set_aside(self.run.id)
            allowed = allowed if set_aside is None else min(allowed, set_aside)
        limits = Limits(total=allowed)
        above = self.grant or self.request.parent_budget
        parent = above or await self.means.root_budget(self.request.user_id)
        await self.means.budgets.create(
            budget_id(self.run.id),
            parent=parent,
            owner=self.request.user_id,
            asset=self.request.max_cost.asset,
            limits=limits,
            expires_at=self.deadline + UNDO_TIME,
        )
        return None

    async def _close_budget(self, _context: StepContext) -> Json:
        await self.means.budgets.revoke(budget_id(self.run.id))
        return None

    async def _steps(self) -> None:
        """Start each step once what it waits for is there, the most urgent first; the first failure stops all."""
        for step in self.plan.steps:
            self._recall(step)
            if step.id in self.results:
                await self._capture(step, self.results[step.id])
        urgent = urgency(self.plan, {})
        tasks: dict[asyncio.Task[None], str] = {}
        try:
            while tasks or len(self.results) < len(self.plan.steps):
                for step in ready(self.plan, self.results, tasks.values(), PARALLEL_MAX, urgent):
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
        known = self.run.recorded(step_key(step))
        if known is None:
            return
        if known.phase is Phase.FAILED and known.error is not None:
            raise known.error
        if known.phase is Phase.COMPLETED and isinstance(known.output, Mapping):
            self.results[step.id] = known.output

    async def _one(self, step: PlanStep) -> None:
        teller = Teller(step)
        reason = await self._why_not(step)
        found = await self.run.step(
            step_key(step),
            partial(self._skip, reason) if reason else partial(self._transform if step.local else self._hire, step),
            retry=step.retry.policy(),
            narrate=teller.skipped if reason else teller.narrate,
        )
        assert isinstance(found, Mapping)
        self.results[step.id] = found
        await self._capture(step, found)

    async def _why_not(self, step: PlanStep) -> str:
        """Why a step is not to run; the same on every worker, since it comes from what the journal holds."""
        skipped = {step_id for step_id, result in self.results.items() if SKIPPED_KEY in result}
        missing = cut_off(step, skipped)
        if missing is not None:
            return f"step {missing} was skipped"
        if step.when is None or holds(step.when, await self._outputs()):
            return ""
        return "its condition does not hold"

    async def _skip(self, reason: str, _context: StepContext) -> Json:
        return {SKIPPED_KEY: reason, **money_of((), self.request.max_cost)}

    async def _transform(self, step: PlanStep, _context: StepContext) -> Json:
        assert step.transform is not None
        output = await asyncio.to_thread(transformed, step.transform, await self._outputs())
        return as_json({**money_of((), self.request.max_cost), **await self._kept(output)})

    async def _capture(self, step: PlanStep, found: Mapping[str, object]) -> None:
        """What the step was paid comes out of the prepaid balance; once, however often it is said."""
        if self.means.funds is not None and not step.local and SKIPPED_KEY not in found:
            await self.run.step(f"capture-{step.id}", self._capturing(step_key(step), found), retry=CLEANING)

    def _capturing(self, key: str, found: Mapping[str, object]) -> StepFunction:
        paid = Money(self.request.max_cost.asset, int(str(found["paid"])))

        async def function(_context: StepContext) -> Json:
            if self.means.funds is not None:
                await self.means.funds.capture(self.run.id, key, paid)
            return None

        return function

    async def _hire(self, step: PlanStep, context: StepContext) -> Json:
        given = await self._filled(step.input)
        need = Need(
            capability=step.capability,
            input=given,
            constraints=Constraints(
                max_price=step.max_price or self.request.max_cost, sellers_allowed=self._pinned(step)
            ),
        )
        prefer = (step.offer.seller,) if step.offer is not None and context.attempt == 1 else ()
        key = hire_key(self.run.id, step.id, context.attempt)
        reporter = Reporter(step, context, self.means.clock, self.request.max_cost)
        try:
            hired = await known_outcome(
                lambda: self.means.hirer.hire(
                    need,
                    budget_id=budget_id(self.run.id),
                    key=key,
                    user_id=self.request.user_id,
                    prefer=prefer,
                    on_update=reporter.tell,
                    deadline_seconds=self._seconds_left(),
                )
            )
        except NexusError:
            with suppress(Unavailable):  # which must not take the place of the real error: it would be tried again
                reporter.money(await self.means.hirer.receipts(key))
            raise
        receipts = hired.receipts or (hired.receipt,)
        return as_json({**money_of(receipts, self.request.max_cost), **await self._kept(hired.output)})

    def _pinned(self, step: PlanStep) -> tuple[str, ...]:
        pinned = self.plan.planner == "single" and step.offer is not None
        return (step.offer.seller,) if pinned and step.offer is not None else ()

    def _seconds_left(self) -> float:
        left = (self.deadline - self.means.clock.now()).total_seconds()
        if left <= 0:
            raise AgentTimeout(
                f"the workflow did not finish within {self.request.max_seconds:g} seconds",
                next_step="allow more time, or split the task",
            )
        return left

    async def _filled(self, template: Mapping[str, object]) -> dict[str, object]:
        filled = await fill(
            template, files=self.request.files, outputs=await self._outputs(), read=self.means.blobs.get
        )
        assert isinstance(filled, dict)
        return filled

    async def _kept(self, output: object) -> dict[str, object]:
        """Small outputs stay in the journal, large ones become blobs."""
        data = canonical_json(output)  # type: ignore[arg-type]  # hiring has checked that it is JSON
        if len(data) <= INLINE_BYTES:
            return {"output": output}
        return {"blob": await self.means.blobs.put(data, "application/json")}

    async def _outputs(self) -> dict[str, object]:
        """What the steps that have ended gave, by step."""
        return {step_id: await self._output(result) for step_id, result in self.results.items()}

    async def _output(self, result: Mapping[str, object]) -> object:
        if SKIPPED_KEY in result:
            return SKIPPED
        blob = result.get("blob")
        if not isinstance(blob, str):
            return result.get("output")
        data = await self.means.blobs.get(blob)
        value: object = await asyncio.to_thread(json.loads, data)
        return value

    async def _result(self, _context: StepContext) -> Json:
        found = await self._filled({"result": self.plan.output})
        warned = warnings_of(self.plan.steps, await self._outputs())
        return as_json({**found, "warnings": [warning.model_dump() for warning in warned]})

    # ---- when it cannot be finished ----

    async def _roll_back(self, error: NexusError | RunCancelled) -> None:
        """In reverse order of completion: give back what is held, undo what declares how, say what stays.

        At the end the budget is closed, so that a worker which does not know of the end yet can spend nothing.
        """
        ended: dict[str, datetime] = {}
        for step in self.plan.steps:
            known = self.run.recorded(step_key(step))
            if known is not None and known.phase is Phase.COMPLETED and isinstance(known.output, Mapping):
                self.results.setdefault(step.id, known.output)
                assert known.ended_at is not None
                ended[step.id] = known.ended_at
        done = [step for step in self.plan.steps if step.id in ended and SKIPPED_KEY not in self.results[step.id]]
        done.sort(key=lambda step: ended[step.id], reverse=True)
        unfinished = [
            s for s in self.plan.steps if s.id not in self.results and self.run.recorded(step_key(s)) is not None
        ]
        if done or unfinished:
            kept = [step.id for step in done if step.undo is None and not step.local]
            data: dict[str, object] = {"reason": str(error), "not_undone": kept}
            told = _status(EventName.WORKFLOW_ROLLING_BACK, WorkflowStatus.ROLLING_BACK, **data)
            await self.run.mark("rolling-back", told)
        for step in unfinished:
            await self._give_back(step, str(error))
        for step in done:
            await self._keep_paid(step.id, step_key(step), self.results[step.id])
            if step.undo is not None:
                await self._undo(step, step.undo)
        made = self.run.recorded("budget")
        if made is not None and made.phase is Phase.COMPLETED:
            await self._clean("close-budget", self._close_budget, {"budget_open": True})

    async def _clean(
        self, key: str, function: StepFunction, left: dict[str, object], narrate: Narrator | None = None
    ) -> None:
        """One step of cleaning up. What cannot be done is told, with `left`, and does not stop the rest."""
        try:
            await self.run.step(key, function, retry=CLEANING, narrate=narrate, shielded=True)
        except NexusError as error:
            await self.run.mark(f"not-{key}", Draft(EventName.STEP_PROGRESS, {**left, "error": error.to_json()}))

    async def _give_back(self, step: PlanStep, reason: str) -> None:
        known = self.run.recorded(step_key(step))
        attempts = 0 if known is None else known.attempt
        failed = known is not None and known.phase is Phase.FAILED

        async def function(_context: StepContext) -> Json:
            found = {}
            for attempt in range(1, attempts + 1):
                key = hire_key(self.run.id, step.id, attempt)
                found[attempt] = await known_outcome(partial(self.means.hirer.cancel, key, reason[:300]))
            return given_back(found, self.request.max_cost)

        status = StepStatus.FAILED if failed else StepStatus.REFUNDED
        teller = Teller(step, ended=status, attempts=attempts)
        left: dict[str, object] = {"step": step.id, "not_given_back": True}
        await self._clean(f"refund-{step.id}", function, left, teller.give_back)
        known = self.run.recorded(f"refund-{step.id}")
        if known is not None and known.phase is Phase.COMPLETED and isinstance(known.output, Mapping):
            await self._keep_paid(step.id, step_key(step), known.output)

    async def _undo(self, step: PlanStep, undo: Undo) -> None:
        async def function(context: StepContext) -> Json:
            given = await self._filled(undo.input)
            hired = await known_outcome(
                lambda: self.means.hirer.hire(
                    Need(capability=undo.capability, input=given),
                    budget_id=budget_id(self.run.id),
                    key=hire_key(self.run.id, f"undo-{step.id}", context.attempt),
                    user_id=self.request.user_id,
                )
            )
            return money_of(hired.receipts or (hired.receipt,), self.request.max_cost)

        key = f"undo-{step.id}"
        try:
            found = await self.run.step(
                key, function, retry=step.retry.policy(), narrate=Teller(step).undone, shielded=True
            )
        except NexusError as error:
            data: dict[str, object] = {"step": step.id, "not_undone": True, "error": error.to_json()}
            await self.run.mark(f"not-undone-{step.id}", Draft(EventName.STEP_PROGRESS, data))
        else:
            assert isinstance(found, Mapping)
            await self._keep_paid(key, key, found)

    async def _keep_paid(self, name: str, key: str, found: Mapping[str, object]) -> None:
        """While rolling back: what was paid is captured all the same, or the release would hand it out again."""
        if self.means.funds is not None and found["paid"] != "0":
            left: dict[str, object] = {"step": name, "not_captured": found["paid"]}
            # Under a name of its own: the capture itself may have been cut off, and no step is taken twice.
            await self._clean(f"kept-{name}", self._capturing(key, found), left)
