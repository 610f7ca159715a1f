"""What a seller tells while it works: read from a real server, and never the reason why a purchase fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from tests.hiring.support import make_offer

from agentnexus.core.offers import Job, Need, Offer
from agentnexus.core.updates import Log, Progress, Update
from agentnexus.markets.x402.buy import Answer, Bought
from agentnexus.markets.x402.following import LOGS_MAX, UNREAD_MAX, Follower, execution_id, follow, watch_url
from agentnexus.markets.x402.policy import PaymentPolicy

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


class Endless:
    """A server that says `part` again and again and never ends; `asked` is set with its first listener."""

    def __init__(self, part: bytes, status: bytes = OK) -> None:
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.url = ""
        self._status = status
        self._part = part

    async def __aenter__(self) -> Endless:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_gone: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked.set()
        try:
            writer.write(self._status)
            while self._part:
                writer.write(self._part)
                await writer.drain()
            await reader.read()  # until the listener goes away
        except ConnectionError:
            pass
        finally:
            self.left.set()
            writer.close()

    @property
    def offer(self) -> Offer:
        return make_offer(endpoint=f"{self.url}/x402/a", evidence={"executions": f"{self.url}/api/v1/executions"})


@asynccontextmanager
async def telling(*answers: bytes) -> AsyncIterator[str]:
    """A server that gives one answer per connection, the last one for ever."""
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers[min(asked, len(answers) - 1)])
        asked += 1
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


JOB = Job(id="j", key="k", need=Need(), offer_id="o")
NOTHING = Bought(Answer(200, {}, b""))


async def ended_by(event: asyncio.Event) -> Bought:
    await event.wait()
    return NOTHING


def frame(name: str, **data: object) -> bytes:
    return f"id: 1\nevent: {name}\ndata: {json.dumps({'name': name, 'data': data})}\n\n".encode()


async def heard(*answers: bytes) -> list[Update]:
    async with telling(*answers) as url, httpx.AsyncClient() as http, asyncio.timeout(20):
        return [update async for update in follow(http, f"{url}/x")]


async def test_progress_and_log_lines_come_through_and_the_rest_is_left_out() -> None:
    updates = await heard(
        OK
        + frame("execution.started", attempt=1)
        + frame("execution.log", message="opening", level="warning")
        + b": still here\n\n"
        + frame("execution.progress", fraction=0.25, message="page 1 of 4")
        + frame("execution.progress", message="no number")
        + frame("execution.completed")
    )
    assert updates == [Log("opening", "warning"), Progress(0.25, "page 1 of 4"), Progress(None, "no number")]


async def test_a_run_that_has_not_begun_is_waited_for() -> None:
    absent = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert await heard(absent, absent, OK + frame("execution.log", message="now")) == [Log("now", "info")]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        b"nonsense\r\n\r\n",
        OK + b"data: {not json}\n\n",
        OK + b"data: " + b"[" * 60_000 + b"\n\n",
        OK + b"data: " + b"x" * 70_000 + b"\n\n",
        OK + b"data: 5\n\ndata: []\n\n" + b'data: {"name": "execution.log", "data": 7}\n\n',
        OK,
    ],
)
async def test_trouble_with_telling_ends_it_without_a_word(answer: bytes) -> None:
    assert await heard(answer) == []


@pytest.mark.parametrize("fraction", [-0.1, 1.1, "half", None, True, 10**400, float("nan"), [0.5]])
async def test_a_fraction_that_is_none_is_unknown(fraction: object) -> None:
    assert await heard(OK + frame("execution.progress", fraction=fraction, message="m")) == [Progress(None, "m")]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("a\x00b\x1b[2Jc\r\nd", "a b [2Jc  d"),
        ("half \ud800 of one", "half   of one"),
        ("to the \u202eleft", "to the  left"),
        ("größer 数", "größer 数"),
        ({"not": "text"}, ""),
    ],
)
async def test_a_message_is_one_line_of_printable_text(message: object, shown: str) -> None:
    assert await heard(OK + frame("execution.log", message=message)) == [Log(shown, "info")]


async def test_a_message_is_cut_to_what_a_person_reads() -> None:
    (update,) = await heard(OK + frame("execution.log", message="m" * 5000, level="l" * 50))
    assert isinstance(update, Log)
    assert (len(update.message), len(update.level)) == (2000, 20)


@pytest.mark.parametrize(
    ("told", "endpoint", "url"),
    [
        ("http://s.test/api/v1/executions/", "http://s.test/x402/a", "http://s.test/api/v1/executions"),
        ("http://s.test:81/executions", "http://s.test/x402/a", ""),
        ("https://s.test/executions", "http://s.test/x402/a", ""),
        ("http://169.254.169.254/executions", "http://s.test/x402/a", ""),
        ("http://u@s.test/executions", "http://s.test/x402/a", ""),
        ("http://s.test/executions?x=", "http://s.test/x402/a", ""),
        ("http://s.test/api/v1/workflows#/executions", "http://s.test/x402/a", ""),
        ("http://s.test/a/../executions", "http://s.test/x402/a", ""),
        ("http://s.test/%2e%2e/executions", "http://s.test/x402/a", ""),
        ("http://s.test/api/v1/workflows", "http://s.test/x402/a", ""),
        ("http://[::1/executions", "http://s.test/x402/a", ""),
        ("", "http://s.test/x402/a", ""),
        (5, "http://s.test/x402/a", ""),
        (None, "http://s.test/x402/a", ""),
    ],
)
def test_only_the_host_that_sells_is_watched(told: object, endpoint: str, url: str) -> None:
    offer = make_offer(endpoint=endpoint, evidence={"executions": told})
    assert watch_url(offer) == url


def test_the_id_is_the_jobs_own_and_the_same_after_a_restart() -> None:
    def job(key: str) -> Job:
        return Job(id="j", key=key, need=Need(), offer_id="o")

    assert execution_id(job("a")) == execution_id(job("a")) != execution_id(job("b"))
    assert execution_id(job("a")).startswith("exe_")
    assert len(execution_id(job("a"))) == 36


async def test_a_seller_that_never_ends_its_line_is_left_after_a_bounded_part_of_it() -> None:
    async with Endless(b"x" * 10_000) as seller, httpx.AsyncClient() as http, asyncio.timeout(20):
        assert [update async for update in follow(http, seller.url)] == []
        await seller.left.wait()


async def test_a_seller_that_says_nothing_of_meaning_for_ever_is_left() -> None:
    async with Endless(b": still here\n\n" * 1000) as seller, httpx.AsyncClient() as http, asyncio.timeout(20):
        assert [update async for update in follow(http, seller.url)] == []
        await seller.left.wait()


async def test_a_seller_that_never_stops_talking_is_heard_up_to_a_number_of_lines() -> None:
    line = frame("execution.log", message="again")
    async with Endless(line) as seller, httpx.AsyncClient() as http, asyncio.timeout(20):
        assert len([update async for update in follow(http, seller.url)]) == LOGS_MAX


async def test_progress_is_heard_to_its_end_in_a_run_of_many_parts() -> None:
    parts = [frame("execution.progress", fraction=number / 2000, message="x") for number in range(2001)]
    updates = await heard(OK + b"".join(parts))
    assert (len(updates), updates[-1]) == (2001, Progress(1.0, "x"))


async def test_an_answer_is_not_unpacked() -> None:
    packed = OK.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    assert await heard(packed + frame("execution.log", message="plain all the same")) == [
        Log("plain all the same", "info")
    ]


@pytest.mark.parametrize("status", [OK, b""])
async def test_work_ends_when_it_ends_however_long_the_seller_keeps_its_listener(status: bytes) -> None:
    async with Endless(b"", status) as seller, httpx.AsyncClient() as http, asyncio.timeout(20):
        work = asyncio.create_task(ended_by(seller.asked))
        told = [update async for update in Follower(http, PaymentPolicy({})).during(work, seller.offer, JOB)]
        assert told == []
        assert work.result() == NOTHING
        await seller.left.wait()


async def test_a_slow_reader_gets_the_newest_lines_and_holds_up_nobody() -> None:
    lines = b"".join(frame("execution.log", message=str(number)) for number in range(200))
    async with telling(OK + lines) as url, httpx.AsyncClient() as http, asyncio.timeout(20):
        offer = make_offer(endpoint=f"{url}/x402/a", evidence={"executions": f"{url}/executions"})
        over = asyncio.Event()
        work = asyncio.create_task(ended_by(over))
        told = Follower(http, PaymentPolicy({})).during(work, offer, JOB)
        first = await anext(told)
        assert isinstance(first, Log)
        (listening,) = [task for task in asyncio.all_tasks() if "_listen" in str(task.get_coro())]
        await asyncio.wait([listening])  # all of it has arrived while nobody read
        over.set()
        await work
        rest = [update async for update in told]
    assert len(rest) <= UNREAD_MAX
    assert rest[-1] == Log("199", "info")


async def test_who_leaves_early_leaves_no_listener_behind() -> None:
    async with Endless(frame("execution.log", message="x")) as seller, httpx.AsyncClient() as http, asyncio.timeout(20):
        work = asyncio.create_task(ended_by(asyncio.Event()))
        told = Follower(http, PaymentPolicy({})).during(work, seller.offer, JOB)
        await anext(told)
        await told.aclose()
        await seller.left.wait()
        assert not work.done()  # the purchase is its caller's
        work.cancel()


async def test_listeners_that_were_let_go_take_no_connection_with_them() -> None:
    """However the end of a purchase falls into a listener's own end: with 1 connection the next one hears as well."""
    limits = httpx.Limits(max_connections=1)
    async with (
        Endless(frame("execution.log", message="x")) as seller,
        httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(5, pool=5)) as http,
        asyncio.timeout(60),
    ):
        follower = Follower(http, PaymentPolicy({}))
        for heard_first in (1, 49, 500):
            work = asyncio.create_task(ended_by(asyncio.Event()))
            told = follower.during(work, seller.offer, JOB)
            assert isinstance(await anext(told), Log)
            for _ in range(heard_first):
                await asyncio.sleep(0)
            await told.aclose()
            work.cancel()


async def test_a_host_that_is_not_bought_from_is_not_asked_either() -> None:
    async with Endless(frame("execution.log", message="x")) as seller, httpx.AsyncClient() as http, asyncio.timeout(20):
        refusing = PaymentPolicy({}, hosts_denied=("127.*",))
        work = asyncio.create_task(asyncio.sleep(0.5, NOTHING))
        assert [update async for update in Follower(http, refusing).during(work, seller.offer, JOB)] == []
        assert not seller.asked.is_set()
