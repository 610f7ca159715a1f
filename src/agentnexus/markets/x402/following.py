"""What a seller tells while it works, for buyers that wait: the events of the run under an id that the buyer chose.

AgentNexus sellers say in their listing where runs are watched (``executions``). The id is derived from the job's key,
which nobody else knows. Watching is a courtesy: it has its own connections and its own bounds, and whatever goes wrong
with it never touches the purchase.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from urllib.parse import urlsplit

import httpx

from agentnexus.core.canonical import idempotency_key
from agentnexus.core.errors import NexusError
from agentnexus.core.offers import Job, Offer
from agentnexus.core.updates import Log, Progress, Update
from agentnexus.markets.x402.buy import Bought
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.platform.logs import log

EXECUTION_HEADER = "x-execution-id"
WATCHED = re.compile(r"(/[A-Za-z0-9._~-]+)*/executions/?")
FIRST_LOOK_SECONDS = 0.2  # a run that is over before is not watched at all
LOOK_SECONDS_MAX = 1.0
WATCHING_SECONDS_MAX = 900.0
LINE_BYTES_MAX = 64 * 1024
RUN_BYTES_MAX = 4 * 1024 * 1024
LOGS_MAX = 500  # of progress, whoever shows it takes as much as a person can read
UNREAD_MAX = 50
MESSAGE_CHARACTERS_MAX = 2000
LEVEL_CHARACTERS_MAX = 20
CLOSING_SECONDS = 0.2
TROUBLE = (httpx.HTTPError, httpx.StreamError, TimeoutError, ValueError, RecursionError)


def watch_url(offer: Offer) -> str:
    """Where this offer's runs are watched: only at the very host that sells it; empty when nowhere."""
    told = offer.evidence.get("executions")
    if not isinstance(told, str):
        return ""
    try:
        place, sold = urlsplit(told), urlsplit(offer.endpoint)
    except ValueError:
        return ""
    # Nothing but a path that ends as such paths do: the address must not lead this node to anything else of that host.
    plain = WATCHED.fullmatch(place.path) and "?" not in told and "#" not in told and ".." not in place.path
    return told.rstrip("/") if plain and place[:2] == sold[:2] else ""


def execution_id(job: Job) -> str:
    """The same for every repeat of the job."""
    return f"exe_{idempotency_key('watched', job.key)[:32]}"


class Follower:
    """Listens to sellers.

    Args:
        http: of its own, so that a seller which keeps its listeners waiting takes no connection from a purchase.
        policy: what may not be bought from is not listened to either.
    """

    def __init__(self, http: httpx.AsyncClient, policy: PaymentPolicy) -> None:
        self._http = http
        self._policy = policy
        self._letting_go: set[asyncio.Task[None]] = set()

    async def during(self, work: asyncio.Task[Bought], offer: Offer, job: Job) -> AsyncGenerator[Update, None]:
        """What is told of the job until `work` is done; never raises and never makes anybody wait for it.

        Who tells faster than anybody reads loses the oldest of it.
        """
        unread: deque[Update] = deque(maxlen=UNREAD_MAX)
        news = asyncio.Event()
        work.add_done_callback(lambda _work: news.set())
        listening = asyncio.create_task(self._listen(offer, job, unread, news))
        try:
            while not work.done():
                await news.wait()
                news.clear()
                while unread and not work.done():
                    yield unread.popleft()
            for update in tuple(unread):
                yield update
        finally:
            letting_go = asyncio.create_task(_let_go(listening, offer))  # beside the purchase, which has its answer
            self._letting_go.add(letting_go)
            letting_go.add_done_callback(self._letting_go.discard)

    async def _listen(self, offer: Offer, job: Job, unread: deque[Update], news: asyncio.Event) -> None:
        url = watch_url(offer)
        if not url:
            return
        try:
            self._policy.check_url(offer.endpoint)
        except NexusError:
            return
        async for update in follow(self._http, f"{url}/{execution_id(job)}"):
            unread.append(update)
            news.set()


async def _let_go(listening: asyncio.Task[None], offer: Offer) -> None:
    """End a listener. One that is just closing its connection is let: interrupted there, the pool would never get it
    back."""
    await asyncio.wait([listening], timeout=CLOSING_SECONDS)
    listening.cancel()
    await asyncio.wait([listening])
    if not listening.cancelled() and (error := listening.exception()) is not None:
        log.warning("following.failed", offer=offer.id, error=f"{type(error).__name__}: {error}"[:300])


async def follow(http: httpx.AsyncClient, url: str) -> AsyncIterator[Update]:
    """Progress and log lines of the run at `url`, from its start; ends with the run or at the first trouble."""
    pause = FIRST_LOOK_SECONDS
    try:
        async with asyncio.timeout(WATCHING_SECONDS_MAX):
            while True:
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, LOOK_SECONDS_MAX)
                # Not packed: a small packed answer could become a large one here.
                async with http.stream("GET", f"{url}/stream", headers={"accept-encoding": "identity"}) as answer:
                    if answer.status_code == 200:
                        async for update in _updates(answer):
                            yield update
                    if answer.status_code != 404:  # 404: it has not begun; the payment is being verified
                        return
    except TROUBLE:
        return


async def _updates(answer: httpx.Response) -> AsyncIterator[Update]:
    logged = 0
    async for line in _lines(answer):
        update = _update(json.loads(line[5:])) if line.startswith(b"data:") else None
        if update is not None:
            yield update
            logged += isinstance(update, Log)
            if logged == LOGS_MAX:
                return


async def _lines(answer: httpx.Response) -> AsyncIterator[bytes]:
    """Whole lines as they arrive; ends where a line or the whole is too long."""
    rest, size = b"", 0
    async for part in answer.aiter_raw():
        size += len(part)
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if len(line) > LINE_BYTES_MAX:
                return
            yield line
        if len(rest) > LINE_BYTES_MAX or size > RUN_BYTES_MAX:
            return


def _update(event: object) -> Update | None:
    if not isinstance(event, dict) or not isinstance(event.get("data"), dict):
        return None
    data = event["data"]
    message = _text(data.get("message"), MESSAGE_CHARACTERS_MAX)
    if event.get("name") == "execution.log":
        return Log(message, _text(data.get("level"), LEVEL_CHARACTERS_MAX) or "info")
    if event.get("name") != "execution.progress":
        return None
    fraction = data.get("fraction")
    known = isinstance(fraction, int | float) and not isinstance(fraction, bool) and 0 <= fraction <= 1
    return Progress(float(fraction) if known else None, message)


def _text(value: object, limit: int) -> str:
    """One line that terminals, pages and databases take; anything but text is empty."""
    text = value[:limit] if isinstance(value, str) else ""
    return "".join(character if character.isprintable() else " " for character in text)
