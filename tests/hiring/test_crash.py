"""kill -9 between every two steps of a hire: the seller is paid once or not at all, and nothing stays open."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from agentnexus.core.errors import SellerFailed
from agentnexus.core.payments import ReceiptStatus
from agentnexus.hiring.receipts import verify_receipt
from agentnexus.platform.database import Database
from tests.hiring.killed import KINDS, build
from tests.hiring.support import Economy

POINTS = {
    "authorize": [
        "searched", "attempt-written", "payment-written", "reserved", "hold-opened", "hold-written", "settled-on-rail",
        "captured", "bought", "attempt-ended", "hire-written",
    ],
    "hold": [
        "searched", "attempt-written", "payment-written", "reserved", "hold-announced", "hold-opened", "hold-written",
        "bought", "delivered", "settled-on-rail", "captured", "attempt-ended", "hire-written",
    ],
    "pay": [
        "searched", "attempt-written", "payment-written", "send-announced", "sent", "captured", "bought",
        "attempt-ended", "hire-written",
    ],
    "fail": [
        "attempt-written", "reserved", "hold-written", "cancelled-on-rail", "voided", "attempt-ended",
        "failure-written",
    ],
    "fail-hold": ["hold-announced", "hold-opened", "hold-written", "cancelled-on-rail", "voided", "failure-written"],
    "uncollected": ["bought", "delivered", "settled-on-rail", "cancelled-on-rail", "voided", "attempt-ended"],
}  # fmt: skip


async def kill_at_every_point(url: str, kind: str) -> None:
    """Children that hire and die; checks that every one of them did die there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.hiring.killed", url, kind, *POINTS[kind],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert json.loads(out) == dict.fromkeys(POINTS[kind], -signal.SIGKILL), errors.decode()


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def survivor(database: Database, kind: str) -> AsyncIterator[Economy]:
    """An economy on the same database, after hires were killed at every point."""
    economy = await build(database, kind)
    await kill_at_every_point(database.url, kind)
    yield economy
    await economy.close()


async def test_the_points_listed_here_are_all_the_points_a_hire_passes(database: Database, kind: str) -> None:
    economy = await build(database, kind)
    if kind.startswith("fail"):
        with pytest.raises(SellerFailed):
            await economy.hire()
    else:
        await economy.hire()
    assert set(POINTS[kind]) <= set(economy.checkpoints)
    if kind in ("authorize", "hold", "pay"):
        assert set(economy.checkpoints) == set(POINTS[kind])
    await economy.close()


async def test_a_killed_hire_goes_on_with_the_same_payment_and_pays_once(survivor: Economy, kind: str) -> None:
    for point in POINTS[kind]:
        key = f"{kind}:{point}"
        if kind.startswith("fail"):
            with pytest.raises(SellerFailed, match="out of paper"):
                await survivor.hire(key=key)
        else:
            hired = await survivor.hire(key=key)
            assert hired.output == {"echo": {"text": "hello"}}, point
            assert hired.receipt.status is ReceiptStatus.SETTLED
            assert len(hired.receipts) == 1 + (point == "send-announced"), point
        for receipt in await survivor.hiring.receipts(key):
            assert verify_receipt(receipt.model_dump_json()).valid, point
    pays = kind in ("authorize", "hold", "pay")
    assert await survivor.collected() == (len(POINTS[kind]) if pays else 0)
    await survivor.assert_sound()


async def test_when_nobody_comes_back_repair_ends_every_payment(survivor: Economy, kind: str) -> None:
    async with survivor.database.connection() as connection:
        await connection.execute(
            "update hiring.hold set deadline = now() - interval '1 hour' where finished_at is null"
        )
        await connection.execute(
            "update hiring.attempt set started_at = now() - interval '1 hour' where receipt is null"
        )
    await survivor.repair.run_once()
    await survivor.repair.run_once()
    await survivor.assert_sound()
    for point in POINTS[kind]:
        for receipt in await survivor.hiring.receipts(f"{kind}:{point}"):
            assert verify_receipt(receipt.model_dump_json()).valid, point


async def test_a_hire_may_come_back_after_repair_and_still_pays_at_most_once(survivor: Economy, kind: str) -> None:
    async with survivor.database.connection() as connection:
        await connection.execute(
            "update hiring.hold set deadline = now() - interval '1 hour' where finished_at is null"
        )
    await survivor.repair.run_once()
    for point in POINTS[kind]:
        try:
            await survivor.hire(key=f"{kind}:{point}")
        except SellerFailed:
            assert kind.startswith("fail") or kind == "uncollected", point
    assert await survivor.collected() <= len(POINTS[kind])
    await survivor.assert_sound()


async def test_repair_leaves_a_running_hire_alone(database: Database) -> None:
    economy = await build(database, "hold")
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def wait_here(update: object) -> None:
        reached.set()
        await go_on.wait()

    task = asyncio.create_task(economy.hire(on_update=wait_here))
    await reached.wait()
    async with database.connection() as connection:
        await connection.execute("update hiring.hold set deadline = now() - interval '1 hour'")
        await connection.execute("update hiring.attempt set started_at = now() - interval '1 hour'")
    done = await economy.repair.run_once()
    assert (done.refunded, done.closed) == (0, 0)
    go_on.set()
    assert (await task).receipt.status is ReceiptStatus.SETTLED
    await economy.assert_sound()
    await economy.close()


async def test_repair_keeps_a_payment_open_while_its_network_cannot_be_asked(database: Database) -> None:
    economy = await build(database, "hold")

    def go_down(update: object) -> None:
        economy.rail.down = True
        raise ConnectionError("the listener goes too")

    with pytest.raises(ConnectionError):
        await economy.hire(on_update=lambda update: go_down(update) if "answered" in str(update) else None)
    async with database.connection() as connection:
        await connection.execute("update hiring.hold set deadline = now() - interval '1 hour'")
    assert (await economy.repair.run_once()).unknown == 1
    async with database.connection() as connection:
        state = await connection.fetchval("select state from hiring.hold")
        await connection.execute("update hiring.hold set looked_at = now() - interval '1 hour'")
    assert state == "unknown"
    economy.rail.down = False
    assert (await economy.repair.run_once()).refunded == 1
    await economy.hiring.cancel("k1")
    await economy.assert_sound()
    await economy.close()
