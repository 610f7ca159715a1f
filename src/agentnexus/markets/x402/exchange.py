"""One HTTP exchange over ASGI: read the request whole, keep or pass on the answer, send stored answers."""

from __future__ import annotations

import hashlib
import json
from typing import TypeAlias

from starlette.types import Message, Receive, Send

from agentnexus.core.errors import LimitExceeded
from agentnexus.markets.x402.reservations import StoredResponse

HeaderList: TypeAlias = "list[tuple[bytes, bytes]]"

NOT_REPLAYED = frozenset({"date", "server", "connection", "keep-alive", "transfer-encoding"})


class Disconnected(Exception):
    """The client went away before it had sent its request."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole request body; raises `LimitExceeded` past `limit`, `Disconnected` when the client leaves."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise LimitExceeded(
                f"the request body is larger than {limit} bytes", next_step="send less", limit="request_bytes"
            )
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body again, then whatever the server says."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def request_hash(method: str, path: str, query: bytes, body: bytes) -> str:
    """What a payment is bound to: verb, path, query and body of the request."""
    head = json.dumps([method, path, query.decode("latin-1")]).encode()
    return "sha256:" + hashlib.sha256(head + b"\n" + hashlib.sha256(body).digest()).hexdigest()


class Capture:
    """Collects a handler's response instead of sending it; at most `limit` bytes of body."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._status = 0
        self._headers: HeaderList = []
        self._parts: list[bytes] = []
        self._size = 0
        self.overflowed = False
        self.complete = False

    def take(self, message: Message) -> None:
        """Keep one message of the response."""
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body")
            part = message.get("body", b"")
            self._size += len(part)
            if self._size > self._limit:
                self.overflowed = True
                self._parts.clear()
            else:
                self._parts.append(part)

    async def send(self, message: Message) -> None:
        """An ASGI `send` that only keeps; raises `LimitExceeded` into the handler when the answer is too large."""
        self.take(message)
        if self.overflowed:
            raise LimitExceeded(
                f"the answer is larger than {self._limit} bytes, the most that is kept until it is paid",
                next_step="mark the route as streaming, or raise its max_response_bytes",
                limit="response_bytes",
            )

    def response(self) -> StoredResponse:
        """What was collected; an app that answered nothing is a 500."""
        headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in self._headers
            if name.decode("latin-1").lower() not in NOT_REPLAYED
        )
        return StoredResponse(self._status or 500, headers, b"".join(self._parts))


def json_response(status: int, content: object, extra: HeaderList | None = None) -> StoredResponse:
    """A small JSON answer of our own."""
    headers = [("content-type", "application/json"), ("cache-control", "no-store")]
    headers += [(name.decode("latin-1"), value.decode("latin-1")) for name, value in extra or ()]
    return StoredResponse(status, tuple(headers), json.dumps(content, separators=(",", ":")).encode())


async def send_response(send: Send, response: StoredResponse, extra: HeaderList | None = None) -> None:
    """Send a stored response, with `extra` headers added and its length set."""
    headers = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers
        if name != "content-length"
    ]
    headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers + (extra or [])})
    await send({"type": "http.response.body", "body": response.body})
