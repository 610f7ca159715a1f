"""Compare offers and hire one seller directly, outside any workflow."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from agentnexus.core.errors import NexusError
from agentnexus.core.money import Asset
from agentnexus.core.offers import CAPABILITY_NAME, Constraints, Need, Strategy
from agentnexus.core.payments import Receipt
from agentnexus.core.ports import Ids
from agentnexus.escrow.hires import PrepaidHires
from agentnexus.hiring.choose import Policy
from agentnexus.hiring.hire import Hiring
from agentnexus.identity.caller import Caller, caller
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.markets.x402.rating import RegistryRater

Who = Annotated[Caller, Depends(caller)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Text = Annotated[str, Query(min_length=1, max_length=500, description="a capability such as pdf.extract, or words")]


class Limits(BaseModel):
    """Whom to leave out of a search or a hire, beside the sellers on your own list. What is left out: no limit."""

    model_config = ConfigDict(extra="forbid")

    min_reputation: float | None = Field(default=None, ge=0, le=5, description="the least reputation, 0 to 5")
    market: list[Name] = Field(default=[], max_length=20, description="only these markets, e.g. x402")
    network: list[Name] = Field(default=[], max_length=20, description="paid on one of these, e.g. eip155:8453")
    region: str | None = Field(default=None, max_length=100, description="not in another region than this one")

    def constraints(self, **more: object) -> Constraints:
        """As the need of a search has them."""
        return Constraints.model_validate(
            {
                "min_reputation": self.min_reputation,
                "markets": tuple(self.market),
                "networks": tuple(self.network),
                "region": self.region,
                **more,
            }
        )


class OffersQuery(Limits):
    """What ``GET /offers`` takes."""

    model_config = ConfigDict(extra="ignore")

    need: str = Field(min_length=1, max_length=500, description="a capability such as pdf.extract, or words")
    strategy: Strategy = Field(default=Strategy.VALUE, description="how offers are ordered")
    limit: int = Field(default=20, ge=1, le=100)
    max_price: str | None = Field(default=None, max_length=80, description="decimal text in USDC")
    refresh: bool = False


class HireRequest(Limits):
    """Body of ``POST /hire``. The same `key` is the same hire: it is never paid twice.

    `seller` and `endpoint`, as a listing or an offer names them, pin whom and what to hire: nobody else is asked.
    """

    need: str = Field(min_length=1, max_length=500)
    input: dict[str, object] = Field(default_factory=dict)
    max_price: str = Field(description="decimal text in USDC")
    key: str = Field(default="", max_length=200)
    seller: str = Field(default="", max_length=200, description="the only seller to hire, e.g. evm:0x…")
    endpoint: str = Field(default="", max_length=2000, description="the only offer to hire, by its address")
    strategy: Strategy = Field(default=Strategy.VALUE, description="how offers are ordered before one is taken")
    policy: Policy = Field(default=Policy.BALANCED, description="how one is taken from the ordered offers")


class RatingRequest(BaseModel):
    """Body of ``POST /receipts/{id}/rating``."""

    model_config = ConfigDict(extra="forbid")

    rating: int = Field(ge=1, le=5)
    publish: bool = Field(default=False, description="also at the registry, signed by this node's wallet that paid")
    comment: str = Field(default="", max_length=500, description="for the registry, where everybody reads it")


def need_of(text: str, **fields: object) -> Need:
    """A dotted name is a capability, anything else is plain words."""
    named = re.fullmatch(CAPABILITY_NAME, text) is not None and "." in text
    return Need.model_validate({"capability": text if named else None, "text": "" if named else text, **fields})


async def _published(rater: RegistryRater | None, receipt: Receipt, body: RatingRequest) -> dict[str, object]:
    """Whether the registry has the stars, too, else why not: here they count all the same."""
    if rater is None:
        return {"published": False, "reason": "this node has no registry"}
    try:
        await rater.rate(receipt, body.rating, body.comment)
    except NexusError as error:
        return {"published": False, "reason": error.message}
    return {"published": True}


def hiring_routes(
    hiring: Hiring,
    budgets: PersonalBudgets,
    usdc: Asset,
    ids: Ids,
    *,
    prepaid: PrepaidHires | None = None,
    rater: RegistryRater | None = None,
) -> APIRouter:
    """``/offers``, ``/hire``, ``/receipts`` and ``/discovery`` below the prefix it is mounted at."""
    router = APIRouter(tags=["hiring"])
    _add_offers(router, hiring, usdc)
    _add_hire(router, hiring, budgets, usdc, ids, prepaid=prepaid)
    _add_receipts(router, hiring, rater)
    _add_discovery(router, hiring)
    return router


def _add_offers(router: APIRouter, hiring: Hiring, usdc: Asset) -> None:
    @router.get("/offers")
    async def offers(who: Who, wanted: Annotated[OffersQuery, Query()]) -> dict[str, object]:
        """Offers of every market for a need, best first, each with scores and reasons; and why others were left out."""
        limits = wanted.constraints(max_price=None if wanted.max_price is None else usdc.parse(wanted.max_price))
        need = need_of(wanted.need, strategy=wanted.strategy, constraints=limits)
        found = await hiring.search(need, refresh=wanted.refresh, user_id=who.user_id, limit=wanted.limit)
        return {
            "success": True,
            "data": [ranked.to_json() for ranked in found.answer.offers],
            "left_out": dict(found.answer.left_out),
            "missing": [{"market": market, "reason": reason} for market, reason in found.missing],
        }

    @router.get("/offers/compare")
    async def compare(who: Who, need: Text, minimum: Annotated[int, Query(ge=1, le=20)] = 3) -> dict[str, object]:
        """At least `minimum` offers side by side, and why others were left out; 404 when there are fewer."""
        found = await hiring.compare(need_of(need), minimum=minimum, user_id=who.user_id)
        offers = [ranked.to_json() for ranked in found.offers]
        return {"success": True, "data": {"offers": offers, "left_out": dict(found.left_out)}}

    @router.get("/offers/explain")
    async def explain(who: Who, need: Text, policy: Policy = Policy.BALANCED) -> dict[str, object]:
        """Which offer would be hired now, with every factor; null when there is none."""
        choice = await hiring.explain(need_of(need), user_id=who.user_id, policy=policy)
        return {"success": True, "data": choice.explain() if choice else None}


def _add_hire(
    router: APIRouter, hiring: Hiring, budgets: PersonalBudgets, usdc: Asset, ids: Ids, *, prepaid: PrepaidHires | None
) -> None:
    @router.post("/hire")
    async def hire(who: Who, body: HireRequest) -> dict[str, object]:
        """Hire the best seller; answers when the work is done, checked and paid, or has failed and is refunded."""
        most = usdc.parse(body.max_price)
        limits = body.constraints(max_price=most, sellers_allowed=(body.seller,) if body.seller else ())
        need = need_of(body.need, input=body.input, constraints=limits, strategy=body.strategy)
        budget = await budgets.current(who.user_id)
        key = f"api:{who.user_id}:{body.key or ids.new()}"
        user, only, policy = who.user_id, body.endpoint, body.policy
        if prepaid is not None:
            hired = await prepaid.hire(need, most, parent=budget.id, key=key, user_id=user, only=only, policy=policy)
        else:
            hired = await hiring.hire(need, budget_id=budget.id, key=key, user_id=user, only=only, policy=policy)
        return {
            "success": True,
            "data": {"key": key, "receipt": hired.receipt.model_dump(mode="json"), "output": hired.output},
        }


def _add_receipts(router: APIRouter, hiring: Hiring, rater: RegistryRater | None) -> None:
    @router.get("/receipts")
    async def receipts(who: Who, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> dict[str, object]:
        """Your receipts, newest first."""
        found = await hiring.receipts_of(who.user_id, limit)
        return {"success": True, "data": [receipt.model_dump(mode="json") for receipt in found]}

    @router.post("/receipts/{receipt_id}/rating")
    async def rate(who: Who, receipt_id: str, body: RatingRequest) -> dict[str, object]:
        """Stars for work that you paid for; rating again replaces. The registry takes one rating per payment."""
        await hiring.rate(receipt_id, who.user_id, body.rating)
        data: dict[str, object] = {"receipt": receipt_id, "rating": body.rating}
        if body.publish:
            data |= await _published(rater, await hiring.receipt(receipt_id), body)
        return {"success": True, "data": data}


def _add_discovery(router: APIRouter, hiring: Hiring) -> None:
    @router.get("/discovery")
    async def discovery(who: Who) -> dict[str, object]:
        """Health, success rate, time and cache hits of every market."""
        return {
            "success": True,
            "data": [asdict(source) | {"success_rate": source.success_rate} for source in hiring.statistics()],
        }
