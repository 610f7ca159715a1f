"""The prepaid rail: the supported fake, held to the same promises as the rails that cost money."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import PaymentRequest, PaymentState, PayMode
from agentnexus.core.ports import Holding, Rail
from agentnexus.rails.prepaid.posting import InMemoryPosting
from agentnexus.rails.prepaid.wallet import PrepaidRail

CREDITS = Asset("USDC", 6, "eip155:31337/erc20:0x" + "11" * 20)
BUYER, SELLER = "user:buyer", "seller:evm:0xabc"


def request(mode: PayMode = PayMode.HOLD, amount: int = 100) -> PaymentRequest:
    return PaymentRequest(
        rail="prepaid", amount=Money(CREDITS, amount), payee=SELLER, mode=mode, reference={}, binding="job:1"
    )


@pytest.fixture
def posting() -> InMemoryPosting:
    return InMemoryPosting({BUYER: Money(CREDITS, 150)})


@pytest.fixture
def rail(posting: InMemoryPosting, clock: ManualClock) -> PrepaidRail:
    return PrepaidRail(BUYER, posting, clock=clock)


async def has(posting: InMemoryPosting, account: str) -> int:
    return (await posting.balance(account, CREDITS)).atomic


def test_it_is_a_rail_that_can_hold(rail: PrepaidRail) -> None:
    as_rail: Rail = rail
    assert as_rail.name == "prepaid"
    assert isinstance(rail, Holding)


async def test_sending_moves_the_money_once_per_key(rail: PrepaidRail, posting: InMemoryPosting) -> None:
    first = await rail.send(request(PayMode.PAY), "p1")
    again = await rail.send(request(PayMode.PAY), "p1")
    assert first == again
    assert first.state is PaymentState.CONFIRMED
    assert (await has(posting, BUYER), await has(posting, SELLER)) == (50, 100)
    assert (await rail.lookup(first)).state is PaymentState.CONFIRMED
    assert (await rail.balance(CREDITS)).atomic == 50


async def test_a_key_used_for_another_amount_is_a_conflict(rail: PrepaidRail) -> None:
    await rail.send(request(PayMode.PAY, 10), "p1")
    with pytest.raises(Conflict):
        await rail.send(request(PayMode.PAY, 11), "p1")


async def test_more_than_there_is_moves_nothing(rail: PrepaidRail, posting: InMemoryPosting) -> None:
    with pytest.raises(InsufficientFunds, match="less than"):
        await rail.send(request(PayMode.PAY, 151), "p1")
    with pytest.raises(InsufficientFunds):
        await rail.open(request(amount=151), "h1")
    assert await has(posting, BUYER) == 150


async def test_held_money_is_nobodys_until_it_is_released(rail: PrepaidRail, posting: InMemoryPosting) -> None:
    hold = await rail.open(request(), "h1")
    assert hold.payment.state is PaymentState.HELD
    assert (await has(posting, BUYER), await has(posting, SELLER)) == (50, 0)
    payment = await rail.settle(hold, {})
    assert payment.state is PaymentState.CONFIRMED
    assert await has(posting, SELLER) == 100


async def test_cancelled_money_comes_back(rail: PrepaidRail, posting: InMemoryPosting) -> None:
    hold = await rail.open(request(), "h1")
    payment = await rail.cancel(hold)
    assert payment.state is PaymentState.REFUNDED
    assert payment.evidence["cancel_transaction"]
    assert await has(posting, BUYER) == 150


async def test_opening_twice_holds_once(rail: PrepaidRail, posting: InMemoryPosting) -> None:
    first = await rail.open(request(), "h1")
    assert await rail.open(request(), "h1") == first
    assert await has(posting, BUYER) == 50


async def test_a_hold_ends_once_whoever_comes_second(rail: PrepaidRail, posting: InMemoryPosting) -> None:
    settled_first = await rail.open(request(amount=50), "h1")
    await rail.settle(settled_first, {})
    assert (await rail.cancel(settled_first)).state is PaymentState.CONFIRMED
    cancelled_first = await rail.open(request(amount=50), "h2")
    await rail.cancel(cancelled_first)
    assert (await rail.settle(cancelled_first, {})).state is PaymentState.REFUNDED
    assert (await has(posting, BUYER), await has(posting, SELLER)) == (100, 50)


async def test_settle_and_cancel_at_once_end_in_one(rail: PrepaidRail, posting: InMemoryPosting) -> None:
    hold = await rail.open(request(), "h1")
    outcomes = await asyncio.gather(rail.settle(hold, {}), rail.cancel(hold), rail.settle(hold, {}), rail.cancel(hold))
    assert len({outcome.state for outcome in outcomes}) == 1
    assert await has(posting, BUYER) + await has(posting, SELLER) == 150


class EmptiedMeanwhile(InMemoryPosting):
    """A ledger in which another process ends the hold between our look and our posting."""

    async def post(self, key: str, *, debit: str, credit: str, amount: Money) -> str:
        if key == "release:h1":
            await super().post("refund:h1", debit=debit, credit=BUYER, amount=amount)
        return await super().post(key, debit=debit, credit=credit, amount=amount)


async def test_a_hold_ended_by_another_process_in_between_is_reported_as_it_is(clock: ManualClock) -> None:
    rail = PrepaidRail(BUYER, EmptiedMeanwhile({BUYER: Money(CREDITS, 150)}), clock=clock)
    hold = await rail.open(request(), "h1")
    assert (await rail.settle(hold, {})).state is PaymentState.REFUNDED


async def test_lookup_tells_what_was_posted(rail: PrepaidRail) -> None:
    hold = await rail.open(request(), "h1")
    assert (await rail.lookup(hold.payment)).state is PaymentState.HELD
    never = hold.payment.model_copy(update={"id": "never"})
    assert (await rail.lookup(never)).state is PaymentState.FAILED


async def test_a_hold_has_the_requests_deadline_or_an_hour(rail: PrepaidRail, clock: ManualClock) -> None:
    expires = clock.now() + timedelta(minutes=5)
    stated = await rail.open(request(amount=1).model_copy(update={"expires_at": expires}), "h1")
    assert stated.deadline == expires
    assert (await rail.open(request(amount=1), "h2")).deadline == clock.now() + timedelta(hours=1)


async def test_modes_are_not_mixed_up(rail: PrepaidRail) -> None:
    with pytest.raises(InvalidInput, match="open a hold"):
        await rail.send(request(PayMode.HOLD), "p1")
    with pytest.raises(InvalidInput, match="not held"):
        await rail.open(request(PayMode.PAY), "h1")


async def test_nothing_costs_a_fee(rail: PrepaidRail) -> None:
    assert await rail.fee(request()) == CREDITS.zero()
