"""A running API over real HTTP, a worker beside it, and people with tokens: what route tests stand on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import connect

from agentnexus.core.clock import SeededEntropy, SystemClock, SystemEntropy
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.frames import FramedProtocol
from agentnexus.platform.http import BodyLimit, RequestContext, install_error_handlers
from agentnexus.platform.process import free_port
from agentnexus.platform.sealing import Sealer
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.desk import ROUTERS, Desk, open_desk
from agentnexus.workflows.webhooks.secrets import Secrets
from agentnexus.workflows.worker import WorkflowRoom, open_room, postgres_engine

from .catalogue import USDC, agent_offers
from .scripted import ScriptedBudgets, ScriptedFunds, ScriptedHirer


@dataclass
class Site:
    """A running API with its database, a worker beside it, and a client per person."""

    url: str
    hirer: ScriptedHirer
    funds: ScriptedFunds
    room: WorkflowRoom
    desk: Desk
    tokens: dict[str, str]
    stack: AsyncExitStack
    room_database: Callable[[], AbstractAsyncContextManager[Connection]]

    async def client(self, person: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.tokens[person]}"} if person in self.tokens else {}
        return await self.stack.enter_async_context(httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20))

    def socket(self, path: str, person: str, **more: object) -> connect:
        headers = {"Authorization": f"Bearer {self.tokens[person]}"}
        return connect(self.url.replace("http", "ws") + path, additional_headers=headers, **more)


SECRETS = Secrets(Sealer(b"\x07" * 32, SeededEntropy(7)))


@asynccontextmanager
async def open_site(database: Database, *, per_minute: int = 100_000) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        wakeups = await stack.enter_async_context(Wakeups(database))
        hirer = ScriptedHirer(agent_offers())
        funds = ScriptedFunds()
        room = open_room(
            postgres_engine(database, wakeups), hirer=hirer, budgets=ScriptedBudgets(),
            blobs=PostgresBlobs(database), clock=SystemClock(), database=database, funds=funds,
        )  # fmt: skip
        desk = open_desk(room, database, wakeups, secrets=SECRETS, allow_local_webhooks=True)
        tokens = Tokens(database, SystemEntropy())
        app = FastAPI()
        for router in ROUTERS:
            app.include_router(router)
        install_error_handlers(app)
        app.state.workflows, app.state.asset = room.workflows, USDC
        app.state.streams, app.state.desk = desk.streams, desk
        app.state.callers, app.state.limiter = Callers(tokens), Limiter(database, per_minute=per_minute)
        served = BodyLimit(RequestContext(app), 1 << 20)
        url = await stack.enter_async_context(serving(served))
        await stack.enter_async_context(running(room.engine.work()))
        people = {"ann": await tokens.issue("ann"), "bob": await tokens.issue("bob")}
        people["op"] = await tokens.issue("op", "operator")
        yield Site(url, hirer, funds, room, desk, people, stack, database.connection)


@asynccontextmanager
async def serving(app: object) -> AsyncIterator[str]:
    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", ws=FramedProtocol, lifespan="off")  # type: ignore[arg-type]  # any ASGI app
    server = uvicorn.Server(config)
    async with running(server.serve()) as task:
        while not server.started:
            assert not task.done()
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        await asyncio.wait([task])


@asynccontextmanager
async def running(work) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def make(client: httpx.AsyncClient, text: str = "Analyse it", **more: object) -> str:
    uploaded = await client.post("/files", files={"file": ("sales.csv", b"a,b\n1,2\n", "text/csv")})
    assert uploaded.status_code == 201
    body = {"input": text, "files": [uploaded.json()["file"]], **more}
    answer = await client.post("/workflows/create", json=body)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["workflow"]["id"]
    return found


async def sse(client: httpx.AsyncClient, workflow_id: str, **headers: str) -> list[dict[str, object]]:
    """All frames of a stream as ``{id, event, data}``, until the server ends it."""
    frames: list[dict[str, object]] = []
    async with client.stream("GET", f"/workflows/{workflow_id}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        frame: dict[str, object] = {}
        async for line in answer.aiter_lines():
            if not line:
                frames.append(frame)
                frame = {}
            else:
                name, _, value = line.partition(": ")
                frame[name] = value
    return frames
