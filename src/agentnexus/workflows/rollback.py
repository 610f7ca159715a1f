"""What happens when a plan cannot be finished: held money comes back, what was done is undone, the rest is told.

All of it goes on when the workflow is cancelled, and is repeated on another worker without doing anything twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from agentnexus.core.canonical import Json
from agentnexus.core.errors import NexusError
from agentnexus.core.events import EventName
from agentnexus.core.offers import Need
from agentnexus.workflows.engine.port import Draft, Narrator, Phase, RunCancelled, StepContext, StepFunction
from agentnexus.workflows.model import PlanStep, StepStatus, Undo, WorkflowStatus
from agentnexus.workflows.plan_run import CLEANING, SKIPPED_KEY, PlanRun, budget_id, hire_key, step_key
from agentnexus.workflows.telling import Teller, given_back, known_outcome, money_of, status_draft


@dataclass(frozen=True, slots=True)
class Rollback:
    """Of one plan."""

    work: PlanRun

    async def run(self, error: NexusError | RunCancelled) -> None:
        """In reverse order of completion: give back what is held, undo what declares how, say what stays.

        At the end the budget is closed, so that a worker which does not know of the end yet can spend nothing.
        """
        ended: dict[str, datetime] = {}
        for step in self.work.plan.steps:
            known = self.work.run.recorded(step_key(step))
            if known is not None and known.phase is Phase.COMPLETED and isinstance(known.output, Mapping):
                self.work.results.setdefault(step.id, known.output)
                assert known.ended_at is not None
                ended[step.id] = known.ended_at
        done = [
            step for step in self.work.plan.steps if step.id in ended and SKIPPED_KEY not in self.work.results[step.id]
        ]
        done.sort(key=lambda step: ended[step.id], reverse=True)
        unfinished = [
            s
            for s in self.work.plan.steps
            if s.id not in self.work.results and self.work.run.recorded(step_key(s)) is not None
        ]
        if done or unfinished:
            kept = [step.id for step in done if step.undo is None and not step.local]
            data: dict[str, object] = {"reason": str(error), "not_undone": kept}
            told = status_draft(EventName.WORKFLOW_ROLLING_BACK, WorkflowStatus.ROLLING_BACK, **data)
            await self.work.run.mark("rolling-back", told)
        for step in unfinished:
            await self._give_back(step, str(error))
        for step in done:
            await self._keep_paid(step.id, step_key(step), self.work.results[step.id])
            if step.undo is not None:
                await self._undo(step, step.undo)
        made = self.work.run.recorded("budget")
        if made is not None and made.phase is Phase.COMPLETED:
            await self._clean("close-budget", self._close_budget, {"budget_open": True})

    async def _close_budget(self, _context: StepContext) -> Json:
        await self.work.means.budgets.revoke(budget_id(self.work.run.id))
        return None

    async def _clean(
        self, key: str, function: StepFunction, left: dict[str, object], narrate: Narrator | None = None
    ) -> None:
        """One step of cleaning up. What cannot be done is told, with `left`, and does not stop the rest."""
        try:
            await self.work.run.step(key, function, retry=CLEANING, narrate=narrate, shielded=True)
        except NexusError as error:
            await self.work.run.mark(f"not-{key}", Draft(EventName.STEP_PROGRESS, {**left, "error": error.to_json()}))

    async def _give_back(self, step: PlanStep, reason: str) -> None:
        known = self.work.run.recorded(step_key(step))
        attempts = 0 if known is None else known.attempt
        failed = known is not None and known.phase is Phase.FAILED

        async def function(_context: StepContext) -> Json:
            found = {}
            for attempt in range(1, attempts + 1):
                key = hire_key(self.work.run.id, step.id, attempt)
                found[attempt] = await known_outcome(partial(self.work.means.hirer.cancel, key, reason[:300]))
            return given_back(found, self.work.request.max_cost)

        status = StepStatus.FAILED if failed else StepStatus.REFUNDED
        teller = Teller(step, ended=status, attempts=attempts)
        left: dict[str, object] = {"step": step.id, "not_given_back": True}
        await self._clean(f"refund-{step.id}", function, left, teller.give_back)
        known = self.work.run.recorded(f"refund-{step.id}")
        if known is not None and known.phase is Phase.COMPLETED and isinstance(known.output, Mapping):
            await self._keep_paid(step.id, step_key(step), known.output)

    async def _undo(self, step: PlanStep, undo: Undo) -> None:
        async def function(context: StepContext) -> Json:
            given = await self.work.filled(undo.input)
            hired = await known_outcome(
                lambda: self.work.means.hirer.hire(
                    Need(capability=undo.capability, input=given),
                    budget_id=budget_id(self.work.run.id),
                    key=hire_key(self.work.run.id, f"undo-{step.id}", context.attempt),
                    user_id=self.work.request.user_id,
                    task=self.work.run.id,
                )
            )
            return money_of(hired.receipts or (hired.receipt,), self.work.request.max_cost)

        key = f"undo-{step.id}"
        try:
            found = await self.work.run.step(
                key, function, retry=step.retry.policy(), narrate=Teller(step).undone, shielded=True
            )
        except NexusError as error:
            data: dict[str, object] = {"step": step.id, "not_undone": True, "error": error.to_json()}
            await self.work.run.mark(f"not-undone-{step.id}", Draft(EventName.STEP_PROGRESS, data))
        else:
            assert isinstance(found, Mapping)
            await self._keep_paid(key, key, found)

    async def _keep_paid(self, name: str, key: str, found: Mapping[str, object]) -> None:
        """While rolling back: what was paid is captured all the same, or the release would hand it out again."""
        if self.work.means.funds is not None and found["paid"] != "0":
            left: dict[str, object] = {"step": name, "not_captured": found["paid"]}
            # Under a name of its own: the capture itself may have been cut off, and no step is taken twice.
            await self._clean(f"kept-{name}", self.work.capturing(key, found), left)
