"""All doors over the real services: what the composed application hands to `create_pages`."""

from __future__ import annotations

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
) -> Doors:
    """`asset` is what amounts typed into pages are in; `api_url` the public address shown to programs."""

    async def user(request: Request) -> str:
        found = await callers.identify(request)
        request.state.visitor = found.user_id
        if request.method == "POST":  # looking around is free; what starts work counts like a call of the API
            await limiter.take(found.user_id)
        return found.user_id

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
        user=user,
        asset=asset,
    )
