"""Rights that are passed on: who got them runs on what the buyer paid, and nobody can have the money and the runs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agentnexus.core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from agentnexus.marketplace.entitlements.model import RightStatus, UseState
from agentnexus.marketplace.purchases.kinds import Kind
from agentnexus.marketplace.purchases.reconcile import reconcile
from agentnexus.rails.evm.contracts import Call
from agentnexus.rails.evm.contracts.abi import abi_of
from agentnexus.rails.evm.encoding import ZERO_ADDRESS
from agentnexus.wallets.model import OperationState, WalletKind
from tests.purchases.conftest import AGENT, Shop
from tests.purchases.selling import MONTH, at_day, month, pass_time, sell
from tests.purchases.test_dead_ends import act_as
from tests.purchases.test_periods import right, run
from tests.purchases.test_uses import bought, ended

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def bob(shop: Shop) -> str:
    """The address of somebody else with a wallet here."""
    return (await shop.world.funded("bob", usdc=0)).address


async def pass_on(shop: Shop, to: str, count: int, key: str = "t1", kind: Kind = Kind.RUNS) -> None:
    wallets = shop.world.wallets()
    begun = await shop.entitlements.transfer("ann", AGENT, kind, to=to, count=count, key=key)
    assert (await wallets.settle(begun.id)).state is OperationState.SUCCEEDED
    await shop.work()


async def test_who_was_given_runs_makes_them_and_the_buyers_deal_pays(shop: Shop, buyer: str, bob: str) -> None:
    await sell(shop, transferable=True)
    purchase = await bought(shop, buyer, 5)
    await pass_on(shop, bob, 2)
    assert (await shop.entitlements.access(buyer, AGENT)).runs_left == 3
    assert (await shop.entitlements.access("bob", AGENT)).runs_left == 2
    before = await shop.world.chain.usdc_of(shop.seller)
    assert await run(shop, "bob", "r1") is UseState.COMPLETED
    assert await shop.world.chain.usdc_of(shop.seller) == before + shop.price - shop.price * purchase.fee_bps // 10_000
    assert await shop.market.balance(bob, purchase.token_id) == 1
    assert (await shop.purchases.get(buyer, purchase.id)).remaining == 4 * shop.price
    assert await run(shop, buyer, "r1") is UseState.COMPLETED
    mine, given = await right(shop, buyer, Kind.RUNS), await right(shop, "bob", Kind.RUNS)
    assert (mine.runs_left, mine.usage_count, mine.purchases) == (2, 1, (purchase.id,))
    assert (given.runs_left, given.usage_count, given.purchases) == (1, 1, ())
    with pytest.raises(NotFound):
        await shop.purchases.get("bob", purchase.id)
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 0
    await shop.check_books()


async def test_what_was_passed_on_is_not_given_back_until_it_is_used_or_over(shop: Shop, buyer: str, bob: str) -> None:
    await sell(shop, transferable=True)
    had = await shop.money()
    purchase = await bought(shop, buyer, 3)
    await pass_on(shop, bob, 1)
    with pytest.raises(Conflict, match="1 of its runs was passed on"):
        await shop.purchases.refund(buyer, purchase.id)
    assert await run(shop, "bob", "r1") is UseState.COMPLETED
    await shop.purchases.refund(buyer, purchase.id)
    await shop.until(purchase.id, lambda it: it.state == "refunded")
    assert await shop.money() == had - shop.price
    with pytest.raises(NotFound):
        await shop.entitlements.run("bob", AGENT, {"text": "hello"}, "r2")
    await shop.check_books()


async def test_at_the_end_of_the_deal_what_nobody_used_goes_back_and_is_taken_from_everybody(
    shop: Shop, buyer: str, bob: str
) -> None:
    await sell(shop, transferable=True)
    had, purchase = await shop.money(), await bought(shop, buyer, 3)
    await pass_on(shop, bob, 2)
    await pass_time(shop, timedelta(days=31))
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 1
    await shop.until(purchase.id, lambda it: it.state == "refunded")
    await shop.work()
    assert await shop.money() == had
    balances = await shop.market.balances([(bob, purchase.token_id), (purchase.wallet, purchase.token_id)])
    assert balances == [0, 0]
    assert (await right(shop, "bob", Kind.RUNS)).status is RightStatus.EXPIRED
    await shop.check_books()


async def test_a_buyer_who_passes_runs_on_past_this_node_does_not_get_their_money_as_well(
    shop: Shop, buyer: str, bob: str
) -> None:
    """The refund is asked for before this node has heard of it."""
    await sell(shop, transferable=True)
    purchase = await bought(shop, buyer, 2)
    await shop.work()
    await act_as(shop, purchase.wallet, shop.market.tokens.safe_transfer(purchase.wallet, bob, purchase.token_id, 1))
    await shop.purchases.refund(buyer, purchase.id)
    kept = await shop.finish(purchase.id)
    assert (kept.state, kept.remaining, kept.refund_reason) == ("completed", 2 * shop.price, "")
    assert kept.error is not None
    await shop.work()
    assert await run(shop, "bob", "r1") is UseState.COMPLETED
    assert await run(shop, buyer, "r1") is UseState.COMPLETED
    assert (await shop.purchases.get(buyer, purchase.id)).remaining == 0
    await shop.check_books()


async def test_a_refund_of_what_can_be_passed_on_takes_the_runs_first(shop: Shop, buyer: str) -> None:
    await sell(shop, transferable=True)
    had, purchase = await shop.money(), await bought(shop, buyer, 3)
    assert await run(shop, buyer, "r1") is UseState.COMPLETED
    await shop.purchases.refund(buyer, purchase.id)
    assert (await shop.finish(purchase.id)).state == "refunded"
    assert await shop.money() == had - shop.price
    assert await shop.market.balance(purchase.wallet, purchase.token_id) == 0
    await shop.check_books()


async def test_a_dropped_block_with_it_has_the_runs_back_where_they_were(shop: Shop, buyer: str, bob: str) -> None:
    await sell(shop, transferable=True)
    purchase = await bought(shop, buyer, 3)
    await shop.work()
    snapshot = await shop.world.chain.snapshot()
    await act_as(shop, purchase.wallet, shop.market.tokens.safe_transfer(purchase.wallet, bob, purchase.token_id, 2))
    await shop.work()
    assert (await shop.entitlements.access("bob", AGENT)).runs_left == 2
    await shop.world.chain.revert(snapshot)
    await shop.world.chain.mine(4)
    await shop.work()
    assert (await shop.entitlements.access("bob", AGENT)).runs_left == 0
    assert (await shop.entitlements.access(buyer, AGENT)).runs_left == 3
    assert await right(shop, buyer, Kind.RUNS)
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 0


async def test_lists_of_tokens_that_go_and_come_back_are_followed(shop: Shop, buyer: str, bob: str) -> None:
    await sell(shop, transferable=True)
    purchase = await bought(shop, buyer, 3)
    await shop.work()

    def all_of(giver: str, receiver: str) -> Call:
        arguments = (giver, receiver, [purchase.token_id] * 2, [1, 2], b"")
        abi = abi_of("Entitlements")
        return Call(shop.market.tokens.address, abi.encode("safeBatchTransferFrom", arguments))

    await act_as(shop, purchase.wallet, all_of(purchase.wallet, bob))
    await shop.work()
    assert (await shop.entitlements.access("bob", AGENT)).runs_left == 3
    assert (await shop.entitlements.access(buyer, AGENT)).runs_left == 0
    await act_as(shop, bob, all_of(bob, purchase.wallet))
    await shop.work()
    assert (await shop.entitlements.access(buyer, AGENT)).runs_left == 3
    await shop.purchases.refund(buyer, purchase.id)
    await shop.until(purchase.id, lambda it: it.state == "refunded")


async def test_a_token_whose_run_is_under_way_takes_nothing_with_it(shop: Shop, buyer: str, bob: str) -> None:
    await sell(shop, transferable=True)
    purchase = await bought(shop, buyer, 1)
    await shop.work()
    use = await shop.entitlements.run(buyer, AGENT, {"text": "hello"}, "r1")
    await act_as(shop, purchase.wallet, shop.market.tokens.safe_transfer(purchase.wallet, bob, purchase.token_id, 1))
    await shop.follow()
    assert await ended(shop, use.id) is UseState.COMPLETED
    await shop.settle_uses()
    await shop.work()
    assert (await shop.purchases.get(buyer, purchase.id)).deal.name == "RELEASED"
    with pytest.raises(NotFound):
        await shop.entitlements.run("bob", AGENT, {"text": "for nothing"}, "r1")
    await shop.check_books()


async def test_a_month_goes_to_one_other_and_its_giver_may_buy_it_anew(shop: Shop, buyer: str, bob: str) -> None:
    await sell(shop, per_month=MONTH, transferable=True, runs_per_month=9)
    period = await at_day(shop, 20)
    purchase = await month(shop, buyer)
    assert await run(shop, buyer, "r1") is UseState.COMPLETED
    await pass_on(shop, bob, 1, kind=Kind.PERIOD)
    access = await shop.entitlements.access("bob", AGENT)
    assert (access.until, access.period_runs_left) == (period.ends_at, 2)  # what its giver ran is counted
    assert (await right(shop, buyer, Kind.PERIOD)).status is RightStatus.REVOKED
    with pytest.raises(NotFound):
        await shop.entitlements.run(buyer, AGENT, {"text": "hello"}, "r2")
    assert [await run(shop, "bob", f"r{number}") for number in range(2)] == [UseState.COMPLETED] * 2
    with pytest.raises(Conflict, match="all 3 runs"):
        await shop.entitlements.run("bob", AGENT, {"text": "hello"}, "r9")
    again = await month(shop, buyer, "m2")
    assert again.period == purchase.period
    await shop.check_books()


async def test_what_is_sold_to_one_person_alone_stays_with_them(shop: Shop, buyer: str, bob: str) -> None:
    purchase = await bought(shop, buyer, 2)
    with pytest.raises(Conflict, match="cannot be passed on"):
        await shop.entitlements.transfer(buyer, AGENT, Kind.RUNS, to=bob, count=1, key="t1")
    assert not (await right(shop, buyer, Kind.RUNS)).transferable
    assert await shop.market.balance(purchase.wallet, purchase.token_id) == 2


async def test_wrong_orders_name_what_is_wrong(shop: Shop, buyer: str, bob: str) -> None:
    await sell(shop, transferable=True, per_month=MONTH)
    purchase = await bought(shop, buyer, 2)
    for to, count, kind, error in (
        ("0x12", 1, Kind.RUNS, InvalidInput),
        (ZERO_ADDRESS, 1, Kind.RUNS, InvalidInput),
        (purchase.wallet, 1, Kind.RUNS, InvalidInput),
        (bob, 0, Kind.RUNS, InvalidInput),
        (bob, 3, Kind.RUNS, Conflict),
        (bob, 1, Kind.PERIOD, NotFound),
    ):
        with pytest.raises(error):
            await shop.entitlements.transfer(buyer, AGENT, kind, to=to, count=count, key="t1")
    with pytest.raises(InvalidInput):
        await shop.entitlements.transfer(buyer, AGENT, Kind.RUNS, to=bob, count=1, key="")
    with pytest.raises(NotFound):
        await shop.entitlements.transfer("bob", AGENT, Kind.RUNS, to=purchase.wallet, count=1, key="t1")
    assert (await shop.entitlements.access(buyer, AGENT)).runs_left == 2


async def test_one_key_passes_on_once(shop: Shop, buyer: str, bob: str) -> None:
    await sell(shop, transferable=True)
    await bought(shop, buyer, 3)
    first = await shop.entitlements.transfer(buyer, AGENT, Kind.RUNS, to=bob, count=1, key="t1")
    again = await shop.entitlements.transfer(buyer, AGENT, Kind.RUNS, to=bob, count=1, key="t1")
    assert first.id == again.id
    assert await shop.entitlements.signing_request(first) is None
    await shop.world.wallets().settle(first.id)
    await shop.work()
    assert (await shop.entitlements.access("bob", AGENT)).runs_left == 1


async def test_an_address_that_somebody_only_named_gets_nothing(shop: Shop, buyer: str) -> None:
    """Whoever says that another's wallet is theirs could run on what that one was given."""
    await sell(shop, transferable=True)
    await bought(shop, buyer, 2)
    named = await shop.world.funded("alice", WalletKind.DELEGATED, usdc=0)
    assert not named.proven
    await pass_on(shop, named.address, 1)
    with pytest.raises(NotAllowed, match="nobody has shown"):
        await shop.entitlements.run("alice", AGENT, {"text": "hello"}, "r1")
    assert await shop.entitlements.list("alice") == []


async def test_a_key_that_is_used_again_after_all_is_gone_is_still_the_same_operation(
    shop: Shop, buyer: str, bob: str
) -> None:
    await sell(shop, transferable=True)
    await bought(shop, buyer, 2)
    await pass_on(shop, bob, 2)
    again = await shop.entitlements.transfer(buyer, AGENT, Kind.RUNS, to=bob, count=2, key="t1")
    assert again.state is OperationState.SUCCEEDED
    for kind, count in ((Kind.RUNS, 1), (Kind.PERIOD, 2)):
        with pytest.raises(Conflict, match="something else"):
            await shop.entitlements.transfer(buyer, AGENT, kind, to=bob, count=count, key="t1")


async def test_a_contract_that_cannot_hold_runs_is_named(shop: Shop, buyer: str) -> None:
    await sell(shop, transferable=True)
    await bought(shop, buyer, 1)
    with pytest.raises(InvalidInput, match="cannot hold runs"):
        await shop.entitlements.transfer(buyer, AGENT, Kind.RUNS, to=shop.market.escrow.address, count=1, key="t1")


async def test_two_of_the_same_month_allow_the_runs_of_both(shop: Shop, buyer: str, bob: str) -> None:
    await sell(shop, per_month=MONTH, transferable=True, runs_per_month=30)
    await at_day(shop, 20)
    await shop.world.chain.mint(bob, 5_000_000)
    await month(shop, buyer)
    await month(shop, "bob", "m1")
    assert await run(shop, "bob", "r1") is UseState.COMPLETED
    await pass_on(shop, bob, 1, kind=Kind.PERIOD)
    assert (await shop.entitlements.access("bob", AGENT)).period_runs_left == 19
    given = await right(shop, "bob", Kind.PERIOD)
    assert (given.runs_left, given.usage_count, given.max_usage, given.runs_bought) == (19, 1, 20, 2)


async def test_the_month_that_is_named_is_passed_on(shop: Shop, buyer: str, bob: str) -> None:
    await sell(shop, per_month=MONTH, transferable=True)
    period = await at_day(shop, 20)
    await month(shop, buyer)
    following = await month(shop, buyer, "m2")
    present, later = await shop.entitlements.list(buyer)
    assert [each.expires_at for each in (present, later)] == [period.ends_at, period.following.ends_at]
    begun = await shop.entitlements.transfer(
        buyer, AGENT, Kind.PERIOD, to=bob, count=1, key="t1", token_id=following.token_id
    )
    await shop.world.wallets().settle(begun.id)
    await shop.work()
    assert [each.status for each in await shop.entitlements.list(buyer)] == [RightStatus.ACTIVE, RightStatus.REVOKED]
    (got,) = await shop.entitlements.list("bob")
    assert (got.starts_at, got.status) == (period.ends_at, RightStatus.ACTIVE)


async def test_an_upgrade_says_what_it_gives_back(shop: Shop, buyer: str, bob: str) -> None:
    await sell(shop, per_month=MONTH, transferable=True)
    await bought(shop, buyer, 3, "k1")
    locked = await bought(shop, buyer, 4, "k2")
    await shop.work()
    await act_as(shop, locked.wallet, shop.market.tokens.safe_transfer(locked.wallet, bob, locked.token_id, 4))
    await shop.work()  # all of the first, and one of the second
    quote = await shop.purchases.quote(buyer, AGENT, Kind.PERIOD)
    assert (quote.replaces, quote.gives_back) == (0, None)
    more = await bought(shop, buyer, 2, "k3")
    quote = await shop.purchases.quote(buyer, AGENT, Kind.PERIOD)
    assert (quote.replaces, quote.gives_back) == (2, more.amount)
    await month(shop, buyer, upgrade=True)
    await shop.until(more.id, lambda it: it.state == "refunded")
    assert (await shop.entitlements.access(buyer, AGENT)).runs_left == 3
