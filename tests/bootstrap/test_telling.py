"""The outbox has a reader: what happened is told at least once, a killed reader goes on, and caches hear of changes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agentnexus.bootstrap.authoring import make_agent
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.stock import till_of
from agentnexus.bootstrap.telling import forget_offers, tell
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import NotFound, Unavailable
from agentnexus.core.events import Event, EventName
from agentnexus.hiring.cache import OfferCache
from agentnexus.marketplace.listings.model import ListingStatus
from agentnexus.marketplace.listings.service import Listings
from agentnexus.platform.cache import Cache
from agentnexus.platform.database import Database
from agentnexus.platform.outbox import OutboxReader, publish
from agentnexus.platform.process import wait_until_ready
from agentnexus.platform.wakeups import Wakeups
from agentnexus.runtime.unsafe import UnsafeLocal

PATIENCE_SECONDS = 30
SLOW_READER = """
import asyncio, sys
from agentnexus.platform.database import Database
from agentnexus.platform.outbox import OutboxReader

async def main():
    database = await Database.open(sys.argv[1], max_size=3)
    async def handle(event):
        print(event.sequence, flush=True)
        if event.sequence == 3:
            await asyncio.sleep(600)
    await OutboxReader(database, "r").drain(handle)

asyncio.run(main())
"""


def event(sequence: int, name: EventName = EventName.PAYMENT_SETTLED, subject: str = "payment:x") -> Event:
    return Event(name=name, subject=subject, sequence=sequence, at=SystemClock().now(), data={"amount": sequence})


async def happen(database: Database, *events: Event) -> None:
    async with database.transaction() as connection:
        await publish(connection, events)


@asynccontextmanager
async def running(*work: object) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(each) for each in work]  # type: ignore[call-overload]  # coroutines
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_payments_and_differences_are_told_to_the_log(database: Database) -> None:
    difference = Event(
        name=EventName.LEDGER_DIFFERENCE,
        subject="case_1",
        sequence=1,
        at=SystemClock().now(),
        data={"kind": "balance", "subject": "wallet:x", "difference": {"atomic": "5"}, "detail": {"a": 1}},
    )
    await happen(database, event(1), event(2, EventName.WORKFLOW_FAILED, "wf"), difference)
    with capture_logs() as logs:
        async with Wakeups(database) as wakeups, running(tell(database, wakeups)):

            async def told() -> bool:
                return len(logs) >= 2

            await wait_until_ready(told, what="two lines", timeout_seconds=PATIENCE_SECONDS)
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("payment.settled", "info"),
        ("ledger.difference", "error"),
    ]
    assert logs[1]["case"] == "case_1"
    assert logs[1]["subject"] == "wallet:x"


async def test_a_reader_that_was_killed_goes_on_where_it_was_and_repeats_what_it_had_not_finished(
    database: Database, database_url: str
) -> None:
    await happen(database, *(event(number) for number in range(1, 6)))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SLOW_READER, database_url, stdout=PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert [int(await process.stdout.readline()) for _ in range(3)] == [1, 2, 3]
    seen: list[int] = []

    async def handle(told: Event) -> None:
        seen.append(told.sequence)

    reader = OutboxReader(database, "r")
    assert await reader.drain(handle) == 0, "two at once"
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()

    async def drained() -> bool:
        await reader.drain(handle)
        return bool(seen)

    await wait_until_ready(drained, what="the lock of the dead", timeout_seconds=PATIENCE_SECONDS)
    assert seen == [3, 4, 5]


async def test_a_reader_whose_subscriber_fails_tries_again(database: Database) -> None:
    await happen(database, event(1))
    tries: list[int] = []
    done = asyncio.Event()

    async def handle(told: Event) -> None:
        tries.append(told.sequence)
        if len(tries) < 3:
            raise Unavailable("not now")
        done.set()

    async with running(OutboxReader(database, "r").follow(handle, 0.01)), asyncio.timeout(PATIENCE_SECONDS):
        await done.wait()
    assert tries == [1, 1, 1]


async def test_racing_readers_of_one_name_tell_each_event_once(database: Database) -> None:
    await happen(database, *(event(number) for number in range(1, 301)))
    seen: list[int] = []

    async def handle(told: Event) -> None:
        seen.append(told.sequence)
        await asyncio.sleep(0)

    counts = await asyncio.gather(*(OutboxReader(database, "r").drain(handle) for _ in range(3)))
    assert sorted(counts) == [0, 0, 300]
    assert seen == list(range(1, 301))


async def test_a_changed_listing_makes_every_process_ask_the_markets_again(
    ground: Ground, connected: Chain, tmp_path: Path
) -> None:
    make_agent(tmp_path / "counter")
    listings = Listings(ground.database, ground.clock, till_of(connected))
    offers, asked = OfferCache(Cache()), 0

    async def load() -> tuple[()]:
        nonlocal asked
        asked += 1
        return ()

    async def asks_again() -> bool:
        before = asked
        await offers.get_or_load("m", "q", load)
        return asked > before

    async with UnsafeLocal() as runtime, Wakeups(ground.database) as worker, Wakeups(ground.database) as api:
        bundle = await runtime.prepare(tmp_path / "counter")
        async with running(tell(ground.database, worker), forget_offers(api, offers)):
            await offers.get_or_load("m", "q", load)
            assert not await asks_again()
            listing = await listings.publish(bundle, connected.sellers(ground.settings.seller_keys)[0].public_id)
            await wait_until_ready(asks_again, what="a new listing", timeout_seconds=PATIENCE_SECONDS)
            await listings.set_status(listing.id, ListingStatus.SUSPENDED)
            await wait_until_ready(asks_again, what="a suspended one", timeout_seconds=PATIENCE_SECONDS)
    await listings.publish(bundle, listing.seller)
    await listings.publish(bundle, listing.seller)  # nothing new
    async with ground.database.connection() as connection:
        rows = await connection.fetch("select sequence, data ->> 'status' as status from platform.outbox order by id")
    assert [tuple(row) for row in rows] == [(1, "active"), (2, "suspended"), (3, "active")]


async def test_what_is_not_listed_is_not_told(ground: Ground, connected: Chain) -> None:
    listings = Listings(ground.database, ground.clock, till_of(connected))
    with pytest.raises(NotFound):
        await listings.set_status("org.example.nobody", ListingStatus.ACTIVE)
    async with ground.database.connection() as connection:
        assert await connection.fetchval("select count(*) from platform.outbox") == 0
