"""Several processes sponsor on one budget: together they never promise more than it has."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE

from agentnexus.rails.evm.userops import UserOperation
from tests.paymaster.conftest import ETHER, Desk

PROCESSES, REQUESTS, PROMISES = 4, 50, 23


async def run_worker(task: dict[str, object]) -> dict[str, int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.paymaster.sponsor_worker", stdin=PIPE, stdout=PIPE
    )
    printed, _ = await process.communicate(json.dumps(task).encode())
    assert process.returncode == 0
    answer: dict[str, int] = json.loads(printed)
    return answer


async def test_two_hundred_requests_over_four_processes_never_pass_one_budget(desk: Desk, database_url: str) -> None:
    operation: UserOperation = await desk.unsigned()
    cost = (await desk.service().sponsor("probe", operation)).max_cost_wei
    await desk.database.pool.execute("delete from paymaster.sponsorship")
    already = (await desk.booked())[1]
    budget = f"{cost * PROMISES / ETHER:.18f}"
    # One and the same user for everybody: both the user's budget and the policy's are the bottleneck.
    policy = desk.policy(id="shared", per_operation="1", per_user_day=budget, per_day=budget)
    tasks: list[dict[str, object]] = [
        {
            "rpc_url": desk.chain.rpc_url,
            "database_url": database_url,
            "paymaster": desk.paymaster,
            "factory": desk.manifest.address("AccountFactory"),
            "policies": [policy.model_dump(mode="json")],
            "operation": operation.to_json(),
            "lanes": [1 + REQUESTS * number, 1 + REQUESTS * (number + 1)],
            "user": "alice",
        }
        for number in range(PROCESSES)
    ]
    answers = await asyncio.gather(*(run_worker(task) for task in tasks))
    assert sum(answer["promised"] for answer in answers) == PROMISES
    reserved = (await desk.booked())[1] - already
    assert reserved == sum(answer["cost"] for answer in answers) == cost * PROMISES
    assert (await desk.books.check()).clean


async def test_one_operation_asked_for_by_many_at_once_is_one_promise(desk: Desk) -> None:
    operation = await desk.unsigned()
    services = [desk.service() for _ in range(10)]
    promised = await asyncio.gather(*(each.sponsor("alice", operation) for each in services))
    assert len(set(promised)) == 1
    assert (await desk.booked())[1] == promised[0].max_cost_wei
