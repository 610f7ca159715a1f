"""Frames between an agent and its supervisor: four bytes of length, then JSON. Both ends trust only the length."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from collections.abc import Mapping
from typing import Never

_LENGTH = struct.Struct(">I")
_BIG_FRAME_BYTES = 128 * 1024


class BadFrame(Exception):
    """The other end broke the protocol; the text says how."""


def encode(message: Mapping[str, object]) -> bytes:
    """Raises `ValueError` for what JSON cannot carry (NaN, cycles) and `TypeError` for foreign types."""
    body = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
    return _LENGTH.pack(len(body)) + body


def read_blocking(connection: socket.socket) -> dict[str, object]:
    """The next frame, for the agent's side. Raises `EOFError` when the supervisor is gone."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return parse(_exactly(connection, length))


async def read(reader: asyncio.StreamReader, max_bytes: int) -> dict[str, object] | None:
    """The next frame, None at the end. Raises `BadFrame` for too long, cut off, not JSON or too deep."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadFrame("a message was cut off") from error
        return None
    if length > max_bytes:
        raise BadFrame(f"a message of {length} bytes is longer than {max_bytes}")
    try:
        body = await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise BadFrame("a message was cut off") from error
    # Parsing megabytes would hold up every other run of this process.
    return parse(body) if length < _BIG_FRAME_BYTES else await asyncio.to_thread(parse, body)


def parse(body: bytes) -> dict[str, object]:
    """A JSON object. Raises `BadFrame`."""
    try:
        value = json.loads(body, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as error:
        raise BadFrame("a message is nested too deeply") from error
    except ValueError as error:
        raise BadFrame(f"a message is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadFrame("a message is not an object")
    return value


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _exactly(connection: socket.socket, count: int) -> bytes:
    buffer = bytearray()
    while len(buffer) < count:
        part = connection.recv(min(count - len(buffer), 1 << 20))
        if not part:
            raise EOFError
        buffer += part
    return bytes(buffer)
