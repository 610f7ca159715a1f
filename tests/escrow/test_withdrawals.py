"""Money goes back only to the owner's wallet, once, and is never lost between ledger and network."""

from __future__ import annotations

import asyncio

import pytest

from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput, NotAllowed, PaymentUnknown, Unavailable
from agentnexus.escrow import withdrawals as withdrawals_module
from tests.escrow.conftest import ANN, BOB, Room, room_on, usdc


async def test_a_withdrawal_is_sent_to_the_wallet_and_stands_in_the_history(room: Room) -> None:
    await room.funded("2")
    signature = await room.escrow.withdraw("ann", usdc("0.75"), "k1", ANN)
    assert signature.startswith("tx:")
    assert await room.balance() == ("1.25", "0")
    entries, _ = await room.escrow.history("ann")
    assert (str(entries[0].kind), entries[0].amount, entries[0].signature) == ("withdrawal", usdc("-0.75"), signature)


async def test_the_same_key_sends_once_also_at_the_same_instant(room: Room) -> None:
    await room.funded("2")
    other = room_on(room.database, room.rail)
    calls = [each.escrow.withdraw("ann", usdc("0.5"), "k1") for each in (room, other) for _ in range(5)]
    signatures = await asyncio.gather(*calls)
    assert len(set(signatures)) == 1
    assert await room.balance() == ("1.5", "0")
    with pytest.raises(Conflict):
        await room.escrow.withdraw("ann", usdc("0.6"), "k1")
    await other.books.close()


async def test_what_is_reserved_or_not_there_cannot_be_withdrawn(room: Room) -> None:
    await room.funded("2")
    await room.escrow.holds.reserve(await room.escrow.account("ann"), "wf_1", usdc("1.5"))
    with pytest.raises(InsufficientFunds, match=r"Available: 0\.5, Required: 1\.0"):
        await room.escrow.withdraw("ann", usdc("1"), "k1")
    assert await room.balance() == ("0.5", "1.5")
    await room.escrow.withdraw("ann", usdc("0.5"), "k2")


async def test_many_withdrawals_at_once_never_pass_the_balance(room: Room) -> None:
    await room.funded("1")
    calls = [room.escrow.withdraw("ann", usdc("0.3"), f"k{n}") for n in range(8)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, str) for each in ended) == 3
    assert await room.balance() == ("0.1", "0")


async def test_another_destination_and_nonsense_are_refused(room: Room) -> None:
    await room.funded("2")
    with pytest.raises(NotAllowed, match="only to the wallet"):
        await room.escrow.withdraw("ann", usdc("1"), "k1", BOB)
    with pytest.raises(InvalidInput):
        await room.escrow.withdraw("ann", usdc("-1"), "k1")
    with pytest.raises(InvalidInput):
        await room.escrow.withdraw("ann", usdc("1"), "a\nb")
    assert await room.balance() == ("2", "0")


async def test_a_network_that_is_down_leaves_the_withdrawal_to_be_finished(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdrawals_module, "GRACE", withdrawals_module.GRACE * 0)
    await room.funded("2")
    room.rail.down = True
    with pytest.raises(PaymentUnknown):
        await room.escrow.withdraw("ann", usdc("1"), "k1")
    assert await room.balance() == ("1", "1")  # on its way out: nobody else can use it
    with pytest.raises(PaymentUnknown):
        await room.escrow.withdraw("ann", usdc("1"), "k1")
    room.rail.down = False

    async def never(_reference: str) -> bool:
        return False

    assert await room.escrow.repair(never) == (1, 0)
    assert await room.balance() == ("1", "0")
    assert (await room.escrow.withdraw("ann", usdc("1"), "k1")).startswith("tx:")


async def test_an_answer_lost_after_sending_is_not_sent_again(room: Room) -> None:
    await room.funded("2")
    room.rail.lose_answers = True
    with pytest.raises(PaymentUnknown):
        await room.escrow.withdraw("ann", usdc("1"), "k1")
    room.rail.lose_answers = False
    signature = await room.escrow.withdraw("ann", usdc("1"), "k1")
    assert signature.startswith("tx:")
    assert await room.balance() == ("1", "0")


async def test_books_and_chain_are_compared_and_what_nobody_claimed_shows(room: Room) -> None:
    await room.funded("2")

    async def on_chain(_asset: object) -> object:
        return usdc("2.5")

    room.rail.balance = on_chain  # type: ignore[method-assign, assignment]
    usdc_line = (await room.escrow.reconcile())[0]
    assert (usdc_line.expected, usdc_line.observed, usdc_line.agrees) == (usdc("2"), usdc("2.5"), False)


async def test_an_outage_of_the_ledger_is_no_withdrawal(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.funded("2")

    async def down(*_: object, **__: object) -> None:
        raise Unavailable("the ledger's database does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(room.books, "reserve", down)
        with pytest.raises(Unavailable):
            await room.escrow.withdraw("ann", usdc("1"), "k1")
    assert await room.balance() == ("2", "0")
    await room.escrow.withdraw("ann", usdc("1"), "k1")
    assert await room.balance() == ("1", "0")


async def test_crumbs_are_not_sent_one_by_one_at_the_nodes_expense(room: Room) -> None:
    await room.funded("0.015")
    with pytest.raises(InvalidInput, match="worth the network's fee"):
        await room.escrow.withdraw("ann", usdc("0.000001"), "k1")
    assert await room.balance() == ("0.015", "0")
    await room.escrow.withdraw("ann", usdc("0.01"), "k2")
    rest = await room.escrow.withdraw("ann", usdc("0.005"), "k3")
    assert await room.escrow.withdraw("ann", usdc("0.005"), "k3") == rest, "everything may go, and be asked again"
    assert await room.balance() == ("0", "0")
