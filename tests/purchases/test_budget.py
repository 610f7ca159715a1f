"""The buyer's budget follows the money: what comes back may be spent again, whatever the chain does with its blocks."""

from __future__ import annotations

import pytest

from agentnexus.ledger.budgets import BudgetStatus
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.marketplace.purchases.model import Purchase
from tests.purchases.conftest import AGENT, Shop

pytestmark = pytest.mark.timeout(180)


async def budget(shop: Shop, user_id: str = "ann") -> BudgetStatus:
    return await PersonalBudgets(shop.world.books, shop.world.chain.usdc).current(user_id)


async def left(shop: Shop) -> dict[str, int]:
    """What the budget's limits of time leave, and what it counts as spent."""
    status = await budget(shop)
    assert status.reserved.atomic == 0
    return {"spent": status.spent.atomic, **{name: money.atomic for name, money in status.left.items()}}


async def bought(shop: Shop, buyer: str, runs: int, key: str) -> Purchase:
    done = await shop.finish((await shop.purchases.begin(buyer, AGENT, runs, key)).id)
    assert done.state == "completed"
    await shop.work()
    return done


async def refunded(shop: Shop, buyer: str, purchase: Purchase) -> Purchase:
    await shop.purchases.refund(buyer, purchase.id)
    done = await shop.until(purchase.id, lambda it: it.state == "refunded")
    await shop.work()
    return done


async def reorganised(shop: Shop, snapshot: str) -> None:
    """The chain as it was at the snapshot, and longer than we know it."""
    await shop.world.chain.revert(snapshot)
    await shop.world.chain.mine(6)
    await shop.follow()


async def test_a_refunded_purchase_leaves_the_budget_as_it_was(shop: Shop, buyer: str) -> None:
    before = await left(shop)
    purchase = await bought(shop, buyer, 3, "k1")
    amount = 3 * shop.price
    assert await left(shop) == {
        "spent": amount, "per_hour": before["per_hour"] - amount, "per_day": before["per_day"] - amount,
    }  # fmt: skip
    await refunded(shop, buyer, purchase)
    assert await left(shop) == before
    assert (await shop.world.books.reservation(purchase.reservation)).spent == 0
    await shop.check_books()


async def test_of_a_purchase_that_was_partly_used_the_budget_has_the_rest_back(shop: Shop, buyer: str) -> None:
    before = await left(shop)
    purchase = await bought(shop, buyer, 3, "k1")
    await shop.entitlements.run(buyer, AGENT, {"text": "hello"}, "r1")
    await shop.settle_uses()
    await shop.work()
    await refunded(shop, buyer, purchase)
    assert await left(shop) == {
        "spent": shop.price, "per_hour": before["per_hour"] - shop.price, "per_day": before["per_day"] - shop.price,
    }  # fmt: skip
    await shop.check_books()


async def test_a_refund_whose_block_is_dropped_is_spent_until_it_comes_back_again(shop: Shop, buyer: str) -> None:
    before = await left(shop)
    purchase = await bought(shop, buyer, 2, "k1")
    paid, snapshot = await left(shop), await shop.world.chain.snapshot()
    await refunded(shop, buyer, purchase)
    assert await left(shop) == before
    await reorganised(shop, snapshot)
    assert await left(shop) == paid
    await shop.check_books()
    await shop.work()  # sent again: the operator's refund is still good
    await shop.until(purchase.id, lambda it: it.state == "refunded" and it.remaining == 0)
    await shop.work()
    assert await left(shop) == before
    await shop.check_books()


async def test_a_purchase_whose_block_is_dropped_is_not_spent_until_it_is_paid_again(shop: Shop, buyer: str) -> None:
    before = await left(shop)
    await bought(shop, buyer, 1, "k0")  # the account is made
    first, snapshot = await left(shop), await shop.world.chain.snapshot()
    purchase = await bought(shop, buyer, 2, "k1")
    paid = await left(shop)
    assert paid["spent"] - first["spent"] == 2 * shop.price
    await reorganised(shop, snapshot)
    assert await left(shop) == first
    await shop.until(purchase.id, lambda it: it.state == "processing")
    await shop.finish(purchase.id)
    await shop.work()
    assert await left(shop) == paid
    await refunded(shop, buyer, purchase)
    assert await left(shop) == first != before
    await shop.check_books()


async def test_both_at_once_dropped_and_back_count_once(shop: Shop, buyer: str) -> None:
    await bought(shop, buyer, 1, "k0")
    first, snapshot = await left(shop), await shop.world.chain.snapshot()
    purchase = await bought(shop, buyer, 2, "k1")
    await refunded(shop, buyer, purchase)
    assert await left(shop) == first
    await reorganised(shop, snapshot)
    assert await left(shop) == first
    await shop.check_books()
    await shop.work()
    assert (await left(shop))["spent"] == first["spent"] + await shop.booked(purchase.account)
    await shop.check_books()


async def test_a_process_that_dies_before_it_notes_what_it_booked_books_nothing_twice(shop: Shop, buyer: str) -> None:
    """The books have it, the handler's place has not moved: everything is told again."""
    await bought(shop, buyer, 1, "k0")
    snapshot = await shop.world.chain.snapshot()
    purchase = await bought(shop, buyer, 2, "k1")
    await refunded(shop, buyer, purchase)
    await reorganised(shop, snapshot)
    await shop.work()
    before, in_deal = await left(shop), await shop.booked(purchase.account)
    returned = (await shop.world.books.reservation(purchase.reservation)).returned
    async with shop.database.connection() as connection:
        await connection.execute("update indexer.handler set position = 0")
    await shop.follow()
    assert (await left(shop), await shop.booked(purchase.account)) == (before, in_deal)
    assert (await shop.world.books.reservation(purchase.reservation)).returned == returned
    await shop.check_books()


async def test_what_was_paid_past_the_budget_comes_back_past_it_as_well(shop: Shop, buyer: str) -> None:
    """Its money was given back before the chain had it: a buyer who cancels and signs all the same."""
    before = await left(shop)
    begun = await shop.purchases.begin(buyer, AGENT, 2, "k1")
    await shop.world.books.void(begun.reservation, "cancelled")
    purchase = await bought(shop, buyer, 2, "k1")
    assert await left(shop) == before
    snapshot = await shop.world.chain.snapshot()
    await refunded(shop, buyer, purchase)
    assert await left(shop) == before
    await reorganised(shop, snapshot)
    assert await left(shop) == before
    assert await shop.booked(purchase.account) == 2 * shop.price
    await shop.check_books()
