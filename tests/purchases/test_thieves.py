"""Runs for nothing, and money and run both: what buyers, sellers and dropped blocks may try, and what it gets them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from agentnexus.core.errors import Conflict, Unavailable
from agentnexus.marketplace.entitlements.model import Use, UseState
from agentnexus.marketplace.executions.model import Execution, ExecutionStatus
from agentnexus.marketplace.listings.model import ListingStatus
from agentnexus.marketplace.purchases.market import Market
from agentnexus.marketplace.purchases.model import ENDS_SOON, Purchase
from agentnexus.marketplace.purchases.views import use_json
from agentnexus.rails.evm.contracts import DealStatus
from agentnexus.sdk.manifest import LimitsWanted
from tests.purchases.conftest import AGENT, Shop
from tests.purchases.test_dead_ends import act_as
from tests.purchases.test_uses import bought, ended

pytestmark = pytest.mark.timeout(180)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.02)


async def test_a_run_of_another_process_is_not_given_up_because_this_one_cannot_make_it(
    shop: Shop, buyer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its price went back to the buyer, and its result to them as well."""
    purchase = await bought(shop, buyer, 1)
    executions, go_on = shop.entitlements._executions, asyncio.Event()
    assert executions is not None
    finish, done = executions._finish, []

    async def held(*arguments: object) -> object:
        done.append(arguments)
        await go_on.wait()
        return await finish(*arguments)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(executions, "_finish", held)
    use = await shop.entitlements.run(buyer, AGENT, {"text": "the work"}, "r1")
    await until(lambda: bool(done))
    await shop.listings.set_status(AGENT, ListingStatus.SUSPENDED)
    shop.world.clock.advance(31)
    other = shop.rights(shop.process())
    assert await other.resume_once() == 1
    await asyncio.gather(*other._running.values())
    assert (await other.use(buyer, use.id)).state is UseState.RUNNING
    go_on.set()
    assert await ended(shop, use.id) is UseState.COMPLETED
    await shop.settle_uses()
    await shop.work()
    paid = await shop.purchases.get(buyer, purchase.id)
    assert (paid.state, paid.deal) == ("completed", DealStatus.RELEASED)
    await shop.check_books()


async def test_a_run_that_succeeded_counts_though_its_process_died_and_its_agent_is_gone(
    shop: Shop, buyer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bought(shop, buyer, 1)

    async def dies(*_arguments: object) -> None:
        raise OSError("the process died")

    with monkeypatch.context() as patch:
        patch.setattr(shop.entitlements.store, "finish", dies)
        use = await shop.entitlements.run(buyer, AGENT, {"text": "the work"}, "r1")
        await asyncio.gather(*shop.entitlements._running.values(), return_exceptions=True)
    await shop.listings.set_status(AGENT, ListingStatus.SUSPENDED)
    shop.world.clock.advance(31)
    other = shop.rights(shop.process())
    assert await other.resume_once() == 1
    assert await ended(shop, use.id) is UseState.COMPLETED


async def test_a_run_that_cannot_be_seen_now_is_not_given_up(
    shop: Shop, buyer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bought(shop, buyer, 1)
    executions = shop.entitlements._executions

    async def away(*_arguments: object, **_more: object) -> Execution:
        raise Unavailable("the database is away")

    with monkeypatch.context() as patch:
        for name in ("run", "get"):
            patch.setattr(executions, name, away)
        use = await shop.entitlements.run(buyer, AGENT, {"text": "the work"}, "r1")
        await asyncio.gather(*shop.entitlements._running.values())
        assert (await shop.entitlements.use(buyer, use.id)).state is UseState.RUNNING
    shop.world.clock.advance(31)
    assert await shop.entitlements.resume_once() == 1
    assert await ended(shop, use.id) is UseState.COMPLETED


def test_a_result_is_shown_of_completed_runs_only(shop: Shop) -> None:
    now = shop.world.clock.now()
    use = Use("use_1", "ann", "k", AGENT, "pur_1", "0xwallet", "exe_1", "sha256:1", UseState.COMPLETED, now)
    run = Execution("exe_1", AGENT, "1", "ann", ExecutionStatus.COMPLETED, 1, now, output={"text": "the work"})
    assert use_json(use, run)["output"] == {"text": "the work"}
    for state in (UseState.FAILED, UseState.RUNNING):
        assert use_json(replace(use, state=state), run)["output"] is None


async def test_a_run_whose_deal_the_chain_has_dropped_is_paid_when_it_comes_again(
    shop: Shop, buyer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = await bought(shop, buyer, 1, "k0")
    await shop.purchases.refund(buyer, warm.id)
    await shop.until(warm.id, lambda it: it.state == "refunded")
    await shop.work()
    before, snapshot = await shop.money(), await shop.world.chain.snapshot()
    purchase = await bought(shop, buyer, 2)

    async def not_yet(_use: Use) -> None:
        return

    with monkeypatch.context() as patch:
        patch.setattr(shop.entitlements, "_settle", not_yet)
        use = await shop.entitlements.run(buyer, AGENT, {"text": "for nothing"}, "r1")
        assert await ended(shop, use.id) is UseState.COMPLETED
    await shop.world.chain.revert(snapshot)
    await shop.world.chain.mine(3)
    await shop.entitlements.keep_once()
    assert (await shop.entitlements.use(buyer, use.id)).settled_at is None
    await shop.follow()
    await shop.until(purchase.id, lambda it: it.state == "processing")
    assert (await shop.finish(purchase.id)).state == "completed"
    await shop.settle_uses()
    await shop.purchases.refund(buyer, purchase.id)
    await shop.until(purchase.id, lambda it: it.state == "refunded")
    assert await shop.money() == before - shop.price
    await shop.work()
    await shop.check_books()


async def test_no_run_begins_that_could_outlast_its_deal(shop: Shop, buyer: str) -> None:
    purchase = await bought(shop, buyer, 2)
    assert purchase.expires_at is not None
    longest = max(each.le for each in LimitsWanted.model_fields["timeout_seconds"].metadata if hasattr(each, "le"))
    assert timedelta(seconds=3 * longest) < ENDS_SOON
    assert purchase.usable(purchase.expires_at - ENDS_SOON - timedelta(seconds=1))
    assert not purchase.usable(purchase.expires_at - ENDS_SOON)


async def test_a_buyer_who_releases_a_part_has_no_run_that_hangs_for_ever(shop: Shop, buyer: str) -> None:
    purchase = await bought(shop, buyer, 2)
    part = shop.market.escrow.release_part(purchase.terms, 2 * shop.price - 1)
    await act_as(shop, purchase.wallet, part)
    use = await shop.entitlements.run(buyer, AGENT, {"text": "hello"}, "r1")
    assert await ended(shop, use.id) is UseState.COMPLETED
    await shop.settle_uses()
    await shop.work()
    assert (await shop.purchases.get(buyer, purchase.id)).deal is DealStatus.RELEASED
    assert await shop.runs() == 1


async def test_a_buyer_who_burns_their_tokens_at_the_last_moment_pays_all_the_same(shop: Shop, buyer: str) -> None:
    purchase = await bought(shop, buyer, 2)

    class Overtaken(Market):
        """The tokens are gone after they were counted, and before they are taken back."""

        async def revoke(self, purchase: Purchase, key: str, count: int, *, holder: str) -> str:
            await act_as(shop, purchase.wallet, self.tokens.burn(purchase.wallet, shop.token, 2))
            return await super().revoke(purchase, key, count, holder=holder)

    plain = shop.market
    overtaken = Overtaken(plain.sender, plain.escrow, plain.tokens, plain.usdc, plain.operator)
    rights = shop.rights(shop.process(market=overtaken))
    use = await rights.run(buyer, AGENT, {"text": "hello"}, "r1")
    assert await ended(shop, use.id) is UseState.COMPLETED
    await shop.settle_uses()
    await shop.work()
    assert (await shop.purchases.get(buyer, purchase.id)).remaining == shop.price
    assert await shop.runs() == 0


async def test_first_buyers_of_an_agent_in_two_processes_all_get_it(shop: Shop, buyer: str) -> None:
    one, other = shop.process(), shop.process()
    begun = await asyncio.gather(
        *((one if number % 2 else other).begin(buyer, AGENT, 1, f"k{number}") for number in range(6))
    )
    assert {(await shop.finish(each.id)).state.value for each in begun} == {"completed"}
    assert await shop.runs() == 6


async def test_what_became_dearer_after_it_was_shown_is_not_bought(shop: Shop, buyer: str) -> None:
    before, shown = await shop.money(), (shop.listing.price * 3).decimal
    async with shop.database.connection() as connection:
        await connection.execute("update marketplace.listing set price_atomic = price_atomic + 1")
    with pytest.raises(Conflict, match="it costs"):
        await shop.purchases.begin(buyer, AGENT, 3, "k1", at_most=shown)
    assert await shop.purchases.list(buyer) == []
    dearer = (await shop.listings.for_sale(AGENT)).price * 3
    done = await shop.finish((await shop.purchases.begin(buyer, AGENT, 3, "k1", at_most=dearer.decimal)).id)
    assert done.state == "completed"
    assert await shop.money() == before - dearer.atomic
