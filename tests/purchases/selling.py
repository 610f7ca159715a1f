"""An agent that is sold by the month, or passed on; and time that passes on the chain as well as here."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from agentnexus.core.money import Money
from agentnexus.marketplace.purchases.kinds import Kind, Period
from agentnexus.marketplace.purchases.model import Purchase
from tests.purchases.conftest import AGENT, Shop

MONTH = "0.6"  # USDC


async def sell(shop: Shop, **pricing: object) -> None:
    """The trial agent, with other prices than its file has."""
    manifest = shop.bundle.manifest
    priced = manifest.model_copy(update={"pricing": manifest.pricing.model_copy(update=pricing)})
    shop.bundle = replace(shop.bundle, manifest=priced)
    shop.listing = await shop.listings.publish(shop.bundle, shop.seller, developer="Harbour works")


async def pass_time(shop: Shop, span: timedelta) -> None:
    await shop.world.chain.rpc.call("evm_increaseTime", int(span.total_seconds()))
    await shop.world.chain.mine()
    shop.world.clock.advance(span.total_seconds())


async def at_day(shop: Shop, day: float) -> Period:
    """On to that day of the next period, whatever the date is on which tests are run."""
    now = shop.world.clock.now()
    period = Period.at(now).following
    await pass_time(shop, period.starts_at + timedelta(days=day) - now)
    return period


def whole(shop: Shop) -> Money:
    price = shop.listing.month_price
    assert price is not None
    return price


async def month(shop: Shop, user_id: str, key: str = "m1", *, upgrade: bool = False) -> Purchase:
    """Bought and there."""
    begun = await shop.purchases.begin(user_id, AGENT, 1, key, kind=Kind.PERIOD, upgrade=upgrade)
    return await shop.finish(begun.id)
