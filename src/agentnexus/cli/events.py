"""Follow a workflow's server-sent events; reconnects where it left off."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx

RECONNECTS_MAX = 20


async def follow(client: httpx.AsyncClient, path: str) -> AsyncIterator[dict[str, object]]:
    """Yield ``{type, data, seq, at}`` until the server ends the stream; nothing twice, nothing missed."""
    last = 0
    for _ in range(RECONNECTS_MAX):
        try:
            async with client.stream("GET", path, params={"after": last}, timeout=None) as answer:
                async for event in _parse(answer.aiter_lines()):
                    sequence = event.get("seq")
                    last = sequence if isinstance(sequence, int) else last
                    yield event
            return
        except httpx.RemoteProtocolError:
            continue  # the server restarted: go on after the last event seen


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
