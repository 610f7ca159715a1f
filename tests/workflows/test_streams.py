"""Live events: replay and live without gap or repeat, one reader for all, and a client that does not read."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from agentnexus.core.errors import Unavailable
from agentnexus.core.events import Event, EventName
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import CHANNEL, Wakeups
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.port import NewRun, Run
from agentnexus.workflows.engine.postgres.journal import PostgresJournal, run_topic
from agentnexus.workflows.streams import routes
from agentnexus.workflows.streams.feed import RING, Feed, Frame
from agentnexus.workflows.streams.source import EventSource, JournalEvents, News, PostgresEvents
from agentnexus.workflows.streams.streams import FellBehind, Streams

from .conftest import Bench, until
from .site import Site

SAY = """
with r as (update workflow.run set sequence = sequence + $2 where id = $1 returning sequence)
insert into workflow.event (run_id, sequence, name, at, data)
select $1, r.sequence - $2 + n, 'step.progress', now(), jsonb_build_object('n', n, 'pad', repeat('x', $3::int))
from r, generate_series(1, $2::bigint) n
"""
END = "update workflow.run set state = 'completed', finished_at = now(), owner = null where id = $1"


@dataclass
class Stage:
    """A run whose events are written by hand, as a worker's commit does."""

    database: Database
    wakeups: Wakeups
    source: EventSource
    run_id: str = "wf_1"

    async def say(self, count: int, size: int = 0) -> None:
        async with self.database.connection() as connection:
            await connection.execute(SAY, self.run_id, count, size)
        self.wakeups.notify(run_topic(self.run_id))

    async def end(self) -> None:
        async with self.database.connection() as connection:
            await connection.execute(END, self.run_id)
        self.wakeups.notify(run_topic(self.run_id))


class Counted:
    """A source that counts how often it is asked, and fails when told to."""

    def __init__(self, inner: EventSource) -> None:
        self._inner = inner
        self.asked: list[dict[str, int]] = []
        self.fail = 0

    async def newer(self, after: Mapping[str, int], limit: int) -> Mapping[str, News]:
        self.asked.append(dict(after))
        if self.fail:
            self.fail -= 1
            raise Unavailable("the database is away")
        return await self._inner.newer(after, limit)

    def watch(self, run_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self._inner.watch(run_id, changed)


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[Stage]:
    async with Wakeups(database) as wakeups:
        await DurableEngine(PostgresJournal(database, wakeups)).start(NewRun("wf_1", "workflow", None, tenant="ann"))
        yield Stage(database, wakeups, PostgresEvents(database, wakeups))


async def collect(streams: Streams, after: int = 0, newest: int = 10**9, run_id: str = "wf_1") -> list[int]:
    return [frame.sequence async for frames in streams.follow(run_id, after, newest) for frame in frames]


async def joined(streams: Streams, watchers: int) -> None:
    await until(lambda: streams.watchers == watchers, f"{watchers} watchers")


async def test_all_watchers_see_everything_once_wherever_they_begin(stage: Stage) -> None:
    streams = Streams(stage.source)
    await stage.say(700)
    early = [asyncio.create_task(collect(streams, after, 700)) for after in (0, 0, 350, 699, 700)]
    await joined(streams, 5)
    await stage.say(5)
    late = [asyncio.create_task(collect(streams, after, 700)) for after in (0, 702)]
    await joined(streams, 7)
    await stage.say(5)
    await stage.end()
    found = await asyncio.gather(*early, *late)
    for after, seen in zip((0, 0, 350, 699, 700, 0, 702), found, strict=True):
        assert seen == list(range(after + 1, 711))
    assert streams.watchers == 0


async def test_a_place_after_the_end_is_the_end(stage: Stage) -> None:
    streams = Streams(stage.source)
    await stage.say(3)
    await stage.end()
    assert await collect(streams, 10**9, 3) == []
    assert await collect(streams, 3, 3) == []


async def test_a_thousand_watchers_cost_one_query_for_an_event(stage: Stage) -> None:
    source = Counted(stage.source)
    streams = Streams(source)
    watching = [asyncio.create_task(collect(streams, 0, 0)) for _ in range(1000)]
    await joined(streams, 1000)
    await until(lambda: len(source.asked) > 0, "the first look")
    before = len(source.asked)
    await stage.say(1)
    await stage.end()
    assert {tuple(seen) for seen in await asyncio.gather(*watching)} == {(1,)}
    assert len(source.asked) - before <= 4


async def test_the_reader_goes_on_after_the_database_was_away(stage: Stage) -> None:
    source = Counted(stage.source)
    streams = Streams(source)
    watching = asyncio.create_task(collect(streams, 0, 0))
    await joined(streams, 1)
    await until(lambda: len(source.asked) > 0, "the first look")
    source.fail = 2
    await stage.say(2)
    await stage.end()
    assert await watching == [1, 2]


async def test_who_falls_out_of_the_ring_is_told_and_others_are_not_held_up(stage: Stage) -> None:
    streams = Streams(stage.source)
    slow, quick = streams.follow("wf_1", 0, 0), asyncio.create_task(collect(streams, 0, 0))
    await stage.say(1)
    assert [frame.sequence for frame in await anext(slow)] == [1]
    pending = asyncio.ensure_future(anext(slow))
    await joined(streams, 2)
    await stage.say(1)
    await pending
    for _ in range(8):
        await stage.say(RING // 2)
    await stage.end()
    assert len(await quick) == 2 + 4 * RING
    with pytest.raises(FellBehind):
        await anext(slow)


def test_a_feed_hands_out_only_what_it_surely_has() -> None:
    feed = Feed("wf_1", 10)
    assert feed.after(10) == ()
    assert feed.after(12) == ()
    assert feed.after(4) is None
    at = datetime(2026, 1, 1, tzinfo=UTC)
    events = [Event(name=EventName.STEP_PROGRESS, subject="wf_1", sequence=n, at=at) for n in range(9, 14)]
    feed.add([Frame.of(event) for event in events], ended=False)
    assert feed.last == 13
    assert [frame.sequence for frame in feed.after(10) or ()] == [11, 12, 13]
    assert feed.after(9) is None
    woken = feed.changed
    feed.add([], ended=False)
    assert not woken.is_set()
    feed.add([], ended=True)
    assert woken.is_set()


async def test_any_other_journal_is_followed_too(bench: Bench) -> None:
    engine = bench.engine()
    go = asyncio.Event()

    async def body(run: Run, _given: object) -> None:
        await go.wait()

    engine.register("b", body)
    await engine.start(NewRun("wf_9", "b", None))
    streams = Streams(JournalEvents(bench.journal))
    watching = asyncio.create_task(collect(streams, 0, 0, "wf_9"))
    await joined(streams, 1)
    async with bench.working(engine):
        go.set()
        assert await watching == []


async def test_a_client_that_does_not_read_is_closed_with_4008_and_nobody_else_notices(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "SLOW_SECONDS", 0.5)
    workflow_id = "wf_big"
    never = datetime(2100, 1, 1, tzinfo=UTC)
    await site.room.engine.start(NewRun(workflow_id, "workflow", None, tenant="ann", available_at=never))

    async def say(count: int) -> None:
        async with site.room_database() as connection:
            await connection.execute(SAY, workflow_id, count, 100_000)
            await connection.execute("select pg_notify($1, $2)", CHANNEL, run_topic(workflow_id))

    path = f"/workflows/{workflow_id}/stream?after=0"
    reader, writer = await unread(site, path)
    async with site.socket(path, "ann") as quick:
        seen = 0
        for _ in range(20):
            await say(10)
            for _ in range(10):
                seen += 1
                assert json.loads(await quick.recv())["seq"] == seen
        await until(lambda: site.desk.streams.watchers == 1, "the slow one is let go")
        late = await reader.read()
    writer.close()
    assert late.endswith(b"\x0f\xa8too slow: come back with ?after=SEQ")  # 4008


async def unread(site: Site, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream that nobody reads, behind small buffers."""
    host, _, port = site.url.removeprefix("http://").partition(":")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {site.tokens['ann']}\r\n\r\n".encode()
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 101")
    return reader, writer


async def test_sse_and_socket_tell_the_same(site: Site) -> None:
    ann = await site.client("ann")
    made = await site.room.workflows.create_single(
        "ann", "text.summarize", "text.summarize", {"text": "hello"}, max_cost=site.hirer.catalogue[0].price.maximum
    )
    async with site.socket(f"/workflows/{made.id}/stream?after=0", "ann") as live:
        by_socket = [json.loads(message) async for message in live]
    async with ann.stream("GET", f"/workflows/{made.id}/events") as answer:
        by_sse = [json.loads(line[6:]) async for line in answer.aiter_lines() if line.startswith('data: {"type')]
    assert by_socket == by_sse
    assert by_socket[-1]["type"] == "workflow.completed"
