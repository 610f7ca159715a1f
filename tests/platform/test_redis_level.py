"""Redis as the shared level of the cache: a real server, shared by two caches, then gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentnexus.platform.cache import Cache
from agentnexus.platform.process import free_port, port_open, wait_until_ready
from agentnexus.platform.redis_level import RedisLevel


@asynccontextmanager
async def redis_server() -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async def listening() -> bool:
        return await port_open("127.0.0.1", port)

    await wait_until_ready(listening, what="redis-server", timeout_seconds=20)
    try:
        yield f"redis://127.0.0.1:{port}", process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_two_processes_share_one_answer_and_a_dead_redis_harms_nobody() -> None:
    calls = 0

    async def load() -> object:
        nonlocal calls
        calls += 1
        return {"n": calls}

    async with redis_server() as (url, process):
        first, second = RedisLevel.connect(url), RedisLevel.connect(url)
        assert (await Cache(second=first).get_or_load("k", load)).value == {"n": 1}
        other = Cache(second=second)
        assert (await other.get_or_load("k", load)).value == {"n": 1}
        await other.clear("k")
        assert (await other.get_or_load("k", load)).value == {"n": 2}
        process.kill()
        await process.wait()
        assert (await Cache(second=first).get_or_load("k", load)).value == {"n": 3}
        await first.close()
        await second.close()


async def test_a_value_leaves_redis_after_its_time() -> None:
    async with redis_server() as (url, _process):
        level = RedisLevel.connect(url)
        await level.set("k", b"v", 0.05)
        assert await level.get("k") == b"v"

        async def gone() -> bool:
            return await level.get("k") is None

        await wait_until_ready(gone, what="expiry", timeout_seconds=20)
        await level.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1"])
async def test_an_absent_redis_is_a_miss_not_an_error(url: str) -> None:
    level = RedisLevel.connect(url)
    assert await level.get("k") is None
    await level.set("k", b"v", 1)
    await level.delete("k")
    await level.close()
