"""The two-level cache: fresh, expired, stale, single flight, shared level."""

from __future__ import annotations

import asyncio

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import Unavailable
from agentnexus.platform.cache import Cache, Cached


class Source:
    def __init__(self) -> None:
        self.calls = 0
        self.broken = False
        self.gate: asyncio.Event | None = None

    async def load(self) -> object:
        self.calls += 1
        if self.gate:
            await self.gate.wait()
        if self.broken:
            raise Unavailable("the source is down")
        return {"call": self.calls}


async def test_a_fresh_value_is_not_asked_for_again(clock: ManualClock) -> None:
    cache, source = Cache(ttl_seconds=60, clock=clock), Source()
    first = await cache.get_or_load("k", source.load)
    clock.advance(59)
    second = await cache.get_or_load("k", source.load)
    assert (first.hit, second.hit, source.calls) == (False, True, 1)
    assert second.value == first.value


async def test_an_expired_value_is_loaded_anew(clock: ManualClock) -> None:
    cache, source = Cache(ttl_seconds=60, clock=clock), Source()
    await cache.get_or_load("k", source.load)
    clock.advance(61)
    assert (await cache.get_or_load("k", source.load)).value == {"call": 2}


async def test_a_broken_source_gives_the_old_value_marked_stale(clock: ManualClock) -> None:
    cache, source = Cache(ttl_seconds=60, clock=clock), Source()
    await cache.get_or_load("k", source.load)
    clock.advance(61)
    source.broken = True
    found = await cache.get_or_load("k", source.load)
    assert found.stale and found.value == {"call": 1}


async def test_a_broken_source_with_nothing_kept_raises(clock: ManualClock) -> None:
    source = Source()
    source.broken = True
    with pytest.raises(Unavailable):
        await Cache(clock=clock).get_or_load("k", source.load)


async def test_fifty_callers_make_one_query() -> None:
    cache, source = Cache(), Source()
    source.gate = asyncio.Event()
    callers = [asyncio.create_task(cache.get_or_load("k", source.load)) for _ in range(50)]
    await asyncio.sleep(0)
    source.gate.set()
    answers = await asyncio.gather(*callers)
    assert source.calls == 1
    assert {str(answer.value) for answer in answers} == {"{'call': 1}"}


async def test_waiters_of_a_cancelled_query_fail_like_a_dead_source_and_the_next_call_works() -> None:
    cache, source = Cache(), Source()
    source.gate = asyncio.Event()
    leader = asyncio.create_task(cache.get_or_load("k", source.load))
    await asyncio.sleep(0)
    follower = asyncio.create_task(cache.get_or_load("k", source.load))
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(TimeoutError):
        await follower
    source.gate.set()
    assert (await cache.get_or_load("k", source.load)).value == {"call": 2}


async def test_the_least_used_leaves_first() -> None:
    cache, source = Cache(capacity=2), Source()
    for key in ("a", "b"):
        await cache.get_or_load(key, source.load)
    await cache.get_or_load("a", source.load)
    await cache.get_or_load("c", source.load)
    assert (await cache.get_or_load("a", source.load)).hit
    assert not (await cache.get_or_load("b", source.load)).hit


async def test_the_shared_level_answers_for_another_process() -> None:
    shared: dict[str, bytes] = {}

    class Shared:
        async def get(self, key: str) -> bytes | None:
            return shared.get(key)

        async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
            shared[key] = value

        async def delete(self, key: str) -> None:
            shared.pop(key, None)

    source = Source()
    await Cache(second=Shared()).get_or_load("k", source.load)
    other = Cache(second=Shared())
    assert (await other.get_or_load("k", source.load)).hit
    assert source.calls == 1
    await other.clear("k")
    assert not (await other.get_or_load("k", source.load)).hit


async def test_what_is_kept_is_told_without_asking_anybody(clock: ManualClock) -> None:
    cache = Cache(ttl_seconds=60, clock=clock)
    assert cache.kept("k") is None

    async def load() -> object:
        return "v"

    await cache.get_or_load("k", load)
    assert cache.kept("k") == Cached("v", hit=True)
    clock.advance(60)
    assert cache.kept("k") == Cached("v", hit=True, stale=True)
