"""All doors over the real services: what the composed application hands to `create_pages`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from starlette.requests import Request

from agentnexus.core.money import Asset
from agentnexus.hiring.hire import Hiring
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.marketplace.listings.service import Listings
from agentnexus.web.adapters.catalogue import ListingCatalogue
from agentnexus.web.adapters.economy import HouseEconomy
from agentnexus.web.adapters.runs import WorkflowRuns
from agentnexus.web.doors import (
    Doors,
    MoneyDoor,
    PrepaidDoor,
    PurchasesDoor,
    SavedPlans,
    SchedulesDoor,
    SignInDoor,
    WalletDoor,
    WebhooksDoor,
)
from agentnexus.workflows.service import Workflows

VIEWS_PER_MINUTE = 120  # of pages that ask the chain; people who look at one reload it now and then
ASKS_THE_CHAIN = re.compile(r"/(?:wallet|entitlements|purchases|uses)(?:/|$)|/agents/[^/]+/buy$")


def house_doors(
    *,
    workflows: Workflows,
    listings: Listings,
    hiring: Hiring,
    money: MoneyDoor,
    prepaid: PrepaidDoor,
    wallet: WalletDoor,
    purchases: PurchasesDoor,
    saved: SavedPlans,
    schedules: SchedulesDoor,
    webhooks: WebhooksDoor,
    sign_in: SignInDoor,
    callers: Callers,
    asset: Asset,
    api_url: str,
    limiter: Limiter,
    views: Limiter,
) -> Doors:
    """`asset` is what amounts typed into pages are in; `api_url` the public address shown to programs."""
    return Doors(
        runs=WorkflowRuns(workflows),
        catalogue=ListingCatalogue(listings, api_url),
        economy=HouseEconomy(hiring, listings, workflows),
        money=money,
        prepaid=prepaid,
        wallet=wallet,
        purchases=purchases,
        saved=saved,
        schedules=schedules,
        webhooks=webhooks,
        sign_in=sign_in,
        user=visitors(callers, limiter, views),
        asset=asset,
    )


def visitors(callers: Callers, limiter: Limiter, views: Limiter) -> Callable[[Request], Awaitable[str]]:
    """Who visits. Looking around is free; what starts work counts like a call of the API, with its `limiter`.

    `views` bounds how often a visitor looks at pages that ask the chain. Raises `NotAllowed`, `RateLimited`.
    """

    async def user(request: Request) -> str:
        found = await callers.identify(request)
        request.state.visitor = found.user_id
        if request.method == "POST":
            await limiter.take(found.user_id)
        elif ASKS_THE_CHAIN.match(request.url.path):
            await views.take(f"views {found.user_id}")
        return found.user_id

    return user
