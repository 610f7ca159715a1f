"""Hiring as workflows see it: prices in the asset that budgets are kept in, and what paying costs on each network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from agentnexus.core.errors import NexusError
from agentnexus.core.money import Money, Parity
from agentnexus.core.offers import Need, Offer, Price
from agentnexus.core.payments import PaymentRequest, PayMode, Receipt
from agentnexus.core.ports import Clock
from agentnexus.hiring.hire import Hiring
from agentnexus.hiring.model import Hired, RankedOffer
from agentnexus.workflows.ports import OnUpdate

FEES_LIFE = timedelta(minutes=1)  # gas prices move with every block; an estimate need not


@dataclass(frozen=True, slots=True)
class CountedHiring:
    """Implements `workflows.ports.Hirer`. Plans add prices up; an offer's `rails` still say what is really paid."""

    hiring: Hiring
    parity: Parity
    clock: Clock
    _fees: dict[str, tuple[Money, datetime]] = field(default_factory=dict)

    async def offers(
        self, need: Need, *, refresh: bool = False, user_id: str = "", limit: int = 20
    ) -> Sequence[RankedOffer]:
        found = await self.hiring.offers(need, refresh=refresh, user_id=user_id, limit=limit)
        await self._learn_fees([ranked.offer for ranked in found])
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

    def fee(self, offer: Offer) -> Money | None:
        """What paying it costs us on top, in the network's own asset or the price's; None while nobody knows."""
        known = self._fees.get(network_of(offer))
        return None if known is None else known[0]

    async def _learn_fees(self, offers: Sequence[Offer]) -> None:
        """Each network's fee is asked of its rail once a minute; one that does not answer says nothing."""
        now = self.clock.now()
        for offer in offers:
            network = network_of(offer)
            if network in self._fees and now < self._fees[network][1]:
                continue
            asset = offer.price.maximum.asset
            wallet = self.hiring.cashier.wallet_for(asset)
            if wallet is None or asset.network != network:
                continue
            try:
                fee = await wallet.rail.fee(_payment_of(offer, wallet.rail.name))
            except NexusError:
                self._fees.pop(network, None)
            else:
                self._fees[network] = fee, now + FEES_LIFE


def network_of(offer: Offer) -> str:
    """Where an offer is paid: on its first rail's network, or where its price is kept."""
    stated = (str(rail["network"]) for rail in offer.rails if rail.get("network"))
    return next(stated, offer.price.per_job.asset.network)


def _payment_of(offer: Offer, rail: str) -> PaymentRequest:
    """The payment as x402 asks for it: a signature, whose collector pays for the transaction."""
    terms = offer.rails[0] if offer.rails else {}
    return PaymentRequest(
        rail=rail,
        amount=offer.price.maximum,
        payee=str(terms.get("payTo") or offer.seller.key),
        mode=PayMode.AUTHORIZE,
        reference=dict(terms),
        binding=f"fee:{offer.id}",
    )


def counted(offer: Offer, parity: Parity) -> Offer:
    """The offer with its price in the parity's unit; itself where it is already, or where nobody vouches for it."""
    price = offer.price
    per_job = parity.counted(price.per_job)
    if per_job.asset.caip19 == price.per_job.asset.caip19:
        return offer
    meters = tuple(each.model_copy(update={"unit_price": parity.counted(each.unit_price)}) for each in price.meters)
    return offer.model_copy(update={"price": Price(per_job=per_job, meters=meters)})
