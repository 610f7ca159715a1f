"""Economic metrics over HTTP: spent, earned, saved, by what it went to, and how budgets burn down. Yours, or all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from agentnexus.core.money import Money
from agentnexus.identity.caller import Caller, caller
from agentnexus.ledger.approvers import Approvers
from agentnexus.ledger.books import Books
from agentnexus.ledger.economics import Economics
from agentnexus.ledger.metrics import Scoped
from agentnexus.ledger.personal import PersonalBudgets

Who = Annotated[Caller, Depends(caller)]
Prices = Annotated[dict[str, str | None], Body(examples=[{"pdf.extract": "0.10", "text.summarize": None}])]


class Window(BaseModel):
    """The query's filters; times are ISO 8601 with their offset."""

    model_config = ConfigDict(extra="forbid")

    budget: str | None = Field(default=None, max_length=300)
    workflow: str | None = Field(default=None, max_length=200)
    seller: str | None = Field(default=None, max_length=300)
    capability: str | None = Field(default=None, max_length=300)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None

    @property
    def budget_id(self) -> str | None:
        return f"workflow:{self.workflow}" if self.workflow else self.budget


Filters = Annotated[Window, Query()]


def metrics_routes(books: Books, economics: Economics, approvers: Approvers, budgets: PersonalBudgets) -> APIRouter:
    """``/metrics/economy``, ``/metrics/burn-down`` and ``/metrics/prices`` below the prefix it is mounted at."""
    router = APIRouter(tags=["metrics"])

    async def scope_of(who: Caller, window: Window) -> Scoped:
        """What the caller may see: his own payments, or a budget of his; an operator everything."""
        if window.budget_id is not None:
            who.require_owner((await books.budgets.status(window.budget_id)).owner, "budget")
        return Scoped(
            economics.asset,
            budget_id=window.budget_id,
            owner=None if who.role == "operator" or window.budget_id else who.user_id,
            seller=window.seller,
            capability=window.capability,
            since=window.since,
            until=window.until,
        )

    @router.get("/metrics/economy")
    async def economy(who: Who, window: Filters) -> dict[str, object]:
        """Spent, earned, net, count, average, fees, savings; by capability, seller, rail and day."""
        scope = await scope_of(who, window)
        narrowed = window.budget_id or window.seller or window.capability
        earning = [] if narrowed else await earning_accounts(approvers, who.user_id)
        return _data((await economics.report(scope, who.user_id, earning)).to_json())

    @router.get("/metrics/burn-down")
    async def burn_down(who: Who, window: Filters) -> dict[str, object]:
        """What each day took from a budget, by default your own, and what was left at its end."""
        budget_id = window.budget_id or (await budgets.current(who.user_id)).id
        scope = await scope_of(who, window.model_copy(update={"budget": budget_id}))
        points = await economics.metrics.burn_down(budget_id, scope)
        return _data(
            [
                {
                    "day": point.day,
                    "spent": point.spent.to_json(),
                    "spent_so_far": point.spent_so_far.to_json(),
                    "left": None if point.left is None else point.left.to_json(),
                }
                for point in points
            ]
        )

    _add_prices(router, economics)
    return router


def _add_prices(router: APIRouter, economics: Economics) -> None:
    @router.get("/metrics/prices")
    async def prices(who: Who) -> dict[str, object]:
        """What a call of each capability costs at the hosted service that you compare with."""
        return _data(_prices(await economics.prices(who.user_id)))

    @router.patch("/metrics/prices")
    async def set_prices(who: Who, changes: Prices) -> dict[str, object]:
        """Set or (with null) forget prices; decimal text."""
        return _data(_prices(await economics.set_prices(who.user_id, changes)))


async def earning_accounts(approvers: Approvers, owner: str) -> list[str]:
    """The accounts that a person's own wallets are paid to on this node."""
    return [f"seller:{each.wallet}" for each in await approvers.of(owner)]


def _prices(prices: Mapping[str, Money]) -> dict[str, object]:
    return {name: price.to_json() for name, price in prices.items()}


def _data(value: object) -> dict[str, object]:
    return {"success": True, "data": value}
