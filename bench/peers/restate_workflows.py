"""Restate used as its own SDK means it: the one-step workflow and the five-step DAG as handlers with durable steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import restate
import uvicorn

from agentnexus.platform.neighbour import NeighbourTransport
from agentnexus.platform.process import free_port, port_open, wait_until_ready
from agentnexus.workflows.engine.restate.server import RestateServer

peer = restate.Service("Peer")


def _step(key: str) -> Callable[[], Awaitable[str]]:
    async def nothing() -> str:
        return key

    return nothing


@peer.handler()
async def single(ctx: restate.Context, _given: str) -> str:
    return str(await ctx.run("a", _step("a")))


@peer.handler()
async def dag(ctx: restate.Context, _given: str) -> str:
    await ctx.run("a", _step("a"))
    await restate.gather(*(ctx.run(key, _step(key)) for key in "bcd"))
    return str(await ctx.run("e", _step("e")))


async def native(folder: Path, callers: int, seconds: float) -> dict[str, dict[str, float]]:
    """Workflows a second, by body; callers wait for each one's end."""
    port = free_port()
    config = uvicorn.Config(restate.app([peer]), port=port, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with RestateServer(folder) as store, httpx.AsyncClient(transport=NeighbourTransport()) as client:
        await wait_until_ready(lambda: port_open("127.0.0.1", port), what="the peer", timeout_seconds=10)
        deployment = {"uri": f"http://127.0.0.1:{port}", "use_http_11": True}
        (await client.post(f"{store.admin_url}/deployments", json=deployment, timeout=30)).raise_for_status()

        async def measure(body: str, lasting: float) -> float:
            done = 0
            ending = time.perf_counter() + lasting

            async def caller() -> None:
                nonlocal done
                while time.perf_counter() < ending:
                    answer = await client.post(f"{store.ingress_url}/Peer/{body}", json="x", timeout=30)
                    answer.raise_for_status()
                    done += 1

            began = time.perf_counter()
            await asyncio.gather(*(caller() for _ in range(callers)))
            return done / (time.perf_counter() - began)

        rates = {}
        for body in ("single", "dag"):
            await measure(body, 0.5)
            rates[f"{body}-{callers}"] = {"per_second": round(await measure(body, seconds), 1)}
    server.should_exit = True
    await serving
    return rates
