"""Workflows with real hiring, ledger and budgets: money and steps agree, also after workers were killed."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from agentnexus.core.errors import NotFound
from agentnexus.core.payments import ReceiptStatus
from agentnexus.hiring.receipts import verify_receipt
from agentnexus.hiring.testing import Script
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.port import NewRun, RunState
from agentnexus.workflows.model import Plan, StepRetry, Workflow, WorkflowRequest, WorkflowStatus
from agentnexus.workflows.run import BODY
from agentnexus.workflows.worker import WorkflowRoom
from tests.hiring.support import Economy, seller_key, usd

from .conftest import until
from .paid_worker import BAD, GOOD, economy_on, room_of, step
from .test_chaos import ROOT


@pytest.fixture
async def economy(database: Database) -> AsyncIterator[Economy]:
    built = await economy_on(database)
    yield built
    await built.close()


@pytest.fixture
async def room(economy: Economy) -> AsyncIterator[WorkflowRoom]:
    async with Wakeups(economy.database) as wakeups:
        yield room_of(economy, wakeups)


@asynccontextmanager
async def working(room: WorkflowRoom) -> AsyncIterator[None]:
    task = asyncio.create_task(room.engine.work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def start(room: WorkflowRoom, run_id: str, plan: Plan, max_cost: str = "1") -> None:
    request = WorkflowRequest(user_id="ann", text=run_id, max_cost=usd(max_cost), auto_approve=True, plan=plan)
    await room.engine.start(NewRun(run_id, BODY, request.model_dump(mode="json"), tenant="ann"))


async def run(room: WorkflowRoom, plan: Plan, max_cost: str = "1") -> Workflow:
    await start(room, "wf_1", plan, max_cost)
    async with working(room), asyncio.timeout(60):
        return await room.workflows.result("wf_1", "ann")


async def test_a_good_workflow_pays_each_seller_once_and_its_receipts_verify(
    room: WorkflowRoom, economy: Economy
) -> None:
    done = await run(room, GOOD)
    assert done.status is WorkflowStatus.COMPLETED, done.error
    assert done.result == "d"
    assert done.cost == usd("0.09")
    assert (await economy.paid(1), await economy.paid(2)) == ("0.06", "0.03")
    assert len(done.receipts) == 4
    for receipt in done.receipts:
        verify_receipt(receipt)
        assert receipt.status is ReceiptStatus.SETTLED
        assert receipt.payments[0].transaction
    events = [event async for event in room.workflows.events("wf_1", "ann")]
    reserved, settled = (
        [event.data["authorization"] for event in events if event.name.value == name]
        for name in ("payment.reserved", "payment.settled")
    )
    assert sorted(map(str, reserved)) == sorted(r.payments[0].authorization for r in done.receipts)
    assert sorted(map(str, settled)) == sorted(map(str, reserved))
    budget = await economy.books.budgets.status("workflow:wf_1")
    assert budget.spent == usd("0.09")
    assert budget.parent == "user-1"
    await economy.assert_sound()


async def test_a_failed_workflow_keeps_what_was_delivered_and_refunds_the_rest(
    room: WorkflowRoom, economy: Economy
) -> None:
    done = await run(room, BAD)
    assert done.status is WorkflowStatus.FAILED
    assert done.error is not None
    assert done.error["code"] == "seller_failed"
    assert await economy.paid(3) == "0"
    refunded = [receipt for receipt in done.receipts if receipt.status is not ReceiptStatus.SETTLED]
    assert refunded
    paid = sum([Decimal(await economy.paid(number)) for number in (1, 2)])
    assert done.cost.decimal == paid
    await economy.assert_sound()


async def test_a_step_whose_seller_took_the_money_in_vain_is_not_paid_again(
    room: WorkflowRoom, economy: Economy
) -> None:
    economy.market.scripts[seller_key(1)] = Script(breaks_off=99)
    patient = step("a", "text.echo").model_copy(update={"retry": StepRetry(attempts=3)})
    done = await run(room, Plan(planner="hand", steps=(patient,)))
    assert done.status is WorkflowStatus.FAILED
    assert done.error is not None
    assert done.error["code"] == "paid_undelivered"
    assert [state.attempts for state in done.steps] == [1]
    assert await economy.paid(1) == "0.02"
    await economy.assert_sound()


async def test_the_budget_of_a_workflow_stops_it_though_the_plan_was_changed_under_it(
    room: WorkflowRoom, economy: Economy
) -> None:
    done = await run(room, GOOD, max_cost="0.05")
    assert done.status is WorkflowStatus.FAILED
    assert done.error is not None
    assert done.error["code"] == "budget_exceeded"
    assert done.receipts == ()
    with pytest.raises(NotFound):
        await economy.books.budgets.status("workflow:wf_1")
    await economy.assert_sound()


async def test_a_network_that_comes_back_lets_the_workflow_finish(room: WorkflowRoom, economy: Economy) -> None:
    economy.rail.down = True
    await start(room, "wf_1", GOOD)
    async with working(room), asyncio.timeout(90):

        async def asked() -> bool:
            async with economy.database.connection() as connection:
                return bool(await connection.fetchval("select exists (select from hiring.hold)"))

        await until(asked, "a payment is under way")
        economy.rail.down = False
        done = await room.workflows.result("wf_1", "ann")
    assert done.status in (WorkflowStatus.COMPLETED, WorkflowStatus.FAILED)
    await economy.assert_sound()


async def spawn(url: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.workflows.paid_worker", url,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"working\n"
    return process


@pytest.mark.chaos
async def test_no_step_is_paid_twice_and_no_hold_is_lost_when_workers_are_killed(
    room: WorkflowRoom, economy: Economy, database_url: str
) -> None:
    chance = random.Random(11)
    ids = [f"wf_{number:03}" for number in range(100)]
    bad = set(ids[::6])
    workers = [await spawn(database_url) for _ in range(3)]
    for run_id in ids:
        await start(room, run_id, BAD if run_id in bad else GOOD)
    kills = 0

    async def ended() -> int:
        counts = await room.engine.counts()
        return sum(count for state, count in counts.items() if state.final)

    async def one_more() -> None:
        workers.append(await spawn(database_url))

    try:
        async with asyncio.timeout(150), asyncio.TaskGroup() as spawning:
            while (before := await ended()) < len(ids) - 8:
                target = before + chance.randrange(1, 8)

                async def reached(target: int = target) -> bool:
                    return await ended() >= target

                await until(reached, f"{target} workflows have ended")
                victim = workers.pop(0)
                victim.kill()
                await victim.communicate()
                kills += 1
                replacement = spawning.create_task(one_more())
                if not workers:
                    await replacement
            done = [await room.workflows.result(run_id, "ann") for run_id in ids]
    finally:
        for worker in workers:
            worker.kill()
            await worker.communicate()
    assert kills >= 3
    assert {entry.id for entry in done if entry.status is WorkflowStatus.COMPLETED} == set(ids) - bad
    assert {entry.id for entry in done if entry.status is WorkflowStatus.FAILED} == bad
    await paid_once(economy, done)
    for entry in done:
        events = [event async for event in room.workflows.events(entry.id, "ann")]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert (await room.engine.counts()).get(RunState.RUNNING, 0) == 0
    await economy.assert_sound()


async def paid_once(economy: Economy, done: list[Workflow]) -> None:
    """Every transaction belongs to one step, and what workflows say they cost is what the ledger paid."""
    transactions: Counter[str] = Counter()
    for entry in done:
        settled: Counter[str] = Counter()
        for receipt in entry.receipts:
            transactions.update(payment.transaction for payment in receipt.payments if payment.transaction)
            settled[receipt.need_hash] += receipt.status is ReceiptStatus.SETTLED
        assert not settled or max(settled.values()) <= 1
    assert set(transactions.values()) == {1}
    said = sum(entry.cost.atomic for entry in done)
    paid = [await economy.books.balance(f"seller:evm:0x{number:040x}", usd("1").asset) for number in (1, 2, 3)]
    assert said == sum(balance.posted.atomic for balance in paid)
