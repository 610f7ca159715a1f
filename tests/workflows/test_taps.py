"""Watchers that keep up are written to directly: the same messages in the same order, and nobody waits for anybody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from agentnexus.core.events import Event, EventName
from agentnexus.platform.frames import EXTENSION, text_frame, writer
from agentnexus.platform.wakeups import CHANNEL
from agentnexus.workflows.engine.port import NewRun
from agentnexus.workflows.streams import streams as streaming
from agentnexus.workflows.streams.feed import Feed, Frame
from agentnexus.workflows.streams.streams import Streams

from .conftest import until
from .site import Site
from .test_streams import SAY, Stage, joined, run_topic, stage

__all__ = ["stage"]  # a fixture
AT = datetime(2026, 1, 1, tzinfo=UTC)


def frames(first: int, last: int) -> list[Frame]:
    events = [
        Event(name=EventName.STEP_PROGRESS, subject="wf_1", sequence=number, at=AT) for number in range(first, last + 1)
    ]
    return [Frame.of(event) for event in events]


@dataclass
class Pipe:
    """Where a connection writes to; refuses while `full`."""

    data: bytes = b""
    full: bool = False
    calls: int = 0

    def write(self, frames: bytes) -> bool:
        self.calls += 1
        if self.full:
            return False
        self.data += frames
        return True

    @property
    def sequences(self) -> list[int]:
        return [json.loads(text)["seq"] for text in texts(self.data)]


def texts(data: bytes) -> list[str]:
    """What RFC 6455 says these bytes are."""
    found = []
    while data:
        assert data[0] == 0x81  # whole, and text
        assert data[1] < 128  # servers do not mask
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        found.append(data[start : start + size].decode())
        data = data[start + size :]
    return found


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_message_is_framed_as_the_standard_says(size: int) -> None:
    framed = text_frame("x" * size)
    assert texts(framed) == ["x" * size]
    assert len(framed) - size == (2 if size < 126 else 4 if size < 65_536 else 10)


@given(st.lists(st.text(), max_size=5))
def test_messages_behind_each_other_stay_apart(said: list[str]) -> None:
    assert texts(b"".join(text_frame(text) for text in said)) == said


def test_a_server_without_the_way_around_has_no_writer() -> None:
    assert writer(HTTPConnection({"type": "websocket"})) is None
    assert writer(HTTPConnection({"type": "websocket", "extensions": {}})) is None
    pipe = Pipe()
    offered = {"type": "websocket", "extensions": {EXTENSION: {"write": pipe.write}}}
    assert writer(HTTPConnection(offered)) == pipe.write


@dataclass
class Watcher:
    """Follows as a connection does: what is yielded goes the slow way, the rest is written."""

    pipe: Pipe = field(default_factory=Pipe)
    slowly: list[int] = field(default_factory=list)

    async def follow(self, streams: Streams, after: int = 0, newest: int = 0) -> None:
        async for batch in streams.follow("wf_1", after, newest, self.pipe.write):
            self.slowly += [frame.sequence for frame in batch]
            self.pipe.data += b"".join(frame.wire for frame in batch)


async def test_what_happened_is_sent_and_what_happens_is_written(stage: Stage) -> None:
    streams, watcher, newest = Streams(stage.source), Watcher(), Watcher()
    await stage.say(600)
    first = asyncio.create_task(newest.follow(streams, 600, 600))
    await joined(streams, 1)
    watching = asyncio.create_task(watcher.follow(streams, 10, 600))
    await until(lambda: watcher.pipe.sequences[-1:] == [600], "all that happened")
    await stage.say(3)
    await until(lambda: watcher.pipe.sequences[-1:] == [603], "what happens")
    await stage.say(2)
    await stage.end()
    await asyncio.gather(first, watching)
    assert watcher.pipe.sequences == list(range(11, 606))
    assert watcher.slowly == list(range(11, 601))
    assert (newest.pipe.sequences, newest.slowly) == ([601, 602, 603, 604, 605], [])
    assert streams.watchers == 0


async def test_who_has_not_read_goes_on_alone_and_is_written_to_again_later(stage: Stage) -> None:
    streams, slow, quick = Streams(stage.source), Watcher(), Watcher()
    both = [asyncio.create_task(watcher.follow(streams)) for watcher in (slow, quick)]
    await joined(streams, 2)
    await stage.say(1)
    await until(lambda: quick.pipe.sequences == slow.pipe.sequences == [1], "both")
    slow.pipe.full = True
    await stage.say(2)
    await until(lambda: quick.pipe.sequences == slow.pipe.sequences == [1, 2, 3], "both, one of them alone")
    assert (slow.slowly, quick.slowly) == ([2, 3], [])
    slow.pipe.full = False
    await stage.say(1)
    await stage.end()
    await asyncio.gather(*both)
    assert slow.pipe.sequences == quick.pipe.sequences == [1, 2, 3, 4]
    assert 4 not in slow.slowly


async def test_a_place_ahead_of_the_feed_gets_only_what_is_behind_it(stage: Stage) -> None:
    """A watcher that knows more than this process has read."""
    streams, ahead, other = Streams(stage.source), Watcher(), Watcher()
    first = asyncio.create_task(other.follow(streams))
    await joined(streams, 1)
    second = asyncio.create_task(ahead.follow(streams, 2, 2))
    await joined(streams, 2)
    await stage.say(4)
    await stage.end()
    await asyncio.gather(first, second)
    assert (other.pipe.sequences, ahead.pipe.sequences) == ([1, 2, 3, 4], [3, 4])


async def test_one_that_left_is_written_to_no_more(stage: Stage) -> None:
    streams, leaving, staying = Streams(stage.source), Watcher(), Watcher()
    left = asyncio.create_task(leaving.follow(streams))
    stays = asyncio.create_task(staying.follow(streams))
    await joined(streams, 2)
    await stage.say(1)
    await until(lambda: leaving.pipe.sequences == staying.pipe.sequences == [1], "both")
    left.cancel()
    await asyncio.wait([left])
    await stage.say(1)
    await stage.end()
    await stays
    assert (leaving.pipe.sequences, staying.pipe.sequences) == ([1], [1, 2])


async def test_thousands_are_written_to_in_turns_and_each_event_is_framed_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "WRITES_AT_ONCE", 100)
    streams, watchers = Streams(stage.source), [Watcher() for _ in range(1000)]
    watching = [asyncio.create_task(watcher.follow(streams)) for watcher in watchers]
    await joined(streams, 1000)
    await stage.say(1)
    await until(lambda: all(watcher.pipe.data for watcher in watchers), "the first event")
    turns = 0

    async def others() -> None:
        nonlocal turns
        while watchers[0].pipe.calls < 2 or any(watcher.pipe.calls < 2 for watcher in watchers):
            turns += any(watcher.pipe.calls == 2 for watcher in watchers)
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await stage.say(1)
    await beside
    assert turns >= 5  # in the middle of it, somebody else had turns
    await stage.end()
    await asyncio.gather(*watching)
    assert {tuple(watcher.pipe.sequences) for watcher in watchers} == {(1, 2)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), max_size=12), st.integers(0, 6))
async def test_nothing_is_missed_or_repeated_whenever_a_pipe_is_full(
    steps: Sequence[tuple[int, bool, bool]], after: int
) -> None:
    feed, pipe, place = Feed("wf_1", 0), Pipe(), after

    async def go_on() -> None:
        nonlocal place
        for frame in feed.after(place) or ():
            pipe.data += frame.wire
            place = frame.sequence

    tapped = asyncio.ensure_future(feed.written_to(pipe.write, place))
    await asyncio.sleep(0)
    last = 0
    for count, full, catches_up in steps:
        pipe.full = full
        fresh = feed.add(frames(last + 1, last + count), ended=False)
        last += count
        await streaming._write(feed, fresh)
        await asyncio.sleep(0)
        if tapped.done() and catches_up:
            place = tapped.result()
            await go_on()
            tapped = asyncio.ensure_future(feed.written_to(pipe.write, place))
            await asyncio.sleep(0)
    feed.add([], ended=True)
    await streaming._write(feed, ())
    place = await tapped
    await go_on()
    assert pipe.sequences == list(range(after + 1, last + 1))
    assert feed.taps == set()


async def test_over_a_real_socket_replay_and_live_are_one_stream(site: Site) -> None:
    never = datetime(2100, 1, 1, tzinfo=UTC)
    await site.room.engine.start(NewRun("wf_tap", "workflow", None, tenant="ann", available_at=never))

    async def say(count: int, size: int) -> None:
        async with site.room_database() as connection:
            await connection.execute(SAY, "wf_tap", count, size)
            await connection.execute("select pg_notify($1, $2)", CHANNEL, run_topic("wf_tap"))

    await say(5, 10)
    async with site.socket("/workflows/wf_tap/stream?after=2", "ann") as live:
        seen = [json.loads(await live.recv())["seq"] for _ in range(3)]
        for size in (10, 200, 70_000):
            await say(2, size)
            for _ in range(2):
                message = json.loads(await live.recv())
                seen.append(message["seq"])
                assert len(message["data"]["pad"]) == size
        await live.ping()  # the protocol's own frames fit in between
    assert seen == list(range(3, 12))
