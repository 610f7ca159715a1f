"""Compare offers and hire one seller directly, outside any workflow."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from agentnexus.core.money import Asset
from agentnexus.core.offers import CAPABILITY_NAME, Constraints, Need, Strategy
from agentnexus.core.ports import Ids
from agentnexus.hiring.hire import Hiring
from agentnexus.identity.caller import Caller, caller
from agentnexus.ledger.personal import PersonalBudgets

Who = Annotated[Caller, Depends(caller)]
Text = Annotated[str, Query(min_length=1, max_length=500, description="a capability such as pdf.extract, or words")]


class HireRequest(BaseModel):
    """Body of ``POST /hire``. The same `key` is the same hire: it is never paid twice."""

    model_config = ConfigDict(extra="forbid")

    need: str = Field(min_length=1, max_length=500)
    input: dict[str, object] = Field(default_factory=dict)
    max_price: str = Field(description="decimal text in USDC")
    key: str = Field(default="", max_length=200)


def need_of(text: str, **fields: object) -> Need:
    """A dotted name is a capability, anything else is plain words."""
    named = re.fullmatch(CAPABILITY_NAME, text) is not None and "." in text
    return Need.model_validate({"capability": text if named else None, "text": "" if named else text, **fields})


def hiring_routes(hiring: Hiring, budgets: PersonalBudgets, usdc: Asset, ids: Ids) -> APIRouter:
    """``/offers``, ``/hire`` and ``/discovery`` below the prefix it is mounted at."""
    router = APIRouter(tags=["hiring"])

    @router.get("/offers")
    async def offers(
        who: Who,
        need: Text,
        strategy: Strategy = Strategy.VALUE,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        refresh: bool = False,
    ) -> dict[str, object]:
        """Offers of every market for a need, best first, each with its scores and reasons."""
        found = await hiring.search(need_of(need, strategy=strategy), refresh=refresh, user_id=who.user_id, limit=limit)
        return {
            "success": True,
            "data": [ranked.to_json() for ranked in found.answer.offers],
            "missing": [{"market": market, "reason": reason} for market, reason in found.missing],
        }

    @router.post("/hire")
    async def hire(who: Who, body: HireRequest) -> dict[str, object]:
        """Hire the best seller; answers when the work is done, checked and paid, or has failed and is refunded."""
        need = need_of(body.need, input=body.input, constraints=Constraints(max_price=usdc.parse(body.max_price)))
        budget = await budgets.current(who.user_id)
        key = f"api:{who.user_id}:{body.key or ids.new()}"
        hired = await hiring.hire(need, budget_id=budget.id, key=key, user_id=who.user_id)
        return {
            "success": True,
            "data": {"key": key, "receipt": hired.receipt.model_dump(mode="json"), "output": hired.output},
        }

    @router.get("/discovery")
    async def discovery(who: Who) -> dict[str, object]:
        """Health, success rate, time and cache hits of every market."""
        return {
            "success": True,
            "data": [asdict(source) | {"success_rate": source.success_rate} for source in hiring.statistics()],
        }

    return router
