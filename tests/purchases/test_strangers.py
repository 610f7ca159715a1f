"""Who only names an address, who shares one, and who is late to hear: none of them runs on what others paid."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import asyncpg
import pytest

from agentnexus.core.errors import Conflict, NexusError, NotFound
from agentnexus.marketplace.entitlements.holdings import Passed, take_back
from agentnexus.marketplace.entitlements.holdings import pass_on as pass_on_in
from agentnexus.marketplace.entitlements.model import UseState
from agentnexus.marketplace.purchases.kinds import Kind
from agentnexus.marketplace.purchases.market import Market
from agentnexus.marketplace.purchases.model import Purchase
from agentnexus.rails.evm.receipts import Receipt
from agentnexus.rails.evm.transactions import Intent
from agentnexus.wallets.model import WalletKind
from tests.purchases.conftest import AGENT, Shop
from tests.purchases.selling import MONTH, at_day, month, sell
from tests.purchases.test_dead_ends import act_as, begun_by_alice, sign
from tests.purchases.test_passing_on import bob, pass_on
from tests.purchases.test_periods import run
from tests.purchases.test_uses import bought, ended

__all__ = ["bob"]
pytestmark = pytest.mark.timeout(180)
HELLO = {"text": "hello"}


async def named_by_mallory(shop: Shop) -> str:
    """Mallory says that the wallet of alice's key is hers; nobody asks her for a signature."""
    key = shop.world.chain.accounts["alice"].address
    return (await shop.world.wallets().create("mallory", WalletKind.KEY, address=key)).address


async def bought_by_alice(shop: Shop, purchase: Purchase) -> None:
    await sign(shop, purchase)
    assert (await shop.finish(purchase.id)).state == "completed"
    await shop.work()


async def test_who_names_anothers_address_does_not_run_on_what_was_bought_there(shop: Shop) -> None:
    purchase = await begun_by_alice(shop)
    assert await named_by_mallory(shop) == purchase.wallet
    stray = await shop.purchases.begin("mallory", AGENT, 1, "k1")
    await shop.purchases.refund("mallory", stray.id)
    await shop.finish(stray.id)
    await bought_by_alice(shop, purchase)
    await shop.purchases.look(await shop.purchases.get("mallory", stray.id))
    await shop.work()
    with pytest.raises(NotFound, match="no runs"):
        await shop.entitlements.run("mallory", AGENT, HELLO, "r1")
    assert await shop.entitlements.list("mallory") == []
    assert (await shop.entitlements.access("alice", AGENT)).runs_left == 2


async def test_who_pays_for_runs_at_anothers_address_has_these_and_no_more(shop: Shop) -> None:
    purchase, payer = await begun_by_alice(shop), shop.world.chain.accounts["outsider"].address
    await named_by_mallory(shop)
    paid = await shop.purchases.begin("mallory", AGENT, 1, "k1")
    await bought_by_alice(shop, purchase)
    await shop.world.chain.mint(payer, shop.price)
    await act_as(shop, payer, *await shop.market.calls(paid))
    await shop.until(paid.id, lambda it: it.state == "completed")
    await shop.work()
    assert await shop.runs("alice") == 3
    assert (await shop.entitlements.access("mallory", AGENT)).runs_left == 1
    assert await run(shop, "mallory", "r1") is UseState.COMPLETED
    with pytest.raises(NotFound, match="no runs"):
        await shop.entitlements.run("mallory", AGENT, HELLO, "r2")
    assert (await shop.purchases.get("alice", purchase.id)).remaining == 2 * shop.price


async def test_what_somebody_ordered_for_anothers_address_does_not_move_that_ones_month(shop: Shop) -> None:
    await sell(shop, per_month=MONTH)
    period = await at_day(shop, 4)
    await shop.world.funded("alice", WalletKind.KEY)
    await named_by_mallory(shop)
    assert (await shop.purchases.begin("mallory", AGENT, 1, "m1", kind=Kind.PERIOD)).period == period
    assert (await shop.purchases.quote("alice", AGENT, Kind.PERIOD)).period == period
    assert (await shop.purchases.begin("alice", AGENT, 1, "m1", kind=Kind.PERIOD)).period == period


async def test_two_users_of_one_wallet_have_its_runs_once(shop: Shop) -> None:
    await bought_by_alice(shop, await begun_by_alice(shop, 1))
    key = shop.world.chain.accounts["alice"].address
    twin = await shop.world.wallets().create(key, WalletKind.KEY, address=key)
    assert twin.proven
    for user_id in ("alice", key):
        assert (await shop.entitlements.access(user_id, AGENT)).runs_left == 1
    other = shop.rights(shop.process())
    started: list[str] = []

    async def start(user_id: str, number: int) -> None:
        rights = other if number % 2 else shop.entitlements
        with suppress(Conflict, NotFound):
            started.append((await rights.run(user_id, AGENT, HELLO, f"r{number}")).id)

    await asyncio.gather(*(start(user_id, number) for number in range(4) for user_id in ("alice", key)))
    assert len(started) == 1
    assert await ended(shop, started[0]) is UseState.COMPLETED


async def test_who_ran_before_is_found_to_have_what_they_were_given_since(shop: Shop, buyer: str, bob: str) -> None:
    await shop.world.chain.mint(bob, 10 * shop.price)
    await bought(shop, "bob", 1)
    assert await run(shop, "bob", "r1") is UseState.COMPLETED
    await sell(shop, per_month=MONTH, transferable=True)
    await at_day(shop, 2)
    await month(shop, buyer)
    await pass_on(shop, bob, 1, kind=Kind.PERIOD)
    assert (await shop.entitlements.access("bob", AGENT)).until is not None
    assert await run(shop, "bob", "r2") is UseState.COMPLETED


async def test_a_run_on_tokens_that_a_dropped_block_gave_back_is_not_made_twice(
    shop: Shop, buyer: str, bob: str
) -> None:
    await sell(shop, transferable=True)
    purchase = await bought(shop, buyer, 3)
    await shop.work()
    snapshot = await shop.world.chain.snapshot()
    await act_as(shop, purchase.wallet, shop.market.tokens.safe_transfer(purchase.wallet, bob, purchase.token_id, 1))
    await shop.work()
    assert await run(shop, "bob", "r1") is UseState.COMPLETED
    await shop.world.chain.revert(snapshot)
    await shop.world.chain.mine(4)
    await shop.work()
    await shop.settle_uses()
    assert (await shop.entitlements.access(buyer, AGENT)).runs_left == 2
    assert [await run(shop, buyer, f"r{number}") for number in range(2)] == [UseState.COMPLETED] * 2
    with pytest.raises(NotFound):
        await shop.entitlements.run(buyer, AGENT, HELLO, "r9")
    assert (await shop.purchases.get(buyer, purchase.id)).remaining == 0


async def test_money_that_came_without_what_can_be_passed_on_goes_back(shop: Shop) -> None:
    await sell(shop, transferable=True)
    begun = await begun_by_alice(shop)
    approve, deposit, _mint = await shop.market.calls(begun)
    await act_as(shop, begun.wallet, approve, deposit)
    done = await shop.until(begun.id, lambda it: it.state == "refunded")
    assert done.refund_reason == "it was paid without the runs"
    assert await shop.held() == 0


async def test_a_buyer_who_overtakes_the_taking_back_blocks_nobody(shop: Shop, buyer: str, bob: str) -> None:
    await sell(shop, transferable=True)
    purchase = await bought(shop, buyer, 2)
    await shop.work()

    class Overtaken(Market):
        """What is to be taken back was there when that was signed, and is not when it is mined."""

        async def _submit(self, key: str, intent: Intent, patience: float) -> Receipt:
            if key == f"market:{purchase.id}:revoke":
                pass_all = self.tokens.safe_transfer(purchase.wallet, bob, purchase.token_id, 2)
                with suppress(NexusError):
                    await act_as(shop, purchase.wallet, pass_all)
            return await Market._submit(self, key, intent, patience)

    plain = shop.market
    overtaken = shop.process(market=Overtaken(plain.sender, plain.escrow, plain.tokens, plain.usdc, plain.operator))
    await overtaken.refund(buyer, purchase.id)
    await asyncio.gather(*overtaken._running)
    kept = await shop.finish(purchase.id)
    assert (kept.state, kept.remaining) == ("completed", 2 * shop.price)
    await shop.work()
    assert await run(shop, "bob", "r1") is UseState.COMPLETED


async def test_a_dropped_block_does_not_give_back_what_a_run_is_paid_with(shop: Shop, buyer: str) -> None:
    purchase = await bought(shop, buyer, 3)
    await shop.work()
    had, before = await shop.money(), await shop.world.chain.usdc_of(shop.seller)
    snapshot = await shop.world.chain.snapshot()
    assert await run(shop, buyer, "r1") is UseState.COMPLETED
    paid = await shop.world.chain.usdc_of(shop.seller)
    await shop.purchases.refund(buyer, purchase.id)
    assert (await shop.finish(purchase.id)).state == "refunded"
    await shop.work()
    await shop.world.chain.revert(snapshot)
    await shop.world.chain.mine(6)
    assert await shop.world.chain.usdc_of(shop.seller) == before
    await shop.work()
    await shop.settle_uses()
    assert (await shop.finish(purchase.id)).state == "refunded"
    assert await shop.world.chain.usdc_of(shop.seller) == paid
    assert await shop.money() == had + 2 * shop.price
    await shop.work()
    await shop.check_books()


async def test_the_bound_of_a_month_is_of_the_days_that_are_paid(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH, runs_per_month=500)
    period = await at_day(shop, 29.5)
    last = await shop.purchases.quote(buyer, AGENT, Kind.PERIOD)
    assert (last.period, last.runs_max) == (period, 17)
    await month(shop, buyer)
    following = await shop.purchases.quote(buyer, AGENT, Kind.PERIOD)
    assert (following.period, following.runs_max) == (period.following, 500)


async def test_a_month_is_paid_by_one_transaction_however_many_first_runs_end_together(
    shop: Shop, buyer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sell(shop, per_month=MONTH)
    purchase = await month(shop, buyer)
    sent: list[str] = []
    submit = Market._submit

    async def noted(self: Market, key: str, intent: Intent, patience: float) -> Receipt:
        sent.append(key)
        return await submit(self, key, intent, patience)

    monkeypatch.setattr(Market, "_submit", noted)
    uses = await asyncio.gather(*(shop.entitlements.run(buyer, AGENT, HELLO, f"r{number}") for number in range(4)))
    assert {await ended(shop, each.id) for each in uses} == {UseState.COMPLETED}
    await shop.settle_uses()
    assert {key for key in sent if key.endswith("release")} == {f"market:{purchase.id}:release"}


async def test_a_database_that_hiccups_does_not_end_the_worker(
    shop: Shop, buyer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = await bought(shop, buyer, 2)

    async def away(*_arguments: object, **_more: object) -> None:
        raise OSError("the database is away")

    use = await shop.entitlements.run(buyer, AGENT, HELLO, "r1")
    with monkeypatch.context() as patch:
        patch.setattr(shop.purchases.store, "move", away)
        patch.setattr(shop.entitlements.store, "settle", away)
        await ended(shop, use.id)
        await shop.purchases.look(purchase)
        assert await shop.purchases.keep_once() == 1
        shop.world.clock.advance(6)
        assert await shop.entitlements.keep_once() == 1
    shop.world.clock.advance(timedelta(minutes=1).total_seconds())
    await shop.settle_uses()
    await shop.work()
    assert (await shop.purchases.get(buyer, purchase.id)).remaining == shop.price


async def test_a_refund_that_meets_the_chains_watcher_head_on_is_made_after_it(shop: Shop, buyer: str) -> None:
    """Each holds a row that the other waits for: the database ends one of the two."""
    purchase = await bought(shop, buyer, 2)
    await shop.work()
    nothing = Passed(purchase.wallet, shop.seller, purchase.token_id, 1)
    waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    with suppress(asyncpg.DeadlockDetectedError):  # most often it is the refund that is ended
        async with shop.database.transaction() as connection:
            assert await shop.purchases.store.poke(connection, purchase.deal_id, shop.world.clock.now()) is not None
            asked = asyncio.create_task(shop.purchases.refund(buyer, purchase.id))
            async with shop.database.connection() as other:
                while not await other.fetchval(waits):
                    await asyncio.sleep(0.01)
            await pass_on_in(connection, "a change", nothing)
            await take_back(connection, "a change")
    assert (await asked).id == purchase.id
    assert (await shop.finish(purchase.id)).state == "refunded"
