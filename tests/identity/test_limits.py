"""No minute has more calls than it may, whoever counts them, and who keeps to the rate is never refused."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from bisect import bisect_left
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import RateLimited
from agentnexus.identity.limits import Limiter
from agentnexus.platform.database import Database


async def passed(limiter: Limiter, calls: int, key: str = "ann") -> int:
    """How many of so many calls at once pass."""
    answers = await asyncio.gather(*(limiter.take(key) for _ in range(calls)), return_exceptions=True)
    assert all(answer is None or isinstance(answer, RateLimited) for answer in answers)
    return answers.count(None)


async def wait_of(limiter: Limiter) -> object:
    with pytest.raises(RateLimited) as refused:
        await limiter.take("ann")
    return refused.value.details["retry_after_seconds"]


async def test_a_full_minute_and_its_refill_do_not_pass_within_one_minute(
    database: Database, clock: ManualClock
) -> None:
    limiter = Limiter(database, per_minute=100, clock=clock)
    assert await passed(limiter, 150) == 100
    clock.advance(59.9)
    assert await passed(limiter, 150) == 0
    clock.advance(0.1)
    assert await passed(limiter, 150) == 100


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.floats(0, 40), st.integers(1, 30)), min_size=1, max_size=25), st.sampled_from([10, 20, None])
)
async def test_no_stretch_of_a_minute_has_more_than_it_may(
    database: Database, clock: ManualClock, bursts: list[tuple[float, int]], burst: int | None
) -> None:
    limiter, key = Limiter(database, per_minute=40, burst=burst, clock=clock), uuid4().hex
    span, most = timedelta(seconds=60 * (burst or 40) / 40), burst or 40
    through = []
    for gap, calls in bursts:
        clock.advance(gap)
        now = clock.now()
        # Exactly as many as the sliding minute has room for: neither more nor fewer.
        room = most - (len(through) - bisect_left(through, now - span + timedelta(microseconds=1)))
        count = await passed(limiter, calls, key)
        assert count == min(calls, room)
        through += [now] * count
    for start in through:
        assert bisect_left(through, start + timedelta(minutes=1)) - bisect_left(through, start) <= 40


@pytest.mark.parametrize("calls_per_minute", [60, 99, 100])
async def test_who_keeps_to_the_rate_is_never_refused(
    database: Database, clock: ManualClock, calls_per_minute: int
) -> None:
    limiter = Limiter(database, per_minute=100, clock=clock)
    for _ in range(250):
        await limiter.take("ann")
        clock.advance(60 / calls_per_minute)


async def test_the_wait_that_is_told_is_enough_and_no_longer_than_needed(
    database: Database, clock: ManualClock
) -> None:
    limiter = Limiter(database, per_minute=3, clock=clock)
    for gap in (0, 10, 10.5):
        clock.advance(gap)
        await limiter.take("ann")
    assert await wait_of(limiter) == 40  # 39.5 s until the first one is a minute old
    clock.advance(39)
    assert await wait_of(limiter) == 1
    clock.advance(0.5)
    await limiter.take("ann")
    assert await wait_of(limiter) == 10


async def test_a_clock_that_goes_back_lets_nobody_in(database: Database, clock: ManualClock) -> None:
    """Another server's, after a switch-over: what was counted last is now."""
    limiter = Limiter(database, per_minute=2, clock=clock)
    assert await passed(limiter, 1) == 1
    behind = Limiter(database, per_minute=2, clock=ManualClock(clock.now() - timedelta(seconds=50)))
    assert await passed(behind, 3) == 1
    clock.advance(59)
    assert await passed(limiter, 3) == 0
    clock.advance(1)
    assert await passed(limiter, 3) == 2


async def test_refused_calls_do_not_count(database: Database, clock: ManualClock) -> None:
    limiter = Limiter(database, per_minute=5, clock=clock)
    for _ in range(10):
        await passed(limiter, 7)
        clock.advance(6)
    assert await passed(limiter, 7) == 5


SCRIPT = """
import asyncio, sys, time
from agentnexus.core.errors import RateLimited
from agentnexus.identity.limits import Limiter
from agentnexus.platform.database import Database

async def main():
    database = await Database.open(sys.argv[1], max_size=4)
    limiters = [Limiter(database, per_minute=100) for _ in range(2)]
    async def once(number):
        try:
            await limiters[number % 2].take("ann")
        except RateLimited as refused:
            assert 1 <= refused.details["retry_after_seconds"] <= 60
            return 0
        return 1
    rounds = [sum(await asyncio.gather(*(once(number) for number in range(40)))) for _ in range(3)]
    print(sum(rounds))
    await database.close()

asyncio.run(main())
"""


async def test_several_processes_let_a_hundred_through_together(database_url: str) -> None:
    command = [sys.executable, "-c", SCRIPT, database_url]
    processes = [await asyncio.create_subprocess_exec(*command, stdout=PIPE) for _ in range(3)]
    answers = await asyncio.gather(*(process.communicate() for process in processes))
    assert sum(int(out) for out, _ in answers) == 100


async def test_callers_of_the_last_minutes_are_remembered_and_others_forgotten(database: Database) -> None:
    limiter = Limiter(database, per_minute=1)
    await limiter.take("ann")
    async with database.connection() as connection:
        await connection.execute(
            "update identity.rate set at = at - interval '1 hour', passed = array[at - interval '1 hour']"
        )
    await limiter.take("bob")
    await limiter.forget()
    async with database.connection() as connection:
        assert [row["key"] for row in await connection.fetch("select key from identity.rate")] == ["bob"]
    await limiter.take("ann")
    assert await passed(limiter, 1, "bob") == 0
