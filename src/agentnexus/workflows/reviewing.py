"""Between plan and run: the owner changes the plan, its money is set aside, the approval goes out. Exactly one wins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from agentnexus.core.errors import Conflict, NexusError, Unavailable
from agentnexus.core.money import Money
from agentnexus.workflows.audit import Entry, Trail
from agentnexus.workflows.editing import PlanChange, changed
from agentnexus.workflows.engine.port import Engine
from agentnexus.workflows.estimate import to_reserve
from agentnexus.workflows.model import PlanStep, StepState, Workflow, WorkflowRequest, WorkflowStatus, as_json
from agentnexus.workflows.planning import Planning
from agentnexus.workflows.ports import EscrowFunds
from agentnexus.workflows.reviews import MemoryReviews, Review, Reviews
from agentnexus.workflows.run import APPROVE

OPERATOR = "operator"
ROUNDS_MAX = 5
END_SECONDS = 300.0


class Reviewing:
    """What `Workflows` asks about reviews. Without `planning` no plan is edited, without `funds` none is reserved."""

    def __init__(
        self,
        engine: Engine,
        *,
        reviews: Reviews | None = None,
        planning: Planning | None = None,
        funds: EscrowFunds | None = None,
        trail: Trail | None = None,
    ) -> None:
        self._engine = engine
        self._reviews = reviews or MemoryReviews()
        self._planning = planning
        self._funds = funds
        self._trail = trail
        self._releasing: set[asyncio.Task[None]] = set()

    async def note(self, workflow: Workflow, actor: str, action: str, **data: object) -> None:
        """Into the audit trail, where there is one."""
        if self._trail is not None:
            await self._trail.note(actor, workflow.user_id, action, workflow.id, **data)

    async def trail_of(self, workflow_id: str, after: int) -> Sequence[Entry]:
        """What the audit trail has about a workflow."""
        return [] if self._trail is None else await self._trail.of(workflow_id, after)

    async def seen(self, workflow: Workflow) -> Workflow:
        """A workflow that waits, with its plan as edited last, and approved once it is: the engine follows soon."""
        if workflow.status is not WorkflowStatus.AWAITING_APPROVAL:
            return workflow
        return with_review(workflow, await self._reviews.get(workflow.id))

    async def approve(self, workflow: Workflow, actor: str) -> None:
        """Raises `Conflict`, `EscrowShortfall`. Approving again changes nothing."""
        if workflow.status is WorkflowStatus.PLANNING:
            raise Conflict("the plan is not ready yet", next_step="wait for workflow.awaiting_approval, then approve")
        if workflow.status.final:
            raise Conflict(f"the workflow is {workflow.status.value} already", next_step="create a new one")
        if workflow.status is not WorkflowStatus.AWAITING_APPROVAL:
            return
        await self.note(workflow, actor, "workflow.approve")
        review = await self._close(workflow, actor)
        payload = as_json({"by": review.approved_by or actor, **_told(review)})
        if not await self._engine.signal(workflow.id, APPROVE, payload, key=APPROVE):
            await self._was_it_late(workflow)

    async def _close(self, workflow: Workflow, actor: str) -> Review:
        """Set the money aside for the plan as it stands, then close the review unless it was edited meanwhile."""
        for _ in range(ROUNDS_MAX):
            review = await self._reviews.get(workflow.id)
            if review.approved_by is not None:
                return review
            await self._reserve(with_review(workflow, review))
            if await self._reviews.approve(workflow.id, review.revision, actor):
                return await self._reviews.get(workflow.id)
            if (await self._reviews.get(workflow.id)).approved_by is None and self._funds is not None:
                await self._funds.release(workflow.id)  # edited: another sum is to be set aside
        raise Conflict("the plan is being changed", next_step="look at it again, then approve")

    async def _reserve(self, workflow: Workflow) -> None:
        if self._funds is not None:
            amount: Money = to_reserve(workflow.estimate, workflow.max_cost)
            await self._funds.reserve(workflow.user_id, workflow.id, amount)

    async def _was_it_late(self, workflow: Workflow) -> None:
        """A signal that did not arrive was there before, or came after the end: then nothing stays set aside."""
        if not (await self._engine.get(workflow.id)).state.final:
            return
        if self._funds is not None:
            await self._funds.release(workflow.id)
        raise Conflict("the workflow ended before it was approved", next_step="create a new one")

    def cancelled(self, workflow: Workflow) -> None:
        """An approval may set money aside after the run has given it back: look once more when it has ended.

        Whoever approves later than that finds it ended, and gives back what it set aside itself.
        """
        unapproved = workflow.status in (WorkflowStatus.PLANNING, WorkflowStatus.AWAITING_APPROVAL)
        if self._funds is not None and unapproved:
            task = asyncio.create_task(self._release_at_end(workflow.id, self._funds), name="release-at-end")
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)

    async def _release_at_end(self, workflow_id: str, funds: EscrowFunds) -> None:
        with suppress(NexusError, TimeoutError):  # then the account's own repair gives it back
            async with asyncio.timeout(END_SECONDS):
                await self._engine.result(workflow_id)
            await funds.release(workflow_id)

    async def edit(self, workflow: Workflow, request: WorkflowRequest, change: PlanChange, actor: str) -> None:
        """Raises `Conflict`, `NoOffer`, `InvalidInput`, `BudgetExceeded`; then nothing has changed."""
        if self._planning is None:
            raise Unavailable("plans cannot be edited here", next_step="cancel it and create another task")
        review = await self._reviews.get(workflow.id)
        open_to_edits = workflow.status is WorkflowStatus.AWAITING_APPROVAL and review.approved_by is None
        plan = review.plan or workflow.plan
        if not open_to_edits or plan is None:
            now = "approved" if review.approved_by is not None else workflow.status.value.replace("_", " ")
            raise Conflict(
                f"the plan can be changed while it awaits approval: this one is {now}",
                next_step="wait until the plan is ready" if not workflow.status.final else "create a new task",
            )
        offered = await self._planning.offered(request.model_copy(update={"plan": plan}))
        wanted = request.model_copy(update={"plan": changed(plan, change, offered)})
        planned = await self._planning.plan(wanted)
        await self.note(workflow, actor, "workflow.edit", change=change.model_dump(mode="json"))
        if not await self._reviews.edit(workflow.id, review.revision, planned.plan, planned.estimate):
            raise Conflict(
                "the plan was changed or approved at the same moment", next_step="look at it again, then change it"
            )
        await self._tell(workflow.id, Review(review.revision + 1, planned.plan, planned.estimate))

    async def _tell(self, workflow_id: str, edited: Review) -> None:
        """For those who watch; what counts is kept already."""
        with suppress(NexusError):
            await self._engine.signal(workflow_id, APPROVE, as_json(_told(edited)), key=f"edit-{edited.revision}")


def with_review(workflow: Workflow, review: Review) -> Workflow:
    """The workflow as its review shows it."""
    if review.plan is not None:
        update = {"plan": review.plan, "estimate": review.estimate, "steps": _fresh(review.plan.steps)}
        workflow = workflow.model_copy(update=update)
    if review.approved_by is not None:
        workflow = workflow.model_copy(update={"status": WorkflowStatus.APPROVED})
    return workflow


def _told(review: Review) -> dict[str, object]:
    """What the body reads from a signal."""
    if review.plan is None or review.estimate is None:
        return {"revision": review.revision}
    plan, estimate = review.plan.model_dump(mode="json"), review.estimate.model_dump(mode="json")
    return {"revision": review.revision, "plan": plan, "estimate": estimate}


def _fresh(steps: Sequence[PlanStep]) -> tuple[StepState, ...]:
    return tuple(StepState(id=step.id, title=step.title, capability=step.capability) for step in steps)
