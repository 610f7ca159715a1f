"""The HTTP server of the agent contract, for containers and other languages' hosts: TCP port 8000 or a unix socket.

``python -m agentnexus.sdk.serve FOLDER [--port 8000 | --socket PATH]``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from agentnexus.sdk import http
from agentnexus.sdk.agent import Agent
from agentnexus.sdk.context import Context, Emit
from agentnexus.sdk.execute import ErrorBody, Outcome, execute
from agentnexus.sdk.local import open_folder
from agentnexus.sdk.manifest import Manifest
from agentnexus.sdk.sse import Stream

DEFAULT_PORT = 8000
KEPT_EXECUTIONS = 100
_HTTP_STATUS = {
    "invalid_input": 400,
    "agent_refused": 422,
    "limit_exceeded": 413,
    "cancelled": 409,
    "agent_timeout": 408,
}


@dataclass(slots=True)
class Execution:
    """One run on this server; kept for a while after its end, so that a repeat gets the same answer."""

    execution_id: str
    input: object
    stream: Stream = field(default_factory=Stream)
    logs: list[dict[str, object]] = field(default_factory=list)
    metering: dict[str, int] = field(default_factory=dict)
    task: asyncio.Task[Outcome] | None = None
    cancelled: bool = False

    def emit(self, event_type: str, data: dict[str, object]) -> None:
        if event_type == "log":
            self.logs.append(data)
        elif event_type == "metric":
            self.metering[str(data["name"])] = int(str(data["value"]))
        elif event_type == "charge":
            name = f"charge:{data['event']}"
            self.metering[name] = self.metering.get(name, 0) + int(str(data["count"]))
        self.stream.add(event_type, data)

    def answer(self, outcome: Outcome) -> dict[str, object]:
        """``{status, output, error, logs, metering}``."""
        return {**outcome.to_json(), "logs": self.logs, "metering": self.metering}


class AgentServer:
    """Serves one agent: ``async with AgentServer(manifest, agent).on_port(0) as port``, or ``on_socket(path)``."""

    def __init__(self, manifest: Manifest, agent: Agent[..., object]) -> None:
        self._manifest = manifest
        self._agent = agent
        self._executions: OrderedDict[str, Execution] = OrderedDict()

    @contextlib.asynccontextmanager
    async def on_port(self, port: int = DEFAULT_PORT, host: str = "127.0.0.1") -> AsyncIterator[int]:
        """Listen on TCP; 0 takes any free port. Yields the port."""
        server = await asyncio.start_server(self._serve, host, port, limit=http.HEADER_BYTES)
        async with self._ending(), server:
            yield int(server.sockets[0].getsockname()[1])

    @contextlib.asynccontextmanager
    async def on_socket(self, path: Path) -> AsyncIterator[Path]:
        """Listen on a unix socket, for a sandbox without any network."""
        server = await asyncio.start_unix_server(self._serve, path, limit=http.HEADER_BYTES)
        async with self._ending(), server:
            yield path

    @contextlib.asynccontextmanager
    async def _ending(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            tasks = [execution.task for execution in self._executions.values() if execution.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._route(await http.read_request(reader), writer)
        except http.HttpError as error:
            writer.write(http.response(error.status, error.body))
        except (EOFError, ConnectionError):
            pass  # The client left; its run goes on and can be asked for again.
        finally:
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            writer.close()

    async def _route(self, request: http.Request, writer: asyncio.StreamWriter) -> None:
        match request.method, request.path.rstrip("/").split("/")[1:]:
            case "GET", ["health"] | ["ping"]:
                writer.write(http.response(200, self._health()))
            case "GET", ["manifest"]:
                writer.write(http.response(200, self._description()))
            case "POST", ["execute"] | ["invocations"]:
                await self._execute(request, writer)
            case "POST", ["execute", execution_id, "cancel"]:
                writer.write(http.response(202, self._cancel(execution_id)))
            case "GET", ["execute", execution_id, "events"]:
                await _stream(self._known(execution_id), _last_event(request), writer)
            case _:
                raise http.HttpError(404, "not_found", f"no {request.method} {request.path}", "See GET /manifest.")

    def _health(self) -> dict[str, object]:
        running, slots = self._running(), self._manifest.limits.concurrency
        return {
            "status": "READY" if running < slots else "BUSY",
            "running": running,
            "slots": slots,
            "name": self._manifest.name,
            "version": self._manifest.version,
        }

    def _description(self) -> dict[str, object]:
        return {
            "manifest": self._manifest.model_dump(mode="json"),
            "manifest_hash": self._manifest.content_hash,
            "input": self._agent.input_schema,
            "output": self._agent.output_schema,
        }

    def _running(self) -> int:
        return sum(1 for execution in self._executions.values() if execution.task and not execution.task.done())

    async def _execute(self, request: http.Request, writer: asyncio.StreamWriter) -> None:
        execution = self._started(request)
        if "text/event-stream" in request.headers.get("accept", ""):
            await _stream(execution, 0, writer)
            return
        assert execution.task is not None
        # Shielded: the run goes on when the client leaves, and a repeat finds its answer.
        outcome = await asyncio.shield(execution.task)
        status = 200 if outcome.error is None else _HTTP_STATUS.get(outcome.error.code, 500)
        writer.write(http.response(status, execution.answer(outcome)))

    def _started(self, request: http.Request) -> Execution:
        """The execution asked for: a new one, or the one that already has this id and the same input."""
        body = request.json_object()
        own_id = request.headers.get("x-execution-id") or str(body.get("execution_id") or uuid.uuid4())
        known = self._executions.get(own_id)
        if known is not None:
            if known.input != body.get("input"):
                raise http.HttpError(409, "conflict", "this execution id had another input", "Use a new id.")
            return known
        if self._running() >= self._manifest.limits.concurrency:
            raise http.HttpError(429, "rate_limited", "every place is taken", "Try again in a moment.")
        execution = Execution(own_id, body.get("input"))
        context = Context(
            own_id,
            emit=_from_any_thread(execution),
            secrets=_texts(body.get("secrets")),
            user_id=request.headers.get("x-user-id", ""),
            metadata=_object(body.get("metadata")),
            timeout_seconds=self._manifest.limits.timeout_seconds,
        )
        execution.task = asyncio.create_task(self._run(execution, context))
        self._remember(execution)
        return execution

    def _remember(self, execution: Execution) -> None:
        self._executions[execution.execution_id] = execution
        for execution_id, kept in list(self._executions.items()):
            if len(self._executions) <= KEPT_EXECUTIONS:
                break
            if kept.task is not None and kept.task.done():
                del self._executions[execution_id]

    async def _run(self, execution: Execution, context: Context) -> Outcome:
        started = time.monotonic()
        execution.stream.add("start", {"execution_id": execution.execution_id})
        try:
            async with asyncio.timeout(self._manifest.limits.timeout_seconds):
                outcome = await execute(self._agent, execution.input, context)
        except TimeoutError:
            message = f"not done after {self._manifest.limits.timeout_seconds:g} seconds"
            outcome = Outcome("failed", error=ErrorBody("agent_timeout", message, "Send less."))
        except asyncio.CancelledError:
            if not execution.cancelled:
                raise
            outcome = Outcome("cancelled", error=ErrorBody("cancelled", "The run was cancelled."))
        execution.metering["wall_ms"] = int((time.monotonic() - started) * 1000)
        # What the agent's own thread said last is still on its way through the loop.
        await asyncio.sleep(0)
        execution.stream.add("completed", {**outcome.to_json(), "metering": execution.metering})
        return outcome

    def _cancel(self, execution_id: str) -> dict[str, object]:
        execution = self._known(execution_id)
        if execution.task is None or execution.task.done():
            raise http.HttpError(409, "conflict", "this execution has ended")
        execution.cancelled = True
        execution.task.cancel()
        return {"execution_id": execution_id, "status": "cancelling"}

    def _known(self, execution_id: str) -> Execution:
        execution = self._executions.get(execution_id)
        if execution is None:
            raise http.HttpError(404, "not_found", "no such execution here", "It may have ended long ago.")
        return execution


async def _stream(execution: Execution, after: int, writer: asyncio.StreamWriter) -> None:
    writer.write(http.event_stream_head())
    async for event in execution.stream.read(after):
        writer.write(event.encode())
        await writer.drain()


def _last_event(request: http.Request) -> int:
    """`Last-Event-ID` as a browser sends it when it connects again, or ``?after=``."""
    text = request.headers.get("last-event-id") or request.query.get("after", "0")
    if not (text.isascii() and text.isdigit()):
        raise http.HttpError(400, "invalid_input", "the last event id is not a number")
    return int(text)


def _from_any_thread(execution: Execution) -> Emit:
    """A sync agent runs in a thread; streams belong to the loop."""
    loop = asyncio.get_running_loop()

    def emit(event_type: str, data: dict[str, object]) -> None:
        loop.call_soon_threadsafe(execution.emit, event_type, data)

    return emit


def _object(value: object) -> dict[str, object]:
    if value is not None and not isinstance(value, dict):
        raise http.HttpError(400, "invalid_input", "metadata and secrets are JSON objects")
    return {str(key): item for key, item in (value or {}).items()}


def _texts(value: object) -> dict[str, str]:
    secrets = _object(value)
    if not all(isinstance(item, str) for item in secrets.values()):
        raise http.HttpError(400, "invalid_input", "secrets are texts")
    return {key: str(item) for key, item in secrets.items()}


async def _main(folder: Path, *, host: str, port: int, path: Path | None) -> None:
    server = AgentServer(*open_folder(folder))
    async with server.on_socket(path) if path is not None else server.on_port(port, host):
        await asyncio.get_running_loop().create_future()


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(description="Serve one agent over HTTP.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", default="127.0.0.1", help="in a container with its own network: 0.0.0.0")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--socket", type=Path, default=None)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(options.folder, host=options.host, port=options.port, path=options.socket))


if __name__ == "__main__":
    main()
