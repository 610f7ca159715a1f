"""The HTTP face: envelopes, pages, one agent, executions, logs and their live stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError

from agentnexus.api.app import _on_invalid_request
from agentnexus.core.canonical import idempotency_key
from agentnexus.core.clock import SystemClock
from agentnexus.core.events import Event, EventName
from agentnexus.marketplace import streaming
from agentnexus.marketplace.executions.routes import execution_routes
from agentnexus.marketplace.listings.routes import listing_routes
from agentnexus.marketplace.streaming import sse
from agentnexus.platform.http import RequestContext, install_error_handlers
from tests.marketplace.conftest import TRIAL_ID, Node
from tests.marketplace.test_executions import started, stored

API = "http://node.test"


@pytest.fixture
async def http(node: Node) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install_error_handlers(app)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.include_router(listing_routes(node.listings, SystemClock(), API + "/"), prefix="/api/v1")
    app.include_router(execution_routes(node.executions, SystemClock()), prefix="/api/v1")
    transport = httpx.ASGITransport(app=RequestContext(app))
    async with httpx.AsyncClient(transport=transport, base_url=API) as client:
        yield client


async def test_agents_come_in_the_envelope_with_their_page(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/v1/agents", headers={"X-Request-ID": "abc"})

    body = answer.json()
    assert answer.status_code == 200
    assert body["success"] is True
    assert body["metadata"]["requestId"] == "abc"
    assert body["metadata"]["version"] == "1"
    assert body["pagination"] == {"limit": 20, "total": 1, "nextCursor": None}
    agent = body["data"][0]
    assert (agent["id"], agent["price"], agent["currency"]) == (TRIAL_ID, "0.020000", "USDC")
    assert agent["x402"]["resource"] == f"{API}/x402/agents/{TRIAL_ID}"
    assert "examples" not in agent


async def test_one_agent_comes_with_schemas_examples_and_limits(http: httpx.AsyncClient) -> None:
    agent = (await http.get(f"/api/v1/agents/{TRIAL_ID}")).json()["data"]

    assert agent["inputSchema"]["properties"]["do"]["enum"][0] == "answer"
    assert agent["examples"] == [{"title": "An answer", "input": {"do": "answer", "text": "hello"}}]
    assert agent["limits"]["concurrency"] == 4
    assert agent["developer"] == {"name": "Harbour works", "address": agent["x402"]["accepts"][0]["payTo"].lower()}


async def test_versions_and_categories_are_listed(http: httpx.AsyncClient) -> None:
    versions = (await http.get(f"/api/v1/agents/{TRIAL_ID}/versions")).json()["data"]
    categories = (await http.get("/api/v1/categories")).json()["data"]

    assert [version["version"] for version in versions] == ["1.0.0"]
    assert categories == [{"name": "automation", "agents": 1}]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/agents/org.nobody.here", 404),
        ("/api/v1/agents/org.nobody.here/versions", 404),
        ("/api/v1/agents?limit=1000", 400),
        ("/api/v1/agents?limit=x", 400),
        ("/api/v1/agents?sort=luck", 400),
        ("/api/v1/agents?cursor=zzz", 400),
        ("/api/v1/agents?max_price=-1", 400),
        ("/api/v1/agents?max_price=NaN", 400),
        ("/api/v1/executions/exe_unknown", 404),
        ("/api/v1/executions/exe_unknown/logs", 404),
        ("/api/v1/executions/exe_unknown/stream", 404),
    ],
)
async def test_errors_have_the_one_shape_and_say_what_to_do(http: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await http.get(path)

    assert answer.status_code == status
    assert answer.json()["success"] is False
    assert answer.json()["error"]["code"] in ("not_found", "invalid_input")
    assert answer.json()["error"]["next_step"]


async def test_search_and_filters_work_over_http(http: httpx.AsyncClient) -> None:
    async def found(query: str) -> int:
        return int((await http.get(f"/api/v1/agents?{query}")).json()["pagination"]["total"])

    assert await found("query=harbor") == 1
    assert await found("query=zebra") == 0
    assert await found("category=automation&max_price=0.02&min_price=0.02") == 1
    assert await found("max_price=0.0199") == 0
    assert await found("capability=trial.run") == 1


async def test_an_execution_shows_state_result_and_logs(http: httpx.AsyncClient, node: Node) -> None:
    execution = await node.executions.run(TRIAL_ID, {"text": "seen", "count": 2}, "k")

    shown = (await http.get(f"/api/v1/executions/{execution.id}")).json()["data"]
    logs = (await http.get(f"/api/v1/executions/{execution.id}/logs")).json()["data"]

    assert (shown["status"], shown["output"]["text"], shown["agentId"]) == ("completed", "seen", TRIAL_ID)
    assert shown["durationMs"] > 0
    assert [line["data"]["message"] for line in logs] == ["line 0", "line 1"]


async def frames(http: httpx.AsyncClient, path: str, **headers: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    async with http.stream("GET", path, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, object] = {}
        async for line in answer.aiter_lines():
            if not line and fields:
                found.append(fields)
                fields = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = json.loads(value) if name == "data" else value
    return found


async def test_the_stream_replays_goes_on_live_and_ends_with_the_run(http: httpx.AsyncClient, node: Node) -> None:
    running = asyncio.create_task(node.executions.run(TRIAL_ID, {"count": 3}, "live"))
    execution_id = await stored(node, "live")

    seen = await frames(http, f"/api/v1/executions/{execution_id}/stream")

    await running
    assert [frame["id"] for frame in seen] == [str(number) for number in range(1, len(seen) + 1)]
    assert seen[0]["event"] == "execution.started"
    assert seen[-1]["event"] == "execution.completed"
    rest = await frames(http, f"/api/v1/executions/{execution_id}/stream", **{"Last-Event-ID": "2"})
    assert rest == seen[2:]
    bad = await http.get(f"/api/v1/executions/{execution_id}/stream", headers={"Last-Event-ID": "two"})
    assert bad.status_code == 400


async def test_a_run_is_cancelled_over_http(http: httpx.AsyncClient, node: Node) -> None:
    running = asyncio.create_task(node.executions.run(TRIAL_ID, {"do": "wait"}, "stop"))
    execution_id = await stored(node, "stop")
    await started(node, execution_id)

    assert (await http.post(f"/api/v1/executions/{execution_id}/cancel")).status_code == 200

    await asyncio.gather(running, return_exceptions=True)
    shown = (await http.get(f"/api/v1/executions/{execution_id}")).json()["data"]
    assert shown["status"] == "cancelled"


async def test_a_quiet_stream_sends_comments_so_that_proxies_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT_SECONDS", 0.01)
    gate = asyncio.Event()

    async def events() -> AsyncIterator[Event]:
        await gate.wait()
        yield Event(
            name=EventName.EXECUTION_LOG, subject="e", sequence=1, at=SystemClock().now(), data={"message": "a\n\nb"}
        )

    stream = sse(events())
    assert await anext(stream) == b": still here\n\n"
    gate.set()
    rest = [frame async for frame in stream]
    assert rest[-1].startswith(b"id: 1\nevent: execution.log\ndata: {")
    assert rest[-1].count(b"\n\n") == 1, "a line break in a message does not end the frame"


async def test_the_work_of_a_sold_run_is_not_handed_out_around_the_till(http: httpx.AsyncClient, node: Node) -> None:
    """Verified payments are settled after the run: a payer who lets that fail must not read the work here."""
    sold = await node.executions.run(TRIAL_ID, {"text": "dear work"}, "x402:eip155:31337:0xaa:0xbb:0xcc")
    own = await node.executions.run(TRIAL_ID, {"text": "own work"}, "own")

    path = f"/api/v1/executions/{sold.id}"
    shown = (await http.get(path)).json()["data"]
    told = await frames(http, f"{path}/stream")

    assert sold.output is not None
    assert (shown["status"], shown["output"]) == ("completed", None)
    assert "dear work" not in json.dumps(told)
    assert not any("sha256:" in json.dumps(frame) for frame in told)
    assert any("sha256:" in json.dumps(frame) for frame in await frames(http, f"/api/v1/executions/{own.id}/stream"))


async def test_what_is_public_of_a_payment_does_not_lead_to_its_run(node: Node) -> None:
    first = await node.executions.run(TRIAL_ID, {"text": "a"}, "x402:one")
    again = await node.executions.run(TRIAL_ID, {"text": "a"}, "x402:one")

    assert first.id == again.id
    assert idempotency_key("execution", "x402:one")[:32] not in first.id
