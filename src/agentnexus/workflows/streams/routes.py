"""Live events over WebSocket and as server-sent events, resumed by sequence."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response, WebSocket
from fastapi.responses import StreamingResponse
from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocketDisconnect, WebSocketState

from agentnexus.core.errors import NexusError
from agentnexus.identity.caller import Caller, caller
from agentnexus.platform.frames import writer
from agentnexus.platform.sentences import SentenceRoute
from agentnexus.workflows.dialect import connected_json
from agentnexus.workflows.service import Workflows
from agentnexus.workflows.streams.feed import Frame
from agentnexus.workflows.streams.streams import FellBehind, Streams

router = APIRouter(tags=["workflows"], route_class=SentenceRoute)
SEQUENCE_MAX = 2**31 - 1
KEEP_ALIVE_SECONDS = 15.0
SLOW_SECONDS = 10.0
TOO_SLOW = 4008
"""Close code: the client did not read what it was sent; it comes back with ``?after=SEQ``."""
REFUSED = 4004
Batches = AsyncGenerator[Sequence[Frame], None]


def streams_of(connection: HTTPConnection) -> Streams:
    """``app.state.streams`` is set in bootstrap."""
    found: Streams = connection.app.state.streams
    return found


def workflows_of(connection: HTTPConnection) -> Workflows:
    found: Workflows = connection.app.state.workflows
    return found


Who = Annotated[Caller, Depends(caller)]


@router.get("/workflows/{workflow_id}/events", response_class=StreamingResponse)
async def events(
    workflow_id: str,
    request: Request,
    who: Who,
    after: Annotated[int, Query(ge=0, le=SEQUENCE_MAX)] = 0,
    last_event_id: Annotated[str, Header()] = "",
) -> Response:
    """Server-sent events; `Last-Event-ID` goes on where the connection broke."""
    newest = await workflows_of(request).newest(workflow_id, who.acts_for)
    is_ours = re.fullmatch(r"[0-9]{1,9}", last_event_id) is not None
    batches = streams_of(request).follow(workflow_id, int(last_event_id) if is_ours else after, newest)
    return StreamingResponse(
        server_sent(batches),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def server_sent(batches: Batches) -> AsyncIterator[str]:
    """Frames of SSE, with a comment when nothing happened for a while, so that proxies keep the connection.

    Who does not read is ended with an event called ``slow``.
    """
    waiting: asyncio.Task[Sequence[Frame]] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(_next(batches))
            done, _ = await asyncio.wait([waiting], timeout=KEEP_ALIVE_SECONDS)
            if not done:
                yield ": still here\n\n"
                continue
            try:
                frames = waiting.result()
            except StopAsyncIteration:
                yield "event: end\ndata: {}\n\n"
                return
            except FellBehind:
                yield "event: slow\ndata: {}\n\n"
                return
            waiting = None
            yield "".join(f"id: {each.sequence}\nevent: {each.name}\ndata: {each.text}\n\n" for each in frames)
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.wait([waiting])
        await batches.aclose()


async def _next(batches: Batches) -> Sequence[Frame]:
    return await anext(batches)


@router.websocket("/workflows/{workflow_id}/stream")
async def stream(websocket: WebSocket, workflow_id: str, after: int | None = None) -> None:
    """Events as ``{type, data, seq, at}``; without `after` a ``connected`` message comes first.

    Closes with 1000 after the last event, with 4008 when the client does not read, with 4004 when it may not.
    """
    await websocket.accept()
    try:
        who = await caller(websocket)
        newest = await workflows_of(websocket).newest(workflow_id, who.acts_for)
    except NexusError as error:
        await websocket.send_json({"type": "error", "data": error.to_json()})
        await websocket.close(REFUSED, error.message[:120])
        return
    streams = streams_of(websocket)
    if after is None:
        await websocket.send_json(connected_json(workflow_id, streams.clock.now()))
    batches = streams.follow(workflow_id, min(max(after or 0, 0), SEQUENCE_MAX), newest, writer(websocket))
    await _while_connected(websocket, batches)


async def _while_connected(websocket: WebSocket, batches: Batches) -> None:
    """Send until the end or until the client is gone, whichever is first; what it says is not for us."""
    sending = asyncio.ensure_future(_send(websocket, batches))
    listening = asyncio.ensure_future(_until_gone(websocket))
    try:
        await asyncio.wait([sending, listening], return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
        listening.cancel()
        await asyncio.gather(sending, listening, return_exceptions=True)
    if sending.cancelled() or websocket.client_state is WebSocketState.DISCONNECTED:
        return
    code, reason = sending.result()
    with suppress(WebSocketDisconnect, RuntimeError):  # one that never reads again is ended by the server's own pings
        await websocket.close(code, reason)


async def _send(websocket: WebSocket, batches: Batches) -> tuple[int, str]:
    """The close code and reason to end with."""
    patience = Patience()
    try:
        async with aclosing(batches):
            async for frames in batches:
                with patience:
                    for frame in frames:
                        await websocket.send_text(frame.text)
    except (TimeoutError, FellBehind):
        return TOO_SLOW, "too slow: come back with ?after=SEQ"
    except WebSocketDisconnect:
        return 1006, ""
    return 1000, ""


class Patience:
    """``with patience:`` raises `TimeoutError` when the block takes too long. One timer for many blocks.

    `asyncio.timeout` makes a timer for each block, which costs as much as sending an event does.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._began: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ran_out = False

    def __enter__(self) -> None:
        self._began = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(SLOW_SECONDS, self._look)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._began = None
        if self._ran_out and kind is asyncio.CancelledError and self._task is not None and self._task.uncancel() == 0:
            raise TimeoutError

    def _look(self) -> None:
        self._timer = None
        if self._began is None or self._task is None:
            return
        left = self._began + SLOW_SECONDS - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._ran_out = True
            self._task.cancel()


async def _until_gone(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
