"""Processes that die between two steps: no promise is lost, none is paid twice, and the books end as the chain does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process

from agentnexus.core.clock import ManualClock, SystemClock
from agentnexus.platform.process import wait_until_ready
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.paymaster.service import WINDOW_SECONDS
from agentnexus.rails.evm.userops import UserOperation
from tests.paymaster.conftest import Desk, settle


async def states(desk: Desk) -> list[str]:
    rows = await desk.database.pool.fetch("select state from paymaster.sponsorship order by created_at")
    return [row["state"] for row in rows]


async def died_before_giving(desk: Desk) -> UserOperation:
    """An operation whose promise was noted and reserved, by a process that died before it could answer."""
    operation = await desk.unsigned()
    promised = await desk.service().sponsor("alice", operation)
    await desk.database.pool.execute("update paymaster.sponsorship set state = 'reserving'")
    assert (await desk.booked())[1] == promised.max_cost_wei
    return operation


async def test_a_promise_that_was_reserved_and_not_given_goes_on_when_it_is_asked_for_again(desk: Desk) -> None:
    operation = await died_before_giving(desk)
    promised = await desk.service().sponsor("alice", operation)
    assert await states(desk) == ["signed"]
    assert (await desk.booked())[1] == promised.max_cost_wei


async def test_a_promise_that_was_noted_and_not_reserved_goes_on_as_well(desk: Desk) -> None:
    operation = await died_before_giving(desk)
    key = await desk.database.pool.fetchval("select user_operation_hash from paymaster.sponsorship")
    await desk.books.void(desk.service().accounts.key(key))
    await desk.database.pool.execute("delete from ledger.reservation where key like 'paymaster:%'")
    promised = await desk.service().sponsor("alice", operation)
    assert await states(desk) == ["signed"]
    assert (await desk.booked())[1] == promised.max_cost_wei


async def test_a_promise_that_nobody_asks_for_again_is_given_back(desk: Desk) -> None:
    clock = ManualClock(SystemClock().now())
    await died_before_giving(desk)
    clock.advance(2 * WINDOW_SECONDS + 60)
    await settle(desk.settling(clock=clock))
    assert await states(desk) == ["released"]
    assert (await desk.booked())[1] == 0


async def test_a_handler_that_died_after_the_books_and_before_the_note_is_repeated_without_harm(desk: Desk) -> None:
    operation = await desk.build()
    receipt = await desk.send(operation)
    accounts = desk.service().accounts
    key = accounts.key(to_hex(operation.hash(desk.chain.chain_id)))
    await desk.books.capture(key, accounts.money(receipt.gas_cost_wei))
    await settle(desk.settling())
    assert await states(desk) == ["used"]
    assert (await desk.booked())[0] == await desk.on_chain()


async def test_what_was_given_back_in_the_books_and_not_noted_is_noted_by_the_next_round(desk: Desk) -> None:
    clock = ManualClock(SystemClock().now())
    operation = await desk.build(service=desk.service(clock=clock))
    await desk.books.void(desk.service().accounts.key(to_hex(operation.hash(desk.chain.chain_id))), "expired")
    clock.advance(2 * WINDOW_SECONDS + 60)
    await settle(desk.settling(clock=clock))
    assert await states(desk) == ["released"]
    assert (await desk.books.check()).clean


async def follower(desk: Desk, database_url: str) -> Process:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.paymaster.follow_worker", stdin=PIPE)
    assert process.stdin is not None
    task = {"rpc_url": desk.chain.rpc_url, "database_url": database_url, "paymaster": desk.paymaster}
    process.stdin.write(json.dumps(task).encode() + b"\n")
    await process.stdin.drain()
    return process


async def test_a_follower_killed_in_the_middle_of_its_work_is_replaced_and_every_gas_is_charged_once(
    desk: Desk, database_url: str
) -> None:
    async def charged(count: int) -> None:
        async def there() -> bool:
            return (await states(desk)).count("used") >= count

        await wait_until_ready(there, what=f"{count} charged operations", timeout_seconds=60)

    victim = await follower(desk, database_url)
    for lane in range(3):
        await desk.send(await desk.build(lane=lane))
    await charged(1)
    os.kill(victim.pid, signal.SIGKILL)
    await victim.wait()
    for lane in range(3, 6):
        await desk.send(await desk.build(lane=lane))
    heir = await follower(desk, database_url)
    await charged(6)
    os.kill(heir.pid, signal.SIGKILL)
    await heir.wait()
    assert await desk.booked() == (await desk.on_chain(), 0)
    assert (await desk.books.check()).clean
