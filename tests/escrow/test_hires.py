"""A hire outside any workflow is charged to its buyer's prepaid account as well, and never costs more than it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from agentnexus.bootstrap.prepaid import prepaid_hires
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import InsufficientFunds, NexusError, PaymentUnknown, SellerFailed
from agentnexus.core.offers import Constraints, Need
from agentnexus.core.payments import PayMode
from agentnexus.escrow.hires import PrepaidHires
from agentnexus.hiring.model import Hired
from agentnexus.hiring.testing import Script
from agentnexus.platform.database import Database
from tests.escrow.conftest import Room, room_on
from tests.hiring.support import BUDGET, USDC, Economy, make_offer, seller_key, usd


@dataclass
class Shop:
    room: Room
    economy: Economy
    hires: PrepaidHires

    async def hire(self, user: str = "ann", most: str = "0.05", key: str = "k1") -> Hired:
        need = Need(capability="text.echo", input={"text": "hello"}, constraints=Constraints(max_price=usd(most)))
        return await self.hires.hire(need, usd(most), parent=BUDGET, key=key, user_id=user)


async def open_shop(database: Database, **terms: object) -> Shop:
    economy, room = await Economy.build(database, **terms), room_on(database)  # type: ignore[arg-type]  # passed on
    hires = prepaid_hires(room.escrow, economy.hiring, economy.books, USDC, SystemClock())
    assert hires is not None
    return Shop(room, economy, hires)


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[Shop]:
    built = await open_shop(database)
    yield built
    await built.room.assert_sound()
    await built.room.books.close()
    await built.economy.close()


def failing(given: object) -> object:
    raise SellerFailed("out of paper", next_step="choose another seller")


async def test_a_hire_is_charged_to_the_account_once(shop: Shop) -> None:
    await shop.room.funded("0.1")
    first = await shop.hire()
    assert first.output == {"echo": {"text": "hello"}}
    assert await shop.room.balance() == ("0.08", "0")
    assert (await shop.hire()).receipt == first.receipt
    await asyncio.gather(*(shop.hire() for _ in range(4)))
    assert await shop.room.balance() == ("0.08", "0")


async def test_an_empty_account_hires_nobody(shop: Shop) -> None:
    await shop.room.funded("0.04")
    with pytest.raises(InsufficientFunds, match=r"Available: 0\.04, Required: 0\.05"):
        await shop.hire()
    assert await shop.economy.paid() == "0"
    assert await shop.room.balance() == ("0.04", "0")


async def test_many_hires_at_once_cost_what_the_account_has_and_no_more(shop: Shop) -> None:
    await shop.room.funded("0.1")
    ended = await asyncio.gather(*(shop.hire(key=f"k{n}") for n in range(8)), return_exceptions=True)
    done = [each for each in ended if isinstance(each, Hired)]
    assert all(isinstance(each, Hired | InsufficientFunds) for each in ended)
    assert 1 <= len(done) <= 5
    found = await shop.room.escrow.balance("ann", shop.room.treasury.assets[0])
    assert (found.available.atomic, found.reserved.atomic) == (100_000 - 20_000 * len(done), 0)


async def test_who_has_no_account_hires_from_the_budget_as_ever(shop: Shop) -> None:
    await shop.room.funded("0.1")
    await shop.hire(user="bob")
    assert await shop.economy.paid() == "0.02"
    assert await shop.room.balance() == ("0.1", "0")


async def test_a_hire_that_failed_and_was_refunded_costs_nothing(database: Database) -> None:
    shop = await open_shop(database, scripts={seller_key(1): Script(output=failing)})
    await shop.room.funded("0.1")
    with pytest.raises(NexusError):
        await shop.hire()
    assert await shop.room.balance() == ("0.1", "0")
    await shop.economy.close()


async def test_what_sellers_took_without_delivering_stays_within_what_was_set_aside(database: Database) -> None:
    """Four sellers of one gang that take the money first and give nothing."""
    offers = [make_offer(n, price="0.04") for n in range(1, 5)]
    scripts = {offer.seller.key: Script(output=failing, mode=PayMode.PAY) for offer in offers}
    shop = await open_shop(database, offers=offers, scripts=scripts)
    await shop.room.funded("0.1")
    with pytest.raises(NexusError):
        await shop.hire()
    paid = [await shop.economy.paid(number) for number in range(1, 5)]
    assert sorted(paid) == ["0", "0", "0", "0.04"]
    assert await shop.room.balance() == ("0.06", "0")
    await shop.economy.close()


async def test_after_a_crash_upkeep_charges_what_was_paid(database: Database) -> None:
    died = False

    def die(name: str) -> None:
        nonlocal died
        if name == "bought" and not died:
            died = True
            raise ConnectionError("killed")

    shop = await open_shop(database, stop=die)
    await shop.room.funded("0.1")
    with pytest.raises(PaymentUnknown):
        await shop.hire()
    assert await shop.room.balance() == ("0.05", "0.05")
    assert not await shop.hires.settled("hire:k1")
    await shop.economy.hiring.cancel("k1")
    assert await shop.hires.settled("hire:k1")
    paid = usd(await shop.economy.paid())
    available = (await shop.room.escrow.balance("ann", shop.room.treasury.assets[0])).available
    assert available.atomic == 100_000 - paid.atomic
    assert (await shop.room.balance())[1] == "0"
    assert await shop.hires.settled("hire:k1"), "again changes nothing"
    assert await shop.hires.settled("hire:unheard-of")
    await shop.economy.close()
