"""Corners of the agent's HTTP contract, over real sockets: paths, bodies, ids, secrets, streams, and what is kept."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from agentnexus.sdk import Context, File, Recorder, agent, ui
from agentnexus.sdk.answers import MAX_FILE_BYTES, check_size, source_of
from agentnexus.sdk.context import Refusal
from agentnexus.sdk.http import BODY_BYTES, HttpError, read_request, response
from agentnexus.sdk.serve import KEPT_EXECUTIONS, AgentServer
from agentnexus.sdk.sse import Event, Stream
from tests.sdk.samples import manifest, repeat


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with AgentServer(manifest(), repeat).on_port(0) as port:
        yield port


@pytest.fixture
async def client(port: int) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        yield client


async def raw(port: int, request: bytes) -> tuple[int, dict]:
    """Status and JSON body of what came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


def get(target: bytes) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST /execute HTTP/1.1\r\n" + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/health", 200),
        (b"/health/", 200),
        (b"/health?", 200),
        (b"/health?a=1&a=2&b", 200),
        (b"/health?%ff=%00", 200),
        (b"/health?a=\xff", 200),
        (b"/ping", 200),
        (b"/manifest", 200),
        (b"/", 404),
        (b"//", 404),
        (b"//[", 404),
        (b"//[::1", 404),
        (b"//host:port/health", 404),
        (b"/health/x", 404),
        (b"/HEALTH", 404),
        (b"/health%2f", 404),
        (b"/../health", 404),
        (b"/execute", 404),
        (b"/execute//events", 404),
        (b"/execute/a/b/events", 404),
        (b"/" + b"x" * 8000, 404),
    ],
)
async def test_every_path_gets_an_answer(port: int, target: bytes, status: int) -> None:
    found, body = await raw(port, get(target))
    assert found == status
    if status == 404:
        assert body["error"]["code"] == "not_found"
        assert body["error"]["next_step"]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /health HTTP/1.0", 200),
        (b"get /health HTTP/1.1", 404),
        (b"GET  /health HTTP/1.1", 400),
        (b"GET /health", 400),
        (b"GET /health HTTP/1.1 x", 400),
        (b"GET http://127.0.0.1/health HTTP/1.1", 400),
        (b"GET \xe2\x82\xac HTTP/1.1", 400),
        (b"", 400),
        (b" ", 400),
        (b"\x00\x01\x02", 400),
    ],
)
async def test_request_lines_are_read_strictly(port: int, line: bytes, status: int) -> None:
    found, _ = await raw(port, line + b"\r\n\r\n")
    assert found == status


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"X-Odd: \xff\xfe", 200),
        (b"X-Empty:", 200),
        (b"x:y:z", 200),
        (b":novalue", 400),
        (b"no-colon", 400),
        (b"space : x", 400),
        (b"\tfolded: x", 400),
    ],
)
async def test_headers_are_read_strictly(port: int, header: bytes, status: int) -> None:
    found, _ = await raw(port, b"GET /health HTTP/1.1\r\n" + header + b"\r\n\r\n")
    assert found == status


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 90_000, "not JSON"),
        (b'{"a":' * 50_000, "not JSON"),
        (b'{"input": ' + b"1" * 5000 + b"}", "not JSON"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"7", "not a JSON object"),
    ],
)
async def test_bodies_that_are_no_object_are_told(port: int, body: bytes, why: str) -> None:
    status, answer = await raw(port, post(body))
    assert status == 400
    assert why in answer["error"]["message"]
    assert answer["error"]["next_step"] == "Send a JSON object."


@pytest.mark.parametrize("length", [b"", b"+2", b"2 2", b"0x2", b"2.0", b"\xb2", b"-0", b"9" * 19])
async def test_a_length_that_is_no_number_is_refused(port: int, length: bytes) -> None:
    status, _ = await raw(port, b"POST /execute HTTP/1.1\r\nContent-Length: " + length + b"\r\n\r\n{}")
    assert status == 400


async def test_a_body_over_the_limit_is_refused_before_it_is_read(port: int) -> None:
    status, answer = await raw(port, b"POST /execute HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES + 1))
    assert (status, answer["error"]["next_step"]) == (413, "Send less.")


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
async def test_no_bytes_get_anything_but_a_request_or_a_clean_refusal(data: bytes) -> None:
    reader = asyncio.StreamReader(limit=1024)
    reader.feed_data(data)
    reader.feed_eof()
    try:
        request = await read_request(reader, max_body_bytes=64)
    except EOFError:
        assert data == b""
    except HttpError as error:
        assert 400 <= error.status < 500
        assert response(error.status, error.body).startswith(b"HTTP/1.1 4")
    else:
        assert request.path.startswith("/")


@pytest.mark.parametrize(
    "broken",
    [
        {"secrets": 5},
        {"secrets": []},
        {"secrets": {"KEY": 5}},
        {"secrets": {"KEY": None}},
        {"metadata": "text"},
        {"metadata": [1]},
    ],
)
async def test_a_refused_request_does_not_use_up_its_execution_id(client: httpx.AsyncClient, broken: dict) -> None:
    body = {"execution_id": "again", "input": {"text": "a"}}
    refused = await client.post("/execute", json={**body, **broken})
    assert refused.status_code == 400
    assert (await client.get("/execute/again/events")).status_code == 404
    served = await client.post("/execute", json=body)
    assert (served.status_code, served.json()["output"]) == (200, {"text": "a"})


@pytest.mark.parametrize("nothing", [None, {}])
async def test_absent_secrets_and_metadata_are_none_at_all(client: httpx.AsyncClient, nothing: object) -> None:
    body = {"input": {"text": "a"}, "secrets": nothing, "metadata": nothing}
    assert (await client.post("/execute", json=body)).status_code == 200


async def test_the_id_of_the_header_wins_and_one_is_made_when_there_is_none(client: httpx.AsyncClient) -> None:
    body = {"execution_id": "body", "input": {"text": "a"}}
    await client.post("/execute", json=body, headers={"X-Execution-ID": "header"})
    assert (await client.get("/execute/header/events")).status_code == 200
    assert (await client.get("/execute/body/events")).status_code == 404
    streams = [await client.post("/execute", json={"input": {"text": "a"}}, headers={"Accept": "text/event-stream"})
               for _ in range(2)]  # fmt: skip
    made = [json.loads(stream.text.split("data: ")[1].split("\n")[0])["execution_id"] for stream in streams]
    assert made[0] != made[1]


@pytest.mark.parametrize("value", [None, 5, "text", [], {"times": 1}, {"text": 5}, {"text": "a", "times": "many"}])
async def test_a_wrong_input_is_refused_and_the_same_refusal_is_kept(client: httpx.AsyncClient, value: object) -> None:
    body = {"execution_id": "same", "input": value}
    first, second = [await client.post("/execute", json=body) for _ in range(2)]
    assert first.status_code == second.status_code == 400
    assert first.json() == second.json()
    assert first.json()["error"]["code"] == "invalid_input"


async def test_old_executions_are_forgotten_and_new_ones_kept(client: httpx.AsyncClient) -> None:
    for number in range(KEPT_EXECUTIONS + 3):
        await client.post("/execute", json={"execution_id": f"e{number}", "input": {"text": "a"}})
    for number, status in ((0, 404), (2, 404), (3, 200), (KEPT_EXECUTIONS + 2, 200)):
        assert (await client.get(f"/execute/e{number}/events")).status_code == status


@pytest.mark.parametrize(
    ("after", "numbers"),
    [("0", [1, 2, 3, 4, 5, 6, 7]), ("6", [7]), ("7", []), ("99", []), ("00", [1, 2, 3, 4, 5, 6, 7])],
)
async def test_a_stream_goes_on_after_any_number(client: httpx.AsyncClient, after: str, numbers: list[int]) -> None:
    await client.post("/execute", json={"execution_id": "e", "input": {"text": "a"}})
    stream = await client.get("/execute/e/events", headers={"Last-Event-ID": after})
    assert [int(line[4:]) for line in stream.text.split("\n") if line.startswith("id: ")] == numbers


@pytest.mark.parametrize("after", ["-1", "1.5", "x", " ", "\u0661".encode().decode("latin-1")])
async def test_a_last_event_that_is_no_number_is_refused(client: httpx.AsyncClient, after: str) -> None:
    await client.post("/execute", json={"execution_id": "e", "input": {"text": "a"}})
    answer = await client.get("/execute/e/events", params={"after": after})
    assert answer.status_code == 400


async def test_many_clients_of_one_execution_share_one_run_over_a_unix_socket(tmp_path: Path) -> None:
    async with AgentServer(manifest(), repeat).on_socket(tmp_path / "s") as path:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            body = {"execution_id": "one", "input": {"text": "a", "times": 3}}
            answers = await asyncio.gather(*(client.post("/execute", json=body) for _ in range(12)))
    assert {answer.text for answer in answers} == {answers[0].text}
    assert answers[0].json()["metering"]["charge:page"] == 3


class Anything(BaseModel):
    value: object = None


@agent
def meters(request: Anything, context: Context) -> dict[str, int]:
    """Reports what it is told to report."""
    context.metric("figure", request.value)  # type: ignore[arg-type]  # what an author may get wrong
    return {}


@pytest.mark.parametrize(("value", "status"), [(3, "completed"), (True, "completed"), (1.5, "failed"), ("3", "failed")])
async def test_a_metric_is_a_whole_number_or_the_authors_mistake(value: object, status: str) -> None:
    async with (
        AgentServer(manifest(), meters).on_port(0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        answer = (await client.post("/execute", json={"input": {"value": value}})).json()
    assert answer["status"] == status
    assert answer["metering"].get("figure") == (int(value) if status == "completed" else None)  # type: ignore[call-overload]


@pytest.mark.parametrize("count", [0, -1, -(10**9)])
def test_nothing_and_less_cannot_be_charged(count: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Context().charge("page", count)


@pytest.mark.parametrize("count", [1.0, "2", None])
def test_a_charge_is_counted_in_whole_numbers(count: object) -> None:
    recorder = Recorder()
    with pytest.raises(TypeError):
        Context(emit=recorder).charge("page", count)  # type: ignore[arg-type]  # the point of the test
    assert recorder.events == []


@pytest.mark.parametrize(("given_fraction", "told"), [(-1, 0), (0, 0), (0.25, 0.25), (1, 1), (7, 1), (None, None)])
def test_progress_stays_between_nothing_and_all(given_fraction: float | None, told: float | None) -> None:
    recorder = Recorder()
    Context(emit=recorder).progress(given_fraction, "m")
    assert recorder.of("progress") == [{"fraction": told, "message": "m"}]


@pytest.mark.parametrize("data", ["text", "\u20ac\U0001f600", b"\x00\xff", b"", bytearray(b"abc"), memoryview(b"xyz")])
def test_a_file_is_handed_over_byte_for_byte(data: str | bytes) -> None:
    recorder = Recorder()
    Context(emit=recorder).artifact("a.bin", "application/octet-stream", data)
    (told,) = recorder.of("artifact")
    raw_data = data.encode() if isinstance(data, str) else bytes(data)
    assert base64.b64decode(str(told["data"])) == raw_data
    assert told["size_bytes"] == len(raw_data)


@pytest.mark.parametrize(
    ("size", "says"), [(0, "empty"), (1, None), (MAX_FILE_BYTES, None), (MAX_FILE_BYTES + 1, "at most 32 MB")]
)
def test_files_are_taken_up_to_their_limit(size: int, says: str | None) -> None:
    data = bytes(size)
    if says is None:
        assert check_size(data) is data
        return
    with pytest.raises(Refusal, match=says) as caught:
        check_size(data, field="sources.3.file")
    assert caught.value.field == "sources.3.file"
    assert caught.value.next_step


def test_a_source_is_named_by_its_bytes() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert source_of("a", b"").sha256 == empty
    assert source_of("a", b"\x00").sha256 != empty


class Upload(BaseModel):
    file: File


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("YQ==", b"a"),
        (" Y Q\n=\t= ", b"a"),
        ("_-8=", b"\xff\xef"),
        ("/+8=", b"\xff\xef"),
        ("data:text/plain;base64,YQ==", b"a"),
        ("data:text/plain;charset=utf-8;base64,YQ==", b"a"),
    ],
)
def test_files_come_as_base64_of_any_alphabet(text: str, data: bytes) -> None:
    assert Upload.model_validate({"file": text}).file == data


@pytest.mark.parametrize(
    "text", ["YQ", "YQ=", "YQ===", "Y", "a b!", "\u00e9\u00e9==", "data:text/plain,hello", "=", "YQ==YQ=="]
)
def test_half_a_file_is_no_file(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        Upload.model_validate({"file": text})


def test_hints_hold_only_what_was_said() -> None:
    assert ui("text") == {"x-ui": {"editor": "text"}}
    assert ui("number", order=0, unit="MW", secret=False) == {
        "x-ui": {"editor": "number", "order": 0, "unit": "MW", "secret": False}
    }


@given(st.integers(1, 20), st.integers(0, 30), st.integers(0, 30))
async def test_a_stream_gives_every_event_it_still_holds_once_and_in_order(kept: int, count: int, after: int) -> None:
    stream = Stream(replay_events=kept)
    for number in range(count):
        stream.add("log", {"number": number})
    stream.add("completed", {})
    seen = [event.number async for event in stream.read(after)]
    assert seen == list(range(max(after, count + 1 - kept) + 1, count + 2))


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=4))
def test_an_event_is_read_back_whatever_its_text(data: dict[str, object]) -> None:
    lines = Event(3, "log", data).encode().decode().split("\n")
    assert lines[:2] == ["id: 3", "event: log"]
    assert json.loads(lines[2].removeprefix("data: ")) == data
    assert lines[3:] == ["", ""]
