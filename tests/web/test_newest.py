"""Following something fast: only the newest state counts, the last one always comes, nothing is left running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentnexus.web.live import RUN_PANELS, live, message, out_of_band
from agentnexus.web.newest import newest
from tests.web.preview import PreviewRuns


async def burst(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def collected(source: AsyncIterator[int | None]) -> list[int | None]:
    async with asyncio.timeout(10):
        return [item async for item in source]


async def test_a_burst_is_merged_and_its_last_item_is_never_lost() -> None:
    seen = await collected(newest(burst(10_000), pause_seconds=0, idle_seconds=5))
    assert seen[-1] == 9999
    assert len(seen) < 10_000


async def test_an_empty_source_ends_at_once() -> None:
    assert await collected(newest(burst(0), pause_seconds=0, idle_seconds=5)) == []


async def test_every_item_of_a_slow_source_is_seen() -> None:
    taken = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        for number in range(5):
            taken.clear()
            yield number
            await taken.wait()

    seen: list[int | None] = []
    async with asyncio.timeout(10):
        async for item in newest(slow(), pause_seconds=0, idle_seconds=5):
            seen.append(item)
            taken.set()
    assert seen == [0, 1, 2, 3, 4]


async def test_silence_is_told_so_that_connections_stay_open() -> None:
    release = asyncio.Event()

    async def silent() -> AsyncIterator[int]:
        await release.wait()
        yield 1

    seen: list[int | None] = []
    async with asyncio.timeout(10):
        async for item in newest(silent(), pause_seconds=0, idle_seconds=0.01):
            seen.append(item)
            if len(seen) == 3:
                release.set()
    assert seen[:3] == [None, None, None]
    assert seen[-1] == 1


async def test_an_error_comes_after_what_was_before_it() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 7
        raise LookupError("gone")

    seen: list[int | None] = []
    with pytest.raises(LookupError, match="gone"):
        async for item in newest(failing(), pause_seconds=0, idle_seconds=5):
            seen.append(item)
    assert seen == [7]


async def test_a_reader_that_leaves_stops_the_source() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    following = newest(endless(), pause_seconds=0, idle_seconds=5)
    assert await anext(following) == 1
    await following.aclose()
    assert closed.is_set()


def test_a_message_keeps_its_lines_and_cannot_be_split_by_content() -> None:
    assert message("<p>\n\na</p>\n", 4) == b"id: 4\ndata: <p>\ndata: a</p>\n\n"
    hostile = message("a\r\n\r\nevent: end\rdata: x", 1).decode()
    assert [line.partition(": ")[0] for line in hostile.splitlines() if line] == ["id", "data", "data", "data"]


def test_only_the_panels_own_element_is_marked_for_replacement() -> None:
    assert out_of_band('\n<div id="run-log"><div id="x"></div></div>') == (
        '\n<div hx-swap-oob="outerMorph" id="run-log"><div id="x"></div></div>'
    )
    assert out_of_band("text") == "text"


async def test_an_ended_workflow_is_one_message_and_the_end() -> None:
    events = [event async for event in live(PreviewRuns().follow("local", "wf_failed"), RUN_PANELS)]
    assert len(events) == 2
    assert events[0].startswith(b"id: 1\ndata: ")
    assert events[1] == b"event: end\ndata: done\n\n"
