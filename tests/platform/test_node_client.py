"""Clients of a chain's node: straight to the node, with its login, and past every proxy of the environment."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest

from agentnexus.platform.node_client import NodeClient


@dataclass
class Node:
    """Answers every POST with its body, and keeps what it was asked."""

    port: int = 0
    heads: list[str] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while head := await reader.readuntil(b"\r\n\r\n"):
            self.heads.append(head.decode().lower())
            length = next(line for line in self.heads[-1].splitlines() if line.startswith("content-length"))
            body = await reader.readexactly(int(length.split(":")[1]))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.serve(reader, writer)
        except asyncio.IncompleteReadError:  # the client has closed
            writer.close()


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    made = Node()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment whose proxy is nobody: who asks it gets no answer."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.mark.usefixtures("proxied")
@pytest.mark.parametrize("login", ["", "user:pass%20word@"], ids=["plain", "with-login"])
async def test_a_node_is_asked_past_the_proxy_with_what_json_needs(node: Node, login: str) -> None:
    async with NodeClient(f"http://{login}127.0.0.1:{node.port}/v1?a=b", timeout_seconds=10) as client:
        answer = await client._ask(b'{"id":1}')
        await answer.aread()
    assert (answer.status_code, answer.content) == (200, b'{"id":1}')
    (head,) = node.heads
    assert head.startswith("post /v1?a=b http/1.1")
    assert "content-type: application/json" in head
    sent = f"authorization: basic {base64.b64encode(b'user:pass word').decode().lower()}"
    assert (sent in head) is bool(login)


async def test_many_questions_share_connections(node: Node) -> None:
    async with NodeClient(f"http://127.0.0.1:{node.port}", timeout_seconds=10) as client:
        for number in range(5):
            answer = await client._ask(str(number).encode())
            assert (await answer.aread()) == str(number).encode()
    assert (len(node.heads), node.connections) == (5, 1)


async def test_a_node_that_is_not_there_is_an_http_error_for_the_client_to_name(node: Node) -> None:
    async with NodeClient("http://127.0.0.1:1", timeout_seconds=10) as client:
        with pytest.raises(httpx.TransportError):
            await client._ask(b"{}")
