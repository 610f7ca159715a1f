"""Strangers' addresses: only the open internet is asked, whatever their names resolve to, now or a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from agentnexus.platform.outbound import OutboundTransport


class Inside:
    """A service on loopback that must not be reached; counts who came."""

    def __init__(self) -> None:
        self.visits = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()


@pytest.fixture
async def inside() -> AsyncIterator[Inside]:
    inside = Inside()
    server = await asyncio.start_server(inside.serve, "127.0.0.1", 0)
    inside.port = server.sockets[0].getsockname()[1]
    async with server:
        yield inside


def names(*answers: list[str]) -> object:
    """A name service that gives each answer in turn."""
    left = list(answers)

    async def resolve(_host: str, _port: int) -> list[str]:
        return left.pop(0)

    return resolve


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["192.168.1.1"], ["::1"], ["fd00::1"], ["0.0.0.0"],
        ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["fe80::1%eth0"], ["93.184.216.34", "127.0.0.1"], [],
    ],
)  # fmt: skip
async def test_a_name_that_leads_inside_is_not_asked(inside: Inside, addresses: list[str]) -> None:
    transport = OutboundTransport(allow_loopback=False, resolve=names(addresses))  # type: ignore[arg-type]  # a stub
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(httpx.ConnectError, match="not on the open internet"):
            await client.get(f"http://seller.example:{inside.port}/")
    assert inside.visits == 0


async def test_an_address_written_as_numbers_is_checked_like_any_other(inside: Inside) -> None:
    async with httpx.AsyncClient(transport=OutboundTransport(allow_loopback=False)) as client:
        for host in ("127.0.0.1", "[::1]", "localhost", "[::ffff:127.0.0.1]"):
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://{host}:{inside.port}/")
    assert inside.visits == 0


async def test_this_machine_is_asked_only_where_that_is_wanted_and_nothing_else_private(inside: Inside) -> None:
    async with httpx.AsyncClient(transport=OutboundTransport(allow_loopback=True)) as client:
        assert (await client.get(f"http://127.0.0.1:{inside.port}/")).text == "hi"
        with pytest.raises(httpx.ConnectError):
            await client.get("http://169.254.169.254/latest/meta-data")
    assert inside.visits == 1


async def test_the_operators_own_host_is_asked_wherever_it_is(inside: Inside) -> None:
    transport = OutboundTransport(
        allow_loopback=False,
        trusted=["api.internal"],
        resolve=names(["127.0.0.1"], ["127.0.0.1"]),  # type: ignore[arg-type]  # a stub
    )
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await client.get(f"http://api.internal:{inside.port}/")).text == "hi"
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://other.internal:{inside.port}/")


async def test_an_unknown_name_and_a_silent_name_server_are_connection_errors() -> None:
    async def unknown(_host: str, _port: int) -> list[str]:
        raise OSError("no such name")

    async def silent(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async with httpx.AsyncClient(transport=OutboundTransport(allow_loopback=False, resolve=unknown)) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://nobody.example/")
    async with httpx.AsyncClient(transport=OutboundTransport(allow_loopback=False, resolve=silent)) as client:
        with pytest.raises(httpx.ConnectTimeout):
            await client.get("http://nobody.example/", timeout=0.01)
