"""The core `Market` over a node's catalogue: its own discovery, x402 for everything that has to do with money."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import httpx

from agentnexus.core.money import Asset
from agentnexus.core.offers import Job, Need, Offer, Quote
from agentnexus.core.ports import Clock, Market, Purse
from agentnexus.core.updates import Update
from agentnexus.markets.catalogue.discover import MARKET, read_offers


class CatalogueMarket:
    """Agents listed on one AgentNexus node.

    Args:
        api_url: the node's address.
        x402: the market that quotes and buys; the offers carry x402 terms and the paid endpoint.
        assets: what can be paid with, by CAIP-19 id in lower case.
    """

    name = MARKET

    def __init__(
        self, api_url: str, client: httpx.AsyncClient, x402: Market, clock: Clock, assets: Mapping[str, Asset]
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._client = client
        self._x402 = x402
        self._clock = clock
        self._assets = assets

    async def discover(self, need: Need) -> AsyncIterator[Offer]:
        """Offers of the node; raises `Unavailable` when it does not answer."""
        async for offer in read_offers(self._client, self._api_url, need, self._clock, self._assets):
            yield offer

    async def quote(self, offer: Offer, job: Job) -> Quote:
        """As the x402 market quotes."""
        return await self._x402.quote(offer, job)

    def buy(self, offer: Offer, job: Job, purse: Purse) -> AsyncIterator[Update]:
        """Paid over x402; see there for what it raises."""
        return self._x402.buy(offer, job, purse)  # itself and not passed on: who leaves early must close that one
