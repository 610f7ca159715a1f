"""Accounts, transfers and reservations through the door, on both ledgers."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput, NotFound
from agentnexus.core.money import Asset, Money
from agentnexus.ledger.model import ReservationState, TransferKind
from tests.ledger.conftest import SATS, SELLER, USDC, WALLET, AnyBooks, Spender, usdc


async def test_a_deposit_raises_the_wallet_and_lowers_the_outside(books: AnyBooks) -> None:
    await books.deposit("tx-1", WALLET, usdc("5"))
    assert (await books.balance(WALLET)).available == usdc("5")
    assert (await books.balance("external:eip155:31337")).posted == usdc("-5")
    assert (await books.check()).clean


async def test_a_reservation_lowers_what_is_available_but_posts_nothing(spender: Spender) -> None:
    await spender.budget()
    reservation = await spender.reserve("k", "2.5")
    assert reservation.state is ReservationState.PENDING
    balance = await spender.books.balance(WALLET, USDC)
    assert (balance.posted, balance.reserved, balance.available) == (usdc("1000"), usdc("2.5"), usdc("997.5"))
    assert (await spender.books.balance(SELLER, USDC)).posted == usdc("0")


async def test_capture_moves_the_money_to_the_payee(spender: Spender) -> None:
    await spender.budget()
    await spender.reserve("k", "2.5")
    done = await spender.books.capture("k")
    assert (done.state, done.captured_money) == (ReservationState.POSTED, usdc("2.5"))
    assert (await spender.books.balance(SELLER)).available == usdc("2.5")
    balance = await spender.books.balance(WALLET)
    assert (balance.posted, balance.reserved) == (usdc("997.5"), usdc("0"))


async def test_a_partial_capture_gives_the_rest_back(spender: Spender) -> None:
    await spender.budget(total="3")
    await spender.reserve("k", "2.5")
    await spender.books.capture("k", usdc("0.5"))
    assert (await spender.books.balance(WALLET)).available == usdc("999.5")
    assert (await spender.books.budgets.status("budget")).left["total"] == usdc("2.5")


async def test_void_gives_everything_back(spender: Spender) -> None:
    await spender.budget(total="3")
    await spender.reserve("k", "2.5")
    done = await spender.books.void("k", "not delivered")
    assert (done.state, done.reason) == (ReservationState.VOIDED, "not delivered")
    assert (await spender.books.balance(WALLET)).available == usdc("1000")
    assert (await spender.books.budgets.status("budget")).left["total"] == usdc("3")


async def test_a_reservation_needs_no_budget(spender: Spender) -> None:
    spender.budget_id = None
    await spender.reserve("k", "3")
    await spender.books.capture("k")
    assert (await spender.books.balance(SELLER)).posted == usdc("3")


async def test_an_account_can_promise_its_last_unit_and_not_one_more(spender: Spender) -> None:
    await spender.budget()
    await spender.reserve("all", "1000")
    with pytest.raises(InsufficientFunds) as caught:
        await spender.reserve("more", "0.000001")
    assert caught.value.details["available"] == "0.000000"
    assert caught.value.next_step == "deposit at least 0.000001 USDC"


async def test_repeating_any_call_gives_the_first_answer(spender: Spender, clock: ManualClock) -> None:
    await spender.budget(total="3")
    first = await spender.reserve("k", "2")
    clock.advance(60)
    assert await spender.reserve("k", "2") == first
    captured = await spender.books.capture("k", usdc("1"))
    clock.advance(60)
    assert await spender.books.capture("k", usdc("1")) == captured
    assert await spender.reserve("k", "2") == captured
    deposit = await spender.books.deposit("tx", WALLET, usdc("5"))
    assert await spender.books.deposit("tx", WALLET, usdc("5")) == deposit
    assert (await spender.books.balance(WALLET)).posted == usdc("1004")


async def test_a_repeat_may_bring_another_expiry_and_correlation(spender: Spender, clock: ManualClock) -> None:
    await spender.budget()
    first = await spender.reserve("k", expires_at=clock.now(), correlation="request-1")
    assert await spender.reserve("k", expires_at=clock.now() + timedelta(1), correlation="request-2") == first


@pytest.mark.parametrize(
    "other",
    [
        {"amount": usdc("2")},
        {"payee_account": "seller:evm:0xcccc"},
        {"seller": "evm:0xcccc"},
        {"capability": "text.summarize"},
        {"task": "t"},
        {"tick": "7"},
        {"budget_id": None},
        {"rail": "evm"},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_one_key_with_other_terms_is_a_conflict(spender: Spender, other: dict[str, object]) -> None:
    await spender.budget()
    await spender.reserve("k")
    with pytest.raises(Conflict) as caught:
        await spender.reserve("k", **other)
    assert caught.value.details["key"] == "k"


async def test_one_deposit_key_with_another_amount_is_a_conflict(spender: Spender) -> None:
    with pytest.raises(Conflict):
        await spender.books.deposit("funding", WALLET, usdc("1001"))


async def test_the_same_key_may_name_a_deposit_a_fee_and_a_reservation(spender: Spender) -> None:
    spender.budget_id = None
    await spender.books.deposit("k", WALLET, usdc("1"))
    await spender.books.transfer("k", WALLET, "fees:eip155:31337", usdc("0.1"), TransferKind.FEE)
    await spender.reserve("k")
    await spender.books.capture("k")
    assert (await spender.books.balance(WALLET)).posted == usdc("999.9")


async def test_a_captured_reservation_cannot_be_voided_or_captured_otherwise(spender: Spender) -> None:
    await spender.budget()
    await spender.reserve("k", "2")
    await spender.books.capture("k", usdc("1"))
    with pytest.raises(Conflict) as caught:
        await spender.books.void("k")
    assert caught.value.details["state"] == "posted"
    with pytest.raises(Conflict):
        await spender.books.capture("k")


async def test_a_voided_reservation_cannot_be_captured(spender: Spender) -> None:
    await spender.budget()
    await spender.reserve("k")
    await spender.books.void("k")
    assert (await spender.books.void("k")).state is ReservationState.VOIDED
    with pytest.raises(Conflict):
        await spender.books.capture("k")


async def test_capture_takes_at_most_what_was_reserved(spender: Spender) -> None:
    await spender.budget()
    await spender.reserve("k", "2")
    for amount in (usdc("2.000001"), usdc("0"), usdc("-1"), SATS.parse("1")):
        with pytest.raises(InvalidInput):
            await spender.books.capture("k", amount)
    assert (await spender.books.reservation("k")).state is ReservationState.PENDING


async def test_unknown_things_are_not_found(spender: Spender) -> None:
    with pytest.raises(NotFound):
        await spender.books.capture("nothing")
    with pytest.raises(NotFound):
        await spender.books.void("nothing")
    with pytest.raises(NotFound):
        await spender.books.reservation("nothing")
    with pytest.raises(NotFound):
        await spender.books.balance("wallet:nobody")
    with pytest.raises(NotFound) as caught:
        await spender.reserve("k", budget_id="no-such-budget")
    assert caught.value.details["budget"] == "no-such-budget"


@pytest.mark.parametrize(
    "hostile",
    [
        {"amount": usdc("0")},
        {"amount": usdc("-1")},
        {"payee_account": WALLET},
        {"payee_account": ""},
        {"seller": "zero\x00byte"},
        {"capability": "\ud800"},
        {"task": "x" * 301},
        {"tick": "line\nbreak"},
        {"correlation": "\x1b[31m"},
        {"expires_at": datetime(2026, 1, 1)},  # without a zone
    ],
    ids=str,
)
async def test_hostile_terms_are_refused_before_they_reach_the_books(
    spender: Spender, hostile: dict[str, object]
) -> None:
    await spender.budget()
    with pytest.raises(InvalidInput) as caught:
        await spender.reserve("k", **hostile)
    assert caught.value.next_step
    with pytest.raises(NotFound):
        await spender.books.reservation("k")


async def test_a_transfer_needs_cover_and_two_accounts(spender: Spender) -> None:
    with pytest.raises(InsufficientFunds):
        await spender.books.transfer("t", WALLET, SELLER, usdc("1000.000001"))
    with pytest.raises(InvalidInput):
        await spender.books.transfer("t", WALLET, WALLET, usdc("1"))
    with pytest.raises(InvalidInput):
        await spender.books.transfer("t", WALLET, SELLER, usdc("1"), TransferKind.CAPTURE)


async def test_a_withdrawal_cannot_take_what_is_promised(spender: Spender) -> None:
    await spender.budget()
    await spender.reserve("k", "999")
    with pytest.raises(InsufficientFunds):
        await spender.books.withdraw("w", WALLET, usdc("2"))
    await spender.books.withdraw("w", WALLET, usdc("1"))
    assert (await spender.books.balance("external:eip155:31337")).posted == usdc("-999")


async def test_assets_do_not_mix(spender: Spender) -> None:
    await spender.books.deposit("sats", WALLET, SATS.parse("5"))
    assert [b.posted for b in await spender.books.balances(WALLET)] == [SATS.parse("5"), usdc("1000")]
    with pytest.raises(InvalidInput):
        await spender.books.balance(WALLET)
    with pytest.raises(InsufficientFunds):
        await spender.reserve("k", amount=SATS.parse("6"), budget_id=None)


async def test_an_asset_with_wrong_decimals_is_refused(spender: Spender) -> None:
    with pytest.raises(Conflict) as caught:
        await spender.books.deposit("lie", WALLET, Asset("USDC", 18, USDC.caip19).parse("1"))
    assert caught.value.details["asset"] == USDC.caip19


async def test_the_whole_range_of_amounts_fits(spender: Spender) -> None:
    huge = Money(USDC, 10**60)
    await spender.books.deposit("huge", "wallet:huge", huge)
    assert (await spender.books.balance("wallet:huge")).posted == huge
    with pytest.raises(InvalidInput):
        await spender.books.deposit("too-huge", "wallet:huge", huge + USDC.parse("1"))


async def test_balances_of_the_past_can_be_asked(spender: Spender, clock: ManualClock) -> None:
    before = clock.now()
    clock.advance(10)
    await spender.books.withdraw("w", WALLET, usdc("400"))
    clock.advance(10)
    await spender.books.deposit("d", WALLET, usdc("1"))
    books = spender.books
    assert await books.as_of(WALLET, USDC, before - timedelta(seconds=1)) == usdc("0")
    assert await books.as_of(WALLET, USDC, before) == usdc("1000")
    assert await books.as_of(WALLET, USDC, before + timedelta(seconds=10)) == usdc("600")
    assert await books.as_of(WALLET, USDC, clock.now()) == usdc("601")


async def test_a_statement_shows_each_line_with_the_balance_after_it(spender: Spender, clock: ManualClock) -> None:
    start = clock.now()
    clock.advance(10)
    await spender.budget()
    await spender.reserve("k", "2", correlation="job-1")
    await spender.books.capture("k")
    clock.advance(10)
    await spender.books.transfer("f", WALLET, "fees:x", usdc("0.5"), TransferKind.FEE, memo="gas")
    lines = await spender.books.statement(WALLET, USDC)
    assert [(line.kind, str(line.amount), str(line.balance)) for line in lines] == [
        (TransferKind.DEPOSIT, "1000.00 USDC", "1000.00 USDC"),
        (TransferKind.CAPTURE, "-2.00 USDC", "998.00 USDC"),
        (TransferKind.FEE, "-0.50 USDC", "997.50 USDC"),
    ]
    assert lines[1].counterparty == SELLER
    assert lines[1].correlation == "job-1"
    assert lines[2].memo == "gas"
    window = await spender.books.statement(WALLET, USDC, start + timedelta(seconds=1), clock.now())
    assert window == lines[1:2]


async def test_only_reservations_that_allow_it_are_voided_when_they_expire(
    spender: Spender, clock: ManualClock
) -> None:
    await spender.budget(total="10")
    soon, late = clock.now() + timedelta(seconds=60), clock.now() + timedelta(seconds=120)
    await spender.reserve("auto", expires_at=soon, auto_void=True)
    await spender.reserve("unknown", expires_at=soon)
    await spender.reserve("later", expires_at=late, auto_void=True)
    await spender.reserve("captured", expires_at=soon, auto_void=True)
    await spender.books.capture("captured")
    assert await spender.books.expire() == []
    clock.advance(60)
    assert [r.key for r in await spender.books.expire()] == ["auto"]
    assert await spender.books.expire() == []
    assert (await spender.books.reservation("auto")).state is ReservationState.VOIDED
    assert (await spender.books.reservation("unknown")).state is ReservationState.PENDING
    assert (await spender.books.budgets.status("budget")).left["total"] == usdc("7")


async def test_a_late_capture_wins_as_long_as_nothing_was_voided(spender: Spender, clock: ManualClock) -> None:
    await spender.budget()
    await spender.reserve("k", expires_at=clock.now(), auto_void=True)
    clock.advance(3600)
    await spender.books.capture("k")
    assert await spender.books.expire() == []


async def test_operations_that_arrive_together_are_answered_one_by_one(spender: Spender) -> None:
    await spender.budget(total="5")
    answers = await asyncio.gather(
        *(spender.reserve(f"k{n}", "1") for n in range(8)), spender.books.capture("nothing"), return_exceptions=True
    )
    assert [type(answer).__name__ for answer in answers] == ["Reservation"] * 5 + ["BudgetExceeded"] * 3 + ["NotFound"]


async def test_a_reservation_may_be_captured_in_the_batch_that_makes_it(spender: Spender) -> None:
    await spender.budget(total="40", per_hour="40")
    for payee in ("seller:new", "seller:old"):
        await spender.books.deposit(f"before-{payee}", payee, usdc("7"))
    calls = []
    for number in range(4):
        payee = "seller:new" if number % 2 else "seller:old"
        calls += [spender.reserve(f"k{number}", "2", payee_account=payee), spender.books.capture(f"k{number}")]
    await asyncio.gather(*calls)
    assert (await spender.books.balance("seller:new")).posted == usdc("11")
    assert (await spender.books.balance("seller:old")).posted == usdc("11")


async def test_a_cancelled_caller_leaves_its_neighbours_alone(spender: Spender) -> None:
    await spender.budget()
    calls = [asyncio.ensure_future(spender.reserve(f"k{n}")) for n in range(4)]
    await asyncio.sleep(0)
    calls[1].cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answers[n]).__name__ for n in (0, 2, 3)] == ["Reservation"] * 3
