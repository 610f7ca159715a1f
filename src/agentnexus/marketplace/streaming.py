"""Events as server-sent events: the stream of a run and of a purchase, and where a reader left off."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from agentnexus.core.errors import InvalidInput
from agentnexus.core.events import Event
from agentnexus.marketplace.executions.model import event_json

HEARTBEAT_SECONDS = 15.0
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def streamed(events: AsyncIterator[Event], *, is_sold: bool = False) -> StreamingResponse:
    """The answer that follows `events` to their end. `is_sold` hides the work of a run."""
    return StreamingResponse(sse(events, is_sold=is_sold), media_type="text/event-stream", headers=HEADERS)


async def sse(events: AsyncIterator[Event], *, is_sold: bool = False) -> AsyncIterator[bytes]:
    """Frames ``id / event / data``, with a comment now and then so that proxies keep the connection."""
    following = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=HEARTBEAT_SECONDS)
            if not done:
                yield b": still here\n\n"
                continue
            event = following.result()
            if event is None:
                return
            body = json.dumps(event_json(event, is_sold=is_sold), separators=(",", ":"))
            yield f"id: {event.sequence}\nevent: {event.name}\ndata: {body}\n\n".encode()
            following = asyncio.ensure_future(anext(events, None))
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


def position(after: int, last_event_id: str | None) -> int:
    """The sequence to go on after; ``Last-Event-ID`` counts more. Raises `InvalidInput` for one that is not ours."""
    if not last_event_id:
        return after
    if not last_event_id.isdecimal() or len(last_event_id) > 9:
        raise InvalidInput("Last-Event-ID is not one of ours", next_step="leave it out", field="Last-Event-ID")
    return int(last_event_id)
