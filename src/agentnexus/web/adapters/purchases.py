"""`PurchasesDoor` over purchases and entitlements; `NoPurchases` where our contracts are not deployed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agentnexus.core.errors import Unavailable
from agentnexus.web.adapters.wallet import NOT_DEPLOYED
from agentnexus.web.views.agents import AgentView
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.purchases import BuyPage, EntitlementsPage, Owned, PurchaseView, UseView
from agentnexus.web.views.signing import Signed


class NoPurchases:
    """Says what is missing."""

    async def terms(self, user_id: str, agent: AgentView, quantity: int) -> BuyPage:
        return BuyPage(quantity, agent.price, "", fee="", gas="", obstacle=problem_of(nothing_sold()))

    async def buy(self, user_id: str, agent_id: str, quantity: int, key: str) -> str:
        raise nothing_sold()

    async def purchase(self, user_id: str, purchase_id: str) -> PurchaseView:
        raise nothing_sold()

    async def follow(self, user_id: str, purchase_id: str) -> AsyncIterator[PurchaseView]:
        """The same refusal."""
        yield await self.purchase(user_id, purchase_id)

    async def sign(self, user_id: str, purchase_id: str, signed: Signed) -> None:
        raise nothing_sold()

    async def refund(self, user_id: str, purchase_id: str) -> None:
        raise nothing_sold()

    async def entitlements(self, user_id: str, before: str = "") -> EntitlementsPage:
        return EntitlementsPage(missing=problem_of(nothing_sold()))

    async def owned(self, user_id: str, agent_id: str) -> Owned:
        return Owned()

    async def run(self, user_id: str, agent_id: str, value: dict[str, object], key: str) -> str:
        raise nothing_sold()

    async def use(self, user_id: str, use_id: str) -> UseView:
        raise nothing_sold()

    async def follow_use(self, user_id: str, use_id: str) -> AsyncIterator[UseView]:
        """The same refusal."""
        yield await self.use(user_id, use_id)

    async def use_result(self, user_id: str, use_id: str) -> object:
        raise nothing_sold()


def nothing_sold() -> Unavailable:
    """What every part of it says."""
    return Unavailable("this node has no contracts on its network, so it sells no runs there", next_step=NOT_DEPLOYED)
