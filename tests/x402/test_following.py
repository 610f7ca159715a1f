"""What a seller tells while it works: read from a real server, and never the reason why a purchase fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from tests.hiring.support import make_offer

from agentnexus.core.offers import Job, Need
from agentnexus.core.updates import Log, Progress, Update
from agentnexus.markets.x402.following import execution_id, follow, watch_url

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


@asynccontextmanager
async def telling(*answers: bytes) -> AsyncIterator[str]:
    """A server that gives one answer per connection, the last one for ever."""
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers[min(asked, len(answers) - 1)])
        asked += 1
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def frame(name: str, **data: object) -> bytes:
    return f"id: 1\nevent: {name}\ndata: {json.dumps({'name': name, 'data': data})}\n\n".encode()


async def heard(*answers: bytes) -> list[Update]:
    async with telling(*answers) as url, httpx.AsyncClient() as http, asyncio.timeout(20):
        return [update async for update in follow(http, f"{url}/x")]


async def test_progress_and_log_lines_come_through_and_the_rest_is_left_out() -> None:
    updates = await heard(
        OK
        + frame("execution.started", attempt=1)
        + frame("execution.log", message="opening", level="warning")
        + b": still here\n\n"
        + frame("execution.progress", fraction=0.25, message="page 1 of 4")
        + frame("execution.progress", message="no number")
        + frame("execution.completed")
    )
    assert updates == [Log("opening", "warning"), Progress(0.25, "page 1 of 4"), Progress(None, "no number")]


async def test_a_run_that_has_not_begun_is_waited_for() -> None:
    absent = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert await heard(absent, absent, OK + frame("execution.log", message="now")) == [Log("now", "info")]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        b"nonsense\r\n\r\n",
        OK + b"data: {not json}\n\n",
        OK + b"data: " + b"[" * 60_000 + b"\n\n",
        OK + b"data: " + b"x" * 70_000 + b"\n\n",
        OK + b"data: 5\n\ndata: []\n\n" + b'data: {"name": "execution.log", "data": 7}\n\n',
        OK,
    ],
)
async def test_trouble_with_telling_ends_it_without_a_word(answer: bytes) -> None:
    assert await heard(answer) == []


@pytest.mark.parametrize("fraction", [-0.1, 1.1, "half", None, True, 10**400])
async def test_a_fraction_that_is_none_is_unknown(fraction: object) -> None:
    (update,) = await heard(OK + frame("execution.progress", fraction=fraction, message="m"))
    assert update in (Progress(None, "m"), Progress(1.0, "m"))
    assert (update == Progress(1.0, "m")) == (fraction is True)


async def test_a_message_is_cut_to_what_a_person_reads() -> None:
    (update,) = await heard(OK + frame("execution.log", message="m" * 5000, level="l" * 50))
    assert isinstance(update, Log)
    assert (len(update.message), len(update.level)) == (2000, 20)


@pytest.mark.parametrize(
    ("told", "endpoint", "url"),
    [
        ("http://s.test/api/v1/executions/", "http://s.test/x402/a", "http://s.test/api/v1/executions"),
        ("http://s.test:81/e", "http://s.test/x402/a", ""),
        ("https://s.test/e", "http://s.test/x402/a", ""),
        ("http://169.254.169.254/e", "http://s.test/x402/a", ""),
        ("", "http://s.test/x402/a", ""),
        (5, "http://s.test/x402/a", ""),
        (None, "http://s.test/x402/a", ""),
    ],
)
def test_only_the_host_that_sells_is_watched(told: object, endpoint: str, url: str) -> None:
    offer = make_offer(endpoint=endpoint, evidence={"executions": told})
    assert watch_url(offer) == url


def test_the_id_is_the_jobs_own_and_the_same_after_a_restart() -> None:
    def job(key: str) -> Job:
        return Job(id="j", key=key, need=Need(), offer_id="o")

    assert execution_id(job("a")) == execution_id(job("a")) != execution_id(job("b"))
    assert execution_id(job("a")).startswith("exe_")
    assert len(execution_id(job("a"))) == 36
