"""An agent for a month: paid with its first run, given back until then, renewed, upgraded to, and over at its end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import Conflict, InvalidInput, NotFound
from agentnexus.core.money import Asset, Money
from agentnexus.marketplace.entitlements.model import Right, RightStatus, UseState
from agentnexus.marketplace.purchases.kinds import PERIOD_DAYS, Kind, Period, agent_class, token_of
from agentnexus.marketplace.purchases.model import LINGERS
from agentnexus.marketplace.purchases.reconcile import reconcile
from agentnexus.rails.evm.contracts import DealStatus
from tests.purchases.conftest import AGENT, Shop
from tests.purchases.mortal import Death, mortal
from tests.purchases.selling import MONTH, at_day, month, pass_time, sell, whole
from tests.purchases.test_uses import bought, ended

pytestmark = pytest.mark.timeout(180)
USDC = Asset("USDC", 6, "eip155:1/erc20:0x0000000000000000000000000000000000000001")
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))


async def run(shop: Shop, user_id: str, key: str, **value: object) -> UseState:
    use = await shop.entitlements.run(user_id, AGENT, value or {"text": "hello"}, key)
    state = await ended(shop, use.id)
    await shop.settle_uses()
    await shop.work()
    return state


async def right(shop: Shop, user_id: str, kind: Kind) -> Right:
    (found,) = [each for each in await shop.entitlements.list(user_id) if each.kind is kind]
    return found


async def test_a_month_costs_the_days_that_are_left_and_is_paid_with_its_first_run(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH)
    period, had = await at_day(shop, 10.2), await shop.money()
    quote = await shop.purchases.quote(buyer, AGENT, Kind.PERIOD)
    assert quote.amount == Money(whole(shop).asset, whole(shop).atomic * 20 // 30)
    purchase = await month(shop, buyer)
    assert (purchase.state, purchase.price, purchase.period) == ("completed", quote.price, period)
    assert await shop.held() == quote.price.atomic
    before = await shop.world.chain.usdc_of(shop.seller)
    for key in ("r1", "r2", "r3"):
        assert await run(shop, buyer, key) is UseState.COMPLETED
    fee = quote.price.atomic * purchase.fee_bps // 10_000
    assert await shop.world.chain.usdc_of(shop.seller) == before + quote.price.atomic - fee
    assert (await shop.held(), await shop.money()) == (fee, had - quote.price.atomic)  # fees stay there until swept
    assert await shop.market.balance(purchase.wallet, purchase.token_id) == 1
    found = await right(shop, buyer, Kind.PERIOD)
    assert (found.status, found.usage_count, found.max_usage, found.runs_left) == (RightStatus.ACTIVE, 3, None, None)
    assert (found.starts_at, found.expires_at) == (period.starts_at, period.ends_at)
    with pytest.raises(Conflict, match="paid with its first run"):
        await shop.purchases.refund(buyer, purchase.id)
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 0
    assert await shop.booked(purchase.account) == 0
    await shop.check_books()


async def test_runs_that_begin_together_pay_the_month_once(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH)
    purchase, before = await month(shop, buyer), await shop.world.chain.usdc_of(shop.seller)
    uses = await asyncio.gather(
        *(shop.entitlements.run(buyer, AGENT, {"text": "hello"}, f"r{number}") for number in range(4))
    )
    assert {await ended(shop, each.id) for each in uses} == {UseState.COMPLETED}
    await shop.settle_uses()
    await shop.work()
    fee = purchase.amount.atomic * purchase.fee_bps // 10_000
    assert await shop.world.chain.usdc_of(shop.seller) == before + purchase.amount.atomic - fee
    await shop.check_books()


async def test_a_month_that_nobody_used_is_given_back_whole(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH)
    had, purchase = await shop.money(), await month(shop, buyer)
    assert await run(shop, buyer, "r1", do="refuse") is UseState.FAILED
    await shop.purchases.refund(buyer, purchase.id)
    assert (await shop.finish(purchase.id)).state == "refunded"
    assert (await shop.money(), await shop.held()) == (had, 0)
    assert await shop.market.balance(purchase.wallet, purchase.token_id) == 0
    assert (await right(shop, buyer, Kind.PERIOD)).status is RightStatus.REVOKED
    with pytest.raises(NotFound):
        await shop.entitlements.run(buyer, AGENT, {"text": "hello"}, "r2")
    again = await month(shop, buyer, "m2")
    assert again.period == purchase.period
    await shop.check_books()


async def test_a_month_that_is_never_used_comes_back_by_itself_after_its_end(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH)
    period = await at_day(shop, 3)
    had, purchase = await shop.money(), await month(shop, buyer)
    await pass_time(shop, period.ends_at - shop.world.clock.now() + LINGERS / 2)
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 0
    assert (await right(shop, buyer, Kind.PERIOD)).status is RightStatus.EXPIRED
    await pass_time(shop, LINGERS)
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 1
    done = await shop.until(purchase.id, lambda it: it.state == "refunded")
    assert (done.deal, await shop.money(), await shop.held()) == (DealStatus.EXPIRED, had, 0)
    await shop.check_books()


async def test_renewed_it_is_the_next_month_at_its_full_price_and_a_third_is_refused(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH)
    period = await at_day(shop, 25)
    first, second = await month(shop, buyer), await month(shop, buyer, "m2")
    assert (first.period, second.period) == (period, period.following)
    assert (first.price.atomic, second.price) == (whole(shop).atomic * 5 // 30, whole(shop))
    with pytest.raises(Conflict, match="already"):
        await shop.purchases.begin(buyer, AGENT, 1, "m3", kind=Kind.PERIOD)
    with pytest.raises(Conflict, match="already"):
        await shop.purchases.quote(buyer, AGENT, Kind.PERIOD)
    access = await shop.entitlements.access(buyer, AGENT)
    assert (access.until, access.period_runs_left) == (period.ends_at, None)
    months = await shop.entitlements.list(buyer)
    assert [each.starts_at for each in months] == [period.starts_at, period.ends_at]
    await pass_time(shop, timedelta(days=6))
    assert await run(shop, buyer, "r1") is UseState.COMPLETED
    assert (await shop.purchases.get(buyer, second.id)).deal is DealStatus.RELEASED
    assert (await shop.purchases.get(buyer, first.id)).deal is DealStatus.OPEN


async def test_orders_that_come_together_are_for_different_months(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH)
    period = await at_day(shop, 1)
    one, other = shop.process(), shop.process()
    orders = (
        (one if number % 2 else other).begin(buyer, AGENT, 1, f"k{number}", kind=Kind.PERIOD) for number in range(5)
    )
    begun = await asyncio.gather(*orders, return_exceptions=True)
    bought = [each for each in begun if not isinstance(each, BaseException)]
    assert [type(each) for each in begun if isinstance(each, BaseException)] == [Conflict] * 3
    assert {each.period for each in bought} == {period, period.following}
    assert {(await shop.finish(each.id)).state.value for each in bought} == {"completed"}


async def test_one_key_is_one_month(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH)
    first = await month(shop, buyer)
    assert (await shop.purchases.begin(buyer, AGENT, 1, "m1", kind=Kind.PERIOD)).id == first.id
    with pytest.raises(Conflict, match="another purchase"):
        await shop.purchases.begin(buyer, AGENT, 1, "m1")


async def test_at_its_end_nothing_runs_and_before_its_start_neither(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH)
    period = await at_day(shop, 29.99)  # too late to pay for it: what is sold is the next one
    purchase = await month(shop, buyer)
    assert purchase.period == period.following
    with pytest.raises(Conflict, match="begins on"):
        await shop.entitlements.run(buyer, AGENT, {"text": "hello"}, "r1")
    assert (await right(shop, buyer, Kind.PERIOD)).status is RightStatus.ACTIVE
    await pass_time(shop, timedelta(days=1))
    assert await run(shop, buyer, "r1") is UseState.COMPLETED
    await pass_time(shop, timedelta(days=PERIOD_DAYS))
    with pytest.raises(NotFound):
        await shop.entitlements.run(buyer, AGENT, {"text": "hello"}, "r2")
    found = await right(shop, buyer, Kind.PERIOD)
    assert (found.status, found.runs_left, found.expires_at) == (RightStatus.EXPIRED, 0, purchase.ends_at)
    assert (await shop.entitlements.access(buyer, AGENT)).until is None


async def test_a_month_with_so_many_runs_is_used_up_and_then_bought_runs_are_taken(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH, runs_per_month=2)
    await at_day(shop, 1)
    await bought(shop, buyer, 1, "k1")
    purchase = await month(shop, buyer)
    assert [await run(shop, buyer, f"r{number}") for number in range(3)] == [UseState.COMPLETED] * 3
    uses = {each.key: each.purchase_id for each in await shop.entitlements.uses(buyer, 10)}
    assert [uses[key] == purchase.id for key in sorted(uses)] == [True, True, False]
    assert (await right(shop, buyer, Kind.RUNS)).status is RightStatus.USED_UP
    found = await right(shop, buyer, Kind.PERIOD)
    assert (found.status, found.usage_count, found.max_usage, found.runs_left) == (RightStatus.USED_UP, 2, 2, 0)
    with pytest.raises(Conflict, match="all 2 runs of this month"):
        await shop.entitlements.run(buyer, AGENT, {"text": "hello"}, "r4")


async def test_an_upgrade_gives_unused_runs_back_once_the_month_is_there(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH)
    had = await shop.money()
    runs = await bought(shop, buyer, 3, "k1")
    assert await run(shop, buyer, "r1") is UseState.COMPLETED
    made = await month(shop, buyer, upgrade=True)
    given_back = await shop.until(runs.id, lambda it: it.state == "refunded")
    assert given_back.refund_reason == f"replaced by {made.what}"
    assert await shop.money() == had - shop.price - made.amount.atomic
    assert await shop.runs() == 0
    assert (await shop.entitlements.access(buyer, AGENT)).until == made.ends_at
    await shop.check_books()


@pytest.mark.parametrize("point", [f"{when} write {number}" for number in range(3, 6) for when in ("before", "after")])
async def test_an_upgrade_whose_process_dies_gives_the_runs_back_all_the_same(
    shop: Shop, buyer: str, point: str
) -> None:
    await sell(shop, per_month=MONTH)
    had, runs = await shop.money(), await bought(shop, buyer, 2, "k1")
    dying = mortal(shop, point)
    try:
        await dying.begin(buyer, AGENT, 1, "m1", kind=Kind.PERIOD, upgrade=True)
        await asyncio.gather(*dying._running)
    except Death:
        pass
    made = next(each for each in await shop.purchases.list(buyer) if each.upgrade)
    assert (await shop.finish(made.id)).state == "completed"
    await shop.until(runs.id, lambda it: it.state == "refunded")
    assert await shop.money() == had - made.amount.atomic
    await shop.check_books()


async def test_upgrades_and_months_that_cannot_be_are_refused_and_cost_nothing(shop: Shop, buyer: str) -> None:
    with pytest.raises(InvalidInput, match="sold by the run"):
        await shop.purchases.begin(buyer, AGENT, 1, "m1", kind=Kind.PERIOD)
    await sell(shop, per_month=MONTH)
    with pytest.raises(InvalidInput, match="one at a time"):
        await shop.purchases.begin(buyer, AGENT, 2, "m1", kind=Kind.PERIOD)
    with pytest.raises(Conflict, match="no unused runs"):
        await shop.purchases.begin(buyer, AGENT, 1, "m1", kind=Kind.PERIOD, upgrade=True)
    with pytest.raises(InvalidInput, match="upgraded to a period"):
        await shop.purchases.begin(buyer, AGENT, 1, "m1", upgrade=True)
    dear = (await shop.purchases.quote(buyer, AGENT, Kind.PERIOD)).amount.decimal
    with pytest.raises(Conflict, match="it costs"):
        await shop.purchases.begin(buyer, AGENT, 1, "m1", kind=Kind.PERIOD, at_most=dear / 2)
    assert await shop.purchases.list(buyer) == []


async def test_a_dropped_block_with_the_payment_of_the_month_has_it_paid_again(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH)
    await month(shop, buyer)
    await shop.work()
    snapshot, had = await shop.world.chain.snapshot(), await shop.world.chain.usdc_of(shop.seller)
    assert await run(shop, buyer, "r1") is UseState.COMPLETED
    paid = await shop.world.chain.usdc_of(shop.seller)
    assert paid > had
    await shop.world.chain.revert(snapshot)
    await shop.world.chain.mine(4)
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 1
    await shop.purchases.keep_once()
    await shop.settle_uses()
    await shop.work()
    assert await shop.world.chain.usdc_of(shop.seller) == paid
    await shop.check_books()


@given(MOMENTS, st.integers(1, 10**12))
def test_a_part_of_a_month_never_costs_more_than_all_of_it_and_never_nothing(now: datetime, atomic: int) -> None:
    period, price = Period.on_sale(now), Money(USDC, atomic)
    asked = period.price(price, now)
    assert 0 < asked.atomic <= atomic
    assert period.following.price(price, now) == price
    later = period.price(price, min(now + timedelta(days=1), period.ends_at - timedelta(seconds=1)))
    assert later.atomic <= asked.atomic


@given(MOMENTS)
def test_every_moment_is_in_one_period_and_one_on_sale_can_still_be_paid(now: datetime) -> None:
    period = Period.at(now)
    assert period.starts_at <= now < period.ends_at
    assert Period.at(period.starts_at) == period
    assert Period.on_sale(now).ends_at - now >= timedelta(hours=1)


def test_classes_differ_in_what_cannot_change_of_them() -> None:
    numbers = {agent_class("org.a.b", kind, transferable=can) for kind in Kind for can in (False, True)}
    assert len(numbers) == 4
    assert agent_class("org.a.c") not in numbers
    assert token_of(5, None) == 5 << 64
    assert token_of(5, Period(700)) == 5 << 64 | 700
