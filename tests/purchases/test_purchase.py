"""A purchase from the first click to the right to run, and back; on a real chain with the real contracts."""

from __future__ import annotations

import pytest

from tests.purchases.conftest import AGENT, Shop

pytestmark = pytest.mark.timeout(180)


async def test_a_wallet_that_this_node_signs_for_buys_runs_in_one_operation(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    bought = await shop.purchases.begin(buyer, AGENT, 3, "k1")
    done = await shop.finish(bought.id)
    assert (done.state, done.step, done.error) == ("completed", "entitled", None)
    assert await shop.runs() == 3
    assert await shop.money() == before - 3 * shop.price
    assert await shop.held() == done.remaining == 3 * shop.price
    assert await shop.states(done.id) == ["initiated", "validating", "processing", "completed"]
    await shop.follow()
    assert await shop.booked(done.account) == 3 * shop.price
    await shop.check_books()
