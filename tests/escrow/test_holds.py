"""Reserve at approval, charge per step, release the rest: available and reserved always add up to what came in."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput
from agentnexus.escrow import holds as holds_module
from agentnexus.platform.database import Database
from tests.escrow.conftest import BOB, USDC, Room, room_on, usdc


async def reserve(room: Room, reference: str = "wf_1", amount: str = "1", user: str = "ann") -> None:
    await room.escrow.holds.reserve(await room.escrow.account(user), reference, usdc(amount))


async def test_what_is_reserved_is_charged_in_parts_and_the_rest_comes_back(room: Room) -> None:
    await room.funded("2")
    await reserve(room)
    assert await room.balance() == ("1", "1")
    await room.escrow.holds.capture("wf_1", "s1", usdc("0.3"))
    await room.escrow.holds.capture("wf_1", "s2", usdc("0.2"))
    assert await room.balance() == ("1", "0.5")
    await room.escrow.holds.release("wf_1")
    assert await room.balance() == ("1.5", "0")
    assert await room.escrow.spent("ann", USDC) == usdc("0.5")
    entries, _ = await room.escrow.history("ann")
    assert [(str(e.kind), str(e.amount.decimal.normalize())) for e in reversed(entries)] == [
        ("deposit", "2"), ("reserved", "-1"), ("charged", "-0.3"), ("charged", "-0.2"), ("released", "0.5"),
    ]  # fmt: skip


async def test_a_charge_stands_in_the_history_with_the_transaction_that_paid_for_it(room: Room) -> None:
    await room.funded("2")
    await reserve(room)
    await room.escrow.holds.capture("wf_1", "s1", usdc("0.3"), "0xabc")
    await room.escrow.holds.capture("wf_1", "s1", usdc("0.3"), "0xabc")
    entries, _ = await room.escrow.history("ann")
    assert [(str(entry.kind), entry.signature) for entry in entries[:2]] == [("charged", "0xabc"), ("reserved", "")]


async def test_a_history_is_read_page_by_page_without_gap_or_repetition(room: Room) -> None:
    await room.funded("2")
    await reserve(room)
    for number in range(7):
        await room.escrow.holds.capture("wf_1", f"s{number}", usdc("0.1"), f"0x{number}")
    whole, count = await room.escrow.history("ann", 200)
    pages, before = [], None
    while True:
        page, total_count = await room.escrow.history("ann", 4, before)
        assert total_count == count
        if not page:
            break
        pages += page
        before = page[-1].position
        await room.escrow.holds.capture("wf_1", f"late{before}", usdc("0.01"))  # what comes now moves no page
        count += 1
    assert pages == list(whole)


async def test_a_shortfall_is_said_in_the_words_of_the_api(room: Room) -> None:
    await room.funded("0.5")
    with pytest.raises(InsufficientFunds) as caught:
        await reserve(room, amount="2")
    message = "Insufficient escrow balance. Available: 0.5, Required: 2.0. Please top up."
    assert caught.value.message == message
    assert await room.balance() == ("0.5", "0")
    await room.escrow.deposit("ann", room.treasury.arrives("more", usdc("1.5")))
    await reserve(room, amount="2")  # the same reference, once there is enough
    assert await room.balance() == ("0", "2")


async def test_everything_may_be_said_twice(room: Room) -> None:
    await room.funded("2")
    for _ in range(2):
        await reserve(room)
    for _ in range(2):
        await room.escrow.holds.capture("wf_1", "s1", usdc("0.25"))
    for _ in range(2):
        await room.escrow.holds.release("wf_1")
    assert await room.balance() == ("1.75", "0")
    assert (await room.escrow.history("ann"))[1] == 4


async def test_many_workflows_at_once_never_reserve_more_than_there_is(room: Room) -> None:
    await room.funded("1")
    other = room_on(room.database)
    rooms = (room, other)
    tries = [reserve(rooms[n % 2], f"wf_{n}", "0.3") for n in range(12)]
    ended = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(each is None for each in ended) == 3
    assert {type(each) for each in ended if each is not None} == {InsufficientFunds}
    assert await room.balance() == ("0.1", "0.9")
    await other.books.close()


async def test_a_charge_needs_a_reservation_that_is_open(room: Room) -> None:
    await room.funded("2")
    with pytest.raises(Conflict, match="nothing is reserved"):
        await room.escrow.holds.capture("wf_1", "s1", usdc("0.1"))
    await reserve(room, amount="0.5")
    await room.escrow.holds.release("wf_1")
    with pytest.raises(Conflict):
        await room.escrow.holds.capture("wf_1", "s2", usdc("0.1"))
    assert await room.balance() == ("2", "0")


async def test_what_a_dearer_seller_costs_beyond_the_reserve_comes_from_what_is_available(room: Room) -> None:
    await room.funded("1")
    await reserve(room, amount="0.5")
    for _ in range(2):
        await room.escrow.holds.capture("wf_1", "s1", usdc("0.6"))
    assert await room.balance() == ("0.4", "0")
    with pytest.raises(InsufficientFunds):
        await room.escrow.holds.capture("wf_1", "s2", usdc("0.5"))
    await room.escrow.holds.release("wf_1")
    assert await room.balance() == ("0.4", "0")
    assert await room.escrow.spent("ann", USDC) == usdc("0.6")


async def test_a_reference_is_one_users_and_keeps_the_money_it_has(room: Room) -> None:
    await room.funded("2")
    await room.funded("2", "bob", BOB)
    await reserve(room)
    await reserve(room, amount="0.5")
    assert await room.balance() == ("1", "1")
    with pytest.raises(Conflict):
        await reserve(room, user="bob")
    assert await room.balance("bob") == ("2", "0")


async def test_a_plan_that_is_edited_lets_go_of_its_money_and_sets_another_sum_aside(room: Room) -> None:
    await room.funded("2")
    for amount, available in (("1", "1"), ("1.5", "0.5"), ("1", "1")):
        await reserve(room, amount=amount)
        assert await room.balance() == (available, amount)
        await room.escrow.holds.release("wf_1")
        assert await room.balance() == ("2", "0")


async def test_nothing_can_be_reserved_for_nothing(room: Room) -> None:
    await room.funded("2")
    for amount in ("0", "-1"):
        with pytest.raises(InvalidInput):
            await reserve(room, amount=amount)


async def test_a_charge_that_races_with_the_release_is_whole_or_not_at_all(room: Room) -> None:
    await room.funded("10")
    for number in range(20):
        reference = f"wf_{number}"
        await reserve(room, reference, "0.5")
        charge, _ = await asyncio.gather(
            room.escrow.holds.capture(reference, "s1", usdc("0.2")),
            room.escrow.holds.release(reference),
            return_exceptions=True,
        )
        assert charge is None or isinstance(charge, Conflict | InsufficientFunds)
        await room.escrow.holds.release(reference)
    spent = await room.escrow.spent("ann", USDC)
    available = (await room.escrow.balance("ann", USDC)).available
    assert spent + available == usdc("10")


async def test_holds_of_work_that_ended_in_a_crash_are_released_by_upkeep(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds_module, "GRACE", holds_module.GRACE * 0)
    await room.funded("2")
    for reference in ("wf_ended", "wf_running"):
        await reserve(room, reference, "0.5")

    async def ended(reference: str) -> bool:
        return reference == "wf_ended"

    assert await room.escrow.holds.release_ended(ended) == 1
    assert await room.balance() == ("1.5", "0.5")


STEPS = st.lists(
    st.tuples(st.sampled_from(["reserve", "charge", "release"]), st.integers(1, 3), st.integers(1, 6)), max_size=12
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_whatever_happens_the_parts_add_up(database: Database, steps: list[tuple[str, int, int]]) -> None:
    room = room_on(database)
    user = f"u{abs(hash(tuple(steps)))}-{len(steps)}"
    await room.funded("1", user, f"{user:A<43}"[:43])
    before = (await room.escrow.balance(user, USDC)).total + await room.escrow.spent(user, USDC)
    for what, number, amount in steps:
        reference, money = f"{user}:{number}", usdc(f"0.{amount}")
        try:
            if what == "reserve":
                await room.escrow.holds.reserve(await room.escrow.account(user), reference, money)
            elif what == "charge":
                await room.escrow.holds.capture(reference, f"s{amount}", money)
            else:
                await room.escrow.holds.release(reference)
        except (Conflict, InsufficientFunds):
            continue
        held = await room.escrow.balance(user, USDC)
        assert held.total + await room.escrow.spent(user, USDC) == before
        assert held.available.atomic >= 0 and held.reserved.atomic >= 0
    await room.assert_sound()
    await room.books.close()


async def test_a_release_between_the_two_halves_of_a_reserve_leaves_no_money_behind(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Approve and cancel at once: the run's release comes after the row was written and before the money moved."""
    await room.funded("2")
    transfer = room.books.transfer

    async def late(key: str, *rest: object, **more: object) -> object:
        if key.startswith("escrow-hold:"):
            monkeypatch.undo()
            await room.escrow.holds.release("wf_1")
        return await transfer(key, *rest, **more)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(room.books, "transfer", late)
    with pytest.raises(Conflict, match="ended"):
        await reserve(room)
    assert await room.balance() == ("2", "0")
    await reserve(room)
    assert await room.balance() == ("1", "1")
    await room.escrow.holds.release("wf_1")
    assert await room.balance() == ("2", "0")
