"""The chain's door: JSON-RPC over HTTP and websocket on one port, answered on the event loop's thread."""

from __future__ import annotations

import asyncio
import json
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentnexus.devnet.solana.engine import Chain
from agentnexus.devnet.solana.faults import Fault
from agentnexus.devnet.solana.methods import Dispatcher
from agentnexus.devnet.solana.parsed import Json
from agentnexus.devnet.solana.rpc_errors import PARSE_ERROR
from agentnexus.devnet.solana.subscriptions import serve_subscriptions

_BODY_MAX_BYTES = 1024 * 1024
_UNREADABLE: dict[str, Json] = {
    "jsonrpc": "2.0",
    "error": {"code": PARSE_ERROR, "message": "Parse error"},
    "id": None,
}


class ConnectionDropped(ConnectionResetError):
    """Raised after half an answer: the server then closes the connection, as a dying node would."""


def create_app(chain: Chain) -> ASGIApp:
    """An ASGI app; it must run on the thread that made `chain`."""
    dispatcher = Dispatcher(chain)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and _from_a_web_page(scope):
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "websocket":
            await serve_subscriptions(chain, dispatcher, receive, send)
        elif scope["type"] == "http":
            await _serve_http(chain, dispatcher, scope, receive, send)

    return app


async def keep_time(chain: Chain) -> None:
    """Tell subscribers about the clock's slots, for ever."""
    seconds = max(chain.pace.slot_milliseconds, 20) / 1000
    last = chain.slot
    while True:
        await asyncio.sleep(seconds)
        if chain.slot != last:
            last = chain.slot
            chain.changed()


async def _serve_http(chain: Chain, dispatcher: Dispatcher, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] == "GET" and scope["path"] == "/health":
        await _answer(send, 200, b"ok", b"text/plain")
        return
    if scope["method"] != "POST":
        await _answer(send, 405, b"Used HTTP Method is not allowed. POST or OPTIONS is required\n", b"text/plain")
        return
    if _from_a_web_page(scope):
        await _answer(send, 403, b"this development chain does not answer web pages\n", b"text/plain")
        return
    body = await _read(receive)
    if body is None:
        await _answer(send, 413, b"request body too large\n", b"text/plain")
        return
    if chain.faults.take(Fault.UNAVAILABLE):
        await _answer(send, 503, b"service unavailable\n", b"text/plain")
        return
    await _respond(chain, dispatcher, body, send)


async def _respond(chain: Chain, dispatcher: Dispatcher, body: bytes, send: Send) -> None:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        await _answer(send, 200, json.dumps(_UNREADABLE).encode())
        return
    # Asked of this request alone: a fault that is due waits for a send. Control methods pass faults by.
    dropped = b'"sendTransaction"' in body and chain.faults.take(Fault.DROP_ANSWER)
    answers = [dispatcher.answer(each) for each in request] if isinstance(request, list) else dispatcher.answer(request)
    encoded = json.dumps(answers, separators=(",", ":")).encode()
    if dropped:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000")]})
        raise ConnectionDropped("a fault that was ordered")
    await _answer(send, 200, encoded)


def _from_a_web_page(scope: Scope) -> bool:
    """A page that is open in a browser on this machine must not spend or reset what is on the chain."""
    origin = dict(scope["headers"]).get(b"origin")
    if origin is None:
        return False
    return re.fullmatch(rb"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?", origin) is None


async def _read(receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    while True:
        message: Message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > _BODY_MAX_BYTES:
            return None
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def _answer(send: Send, status: int, body: bytes, kind: bytes = b"application/json") -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
