"""The database goes away while an agent works: the run goes on, its events and its result are kept once it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from agentnexus.core.errors import Conflict, Unavailable
from agentnexus.core.events import EventName
from agentnexus.marketplace.executions import patience
from agentnexus.marketplace.executions.model import ExecutionStatus
from agentnexus.marketplace.executions.patience import patiently
from agentnexus.marketplace.executions.service import Executions
from tests.marketplace.conftest import Node
from tests.marketplace.test_executions import run, started, stored


class Failing:
    """A call that fails a number of times, then does what it always did."""

    def __init__(self, call: Callable[..., Awaitable[object]], times: int) -> None:
        self.call, self.left, self.passed = call, times, asyncio.Event()

    async def __call__(self, *arguments: object) -> object:
        if self.left > 0:
            self.left -= 1
            raise Unavailable("the database does not answer")
        self.passed.set()
        return await self.call(*arguments)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES_SECONDS", (0.0,) * 6)


def break_down(executions: Executions, monkeypatch: pytest.MonkeyPatch, call: str, times: int) -> Failing:
    failing = Failing(getattr(executions._store, call), times)
    monkeypatch.setattr(executions._store, call, failing)
    return failing


@pytest.mark.parametrize("call", ["append", "finish", "renew"])
async def test_a_run_outlives_a_short_outage(node: Node, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    break_down(node.executions, monkeypatch, call, 3 if call != "renew" else 1)
    execution = await run(node, do="answer", text="kept", count=50)
    assert execution.status is ExecutionStatus.COMPLETED
    assert execution.attempts == 1
    events = [event async for event in node.executions.events(execution.id)]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    lines = [event.data["message"] for event in events if event.name is EventName.EXECUTION_LOG]
    assert lines == [f"line {number}" for number in range(50)]


async def test_an_end_that_was_written_though_its_answer_was_lost_is_found(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = node.executions._store
    finish = store.finish
    lost: list[object] = []

    async def lose_the_answer(*arguments: object) -> object:
        done = await finish(*arguments)  # type: ignore[arg-type]
        if not lost:
            lost.append(done)
            raise Unavailable("connection was closed in the middle of operation")
        return done

    monkeypatch.setattr(store, "finish", lose_the_answer)
    execution = await run(node)
    assert execution == lost[0]


async def test_a_lease_that_cannot_be_renewed_in_time_is_lost(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    executions = node.executions
    monkeypatch.setattr(executions, "_lease", timedelta(seconds=0.2))
    break_down(executions, monkeypatch, "renew", 10_000)
    async with asyncio.timeout(20):
        assert await executions._guard("exe_any") is True


async def test_after_an_outage_a_run_can_still_be_cancelled(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.executions, "_lease", timedelta(seconds=2))
    failing = break_down(node.executions, monkeypatch, "renew", 1)
    running = asyncio.create_task(run(node, "to-cancel", do="wait"))
    execution_id = await stored(node, "to-cancel")
    await started(node, execution_id)
    async with asyncio.timeout(20):
        await failing.passed.wait()
        await node.executions.cancel(execution_id)
        with pytest.raises(Conflict, match="cancelled"):
            await running


async def test_an_outage_without_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    async def never() -> None:
        asked.append(1)
        raise Unavailable("gone")

    with pytest.raises(Unavailable):
        await patiently(never)
    assert len(asked) == len(patience.PAUSES_SECONDS) + 1
