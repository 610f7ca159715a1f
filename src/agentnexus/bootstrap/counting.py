"""Hiring as workflows see it: every price in the asset that budgets are kept in, wherever the seller is paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agentnexus.core.money import Parity
from agentnexus.core.offers import Need, Offer, Price
from agentnexus.core.payments import Receipt
from agentnexus.hiring.hire import Hiring
from agentnexus.hiring.model import Hired, RankedOffer
from agentnexus.workflows.ports import OnUpdate


@dataclass(frozen=True, slots=True)
class CountedHiring:
    """Implements `workflows.ports.Hirer`. Plans add prices up; an offer's `rails` still say what is really paid."""

    hiring: Hiring
    parity: Parity

    async def offers(
        self, need: Need, *, refresh: bool = False, user_id: str = "", limit: int = 20
    ) -> Sequence[RankedOffer]:
        found = await self.hiring.offers(need, refresh=refresh, user_id=user_id, limit=limit)
        return [replace(ranked, offer=counted(ranked.offer, self.parity)) for ranked in found]

    async def hire(
        self,
        need: Need,
        *,
        budget_id: str,
        key: str,
        user_id: str,
        prefer: Sequence[str] = (),
        fallback: int = 3,
        on_update: OnUpdate | None = None,
        deadline_seconds: float | None = None,
        task: str = "",
        only: str = "",
    ) -> Hired:
        return await self.hiring.hire(
            need,
            budget_id=budget_id,
            key=key,
            user_id=user_id,
            prefer=prefer,
            fallback=fallback,
            on_update=on_update,
            deadline_seconds=deadline_seconds,
            task=task,
            only=only,
        )

    async def cancel(self, key: str, reason: str = "") -> Sequence[Receipt]:
        return await self.hiring.cancel(key, reason)

    async def receipts(self, key: str) -> Sequence[Receipt]:
        return await self.hiring.receipts(key)


def counted(offer: Offer, parity: Parity) -> Offer:
    """The offer with its price in the parity's unit; itself where it is already, or where nobody vouches for it."""
    price = offer.price
    per_job = parity.counted(price.per_job)
    if per_job.asset.caip19 == price.per_job.asset.caip19:
        return offer
    meters = tuple(each.model_copy(update={"unit_price": parity.counted(each.unit_price)}) for each in price.meters)
    return offer.model_copy(update={"price": Price(per_job=per_job, meters=meters)})
