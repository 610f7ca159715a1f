"""`Economy` over hiring, listings and workflows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol

from agentnexus.core.offers import CAPABILITY_NAME, Need
from agentnexus.hiring.model import RankedOffer, SourceHealth
from agentnexus.marketplace.listings.service import Listings
from agentnexus.web.views.market import Figures, MarketView, OfferView
from agentnexus.web.views.runs import State
from agentnexus.web.views.text import duration, money, percent
from agentnexus.workflows.service import Workflows

MAX_OFFERS: Final = 100
LIVE: Final = State("live", "Answering", "done")
SLOW: Final = State("slow", "Some failures", "wait")
DOWN: Final = State("down", "Not answering", "fail")
IDLE: Final = State("idle", "Not asked yet", "")
STALE: Final = State("stale", "May be old", "wait")


class Markets(Protocol):
    """The part of `hiring.Hiring` that looks around."""

    async def offers(self, need: Need, *, limit: int) -> Sequence[RankedOffer]: ...

    def statistics(self) -> Sequence[SourceHealth]: ...


class HouseEconomy:
    """Offers of every market side by side, and this node's own figures."""

    def __init__(self, hiring: Markets, listings: Listings, workflows: Workflows) -> None:
        self._hiring = hiring
        self._listings = listings
        self._workflows = workflows

    async def offers(self, need: str) -> Sequence[OfferView]:
        """Best first. A capability name is looked up, other words are searched for, nothing means everything."""
        named = re.fullmatch(CAPABILITY_NAME, need) is not None and "." in need
        asked = Need(capability=need) if named else Need(text=need)
        return [_offer(ranked) for ranked in await self._hiring.offers(asked, limit=MAX_OFFERS)]

    async def markets(self) -> Sequence[MarketView]:
        """Each market as this process has met it."""
        return [_market(source) for source in self._hiring.statistics()]

    async def figures(self) -> Figures:
        """Counts of this node, now."""
        listed = await self._listings.list(limit=1)
        health = await self._workflows.health()
        rate = health["success_rate"]
        return (
            ("agents for hire", f"{listed.total:,}"),
            ("tasks finished", f"{health['completed']:,}"),
            ("finished well", percent(rate) if isinstance(rate, float) else "none yet"),
            ("at work now", f"{health['active']:,}"),
        )


def _offer(ranked: RankedOffer) -> OfferView:
    offer = ranked.offer
    return OfferView(
        title=offer.title or offer.capability.title or offer.capability.name,
        capability=offer.capability.name,
        market=offer.market,
        seller=offer.seller.name or offer.seller.key,
        price=money(offer.price.maximum),
        reputation="new" if ranked.new else f"{ranked.reputation:.1f} of 5",
        speed=duration(offer.latency_ms or None),
        state=STALE if offer.stale else LIVE,
    )


def _market(source: SourceHealth) -> MarketView:
    rate = source.success_rate
    if rate is None:
        state = IDLE
    elif rate == 0:
        state = DOWN
    else:
        state = SLOW if rate < 0.9 or source.dead_sources else LIVE
    silent = "; ".join(f"{name}: {why}" for name, why in source.dead_sources.items())
    reason = (silent or source.last_error)[:200]
    return MarketView(source.market, state, source.offers, percent(rate) or "none yet", reason)
