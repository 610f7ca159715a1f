"""Budget, wallet and receipts of the caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Body, Depends

from agentnexus.core.money import Asset, Money
from agentnexus.identity.caller import Caller, caller
from agentnexus.ledger.books import Books
from agentnexus.ledger.budgets import BudgetStatus
from agentnexus.ledger.personal import CHANGEABLE, PersonalBudgets

Who = Annotated[Caller, Depends(caller)]
Changes = Annotated[dict[str, str | None], Body(examples=[{"per_day": "5", "total": None}])]


@dataclass(frozen=True, slots=True)
class WalletView:
    """The node's wallet as the API shows it."""

    network: str
    address: str
    account: str
    asset: Asset
    on_chain: Callable[[], Awaitable[Money]]


def money_routes(books: Books, budgets: PersonalBudgets, wallet: WalletView) -> APIRouter:
    """``/budget`` and ``/wallet`` below the prefix it is mounted at."""
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
        """Address and balances, on chain and in the books."""
        balance = await books.balance(wallet.account, wallet.asset)
        return _data(
            {
                "network": wallet.network,
                "address": wallet.address,
                "on_chain": (await wallet.on_chain()).to_json(),
                "posted": balance.posted.to_json(),
                "reserved": balance.reserved.to_json(),
            }
        )

    return router


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
