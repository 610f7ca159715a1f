"""The caller's own lists of sellers: those to take first, and those never to hire."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from agentnexus.hiring.statistics import BLOCKED, PREFERRED, SellerRecords, seller_key
from agentnexus.identity.caller import Caller, caller

Who = Annotated[Caller, Depends(caller)]
Seller = Annotated[str, Query(min_length=1, max_length=200, description="its key, e.g. evm:0x…")]


class Kind(StrEnum):
    """Which list a seller is on."""

    PREFERRED = PREFERRED
    BLOCKED = BLOCKED


class PreferenceRequest(BaseModel):
    """Body of ``PUT /preferences``."""

    model_config = ConfigDict(extra="forbid")

    seller: str = Field(min_length=1, max_length=200, description="its key, as an offer or a receipt names it")
    kind: Kind


def preference_routes(records: SellerRecords) -> APIRouter:
    """``/preferences`` below the prefix it is mounted at."""
    router = APIRouter(tags=["hiring"])

    @router.get("/preferences")
    async def preferences(who: Who) -> dict[str, object]:
        """Your lists, the preferred first."""
        return {"success": True, "data": [asdict(each) for each in await records.preferences(who.user_id)]}

    @router.put("/preferences")
    async def prefer(who: Who, body: PreferenceRequest) -> dict[str, object]:
        """Put a seller on one of your lists; it leaves the other. A blocked one is never hired for you again."""
        await records.prefer(who.user_id, body.seller, body.kind)
        return {"success": True, "data": {"seller": seller_key(body.seller), "kind": body.kind}}

    @router.delete("/preferences")
    async def clear(who: Who, seller: Seller) -> dict[str, object]:
        """Take a seller off your lists; one that is on none stays so."""
        await records.prefer(who.user_id, seller, None)
        return {"success": True, "data": {"seller": seller_key(seller), "kind": None}}

    return router
