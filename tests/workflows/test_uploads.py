"""Uploads over HTTP: the quota says what to do, files are listed and given up, and a task keeps those it names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI

from agentnexus.core.clock import ManualClock, SystemEntropy
from agentnexus.identity.caller import Callers
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.database import Database
from agentnexus.platform.http import install_error_handlers
from agentnexus.platform.uploads import UploadLimits, Uploads
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.routes import router
from agentnexus.workflows.service import Workflows
from agentnexus.workflows.worker import open_room, postgres_engine

from .catalogue import USDC, agent_offers
from .scripted import ScriptedBudgets, ScriptedHirer

DAY = 86_400.0


class Unlimited:
    """Requests are not what is counted here."""

    async def take(self, key: str) -> None:
        pass


@dataclass
class Desk:
    ann: httpx.AsyncClient
    bob: httpx.AsyncClient
    uploads: Uploads
    workflows: Workflows
    clock: ManualClock
    database: Database

    async def send(self, who: httpx.AsyncClient, data: bytes) -> httpx.Response:
        return await who.post("/files", files={"file": ("a.txt", data, "text/plain")})


@pytest.fixture
async def desk(database: Database, clock: ManualClock) -> AsyncIterator[Desk]:
    uploads = Uploads(database, clock, UploadLimits(bytes_kept=100, files_per_hour=4))
    async with Wakeups(database) as wakeups:
        room = open_room(
            postgres_engine(database, wakeups), hirer=ScriptedHirer(agent_offers()), budgets=ScriptedBudgets(),
            blobs=PostgresBlobs(database), clock=clock, uploads=uploads,
        )  # fmt: skip
        tokens = Tokens(database, SystemEntropy())
        app = FastAPI()
        app.include_router(router)
        install_error_handlers(app)
        app.state.workflows, app.state.asset = room.workflows, USDC
        app.state.callers, app.state.limiter = Callers(tokens), Unlimited()
        transport = httpx.ASGITransport(app)

        async def client(name: str) -> httpx.AsyncClient:
            headers = {"Authorization": f"Bearer {await tokens.issue(name)}"}
            return httpx.AsyncClient(transport=transport, base_url="http://node", headers=headers)

        async with await client("ann") as ann, await client("bob") as bob:
            yield Desk(ann, bob, uploads, room.workflows, clock, database)


async def test_a_full_quota_says_what_to_do_and_doing_it_helps(desk: Desk) -> None:
    kept = (await desk.send(desk.ann, b"a" * 80)).json()["file"]
    full = await desk.send(desk.ann, b"b" * 30)
    assert (full.status_code, full.json()["code"]) == (413, "limit_exceeded")
    assert "DELETE /files/{blob}" in full.json()["next_step"]
    assert (await desk.send(desk.bob, b"b" * 30)).status_code == 201
    (listed,) = (await desk.ann.get("/files")).json()["files"]
    assert (listed["blob"], listed["size_bytes"]) == (kept["blob"], 80)
    assert (await desk.bob.delete(f"/files/{kept['blob']}")).status_code == 404
    assert (await desk.ann.delete(f"/files/{kept['blob']}")).json() == {"success": True}
    assert (await desk.ann.delete(f"/files/{kept['blob']}")).status_code == 404
    assert (await desk.send(desk.ann, b"b" * 30)).status_code == 201


async def test_too_many_files_in_an_hour_say_how_long_to_wait(desk: Desk) -> None:
    for number in range(4):
        assert (await desk.send(desk.ann, bytes([65 + number]))).status_code == 201
    refused = await desk.send(desk.ann, b"E")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3600")
    assert "wait 3600 s" in refused.json()["next_step"]


async def test_a_task_keeps_the_files_that_it_names(desk: Desk) -> None:
    named, other = [(await desk.send(desk.ann, text)).json()["file"] for text in (b"named", b"other")]
    made = await desk.ann.post("/workflows/create", json={"input": "Summarise it", "files": [named]})
    assert made.status_code == 201
    desk.clock.advance(2 * DAY)
    assert await desk.uploads.purge() == 1
    (left,) = (await desk.ann.get("/files")).json()["files"]
    assert left["blob"] == named["blob"] != other["blob"]
    assert left["used_at"] is not None


async def test_files_without_an_owner_are_not_counted(desk: Desk) -> None:
    file = await desk.workflows.add_file("x", b"c" * 500)
    assert file.size_bytes == 500
    desk.clock.advance(60 * DAY)
    assert await desk.uploads.purge() == 0


async def test_the_address_of_a_file_opens_it_for_nobody_else(desk: Desk) -> None:
    """Receipts show the hash of a result, which is also where a large one is kept."""
    file = (await desk.send(desk.ann, b"ann's secret")).json()["file"]
    stolen = {"input": "Summarise it", "files": [file]}
    refused = await desk.bob.post("/workflows/create", json=stolen)
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    result = await PostgresBlobs(desk.database).put(b'{"text":"a result"}', "application/json")
    single = {"agentId": "x", "capability": "text.summarize", "input": {}, "files": [{**file, "blob": result}]}
    refused = await desk.ann.post("/workflows/run", json=single)
    assert "you have uploaded no file" in refused.json()["error"]
    assert (await desk.ann.post("/workflows/create", json=stolen)).status_code == 201
    assert (await desk.send(desk.bob, b"ann's secret")).status_code == 201
    assert (await desk.bob.post("/workflows/create", json=stolen)).status_code == 201, "who has it may use it"
