"""Settling processes killed again and again in the middle of their work: every payment once, no nonce lost."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE

import pytest
from tests.evm.conftest import Desk

from agentnexus.platform.process import wait_until_ready

PAYMENTS = 60


@pytest.mark.chaos
@pytest.mark.timeout(170)
async def test_killed_at_any_point_every_authorisation_is_settled_once(desk: Desk, database_url: str) -> None:
    signed = [await desk.signed(f"job-{number}", 3) for number in range(PAYMENTS)]
    task = json.dumps(
        {
            "rpc_url": desk.chain.rpc_url,
            "database_url": database_url,
            "payloads": [each.to_json() for each in signed],
            "die": "",
        }
    ).encode()
    relayer = desk.settler.relayer.public_id
    for killed_after in (1, 10, 30):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.evm.worker", stdin=PIPE, stdout=DEVNULL
        )
        assert process.stdin is not None
        process.stdin.write(task)
        process.stdin.write_eof()

        async def far_enough(count: int = killed_after) -> bool:
            return await desk.chain.rpc.read_int("eth_getTransactionCount", relayer, "latest") >= count

        await wait_until_ready(far_enough, what="some settlements", timeout_seconds=50, interval_seconds=0.001)
        process.kill()
        await process.wait()
    await asyncio.gather(*(desk.settler.settle(each, desk.requirement(3)) for each in signed))
    assert await desk.chain.rpc.read_int("eth_getTransactionCount", relayer, "latest") == PAYMENTS
    assert await desk.seller_earned() == 3 * PAYMENTS
    assert await desk.settler.recover() == 0
