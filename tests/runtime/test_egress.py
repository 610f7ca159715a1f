"""The egress proxy lets through exactly the allowed names, at public addresses, and remembers every attempt."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from agentnexus.platform.outbound import is_public
from agentnexus.runtime.egress import HEADER_BYTES, EgressProxy, EgressRecord
from tests.runtime.conftest import HOSTILE, audited, collect, write_agent


class Target:
    """A server behind an allowed name: answers with what it got, in upper case."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while chunk := await reader.read(4096):
            writer.write(chunk.upper())
            await writer.drain()
        writer.close()


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    target = Target()
    async with await asyncio.start_server(target.serve, "127.0.0.1", 0) as server:
        target.port = server.sockets[0].getsockname()[1]
        yield target


class Door:
    """A proxy on a free port, its records, and a client for it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.records: list[EgressRecord] = []
        self.recorded = asyncio.Event()

    def audit(self, record: EgressRecord) -> None:
        self.records.append(record)
        self.recorded.set()

    async def say(self, request: bytes) -> bytes:
        """Send and read until the proxy closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        await self.recorded.wait()
        return answer


@contextlib.asynccontextmanager
async def door(
    hosts: list[str], addresses: list[list[str]] | None = None, *, loopback: bool = False, header_seconds: float = 5.0
) -> AsyncIterator[Door]:
    """`addresses` are the resolver's answers, one after the other, the last one for ever."""
    answers = addresses or [["127.0.0.1"]]
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        if not found:
            raise OSError("no such name")
        return found

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    opened = Door(listener.getsockname()[1])
    proxy = EgressProxy(
        hosts, audit=opened.audit, resolve=resolve, allow_loopback=loopback, header_seconds=header_seconds
    )
    task = asyncio.create_task(proxy(listener))
    try:
        yield opened
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def connect(target: str) -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("latin-1")


async def talk(opened: Door, target: str, data: bytes = b"ping") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", opened.port)
    writer.write(connect(target))
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head
    writer.write(data)
    answer = await reader.readexactly(len(data))
    writer.close()
    await writer.wait_closed()
    await opened.recorded.wait()
    return answer


async def test_an_allowed_name_is_reached_and_recorded(target):
    async with door([f"api.example.com:{target.port}"], loopback=True) as opened:
        assert await talk(opened, f"api.example.com:{target.port}") == b"PING"
    (record,) = opened.records
    assert (record.host, record.port, record.verdict, record.address) == (
        "api.example.com",
        target.port,
        "allowed",
        "127.0.0.1",
    )
    assert (record.bytes_up, record.bytes_down) == (4, 4)


@pytest.mark.parametrize("spelling", ["API.Example.COM", "api.example.com."])
async def test_case_and_final_dot_do_not_matter(target, spelling):
    async with door([f"api.example.com:{target.port}"], loopback=True) as opened:
        assert await talk(opened, f"{spelling}:{target.port}") == b"PING"


@pytest.mark.parametrize(
    ("request_target", "status"),
    [
        ("evil.example:443", "403"),
        ("sub.api.example.com:443", "403"),
        ("api.example.com.evil.example:443", "403"),
        ("api.example.com:80", "403"),
        ("93.184.216.34:443", "403"),
        ("2130706433:443", "403"),
        ("0x7f.1:443", "403"),
        ("[::1]:443", "400"),
        ("[api.example.com]:443", "400"),
        ("user@api.example.com:443", "400"),
        ("api.example.com..:443", "400"),
        ("api.example.com", "400"),
        ("api.example.com:", "400"),
        ("api.example.com:443:443", "400"),
        ("api.example.com\0.evil.example:443", "400"),
        ("api.example.com%2eevil:443", "400"),
        (":443", "400"),
        ("äpi.example.com:443", "400"),
    ],
)
async def test_anything_but_the_exact_name_and_port_is_refused(request_target, status):
    async with door(["api.example.com"], [["93.184.216.34"]]) as opened:
        answer = await opened.say(connect(request_target))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    (record,) = opened.records
    assert record.verdict == "denied"
    assert record.reason.encode() in answer
    assert record.host.isprintable()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:93.184.216.34",
        "64:ff9b::a00:1",
        "64:ff9b:1::a00:1",
        "2002:a00:1::",
        "2001:0:1::1",
        "::10.0.0.1",
    ],
)
async def test_a_name_that_leads_to_a_private_address_is_refused(address):
    assert not is_public(address)
    async with door(["api.example.com"], [[address]]) as opened:
        answer = await opened.say(connect("api.example.com:443"))
    assert b"403" in answer
    assert b"no public address" in answer


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111"])
def test_public_addresses_are_public(address):
    assert is_public(address)


async def test_the_checked_address_is_the_dialled_one_when_the_name_changes(target):
    """Rebinding: the name is asked once, so a second, private answer never matters."""
    async with door(
        [f"api.example.com:{target.port}"], [["10.0.0.1", "127.0.0.1"], ["10.0.0.1"]], loopback=True
    ) as opened:
        assert await talk(opened, f"api.example.com:{target.port}") == b"PING"
    assert opened.records[0].address == "127.0.0.1"


async def test_loopback_is_refused_unless_a_test_asks_for_it(target):
    async with door([f"api.example.com:{target.port}"]) as opened:
        assert b"403" in await opened.say(connect(f"api.example.com:{target.port}"))
    assert target.connections == 0


async def test_the_test_exception_opens_loopback_only():
    async with door(["api.example.com"], [["10.0.0.1"]], loopback=True) as opened:
        assert b"403" in await opened.say(connect("api.example.com:443"))


async def test_a_name_that_does_not_exist_is_told():
    async with door(["api.example.com"], [[]]) as opened:
        assert b"the name is not known" in await opened.say(connect("api.example.com:443"))


async def test_a_host_that_does_not_answer_is_told():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with door([f"api.example.com:{port}"], loopback=True) as opened:
            assert b"502" in await opened.say(connect(f"api.example.com:{port}"))
    assert opened.records[0].verdict == "failed"


@pytest.mark.parametrize("method", ["GET http://api.example.com/ HTTP/1.1", "POST / HTTP/1.1", "connect a:1 HTTP/1.1"])
async def test_plain_requests_are_refused_with_the_way_out(method):
    async with door(["api.example.com"]) as opened:
        answer = await opened.say(method.encode() + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"use https" in answer


async def test_a_second_connect_in_the_same_breath_is_data_for_the_target(target):
    async with door([f"api.example.com:{target.port}"], loopback=True) as opened:
        second = connect("evil.example:443")
        reader, writer = await asyncio.open_connection("127.0.0.1", opened.port)
        writer.write(connect(f"api.example.com:{target.port}") + second)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(second)) == second.upper()
        writer.close()
        await opened.recorded.wait()
    assert [record.host for record in opened.records] == ["api.example.com"]


async def test_a_header_that_drips_is_dropped():
    async with door(["api.example.com"], header_seconds=0.05) as opened:
        assert (await opened.say(b"CONNECT api.exam")).startswith(b"HTTP/1.1 408 ")


async def test_a_header_that_is_too_long_is_refused():
    async with door(["api.example.com"]) as opened:
        request = b"CONNECT api.example.com:443 HTTP/1.1\r\nX: " + b"x" * (2 * HEADER_BYTES)
        assert (await opened.say(request)).startswith(b"HTTP/1.1 431 ")


async def test_a_client_that_leaves_in_the_header_is_recorded():
    async with door(["api.example.com"]) as opened:
        _, writer = await asyncio.open_connection("127.0.0.1", opened.port)
        writer.write(b"CONN")
        writer.close()
        await opened.recorded.wait()
    assert opened.records[0].reason == "the request was cut off"


async def test_an_agent_reaches_its_hosts_and_nothing_else_and_both_are_audited(sandbox_once, tmp_path, target):
    code = (HOSTILE / "network.py").read_text()
    rest = f'[egress]\nhosts = ["target.example:{target.port}"]'
    bundle = await sandbox_once.prepare(write_agent(tmp_path / "agent", code, name="egress", rest=rest))
    audited.clear()
    allowed = await collect(sandbox_once, bundle, {"do": "proxy", "host": "target.example", "port": target.port})
    assert "200 Connection established" in str(allowed.output["outcome"])
    assert "PING" in str(allowed.output["outcome"])
    denied = await collect(sandbox_once, bundle, {"do": "proxy", "host": "169.254.169.254", "port": 80})
    assert "403 Forbidden" in str(denied.output["outcome"])
    direct = await collect(sandbox_once, bundle, {"do": "connect", "host": "1.1.1.1", "port": 443})
    assert str(direct.output["outcome"]).startswith("OSError 101")
    assert [(row.host, row.verdict) for _, row in audited] == [
        ("target.example", "allowed"),
        ("169.254.169.254", "denied"),
    ]


async def test_an_agent_without_hosts_has_no_proxy_at_all(sandbox_once, tmp_path):
    code = (HOSTILE / "network.py").read_text()
    bundle = await sandbox_once.prepare(write_agent(tmp_path / "agent", code, name="no-egress"))
    ended = await collect(sandbox_once, bundle, {"do": "proxy", "host": "example.com", "port": 443})
    assert str(ended.output["outcome"]).startswith("ConnectionRefusedError")
