"""`Catalogue` over the marketplace's listings."""

from __future__ import annotations

from agentnexus.core.money import Money
from agentnexus.marketplace.listings.model import PAGE_MAX, Listing
from agentnexus.marketplace.listings.service import Listings
from agentnexus.web.doors import AgentQuery
from agentnexus.web.views.agents import AgentPage, AgentView, ExampleView
from agentnexus.web.views.text import money


class ListingCatalogue:
    """Agents of this node. `api_url` is the public address that programs call, without a slash at its end."""

    def __init__(self, listings: Listings, api_url: str) -> None:
        self._listings = listings
        self._api_url = api_url.rstrip("/")

    async def search(self, query: AgentQuery) -> AgentPage:
        """A page of active listings and all categories."""
        found = await self._listings.list(
            query.query, query.category, max_price=query.max_price, sort=query.sort, limit=min(query.limit, PAGE_MAX),
            cursor=query.cursor,
        )  # fmt: skip
        categories = await self._listings.categories()
        agents = tuple(self._view(listing) for listing in found.listings)
        return AgentPage(agents, found.next_cursor, tuple(categories.items()), found.total)

    async def agent(self, agent_id: str) -> AgentView:
        """Raises `NotFound`, also for what is not for sale now."""
        return self._view(await self._listings.for_sale(agent_id))

    def _view(self, listing: Listing) -> AgentView:
        manifest, statistics = listing.manifest, listing.statistics
        limits = manifest.limits
        return AgentView(
            id=listing.id,
            name=manifest.title,
            summary=manifest.summary,
            price=money(listing.price),
            amount=listing.price,
            category=manifest.categories[0],
            description=manifest.description,
            price_note=_price_note(listing),
            developer=listing.developer,
            version=manifest.version,
            capability=manifest.capability,
            licence=manifest.licence,
            runs=statistics.runs,
            success_rate=statistics.success_rate,
            average_ms=statistics.average_ms,
            p95_ms=statistics.p95_ms,
            rating=statistics.rating,
            ratings=statistics.ratings,
            input_schema=listing.input_schema,
            output_schema=listing.output_schema,
            examples=tuple(ExampleView(each.title, each.input) for each in manifest.examples),
            limits=(("Memory", f"{limits.memory_mib} MiB"), ("Time", f"{limits.timeout_seconds:g} s")),
            hosts=manifest.egress.hosts,
            endpoint=f"{self._api_url}{listing.path}",
            month_price=money(listing.month_price),
            month_runs=manifest.pricing.runs_per_month,
            transferable=manifest.pricing.transferable,
        )


def _price_note(listing: Listing) -> str:
    """How a metered price is made up; empty for a flat one."""
    pricing = listing.manifest.pricing
    if not pricing.events:
        return ""
    asset = listing.price.asset
    parts = [f"{_amount(asset.parse(pricing.per_run))} per run"]
    parts += [f"{_amount(asset.parse(event.price))} per {event.name}" for event in pricing.events]
    return f"at most; {' and '.join(parts)}, paid only when the result passes the check"


def _amount(amount: Money) -> str:
    return money(amount)
