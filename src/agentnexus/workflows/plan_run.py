"""What running a plan and undoing it share: the means, the keys, and how references become values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from agentnexus.core.canonical import Json, canonical_json
from agentnexus.core.errors import NexusError, NoOffer
from agentnexus.core.money import Money
from agentnexus.core.offers import Constraints, Need
from agentnexus.core.ports import Blobs, Clock
from agentnexus.workflows.engine.port import Retry, Run, StepContext, StepFunction
from agentnexus.workflows.granting import Approvals
from agentnexus.workflows.model import SINGLE, Estimate, Plan, PlanStep, StepOffer, Undo, WorkflowRequest
from agentnexus.workflows.planning import Planning
from agentnexus.workflows.ports import Budgets, EscrowFunds, Hirer, RootBudget
from agentnexus.workflows.references import SKIPPED, fill
from agentnexus.workflows.telling import transaction_of

SKIPPED_KEY = "skipped"  # in what the journal holds of a step that was not to run: why
INLINE_BYTES = 64 * 1024
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


def hire_key(run_id: str, step: str, attempt: int) -> str:
    """The idempotency key of one attempt; receipts are found by it."""
    return f"{run_id}:{step}:{attempt}"


def attempt_of(key: str) -> int:
    """The attempt that a `hire_key` is for."""
    return int(key.rpartition(":")[2])


def budget_id(run_id: str) -> str:
    return f"workflow:{run_id}"


def step_key(step: PlanStep) -> str:
    return f"step:{step.id}"


@dataclass(slots=True)
class PlanRun:
    """One approved plan on its way. `results` are what the journal holds of completed steps."""

    run: Run
    means: Means
    request: WorkflowRequest
    plan: Plan
    estimate: Estimate
    results: dict[str, Mapping[str, object]] = field(default_factory=dict)

    async def need(self, step: PlanStep, attempt: int) -> Need:
        """What a step asks sellers for in an attempt; the same whenever it is asked."""
        allowed, denied = await self._sellers(step, attempt)
        return Need(
            capability=step.capability,
            input=await self.filled(step.input),
            constraints=Constraints(
                max_price=self._most(step),
                sellers_allowed=allowed,
                sellers_denied=denied,
            ),
        )

    async def _sellers(self, step: PlanStep, attempt: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Who alone may be hired, and who may not: one who failed last is not the next one, where there are others.

        A seller that the owner chose is tried again, as often as the step may be but for the last time.
        """
        chosen = step.offer if self._pinned(step) or (step.picked and attempt < step.retry.attempts) else None
        if chosen is not None:
            return (chosen.seller,), ()
        asked = [] if attempt == 1 else await self.means.hirer.receipts(hire_key(self.run.id, step.id, attempt - 1))
        sellers = {receipt.offer.seller.key for receipt in asked}
        entry = self.estimate.step(step.id)
        if step.picked and entry is not None:  # nobody else was asked so far
            sellers |= {offer.seller for offer in entry.alternatives}
        return (), (asked[-1].offer.seller.key,) if len(sellers) > 1 and asked else ()

    def _most(self, step: PlanStep) -> Money:
        """The dearest price of the estimate that was approved, unless the owner's own cap is lower."""
        entry = self.estimate.step(step.id)
        caps = (self.request.max_cost, step.max_price, None if entry is None else entry.most)
        return min(cap for cap in caps if cap is not None)

    async def undoing(self, step: PlanStep, undo: Undo) -> Need:
        """What undoing a step asks sellers for, at most for what was estimated."""
        entry = self.estimate.step(step.id)
        limits = Constraints(max_price=self.request.max_cost if entry is None else entry.undo_most)
        return Need(capability=undo.capability, input=await self.filled(undo.input), constraints=limits)

    def only(self, step: PlanStep) -> str:
        """The address that alone may be hired from: of the agent whose Run button was pressed; else empty."""
        pinned = self._pinned(step)
        return "" if pinned is None else pinned.endpoint

    def _pinned(self, step: PlanStep) -> StepOffer | None:
        return step.offer if self.plan.planner == SINGLE else None

    async def filled(self, template: Mapping[str, object]) -> dict[str, object]:
        """With references to files and outputs replaced by what they name."""
        filled = await fill(template, files=self.request.files, outputs=await self.outputs(), read=self.means.blobs.get)
        assert isinstance(filled, dict)
        return filled

    async def kept(self, output: object) -> dict[str, object]:
        """Small outputs stay in the journal, large ones become blobs."""
        data = canonical_json(output)  # type: ignore[arg-type]  # hiring has checked that it is JSON
        if len(data) <= INLINE_BYTES:
            return {"output": output}
        return {"blob": await self.means.blobs.put(data, "application/json")}

    async def outputs(self) -> dict[str, object]:
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

    def capturing(self, key: str, found: Mapping[str, object]) -> StepFunction:
        """A step that takes what was paid out of the prepaid balance; once per `key`, however often it is done."""
        paid = Money(self.request.max_cost.asset, int(str(found["paid"])))

        async def function(_context: StepContext) -> Json:
            if self.means.funds is not None:
                await self.means.funds.capture(self.run.id, key, paid, transaction_of(found))
            return None

        return function


def dearer_than_approved(error: NexusError, step: PlanStep, need: Need) -> NexusError:
    """The error itself, or in its place that whoever still sells the step asks more than was approved for it."""
    misses = error.details.get("near_misses")
    near = [miss for miss in misses if miss["rule"] == "price"] if isinstance(misses, list) else []
    if not isinstance(error, NoOffer) or not near:
        return error
    return NoOffer(
        f"nobody does step {step.id} any more for the {need.constraints.max_price} that it may cost:"
        f" {near[0]['seller']} asks {near[0]['price']}",
        next_step="give the task again: its plan will have the new price, for you to approve",
        **error.details,
    )
