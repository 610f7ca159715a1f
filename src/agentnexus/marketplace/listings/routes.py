"""``GET /agents``, ``/agents/{id}``, ``/agents/{id}/versions`` and ``/categories`` below the prefix they are put at."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query

from agentnexus.core.ports import Clock
from agentnexus.marketplace.envelope import envelope
from agentnexus.marketplace.listings.model import PAGE_DEFAULT, PAGE_MAX, Sort, listing_json, short_json
from agentnexus.marketplace.listings.service import Listings

Price = Annotated[Decimal | None, Query(ge=0, le=1_000_000, description="decimal amount of the currency")]


def listing_routes(listings: Listings, clock: Clock, api_url: str) -> APIRouter:
    """`api_url` is the public address of this API, without a slash at its end."""
    router = APIRouter(tags=["agents"])
    public = api_url.rstrip("/")

    @router.get("/agents")
    async def agents(
        *,
        query: Annotated[str, Query(max_length=200)] = "",
        category: Annotated[str, Query(max_length=60)] = "",
        capability: Annotated[str, Query(max_length=100)] = "",
        min_price: Price = None,
        max_price: Price = None,
        sort: Sort = Sort.RELEVANCE,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
        cursor: Annotated[str, Query(max_length=500)] = "",
    ) -> dict[str, object]:
        """Agents for sale on this node, a page at a time."""
        page = await listings.list(
            query, category, max_price=max_price, sort=sort, limit=limit, cursor=cursor, capability=capability,
            min_price=min_price,
        )  # fmt: skip
        data = [short_json(listing, public) for listing in page.listings]
        following = {"limit": limit, "total": page.total, "nextCursor": page.next_cursor or None}
        return envelope(data, clock, pagination=following)

    @router.get("/agents/{agent_id}")
    async def agent(agent_id: str) -> dict[str, object]:
        """One agent with its schemas, examples, limits and how it is paid."""
        return envelope(listing_json(await listings.get(agent_id), public), clock)

    @router.get("/agents/{agent_id}/versions")
    async def versions(agent_id: str) -> dict[str, object]:
        """Every version that was listed, newest first."""
        await listings.get(agent_id)
        return envelope(await listings.versions(agent_id), clock)

    @router.get("/categories")
    async def categories() -> dict[str, object]:
        """Categories and how many agents each has."""
        found = await listings.categories()
        return envelope([{"name": name, "agents": agents} for name, agents in found.items()], clock)

    return router
