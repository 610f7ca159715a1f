"""Any order of payments, repeats, look-ups and faults: every key moves money at most once, and what is said is true."""

from __future__ import annotations

import contextlib
import random

import pytest
from tests.solana.conftest import Desk

from agentnexus.core.errors import PaymentFailed, PaymentUnknown, Unavailable
from agentnexus.core.payments import Payment, PaymentState
from agentnexus.devnet.solana.faults import Fault
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.wallet import SolanaRail

KEYS = 6
STEPS = 40
FAULTS = (Fault.DROP_ANSWER, Fault.LOSE_SEND, Fault.HOLD_SEND, Fault.HOLD_CONFIRMATION, Fault.FAIL_ON_CHAIN)


class Storm:
    """Random steps on one desk. Key ``k<n>`` pays ``2**n``, so that the payee's balance tells which keys moved."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk = desk
        self.dice = random.Random(seed)
        sender = TransactionSender(
            desk.sender.database, desk.chain.rpc, desk.chain.network, resend_seconds=0.02, poll_seconds=0.01
        )
        self.rail = SolanaRail(sender, desk.payer.signer, send_wait_seconds=0.15, lookup_wait_seconds=0.1)
        self.told: dict[int, PaymentState] = {}

    async def step(self) -> None:
        number = self.dice.randrange(KEYS)
        match self.dice.randrange(6):
            case 0 | 1:
                await self.send(number)
            case 2:
                await self.look(number)
            case 3 | 4:
                await self.desk.chain.fault(self.dice.choice(FAULTS))
            case 5:
                await (self.desk.chain.release() if self.dice.random() < 0.5 else self.desk.chain.advance(60))

    async def send(self, number: int) -> None:
        with contextlib.suppress(PaymentUnknown, Unavailable):
            try:
                self.tell(number, (await self.rail.send(self.desk.request(2**number), f"k{number}")).state)
            except PaymentFailed:
                self.tell(number, PaymentState.FAILED)

    async def look(self, number: int) -> None:
        request = self.desk.request(2**number)
        if await self.desk.sender.find(f"send:k{number}") is None:
            return
        looked = await self.rail.lookup(Payment(id=f"k{number}", request=request, state=PaymentState.SENT))
        if looked.state is not PaymentState.UNKNOWN:
            self.tell(number, looked.state)

    def tell(self, number: int, state: PaymentState) -> None:
        """A final word never changes."""
        assert self.told.setdefault(number, state) is state


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_every_key_pays_once_or_never_and_the_rail_knows_which(desk: Desk, seed: int) -> None:
    await desk.chain.mint(desk.payee.key, 2**20)  # an account, so that an ordered failure is one of money
    storm = Storm(desk, seed)
    for _ in range(STEPS):
        await storm.step()
    await desk.chain.release()
    for number in range(KEYS):
        if await desk.sender.find(f"send:k{number}") is not None:
            await desk.chain.advance(300)
            await storm.look(number)
            assert number in storm.told
    moved = await desk.usdc_of(desk.payee) - 2**20
    assert moved == sum(2**number for number, state in storm.told.items() if state is PaymentState.CONFIRMED)
