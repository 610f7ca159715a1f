"""Buying and running from the pages, over the real rooms on a real chain: paid, run, given back, and what fails."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from agentnexus.marketplace.listings.model import ListingStatus
from agentnexus.web.adapters.catalogue import ListingCatalogue
from agentnexus.web.adapters.purchases import HousePurchases
from agentnexus.web.views.text import day, minute
from tests.purchases.conftest import AGENT, Shop, runtime, shop, world
from tests.wallets.conftest import WHOLE
from tests.web.house import FAUCET, Pages, house_wallet, open_pages
from tests.web.months import runs_of_this_month, sell_months, this_month

__all__ = ["runtime", "shop", "world"]

pytestmark = pytest.mark.timeout(240)
BUY = f"/agents/{AGENT}/buy"
MONTH = f"{BUY}?kind=period"


@dataclass
class Till:
    """The pages of a node whose worker is awake."""

    shop: Shop
    pages: Pages

    async def filled(self, user: str = "ann", usdc: int = 10 * WHOLE, **kind: str) -> None:
        await self.pages.moved("/wallet", user, **(kind or {"kind": "server"}))
        wallet = await self.shop.world.wallets().of(user)
        await self.shop.world.chain.mint(wallet.address, usdc)

    async def bought(self, runs: int = 3, user: str = "ann", key: str = "form-1") -> str:
        """The purchase's page, once the runs are there."""
        place = await self.pages.moved(BUY, user, runs=str(runs), key=key)
        return await self.rested(place, user)

    async def bought_month(self, user: str = "ann", key: str = "form-m", **more: str) -> str:
        place = await self.pages.moved(BUY, user, kind="period", key=key, **more)
        return await self.rested(place, user)

    async def rested(self, place: str, user: str = "ann") -> str:
        """Where it is, once its live page has come to an end."""
        live = await self.pages.get(f"{place}/live", user)
        assert live.endswith("event: end\ndata: done\n\n")
        return place

    async def ran(self, user: str = "ann", key: str = "run-1", **value: str) -> str:
        """A run with an entitlement; its page once it ended and is paid."""
        fields = {f"in/{name}": text for name, text in (value or {"text": "hello"}).items()}
        place = await self.pages.moved(f"/agents/{AGENT}/run", user, _run="entitled", _key=key, **fields)
        assert place.startswith("/uses/use_")
        return await self.rested(place, user)


@asynccontextmanager
async def awake(shop: Shop) -> AsyncIterator[None]:
    """The worker's rounds, and time that goes on."""

    async def work() -> None:
        while True:
            await shop.follow()
            await shop.purchases.keep_once()
            await shop.entitlements.keep_once()
            shop.world.clock.advance(0.5)
            await asyncio.sleep(0.05)  # a round of the worker

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def till(shop: Shop) -> AsyncIterator[Till]:
    wallet = house_wallet(shop.world)
    doors = {
        "wallet": wallet,
        "purchases": HousePurchases(shop.purchases, shop.entitlements, wallet),
        "catalogue": ListingCatalogue(shop.listings, "http://node"),
    }
    async with open_pages(shop.world, **doors) as pages, awake(shop):
        yield Till(shop, pages)


async def test_runs_are_bought_used_and_the_rest_is_given_back_without_scripts(till: Till) -> None:
    await till.filled()
    assert "Buy runs" in await till.pages.get(f"/agents/{AGENT}")
    terms = await till.pages.get(f"{BUY}?runs=3")
    for each in ("You pay 0.06 USDC for 3 runs", "2.5 %", "AgentNexus (0.2 ETH left today)", "10.00 USDC", "9.94 USDC"):
        assert each in terms, each
    place = await till.bought(3)
    shown = await till.pages.get(place)
    assert "You have 3 runs of it already." in await till.pages.get(BUY)
    for each in ("3 runs of Trial agent are yours", "Held in escrow now", "0.06 USDC", "then it comes back by itself"):
        assert each in shown, each
    assert "Run with your 3 runs left" in await till.pages.get(f"/agents/{AGENT}")

    use = await till.ran(text="hello from the page")
    result = await till.pages.get(use)
    assert "hello from the page" in result
    assert "0.02 USDC" in result
    assert (await till.pages.client.get(f"{use}/result.json", headers={"X-User": "ann"})).json()["text"]
    owned = await till.pages.get("/entitlements")
    assert "2 runs left" in owned
    assert "0.04 USDC held in escrow" in owned
    assert place in owned

    assert await till.pages.moved(f"{place}/refund") == place
    back = await till.pages.get(await till.rested(place))
    for each in (
        "Your money came back",
        "Paid to the seller",
        "0.02 USDC",
        "Back in your wallet",
        "0.04 USDC",
        "Buy again",
    ):
        assert each in back, each
    assert await till.shop.money() == 10 * WHOLE - 20_000
    empty = await till.pages.get("/entitlements")
    assert "You have no runs yet." in empty
    assert f'<a href="{use}">Trial agent</a>' in empty  # what was paid for stays to be found


async def test_a_month_is_bought_run_renewed_and_paid_once_without_scripts(till: Till) -> None:
    await sell_months(till.shop)
    await till.filled()
    (price, ends_at, next_ends_at), runs = this_month(till.shop), runs_of_this_month(till.shop)
    assert "Have it for a month: 0.50 USDC" in await till.pages.get(f"/agents/{AGENT}")
    terms = await till.pages.get(MONTH)
    for each in (f"You pay {price} for the rest of this month", f"until {minute(ends_at)}, with up to {runs:,} runs"):
        assert each in terms, each
    place = await till.bought_month()
    shown = await till.pages.get(place)
    for each in (f"Trial agent is yours until {day(ends_at)}", "Give the month back", f"0 of {runs:,}", price):
        assert each in shown, each
    assert f"Run: yours until {day(ends_at)}" in await till.pages.get(f"/agents/{AGENT}")

    for at in range(2):
        used = await till.pages.get(await till.ran(key=f"run-{at}", text="hello from the month"))
        assert "hello from the month" in used
        assert "in your month" in used
    shown = await till.pages.get(place)
    for each in ("Paid to the seller", f"2 of {runs:,}", f"{runs - 2:,}"):
        assert each in shown, each
    assert "Give the month back" not in shown
    assert await till.shop.money() == 10 * WHOLE - till.shop.world.chain.usdc.parse(price.split()[0]).atomic

    assert "You pay 0.50 USDC for the next month" in await till.pages.get(MONTH)
    await till.bought_month(key="form-2")
    owned = await till.pages.get("/entitlements")
    now, following = owned.split('<li class="card stack">')[1:3]
    for each in (
        f"A month, until {minute(ends_at)}",
        f"2 of {runs:,} runs used.",
        f"can be renewed from {minute(ends_at)}",
    ):
        assert each in now, each
    for each in (
        f"From {day(ends_at)}",
        f"until {minute(next_ends_at)}",
        "Up to 1,000 runs.",
        "0.50 USDC held in escrow",
    ):
        assert each in following, each
    assert ">Renew<" not in owned, "it would only be refused"
    assert ">Renew</a>" not in await till.pages.get(f"/agents/{AGENT}")
    third = await till.pages.get(MONTH)
    assert f"You have it until {day(next_ends_at)} already." in third
    assert 'name="at_most"' not in third


async def test_a_month_that_was_never_run_comes_back_whole(till: Till) -> None:
    await sell_months(till.shop, runs=None)
    await till.filled()
    place = await till.bought_month()
    assert "As many runs as you like." in await till.pages.get(f"/agents/{AGENT}")
    assert place in await till.pages.get("/entitlements")
    await till.pages.moved(f"{place}/refund")
    assert "Your money came back" in await till.pages.get(await till.rested(place))
    assert await till.shop.money() == 10 * WHOLE
    over = await till.pages.get("/entitlements")
    assert "You have no runs yet." in over
    assert "Not yours any more</span>" in over[over.index('id="over"') :]


async def test_unused_runs_come_back_for_a_month_where_that_is_wanted(till: Till) -> None:
    await sell_months(till.shop)
    await till.filled()
    place = await till.bought(3)
    owned = await till.pages.get("/entitlements")
    assert f"{MONTH}&upgrade=1" in owned
    terms = await till.pages.get(f"{MONTH}&upgrade=1")
    assert "Give 3 unused runs back for 0.06 USDC" in terms
    month = await till.bought_month(upgrade="1")
    assert "The unused runs that it replaces are given back by themselves." in await till.pages.get(month)
    await till.shop.until(place.rpartition("/")[2], lambda it: it.state == "refunded")
    assert "Replaced by a month" in await till.pages.get(await till.rested(place))


@pytest.mark.parametrize("kind", ["runs", "period"])
async def test_what_was_bought_is_passed_on_and_run_by_whoever_has_it_then(till: Till, kind: str) -> None:
    await sell_months(till.shop)
    await till.filled()
    await till.filled("bob")
    bob = await till.shop.world.wallets().of("bob")
    place = await (till.bought(3) if kind == "runs" else till.bought_month())
    pass_on = f"/entitlements/{AGENT}/pass-on"
    assert pass_on in await till.pages.get("/entitlements")
    for to, count, said in (("0xnobody", "1", "0xnobody"), (bob.address, "9", "can be passed on at once")):
        refused = await till.pages.post(pass_on, kind=kind, to=to, count=count, key="k0")
        assert 400 <= refused.status_code < 500
        assert said in html.unescape(refused.text)
    nothing = await till.pages.post(pass_on, kind="year", to=bob.address, count="1", key="k0")
    assert nothing.status_code == 400
    count = "2" if kind == "runs" else "1"
    sure = await till.pages.post(pass_on, kind=kind, to=bob.address, count=count, key="k1")
    assert "cannot be given back" in sure.text
    assert bob.address in sure.text
    operation = await till.pages.moved(pass_on, kind=kind, to=bob.address, count=count, key="k1", sure="1")
    assert operation.startswith("/wallet/operations/op_")
    done = await till.pages.get(operation)
    for each in (f"on to {bob.address}", "The receiver needs a wallet on this node"):
        assert each in done, each
    await till.pages.get(f"{operation}/live")
    await till.shop.follow()
    shown = await till.pages.get(place)
    assert f"<dt>Passed on</dt><dd>{'2 runs' if kind == 'runs' else 'the month'}</dd>" in shown
    assert "/refund" not in shown, "somebody else may run it"
    assert "passed on: what nobody uses comes back on" in shown
    locked = await till.pages.get("/entitlements")
    assert f'<a href="{place}">' in locked
    if kind == "runs":
        assert "0.06 USDC held in escrow" in locked
        assert "0.06 USDC</a> of it cannot be given back now: 2 of its runs were passed on" in locked
        assert "Your 1 run stays yours: others hold runs" in await till.pages.get(MONTH)
    else:
        assert "You passed it on" in shown
        assert "Run it now" not in shown

    mine = await till.pages.get(await till.ran("bob", text="thanks"), "bob")
    assert "thanks" in mine
    owned = await till.pages.get("/entitlements", "bob")
    assert ("1 run left" if kind == "runs" else f"1 of {runs_of_this_month(till.shop):,} runs used.") in owned
    assert place not in owned, "its purchase stays its buyer's own"


async def test_a_purchase_is_one_however_often_the_form_is_sent(till: Till) -> None:
    await till.filled()
    first, second = [await till.pages.moved(BUY, runs="2", key="form-1") for _ in range(2)]
    assert first == second
    other = await till.pages.post(BUY, runs="3", key="form-1")
    assert other.status_code == 409
    await till.rested(first)
    assert await till.shop.held() == 2 * till.shop.price


async def test_a_passkey_signs_the_purchase_of_the_page(till: Till) -> None:
    till.shop.world.passkey("pat")
    shown = await till.pages.get("/wallet", "pat")
    (credential,) = re.findall(r'<option value="([^"]+)">pat', shown)
    await till.filled("pat", kind="passkey", credential_id=credential)
    place = await till.pages.moved(BUY, "pat", runs="2", key="form-1")
    waiting = await till.pages.get(place, "pat")
    assert "Waiting for your signature" in waiting
    assert "Do not buy" in waiting
    wrong = await till.pages.post(
        f"{place}/signature", "pat", signature="AAAA", client_data="e30", authenticator_data="AA"
    )
    assert wrong.status_code in (400, 403)
    assert (await till.pages.sign_with_passkey(place, "pat")).status_code == 303
    assert "are yours" in await till.pages.get(await till.rested(place, "pat"), "pat")


async def test_a_key_of_ones_own_signs_the_purchase_of_the_page(till: Till) -> None:
    await till.filled("alice", kind="key", address=till.shop.world.chain.accounts["alice"].address)
    place = await till.pages.moved(BUY, "alice", runs="1", key="form-1")
    assert (await till.pages.sign_with_key(place, "alice")).status_code == 303
    assert "1 run of Trial agent is yours" in await till.pages.get(await till.rested(place, "alice"), "alice")


async def test_what_is_not_signed_is_taken_back_and_nothing_is_paid(till: Till) -> None:
    await till.filled("alice", kind="key", address=till.shop.world.chain.accounts["alice"].address)
    place = await till.pages.moved(BUY, "alice", runs="1", key="form-1")
    await till.pages.moved(f"{place}/refund", "alice")
    shown = await till.pages.get(await till.rested(place, "alice"), "alice")
    for each in ("You did not buy it", "Not bought", "Nothing was signed, and nothing was paid.", "Buy again"):
        assert each in shown, each
    assert "Failed" not in shown
    assert await till.shop.held() == 0


async def test_who_has_no_wallet_or_too_little_is_told_before_the_button(till: Till) -> None:
    none = await till.pages.get(BUY)
    assert "You have no wallet here yet." in none
    assert f'href="/wallet?next={BUY}%3Fruns%3D5">Make a wallet' in none
    await till.filled(usdc=50_000)
    short = await till.pages.get(BUY)
    assert "The wallet holds 0.05 USDC, and this costs 0.10 USDC." in short
    assert FAUCET in short
    assert "nexus wallet top-up 10 " in await till.pages.get(f"{BUY}?runs=500")
    assert "You pay" not in short[: short.index("The sum")]
    refused = await till.pages.post(BUY, runs="5", key="form-1")
    assert refused.status_code == 402
    assert await till.shop.held() == 0
    enough = await till.pages.get(f"{BUY}?runs=2")
    assert "You pay 0.04 USDC for 2 runs" in enough


async def test_a_run_that_fails_costs_nothing_and_the_run_stays(till: Till) -> None:
    await till.filled()
    await till.bought(2)
    use = await till.ran(do="refuse")
    shown = await till.pages.get(use)
    assert "This cannot be served." in shown
    assert "Nothing was paid, and the run is still yours." in shown
    assert "2 runs left" in await till.pages.get("/entitlements")
    assert (await till.pages.client.get(f"{use}/result.json", headers={"X-User": "ann"})).status_code == 404


async def test_a_run_that_failed_is_tried_again_with_what_was_typed_for_a_day(till: Till) -> None:
    await till.filled()
    await till.bought(3)
    failed = await till.ran(text="typed with care", do="refuse")
    (again,) = re.findall(r'href="(/agents/[^"#]*\?use=[^"#]*)#run"', await till.pages.get(failed))
    assert "typed with care" in await till.pages.get(again)
    stranger = await till.pages.get(again, "eve")
    assert "typed with care" not in stranger
    assert "What you sent with that run is not kept" in stranger
    await till.shop.entitlements.forget()
    assert "typed with care" in await till.pages.get(again)
    till.shop.world.clock.advance(25 * 3600)
    await till.shop.entitlements.forget()
    assert "What you sent with that run is not kept" in await till.pages.get(again)
    done = await till.ran(key="run-2", text="all went well")
    place = f"/agents/{AGENT}?use={done.rpartition('/')[2]}"
    assert "all went well" not in await till.pages.get(place), "its result is there, and its input is nobody's"


async def test_the_only_run_of_a_purchase_that_fails_brings_the_money_back(till: Till) -> None:
    await till.filled()
    place = await till.bought(1)
    use = await till.pages.get(await till.ran(do="refuse"))
    assert "It was the only run of its purchase: the money goes back to your wallet." in use
    assert "still yours" not in use
    await till.shop.until(place.rpartition("/")[2], lambda it: it.state == "refunded")
    shown = await till.pages.get(await till.rested(place))
    assert "Its run failed." in shown
    assert await till.shop.money() == 10 * WHOLE


async def test_without_a_run_left_the_form_says_so_and_keeps_what_was_typed(till: Till) -> None:
    await till.filled()
    refused = await till.pages.post(f"/agents/{AGENT}/run", _run="entitled", _key="k", **{"in/text": "keep me"})
    assert refused.status_code in (404, 409)
    assert 'role="alert"' in refused.text
    assert "keep me" in refused.text


async def test_strangers_see_neither_purchases_nor_runs(till: Till) -> None:
    await till.filled()
    place = await till.bought(2)
    use = await till.ran()
    await till.filled("eve")
    for path in (place, f"{place}/live", use, f"{use}/live", f"{use}/result.json"):
        assert (await till.pages.client.get(path, headers={"X-User": "eve"})).status_code == 404, path
    for path in (f"{place}/refund", f"{place}/signature"):
        assert (await till.pages.post(path, "eve", signature="0x" + "00" * 65)).status_code == 404, path
    assert "You have no runs yet." in await till.pages.get("/entitlements", "eve")
    taken = await till.pages.post(f"/agents/{AGENT}/run", "eve", _run="entitled", _key="k", **{"in/text": "x"})
    assert taken.status_code in (404, 409)


async def test_an_agent_that_is_withdrawn_is_only_given_back(till: Till) -> None:
    await till.filled()
    await till.bought(2)
    await till.shop.listings.set_status(AGENT, ListingStatus.MAINTENANCE)
    shown = await till.pages.get("/entitlements")
    assert "Not for sale any more: give the runs back." in shown
    assert f'href="/agents/{AGENT}"' not in shown
