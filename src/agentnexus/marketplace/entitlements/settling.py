"""What follows from the end of a run on the chain: its seller is paid and its token burnt, or its money goes back."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from agentnexus.core.errors import Conflict, Unavailable
from agentnexus.marketplace.entitlements.model import Use, UseState
from agentnexus.marketplace.purchases.kinds import Kind
from agentnexus.marketplace.purchases.market import Market
from agentnexus.marketplace.purchases.model import Purchase, PurchaseState
from agentnexus.marketplace.purchases.service import Purchases
from agentnexus.rails.evm.contracts import ContractRefused, DealStatus


@dataclass(frozen=True, slots=True)
class Settling:
    """Every part of it once, however often it is asked and whoever asks."""

    purchases: Purchases

    @property
    def market(self) -> Market:
        return self.purchases.acts.market

    async def settle(self, use: Use, purchase: Purchase) -> str:
        """The transaction that paid the seller; "" when there was none to pay."""
        if use.state is UseState.COMPLETED:
            return await self._pay(use, purchase)
        await self._give_back_single(use, purchase)
        return ""

    async def _give_back_single(self, use: Use, purchase: Purchase) -> None:
        """Whoever bought one run and got nothing for it has the money back."""
        single = purchase.kind is Kind.RUNS and purchase.quantity == 1 and purchase.user_id == use.user_id
        if single and purchase.state is PurchaseState.COMPLETED:
            with contextlib.suppress(Conflict):  # another try of it runs already
                await self.purchases.refund(use.user_id, purchase.id, "its run failed")

    async def _pay(self, use: Use, purchase: Purchase) -> str:
        """Of a period the first run pays the whole; of bought runs each its price, and a token is burnt.

        Nobody can be paid when the deal has ended otherwise.
        """
        transaction = ""
        (seen,) = await self.market.seen([purchase])
        if seen.status is DealStatus.NONE and purchase.state is not PurchaseState.FAILED:
            raise Unavailable("its deal is not on the chain now", next_step="wait: a dropped block comes again")
        runs = purchase.kind is Kind.RUNS
        if seen.status is DealStatus.OPEN or (runs and await self.market.was_sent(f"{use.id}:release")):
            # Buyers may release a part by themselves: what is left is less than a price then.
            amount = min(purchase.price.atomic, seen.remaining)
            transaction = await self._release(use.id if runs else purchase.id, purchase, amount)
        if runs:
            await self._burn(use, purchase)
        return transaction

    async def _release(self, paid_by: str, purchase: Purchase, amount: int) -> str:
        try:
            return await self.market.release(purchase, paid_by, amount)
        except ContractRefused:
            (seen,) = await self.market.seen([purchase])
            if seen.status is DealStatus.OPEN:
                raise
            return ""

    async def _burn(self, use: Use, purchase: Purchase) -> None:
        """Take one token back; holders may have burnt it or passed it on by themselves."""
        holder, token = use.wallet, purchase.token_id
        if not await self.market.balance(holder, token) and not await self.market.was_sent(f"{use.id}:revoke"):
            return
        try:
            await self.market.revoke(purchase, f"{use.id}:revoke", 1, holder=holder)
        except ContractRefused:
            if await self.market.balance(holder, token):
                raise
