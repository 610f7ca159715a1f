"""Every row of the workflow API's table: its good answer, its refusals with what to do, its streams from any place."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from .conftest import until
from .site import Site, make, sse

FRAME = {"type", "data", "seq", "at", "workflowId", "timestamp"}  # ours, and what the earlier engine's clients read


async def until_done(client: httpx.AsyncClient, workflow_id: str, status: str) -> None:
    """Wait until a workflow has come to a status."""

    async def has_come() -> bool:
        shown = (await client.get(f"/workflows/{workflow_id}")).json()
        return bool(shown["workflow"]["status"] == status)

    await until(has_come, f"{workflow_id} {status}")


async def told(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    """The error of an answer: a sentence, as earlier clients read it, with the house's fields beside it."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["success"] is False
    assert body["code"] == code
    assert isinstance(body["error"], str)
    assert body["error"]
    return {**body, "message": body["error"]}


async def test_without_a_token_every_row_says_how_to_sign_in(site: Site) -> None:
    stranger = await site.client("nobody")
    rows = [
        ("POST", "/workflows/create"),
        ("POST", "/workflows/run"),
        ("GET", "/workflows/wf_x"),
        ("GET", "/workflows/wf_x/task"),
        ("POST", "/workflows/wf_x/approve"),
        ("POST", "/workflows/wf_x/cancel"),
        ("GET", "/users/ann/workflows"),
        ("GET", "/workflows/wf_x/events"),
    ]
    for method, path in rows:
        body = {"input": "do it", "agentId": "a", "capability": "a.b"} if method == "POST" else None
        answer = await stranger.request(method, path, json=body)
        assert answer.status_code in (400, 403), (method, path)
        assert answer.json()["next_step"], (method, path)
    assert (await stranger.get("/workflows/health")).status_code == 200


async def test_every_row_of_an_unknown_or_foreign_workflow_is_the_same_not_found(site: Site) -> None:
    ann, bob = await site.client("ann"), await site.client("bob")
    theirs = await make(ann)
    said = set()
    for workflow_id in (theirs, "wf_unknown", "../etc", "x" * 200):
        for method, path in (
            ("GET", ""),
            ("GET", "/task"),
            ("POST", "/approve"),
            ("POST", "/cancel"),
            ("GET", "/events"),
        ):
            answer = await bob.request(method, f"/workflows/{workflow_id}{path}")
            assert answer.status_code == 404, (workflow_id, path)
            if workflow_id in (theirs, "wf_unknown"):
                said.add(answer.json()["error"].replace(workflow_id, "ID"))
    assert len(said) == 1, "a stranger must not learn which ids exist"


BAD_BODIES: dict[str, tuple[dict[str, object], str]] = {
    "no input": ({}, "input"),
    "an empty input": ({"input": ""}, "input"),
    "an input that is a number": ({"input": 5}, "input"),
    "an unknown field": ({"input": "do it", "maxPrice": "1"}, "maxPrice"),
    "a negative cost": ({"input": "do it", "maxCost": "-1"}, "cost"),
    "no cost": ({"input": "do it", "maxCost": "0"}, "cost"),
    "a cost in words": ({"input": "do it", "maxCost": "a lot"}, "amount"),
    "a cost with too many digits": ({"input": "do it", "maxCost": "0.0000001"}, "amount"),
    "an endless cost": ({"input": "do it", "maxCost": "1e99"}, "amount"),
    "no time": ({"input": "do it", "maxTime": 0}, "maxTime"),
    "too much time": ({"input": "do it", "maxTime": 10**12}, "maxTime"),
    "a file without a blob": ({"input": "do it", "files": [{"name": "a", "size_bytes": 1}]}, "blob"),
    "a file with a foreign blob": (
        {"input": "do it", "files": [{"name": "a", "size_bytes": 1, "blob": "file:///etc/passwd"}]},
        "blob",
    ),
    "approval that is no yes": ({"input": "do it", "autoApprove": "perhaps"}, "autoApprove"),
    "somebody else's name": ({"input": "do it", "userId": "bob"}, ""),
}


async def test_bad_tasks_are_refused_with_the_field_and_nothing_is_made(site: Site) -> None:
    ann = await site.client("ann")
    for why, (body, field) in BAD_BODIES.items():
        answer = await ann.post("/workflows/create", json=body)
        assert 400 <= answer.status_code < 500, why
        assert field.lower() in answer.text.lower(), (why, answer.text)
    listed = (await ann.get("/users/ann/workflows")).json()
    assert listed == {"success": True, "workflows": [], "nextCursor": "", "total": 0}


async def test_costs_may_be_text_or_numbers_and_are_never_rounded(site: Site) -> None:
    ann = await site.client("ann")
    for given, atomic in (("0.1", "100000"), (0.1, "100000"), (2, "2000000"), ("1.000001", "1000001")):
        workflow_id = await make(ann, maxCost=given)
        shown = (await ann.get(f"/workflows/{workflow_id}")).json()["workflow"]
        assert shown["max_cost"]["atomic"] == atomic


async def test_bodies_that_are_no_json_are_refused(site: Site) -> None:
    ann = await site.client("ann")
    for content in (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 5000):
        answer = await ann.post("/workflows/create", content=content, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, content[:10]
    large = await ann.post("/workflows/create", content=b"x" * (1 << 20) + b"xx")
    assert large.status_code == 413


async def test_streams_go_on_from_any_place_without_loss_or_repeat(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await make(ann, autoApprove=True)
    frames = [frame for frame in await sse(ann, workflow_id) if "id" in frame]
    numbers = [int(str(frame["id"])) for frame in frames]
    assert numbers == list(range(1, len(numbers) + 1))
    for seen in (1, len(numbers) // 2, len(numbers)):
        rest = [frame for frame in await sse(ann, workflow_id, **{"Last-Event-ID": str(seen)}) if "id" in frame]
        assert rest == frames[seen:]
    for odd in ("x", "-1", "1.5", "99999999999", "0x1"):
        whole = await sse(ann, workflow_id, **{"Last-Event-ID": odd})
        assert [frame for frame in whole if "id" in frame] == frames, odd


async def test_a_socket_goes_on_from_any_place_and_says_the_same_as_the_other_stream(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await make(ann, autoApprove=True)
    frames = [json.loads(str(frame["data"])) for frame in await sse(ann, workflow_id) if "id" in frame]
    for after in (0, 2, len(frames), len(frames) + 100, -5):
        heard = []
        async with site.socket(f"/workflows/{workflow_id}/stream?after={after}", "ann") as socket:
            async for message in socket:
                heard.append(json.loads(message))
        assert heard == frames[max(after, 0) :], after
    assert [set(frame) for frame in frames] == [FRAME] * len(frames)


async def test_a_refused_socket_says_why_before_it_closes(site: Site) -> None:
    ann = await site.client("ann")
    theirs = await make(ann)
    for path in (f"/workflows/{theirs}/stream", "/workflows/wf_unknown/stream"):
        async with site.socket(path, "bob") as socket:
            refusal = json.loads(await socket.recv())
            assert refusal["type"] == "error"
            assert refusal["data"]["code"] == "not_found"
            with pytest.raises(ConnectionClosed):
                await socket.recv()


async def test_many_readers_of_one_stream_all_hear_the_same(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await make(ann)
    reading = [asyncio.create_task(sse(ann, workflow_id)) for _ in range(5)]
    await until_done(ann, workflow_id, "awaiting_approval")
    assert (await ann.post(f"/workflows/{workflow_id}/approve")).status_code == 200
    heard = await asyncio.gather(*reading)
    assert all(frames == heard[0] for frames in heard)
    assert heard[0][-1]["event"] == "end"


async def test_pages_of_the_list_have_their_limits(site: Site) -> None:
    ann = await site.client("ann")
    for limit, status in ((1, 200), (200, 200), (0, 400), (201, 400), (-1, 400), ("x", 400)):
        answer = await ann.get("/users/ann/workflows", params={"limit": limit})
        assert answer.status_code in (status, 422 if status == 400 else status), limit
    for cursor in ("nonsense", "9" * 200, "2026-11-20T00:00:00+00:00", "a|b"):
        answer = await ann.get("/users/ann/workflows", params={"cursor": cursor})
        assert answer.status_code < 500, cursor
    await told(await (await site.client("bob")).get("/users/ann/workflows"), 404, "not_found")
    assert (await (await site.client("op")).get("/users/ann/workflows")).status_code == 200


async def test_approving_and_cancelling_twice_is_a_conflict_that_says_the_state(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await make(ann)
    await until_done(ann, workflow_id, "awaiting_approval")
    approved = await ann.post(f"/workflows/{workflow_id}/approve")
    assert approved.json()["message"] == "Workflow approved and execution started"
    await until_done(ann, workflow_id, "completed")
    for verb in ("approve", "cancel"):
        error = await told(await ann.post(f"/workflows/{workflow_id}/{verb}"), 409, "conflict")
        assert "completed" in json.dumps(error)
        assert error["next_step"]


async def test_the_same_key_with_another_task_is_another_persons_or_a_conflict(site: Site) -> None:
    ann, bob = await site.client("ann"), await site.client("bob")
    headers = {"Idempotency-Key": "one"}
    first = await ann.post("/workflows/create", json={"input": "Analyse it"}, headers=headers)
    again = await ann.post("/workflows/create", json={"input": "Analyse it"}, headers=headers)
    other = await bob.post("/workflows/create", json={"input": "Analyse it"}, headers=headers)
    assert first.json()["workflow"]["id"] == again.json()["workflow"]["id"]
    assert other.json()["workflow"]["id"] != first.json()["workflow"]["id"]
    too_long = await ann.post("/workflows/create", json={"input": "do it"}, headers={"Idempotency-Key": "k" * 201})
    assert 400 <= too_long.status_code < 500
