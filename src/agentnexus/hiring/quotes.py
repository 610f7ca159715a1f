"""Firm quotes: asked of the market, and held to what was offered and to what the buyer allows."""

from __future__ import annotations

import asyncio

from agentnexus.core.canonical import content_hash
from agentnexus.core.errors import PaymentFailed, SellerFailed
from agentnexus.core.offers import Job, Offer, Quote
from agentnexus.core.ports import Clock
from agentnexus.hiring.match import too_dear
from agentnexus.hiring.shop import Shop

QUOTE_SECONDS = 20.0
CANONICAL_KEPT = 2_000


class Quotes:
    """Of all markets of a shop."""

    def __init__(self, shop: Shop, clock: Clock) -> None:
        self._shop = shop
        self._clock = clock
        self._canonical: dict[str, Offer] = {}

    async def ask(self, offer: Offer, job: Job) -> Quote:
        """Raises `SellerFailed` without one in time or for another job, `PaymentFailed` when it is too dear."""
        market = self._shop.gatherer.market(offer.market)
        try:
            async with asyncio.timeout(QUOTE_SECONDS):
                quote = await market.quote(offer, job)
        except TimeoutError as error:
            raise SellerFailed(
                f"{offer.market} gave no quote within {QUOTE_SECONDS:g} s", next_step="choose another"
            ) from error
        limit = job.need.constraints.max_price
        if limit is not None and too_dear(quote.maximum, limit, self._shop.rates, self._clock.now()):
            raise PaymentFailed(
                f"the quote is {quote.maximum}, {limit} is the most allowed", next_step="raise the price limit"
            )
        if quote.maximum.asset.caip19 == offer.price.maximum.asset.caip19 and quote.maximum > offer.price.maximum * 2:
            raise PaymentFailed(
                f"offered for {offer.price.maximum}, quoted at {quote.maximum}", next_step="choose another seller"
            )
        if quote.offer_id != offer.id or quote.job_id != job.id:
            raise SellerFailed("the quote is for another job", next_step="choose another seller")
        self._check_canonical(offer)
        return quote

    def _check_canonical(self, offer: Offer) -> None:
        """An offer without a canonical form could not stand in a receipt. Looked at once per offer."""
        if self._canonical.get(offer.id) is not offer:
            content_hash(offer)
            if len(self._canonical) >= CANONICAL_KEPT:
                self._canonical.clear()
            self._canonical[offer.id] = offer
