"""A JSON-RPC service of others, played from a script: bundlers, paymaster services, nodes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvicorn

from agentnexus.platform.process import listen_on, wait_until_ready
from agentnexus.rails.evm.rpc import Rpc, RpcValue


class Service:
    """A JSON-RPC service that answers from a script and remembers what it was asked.

    An answer is a result, ``{"error": …}``, ``{"error": …, "status": 400}`` for services that say it by HTTP as well,
    or a list of these: one for each time it is asked, the last one for ever.
    """

    def __init__(self, answers: dict[str, RpcValue | list[RpcValue]]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, list[RpcValue]]] = []
        self._status = 200

    async def __call__(
        self,
        scope: dict[str, object],
        receive: Callable[[], Awaitable[dict[str, object]]],
        send: Callable[[dict[str, object]], Awaitable[None]],
    ) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            part = message.get("body", b"")
            assert isinstance(part, bytes)
            body, more = body + part, bool(message.get("more_body"))
        request = json.loads(body)
        answers = request if isinstance(request, list) else [request]
        self._status = 200
        replies = [self._answer(each) for each in answers]
        content = json.dumps(replies if isinstance(request, list) else replies[0]).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _answer(self, request: dict[str, RpcValue]) -> dict[str, RpcValue]:
        method, parameters = str(request["method"]), request["params"]
        assert isinstance(parameters, list)
        self.asked.append((method, parameters))
        scripted = self.answers.get(method, {"error": {"code": -32601, "message": "no such method"}})
        if isinstance(scripted, list):
            scripted = scripted.pop(0) if len(scripted) > 1 else scripted[0]
        if isinstance(scripted, dict) and "error" in scripted:
            self._status = int(str(scripted.get("status", 200)))
            return {"jsonrpc": "2.0", "id": request["id"], "error": scripted["error"]}
        return {"jsonrpc": "2.0", "id": request["id"], "result": scripted}


@asynccontextmanager
async def serving(**answers: RpcValue | list[RpcValue]) -> AsyncIterator[tuple[Service, Rpc]]:
    service = Service(answers)
    listener = listen_on(0)
    assert listener is not None
    server = uvicorn.Server(uvicorn.Config(service, lifespan="off", log_level="critical", ws="none"))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve([listener]))

        async def started() -> bool:
            return server.started

        await wait_until_ready(started, what="the service", timeout_seconds=10)
        async with Rpc(f"http://127.0.0.1:{listener.getsockname()[1]}") as rpc:
            yield service, rpc
        server.should_exit = True
