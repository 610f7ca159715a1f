"""Runs that were bought: paid as they succeed, kept when they fail, never more than there are."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from agentnexus.core.errors import Conflict, InvalidInput, NotFound
from agentnexus.marketplace.entitlements.model import RightStatus, Use, UseState
from agentnexus.marketplace.purchases.model import Purchase
from agentnexus.marketplace.purchases.reconcile import reconcile
from tests.purchases.conftest import AGENT, Shop
from tests.purchases.mortal import Death, mortal

pytestmark = pytest.mark.timeout(180)


async def bought(shop: Shop, user_id: str, quantity: int, key: str = "k1") -> Purchase:
    return await shop.finish((await shop.purchases.begin(user_id, AGENT, quantity, key)).id)


async def ended(shop: Shop, use_id: str) -> UseState:
    while True:
        use = await shop.entitlements.use(None, use_id, wait_seconds=1)
        if use.state is not UseState.RUNNING:
            return use.state


async def test_a_run_that_succeeds_pays_the_seller_its_price_less_the_fee_and_burns_one(shop: Shop, buyer: str) -> None:
    purchase = await bought(shop, buyer, 3)
    had = await shop.world.chain.usdc_of(shop.seller)
    use = await shop.entitlements.run(buyer, AGENT, {"text": "hello"}, "r1")
    assert await ended(shop, use.id) is UseState.COMPLETED
    await shop.settle_uses()
    fee = shop.price * purchase.fee_bps // 10_000
    assert fee > 0
    assert await shop.world.chain.usdc_of(shop.seller) == had + shop.price - fee
    assert await shop.runs() == 2
    execution = await shop.entitlements.execution(use)
    assert execution is not None
    assert isinstance(execution.output, dict)
    assert execution.output["text"] == "hello"
    await shop.work()
    assert await shop.booked(purchase.account) == 2 * shop.price
    assert await shop.booked(f"seller:{shop.world.chain.network.caip2}:{shop.seller}") == shop.price - fee
    await shop.check_books()
    (right,) = await shop.entitlements.list(buyer)
    assert (right.runs_left, right.usage_count, right.runs_bought, right.status) == (2, 1, 3, RightStatus.ACTIVE)


async def test_a_run_that_fails_costs_nothing_and_is_still_there(shop: Shop, buyer: str) -> None:
    purchase = await bought(shop, buyer, 2)
    use = await shop.entitlements.run(buyer, AGENT, {"do": "refuse"}, "r1")
    assert await ended(shop, use.id) is UseState.FAILED
    await shop.work()
    kept = await shop.purchases.get(buyer, purchase.id)
    assert (kept.state, kept.remaining) == ("completed", 2 * shop.price)
    assert (await shop.entitlements.access(buyer, AGENT)).runs_left == 2
    failed = await shop.entitlements.use(buyer, use.id)
    assert failed.error is not None
    assert failed.error["code"] == "agent_refused"


async def test_the_only_run_of_a_purchase_is_paid_back_when_it_fails(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    purchase = await bought(shop, buyer, 1)
    use = await shop.entitlements.run(buyer, AGENT, {"do": "raise"}, "r1")
    assert await ended(shop, use.id) is UseState.FAILED
    back = await shop.until(purchase.id, lambda it: it.state == "refunded")
    assert back.refund_reason == "its run failed"
    assert await shop.money() == before
    assert await shop.runs() == 0
    await shop.work()
    assert await shop.booked(purchase.account) == 0
    await shop.check_books()


async def test_ten_runs_at_once_on_three_that_are_left_are_three(shop: Shop, buyer: str) -> None:
    await bought(shop, buyer, 3)
    had = await shop.world.chain.usdc_of(shop.seller)

    async def start(number: int) -> str:
        with suppress(Conflict, NotFound):
            return (await shop.entitlements.run(buyer, AGENT, {"text": str(number)}, f"r{number}")).id
        return ""

    started = [each for each in await asyncio.gather(*(start(number) for number in range(10))) if each]
    assert len(started) == 3
    assert [await ended(shop, each) for each in started] == [UseState.COMPLETED] * 3
    await shop.settle_uses()
    fee = 3 * shop.price * 250 // 10_000
    assert await shop.world.chain.usdc_of(shop.seller) == had + 3 * shop.price - fee
    assert await shop.runs() == 0
    await shop.work()
    (right,) = await shop.entitlements.list(buyer)
    assert (right.runs_left, right.status) == (0, RightStatus.USED_UP)
    with pytest.raises(NotFound, match="no runs"):
        await shop.entitlements.run(buyer, AGENT, {"text": "more"}, "r-more")


async def test_the_same_key_is_the_same_run(shop: Shop, buyer: str) -> None:
    await bought(shop, buyer, 3)
    first = await shop.entitlements.run(buyer, AGENT, {"text": "once"}, "r1")
    again = await asyncio.gather(*(shop.entitlements.run(buyer, AGENT, {"text": "once"}, "r1") for _ in range(4)))
    assert {each.id for each in again} == {first.id}
    with pytest.raises(Conflict, match="another input"):
        await shop.entitlements.run(buyer, AGENT, {"text": "other"}, "r1")
    assert await ended(shop, first.id) is UseState.COMPLETED
    await shop.settle_uses()
    assert await shop.runs() == 2


async def test_a_wrong_input_names_its_field_and_uses_nothing(shop: Shop, buyer: str) -> None:
    await bought(shop, buyer, 1)
    with pytest.raises(InvalidInput):
        await shop.entitlements.run(buyer, AGENT, {"count": -3}, "r1")
    assert (await shop.entitlements.access(buyer, AGENT)).runs_left == 1


async def test_who_bought_nothing_runs_nothing(shop: Shop, buyer: str) -> None:
    await bought(shop, buyer, 1)
    with pytest.raises(NotFound, match="no runs"):
        await shop.entitlements.run("stranger", AGENT, {"text": "free?"}, "r1")


async def test_the_chain_says_who_may_run(shop: Shop, buyer: str) -> None:
    """Tokens that were taken back elsewhere give no access here, whatever our tables say."""
    purchase = await bought(shop, buyer, 2)
    revoke = shop.market.tokens.revoke(purchase.wallet, shop.token, bytes(32), 2)
    await shop.operator(revoke)
    with pytest.raises(NotFound, match="no runs"):
        await shop.entitlements.run(buyer, AGENT, {"text": "still?"}, "r1")


async def running(shop: Shop, use: Use, attempts: int) -> None:
    """Wait until a sandbox works on it for that many times."""
    while True:
        execution = await shop.entitlements.execution(use)
        if execution is not None and (execution.status, execution.attempts) == ("running", attempts):
            return
        await asyncio.sleep(0.02)


async def test_a_run_whose_process_died_is_taken_up_by_another(shop: Shop, buyer: str) -> None:
    await bought(shop, buyer, 2)
    dying = shop.rights(shop.purchases)
    use = await dying.run(buyer, AGENT, {"do": "wait"}, "r1")
    await running(shop, use, 1)
    await dying.close()
    shop.world.clock.advance(31)
    assert (await shop.entitlements.use(buyer, use.id)).state is UseState.RUNNING
    assert await shop.entitlements.resume_once() == 1
    await running(shop, use, 2)
    assert (await shop.entitlements.access(buyer, AGENT)).under_way == 1


@pytest.mark.parametrize("point", ["before release", "after release", "before revoke", "after revoke"])
async def test_a_run_is_paid_once_however_often_who_settles_it_dies(shop: Shop, buyer: str, point: str) -> None:
    purchase = await bought(shop, buyer, 2)
    had = await shop.world.chain.usdc_of(shop.seller)
    dying = shop.rights(mortal(shop, point))
    use = await dying.run(buyer, AGENT, {"text": "hello"}, "r1")
    with suppress(Death):
        await dying._running[use.id]
    found = await shop.entitlements.use(buyer, use.id)
    assert (found.state, found.settled_at) == (UseState.COMPLETED, None)
    assert (await shop.entitlements.access(buyer, AGENT)).runs_left <= 1
    shop.world.clock.advance(5)
    await shop.settle_uses()
    fee = shop.price * purchase.fee_bps // 10_000
    assert await shop.world.chain.usdc_of(shop.seller) == had + shop.price - fee
    assert (await shop.runs(), await shop.held()) == (1, shop.price + fee)
    assert (await shop.entitlements.access(buyer, AGENT)).runs_left == 1
    await shop.check_books()


async def test_a_single_run_whose_process_dies_after_it_failed_is_given_back(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    purchase = await bought(shop, buyer, 1)
    use = await shop.entitlements.run(buyer, AGENT, {"do": "wait"}, "r1")
    await running(shop, use, 1)
    await shop.entitlements.close()
    failed = {"code": "agent_failed", "message": "it broke"}
    assert await shop.entitlements.store.finish(use.id, failed, shop.world.clock.now()) is not None
    assert await shop.entitlements.keep_once() == 0
    shop.world.clock.advance(5)
    assert await shop.entitlements.keep_once() == 1
    assert (await shop.until(purchase.id, lambda it: it.state == "refunded")).refund_reason == "its run failed"
    assert await shop.money() == before


async def test_a_reorganisation_that_drops_the_payment_of_a_run_has_it_paid_again(shop: Shop, buyer: str) -> None:
    purchase = await bought(shop, buyer, 2)
    had = await shop.world.chain.usdc_of(shop.seller)
    await shop.work()
    snapshot = await shop.world.chain.snapshot()
    use = await shop.entitlements.run(buyer, AGENT, {"text": "hello"}, "r1")
    await ended(shop, use.id)
    await shop.settle_uses()
    paid = await shop.world.chain.usdc_of(shop.seller)
    assert paid > had
    await shop.purchases.keep_once()
    await shop.world.chain.revert(snapshot)
    await shop.world.chain.mine(4)
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 2
    await shop.purchases.keep_once()
    assert (await shop.entitlements.use(buyer, use.id)).settled_at is None
    await shop.settle_uses()
    await shop.work()
    assert await shop.world.chain.usdc_of(shop.seller) == paid
    assert await shop.runs() == 1
    assert await shop.booked(purchase.account) == shop.price
    await shop.check_books()


async def test_runs_come_from_the_oldest_purchase_first(shop: Shop, buyer: str) -> None:
    first = await bought(shop, buyer, 1, "k1")
    second = await bought(shop, buyer, 1, "k2")
    uses = [await shop.entitlements.run(buyer, AGENT, {"text": str(n)}, f"r{n}") for n in range(2)]
    assert [each.purchase_id for each in uses] == [first.id, second.id]
    for each in uses:
        assert await ended(shop, each.id) is UseState.COMPLETED
    await shop.settle_uses()
    assert (await shop.runs(), await shop.entitlements.list(buyer))[0] == 0


async def test_a_buyer_who_burns_runs_has_fewer(shop: Shop, buyer: str) -> None:
    purchase = await bought(shop, buyer, 3)
    await shop.operator(shop.market.tokens.revoke(purchase.wallet, shop.token, bytes(32), 1))
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 1
    assert (await shop.entitlements.access(buyer, AGENT)).runs_left == 2
    (right,) = await shop.entitlements.list(buyer)
    assert right.runs_left == 2
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 0
