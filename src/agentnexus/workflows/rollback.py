"""What happens when a plan cannot be finished: held money comes back, what was done is undone, the rest is told.

All of it goes on when the workflow is cancelled, and is repeated on another worker without doing anything twice. Every
step that was paid ends as one of three: its money came back, it was undone, or it is told as not undone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeAlias

from agentnexus.core.canonical import Json
from agentnexus.core.errors import NexusError
from agentnexus.core.events import EventName
from agentnexus.core.offers import Need
from agentnexus.core.payments import Receipt, ReceiptStatus
from agentnexus.hiring.model import Hired
from agentnexus.workflows.engine.port import Draft, Narrator, Phase, RunCancelled, StepContext, StepFunction
from agentnexus.workflows.model import PlanStep, StepStatus, Undo, WorkflowStatus, as_json
from agentnexus.workflows.plan_run import CLEANING, SKIPPED_KEY, PlanRun, attempt_of, budget_id, hire_key, step_key
from agentnexus.workflows.telling import (
    Teller,
    given_back,
    known_outcome,
    money_of,
    not_undone_draft,
    status_draft,
    undo_name,
    was_told,
)

Asking: TypeAlias = Callable[[str], Awaitable[dict[str, object]]]
NO_UNDO = "it does not say how to be undone"
UNKNOWN = "nobody knows whether its money came back"
KEPT = "its seller kept the money without a result"
TOO_LATE = "it was found done when the workflow's budget was closed"


@dataclass(frozen=True, slots=True)
class Rollback:
    """Of one plan, because of `error`."""

    work: PlanRun
    error: NexusError | RunCancelled

    async def run(self) -> None:
        """Give back what is held, undo in the reverse order of completion what declares how, say what stays.

        At the end the budget is closed, so that a worker which does not know of the end yet can spend nothing.
        """
        ended = self._ended()
        done = [step for step in self.work.plan.steps if step.id in ended and not self._skipped(step)]
        done.sort(key=lambda step: ended[step.id])
        begun = [step for step in self.work.plan.steps if step.id not in ended and self._attempts(step)]
        if done or begun:
            await self._tell_beginning(done)
        unknown = [step for step in self.work.plan.steps if not self._attempts(step) and self._may_have_begun(step)]
        strays = await self._strays("strays", unknown)
        begun += strays
        done += await self._give_back_all(begun)
        for step in reversed(done):
            await self._keep_paid(step.id, step_key(step), self.work.results[step.id])
            await self._take_back(step)
        made = self.work.run.recorded("budget")
        if made is not None and made.phase is Phase.COMPLETED:
            await self._clean("close-budget", self._close_budget, {"budget_open": True})
            quiet = [step for step in unknown if step not in strays] + list(filter(self._nothing_known, begun))
            for step in await self._strays("strays-late", quiet):
                await self._tell_late(step)

    def _ended(self) -> dict[str, datetime]:
        """When the steps ended that the journal says completed; their results are there after it."""
        ended: dict[str, datetime] = {}
        for step in self.work.plan.steps:
            known = self.work.run.recorded(step_key(step))
            if known is not None and known.phase is Phase.COMPLETED and isinstance(known.output, Mapping):
                self.work.results.setdefault(step.id, known.output)
                assert known.ended_at is not None
                ended[step.id] = known.ended_at
        return ended

    def _skipped(self, step: PlanStep) -> bool:
        return SKIPPED_KEY in self.work.results[step.id]

    def _attempts(self, step: PlanStep) -> int:
        """How many were begun as far as the journal knows."""
        known = self.work.run.recorded(step_key(step))
        return 0 if known is None else known.attempt

    def _may_have_begun(self, step: PlanStep) -> bool:
        """A worker that dies may have hired for a step before its start was written."""
        allowed = self.work.run.recorded("budget") is not None
        return allowed and not step.local and set(step.depends_on) <= set(self.work.results)

    def _nothing_known(self, step: PlanStep) -> bool:
        """When it was cancelled, nobody had hired for it."""
        known = self.work.run.recorded(f"refund-{step.id}")
        return (
            not step.local and known is not None and isinstance(known.output, Mapping) and not known.output["receipts"]
        )

    async def _strays(self, key: str, steps: Sequence[PlanStep]) -> list[PlanStep]:
        """Those that were hired for: before a start could be written, or by a worker cut off from the others."""

        async def function(_context: StepContext) -> Json:
            found = []
            for step in steps:
                for attempt in range(1, max(1, self._attempts(step)) + 1):
                    if await self._cancel(step.id, attempt):
                        found.append(step.id)
                        break
            return found

        if not steps:
            return []
        await self._clean(key, function, {"not_looked": True})
        known = self.work.run.recorded(key)
        found = known.output if known is not None and isinstance(known.output, list) else ()
        return [step for step in steps if step.id in found]

    async def _cancel(self, hire: str, attempt: int) -> Sequence[Receipt]:
        key = hire_key(self.work.run.id, hire, attempt)
        return await known_outcome(partial(self.work.means.hirer.cancel, key, str(self.error)[:300]))

    async def _tell_beginning(self, done: Sequence[PlanStep]) -> None:
        kept = [step.id for step in reversed(done) if step.undo is None and not step.local]
        data: dict[str, object] = {"reason": str(self.error), "not_undone": kept}
        told = status_draft(EventName.WORKFLOW_ROLLING_BACK, WorkflowStatus.ROLLING_BACK, **data)
        await self.work.run.mark("rolling-back", told)

    # ---- what did not end ----

    async def _give_back_all(self, steps: Sequence[PlanStep]) -> list[PlanStep]:
        """The steps that turn out to be done, in the order in which their sellers were: each has its result then."""
        late: dict[str, str] = {}
        for step in steps:
            found = await self._give_back(step)
            if found is None:
                await self._tell_not_undone(step, UNKNOWN, "0")
                continue
            if "at" in found:
                self.work.results[step.id], late[step.id] = found, str(found["at"])
                continue
            await self._keep_paid(step.id, step_key(step), found)
            if found["paid"] != "0":
                await self._tell_not_undone(step, KEPT, found["paid"])
        return sorted((step for step in steps if step.id in late), key=lambda step: late[step.id])

    async def _give_back(self, step: PlanStep) -> Mapping[str, object] | None:
        """What cancelling found: a hire that its cancel did not overtake was done, with ``at`` and its output."""
        known = self.work.run.recorded(step_key(step))
        failed = known is not None and known.phase is Phase.FAILED
        attempts = max(1, self._attempts(step))
        ended = StepStatus.FAILED if failed else StepStatus.REFUNDED
        teller = Teller(step, ended=ended, attempts=attempts, told=partial(was_told, self.work.run))
        ask = None if step.local else partial(self._ask_again, step)
        return await self._let_go(
            f"refund-{step.id}", step, step.id, attempts=attempts, narrate=teller.give_back, ask=ask
        )

    async def _tell_late(self, step: PlanStep) -> None:
        """Nothing can be hired for it any more, an undo neither."""
        attempts = max(1, self._attempts(step))
        told = partial(was_told, self.work.run)
        narrate = Teller(step, ended=StepStatus.REFUNDED, attempts=attempts, told=told).give_back
        found = await self._let_go(f"late-{step.id}", step, step.id, attempts=attempts, narrate=narrate)
        if found is None or found["paid"] != "0" or "at" in found:
            paid = "0" if found is None else found["paid"]
            await self._keep_paid(f"late-{step.id}", step_key(step), {"paid": paid})
            await self._tell_not_undone(step, TOO_LATE, paid)

    async def _let_go(
        self, key: str, step: PlanStep, hire: str, *, attempts: int, narrate: Narrator, ask: Asking | None = None
    ) -> Mapping[str, object] | None:
        """Cancel every attempt of a hire. None, after telling so, when that cannot be done.

        With ``at`` when one of them was done after all, and then with what `ask` got for its key.
        """

        async def function(_context: StepContext) -> Json:
            found: dict[int, Sequence[Receipt]] = {}
            done: dict[str, object] = {}
            for attempt in range(1, attempts + 1):
                found[attempt] = await self._cancel(hire, attempt)
                settled = [receipt for receipt in found[attempt] if receipt.status is ReceiptStatus.SETTLED]
                if settled:
                    output = {} if ask is None else await ask(hire_key(self.work.run.id, hire, attempt))
                    done = {"at": settled[-1].finished_at.isoformat(), **output}
            return as_json({**given_back(found, self.work.request.max_cost), **done})

        await self._clean(key, function, {"step": step.id, "not_given_back": True}, narrate)
        known = self.work.run.recorded(key)
        if known is None or known.phase is not Phase.COMPLETED or not isinstance(known.output, Mapping):
            return None
        return known.output

    async def _ask_again(self, step: PlanStep, key: str) -> dict[str, object]:
        """The stored output of a hire that is done: nobody is hired for it."""
        try:
            hired = await self._hire(await self.work.need(step, attempt_of(key)), key)
        except NexusError as error:
            if error.retryable:
                raise
            return {"output": None}  # an undo that needs it cannot be had then, and is told
        return await self.work.kept(hired.output)

    async def _hire(self, need: Need, key: str) -> Hired:
        return await known_outcome(
            lambda: self.work.means.hirer.hire(
                need,
                budget_id=budget_id(self.work.run.id),
                key=key,
                user_id=self.work.request.user_id,
                task=self.work.run.id,
            )
        )

    # ---- what did ----

    async def _take_back(self, step: PlanStep) -> None:
        paid = self.work.results[step.id]["paid"]
        if step.undo is not None:
            await self._undo(step, step.undo, paid)
        elif not step.local:
            await self._tell_not_undone(step, NO_UNDO, paid)

    async def _undo(self, step: PlanStep, undo: Undo, paid: object) -> None:
        async def function(context: StepContext) -> Json:
            need = await self.work.undoing(step, undo)
            hired = await self._hire(need, hire_key(self.work.run.id, name, context.attempt))
            return money_of(hired.receipts or (hired.receipt,), self.work.request.max_cost)

        name = undo_name(step.id)
        found: object = None
        try:
            found = await self.work.run.step(
                name, function, retry=step.retry.policy(), narrate=Teller(step).undone, shielded=True
            )
        except NexusError as error:
            known = self.work.run.recorded(name)
            attempts = 1 if known is None else known.attempt
            narrate = Teller(step, attempts=attempts).undone_late
            found = await self._let_go(f"refund-{name}", step, name, attempts=attempts, narrate=narrate)
            if found is None or "at" not in found:
                await self._tell_not_undone(step, error.message, paid, error=error.to_json())
        if isinstance(found, Mapping):
            await self._keep_paid(name, name, found)

    async def _tell_not_undone(self, step: PlanStep, reason: str, paid: object, **more: object) -> None:
        await self.work.run.mark(f"not-undone-{step.id}", not_undone_draft(step, reason, paid, **more))

    # ---- housekeeping ----

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

    async def _keep_paid(self, name: str, key: str, found: Mapping[str, object]) -> None:
        """What was paid is captured all the same, or the release would hand it out again."""
        if self.work.means.funds is not None and found["paid"] != "0":
            left: dict[str, object] = {"step": name, "not_captured": found["paid"]}
            # Under a name of its own: the capture itself may have been cut off, and no step is taken twice.
            await self._clean(f"kept-{name}", self.work.capturing(key, found), left)
