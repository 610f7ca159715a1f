"""How long the cache takes: found in the process, found in Redis by a process that has not got it, stored anew.

``python -m bench.cache [--count 5000]`` prints JSON. Its own redis-server; the peer is the bare client reading the same
values from the same server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import uvloop
from redis.asyncio import Redis

from agentnexus.platform.cache import Cache
from agentnexus.platform.process import die_with_parent, free_port, port_open, wait_until_ready
from agentnexus.platform.redis_level import PREFIX, RedisLevel

START_SECONDS = 10
VALUE: dict[str, object] = {"offers": [{"seller": f"evm:0x{number:040x}", "price": "0.02"} for number in range(20)]}


@asynccontextmanager
async def redis_server() -> AsyncIterator[str]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
        stdout=asyncio.subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )

    await wait_until_ready(partial(port_open, "127.0.0.1", port), what="redis-server", timeout_seconds=START_SECONDS)
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def measure(ask: Callable[[int], Awaitable[object]], count: int) -> dict[str, float]:
    """Milliseconds of `count` calls, one after the other."""
    took = []
    for number in range(count):
        start = time.perf_counter()
        await ask(number)
        took.append((time.perf_counter() - start) * 1e3)
    took.sort()
    return {f"p{share}_ms": round(took[count * share // 100], 4) for share in (50, 95, 99)}


async def load() -> object:
    return VALUE


async def run(count: int) -> dict[str, object]:
    """`count` keys: stored by one process's cache, then looked up by it, by a fresh one, and by the bare client."""
    async with redis_server() as url:
        levels = [RedisLevel.connect(url) for _ in range(2)]
        first, fresh = (Cache(capacity=2 * count, second=level) for level in levels)
        bare = Redis.from_url(url)

        async def read_bare(number: int) -> object:
            return json.loads(await bare.get(f"{PREFIX}k{number}") or b"")

        async def look(cache: Cache, number: int) -> object:
            return await cache.get_or_load(f"k{number}", load)

        figures: dict[str, object] = {
            "stored anew": await measure(partial(look, first), count),
            "found in the process": await measure(partial(look, first), count),
            "found in Redis": await measure(partial(look, fresh), count),
            "bare client": await measure(read_bare, count),
        }
        await bare.aclose()
        for level in levels:
            await level.close()
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=5000)
    json.dump(uvloop.run(run(parser.parse_args().count)), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
