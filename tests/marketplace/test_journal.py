"""The journal of a run: order, batches, and nothing written by a process that lost its lease."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from agentnexus.core.clock import SystemClock
from agentnexus.core.events import EventName
from agentnexus.marketplace.executions.journal import RunJournal, topic
from agentnexus.marketplace.executions.store import ExecutionStore, Ticket
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups

CLOCK = SystemClock()
TICKET = Ticket("exe_1", "key", "org.test.agent", "1.0.0", "sha256:0", "user", "sha256:1")


@pytest.fixture
async def store(database: Database) -> ExecutionStore:
    opened = ExecutionStore(database)
    _, is_ours = await opened.claim(TICKET, "me", CLOCK.now(), timedelta(minutes=1))
    assert is_ours
    return opened


def journal(store: ExecutionStore, wakeups: Wakeups, *, owner: str = "me", last: int = 0) -> RunJournal:
    return RunJournal(store, wakeups, CLOCK, execution_id="exe_1", owner=owner, last=last)


async def test_everything_said_is_written_in_order_before_the_journal_closes(
    store: ExecutionStore, wakeups: Wakeups
) -> None:
    async with journal(store, wakeups) as said:
        for number in range(700):
            said.say(EventName.EXECUTION_LOG, {"message": str(number)})
            if number % 100 == 0:
                await asyncio.sleep(0)

    first = await store.events("exe_1")
    rest = await store.events("exe_1", after=first[-1].sequence)
    assert [event.data["message"] for event in (*first, *rest)] == [str(number) for number in range(700)]
    assert await store.last_sequence("exe_1") == 700


async def test_a_journal_goes_on_after_the_last_owners_events(store: ExecutionStore, wakeups: Wakeups) -> None:
    async with journal(store, wakeups) as said:
        said.say(EventName.EXECUTION_LOG, {"message": "first life"})
    async with journal(store, wakeups, last=await store.last_sequence("exe_1")) as said:
        said.say(EventName.EXECUTION_LOG, {"message": "second life"})

    assert [event.sequence for event in await store.events("exe_1")] == [1, 2]


async def test_what_a_process_without_the_lease_says_is_dropped(store: ExecutionStore, wakeups: Wakeups) -> None:
    async with journal(store, wakeups, owner="somebody else") as said:
        said.say(EventName.EXECUTION_LOG, {"message": "lie"})

    assert await store.events("exe_1") == []


async def test_readers_are_woken(store: ExecutionStore, wakeups: Wakeups) -> None:
    woken = wakeups.watch(topic("exe_1"))
    async with journal(store, wakeups) as said:
        said.say(EventName.EXECUTION_LOG, {"message": "x"})
        async with asyncio.timeout(5):
            await woken.wait()


async def test_an_empty_journal_closes_at_once(store: ExecutionStore, wakeups: Wakeups) -> None:
    async with asyncio.timeout(5), journal(store, wakeups):
        pass

    assert await store.events("exe_1") == []


async def test_a_lease_is_renewed_and_lost_by_owner(store: ExecutionStore) -> None:
    until = CLOCK.now() + timedelta(minutes=2)

    assert await store.renew("exe_1", "me", until) is False
    assert await store.renew("exe_1", "thief", until) is None
    await store.ask_cancel("exe_1")
    assert await store.renew("exe_1", "me", until) is True


async def test_a_released_run_is_the_next_callers(store: ExecutionStore) -> None:
    now = CLOCK.now()
    execution, is_theirs = await store.claim(TICKET, "other", now, timedelta(minutes=1))
    assert not is_theirs

    await store.release("exe_1", "me", now - timedelta(seconds=1))
    execution, is_theirs = await store.claim(TICKET, "other", now, timedelta(minutes=1))

    assert is_theirs
    assert execution.attempts == 2
    assert await store.start("exe_1", "me", 1, now) is False
