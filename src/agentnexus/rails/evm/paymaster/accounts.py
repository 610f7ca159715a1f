"""The paymaster in the ledger: its deposit's account, where gas goes, and the budgets of its policies and users."""

from __future__ import annotations

from dataclasses import dataclass

from agentnexus.core.errors import Conflict
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.paymaster.policy import SponsorPolicy

OWNER = "paymaster"


@dataclass(frozen=True, slots=True)
class GasAccounts:
    """Names of one paymaster in the books, and its budgets."""

    books: Books
    network: Network
    paymaster: str

    @property
    def coin(self) -> Asset:
        return self.network.native

    @property
    def deposit(self) -> str:
        """What EntryPoint holds for the paymaster."""
        return f"paymaster:{self.network.caip2}:{self.paymaster}"

    @property
    def gas(self) -> str:
        """Where spent gas is booked."""
        return f"gas:{self.network.caip2}"

    def key(self, user_operation_hash: str) -> str:
        """Of the reservation for an operation."""
        return f"paymaster:{self.network.caip2}:{user_operation_hash}"

    def money(self, wei: int) -> Money:
        return Money(self.coin, wei)

    def budget_ids(self, policy: SponsorPolicy, user_id: str, *, newcomer: bool) -> dict[str, str]:
        """Budgets that a promise to this user counts in, from the widest to their own, by whose they are."""
        base = f"paymaster:{self.network.caip2}:{self.paymaster}:{policy.id}"
        if not newcomer or policy.newcomers_per_day is None:
            return {"everybody": base, "you": f"{base}:user:{user_id}"}
        return {"everybody": base, "newcomers": f"{base}:newcomers", "you": f"{base}:newcomers:user:{user_id}"}

    async def budget(self, policy: SponsorPolicy, user_id: str, *, newcomer: bool) -> str:
        """The user's budget under the policy, made or changed to what the policy says now; its id."""
        ids = self.budget_ids(policy, user_id, newcomer=newcomer)
        limits = {
            "everybody": policy.limits(self.coin),
            "newcomers": policy.newcomers_limits(self.coin) or Limits(),
            "you": policy.user_limits(self.coin),
        }
        above: str | None = None
        for whose, budget_id in ids.items():
            await self._ensure(budget_id, above, limits[whose])
            above = budget_id
        return ids["you"]

    async def _ensure(self, budget_id: str, parent: str | None, limits: Limits) -> None:
        try:
            await self.books.budgets.create(budget_id, parent=parent, owner=OWNER, asset=self.coin, limits=limits)
        except Conflict:
            await self.books.budgets.change(budget_id, limits)
