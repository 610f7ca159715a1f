"""A client of the earlier reasoning engine, written from its documented shapes only, works against this API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import httpx
import pytest
from websockets.asyncio.client import connect

from agentnexus.core.errors import AgentRefused
from agentnexus.core.offers import Need
from agentnexus.workflows import routes
from agentnexus.workflows.engine.port import NewRun

from .catalogue import USDC, agent_offers
from .conftest import Bench, until
from .site import Site

STATUSES = {
    "planning", "awaiting_approval", "approved", "executing", "completed", "failed", "cancelled", "rolling_back",
}  # fmt: skip
TASK = "Summarise this text in one sentence: " + "The sea is wide and the sky is blue. " * 6
EVENTS = {
    "workflow.planning", "workflow.plan_ready", "workflow.awaiting_approval", "workflow.approved",
    "workflow.executing", "workflow.completed", "workflow.failed", "workflow.cancelled",
    "step.started", "step.progress", "step.completed", "step.failed",
}  # fmt: skip


class EngineError(Exception):
    """What that client throws: the text of `error`."""


@dataclass
class ReasoningClient:
    """As the earlier client did it: bare paths, `success` checked, `error` read as text."""

    http: httpx.AsyncClient
    socket_url: str
    token: str

    async def _call(self, method: str, path: str, body: object = None) -> dict[str, object]:
        answer = (await self.http.request(method, path, json=body)).json()
        if not answer["success"]:
            raise EngineError(answer["error"])
        found: dict[str, object] = answer
        return found

    async def create(self, user_id: str, text: str, max_cost: float, max_time: int) -> str:
        body = {"userId": user_id, "input": text, "maxCost": max_cost, "maxTime": max_time, "metadata": {"from": "v1"}}
        made = (await self._call("POST", "/workflows/create", body))["workflow"]
        assert isinstance(made, dict)
        assert made["status"] in STATUSES
        assert made["createdAt"]
        return str(made["id"])

    async def workflow(self, workflow_id: str) -> dict[str, object]:
        found = (await self._call("GET", f"/workflows/{workflow_id}"))["workflow"]
        assert isinstance(found, dict)
        return found

    async def stream(self, workflow_id: str) -> AsyncIterator[dict[str, object]]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with connect(f"{self.socket_url}/workflows/{workflow_id}/stream", additional_headers=headers) as socket:
            first = json.loads(await socket.recv())
            assert (first["type"], first["workflowId"]) == ("connected", workflow_id)
            async for message in socket:
                yield json.loads(message)


@pytest.fixture
async def client(site: Site) -> ReasoningClient:
    return ReasoningClient(await site.client("ann"), site.url.replace("http", "ws"), site.tokens["ann"])


async def test_a_workflow_from_words_to_result(client: ReasoningClient) -> None:
    workflow_id = await client.create("ann", TASK, 0.5, 60_000)
    seen: list[str] = []
    async for event in client.stream(workflow_id):
        assert event["workflowId"] == workflow_id
        assert isinstance(event["timestamp"], str)
        assert isinstance(event["data"], dict)
        seen.append(str(event["type"]))
        if event["type"] == "workflow.awaiting_approval":
            approved = await client._call("POST", f"/workflows/{workflow_id}/approve")
            assert approved["message"] == "Workflow approved and execution started"
    known = [name for name in seen if name in EVENTS]
    assert known[:4] == [
        "workflow.planning", "workflow.plan_ready", "workflow.awaiting_approval", "workflow.approved",
    ]  # fmt: skip
    assert known[-1] == "workflow.completed"
    found = await client.workflow(workflow_id)
    assert found["naturalLanguageInput"] == TASK.strip()
    assert (found["userId"], found["status"], found["metadata"]) == ("ann", "completed", {"from": "v1"})
    assert (found["estimatedCost"], found["totalCost"]) == (0.01, 0.01)
    assert found["error"] is None
    assert isinstance(found["totalTime"], int)
    assert found["paymentSignatures"]
    moments = [datetime.fromisoformat(str(found[name])) for name in ("createdAt", "startedAt", "completedAt")]
    assert moments == sorted(moments)
    assert moments[1] != moments[0]
    executing = next(event for event in events_of(found) if event["type"] == "workflow.executing")
    assert moments[0] < moments[1] <= datetime.fromisoformat(str(executing["timestamp"]))


async def test_the_plan_and_the_results_have_their_documented_fields(client: ReasoningClient, site: Site) -> None:
    workflow_id = await client.create("ann", TASK, 0.5, 60_000)

    async def planned() -> bool:
        return (await client.workflow(workflow_id))["status"] == "awaiting_approval"

    await until(planned, "a plan")
    waiting = await client.workflow(workflow_id)
    assert waiting["startedAt"] is None
    assert waiting["intent"] == {
        "rawInput": TASK.strip(), "classification": "single_step", "entities": {"files": []}, "confidence": 1.0,
        "requiredCapabilities": ["text.summarize"],
    }  # fmt: skip
    plan = waiting["executionPlan"]
    assert isinstance(plan, dict)
    assert set(plan) == {
        "steps", "dag", "criticalPath", "parallelGroups", "totalEstimatedCost", "totalEstimatedTime",
    }  # fmt: skip
    (step,) = plan["steps"]
    assert set(step) >= {
        "id", "type", "serviceId", "serviceName", "serviceUrl", "action", "params", "inputMapping",
        "outputKey", "dependencies",
        "parallelizable", "estimatedCost", "estimatedTime", "retryPolicy",
    }  # fmt: skip
    assert (step["type"], step["action"], step["estimatedCost"]) == ("service_call", "text.summarize", 0.01)
    assert step["serviceUrl"] == next(o.endpoint for o in agent_offers() if o.id == step["serviceId"])
    assert set(step["retryPolicy"]) == {"maxAttempts", "backoffMultiplier", "initialDelayMs", "maxDelayMs"}
    assert plan["dag"] == {step["id"]: []}
    assert plan["criticalPath"] == [step["id"]]
    assert plan["parallelGroups"] == [[step["id"]]]
    await client._call("POST", f"/workflows/{workflow_id}/approve")
    await site.room.workflows.result(workflow_id, "ann")
    answer = await client._call("GET", f"/workflows/{workflow_id}/steps")
    results = answer["stepResults"]
    assert isinstance(results, dict)
    assert results[step["id"]]["success"] is True
    assert results[step["id"]]["cost"] == 0.01
    assert results[step["id"]]["output"] == {"result": {"text": "text.summarize done", "answer": "yes"}}
    assert set(results[step["id"]]) == {
        "stepId", "success", "output", "outputHref", "cost", "time", "error", "paymentSignature", "attempts",
    }  # fmt: skip


async def test_a_shortfall_is_a_sentence_that_client_can_show(client: ReasoningClient, site: Site) -> None:
    site.funds.balances["ann"] = USDC.parse("0.005")
    workflow_id = await client.create("ann", TASK, 2.0, 60_000)
    await asyncio.wait_for(_asked(client, workflow_id), 20)
    with pytest.raises(EngineError) as shown:
        await client._call("POST", f"/workflows/{workflow_id}/approve")
    assert str(shown.value) == "Insufficient escrow balance. Available: 0.005, Required: 0.01. Please top up."


async def _asked(client: ReasoningClient, workflow_id: str) -> None:
    async for event in client.stream(workflow_id):
        if event["type"] == "workflow.awaiting_approval":
            return


def events_of(workflow: dict[str, object]) -> list[dict[str, object]]:
    found = workflow["events"]
    assert isinstance(found, list)
    return found


async def test_the_list_of_a_user_counts_all_of_them_and_shows_how_one_failed(
    client: ReasoningClient, site: Site
) -> None:
    async def refuse(_need: Need, _key: str) -> object:
        raise AgentRefused("the text is not for me")

    site.hirer.acts["text.summarize"] = refuse
    made = [await client.create("ann", f"{TASK} {number}", 0.5, 60_000) for number in range(3)]
    await asyncio.wait_for(_asked(client, made[-1]), 20)
    await client._call("POST", f"/workflows/{made[-1]}/approve")
    await site.room.workflows.result(made[-1], "ann")
    listed = await client._call("GET", "/users/ann/workflows?limit=2")
    workflows = listed["workflows"]
    assert isinstance(workflows, list)
    assert (len(workflows), listed["total"]) == (2, 3)
    assert [each["id"] for each in workflows] == made[:0:-1]
    assert workflows[0]["status"] == "failed"
    error = workflows[0]["error"]
    assert set(error) >= {"code", "message", "stepId", "timestamp", "recoverable"}
    assert (error["message"], error["stepId"], error["recoverable"]) == ("the text is not for me", "s1", False)
    assert workflows[1]["error"] is None
    rest = await client._call("GET", f"/users/ann/workflows?limit=2&cursor={quote(str(listed['nextCursor']))}")
    assert (len(rest["workflows"]), rest["total"]) == (1, 3)  # type: ignore[arg-type]  # a list
    assert (await client._call("GET", "/users/ann/workflows"))["total"] == 3


async def test_more_events_than_fit_are_read_on_by_their_number(
    client: ReasoningClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "EVENTS_MAX", 4)
    workflow_id = await client.create("ann", TASK, 0.5, 60_000)
    await asyncio.wait_for(_asked(client, workflow_id), 20)
    await client._call("POST", f"/workflows/{workflow_id}/approve")
    done = await site.room.workflows.result(workflow_id, "ann")
    seen: list[object] = []
    place: object = 0
    while place is not None:
        answer = await client._call("GET", f"/workflows/{workflow_id}?eventsAfter={place}")
        found = answer["workflow"]
        assert isinstance(found, dict)
        assert len(found["events"]) <= 4
        seen += [event["seq"] for event in found["events"]]
        place = found["eventsNext"]
    assert done.sequence > 4
    assert seen == list(range(1, done.sequence + 1))
    beyond = await client._call("GET", f"/workflows/{workflow_id}?eventsAfter={done.sequence + 5}")
    assert (beyond["workflow"]["events"], beyond["workflow"]["eventsNext"]) == ([], None)  # type: ignore[index]  # an object


async def test_runs_are_counted_by_tenant_on_every_backend(bench: Bench) -> None:
    engine = bench.engine()
    for number in range(3):
        await engine.start(NewRun(f"r{number}", "b", None, tenant="ann"))
    await engine.start(NewRun("r3", "b", None, tenant="anne"))

    async def counted() -> bool:  # a distributed backend's index follows some milliseconds later
        return [await engine.count_of(tenant) for tenant in ("ann", "anne", "bob")] == [3, 1, 0]

    await until(counted, "all runs counted")
