"""``/executions/{id}``, its logs, its live stream and its cancel button, below the prefix they are put at.

The id of an execution is not guessable: who has it may watch the run and end it. The work of a run that is sold is not
shown here: its buyer has it from the paid answer, and nobody has it before the payment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from agentnexus.core.errors import InvalidInput
from agentnexus.core.events import Event
from agentnexus.core.ports import Clock
from agentnexus.marketplace.envelope import envelope
from agentnexus.marketplace.executions.model import event_json
from agentnexus.marketplace.executions.service import Executions

HEARTBEAT_SECONDS = 15.0
After = Annotated[int, Query(ge=0, le=2**31 - 1)]


def execution_routes(executions: Executions, clock: Clock) -> APIRouter:
    """The router."""
    router = APIRouter(tags=["executions"])

    @router.get("/executions/{execution_id}")
    async def execution(execution_id: str) -> dict[str, object]:
        """State, result or error, figures."""
        return envelope((await executions.get(execution_id)).to_json(), clock)

    @router.get("/executions/{execution_id}/logs")
    async def logs(execution_id: str, after: After = 0) -> dict[str, object]:
        """What the agent said, in order."""
        is_sold = (await executions.get(execution_id)).is_sold
        said = await executions.logs(execution_id, after)
        return envelope([event_json(event, is_sold=is_sold) for event in said], clock)

    @router.post("/executions/{execution_id}/cancel")
    async def cancel(execution_id: str) -> dict[str, object]:
        """Ask for its end; a finished one stays as it is."""
        return envelope((await executions.cancel(execution_id)).to_json(), clock)

    @router.get("/executions/{execution_id}/stream", response_class=StreamingResponse)
    async def stream(
        execution_id: str, after: After = 0, last_event_id: Annotated[str | None, Header()] = None
    ) -> StreamingResponse:
        """Every event as server-sent events, from `after` or ``Last-Event-ID`` on, until the run ends."""
        is_sold = (await executions.get(execution_id)).is_sold
        start = _sequence(last_event_id) if last_event_id else after
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        frames = sse(executions.events(execution_id, start), is_sold=is_sold)
        return StreamingResponse(frames, media_type="text/event-stream", headers=headers)

    return router


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


def _sequence(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise InvalidInput("Last-Event-ID is not one of ours", next_step="leave it out", field="Last-Event-ID")
    return int(text)
