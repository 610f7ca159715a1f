"""Workflows over real HTTP and WebSocket: shapes of spec 05, owners only, streams that resume, helpful errors."""

from __future__ import annotations

import asyncio
import json

import pytest

from agentnexus.core.offers import Need

from .site import Site, make, sse


async def test_create_approve_and_read_back_with_the_documented_shapes(site: Site) -> None:
    ann = await site.client("ann")
    made = await ann.post(
        "/workflows/create", json={"userId": "ann", "input": "Analyse it", "maxCost": 0.5, "maxTime": 60000}
    )
    assert made.status_code == 201
    assert set(made.json()) == {"success", "workflow"}
    assert set(made.json()["workflow"]) == {"id", "status", "createdAt"}
    workflow_id = await make(ann, maxCost="0.5")
    frames: list[str] = []
    async with ann.stream("GET", f"/workflows/{workflow_id}/events") as stream:
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                frames.append(line[7:])
            if line == "event: workflow.awaiting_approval":
                approved = await ann.post(f"/workflows/{workflow_id}/approve")
                assert approved.json()["message"] == "Workflow approved and execution started"
    assert frames[-2:] == ["workflow.completed", "end"]
    state = (await ann.get(f"/workflows/{workflow_id}")).json()["workflow"]
    assert state["status"] == "completed"
    assert state["cost"]["atomic"] == "15000"
    assert state["plan"]["steps"][0]["capability"] == "table.analyze"
    assert state["receipts"][0]["payments"][0]["amount"] == "15000"
    printed = (await ann.get(f"/workflows/{workflow_id}/task")).json()
    assert printed["workflow_id"] == workflow_id
    assert printed["steps"][0]["receipt"] == state["receipts"][0]["id"]


async def test_a_stream_that_broke_goes_on_after_the_last_event_seen(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await make(ann, autoApprove=True)
    whole = [frame for frame in await sse(ann, workflow_id) if "id" in frame]
    assert [frame["id"] for frame in whole] == [str(n) for n in range(1, len(whole) + 1)]
    rest = [frame for frame in await sse(ann, workflow_id, **{"Last-Event-ID": "4"}) if "id" in frame]
    assert rest == whole[4:]
    event = json.loads(str(whole[0]["data"]))
    assert set(event) == {"type", "data", "seq", "at", "workflowId", "timestamp"}
    assert (event["workflowId"], event["timestamp"]) == (workflow_id, event["at"])


async def test_a_place_in_the_stream_that_is_not_ours_does_not_break_it(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await make(ann, autoApprove=True)
    whole = await sse(ann, workflow_id)
    for strange in ("9" * 30, "-1", "1e3", "none"):
        again = await sse(ann, workflow_id, **{"Last-Event-ID": strange})
        assert [frame.get("id") for frame in again] == [frame.get("id") for frame in whole]
    assert (await ann.get(f"/workflows/{workflow_id}/events?after={'9' * 30}")).status_code in (400, 422)
    async with site.socket(f"/workflows/{workflow_id}/stream?after={'9' * 30}", "ann") as socket:
        assert [message async for message in socket] == []


async def test_the_socket_streams_the_same_events_and_closes_at_the_end(site: Site) -> None:
    ann = await site.client("ann")
    hiring = asyncio.Event()
    go = asyncio.Event()

    async def wait(_need: Need, _key: str) -> object:
        hiring.set()
        await go.wait()
        return {"result": {}}

    site.hirer.acts["table.analyze"] = wait
    workflow_id = await make(ann, autoApprove=True)
    await hiring.wait()
    seen: list[int] = []
    async with site.socket(f"/workflows/{workflow_id}/stream", "ann") as socket:
        hello = json.loads(await socket.recv())
        assert (hello["type"], hello["workflowId"], hello["seq"]) == ("connected", workflow_id, 0)
        async for message in socket:
            seen.append(json.loads(message)["seq"])
            if len(seen) == 3:
                break
    go.set()
    async with site.socket(f"/workflows/{workflow_id}/stream?after={seen[-1]}", "ann") as socket:
        async for message in socket:
            seen.append(json.loads(message)["seq"])
        assert socket.close_code == 1000
    assert seen == list(range(1, len(seen) + 1))


async def test_only_the_owner_and_an_operator_see_a_workflow(site: Site) -> None:
    ann, bob, operator, nobody = [await site.client(person) for person in ("ann", "bob", "op", "")]
    workflow_id = await make(ann)
    for path in ("", "/task", "/events"):
        assert (await bob.get(f"/workflows/{workflow_id}{path}")).status_code == 404
        assert (await nobody.get(f"/workflows/{workflow_id}{path}")).status_code == 403
        if path != "/events":
            assert (await operator.get(f"/workflows/{workflow_id}{path}")).status_code == 200
    for action in ("approve", "cancel"):
        assert (await bob.post(f"/workflows/{workflow_id}/{action}")).status_code == 404
    assert (await bob.get("/users/ann/workflows")).status_code == 404
    assert (await bob.post("/workflows/create", json={"userId": "ann", "input": "Analyse it"})).status_code == 404
    async with site.socket(f"/workflows/{workflow_id}/stream", "bob") as socket:
        assert json.loads(await socket.recv())["data"]["code"] == "not_found"
        with pytest.raises(Exception, match="4004"):
            await socket.recv()
    assert (await ann.get(f"/workflows/{workflow_id}")).json()["workflow"]["user_id"] == "ann"


async def test_cancel_answers_with_the_state_and_a_second_one_conflicts(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await make(ann)
    assert (await ann.post(f"/workflows/{workflow_id}/cancel")).status_code == 200
    frames = await sse(ann, workflow_id)
    assert frames[-2]["event"] == "workflow.cancelled"
    again = await ann.post(f"/workflows/{workflow_id}/cancel")
    assert again.status_code == 409
    assert again.json()["next_step"]


async def test_the_list_pages_through_newest_first(site: Site) -> None:
    ann = await site.client("ann")
    made = [await make(ann, f"Analyse number {number}") for number in range(3)]
    first = (await ann.get("/users/ann/workflows", params={"limit": 2})).json()
    rest = (await ann.get("/users/ann/workflows", params={"limit": 2, "cursor": first["nextCursor"]})).json()
    assert [entry["id"] for entry in first["workflows"] + rest["workflows"]] == made[::-1]
    assert rest["nextCursor"] == ""
    assert (await ann.get("/users/ann/workflows", params={"cursor": "no"})).status_code == 400


async def test_the_same_idempotency_key_makes_one_workflow(site: Site) -> None:
    ann = await site.client("ann")
    body, headers = {"input": "Analyse it"}, {"Idempotency-Key": "once"}
    answers = await asyncio.gather(*(ann.post("/workflows/create", json=body, headers=headers) for _ in range(5)))
    assert len({answer.json()["workflow"]["id"] for answer in answers}) == 1
    other = await ann.post("/workflows/create", json={"input": "Analyse that"}, headers=headers)
    assert other.status_code == 409


async def test_one_agent_is_run_with_a_button(site: Site) -> None:
    ann = await site.client("ann")
    body = {"agentId": "text.summarize", "capability": "text.summarize", "input": {"text": "hello"}, "maxCost": "0.05"}
    made = await ann.post("/workflows/run", json=body)
    assert made.status_code == 201
    workflow_id = made.json()["workflow"]["id"]
    assert (await sse(ann, workflow_id))[-2]["event"] == "workflow.completed"
    gone = await ann.post("/workflows/run", json={**body, "agentId": "nobody"})
    assert gone.status_code == 404
    assert gone.json()["code"] == "no_offer"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"input": "x"}, 400),
        ({"input": "Analyse it", "maxCost": "much"}, 400),
        ({"input": "Analyse it", "maxCost": "0"}, 400),
        ({"input": "Analyse it", "maxCost": "0.0000001"}, 400),
        ({"input": "Analyse it", "maxCost": "NaN"}, 400),
        ({"input": "Analyse it", "maxTime": 0}, 400),
        ({"input": "Analyse it", "surprise": 1}, 400),
        ({"input": "Analyse it", "files": [{"name": "a", "size_bytes": 1, "blob": "/etc/passwd"}]}, 400),
    ],
)
async def test_bad_bodies_are_refused(site: Site, body: dict[str, object], status: int) -> None:
    ann = await site.client("ann")
    answer = await ann.post("/workflows/create", json=body)
    assert answer.status_code == status, answer.text


async def test_empty_and_oversized_files_are_refused(site: Site) -> None:
    ann = await site.client("ann")
    empty = await ann.post("/files", files={"file": ("a.csv", b"", "text/csv")})
    assert empty.status_code == 400
    large = await ann.post("/files", files={"file": ("a.csv", b"x" * (2 << 20), "text/csv")})
    assert large.status_code == 413
    assert "a.csv is empty" in empty.text
    assert "larger than 1 MiB" in large.text


async def test_a_hostile_file_name_stays_a_name(site: Site) -> None:
    ann = await site.client("ann")
    answer = await ann.post("/files", files={"file": ("../../etc/passwd", b"data", "text/plain")})
    assert answer.json()["file"]["name"] == "passwd"


async def test_health_counts_what_is_going_on(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await make(ann, autoApprove=True)
    await sse(ann, workflow_id)
    health = (await ann.get("/workflows/health")).json()
    assert health["success"] is True
    assert health["completed"] == 1
    assert health["success_rate"] == 1.0
    assert health["average_seconds"] >= 0
    assert health["error_rates"] == {}


async def test_an_unknown_workflow_is_not_found_everywhere(site: Site) -> None:
    ann = await site.client("ann")
    for method, path in (("GET", ""), ("GET", "/events"), ("GET", "/task"), ("POST", "/approve"), ("POST", "/cancel")):
        answer = await ann.request(method, f"/workflows/wf_nope{path}")
        assert answer.status_code == 404
        assert answer.json()["success"] is False


async def test_a_priority_is_the_engines_and_no_part_of_the_request(site: Site) -> None:
    ann, operator = await site.client("ann"), await site.client("op")
    body, once = {"input": "Analyse it"}, {"Idempotency-Key": "p"}
    low = await ann.post("/workflows/create", json={**body, "priority": -1}, headers=once)
    again = await ann.post("/workflows/create", json={**body, "priority": 0}, headers=once)
    assert low.json()["workflow"]["id"] == again.json()["workflow"]["id"]
    assert (await site.room.engine.get(low.json()["workflow"]["id"])).priority == -1
    refused = await ann.post("/workflows/create", json={**body, "priority": 1})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    high = await operator.post("/workflows/create", json={**body, "priority": 1, "userId": "ann"})
    assert (await site.room.engine.get(high.json()["workflow"]["id"])).priority == 1
    for wrong in (2, -2, "first"):
        assert (await operator.post("/workflows/create", json={**body, "priority": wrong})).status_code == 400
