"""HTTP of workflows (spec 05). The router takes its service from ``app.state.workflows``; streams are in `streams`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, File, Header, Query, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection

from agentnexus.core.errors import InvalidInput, NotAllowed, NotFound, Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.identity.caller import Caller, caller
from agentnexus.platform.sentences import SentenceRoute
from agentnexus.workflows.by_hand import HandPlan, plan_by_hand
from agentnexus.workflows.dialect import plan_json, states_json, step_results, workflow_json
from agentnexus.workflows.editing import PlanChange
from agentnexus.workflows.model import PARALLEL_MAX, STEPS_MAX, FileRef, Workflow
from agentnexus.workflows.service import Workflows

router = APIRouter(tags=["workflows"], route_class=SentenceRoute)
MILLISECONDS_MAX = 7 * 86_400_000
EVENTS_MAX = 1000


def service(connection: HTTPConnection) -> Workflows:
    found: Workflows = connection.app.state.workflows
    return found


def asset(connection: HTTPConnection) -> Asset:
    """What budgets are counted in; ``app.state.asset`` is set in bootstrap."""
    found: Asset | None = getattr(connection.app.state, "asset", None)
    if found is None:
        raise Unavailable(
            "no asset is set up to pay with", next_step="set NEXUS_USDC_ADDRESS, or start with `nexus up`"
        )
    return found


Service = Annotated[Workflows, Depends(service)]
Who = Annotated[Caller, Depends(caller)]
Coin = Annotated[Asset, Depends(asset)]


class CreateBody(BaseModel):
    """`maxCost` in USDC (decimal text or number), `maxTime` in milliseconds."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    user_id: str | None = Field(default=None, alias="userId", max_length=200)
    input: str = Field(min_length=3, max_length=100_000)
    max_cost: str | int | float = Field(default="1", alias="maxCost")
    max_time: int = Field(default=600_000, alias="maxTime", ge=1, le=MILLISECONDS_MAX)
    files: list[FileRef] = Field(default_factory=list, max_length=100)
    auto_approve: bool = Field(default=False, alias="autoApprove")
    grant: str = Field(default="", max_length=200, description="a signed approval to go ahead under: its id, or `any`")
    metadata: dict[str, object] = Field(default_factory=dict, max_length=50)
    max_steps: int = Field(default=STEPS_MAX, alias="maxSteps", ge=1, le=STEPS_MAX)
    max_parallel: int = Field(default=PARALLEL_MAX, alias="maxParallel", ge=1, le=PARALLEL_MAX)
    priority: int = Field(default=0, ge=-1, le=1, description="-1 waits for the others; 1 is for operators")
    plan: HandPlan | None = Field(default=None, description="the steps, when nobody else is to plan them")


class PlanBody(BaseModel):
    """Steps to drop, sellers by step (offer id, key or name), caps by step in USDC (null lifts one)."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    drop: list[str] = Field(default_factory=list, max_length=100)
    sellers: dict[str, str] = Field(default_factory=dict, max_length=100)
    max_prices: dict[str, str | int | float | None] = Field(default_factory=dict, alias="maxPrices", max_length=100)


class SingleBody(BaseModel):
    """One step at one seller, already approved."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    agent_id: str = Field(alias="agentId", max_length=300)
    capability: str = Field(max_length=100)
    input: dict[str, object]
    max_cost: str | int | float = Field(default="1", alias="maxCost")
    files: list[FileRef] = Field(default_factory=list, max_length=100)


def money(amount: str | float, coin: Asset) -> Money:
    """From decimal text; a float is read by its shortest text, never as binary."""
    return coin.parse(str(amount))


def created(workflow: Workflow) -> dict[str, object]:
    return {
        "success": True,
        "workflow": {
            "id": workflow.id,
            "status": workflow.status.value,
            "createdAt": workflow.created_at.isoformat(),
        },
    }


def shown(workflow: Workflow) -> dict[str, object]:
    return {"success": True, "workflow": workflow_json(workflow)}


@router.post("/files", status_code=201)
async def upload(workflows: Service, who: Who, file: Annotated[UploadFile, File()]) -> dict[str, object]:
    """Keep a file for a task; the answer's `file` goes into `files` of the task."""
    data = await file.read()
    if not data:
        name = file.filename or "the file"
        raise InvalidInput(f"{name} is empty", field="file", next_step="choose a file with something in it")
    reference = await workflows.add_file(file.filename or "file", data, file.content_type or "", user_id=who.user_id)
    return {"success": True, "file": reference.model_dump(mode="json")}


@router.get("/files")
async def files(workflows: Service, who: Who) -> dict[str, object]:
    """The caller's uploads that are still kept, newest first."""
    return {"success": True, "files": await workflows.files(who.user_id)}


@router.delete("/files/{blob}")
async def forget_file(blob: str, workflows: Service, who: Who) -> dict[str, object]:
    """Give the space of an upload back; a task that still needs it will say that it has gone."""
    await workflows.forget_file(who.user_id, blob)
    return {"success": True}


@router.post("/workflows/create", status_code=201)
async def create(
    body: CreateBody,
    workflows: Service,
    who: Who,
    coin: Coin,
    idempotency_key: Annotated[str, Header(max_length=200)] = "",
) -> dict[str, object]:
    """Take a task; planning starts at once. The same `Idempotency-Key` gives the same workflow.

    With a `plan` of the caller's own, that is what gets sellers, a price and an approval.
    """
    user_id = _acting_for(who, body.user_id)
    await workflows.require_files(who.acts_for, body.files)
    workflow = await workflows.create(
        user_id, body.input, body.files, max_cost=money(body.max_cost, coin), max_seconds=body.max_time / 1000,
        auto_approve=body.auto_approve, metadata=body.metadata, grant=body.grant, key=idempotency_key,
        plan=None if body.plan is None else plan_by_hand(body.plan, body.files),
        priority=_priority(who, body.priority), max_steps=body.max_steps, max_parallel=body.max_parallel,
    )  # fmt: skip
    return created(workflow)


@router.post("/workflows/run", status_code=201)
async def run_single(
    body: SingleBody,
    workflows: Service,
    who: Who,
    coin: Coin,
    idempotency_key: Annotated[str, Header(max_length=200)] = "",
) -> dict[str, object]:
    """Hire one agent: a workflow of one step, already approved."""
    await workflows.require_files(who.acts_for, body.files)
    workflow = await workflows.create_single(
        who.user_id, body.agent_id, body.capability, body.input, max_cost=money(body.max_cost, coin),
        files=body.files, key=idempotency_key,
    )  # fmt: skip
    return created(workflow)


@router.get("/workflows/health")
async def health(workflows: Service) -> dict[str, object]:
    """Success rate, active workflows, queue depth."""
    return {"success": True, **await workflows.health()}


@router.get("/workflows/{workflow_id}")
async def get(
    workflow_id: str,
    workflows: Service,
    who: Who,
    events_after: Annotated[int, Query(ge=0, le=2**31 - 1, alias="eventsAfter")] = 0,
) -> dict[str, object]:
    """The whole state: plan, estimate, steps and what they gave, cost, receipts, result, and a thousand events.

    `eventsNext` is what to send as `eventsAfter` for the events after these; null when these are all.
    """
    found = await workflows.get(workflow_id, who.acts_for)
    events = await workflows.past_events(found, EVENTS_MAX, events_after)
    return {"success": True, "workflow": workflow_json(found, events, await workflows.outputs(found))}


@router.get("/workflows/{workflow_id}/steps")
async def steps(workflow_id: str, workflows: Service, who: Who) -> dict[str, object]:
    """The planned steps, and the results of those that have ended with what they gave."""
    found = await workflows.get(workflow_id, who.acts_for)
    outputs = await workflows.outputs(found)
    planned = [] if found.plan is None else plan_json(found, found.plan)["steps"]
    results, states = step_results(found, outputs), states_json(found, outputs)
    return {"success": True, "steps": planned, "stepResults": results, "states": states}


@router.get("/workflows/{workflow_id}/steps/{step_id}/output")
async def step_output(workflow_id: str, step_id: str, workflows: Service, who: Who) -> Response:
    """The whole of what a step gave, as JSON, however large."""
    return Response(await workflows.output(workflow_id, who.acts_for, step_id), media_type="application/json")


@router.patch("/workflows/{workflow_id}/plan")
async def edit(workflow_id: str, body: PlanBody, workflows: Service, who: Who, coin: Coin) -> dict[str, object]:
    """Change the plan while it awaits approval; all of it or nothing. Priced anew."""
    caps = {step: None if cap is None else money(cap, coin) for step, cap in body.max_prices.items()}
    change = PlanChange(drop=tuple(body.drop), sellers=body.sellers, max_prices=caps)
    return shown(await workflows.edit(workflow_id, who.acts_for, change))


@router.get("/workflows/{workflow_id}/audit")
async def audit(
    workflow_id: str,
    workflows: Service,
    who: Who,
    after: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, object]:
    """Who did what to it; what it went through is in its events."""
    entries = await workflows.audit(workflow_id, who.acts_for, after)
    return {"success": True, "entries": [entry.to_json() for entry in entries]}


@router.get("/workflows/{workflow_id}/task")
async def task_view(workflow_id: str, workflows: Service, who: Who) -> dict[str, object]:
    """The short form that ``nexus task --json`` prints."""
    return (await workflows.get(workflow_id, who.acts_for)).to_task_json()


@router.post("/workflows/{workflow_id}/approve")
async def approve(workflow_id: str, workflows: Service, who: Who) -> dict[str, object]:
    """Let the plan run. When the balance does not cover it, ``error`` says so in those clients' words."""
    found = await workflows.approve(workflow_id, who.acts_for)
    return {**shown(found), "message": "Workflow approved and execution started"}


@router.post("/workflows/{workflow_id}/cancel")
async def cancel(workflow_id: str, workflows: Service, who: Who) -> dict[str, object]:
    """Stop it; running steps end, what is held comes back."""
    return shown(await workflows.cancel(workflow_id, who.acts_for))


@router.get("/users/{user_id}/workflows")
async def list_workflows(
    user_id: str,
    workflows: Service,
    who: Who,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str, Query(max_length=200)] = "",
) -> dict[str, object]:
    """Newest first; send `nextCursor` back for more."""
    who.require_owner(user_id, "user")
    page = await workflows.list(user_id, limit, cursor)
    return {
        "success": True,
        "workflows": [workflow_json(workflow) for workflow in page.workflows],
        "total": page.total,
        "nextCursor": page.next_cursor,
    }


def _priority(who: Caller, wanted: int) -> int:
    if wanted > 0 and who.role != "operator":
        raise NotAllowed("only an operator puts work before everybody's", next_step="use priority 0 or -1")
    return wanted


def _acting_for(who: Caller, user_id: str | None) -> str:
    if user_id is None or user_id == who.user_id:
        return who.user_id
    if who.role == "operator":
        return user_id
    raise NotFound(f"there is no user {user_id} you may act for", next_step="leave userId out")
