"""Budget, wallet and receipts of the caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Body, Depends
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.identity.caller import Caller, caller
from agentnexus.ledger.books import Books
from agentnexus.ledger.budgets import BudgetStatus
from agentnexus.ledger.personal import CHANGEABLE, PersonalBudgets

Who = Annotated[Caller, Depends(caller)]
Changes = Annotated[dict[str, str | None], Body(examples=[{"per_day": "5", "total": None}])]


class PartBody(BaseModel):
    """`limits` are decimal text by name; `sellers` and `capabilities` name the only ones, when given."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=63)
    parent: str = Field(default="", max_length=300)
    limits: dict[str, str] = Field(default_factory=dict)
    sellers: list[str] | None = Field(default=None, max_length=1000)
    capabilities: list[str] | None = Field(default=None, max_length=1000)
    expires_at: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class WalletView:
    """A wallet of the node as the API shows it."""

    network: str
    address: str
    account: str
    asset: Asset
    on_chain: Callable[[], Awaitable[Money]]


def money_routes(
    books: Books, budgets: PersonalBudgets, wallet: WalletView, others: Sequence[WalletView] = ()
) -> APIRouter:
    """``/budget`` and ``/wallet`` below the prefix it is mounted at; `others` are wallets on further networks."""
    router = APIRouter(tags=["money"])

    @router.get("/budget")
    async def show_budget(who: Who) -> dict[str, object]:
        """Limits, spent, reserved and what is left."""
        return _data(_budget(await budgets.current(who.user_id)))

    @router.patch("/budget")
    async def change_budget(who: Who, changes: Changes) -> dict[str, object]:
        """Set or (with null) lift limits; amounts are decimal text in USDC."""
        return _data(_budget(await budgets.change(who.user_id, changes)))

    @router.get("/wallet")
    async def show_wallet(who: Who) -> dict[str, object]:
        """Address and balances, on chain and in the books; those on other networks below ``others``."""
        first = await _wallet(books, wallet, await wallet.on_chain())
        return _data(first | {"others": [await _wallet(books, each, await _seen(each)) for each in others]})

    _add_parts(router, budgets)
    return router


def _add_parts(router: APIRouter, budgets: PersonalBudgets) -> None:
    @router.get("/budgets")
    async def list_budgets(who: Who) -> dict[str, object]:
        """Yours and everything cut from it except tasks, parents before children."""
        return _data([status.to_json() for status in await budgets.tree(who.user_id)])

    @router.post("/budgets", status_code=201)
    async def add_budget(who: Who, body: PartBody) -> dict[str, object]:
        """Cut a part off your budget, for an agent or a project; what it spends counts in both."""
        made = await budgets.add(
            who.user_id, body.name, body.limits, parent=body.parent, sellers=body.sellers,
            capabilities=body.capabilities, expires_at=body.expires_at,
        )  # fmt: skip
        return _data(made.to_json())

    @router.patch("/budgets/{budget_id:path}")
    async def change_part(who: Who, budget_id: str, changes: Changes) -> dict[str, object]:
        """Set or (with null) lift limits of one of your budgets."""
        return _data((await budgets.change(who.user_id, changes, budget_id)).to_json())

    @router.delete("/budgets/{budget_id:path}")
    async def close_part(who: Who, budget_id: str) -> dict[str, object]:
        """Nothing more is spent from it."""
        return _data((await budgets.close(who.user_id, budget_id)).to_json())


async def _seen(wallet: WalletView) -> Money | None:
    """None while that chain does not answer: the other wallets are worth showing without it."""
    try:
        return await wallet.on_chain()
    except Unavailable:
        return None


async def _wallet(books: Books, wallet: WalletView, on_chain: Money | None) -> dict[str, object]:
    balance = await books.balance(wallet.account, wallet.asset)
    return {
        "network": wallet.network,
        "address": wallet.address,
        "on_chain": None if on_chain is None else on_chain.to_json(),
        "posted": balance.posted.to_json(),
        "reserved": balance.reserved.to_json(),
    }


def _data(value: object) -> dict[str, object]:
    return {"success": True, "data": value}


def _budget(status: BudgetStatus) -> dict[str, object]:
    limits = {name: getattr(status.limits, name) for name in CHANGEABLE}
    return {
        "id": status.id,
        "spent": status.spent.to_json(),
        "reserved": status.reserved.to_json(),
        "limits": {
            name: {
                "limit": limit.to_json() if limit is not None else None,
                "left": status.left[name].to_json() if name in status.left else None,
            }
            for name, limit in limits.items()
        },
    }
