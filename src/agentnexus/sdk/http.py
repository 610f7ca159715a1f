"""As much HTTP/1.1 as the agent contract needs, on asyncio alone: one bounded request per connection."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from urllib.parse import parse_qs

HEADER_BYTES = 16 * 1024
BODY_BYTES = 64 * 1024 * 1024
REQUEST_SECONDS = 30.0
_REASONS = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}


class HttpError(Exception):
    """Answered as JSON ``{error: {code, message, next_step}}`` with this status."""

    def __init__(self, status: int, code: str, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, object] = {"error": {"code": code, "message": message, "next_step": next_step}}


@dataclass(frozen=True, slots=True)
class Request:
    """`headers` have lower-case names; `path` is without the query."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json_object(self) -> dict[str, object]:
        """Raises `HttpError` 400 for anything but a JSON object."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise HttpError(400, "invalid_input", "the body is not JSON", "Send a JSON object.") from error
        if not isinstance(value, dict):
            raise HttpError(400, "invalid_input", "the body is not a JSON object", "Send a JSON object.")
        return value


async def read_request(reader: asyncio.StreamReader, max_body_bytes: int = BODY_BYTES) -> Request:
    """Raises `HttpError` for what is malformed, too long, too slow; `EOFError` when nothing came."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            request_line, headers = _head(head)
            body = await _body(reader, headers, max_body_bytes)
    except TimeoutError:
        raise HttpError(408, "timeout", "the request did not arrive in time") from None
    except asyncio.LimitOverrunError:
        raise HttpError(431, "invalid_input", f"more than {HEADER_BYTES} bytes of header") from None
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise EOFError from None
        raise HttpError(400, "invalid_input", "the request was cut off") from None
    method, target = request_line
    # Cut by hand: the target is a path here, and reading it as a URL would find hosts (and faults) in it.
    path, _, asked = target.partition("?")
    query = {key: values[-1] for key, values in parse_qs(asked).items()}
    return Request(method, path, query, headers, body)


def response(status: int, body: dict[str, object]) -> bytes:
    """A whole JSON answer that closes the connection."""
    payload = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n".encode() + payload


def event_stream_head() -> bytes:
    """Events follow until the connection closes."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
        b"X-Accel-Buffering: no\r\nConnection: close\r\n\r\n"
    )


def _head(head: bytes) -> tuple[tuple[str, str], dict[str, str]]:
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        raise HttpError(400, "invalid_input", "not an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator or not name or name != name.strip():
            raise HttpError(400, "invalid_input", "a malformed header")
        headers[name.lower()] = value.strip()
    return (words[0], words[1]), headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str], max_bytes: int) -> bytes:
    if "transfer-encoding" in headers:
        raise HttpError(411, "invalid_input", "chunked bodies are not read", "Send Content-Length.")
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise HttpError(400, "invalid_input", "Content-Length is not a number")
    if int(text) > max_bytes:
        raise HttpError(413, "invalid_input", f"a body of over {max_bytes} bytes", "Send less.")
    return await reader.readexactly(int(text))
