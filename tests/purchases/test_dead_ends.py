"""Whatever breaks on the way, a purchase ends with the right to run, or with the money where it was."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from agentnexus.core.errors import (
    BudgetExceeded,
    Conflict,
    InsufficientFunds,
    InvalidInput,
    NexusError,
    NotAllowed,
    NotFound,
    Unavailable,
)
from agentnexus.marketplace.listings.model import Listing, ListingStatus
from agentnexus.marketplace.purchases.model import Purchase
from agentnexus.marketplace.purchases.reconcile import reconcile
from agentnexus.marketplace.purchases.service import Purchases
from agentnexus.rails.evm.contracts import Call
from agentnexus.rails.evm.encoding import selector, to_hex, word
from agentnexus.rails.evm.errors import ChainUnavailable
from agentnexus.rails.evm.fees import Fees
from agentnexus.rails.evm.userops import SelfBundler
from agentnexus.rails.evm.userops.signers import ECDSA_KIND
from agentnexus.wallets.model import WalletKind
from tests.purchases.conftest import AGENT, Shop
from tests.purchases.mortal import Death, mortal
from tests.wallets.conftest import WHOLE
from tests.wallets.test_kinds import answer

pytestmark = pytest.mark.timeout(180)


async def consistent(shop: Shop, before: int) -> None:
    """Nothing of the buyer's is anywhere but in their wallet, in the escrow for runs, or paid for runs."""
    await shop.work()
    runs = await shop.runs()
    assert await shop.money() == before - runs * shop.price
    assert await shop.held() == runs * shop.price
    await shop.check_books()


WRITES = [f"{when} write {number}" for number in range(1, 6) for when in ("before", "after")]


@pytest.mark.parametrize("point", [*WRITES, "before the operation", "after the operation"])
async def test_a_purchase_whose_process_dies_is_completed_by_the_next(shop: Shop, buyer: str, point: str) -> None:
    before = await shop.money()
    dying = mortal(shop, point)
    try:
        await dying.begin(buyer, AGENT, 2, "k1")
        await asyncio.gather(*dying._running)  # what the API's process does after it answered
    except Death:
        pass
    (found,) = await shop.purchases.list(buyer)
    done = await shop.finish(found.id)
    assert (done.state, done.error) == ("completed", None)
    assert await shop.runs() == 2
    again = await shop.purchases.begin(buyer, AGENT, 2, "k1")
    assert again.id == found.id
    await consistent(shop, before)
    assert await shop.runs() == 2


REFUNDS = [f"{when} write {number}" for number in (1, 2) for when in ("before", "after")]


@pytest.mark.parametrize("point", [*REFUNDS, "before refund", "after refund", "before revoke", "after revoke"])
async def test_a_refund_whose_process_dies_is_completed_by_the_next(shop: Shop, buyer: str, point: str) -> None:
    before = await shop.money()
    bought = await shop.finish((await shop.purchases.begin(buyer, AGENT, 2, "k1")).id)
    asked = await shop.purchases.refund(buyer, bought.id)
    await shop.purchases.close()
    shop.world.clock.advance(16)
    dying = mortal(shop, point)
    try:
        await dying.keep_once()
    except BaseExceptionGroup as group:
        assert isinstance(group.exceptions[0], Death)
    done = await shop.until(asked.id, lambda it: it.state == "refunded")
    assert done.refund_reason == "asked for by the buyer"
    assert await shop.runs() == 0
    assert await shop.money() == before
    await consistent(shop, before)


class DeadBundler:
    """A bundler that does not answer while it is `dead`; operations are built with its help."""

    def __init__(self, inner: SelfBundler) -> None:
        self.inner, self.dead, self.asked = inner, True, 0
        self.estimate, self.send, self.receipt = inner.estimate, inner.send, inner.receipt

    @property
    def chain_id(self) -> int:
        return self.inner.chain_id

    async def gas_price(self) -> Fees:
        self.asked += 1
        if self.dead:
            raise ChainUnavailable("the bundler does not answer")
        return await self.inner.gas_price()


def with_bundler(shop: Shop) -> tuple[Purchases, DeadBundler]:
    bundler = DeadBundler(shop.world.bundler)
    return shop.process(wallets=shop.world.wallets(bundler=cast("SelfBundler", bundler))), bundler


async def test_a_bundler_that_is_away_is_asked_again_after_1_2_4_8_and_16_seconds_and_then_nothing_is_paid(
    shop: Shop, buyer: str
) -> None:
    before = await shop.money()
    purchases, bundler = with_bundler(shop)
    bought = await purchases.begin(buyer, AGENT, 2, "k1")
    waited: list[int] = []
    while not bought.state.final and len(waited) < 10:
        assert bought.next_try_at is not None
        assert bought.error is not None
        waited.append(round((bought.next_try_at - shop.world.clock.now()).total_seconds()))
        shop.world.clock.advance(waited[-1])
        assert await purchases.keep_once() == 1
        bought = await purchases.get(buyer, bought.id)
    assert waited == [1, 2, 4, 8, 16]
    assert (bought.state, bought.step) == ("failed", "ended")
    assert bundler.asked == 6
    with pytest.raises(Unavailable, match="bundler"):
        await purchases.begin(buyer, AGENT, 2, "k1")
    assert await shop.money() == before
    await consistent(shop, before)


async def test_a_bundler_that_comes_back_in_time_completes_it(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    purchases, bundler = with_bundler(shop)
    bought = await purchases.begin(buyer, AGENT, 2, "k1")
    shop.world.clock.advance(1)
    await purchases.keep_once()
    assert (await purchases.get(buyer, bought.id)).retries == 2
    bundler.dead = False
    shop.world.clock.advance(2)
    await purchases.keep_once()
    assert (await shop.finish(bought.id)).state == "completed"
    await consistent(shop, before)


async def test_a_paymaster_whose_budget_is_used_up_refuses_at_once_and_nothing_is_paid(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    tight = [each.model_copy(update={"per_day": "0.00000001"}) for each in shop.world.policies]
    purchases = shop.process(wallets=shop.world.wallets(*tight))
    for _ in range(2):
        with pytest.raises(NexusError) as refused:
            await purchases.begin(buyer, AGENT, 2, "k1")
        assert isinstance(refused.value, BudgetExceeded | NotAllowed)
    (failed,) = await purchases.list(buyer)
    assert failed.state == "failed"
    assert (await shop.world.books.reservation(failed.reservation)).state == "voided"
    assert refused.value.details["purchase"] == failed.id
    await consistent(shop, before)


async def test_what_cannot_be_bought_is_said_at_once(shop: Shop, buyer: str) -> None:
    with pytest.raises(NotFound):
        await shop.purchases.begin(buyer, "org.agentnexus.nobody", 1, "k1")
    with pytest.raises(NotFound, match="wallet"):
        await shop.purchases.begin("nobody", AGENT, 1, "k1")
    for quantity in (0, -1, 1_001, 10**30):
        with pytest.raises(InvalidInput):
            await shop.purchases.begin(buyer, AGENT, quantity, "k1")
    for key in ("", "x" * 201, "a\nb"):
        with pytest.raises(InvalidInput):
            await shop.purchases.begin(buyer, AGENT, 1, key)
    assert await shop.purchases.list(buyer) == []


async def test_a_wallet_with_too_little_is_told_what_is_missing(shop: Shop) -> None:
    await shop.world.funded("poor", usdc=shop.price)
    with pytest.raises(InsufficientFunds) as refused:
        await shop.purchases.begin("poor", AGENT, 2, "k1")
    assert "0.02" in refused.value.next_step
    assert await shop.money("poor") == shop.price


async def test_a_budget_that_does_not_allow_it_is_not_passed(shop: Shop, buyer: str) -> None:
    """1 USDC per payment is what a person's budget allows at first."""
    with pytest.raises(BudgetExceeded):
        await shop.purchases.begin(buyer, AGENT, 51, "k1")
    assert await shop.money() == 10 * WHOLE
    (failed,) = await shop.purchases.list(buyer)
    assert await shop.states(failed.id) == ["initiated", "validating", "failed"]


async def test_a_check_that_says_no_stops_it_before_anything_is_set_aside(shop: Shop, buyer: str) -> None:
    async def check(user_id: str, listing: Listing) -> None:
        raise NotAllowed(f"{user_id} may not buy {listing.id} here", next_step="verify who you are")

    purchases = shop.process(checks=(check,))
    with pytest.raises(NotAllowed, match="may not buy"):
        await purchases.begin(buyer, AGENT, 1, "k1")
    (failed,) = await purchases.list(buyer)
    with pytest.raises(NotFound):
        await shop.world.books.reservation(failed.reservation)


async def test_eight_clicks_in_two_processes_are_one_purchase(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    other = shop.process()
    clicks = [each.begin(buyer, AGENT, 2, "k1") for each in (shop.purchases, other) for _ in range(4)]
    found = await asyncio.gather(*clicks)
    assert len({each.id for each in found}) == 1
    done = await shop.finish(found[0].id)
    assert done.state == "completed"
    assert await shop.money() == before - 2 * shop.price
    assert await shop.runs() == 2
    with pytest.raises(Conflict, match="another purchase"):
        await other.begin(buyer, AGENT, 3, "k1")
    await consistent(shop, before)


async def test_two_users_may_have_the_same_key(shop: Shop, buyer: str) -> None:
    await shop.world.funded("bea")
    first = await shop.purchases.begin(buyer, AGENT, 1, "k1")
    second = await shop.purchases.begin("bea", AGENT, 1, "k1")
    assert first.id != second.id
    for each in (first, second):
        assert (await shop.finish(each.id)).state == "completed"
    with pytest.raises(NotFound):
        await shop.purchases.get(buyer, second.id)
    with pytest.raises(NotFound):
        await shop.purchases.refund(buyer, second.id)
    assert [each.id for each in await shop.purchases.list(buyer)] == [first.id]


async def act_as(shop: Shop, wallet: str, *calls: Call) -> None:
    """The wallet's own doing, past this node."""
    rpc = shop.world.chain.rpc
    await rpc.call("anvil_impersonateAccount", wallet)
    await rpc.call("anvil_setBalance", wallet, hex(10**18))
    for each in calls:
        call = {"from": wallet, "to": each.target, "data": to_hex(each.data), "gas": hex(300_000)}
        sent = await rpc.call("eth_sendTransaction", {**call})
        while await rpc.call("eth_getTransactionReceipt", sent) is None:
            await asyncio.sleep(0.01)
    await rpc.call("anvil_stopImpersonatingAccount", wallet)


async def send_away(shop: Shop, wallet: str, to: str, atomic: int) -> None:
    data = selector("transfer(address,uint256)") + word(to) + word(atomic)
    await act_as(shop, wallet, Call(shop.world.chain.usdc.reference, data))


async def begun_by_alice(shop: Shop, quantity: int = 2) -> Purchase:
    """A purchase of somebody who signs with a key of their own."""
    await shop.world.funded("alice", WalletKind.KEY)
    bought = await shop.purchases.begin("alice", AGENT, quantity, "k1")
    assert bought.step == "signing"
    return bought


async def sign(shop: Shop, purchase: Purchase) -> Purchase:
    asked = await shop.purchases.signing_request("alice", purchase.id)
    assert asked is not None
    return await shop.purchases.sign("alice", purchase.id, await answer(shop.world, "alice", asked))


async def test_a_key_of_ones_own_signs_and_buys(shop: Shop) -> None:
    bought = await begun_by_alice(shop)
    asked = await shop.purchases.signing_request("alice", bought.id)
    assert asked is not None
    wrong = await answer(shop.world, "bob", asked)
    with pytest.raises(NotAllowed):
        await shop.purchases.sign("alice", bought.id, wrong)
    with pytest.raises(NotFound):
        await shop.purchases.sign("bob", bought.id, wrong)
    await sign(shop, bought)
    done = await shop.finish(bought.id)
    assert done.state == "completed"
    assert await shop.purchases.signing_request("alice", bought.id) is None
    assert (await shop.purchases.sign("alice", bought.id, wrong)).id == bought.id
    await consistent_for(shop, "alice", 2)


async def consistent_for(shop: Shop, user_id: str, runs: int) -> None:
    await shop.work()
    assert await shop.runs(user_id) == runs
    assert await shop.money(user_id) == 10 * WHOLE - runs * shop.price
    await shop.check_books()


async def test_who_pays_without_taking_the_runs_has_the_money_back(shop: Shop) -> None:
    bought = await begun_by_alice(shop)
    approve, deposit, _mint = await shop.market.calls(bought)
    await act_as(shop, bought.wallet, approve, deposit)
    assert (await shop.held(), await shop.runs("alice")) == (2 * shop.price, 0)
    done = await shop.until(bought.id, lambda it: it.state == "refunded")
    assert done.refund_reason == "it was paid without the runs"
    await consistent_for(shop, "alice", 0)


async def test_a_voucher_without_the_payment_is_worth_nothing(shop: Shop) -> None:
    bought = await begun_by_alice(shop)
    _approve, _deposit, mint = await shop.market.calls(bought)
    with pytest.raises(NexusError):
        await shop.market.tokens.try_call(mint, bought.wallet)
    assert await shop.runs("alice") == 0


async def test_money_that_is_gone_before_the_signature_buys_nothing_and_may_come_back(shop: Shop) -> None:
    bought = await begun_by_alice(shop)
    asked = await shop.purchases.signing_request("alice", bought.id)
    assert asked is not None
    signed = await answer(shop.world, "alice", asked)
    await send_away(shop, bought.wallet, shop.seller, 10 * WHOLE)
    try:
        await shop.purchases.sign("alice", bought.id, signed)
    except NexusError as error:
        assert not error.retryable
    assert await shop.runs("alice") == 0
    shop.world.clock.advance(3_700)
    await shop.world.chain.rpc.call("evm_increaseTime", 3_700)
    await shop.world.chain.mine()
    await shop.world.wallets().keep_once()
    done = await shop.finish(bought.id)
    assert (done.state, await shop.runs("alice"), await shop.money("alice")) == ("failed", 0, 0)
    assert (await shop.world.books.reservation(bought.reservation)).state == "voided"
    await shop.check_books()


async def test_what_is_cancelled_before_the_signature_costs_nothing(shop: Shop) -> None:
    bought = await begun_by_alice(shop)
    await shop.purchases.refund("alice", bought.id)
    done = await shop.finish(bought.id)
    assert done.state == "failed"
    assert (await shop.purchases.refund("alice", bought.id)).id == done.id
    await consistent_for(shop, "alice", 0)


async def test_an_operation_that_is_mined_after_it_was_given_up_is_a_purchase(shop: Shop) -> None:
    """The chain is right: the money is there, so the right to run is."""
    bought = await begun_by_alice(shop)
    kept = await shop.world.wallets().store.find(bought.operation_id)
    assert kept is not None
    assert kept.body is not None
    key = shop.world.chain.accounts["alice"].signer
    elsewhere = kept.body.signed(ECDSA_KIND + await key.sign(kept.body.hash(shop.world.chain.chain_id)))
    await shop.purchases.refund("alice", bought.id)
    assert (await shop.finish(bought.id)).state == "failed"
    await shop.world.bundler.receipt(await shop.world.bundler.send(elsewhere))
    await shop.follow()
    done = await shop.until(bought.id, lambda it: it.state == "completed")
    assert done.remaining == 2 * shop.price
    await shop.work()
    assert await shop.booked(done.account) == 2 * shop.price
    await consistent_for(shop, "alice", 2)


async def test_an_agent_that_is_gone_when_the_money_comes_gives_it_back(shop: Shop) -> None:
    bought = await begun_by_alice(shop)
    await shop.listings.set_status(AGENT, ListingStatus.SUSPENDED)
    await sign(shop, bought)
    done = await shop.until(bought.id, lambda it: it.state == "refunded")
    assert "not for sale" in done.refund_reason
    await consistent_for(shop, "alice", 0)
    assert await shop.booked(bought.account) == 0


async def test_an_agent_that_is_gone_before_the_operation_costs_nothing(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    dying = mortal(shop, "after write 2")
    with pytest.raises(Death):
        await dying.begin(buyer, AGENT, 2, "k1")
    await shop.listings.set_status(AGENT, ListingStatus.DEPRECATED)
    (found,) = await shop.purchases.list(buyer)
    done = await shop.finish(found.id)
    assert done.state == "failed"
    assert (await shop.world.books.reservation(done.reservation)).state == "voided"
    await consistent(shop, before)


async def test_a_class_that_is_switched_off_sells_nothing(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    first = await shop.finish((await shop.purchases.begin(buyer, AGENT, 1, "k0")).id)
    await shop.operator(shop.market.tokens.set_active(first.agent_class, False))
    with pytest.raises(NexusError, match="ClassInactive"):
        await shop.purchases.begin(buyer, AGENT, 2, "k1")
    await consistent(shop, before)


async def test_a_class_that_is_switched_off_after_the_money_came_gives_it_back(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    dying = mortal(shop, "before write 5")
    try:
        await dying.begin(buyer, AGENT, 2, "k1")
        await asyncio.gather(*dying._running)
    except Death:
        pass
    (found,) = await shop.purchases.list(buyer)
    assert found.step == "confirmed"
    await shop.operator(shop.market.tokens.set_active(found.agent_class, False))
    done = await shop.until(found.id, lambda it: it.state == "refunded")
    assert "switched off" in done.refund_reason
    assert await shop.money() == before
    await consistent(shop, before)


async def test_a_class_that_is_sold_out_sells_nothing(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    first = await shop.finish((await shop.purchases.begin(buyer, AGENT, 1, "k0")).id)
    await shop.operator(shop.market.tokens.set_cap(first.agent_class, 2))
    with pytest.raises(NexusError, match="CapReached"):
        await shop.purchases.begin(buyer, AGENT, 2, "k1")
    assert (await shop.finish((await shop.purchases.begin(buyer, AGENT, 1, "k2")).id)).state == "completed"
    await consistent(shop, before)


def blocking(seller: str, elsewhere: str) -> str:
    """Code that refuses transfers to an address and hands all other calls on to code at another one."""
    # if (calldata[4:36] == seller and selector == transfer) goto refuse
    guard = f"60043573{seller[2:]}145f3560e01c63a9059cbb14166055" + "57"
    # delegatecall(gas, elsewhere, all of the calldata), and all of what it returned
    hand_on = f"365f5f375f5f365f73{elsewhere[2:]}5af43d5f5f3e605157" + "3d5ffd"
    answer, refuse = "5b3d5ff3", "5b5f5ffd"
    assert (len(guard + hand_on) // 2, len(guard + hand_on + answer) // 2) == (0x51, 0x55)
    return "0x" + guard + hand_on + answer + refuse


async def test_a_token_that_blocks_the_seller_ends_the_deal_and_credits_them(shop: Shop, buyer: str) -> None:
    bought = await shop.finish((await shop.purchases.begin(buyer, AGENT, 1, "k1")).id)
    rpc, usdc, aside = shop.world.chain.rpc, shop.world.chain.usdc.reference, "0x" + "c0de" * 10
    code = await rpc.call("eth_getCode", usdc, "latest")
    await rpc.call("anvil_setCode", aside, code)
    await rpc.call("anvil_setCode", usdc, blocking(shop.seller, aside))
    had = await shop.world.chain.usdc_of(shop.seller)
    use = await shop.entitlements.run(buyer, AGENT, {"text": "hello"}, "r1")
    await shop.settle_uses()
    assert (await shop.entitlements.use(buyer, use.id)).state == "completed"
    fee = shop.price * bought.fee_bps // 10_000
    assert await shop.market.escrow.credit(shop.seller) == shop.price - fee
    assert await shop.world.chain.usdc_of(shop.seller) == had
    assert await shop.runs() == 0
    await shop.work()
    assert (await shop.purchases.get(buyer, bought.id)).deal.name == "RELEASED"
    assert await shop.booked(bought.account) == 0
    await shop.check_books()


async def test_a_reorganisation_that_drops_the_purchase_has_it_sent_again(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    warm = await shop.finish((await shop.purchases.begin(buyer, AGENT, 1, "k0")).id)
    assert warm.state == "completed"
    await shop.work()
    snapshot = await shop.world.chain.snapshot()
    bought = await shop.finish((await shop.purchases.begin(buyer, AGENT, 2, "k1")).id)
    await shop.work()
    assert await shop.booked(bought.account) == 2 * shop.price
    await shop.world.chain.revert(snapshot)
    await shop.world.chain.mine(3)
    assert await shop.runs() == 1
    await shop.follow()
    assert await shop.booked(bought.account) == 0
    await shop.until(bought.id, lambda it: it.state == "processing")
    done = await shop.finish(bought.id)
    assert done.state == "completed"
    await consistent(shop, before)
    assert await shop.booked(done.account) == 2 * shop.price


async def test_a_seller_who_sends_the_money_back_takes_the_runs_with_it(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    bought = await shop.finish((await shop.purchases.begin(buyer, AGENT, 2, "k1")).id)
    await shop.world.transact("seller-1", shop.market.escrow.refund(bought.terms))
    done = await shop.until(bought.id, lambda it: it.state == "refunded")
    assert done.refund_reason == "the deal was refunded"
    assert await shop.runs() == 0
    await consistent(shop, before)


async def test_a_deal_that_is_past_its_time_goes_back_by_itself(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    bought = await shop.finish((await shop.purchases.begin(buyer, AGENT, 2, "k1")).id)
    month = int(timedelta(days=31).total_seconds())
    await shop.world.chain.rpc.call("evm_increaseTime", month)
    await shop.world.chain.mine()
    shop.world.clock.advance(month)
    with pytest.raises(NotFound):
        await shop.entitlements.run(buyer, AGENT, {"text": "too late"}, "r1")
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 1
    done = await shop.until(bought.id, lambda it: it.state == "refunded")
    assert (done.deal.name, done.refund_reason) == ("EXPIRED", "its time is over")
    await consistent(shop, before)


async def test_reconciliation_finds_what_nobody_told(shop: Shop, buyer: str) -> None:
    """The operator's key refunded a deal past this node, and the indexer did not run."""
    before = await shop.money()
    bought = await shop.finish((await shop.purchases.begin(buyer, AGENT, 2, "k1")).id)
    await shop.work()
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 0
    await shop.operator(shop.market.escrow.refund(bought.terms))
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 1
    await shop.until(bought.id, lambda it: it.state == "refunded")
    assert await reconcile(shop.purchases, shop.market, shop.world.clock) == 0
    assert await shop.runs() == 0
    await consistent(shop, before)


async def test_the_rest_of_a_purchase_goes_back_and_what_was_used_stays_paid(shop: Shop, buyer: str) -> None:
    before = await shop.money()
    bought = await shop.finish((await shop.purchases.begin(buyer, AGENT, 3, "k1")).id)
    await shop.entitlements.run(buyer, AGENT, {"text": "one"}, "r1")
    await shop.settle_uses()
    await shop.work()
    await shop.purchases.refund(buyer, bought.id)
    done = await shop.until(bought.id, lambda it: it.state == "refunded")
    assert await shop.money() == before - shop.price
    assert (await shop.runs(), await shop.held()) == (0, shop.price * done.fee_bps // 10_000)
    await shop.work()
    assert await shop.booked(done.account) == 0
    await shop.check_books()
    with pytest.raises(NotFound):
        await shop.entitlements.run(buyer, AGENT, {"text": "two"}, "r2")


async def test_nothing_goes_back_while_a_run_is_under_way(shop: Shop, buyer: str) -> None:
    bought = await shop.finish((await shop.purchases.begin(buyer, AGENT, 2, "k1")).id)
    await shop.entitlements.run(buyer, AGENT, {"do": "wait"}, "r1")
    with pytest.raises(Conflict, match="under way"):
        await shop.purchases.refund(buyer, bought.id)


async def test_the_fee_of_the_day_is_the_fee_of_the_deal(shop: Shop, buyer: str) -> None:
    bought = await shop.finish((await shop.purchases.begin(buyer, AGENT, 1, "k1")).id)
    assert bought.fee_bps == 250
    assert replace(bought, fee_bps=0).terms.hash() != bought.terms.hash()


async def test_what_was_discarded_in_the_wallet_is_a_purchase_that_failed(shop: Shop) -> None:
    bought = await begun_by_alice(shop)
    wallets = shop.world.wallets()
    await wallets.discard("alice", bought.operation_id)
    done = await shop.purchases.refund("alice", bought.id)
    assert (await shop.finish(done.id)).state == "failed"
    await consistent_for(shop, "alice", 0)


async def test_a_cancelled_purchase_takes_no_signature(shop: Shop) -> None:
    bought = await begun_by_alice(shop)
    asked = await shop.purchases.signing_request("alice", bought.id)
    assert asked is not None
    await shop.purchases.refund("alice", bought.id)
    with pytest.raises(Conflict, match="over"):
        await shop.world.wallets().sign("alice", bought.operation_id, await answer(shop.world, "alice", asked))
    assert (await shop.finish(bought.id)).state == "failed"
    await consistent_for(shop, "alice", 0)
