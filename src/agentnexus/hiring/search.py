"""An index over everything on sale: which offers serve a need, best first. 10,000 offers in a few milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from agentnexus.core.offers import Need, Offer, Strategy
from agentnexus.hiring import rank
from agentnexus.hiring.match import Buyer, Refusal, input_refusal, price_refusal, refusals
from agentnexus.hiring.model import RankedOffer, Rates, SellerRecord
from agentnexus.hiring.schemas import Schemas
from agentnexus.hiring.text import TextIndex, tokens

COVERAGE_MIN = 0.25
SAME_MEANING = 0.9
CLOSE_ENOUGH = 0.5
NEAR_MISSES_MAX = 5
LOOKED_AT_MAX = 500
SORTED_FIRST = 4
DESCRIPTION_CHARACTERS = 1_000

Numbers = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class NearMiss:
    """An offer that almost served, with what stood in the way."""

    offer: Offer
    refusal: Refusal

    def to_json(self) -> dict[str, object]:
        return {
            "seller": self.offer.seller.name or self.offer.seller.key,
            "capability": self.offer.capability.name,
            "price": str(self.offer.price.maximum),
            "rule": self.refusal.rule,
            "reason": self.refusal.message,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """Offers that serve, best first; how many others each rule left out, and the nearest of those."""

    offers: tuple[RankedOffer, ...]
    considered: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    near_misses: tuple[NearMiss, ...] = ()


@dataclass(frozen=True, slots=True)
class _Scored:
    """The offers of one search with their scores."""

    columns: rank.Columns
    parts: rank.Parts
    strategy: Strategy


def describe(offer: Offer) -> list[str]:
    """The words by which an offer is found: its capability and tags count twice."""
    capability = offer.capability
    strong = f"{capability.name} {capability.title} {' '.join(capability.tags)}"
    weak = f"{capability.description[:DESCRIPTION_CHARACTERS]} {offer.description[:DESCRIPTION_CHARACTERS]}"
    return tokens(f"{strong} {strong} {offer.title} {weak}")


class OfferIndex:
    """A fixed list of offers with everything that ranking needs kept as columns.

    Args:
        records: verified outcomes by seller key.
        rates: an offer whose price has no USD rate is never chosen.
    """

    def __init__(
        self,
        offers: Sequence[Offer],
        *,
        rates: Rates,
        now: datetime,
        records: Mapping[str, SellerRecord] | None = None,
        schemas: Schemas | None = None,
    ) -> None:
        self.offers = tuple(offers)
        self._rates = rates
        self._records = dict(records or {})
        self._schemas = schemas or Schemas()
        self._sellers = [offer.seller.key for offer in self.offers]
        self._prices = [rates.usd(offer.price.maximum, now) for offer in self.offers]
        self._columns = self._make_columns(now)
        self._priced = ~np.isnan(self._columns.price_usd)
        names = sorted({offer.capability.name for offer in self.offers})
        self._codes = {name: code for code, name in enumerate(names)}
        self._capability = np.array([self._codes[offer.capability.name] for offer in self.offers], np.intp)
        self._by_seller: dict[str, list[int]] = {}
        for number, seller in enumerate(self._sellers):
            self._by_seller.setdefault(seller, []).append(number)
        self._text: TextIndex | None = None

    def _make_columns(self, now: datetime) -> rank.Columns:
        def column(values: Iterable[float | None]) -> rank.Column:
            return np.array([np.nan if value is None else value for value in values], np.float64)

        records = [self._records.get(seller) or SellerRecord(seller) for seller in self._sellers]
        pairs = list(zip(self.offers, records, strict=True))
        return rank.Columns(
            price_usd=column(None if price is None else float(price) for price in self._prices),
            reputation=column(
                record.reputation(offer.reputation.score, offer.reputation.count) for offer, record in pairs
            ),
            latency_ms=column(
                offer.latency_ms if record.latency_seconds is None else record.latency_seconds * 1000
                for offer, record in pairs
            ),
            success=column(
                offer.success_rate if record.success_rate is None else record.success_rate for offer, record in pairs
            ),
            stake_usd=column(self._stake_usd(offer, now) for offer in self.offers),
        )

    def _stake_usd(self, offer: Offer, now: datetime) -> float | None:
        value = None if offer.stake is None else self._rates.usd(offer.stake, now)
        return None if value is None else float(value)

    def prepare_text(self) -> None:
        """Index the words now (a second per 10,000 offers) instead of at the first question in words."""
        if self._text is None:
            self._text = TextIndex([describe(offer) for offer in self.offers])

    def capabilities(self, text: str, limit: int = 5) -> list[tuple[str, float]]:
        """Capability names that fit a text, best first, with their BM25 scores."""
        best = self._capability_scores(tokens(text))
        ordered = sorted(
            ((score, name) for name, score in best.items() if score > 0), key=lambda pair: (-pair[0], pair[1])
        )
        return [(name, score) for score, name in ordered[:limit]]

    def _capability_scores(self, query: Sequence[str]) -> dict[str, float]:
        self.prepare_text()
        if self._text is None or not self.offers:
            return {}
        best = np.zeros(len(self._codes))
        np.maximum.at(best, self._capability, self._text.scores(query))
        return {name: float(best[code]) for name, code in self._codes.items()}

    def candidates(self, need: Need) -> Numbers:
        """Numbers of offers that do what is needed, whatever their price or seller."""
        if need.capability is not None:
            code = self._codes.get(need.capability)
            return np.flatnonzero(self._capability == code) if code is not None else np.empty(0, np.intp)
        query = tokens(need.text)
        if not query:
            return np.arange(len(self.offers))
        return self._by_text(query)

    def _by_text(self, query: Sequence[str]) -> Numbers:
        nothing = np.empty(0, np.intp)
        self.prepare_text()
        if self._text is None or not self.offers:
            return nothing
        scores = self._text.scores(query)
        winner = int(np.argmax(scores))
        top = scores[winner]
        if top <= 0 or self._text.coverage(query, winner) < COVERAGE_MIN:
            return nothing
        best = np.zeros(len(self._codes))
        np.maximum.at(best, self._capability, scores)
        meant = best[self._capability] >= SAME_MEANING * top
        return np.flatnonzero(meant & (scores >= CLOSE_ENOUGH * top))

    def search(self, need: Need, *, now: datetime, buyer: Buyer | None = None, limit: int = 20) -> Answer:
        """The best `limit` offers for a need; what was left out is only worked out when fewer are found."""
        buyer = buyer or Buyer()
        numbers = self.candidates(need)
        chosen = numbers[self._may_serve(need, numbers, now)]
        columns = self._columns.take(chosen)
        table = _Scored(columns, rank.parts(columns), need.strategy)
        found: list[RankedOffer] = []
        for place in self._walk(chosen, table, buyer, limit):
            number = int(chosen[place])
            if self._refusal(need, number, buyer, now) is None:
                found.append(self._ranked(number, place, table, buyer))
                if len(found) >= limit:
                    break
        if len(found) >= limit:
            return Answer(tuple(found), len(numbers))
        left_out, near = self._left_out(need, numbers, buyer, now)
        return Answer(tuple(found), len(numbers), left_out, near)

    def _may_serve(self, need: Need, numbers: Numbers, now: datetime) -> NDArray[np.bool_]:
        """A quick look with whole columns; never stricter than the exact rules."""
        mask: NDArray[np.bool_] = self._priced[numbers]
        limits = need.constraints
        if limits.min_reputation is not None:
            mask = mask & (self._columns.reputation[numbers] >= limits.min_reputation)
        if limits.max_price is not None and (limit := self._rates.usd(limits.max_price, now)) is not None:
            mask = mask & (self._columns.price_usd[numbers] <= float(limit) * (1 + 1e-9))
        return mask

    def _walk(self, chosen: Numbers, table: _Scored, buyer: Buyer, limit: int) -> Iterator[int]:
        """Places in ranked order, those of preferred sellers first; only the top is sorted unless more is asked for."""
        seen: set[int] = set()
        batches: tuple[Callable[[], Iterable[int]], ...] = (
            lambda: self._preferred_places(chosen, buyer),
            lambda: rank.best(table.columns, table.parts, table.strategy, SORTED_FIRST * limit).tolist(),
            lambda: rank.order(table.columns, table.parts, table.strategy).tolist(),
        )
        for batch in batches:
            for place in batch():
                if place not in seen:
                    seen.add(place)
                    yield place

    def _preferred_places(self, chosen: Numbers, buyer: Buyer) -> list[int]:
        if not buyer.preferred:
            return []
        positions = {int(number): place for place, number in enumerate(chosen)}
        wanted = [number for seller in buyer.preferred for number in self._by_seller.get(seller, ())]
        return [positions[number] for number in wanted if number in positions]

    def _refusal(self, need: Need, number: int, buyer: Buyer, now: datetime) -> Refusal | None:
        offer = self.offers[number]
        if self._prices[number] is None:
            asset = offer.price.per_job.asset
            return Refusal("rate", self._rates.refusal(asset, now) or f"the USD rate of {asset.symbol} was too old")
        minimum = need.constraints.min_reputation
        if minimum is not None and self._columns.reputation[number] < minimum:
            has = self._columns.reputation[number]
            return Refusal("reputation", f"reputation {has:.2f}, at least {minimum:g} is asked")
        return (
            price_refusal(need, offer, self._rates, now)
            or next(refusals(need, offer, self._sellers[number], buyer, now), None)
            or input_refusal(need, offer, self._schemas)
        )

    def _left_out(
        self, need: Need, numbers: Numbers, buyer: Buyer, now: datetime
    ) -> tuple[dict[str, int], tuple[NearMiss, ...]]:
        counts: dict[str, int] = {}
        near: list[NearMiss] = []
        for number in numbers[:LOOKED_AT_MAX].tolist():
            refusal = self._refusal(need, number, buyer, now)
            if refusal is None:
                continue
            counts[refusal.rule] = counts.get(refusal.rule, 0) + 1
            if len(near) < NEAR_MISSES_MAX:
                near.append(NearMiss(self.offers[number], refusal))
        return counts, tuple(near)

    def _ranked(self, number: int, place: int, table: _Scored, buyer: Buyer) -> RankedOffer:
        offer, seller, price = self.offers[number], self._sellers[number], self._prices[number]
        if price is None:
            raise AssertionError("an offer without a price in USD is never ranked")
        new = offer.reputation.count == 0 and (seller not in self._records or self._records[seller].new)
        said = list(rank.reasons(table.columns, table.parts, place))
        if new:
            said[1] = f"new: no verified outcomes yet, counted as {float(table.columns.reputation[place]):.2f}"
        if seller in buyer.preferred:
            said.insert(0, "one of your preferred sellers")
        if offer.stale:
            said.append("from an older answer: its market did not answer now")
        return RankedOffer(
            offer=offer,
            seller=seller,
            price_usd=price,
            value_score=float(table.parts.value[place]),
            price_score=float(table.parts.price[place]),
            reputation_score=float(table.parts.reputation[place]),
            latency_score=float(table.parts.latency[place]),
            score=float(table.parts.of(table.strategy)[place]),
            reputation=float(table.columns.reputation[place]),
            new=new,
            reasons=tuple(said),
            rate=self._rates.of(offer.price.per_job.asset),
        )
