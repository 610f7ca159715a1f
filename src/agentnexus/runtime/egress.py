"""The only way from an agent to the world: a CONNECT proxy that knows the run's hosts and checks every address.

Only CONNECT is spoken, so that what an agent exchanges with a host is TLS from end to end. The listening socket
belongs to one run: there is no header to forge. Names are resolved here, once, and the checked address is dialled.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from agentnexus.platform.outbound import Resolve, is_public, resolve_by_system
from agentnexus.runtime.text import clean

DEFAULT_PORT = 443
HEADER_BYTES = 8 * 1024
HEADER_SECONDS = 5.0
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 120.0
MAX_CONNECTIONS = 32
_CHUNK_BYTES = 64 * 1024
_TARGET = re.compile(r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)\.?:(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class EgressRecord:
    """One connection, for the audit trail and the network meter. `reason` is empty when allowed."""

    host: str
    port: int
    verdict: Literal["allowed", "denied", "failed"]
    reason: str = ""
    address: str = ""
    bytes_up: int = 0
    bytes_down: int = 0
    duration_ms: int = 0


class _Denied(Exception):
    def __init__(self, status: str, reason: str, host: str = "", port: int = 0) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.host = clean(host)[:253]
        self.port = port


@dataclass(slots=True)
class _Connection:
    """What is known so far: the record is written from it however the connection ends."""

    host: str = ""
    port: int = 0
    address: str = ""
    verdict: Literal["allowed", "denied", "failed"] = "failed"
    reason: str = "the run ended first"
    up: int = 0
    down: int = 0

    def record(self, duration_ms: int) -> EgressRecord:
        counts = (self.up, self.down, duration_ms)
        return EgressRecord(self.host, self.port, self.verdict, self.reason, self.address, *counts)


class EgressProxy:
    """Serves one run: ``await EgressProxy(hosts)(listening_socket)`` until cancelled.

    Args:
        hosts: ``name`` (port 443) or ``name:port``; compared exactly, without case and final dot.
        audit: told of each connection when it is over, denied ones too.
        resolve: the name service.
        allow_loopback: for tests only; lets allowed names lead to this machine.
        header_seconds: a client that has not sent its whole request by then is dropped.
    """

    def __init__(
        self,
        hosts: Iterable[str],
        *,
        audit: Callable[[EgressRecord], None] | None = None,
        resolve: Resolve = resolve_by_system,
        allow_loopback: bool = False,
        header_seconds: float = HEADER_SECONDS,
    ) -> None:
        self._allowed = {_host_and_port(host) for host in hosts}
        self._audit = audit
        self._resolve = resolve
        self._allow_loopback = allow_loopback
        self._header_seconds = header_seconds
        self._open: set[asyncio.Task[None]] = set()

    async def __call__(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._accept, sock=listener, limit=HEADER_BYTES)
        try:
            await server.serve_forever()
        finally:
            server.close()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._open.add(task)
        started = time.monotonic()
        connection = _Connection()
        try:
            await self._serve(reader, writer, connection)
        except _Denied as denied:
            connection.verdict, connection.reason = "denied", denied.reason
            connection.host, connection.port = denied.host, denied.port
            await _answer(writer, denied.status, denied.reason)
        except (OSError, TimeoutError) as error:
            connection.reason = clean(str(error) or type(error).__name__)
            await _answer(writer, "502 Bad Gateway", f"{connection.host} does not answer")
        finally:
            self._open.discard(task)
            writer.close()
            if self._audit is not None:
                self._audit(connection.record(int((time.monotonic() - started) * 1000)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection) -> None:
        connection.host, connection.port = self._check(await self._header(reader))
        connection.address = await self._address(connection.host, connection.port)
        async with asyncio.timeout(CONNECT_SECONDS):
            far_reader, far_writer = await asyncio.open_connection(connection.address, connection.port)
        connection.verdict, connection.reason = "allowed", ""

        def count_up(count: int) -> None:
            connection.up += count

        def count_down(count: int) -> None:
            connection.down += count

        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_copy(reader, far_writer, count_up), _copy(far_reader, writer, count_down))
        finally:
            far_writer.close()

    async def _header(self, reader: asyncio.StreamReader) -> str:
        try:
            async with asyncio.timeout(self._header_seconds):
                header = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            raise _Denied("408 Request Timeout", "the request did not arrive in time") from None
        except asyncio.LimitOverrunError:
            raise _Denied("431 Request Header Fields Too Large", f"more than {HEADER_BYTES} bytes of header") from None
        except asyncio.IncompleteReadError:
            raise _Denied("400 Bad Request", "the request was cut off") from None
        return header.partition(b"\r\n")[0].decode("latin-1")

    def _check(self, line: str) -> tuple[str, int]:
        method, _, rest = line.partition(" ")
        target, _, version = rest.partition(" ")
        if method != "CONNECT":
            raise _Denied("405 Method Not Allowed", "only CONNECT is served: use https", target)
        match = _TARGET.fullmatch(target)
        if match is None or not version.startswith("HTTP/1."):
            raise _Denied("400 Bad Request", "not of the form host:port", target)
        host, port = match["host"].lower(), int(match["port"])
        if (host, port) not in self._allowed:
            raise _Denied("403 Forbidden", "not among the agent's hosts", host, port)
        return host, port

    async def _address(self, host: str, port: int) -> str:
        try:
            found = await self._resolve(host, port)
        except OSError:
            raise _Denied("502 Bad Gateway", "the name is not known", host, port) from None
        for address in found:
            if is_public(address) or (self._allow_loopback and ipaddress.ip_address(address).is_loopback):
                return address
        raise _Denied("403 Forbidden", "the name leads to no public address", host, port)


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    return host.lower().removesuffix("."), int(port or DEFAULT_PORT)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]) -> None:
    """Until one side ends or nothing moves for long; passes the end on."""
    with contextlib.suppress(OSError, TimeoutError):
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                chunk = await reader.read(_CHUNK_BYTES)
            if not chunk:
                break
            writer.write(chunk)
            count(len(chunk))
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _answer(writer: asyncio.StreamWriter, status: str, reason: str) -> None:
    body = f"egress: {reason}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError):
        writer.write(head.encode() + body)
        await writer.drain()
