"""The pages over sample data: `python -m tests.web.preview [PORT]` to look at them, `preview_app()` for tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from agentnexus.core.errors import Conflict, NotFound, Unavailable
from agentnexus.web.adapters.events import RunLog
from agentnexus.web.adapters.history import matches
from agentnexus.web.adapters.run_view import run_summary, run_view
from agentnexus.web.app import create_pages
from agentnexus.web.doors import AgentQuery, Doors, NewTask, PlanEdit
from agentnexus.web.views.agents import AgentPage, AgentView
from agentnexus.web.views.history import HistoryPage, HistoryQuery
from agentnexus.web.views.market import MarketView, OfferView
from agentnexus.web.views.runs import RunSummary, RunView
from agentnexus.workflows.editing import without
from agentnexus.workflows.model import Workflow, WorkflowStatus
from tests.web import samples
from tests.web.money_preview import PreviewMoney
from tests.web.prepaid_preview import PreviewPrepaid
from tests.web.purchases_preview import PreviewPurchases
from tests.web.saved_preview import PreviewSaved, PreviewSchedules, PreviewWebhooks
from tests.web.sign_in_preview import PreviewSignIn
from tests.web.wallet_preview import PreviewWallet


class PreviewRuns:
    """Workflows that stand still, or move when a test calls `advance`."""

    def __init__(self) -> None:
        self.workflows = samples.sample_workflows()
        self.changed = asyncio.Condition()
        self.created: list[NewTask] = []
        self.ran: list[tuple[str, dict[str, object]]] = []
        self.refuse: Exception | None = None

    async def create(self, user_id: str, task: NewTask) -> str:
        if self.refuse:
            raise self.refuse
        self.created.append(task)
        return "wf_planning"

    async def run_agent(
        self, user_id: str, agent: AgentView, value: dict[str, object], key: str, *, any_seller: bool = False
    ) -> str:
        if self.refuse:
            raise self.refuse
        self.ran.append(("market" if any_seller else agent.id, value))
        return "wf_executing"

    def _get(self, run_id: str) -> Workflow:
        if run_id not in self.workflows:
            raise NotFound("there is no workflow with that id", next_step="look for it in the list of tasks")
        return self.workflows[run_id]

    def _view(self, run_id: str) -> RunView:
        found = self._get(run_id)
        log = RunLog(assets={samples.USDC.caip19: samples.USDC})
        for event in samples.sample_events(found):
            log.feed(event)
        return run_view(found, log)

    async def view(self, user_id: str, run_id: str) -> RunView:
        return self._view(run_id)

    async def follow(self, user_id: str, run_id: str) -> AsyncIterator[RunView]:
        while True:
            view = self._view(run_id)
            yield view
            if view.final:
                return
            async with self.changed:
                await self.changed.wait_for(lambda old=view: self._view(run_id) != old)

    async def advance(self, run_id: str, workflow: Workflow) -> None:
        async with self.changed:
            self.workflows[run_id] = workflow
            self.changed.notify_all()

    async def recent(self, user_id: str) -> tuple[Sequence[RunSummary], bool]:
        return [run_summary(each) for each in self.workflows.values()], True

    async def history(self, user_id: str, query: HistoryQuery) -> HistoryPage:
        found = [run_summary(each) for each in self.workflows.values() if matches(each, query)]
        if query.cursor or query.words == "rare":
            return HistoryPage((), "" if query.cursor else "more", 1000)
        return HistoryPage(found, "more" if found else "", len(self.workflows))

    async def approve(self, user_id: str, run_id: str) -> None:
        found = self._get(run_id)
        if found.status is not WorkflowStatus.AWAITING_APPROVAL:
            raise Conflict("this task is not waiting for approval", next_step="look at its page: it may be running")
        await self.advance(run_id, found.model_copy(update={"status": WorkflowStatus.EXECUTING}))

    async def edit(self, user_id: str, run_id: str, edit: PlanEdit) -> None:
        found = self._get(run_id)
        if found.plan is None or found.estimate is None:
            raise Conflict("this task has no plan to change", next_step="wait for its plan")
        if edit.drop:
            plan = without(found.plan, [edit.step])
        else:
            estimate = next(each for each in found.estimate.steps if each.step == edit.step)
            offer = next((each for each in estimate.alternatives if each.id == edit.seller), None)
            steps = tuple(
                step.model_copy(update={"offer": offer or step.offer}) if step.id == edit.step else step
                for step in found.plan.steps
            )
            plan = found.plan.model_copy(update={"steps": steps})
        kept = {step.id for step in plan.steps}
        states = tuple(state for state in found.steps if state.id in kept)
        await self.advance(run_id, found.model_copy(update={"plan": plan, "steps": states}))

    async def cancel(self, user_id: str, run_id: str) -> None:
        done = self._get(run_id).created_at + timedelta(seconds=5)
        changes = {"status": WorkflowStatus.CANCELLED, "finished_at": done}
        await self.advance(run_id, self._get(run_id).model_copy(update=changes))

    async def result(self, user_id: str, run_id: str) -> object:
        return self._get(run_id).result

    async def receipt(self, user_id: str, run_id: str, receipt_id: str) -> dict[str, object]:
        found = next((each for each in self._get(run_id).receipts if each.id == receipt_id), None)
        if found is None:
            raise NotFound("there is no such receipt")
        return found.model_dump(mode="json")


class PreviewCatalogue:
    def __init__(self) -> None:
        self.agents = samples.AGENTS

    async def search(self, query: AgentQuery) -> AgentPage:
        words = query.query.lower()
        found = [
            each for each in self.agents
            if words in f"{each.name} {each.summary} {each.capability}".lower()
            and query.category in ("", each.category)
        ]  # fmt: skip
        categories = tuple(dict.fromkeys((each.category, None) for each in samples.AGENTS))
        if len(found) > 3 and query.limit > 4:
            return AgentPage(
                tuple(found[3:]) if query.cursor else tuple(found[:3]), "" if query.cursor else "3", categories
            )
        return AgentPage(tuple(found), "", categories)

    async def agent(self, agent_id: str) -> AgentView:
        for each in self.agents:
            if each.id == agent_id:
                return each
        raise NotFound("there is no agent with that id", next_step="search the marketplace for it")


class PreviewEconomy:
    async def offers(self, need: str) -> Sequence[OfferView]:
        if need == "down":
            raise Unavailable("the registry does not answer", next_step="start it with nexus registry")
        return [each for each in samples.OFFERS if need in each.capability]

    async def markets(self) -> Sequence[MarketView]:
        return samples.MARKETS

    async def figures(self) -> Sequence[tuple[str, str]]:
        return samples.FIGURES


async def _local(_request: Request) -> str:
    return "local"


async def _broken(_request: Request) -> None:
    raise RuntimeError("a bug, for the page that says so")


def preview_app() -> Starlette:
    """The pages over sample data; its parts are in ``app.state``."""
    runs, catalogue, money, prepaid = PreviewRuns(), PreviewCatalogue(), PreviewMoney(), PreviewPrepaid()
    wallet, purchases = PreviewWallet(), PreviewPurchases()
    saved, schedules, webhooks = PreviewSaved(), PreviewSchedules(), PreviewWebhooks()
    sign_in = PreviewSignIn()
    doors = Doors(
        runs=runs, catalogue=catalogue, economy=PreviewEconomy(), money=money, prepaid=prepaid, wallet=wallet,
        purchases=purchases, saved=saved, schedules=schedules, webhooks=webhooks, sign_in=sign_in,
        user=_local, asset=samples.USDC,
    )  # fmt: skip
    routes = create_pages(doors)
    app = Starlette(routes=routes)
    routes[0].app.app.router.routes.append(Route("/broken", _broken))
    app.state.wallet, app.state.purchases = wallet, purchases
    app.state.sign_in, app.state.doors = sign_in, doors
    app.state.saved, app.state.schedules, app.state.webhooks = saved, schedules, webhooks
    app.state.runs, app.state.catalogue, app.state.money, app.state.prepaid = runs, catalogue, money, prepaid
    return app


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8123
    uvicorn.run(preview_app(), host="127.0.0.1", port=port, log_level="warning")
