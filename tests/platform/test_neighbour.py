"""The transport to services next door against servers that answer in every way HTTP allows, and some it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from agentnexus.platform.neighbour import NeighbourTransport
from agentnexus.platform.process import free_port

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """Speaks bytes: `serve` gets each request head and writes what it likes."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self.url = ""
        self.answer: bytes | None = OK
        self.hang_up = False

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        head += await reader.readexactly(int(line.partition(b":")[2]))
                self.heads.append(head)
                if self.answer is not None:
                    writer.write(self.answer)
                    await writer.drain()
                if self.hang_up:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    server = Server()
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient(transport=NeighbourTransport(), timeout=5) as http:
        yield server, http
    listener.close()
    await listener.wait_closed()


async def test_a_request_leaves_whole_and_connections_are_kept() -> None:
    async with running() as (server, http):
        for _ in range(3):
            response = await http.post(f"{server.url}/path?q=1", content=b"body", headers={"x-one": "1"})
            assert (response.status_code, response.content) == (200, b"ok")
        assert server.connections == 1
        head = server.heads[0]
        assert head.startswith(b"POST /path?q=1 HTTP/1.1\r\n")
        assert b"x-one: 1\r\n" in head
        assert head.lower().count(b"content-length: 4") == 1
        assert head.endswith(b"\r\n\r\nbody")


async def test_requests_at_once_have_connections_of_their_own() -> None:
    async with running() as (server, http):
        answers = await asyncio.gather(*(http.get(server.url) for _ in range(10)))
        assert {answer.content for answer in answers} == {b"ok"}
        assert 1 < server.connections <= 10
        opened = server.connections
        await http.get(server.url)
        assert server.connections == opened


ANSWERS = {
    "chunked": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde"),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: y\r\n\r\n", b"a"),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
    "empty": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 1\r\n\r\nx", b"x"),
    "zero": (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", b""),
}


@pytest.mark.parametrize("kind", sorted(ANSWERS))
async def test_every_framing_is_read_and_the_connection_stays_good(kind: str) -> None:
    raw, body = ANSWERS[kind]
    async with running() as (server, http):
        server.answer = raw
        for _ in range(2):
            assert (await http.get(server.url)).content == body
        assert server.connections == 1


async def test_an_answer_without_length_ends_with_its_connection() -> None:
    async with running() as (server, http):
        server.answer, server.hang_up = b"HTTP/1.0 200 OK\r\n\r\nto the end", True
        for _ in range(2):
            assert (await http.get(server.url)).content == b"to the end"
        assert server.connections == 2


async def test_a_head_answer_has_a_length_and_no_body() -> None:
    async with running() as (server, http):
        server.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"
        assert (await http.head(server.url)).content == b""


async def test_a_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    async with running() as (server, http):
        server.hang_up = True
        for count in range(1, 4):
            assert (await http.get(server.url)).content == b"ok"
            assert server.connections == count
            await asyncio.sleep(0.01)


BAD = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "half a body": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    "not HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
    "huge length": b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "negative chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
    "bad chunk end": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc0\r\n\r\n",
    "other encoding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
    "bad header": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "blank in a name": b"HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
}


@pytest.mark.parametrize("kind", sorted(BAD))
async def test_a_broken_answer_is_a_protocol_error_and_its_connection_is_gone(kind: str) -> None:
    async with running() as (server, http):
        server.answer, server.hang_up = BAD[kind], True
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(server.url)
        server.answer, server.hang_up = OK, False
        assert (await http.get(server.url)).content == b"ok"
        assert server.connections == 2


async def test_silence_is_a_timeout() -> None:
    async with running() as (server, http):
        server.answer = None
        with pytest.raises(httpx.ReadTimeout):
            await http.get(server.url, timeout=0.05)


async def test_a_cancelled_request_leaves_no_half_answer_for_the_next() -> None:
    async with running() as (server, http):
        server.answer = None
        asked = asyncio.create_task(http.get(server.url))
        while not server.heads:
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        server.answer = OK
        assert (await http.get(server.url)).content == b"ok"
        assert server.connections == 2


async def test_nobody_there_is_a_connect_error() -> None:
    async with httpx.AsyncClient(transport=NeighbourTransport()) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"http://127.0.0.1:{free_port()}/")


async def test_https_goes_the_usual_way() -> None:
    async with httpx.AsyncClient(transport=NeighbourTransport()) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"https://127.0.0.1:{free_port()}/")
