"""The treasury against the books: what is a difference, what is on its way, what nobody claimed, what a crash left."""

from __future__ import annotations

import pytest

from agentnexus.core.clock import ManualClock, SystemClock
from agentnexus.core.errors import PaymentUnknown
from agentnexus.core.money import Asset, Money
from agentnexus.escrow.model import outside_account
from agentnexus.escrow.service import Escrow, Reconciliation
from agentnexus.ledger.reconcile import Reconciler, Sum
from tests.escrow.conftest import ANN, BOB, NETWORK, SOL, USDC, Room, usdc


def holds(room: Room, amount: str, sol: str = "0") -> None:
    """What the chain says that the treasury has."""

    async def on_chain(asset: Asset) -> Money:
        return usdc(amount) if asset == USDC else SOL.parse(sol)

    room.rail.balance = on_chain  # type: ignore[method-assign]  # the scripted network has no treasury


async def line(room: Room, asset: Asset = USDC) -> Reconciliation:
    return next(each for each in await room.escrow.reconcile() if each.asset == asset)


async def test_every_place_that_money_can_be_in_counts(room: Room) -> None:
    """Available, set aside, charged: all of it is in the treasury until it is sent away."""
    await room.funded("5")
    account = await room.escrow.account("ann")
    await room.escrow.holds.reserve(account, "wf_1", usdc("2"))
    await room.escrow.holds.capture("wf_1", "s1", usdc("0.5"))
    holds(room, "5")
    found = await line(room)
    assert (found.expected, found.unclaimed, found.leaving, found.agrees) == (usdc("5"), usdc("0"), usdc("0"), True)
    await room.escrow.withdraw("ann", usdc("1"), "k1")
    holds(room, "4")
    assert (await line(room)).agrees


async def test_assets_are_compared_apart(room: Room) -> None:
    await room.funded("5")
    await room.escrow.deposit("ann", room.treasury.arrives("sol", SOL.parse("0.25")))
    holds(room, "5", "0.25")
    assert [each.agrees for each in await room.escrow.reconcile()] == [True, True]
    holds(room, "5", "0.2")
    assert [each.agrees for each in await room.escrow.reconcile()] == [True, False]


async def test_what_nobody_claimed_is_expected_until_somebody_does(room: Room) -> None:
    await room.funded("5")
    room.treasury.arrives("bobs", usdc("3"), BOB)
    room.treasury.arrives("anns", usdc("1"))
    holds(room, "9")
    found = await line(room)
    assert (found.expected, found.unclaimed, found.agrees) == (usdc("9"), usdc("4"), True)
    listed = await room.escrow.unclaimed(USDC)
    assert [(each.signature, each.sender) for each in listed] == [("anns", ANN), ("bobs", BOB)]
    assert await room.escrow.unclaimed(SOL) == []
    await room.escrow.deposit("ann", "anns")
    found = await line(room)
    assert (found.expected, found.unclaimed, found.agrees) == (usdc("9"), usdc("3"), True)


@pytest.mark.parametrize(
    ("there", "agrees"), [("5", True), ("4", True), ("4.5", True), ("3.999999", False), ("5.1", False)]
)
async def test_a_withdrawal_without_an_end_may_have_left_or_not(room: Room, there: str, agrees: bool) -> None:
    await room.funded("5")
    room.rail.lose_answers = True
    with pytest.raises(PaymentUnknown):
        await room.escrow.withdraw("ann", usdc("1"), "k1")
    room.rail.lose_answers = False
    holds(room, there)
    found = await line(room)
    assert (found.leaving, found.agrees) == (usdc("1"), agrees)


async def test_claims_that_a_crash_cut_off_are_finished_once_and_only_after_a_while(room: Room) -> None:
    await room.escrow.create("ann", ANN)
    clock = ManualClock(SystemClock().now())
    escrow = Escrow(room.database, room.books, room.treasury, clock, require_proof=False)
    for signature, posted in (("before-ledger", False), ("after-ledger", True)):
        seen = await room.treasury.deposit(room.treasury.arrives(signature, usdc("1")), ANN)
        await escrow._store.claim(NETWORK, "ann", seen, clock.now())
        if posted:
            key = f"escrow-deposit:{NETWORK}:{signature}"
            await room.books.deposit(key, "escrow:ann", seen.amount, source=outside_account(NETWORK), memo=signature)
    assert await escrow.finish_claims() == 0  # whoever is at it may still be at it
    clock.advance(60)
    assert await escrow.finish_claims() == 2
    assert await escrow.finish_claims() == 0
    assert await room.balance() == ("2", "0")
    entries, count = await room.escrow.history("ann")
    assert (count, {entry.signature for entry in entries}) == (2, {"before-ledger", "after-ledger"})
    holds(room, "2")
    assert (await line(room)).agrees


async def test_a_sum_is_a_case_only_when_it_differs_by_the_same_twice(room: Room) -> None:
    reconciler = Reconciler(room.books)

    async def look(observed: str, leaving: str = "0") -> tuple[int, int, int]:
        given = Sum("treasury:x", usdc("5"), usdc(observed), usdc(leaving), {"unclaimed": "7"})
        found = await reconciler.compare_sums([given], twice=True)
        return len(found.agreeing), len(found.in_flight), len(found.cases)

    assert await look("5") == (1, 0, 0)
    assert await look("4") == (0, 1, 0)
    assert await look("4.5") == (0, 1, 0)  # another difference: it moves, as money on its way does
    assert await look("5") == (1, 0, 0)
    assert await look("4.5") == (0, 1, 0)
    assert await look("4.5", leaving="0.5") == (0, 1, 0)
    assert await look("4.5") == (0, 1, 0)  # explained in between: it begins anew
    assert await look("4.5") == (0, 0, 1)
    (case,) = await reconciler.cases()
    assert case.detail == {"reserved": "0", "unclaimed": "7"}
    assert await look("6") == (0, 1, 0)
    assert await look("6") == (0, 0, 1)
    (same,) = await reconciler.cases()
    assert (same.id, same.observed) == (case.id, usdc("6"))
