"""A transfer to the treasury is credited once, to the owner of the wallet that made it, or refused with the reason."""

from __future__ import annotations

import asyncio

import pytest

from agentnexus.core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from agentnexus.escrow.model import outside_account, ownership_message
from agentnexus.escrow.service import Escrow
from tests.escrow.conftest import ANN, BOB, NETWORK, SOL, USDC, Room, room_on, usdc


async def test_an_account_belongs_to_the_wallet_that_was_named_first(room: Room) -> None:
    first = await room.escrow.create("ann", ANN)
    assert await room.escrow.create("ann", ANN) == first
    with pytest.raises(Conflict, match="bound to"):
        await room.escrow.create("ann", BOB)
    with pytest.raises(Conflict, match="another account"):
        await room.escrow.create("mallory", ANN)


async def test_where_proof_is_required_a_wallet_must_sign_for_its_user(room: Room) -> None:
    strict = Escrow(room.database, room.books, room.treasury, room.escrow._clock)
    message = ownership_message("ann", ANN)
    for proof in ("", "signed by nobody", f"signed by {ANN}: {ownership_message('mallory', ANN)}"):
        with pytest.raises(NotAllowed) as caught:
            await strict.create("ann", ANN, proof)
        assert caught.value.details["to_sign"] == message
    assert (await strict.create("ann", ANN, f"signed by {ANN}: {message}")).wallet == ANN


async def test_a_deposit_is_credited_and_stands_in_the_history_with_its_signature(room: Room) -> None:
    await room.funded("2.5")
    assert await room.balance() == ("2.5", "0")
    (entry,), count = await room.escrow.history("ann")
    assert (entry.kind, entry.amount, entry.signature, count) == ("deposit", usdc("2.5"), "first-of-ann", 1)


async def test_assets_are_counted_apart(room: Room) -> None:
    await room.funded("1")
    await room.escrow.deposit("ann", room.treasury.arrives("sol", SOL.parse("0.25")))
    assert (await room.escrow.balance("ann", SOL)).available == SOL.parse("0.25")
    assert (await room.escrow.balance("ann", USDC)).available == usdc("1")


async def test_a_signature_that_was_used_is_refused_and_nothing_changes(room: Room) -> None:
    await room.funded("2")
    with pytest.raises(Conflict, match="credited before") as caught:
        await room.escrow.deposit("ann", "first-of-ann")
    assert caught.value.details["reason"] == "reused"
    assert await room.balance() == ("2", "0")


async def test_two_claims_of_one_deposit_at_the_same_instant_credit_once(room: Room) -> None:
    await room.escrow.create("ann", ANN)
    room.treasury.arrives("once", usdc("1"))
    other = room_on(room.database)
    other.treasury.seen = room.treasury.seen
    claims = [each.escrow.deposit("ann", "once") for each in (room, other) for _ in range(10)]
    ended = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(not isinstance(each, BaseException) for each in ended) == 1
    assert all(isinstance(each, Conflict) for each in ended if isinstance(each, BaseException))
    assert await room.balance() == ("1", "0")
    assert (await room.escrow.history("ann"))[1] == 1
    await other.books.close()


async def test_another_users_transfer_is_refused(room: Room) -> None:
    await room.escrow.create("ann", ANN)
    await room.escrow.create("bob", BOB)
    room.treasury.arrives("from-bob", usdc("1"), BOB)
    with pytest.raises(InvalidInput) as caught:
        await room.escrow.deposit("ann", "from-bob")
    assert caught.value.details["reason"] == "foreign"
    await room.escrow.deposit("bob", "from-bob")
    assert (await room.balance("ann"), await room.balance("bob")) == (("0", "0"), ("1", "0"))


async def test_an_amount_that_is_not_what_was_sent_is_refused_and_can_be_claimed_rightly(room: Room) -> None:
    await room.escrow.create("ann", ANN)
    room.treasury.arrives("small", usdc("0.5"))
    with pytest.raises(InvalidInput) as caught:
        await room.escrow.deposit("ann", "small", "5")
    assert caught.value.details["reason"] == "wrong_amount"
    assert await room.balance() == ("0", "0")
    await room.escrow.deposit("ann", "small", "0.5")
    assert await room.balance() == ("0.5", "0")


async def test_a_claim_that_a_crash_cut_off_is_finished_by_claiming_again(room: Room) -> None:
    """The row is written, the ledger may or may not have the money: either way it ends credited once."""
    await room.escrow.create("ann", ANN)
    for signature, posted in (("before-ledger", False), ("after-ledger", True)):
        seen = await room.treasury.deposit(room.treasury.arrives(signature, usdc("1")), ANN)
        await room.escrow._store.claim(room.treasury.network, "ann", seen, seen.sent_at)
        if posted:
            key = f"escrow-deposit:{room.treasury.network}:{signature}"
            await room.books.deposit(key, "escrow:ann", seen.amount, source=outside_account(NETWORK), memo=signature)
        await room.escrow.deposit("ann", signature)
        with pytest.raises(Conflict):
            await room.escrow.deposit("ann", signature)
    assert await room.balance() == ("2", "0")
    assert (await room.escrow.history("ann"))[1] == 2


@pytest.mark.parametrize("question", ["balance", "history", "deposit", "withdraw"])
async def test_without_an_account_every_question_says_how_to_get_one(room: Room, question: str) -> None:
    calls = {
        "balance": lambda: room.escrow.balance("ann", USDC),
        "history": lambda: room.escrow.history("ann"),
        "deposit": lambda: room.escrow.deposit("ann", "any"),
        "withdraw": lambda: room.escrow.withdraw("ann", usdc("1"), "k"),
    }
    with pytest.raises(NotFound) as caught:
        await calls[question]()
    assert "create" in caught.value.next_step
