"""HTTP and WebSocket of workflows (spec 05). The router takes its service from ``app.state.workflows``."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, File, Header, Query, Response, UploadFile, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect

from agentnexus.core.errors import InvalidInput, NexusError, NotFound, Unavailable
from agentnexus.core.events import Event
from agentnexus.core.money import Asset, Money
from agentnexus.identity.caller import Caller, caller
from agentnexus.workflows.model import FileRef, Workflow
from agentnexus.workflows.service import Workflows

router = APIRouter(tags=["workflows"])
MILLISECONDS_MAX = 7 * 86_400_000
SEQUENCE_MAX = 2**31 - 1
KEEP_ALIVE_SECONDS = 15.0
SLOW_SECONDS = 10.0
TOO_SLOW = 4008  # WebSocket close code: the client did not read; it comes back with ?after=SEQ
REFUSED = 4004


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


class SingleBody(BaseModel):
    """One step at one seller, already approved."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    agent_id: str = Field(alias="agentId", max_length=300)
    capability: str = Field(max_length=100)
    input: dict[str, object]
    max_cost: str | int | float = Field(default="1", alias="maxCost")
    files: list[FileRef] = Field(default_factory=list, max_length=100)


def owner(who: Caller) -> str | None:
    """Whose workflows a caller may touch: an operator's answer is ``None``, everybody's."""
    return None if who.role == "operator" else who.user_id


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
    return {"success": True, "workflow": workflow.model_dump(mode="json")}


@router.post("/files", status_code=201)
async def upload(workflows: Service, _who: Who, file: Annotated[UploadFile, File()]) -> dict[str, object]:
    """Keep a file for a task; the answer's `file` goes into `files` of the task."""
    data = await file.read()
    if not data:
        name = file.filename or "the file"
        raise InvalidInput(f"{name} is empty", field="file", next_step="choose a file with something in it")
    reference = await workflows.add_file(file.filename or "file", data, file.content_type or "")
    return {"success": True, "file": reference.model_dump(mode="json")}


@router.post("/workflows/create", status_code=201)
async def create(
    body: CreateBody,
    workflows: Service,
    who: Who,
    coin: Coin,
    idempotency_key: Annotated[str, Header(max_length=200)] = "",
) -> dict[str, object]:
    """Take a task; planning starts at once. The same `Idempotency-Key` gives the same workflow."""
    user_id = _acting_for(who, body.user_id)
    workflow = await workflows.create(
        user_id, body.input, body.files, max_cost=money(body.max_cost, coin), max_seconds=body.max_time / 1000,
        auto_approve=body.auto_approve, grant=body.grant, key=idempotency_key,
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
async def get(workflow_id: str, workflows: Service, who: Who) -> dict[str, object]:
    """The whole state: plan, estimate, steps, cost, receipts, result."""
    return shown(await workflows.get(workflow_id, owner(who)))


@router.get("/workflows/{workflow_id}/task")
async def task_view(workflow_id: str, workflows: Service, who: Who) -> dict[str, object]:
    """The short form that ``nexus task --json`` prints."""
    return (await workflows.get(workflow_id, owner(who))).to_task_json()


@router.post("/workflows/{workflow_id}/approve")
async def approve(workflow_id: str, workflows: Service, who: Who) -> dict[str, object]:
    """Let the plan run."""
    found = await workflows.approve(workflow_id, owner(who))
    return {**shown(found), "message": "Workflow approved and execution started"}


@router.post("/workflows/{workflow_id}/cancel")
async def cancel(workflow_id: str, workflows: Service, who: Who) -> dict[str, object]:
    """Stop it; running steps end, what is held comes back."""
    return shown(await workflows.cancel(workflow_id, owner(who)))


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
        "workflows": [workflow.model_dump(mode="json") for workflow in page.workflows],
        "nextCursor": page.next_cursor,
    }


@router.get("/workflows/{workflow_id}/events", response_class=StreamingResponse)
async def events(
    workflow_id: str,
    workflows: Service,
    who: Who,
    after: Annotated[int, Query(ge=0, le=SEQUENCE_MAX)] = 0,
    last_event_id: Annotated[str, Header()] = "",
) -> Response:
    """Server-sent events for pages; `Last-Event-ID` goes on where the connection broke."""
    await workflows.get(workflow_id, owner(who))
    is_ours = re.fullmatch(r"[0-9]{1,9}", last_event_id) is not None
    start = int(last_event_id) if is_ours else after
    stream = _server_sent(workflows.events(workflow_id, owner(who), start))
    return StreamingResponse(
        stream, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def _server_sent(source: AsyncIterator[Event]) -> AsyncIterator[str]:
    """Events as frames, with a comment when nothing happened for a while, so that proxies keep the connection."""
    waiting: asyncio.Task[Event] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(_next(source))
            done, _ = await asyncio.wait([waiting], timeout=KEEP_ALIVE_SECONDS)
            if not done:
                yield ": still here\n\n"
                continue
            try:
                event = waiting.result()
            except StopAsyncIteration:
                yield "event: end\ndata: {}\n\n"
                return
            waiting = None
            data = json.dumps(event_json(event), ensure_ascii=False, separators=(",", ":"))
            yield f"id: {event.sequence}\nevent: {event.name.value}\ndata: {data}\n\n"
    finally:
        if waiting is not None:
            waiting.cancel()


async def _next(source: AsyncIterator[Event]) -> Event:
    return await anext(source)


def event_json(event: Event) -> dict[str, object]:
    return {"type": event.name.value, "data": event.data, "seq": event.sequence, "at": event.at.isoformat()}


@router.websocket("/workflows/{workflow_id}/stream")
async def stream(websocket: WebSocket, workflow_id: str, after: int = 0) -> None:
    """Events as ``{type, data, seq, at}``. Who does not read is closed with 4008 and comes back by `after`."""
    await websocket.accept()
    try:
        who = await caller(websocket)
        workflows = service(websocket)
        await workflows.get(workflow_id, owner(who))
        async for event in workflows.events(workflow_id, owner(who), min(max(after, 0), SEQUENCE_MAX)):
            async with asyncio.timeout(SLOW_SECONDS):
                await websocket.send_json(event_json(event))
        await websocket.close(1000)
    except TimeoutError:
        await websocket.close(TOO_SLOW, "too slow: come back with ?after=SEQ")
    except NexusError as error:
        await websocket.send_json({"type": "error", "data": error.to_json()})
        await websocket.close(REFUSED, error.message[:120])
    except WebSocketDisconnect:
        return


def _acting_for(who: Caller, user_id: str | None) -> str:
    if user_id is None or user_id == who.user_id:
        return who.user_id
    if who.role == "operator":
        return user_id
    raise NotFound(f"there is no user {user_id} you may act for", next_step="leave userId out")
