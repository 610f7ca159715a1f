"""Ten thousand live streams in one process: how fast they connect, how late each hears of an event, what that costs.

``python -m bench.streams [--streams 10000] [--events 20]`` prints JSON. The server is the real one (tokens, ownership,
the reader on the database); the clients are bare sockets that only note when bytes came. Server and clients share the
machine, and with two cores they are in each other's way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import cast

import psutil
import uvicorn
import uvloop
from fastapi import FastAPI

from agentnexus.core.clock import SystemEntropy
from agentnexus.core.errors import Unavailable
from agentnexus.core.offers import Need
from agentnexus.core.payments import Receipt
from agentnexus.hiring.model import Hired
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.database import Database
from agentnexus.platform.embedded import EmbeddedPostgres
from agentnexus.platform.frames import FramedProtocol
from agentnexus.platform.migrations.run import migrate
from agentnexus.platform.process import die_with_parent, free_port, port_open, raise_file_limit, wait_until_ready
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.port import NewRun
from agentnexus.workflows.engine.postgres.journal import PostgresJournal, run_topic
from agentnexus.workflows.ports import Ranked
from agentnexus.workflows.service import Workflows
from agentnexus.workflows.streams.routes import router
from agentnexus.workflows.streams.source import PostgresEvents
from agentnexus.workflows.streams.streams import Streams

CONNECT_AT_ONCE = 200
PING, PONG = 0x89, bytes((0x8A, 0x84, 0, 0, 0, 0))  # four bytes, masked with nothing, as they came
SAY = """
with r as (update workflow.run set sequence = sequence + 1 where id = $1 returning sequence)
insert into workflow.event (run_id, sequence, name, at, data)
select $1, r.sequence, 'step.progress', now(), jsonb_build_object('step', 's1', 'message', repeat('x', 60)) from r
"""


class NoHirer:
    """Nothing is hired here."""

    async def offers(
        self, need: Need, *, refresh: bool = False, user_id: str = "", limit: int = 20
    ) -> Sequence[Ranked]:
        return ()

    async def hire(self, need: Need, **_more: object) -> Hired:
        raise Unavailable("nothing is hired here")

    async def cancel(self, key: str, reason: str = "") -> Sequence[Receipt]:
        return ()

    async def receipts(self, key: str) -> Sequence[Receipt]:
        return ()


async def serve(url: str, port: int) -> None:
    """The server process."""
    die_with_parent()
    raise_file_limit()
    database = await Database.open(url, max_size=10)
    async with Wakeups(database) as wakeups:
        engine = DurableEngine(PostgresJournal(database, wakeups))
        app = FastAPI()
        app.include_router(router)
        app.state.workflows = Workflows(engine, NoHirer(), PostgresBlobs(database))
        app.state.streams = Streams(PostgresEvents(database, wakeups))
        app.state.callers = Callers(Tokens(database, SystemEntropy()))
        app.state.limiter = Limiter(database, per_minute=10_000_000)
        config = uvicorn.Config(
            app, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off", http="httptools",
            ws=FramedProtocol, ws_per_message_deflate=False, backlog=4096,
        )  # fmt: skip
        await uvicorn.Server(config).serve()


@dataclass(eq=False)
class Client(asyncio.Protocol):
    """One stream. `heard` are the moments at which frames came after the handshake."""

    request: bytes
    connected: asyncio.Future[None]
    heard: list[float] = field(default_factory=list)
    transport: asyncio.Transport | None = None
    rest: bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self.connected.done():
            head, _, data = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101"):
                self.connected.set_exception(ConnectionError(head.decode()[:200]))
                return
            self.connected.set_result(None)
        self.rest += data
        while len(self.rest) >= 2:
            short = self.rest[1] < 126
            length = self.rest[1] if short else int.from_bytes(self.rest[2:4])  # ours are below 64 KiB
            start = 2 if short else 4
            if len(self.rest) < start + length:
                return
            if self.rest[0] == PING and self.transport is not None:
                self.transport.write(PONG + self.rest[start : start + length])
            else:
                self.heard.append(now)
            self.rest = self.rest[start + length :]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.connected.done():
            self.connected.set_exception(error or ConnectionError("the server closed the connection"))


async def connect_all(port: int, token: str, run_ids: Sequence[str]) -> list[Client]:
    """A client per run id, some at a time."""
    gate = asyncio.Semaphore(CONNECT_AT_ONCE)
    loop = asyncio.get_running_loop()

    async def one(run_id: str) -> Client:
        request = (
            f"GET /workflows/{run_id}/stream?after=0 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {token}\r\n\r\n"
        ).encode()
        async with gate:
            _, client = await loop.create_connection(lambda: Client(request, loop.create_future()), "127.0.0.1", port)
            await client.connected
            return client

    return list(await asyncio.gather(*(one(run_id) for run_id in run_ids)))


async def broadcast(stage: Stage, clients: Sequence[Client], run_id: str, events: int) -> dict[str, object]:
    """Say something `events` times, each time waiting until all have heard it."""
    late: list[float] = []
    worst: list[float] = []
    before = stage.server.cpu_times().user + stage.server.cpu_times().system
    for _ in range(events):
        for client in clients:
            client.heard.clear()
        said = time.perf_counter()
        async with stage.database.connection() as connection:
            await connection.execute(SAY, run_id)
        stage.wakeups.notify(run_topic(run_id))
        while not all(client.heard for client in clients):
            await asyncio.sleep(0.02)
        found = sorted((client.heard[0] - said) * 1000 for client in clients)
        late.extend(found)
        worst.append(found[-1])
    used = stage.server.cpu_times().user + stage.server.cpu_times().system - before
    late.sort()
    return {
        "watchers": len(clients),
        "p50_ms": round(late[len(late) // 2], 1),
        "p99_ms": round(late[int(len(late) * 0.99)], 1),
        "last_ms": round(sorted(worst)[len(worst) // 2], 1),
        "server_cpu_ms_per_event": round(used * 1000 / events, 1),
    }


@dataclass(frozen=True)
class Stage:
    database: Database
    wakeups: Wakeups
    server: psutil.Process
    port: int
    token: str


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    raise_file_limit()
    folder = Path(mkdtemp(prefix="nexus-bench-"))
    postgres = EmbeddedPostgres(folder)
    url = await postgres.start()
    await migrate(url)
    database = await Database.open(url, max_size=4)
    port = free_port()
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.streams", "--serve", url, str(port))
    try:
        async with Wakeups(database) as wakeups:
            await wait_until_ready(lambda: port_open("127.0.0.1", port), what="the server", timeout_seconds=60)
            engine = DurableEngine(PostgresJournal(database, wakeups))
            await engine.start(NewRun("wf_all", "workflow", None, tenant="ann"))
            await asyncio.gather(*(engine.start(NewRun(f"wf_{n}", "workflow", None, tenant="ann")) for n in range(100)))
            token = await Tokens(database, SystemEntropy()).issue("ann")
            yield Stage(database, wakeups, psutil.Process(server.pid), port, token)
    finally:
        server.kill()
        await server.wait()
        await database.close()
        await postgres.stop()


async def run(streams: int, events: int) -> dict[str, object]:
    """Everybody on one workflow, then spread over a hundred."""
    async with open_stage() as stage:
        empty = stage.server.memory_info().rss
        began = time.perf_counter()
        clients = await connect_all(stage.port, stage.token, ["wf_all"] * streams)
        seconds = time.perf_counter() - began
        held = stage.server.memory_info().rss - empty
        one = await broadcast(stage, clients, "wf_all", events)
        for client in clients:
            assert client.transport is not None
            client.transport.close()
        spread = await connect_all(stage.port, stage.token, [f"wf_{n % 100}" for n in range(streams)])
        few = await broadcast(stage, spread[::100], "wf_0", events)
    return {
        "streams": streams,
        "connected_per_second": round(streams / seconds, 1),
        "kib_per_stream": round(held / streams / 1024, 1),
        "one_workflow": one,
        "spread_over_100_workflows": few,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--serve", nargs=2, metavar=("URL", "PORT"))
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if given.serve:
            runner.run(serve(given.serve[0], int(given.serve[1])))
            return
        print(json.dumps(runner.run(run(given.streams, given.events)), indent=2))


if __name__ == "__main__":
    main()
