"""From a need to ranked offers: gather from all markets, index, search. An index lives as long as its shelves."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from agentnexus.core.errors import NoOffer
from agentnexus.core.offers import Need
from agentnexus.core.ports import Clock
from agentnexus.hiring.cache import Shelf
from agentnexus.hiring.gather import Gathered, Gatherer
from agentnexus.hiring.match import Buyer
from agentnexus.hiring.model import Comparison, Rates, SellerRecord
from agentnexus.hiring.schemas import Schemas
from agentnexus.hiring.search import Answer, OfferIndex
from agentnexus.hiring.statistics import SellerRecords

INDEXES_MAX = 64
IN_THREAD_FROM = 500
INDEX_SECONDS_MAX = 60.0
ADVICE = {
    "price": "raise the price limit",
    "input": "change the input to what the seller's schema asks for",
    "network": "set up a wallet on the seller's network",
    "reputation": "lower the reputation asked for",
    "seller": "allow more sellers",
    "market": "allow more markets",
    "deadline": "allow more time",
    "rate": "set a USD rate for the asset it is sold in",
    "insecure": "allow plain-text endpoints, if you trust that network",
    "attestation": "ask for a lower attestation level",
    "expired": "look again: the offers were old",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, and which markets did not answer."""

    answer: Answer
    missing: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Kept:
    shelves: tuple[Shelf, ...]
    records: Mapping[str, SellerRecord]
    index: OfferIndex
    made_at: float


class Shop:
    """Offers of all markets for a need, best first."""

    def __init__(
        self,
        gatherer: Gatherer,
        records: SellerRecords,
        rates: Rates,
        *,
        clock: Clock,
        schemas: Schemas,
        markets_seconds: float | None = None,
    ) -> None:
        self.gatherer = gatherer
        self.schemas = schemas
        self.records = records
        self.rates = rates
        self._clock = clock
        self._answer_seconds = markets_seconds
        self._kept: OrderedDict[tuple[str, tuple[str, ...]], _Kept] = OrderedDict()

    async def search(self, need: Need, buyer: Buyer, *, limit: int = 20, refresh: bool = False) -> Found:
        """By capability, else by words over everything on sale, else by asking the markets with the words."""
        question = Need(capability=need.capability, constraints=need.constraints)
        found = await self._search(question, need, buyer, limit=limit, refresh=refresh)
        if found.answer.considered == 0 and need.capability is None and need.text:
            asked = await self._search(
                question.model_copy(update={"text": need.text}), need, buyer, limit=limit, refresh=refresh
            )
            if asked.answer.considered:
                return asked
        return found

    async def _search(self, question: Need, need: Need, buyer: Buyer, *, limit: int, refresh: bool) -> Found:
        gathered = await self.gatherer.gather(question, refresh=refresh, answer_seconds=self._answer_seconds)
        index = await self._index(question, gathered)
        answer = index.search(need, now=self._clock.now(), buyer=buyer, limit=limit)
        return Found(answer, gathered.missing)

    async def _index(self, question: Need, gathered: Gathered) -> OfferIndex:
        records = await self.records.snapshot()
        key = (question.capability or question.text, question.constraints.markets)
        kept = self._kept.get(key)
        if (
            kept is not None
            and not gathered.partial
            and kept.shelves == gathered.shelves  # by identity: the cache gave the very same shelves
            and kept.records is records
            and self._clock.monotonic() - kept.made_at < INDEX_SECONDS_MAX
        ):
            return kept.index
        index = await self._make(gathered, records)
        if not gathered.partial:
            self._kept[key] = _Kept(gathered.shelves, records, index, self._clock.monotonic())
            self._kept.move_to_end(key)
            if len(self._kept) > INDEXES_MAX:
                self._kept.popitem(last=False)
        return index

    async def _make(self, gathered: Gathered, records: Mapping[str, SellerRecord]) -> OfferIndex:
        def build() -> OfferIndex:
            return OfferIndex(
                gathered.offers(), rates=self.rates, now=self._clock.now(), records=records, schemas=self.schemas
            )

        many = sum(len(shelf.offers) for shelf in gathered.shelves) >= IN_THREAD_FROM
        return await asyncio.to_thread(build) if many else build()

    async def capabilities(self, text: str, limit: int = 5) -> list[tuple[str, float]]:
        """Capability names on sale that fit a text, best first."""
        question = Need()
        index = await self._index(question, await self.gatherer.gather(question, answer_seconds=self._answer_seconds))
        return index.capabilities(text, limit)

    async def compare(self, need: Need, buyer: Buyer, minimum: int) -> Comparison:
        """At least `minimum` offers side by side; raises `NoOffer` naming how many there are."""
        found = await self.search(need, buyer, limit=max(minimum, 20))
        if len(found.answer.offers) < minimum:
            raise no_offer(need, found, wanted=minimum)
        return Comparison(found.answer.offers, found.answer.left_out)


def no_offer(need: Need, found: Found, wanted: int = 1) -> NoOffer:
    """Why nobody can do it: what came near, what stood in the way, and what to change."""
    answer = found.answer
    what = need.capability or f"“{need.text[:80]}”"
    has = len(answer.offers)
    if wanted > 1:
        message = f"{has} offers for {what}, {wanted} were asked for"
    elif answer.considered == 0:
        message = f"nobody sells {what}"
    else:
        message = f"{answer.considered} offers for {what}, none within the constraints"
    rules = sorted(answer.left_out, key=lambda rule: -answer.left_out[rule])
    advice = [ADVICE[rule] for rule in rules if rule in ADVICE][:2]
    if found.missing:
        advice.append(f"try again when {', '.join(name for name, _ in found.missing)} answers")
    if not advice:
        advice.append("describe it in other words, or list what is on sale with `nexus agents list`")
    return NoOffer(
        message,
        next_step=", or ".join(advice),
        considered=answer.considered,
        left_out=dict(answer.left_out),
        near_misses=[miss.to_json() for miss in answer.near_misses],
        missing_markets=dict(found.missing),
    )
