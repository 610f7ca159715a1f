"""`Runs` over the workflow room."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Final

from agentnexus.core.canonical import bytes_hash, content_hash, idempotency_key
from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.core.events import Event
from agentnexus.web.adapters.events import RunLog
from agentnexus.web.adapters.history import search
from agentnexus.web.adapters.lifting import Lifted, lift_files
from agentnexus.web.adapters.run_view import MARKET, run_summary, run_view
from agentnexus.web.doors import NewTask, PlanEdit
from agentnexus.web.newest import newest
from agentnexus.web.views.agents import AgentView
from agentnexus.web.views.history import HistoryPage, HistoryQuery
from agentnexus.web.views.runs import RunSummary, RunView
from agentnexus.workflows.editing import PlanChange
from agentnexus.workflows.model import FileRef, Plan, PlanStep, Workflow
from agentnexus.workflows.service import Workflows

PAGE: Final = 60
PAUSE_SECONDS: Final = 0.1
IDLE_SECONDS: Final = 60.0


class WorkflowRuns:
    """Tasks and single runs, as the pages want them."""

    def __init__(self, workflows: Workflows) -> None:
        self._workflows = workflows

    async def create(self, user_id: str, task: NewTask) -> str:
        """Files are kept first; the same form sent twice makes one task."""
        files = [
            await self._workflows.add_file(each.filename, each.data, each.media_type, user_id=user_id)
            for each in task.files
        ]  # fmt: skip
        content = [task.text, str(task.max_cost.atomic), *(bytes_hash(each.data) for each in task.files)]
        made = await self._workflows.create(
            user_id, task.text, files, max_cost=task.max_cost, max_seconds=task.max_seconds,
            key=idempotency_key(task.key, *content) if task.key else "",
        )  # fmt: skip
        return made.id

    async def run_agent(
        self, user_id: str, agent: AgentView, value: dict[str, object], key: str, *, any_seller: bool = False
    ) -> str:
        """The agent's price is the limit; files in the input become files of the workflow."""
        if agent.amount is None:
            raise InvalidInput(f"{agent.name} has no price", next_step="choose another agent")
        lifted = lift_files(agent.input_schema or {}, value)
        files = await self._kept(lifted, user_id)
        seller = MARKET if any_seller else agent.id
        repeatable = idempotency_key(key, seller, content_hash(value)) if key else ""  # type: ignore[arg-type] # JSON by parsing
        if not any_seller:
            made = await self._workflows.create_single(
                user_id, agent.id, agent.capability, lifted.value, max_cost=agent.amount, files=files, key=repeatable
            )
            return made.id
        step = PlanStep(
            id="s1", title=agent.name, capability=agent.capability, input=lifted.value, max_price=agent.amount
        )
        made = await self._workflows.create(
            user_id, f"{agent.name}, from whoever sells it best", files, max_cost=agent.amount, auto_approve=True,
            plan=Plan(planner=MARKET, steps=(step,), output={"$step": step.id}), key=repeatable,
        )  # fmt: skip
        return made.id

    async def _kept(self, lifted: Lifted, user_id: str) -> list[FileRef]:
        return [await self._workflows.add_file(name, data, user_id=user_id) for name, data in lifted.files]

    async def view(self, user_id: str, run_id: str) -> RunView:
        """The state now, with the events that led to it."""
        workflow = await self._workflows.get(run_id, user_id)
        log = _log_of(workflow)
        if workflow.sequence:
            source = self._workflows.events(run_id, user_id)
            assert isinstance(source, AsyncGenerator)
            async with aclosing(source) as events:
                async for event in events:
                    log.feed(event)
                    if event.sequence >= workflow.sequence:
                        break
        return run_view(workflow, log)

    async def follow(self, user_id: str, run_id: str) -> AsyncIterator[RunView]:
        """Every change, merged to what a person can follow."""
        log = _log_of(await self._workflows.get(run_id, user_id))

        async def fed() -> AsyncIterator[Event]:
            async for event in self._workflows.events(run_id, user_id):
                log.feed(event)
                yield event

        async for event in newest(fed(), pause_seconds=PAUSE_SECONDS, idle_seconds=IDLE_SECONDS):
            if event is not None:
                workflow = await self._workflows.get(run_id, user_id)
                yield run_view(workflow, log)

    async def recent(self, user_id: str) -> tuple[Sequence[RunSummary], bool]:
        """The newest ones, newest first."""
        found = await self._workflows.list(user_id, PAGE)
        return [run_summary(each) for each in found.workflows], bool(found.next_cursor)

    async def history(self, user_id: str, query: HistoryQuery) -> HistoryPage:
        """Raises `InvalidInput` for a cursor that is none of ours."""
        return await search(self._workflows, user_id, query)

    async def approve(self, user_id: str, run_id: str) -> None:
        """Raises `NotFound`, `Conflict`."""
        await self._workflows.approve(run_id, user_id)

    async def edit(self, user_id: str, run_id: str, edit: PlanEdit) -> None:
        """Raises `NotFound`, `Conflict`, `NoOffer`, `InvalidInput`, `BudgetExceeded`."""
        workflow = await self._workflows.get(run_id, user_id)
        step = next((each for each in workflow.plan.steps if each.id == edit.step), None) if workflow.plan else None
        planned = None if step is None or step.offer is None else step.offer.id
        asset = workflow.max_cost.asset
        cap = asset.parse(edit.cap) if edit.cap else None
        moved = bool(edit.seller) and edit.seller != planned
        capped = step is not None and cap != step.max_price
        change = PlanChange(
            drop=(edit.step,) if edit.drop else (),
            sellers={edit.step: edit.seller} if moved and not edit.drop else {},
            max_prices={edit.step: cap} if capped and not edit.drop else {},
        )
        if not change.empty:
            await self._workflows.edit(run_id, user_id, change)

    async def cancel(self, user_id: str, run_id: str) -> None:
        """Raises `NotFound`, `Conflict`."""
        await self._workflows.cancel(run_id, user_id)

    async def result(self, user_id: str, run_id: str) -> object:
        """Raises `NotFound` while there is none."""
        workflow = await self._workflows.get(run_id, user_id)
        if workflow.result is None:
            raise NotFound("this task has no result yet", next_step="wait until it is done")
        return workflow.result

    async def receipt(self, user_id: str, run_id: str, receipt_id: str) -> dict[str, object]:
        """Only receipts of this workflow."""
        workflow = await self._workflows.get(run_id, user_id)
        for receipt in workflow.receipts:
            if receipt.id == receipt_id:
                return receipt.model_dump(mode="json")
        raise NotFound("this task has no such receipt", next_step="open the task and choose one of its receipts")


def _log_of(workflow: Workflow) -> RunLog:
    asset = workflow.max_cost.asset
    return RunLog(assets={asset.caip19: asset})
