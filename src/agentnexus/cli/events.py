"""Follow a workflow's server-sent events; reconnects where it left off."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import httpx

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.2


async def follow(client: httpx.AsyncClient, path: str) -> AsyncIterator[dict[str, object]]:
    """Yield ``{type, data, seq, at}`` until the server ends the stream; nothing twice, nothing missed.

    A server that restarts is waited for; the transport's error is raised when it stays away for a minute.
    """
    last = 0
    alone_since: float | None = None
    while True:
        try:
            async with client.stream("GET", path, params={"after": last}, timeout=None) as answer:
                alone_since = None
                async for event in _parse(answer.aiter_lines()):
                    sequence = event.get("seq")
                    last = sequence if isinstance(sequence, int) else last
                    yield event
            return
        except httpx.TransportError:
            now = time.monotonic()
            alone_since = alone_since if alone_since is not None else now
            if now - alone_since > PATIENCE_SECONDS:
                raise
            await asyncio.sleep(PAUSE_SECONDS)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The answer of `call`, which may be repeated: a server that restarts meanwhile is waited for."""
    started = time.monotonic()
    while True:
        try:
            return await call()
        except httpx.TransportError:
            if time.monotonic() - started > PATIENCE_SECONDS:
                raise
            await asyncio.sleep(PAUSE_SECONDS)


async def _parse(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, object]]:
    data: list[str] = []
    async for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].lstrip())
        elif not line and data:
            event = json.loads("\n".join(data))
            data.clear()
            if isinstance(event, dict) and "type" in event:
                yield event
