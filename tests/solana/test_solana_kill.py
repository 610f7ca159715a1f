"""Processes that die: the payer's and the chain's. No payment is lost, none is made twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest
from tests.solana.conftest import Desk, open_desk
from tests.solana.solana_worker import AMOUNT

from agentnexus.core.errors import PaymentUnknown, Unavailable
from agentnexus.core.payments import PaymentState
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.devnet.solana.faults import Fault
from agentnexus.platform.database import Database

WORKER = Path(__file__).with_name("solana_worker.py")
PAYMENTS = 30


async def start_payer(desk: Desk, database_url: str) -> Process:
    arguments = [database_url, desk.chain.rpc_url, desk.payer.keypair.secret().hex(), desk.payee.address]
    root = Path(__file__).parents[2]
    return await asyncio.create_subprocess_exec(
        sys.executable, str(WORKER), *arguments, str(PAYMENTS), stdout=PIPE, cwd=root, env={"PYTHONPATH": str(root)}
    )


async def read_some(payer: Process, lines: int) -> None:
    assert payer.stdout is not None
    for _ in range(lines):
        if not await payer.stdout.readline():
            return


@pytest.mark.chaos
async def test_a_payer_killed_again_and_again_pays_each_key_once(desk: Desk, database_url: str) -> None:
    dice = random.Random(7)
    for kill in range(8):
        payer = await start_payer(desk, database_url)
        await read_some(payer, dice.randrange(1, 5))
        if kill % 2:
            await desk.chain.fault(Fault.LOSE_SEND)  # it dies with a transaction that never left
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(dice.random() * 0.01):  # anywhere in the next payment
                await payer.wait()
        with contextlib.suppress(ProcessLookupError):
            payer.kill()
        await payer.wait()
    await desk.chain.release()
    last = await start_payer(desk, database_url)
    await last.communicate()
    assert last.returncode == 0
    assert await desk.usdc_of(desk.payee) == PAYMENTS * AMOUNT
    assert await desk.sent_by_payer() == PAYMENTS


@pytest.mark.chaos
async def test_two_payers_with_one_list_pay_each_key_once(desk: Desk, database_url: str) -> None:
    payers = [await start_payer(desk, database_url) for _ in range(2)]
    for payer in payers:
        await payer.communicate()
    assert [payer.returncode for payer in payers] == [0, 0]
    assert await desk.usdc_of(desk.payee) == PAYMENTS * AMOUNT
    assert await desk.sent_by_payer() == PAYMENTS


async def persistently(desk: Desk, key: str) -> PaymentState:
    """As every caller does: ask again with the same key while it is not known."""
    while True:
        with contextlib.suppress(Unavailable, PaymentUnknown):
            return (await desk.rail.send(desk.request(100), key)).state


@pytest.mark.chaos
async def test_a_chain_killed_while_it_is_paid_on_has_kept_every_answer(
    own_solana: SolanaDevelopmentChain, database: Database
) -> None:
    desk = await open_desk(own_solana, database)
    paid = 0
    for round_number in range(4):
        payments = [asyncio.create_task(persistently(desk, f"{round_number}:{number}")) for number in range(6)]
        await asyncio.wait(payments, return_when=asyncio.FIRST_COMPLETED)
        await own_solana.kill()
        await own_solana.start()
        results = [await each for each in payments]  # they go on with the chain that came back
        assert set(results) == {PaymentState.CONFIRMED}
        paid += len(results)
        assert await desk.usdc_of(desk.payee) == paid * 100
    assert await desk.sent_by_payer() == paid
