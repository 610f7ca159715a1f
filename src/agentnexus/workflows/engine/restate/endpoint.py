"""The HTTP server of a worker process that Restate calls, and its registration there."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import restate
import uvicorn
from restate import server as restate_sdk_server

from agentnexus.core.errors import Unavailable
from agentnexus.platform.process import port_open, wait_until_ready
from agentnexus.workflows.engine.restate.ingress import Ingress
from agentnexus.workflows.engine.restate.objects import bells, runs, tallies, tenants, workers
from agentnexus.workflows.engine.restate.station import Station
from agentnexus.workflows.engine.restate.telling import Listen, nobody_listens, teller

START_SECONDS = 20.0
REGISTER_SECONDS = 30.0


class _Quiet(uvicorn.Server):
    """Leaves the signals of the process alone, and does not wait for open requests: Restate repeats them elsewhere."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve(
    station: Station,
    ingress: Ingress,
    host: str,
    port: int,
    public_url: str = "",
    *,
    listen: Listen = nobody_listens,
) -> AsyncIterator[None]:
    """Answer Restate on ``host:port`` and tell it so.

    Any number of processes of one machine may share the port: the kernel spreads Restate's connections over them.
    `public_url` is how Restate reaches them when that is another address (a balancer before many hosts). `listen` is
    told of all events.
    """
    # The SDK would take SIGTERM for itself at its first request, and the process would not hear of it.
    restate_sdk_server._shutdown_hooks.setdefault(asyncio.get_running_loop(), {}).setdefault(signal.SIGTERM, [])
    app = restate.app([runs, workers, tenants, tallies, bells, station.service(), teller(listen)])
    config = uvicorn.Config(
        app, http="httptools", ws="none", log_config=None, access_log=False, lifespan="off", server_header=False,
        timeout_keep_alive=3600,
    )  # fmt: skip
    server = _Quiet(config)
    serving = asyncio.create_task(server.serve(sockets=[_shared(host, port)]), name="restate-endpoint")

    async def answers() -> bool:
        return serving.done() or await port_open(host, port)

    try:
        await wait_until_ready(answers, what="the endpoint for Restate", timeout_seconds=START_SECONDS)
        await _register(ingress, public_url or f"http://{host}:{port}")
        yield
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.wait([serving])


async def _register(ingress: Ingress, url: str) -> None:
    """Restate may be starting too, or again."""
    ending = asyncio.get_running_loop().time() + REGISTER_SECONDS
    while True:
        try:
            return await ingress.register(url)
        except Unavailable:
            if asyncio.get_running_loop().time() > ending:
                raise
        await asyncio.sleep(0.2)


def _shared(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen(1024)
    return listener
