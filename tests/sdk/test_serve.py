"""The HTTP contract of an agent, spoken by a real client over a port and over a unix socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from agentnexus.sdk.serve import AgentServer
from agentnexus.sdk.sse import Event, Stream
from tests.sdk.samples import blocking, entered, gate, manifest, repeat, write_sample


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        AgentServer(manifest(), repeat).on_port(0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        yield client


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with AgentServer(manifest(), repeat).on_port(0) as port:
        yield port


def execute(text: str, execution_id: str = "e1", **more: object) -> dict[str, object]:
    return {"execution_id": execution_id, "input": {"text": text, **more}, "secrets": {}, "metadata": {}}


def events(text: str) -> list[tuple[int, str, dict[str, object]]]:
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


async def test_health_tells_places_and_version(client):
    for path in ("/health", "/ping"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.json() == {
            "status": "READY",
            "running": 0,
            "slots": 2,
            "name": "org.agentnexus.sample",
            "version": "1.2.3",
        }


async def test_the_manifest_comes_with_both_schemas(client):
    body = (await client.get("/manifest")).json()
    assert body["manifest"]["capability"] == "text.count"
    assert body["manifest_hash"] == manifest().content_hash
    assert body["input"]["required"] == ["text"]
    assert body["output"]["required"] == ["text"]


@pytest.mark.parametrize("path", ["/execute", "/invocations"])
async def test_execute_answers_with_output_logs_and_metering(client, path):
    answer = await client.post(path, json=execute("ab", times=2), headers={"X-User-ID": "u1"})
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "completed"
    assert body["output"] == {"text": "abab"}
    assert body["error"] is None
    assert body["logs"] == [{"message": "repeating", "level": "info"}]
    assert body["metering"]["charge:page"] == 2
    assert body["metering"]["wall_ms"] >= 0


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [("refuse", 422, "agent_refused"), ("crash", 500, "agent_failed")],
)
async def test_failures_have_their_status_and_code(client, text, status, code):
    answer = await client.post("/execute", json=execute(text))
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


async def test_a_wrong_input_is_400_and_names_the_field(client):
    answer = await client.post("/execute", json=execute("x", times=0))
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "times"


async def test_the_same_id_and_input_get_the_same_answer_once_run(client):
    headers = {"X-Execution-ID": "same"}
    first, second = await asyncio.gather(
        *(client.post("/execute", json=execute("ab", "other"), headers=headers) for _ in range(2))
    )
    assert first.json() == second.json()
    assert len(first.json()["logs"]) == 1
    conflict = await client.post("/execute", json=execute("else", "other"), headers=headers)
    assert conflict.status_code == 409


async def test_streaming_sends_every_event_with_its_number(client):
    answer = await client.post("/execute", json=execute("a"), headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream"
    got = events(answer.text)
    assert [number for number, _, _ in got] == list(range(1, 8))
    assert [kind for _, kind, _ in got] == ["start", "log", "output", "output", "output", "charge", "completed"]
    assert got[-1][2]["output"] == {"text": "a"}


async def test_a_client_that_lost_its_connection_resumes_where_it_was(client):
    await client.post("/execute", json=execute("a"))
    rest = await client.get("/execute/e1/events", headers={"Last-Event-ID": "5"})
    assert [number for number, _, _ in events(rest.text)] == [6, 7]
    same = await client.get("/execute/e1/events?after=5")
    assert same.text == rest.text
    assert (await client.get("/execute/e1/events?after=x")).status_code == 400
    assert (await client.get("/execute/nobody/events")).status_code == 404


async def test_cancel_ends_an_async_agent(client):
    running = asyncio.create_task(client.post("/execute", json=execute("wait")))
    async with asyncio.timeout(10):
        while (await client.get("/health")).json()["running"] == 0:
            await asyncio.sleep(0)
    assert (await client.post("/execute/e1/cancel")).status_code == 202
    answer = await running
    assert answer.status_code == 409
    assert answer.json()["status"] == "cancelled"
    assert (await client.post("/execute/e1/cancel")).status_code == 409
    assert (await client.post("/execute/nobody/cancel")).status_code == 404


async def test_the_time_limit_is_408():
    short = manifest()
    short = short.model_copy(update={"limits": short.limits.model_copy(update={"timeout_seconds": 0.05})})
    async with (
        AgentServer(short, repeat).on_port(0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        answer = await client.post("/execute", json=execute("wait"))
    assert answer.status_code == 408
    assert answer.json()["error"]["code"] == "agent_timeout"


async def test_no_more_runs_than_places(client):
    waiting = [asyncio.create_task(client.post("/execute", json=execute("wait", f"w{number}"))) for number in range(2)]
    async with asyncio.timeout(10):
        while (await client.get("/health")).json()["status"] != "BUSY":
            await asyncio.sleep(0)
    assert (await client.post("/execute", json=execute("a", "third"))).status_code == 429
    for number in range(2):
        await client.post(f"/execute/w{number}/cancel")
    await asyncio.gather(*waiting)


async def test_a_sync_agent_runs_beside_the_server_and_its_lines_cannot_forge_events():
    gate.clear()
    entered.clear()
    async with (
        AgentServer(manifest(), blocking).on_port(0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        body = {**execute("x"), "secrets": {"API_KEY": "k"}}
        running = asyncio.create_task(client.post("/execute", json=body, headers={"Accept": "text/event-stream"}))
        await asyncio.to_thread(entered.wait)
        assert (await client.get("/health")).json()["running"] == 1
        gate.set()
        got = events((await running).text)
    assert [kind for _, kind, _ in got] == ["start", "log", "log", "completed"]
    assert got[2][2]["message"] == "after\n\ndata: forged"
    assert got[-1][2]["output"] == {"text": "k"}


async def test_a_unix_socket_serves_the_same(tmp_path):
    async with AgentServer(manifest(), repeat).on_socket(tmp_path / "a.sock") as path:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            assert (await client.post("/execute", json=execute("a"))).json()["output"] == {"text": "a"}


async def raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    if writer.can_write_eof():
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/2\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
        (b"PUT /execute HTTP/1.1\r\n\r\n", 404),
        (b"POST /execute HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /execute HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /execute HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /execute HTTP/1.1\r\nContent-Length: 9\r\n\r\n{", 400),
        (b"POST /execute HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /execute HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]", 400),
        (b"POST /execute HTTP/1.1\r\nContent-Length: 1\r\n\r\n{", 400),
        (b"POST /execute HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100_000, 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b'POST /execute HTTP/1.1\r\nContent-Length: 13\r\n\r\n{"secrets":1}', 400),
        (b'POST /execute HTTP/1.1\r\nContent-Length: 21\r\n\r\n{"secrets":{"a":null}}', 400),
    ],
)
async def test_malformed_requests_get_a_plain_answer(port, request_bytes, status):
    answer = await raw(port, request_bytes)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b'"message"' in answer


async def test_a_connection_that_says_nothing_is_closed(port):
    assert await raw(port, b"") == b""


async def test_the_stream_forgets_the_oldest_and_drops_what_follows_the_end():
    stream = Stream(replay_events=3)
    for number in range(5):
        stream.add("log", {"number": number})
    stream.add("completed", {})
    stream.add("log", {"too": "late"})
    assert [event.number async for event in stream.read()] == [4, 5, 6]
    assert [event.number async for event in stream.read(after=5)] == [6]


async def test_readers_get_live_events():
    stream = Stream()
    reader = stream.read()
    stream.add("log", {"number": 1})
    assert (await anext(reader)).data == {"number": 1}
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    assert not waiting.done()
    stream.add("completed", {})
    assert (await waiting).type == "completed"
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


def test_an_event_is_one_block_whatever_its_data():
    block = Event(7, "log", {"message": "a\r\n\r\nevent: completed\u2028b"}).encode()
    assert block.count(b"\n") == 4
    assert block.endswith(b"\n\n")
    assert b"\r" not in block


async def test_the_command_serves_a_folder(tmp_path):
    write_sample(tmp_path / "agent")
    path = tmp_path / "s.sock"
    command = [sys.executable, "-m", "agentnexus.sdk.serve", str(tmp_path / "agent"), "--socket", str(path)]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        await until_there(path)
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            answer = await client.post("/execute", json=execute("hello"))
        assert answer.json()["output"] == {"letters": 5}
    finally:
        os.kill(process.pid, signal.SIGINT)
        assert await process.wait() == 0


async def until_there(path: Path) -> None:
    async with asyncio.timeout(20):
        while not path.exists():
            await asyncio.sleep(0.01)
