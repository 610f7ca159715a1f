"""Group commit: what gathers goes together, a refusal hits only who is to blame, an unknown outcome is not repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from agentnexus.core.errors import Unavailable
from agentnexus.platform.batching import GroupCommit, Refused


async def test_what_gathers_during_a_write_goes_into_the_next_one() -> None:
    batches: list[list[int]] = []
    first_began, go = asyncio.Event(), asyncio.Event()

    async def write(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        if len(batches) == 1:
            first_began.set()
            await go.wait()
        return [item * 10 for item in items]

    group: GroupCommit[int, int] = GroupCommit(write, limit=3)
    first = asyncio.create_task(group.submit(1))
    await first_began.wait()
    rest = [asyncio.create_task(group.submit(n)) for n in range(2, 7)]
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(first, *rest) == [10, 20, 30, 40, 50, 60]
    assert batches == [[1], [2, 3, 4], [5, 6]]


async def test_one_refused_item_does_not_fail_its_neighbours() -> None:
    async def write(items: Sequence[int]) -> list[int]:
        if 3 in items:
            raise Refused("no threes")
        return list(items)

    group: GroupCommit[int, int] = GroupCommit(write)
    answers = await asyncio.gather(*(group.submit(n) for n in range(5)), return_exceptions=True)
    assert [answer for answer in answers if not isinstance(answer, Refused)] == [0, 1, 2, 4]
    assert isinstance(answers[3], Refused)


async def test_a_write_that_may_have_happened_is_never_repeated() -> None:
    writes: list[list[int]] = []

    async def write(items: Sequence[int]) -> list[int]:
        writes.append(list(items))
        raise Unavailable("connection lost after sending")

    group: GroupCommit[int, int] = GroupCommit(write)
    answers = await asyncio.gather(*(group.submit(n) for n in range(3)), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert writes == [[0, 1, 2]]


async def test_a_caller_that_goes_away_does_not_take_its_item_along() -> None:
    written: list[int] = []
    go = asyncio.Event()

    async def write(items: Sequence[int]) -> list[int]:
        await go.wait()
        written.extend(items)
        return list(items)

    group: GroupCommit[int, int] = GroupCommit(write)
    caller = asyncio.create_task(group.submit(1))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go.set()
    await group.flush()
    assert written == [1]
