"""An agent of a real shop that is sold by the month as well, and passed on, as its manifest would say."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from agentnexus.marketplace.purchases.kinds import Period
from tests.purchases.conftest import Shop


async def sell_months(shop: Shop, *, runs: int | None = 1000, transferable: bool = True) -> None:
    """Half a USDC a month: a new person's budget allows one at a time."""
    manifest = shop.bundle.manifest
    priced = {"per_month": "0.5", "runs_per_month": runs, "transferable": transferable}
    sold = manifest.model_copy(update={"pricing": manifest.pricing.model_copy(update=priced)})
    shop.listing = await shop.listings.publish(
        replace(shop.bundle, manifest=sold), shop.world.seller, developer="Harbour works"
    )


def this_month(shop: Shop) -> tuple[str, datetime, datetime]:
    """What is left of it costs so much, it ends then, and the next one then."""
    now = shop.world.clock.now()
    period, whole = Period.on_sale(now), shop.listing.month_price
    assert whole is not None
    return str(period.price(whole, now)), period.ends_at, period.following.ends_at


def runs_of_this_month(shop: Shop) -> int:
    """How many it allows for the days that are left."""
    now, whole = shop.world.clock.now(), shop.listing.manifest.pricing.runs_per_month
    assert whole is not None
    return Period.on_sale(now).part(whole, now)
