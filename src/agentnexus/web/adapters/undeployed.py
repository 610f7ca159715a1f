"""What the wallet's and the purchases' pages say where our contracts are not deployed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Final

from agentnexus.core.errors import Unavailable
from agentnexus.web.views.agents import AgentView
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.purchases import (
    BuyPage,
    EntitlementsPage,
    Order,
    Owned,
    Passing,
    PassingPage,
    PurchaseView,
    UseView,
)
from agentnexus.web.views.signing import Signed
from agentnexus.web.views.wallet import OperationView, SendTyped, WalletPage

NEXT_STEP: Final = "its operator runs nexus contracts deploy and restarts the node"


class NoWallets:
    """Says what is missing."""

    async def page(self, user_id: str, before: str = "") -> WalletPage:
        return WalletPage(missing=problem_of(_no_wallets()))

    async def create(self, user_id: str, kind: str, *, credential_id: str = "", address: str = "") -> None:
        raise _no_wallets()

    async def send(self, user_id: str, typed: SendTyped) -> str:
        raise _no_wallets()

    async def signed_here(self, user_id: str) -> bool:
        return False

    async def set_guardian(self, user_id: str, guardian: str, days: str, key: str) -> str:
        raise _no_wallets()

    async def allow_gas(self, user_id: str, amount: str, key: str) -> str:
        raise _no_wallets()

    async def cancel_recovery(self, user_id: str, key: str) -> str:
        raise _no_wallets()

    async def operation(self, user_id: str, operation_id: str) -> OperationView:
        raise _no_wallets()

    async def follow(self, user_id: str, operation_id: str) -> AsyncIterator[OperationView]:
        """The same refusal."""
        yield await self.operation(user_id, operation_id)

    async def sign(self, user_id: str, operation_id: str, signed: Signed) -> None:
        raise _no_wallets()

    async def discard(self, user_id: str, operation_id: str) -> None:
        raise _no_wallets()

    async def export(self, user_id: str) -> str:
        raise _no_wallets()


class NoPurchases:
    """Says what is missing."""

    async def terms(self, user_id: str, agent: AgentView, order: Order) -> BuyPage:
        return BuyPage(order, agent.price, "", fee="", gas="", obstacle=problem_of(_no_sales()), sold=False)

    async def buy(self, user_id: str, agent_id: str, order: Order, key: str, at_most: Decimal | None = None) -> str:
        raise _no_sales()

    async def purchase(self, user_id: str, purchase_id: str) -> PurchaseView:
        raise _no_sales()

    async def follow(self, user_id: str, purchase_id: str) -> AsyncIterator[PurchaseView]:
        """The same refusal."""
        yield await self.purchase(user_id, purchase_id)

    async def sign(self, user_id: str, purchase_id: str, signed: Signed) -> None:
        raise _no_sales()

    async def refund(self, user_id: str, purchase_id: str) -> None:
        raise _no_sales()

    async def entitlements(self, user_id: str, before: str = "") -> EntitlementsPage:
        return EntitlementsPage(missing=problem_of(_no_sales()))

    async def passing(self, user_id: str, agent_id: str, passing: Passing) -> PassingPage:
        raise _no_sales()

    async def pass_on(self, user_id: str, agent_id: str, passing: Passing) -> str:
        raise _no_sales()

    async def owned(self, user_id: str, agent_id: str) -> Owned:
        return Owned()

    async def run(self, user_id: str, agent_id: str, value: dict[str, object], key: str) -> str:
        raise _no_sales()

    async def use(self, user_id: str, use_id: str) -> UseView:
        raise _no_sales()

    async def follow_use(self, user_id: str, use_id: str) -> AsyncIterator[UseView]:
        """The same refusal."""
        yield await self.use(user_id, use_id)

    async def use_input(self, user_id: str, use_id: str) -> object:
        raise _no_sales()

    async def use_result(self, user_id: str, use_id: str) -> object:
        raise _no_sales()


def _no_wallets() -> Unavailable:
    return Unavailable("this node has no contracts on its network, so it keeps no wallets", next_step=NEXT_STEP)


def _no_sales() -> Unavailable:
    return Unavailable("this node has no contracts on its network, so it sells no runs there", next_step=NEXT_STEP)
