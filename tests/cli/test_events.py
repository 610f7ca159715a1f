"""Following a workflow's events over a server that dies, repeats and stays away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from agentnexus.cli import events
from agentnexus.cli.events import follow

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
Answer = Callable[[int, asyncio.StreamWriter], None]


def chunk(text: str) -> bytes:
    raw = text.encode()
    return f"{len(raw):x}\r\n".encode() + raw + b"\r\n"


def event(number: int, name: str = "step.progress") -> bytes:
    return chunk(f"id: {number}\nevent: {name}\ndata: {json.dumps({'type': name, 'seq': number, 'data': {}})}\n\n")


@asynccontextmanager
async def server(*answers: Answer) -> AsyncIterator[tuple[httpx.AsyncClient, list[int]]]:
    """Answers the n-th connection with the n-th function, told after which event the client wants to go on."""
    asked: list[int] = []
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        after = int(parse_qs(urlsplit(request.split()[1]).query)["after"][0])
        asked.append(after)
        left.pop(0)(after, writer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        yield client, asked


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAUSE_SECONDS", 0.0)


def ends(*numbers: int) -> Answer:
    def answer(_after: int, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"".join(event(number) for number in numbers) + b"0\r\n\r\n")

    return answer


def breaks(*numbers: int, torn: bytes = b"") -> Answer:
    """The connection drops in the middle of the stream, as when the server is killed."""

    def answer(_after: int, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"".join(event(number) for number in numbers) + torn)

    return answer


def refuses(_after: int, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def sequence(client: httpx.AsyncClient) -> list[object]:
    return [event["seq"] async for event in follow(client, "/workflows/wf_1/events")]


async def test_events_come_in_order_until_the_stream_ends() -> None:
    async with server(ends(1, 2, 3)) as (client, asked):
        assert await sequence(client) == [1, 2, 3]
        assert asked == [0]


async def test_after_a_break_it_goes_on_after_the_last_event_seen() -> None:
    async with server(breaks(1, 2), refuses, refuses, breaks(3), ends(4)) as (client, asked):
        assert await sequence(client) == [1, 2, 3, 4]
        assert asked == [0, 2, 2, 2, 3]


async def test_half_an_event_is_not_an_event() -> None:
    torn = chunk('id: 2\ndata: {"type": "step.')
    async with server(breaks(1, torn=torn), ends(2)) as (client, asked):
        assert await sequence(client) == [1, 2]
        assert asked == [0, 1]


async def test_comments_and_other_data_are_passed_over() -> None:
    def answer(_after: int, writer: asyncio.StreamWriter) -> None:
        noise = chunk(": keep-alive\n\n") + chunk("data: 5\n\n") + chunk('data: {"no": "type"}\n\n')
        pieces = chunk('data: {"type":\n') + chunk('data: "workflow.completed", "seq": 2}\n\n')
        writer.write(HEAD + noise + event(1) + pieces + b"0\r\n\r\n")

    async with server(answer) as (client, _):
        assert await sequence(client) == [1, 2]


async def test_a_server_that_stays_away_is_an_error_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PATIENCE_SECONDS", -1.0)
    async with server(breaks(1), refuses) as (client, asked):
        with pytest.raises(httpx.TransportError):
            await sequence(client)
        assert asked == [0]
