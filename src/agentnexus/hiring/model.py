"""The nouns of hiring that other rooms see: ranked offers, seller records, source health, what a hire gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from agentnexus.core.canonical import JsonObject
from agentnexus.core.money import Asset, Money, Rate
from agentnexus.core.offers import Offer
from agentnexus.core.payments import Receipt

PRIOR_SCORE = 3.5
PRIOR_WEIGHT = 5.0
CLAIM_WEIGHT_MAX = 10.0
RATE_AGE_MAX_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class RankedOffer:
    """One offer with the parts of its score. Scores compare only within the list they came in."""

    offer: Offer
    seller: str  # its key
    price_usd: Decimal
    value_score: float
    price_score: float
    reputation_score: float
    latency_score: float
    score: float
    reputation: float
    new: bool
    reasons: tuple[str, ...] = ()
    rate: Rate | None = None  # by which its price was compared

    def to_json(self) -> dict[str, object]:
        """``{offer, seller, price_usd, …_score of value, price, reputation, latency, score, new, reasons, rate}``."""
        return {
            "offer": self.offer.model_dump(mode="json"),
            "seller": self.seller,
            "price_usd": f"{self.price_usd:f}",
            "value_score": round(self.value_score, 6),
            "price_score": round(self.price_score, 6),
            "reputation_score": round(self.reputation_score, 6),
            "latency_score": round(self.latency_score, 6),
            "score": round(self.score, 6),
            "reputation": "new" if self.new else round(self.reputation, 2),
            "new": self.new,
            "reasons": list(self.reasons),
            "rate": None if self.rate is None else _rate_json(self.rate),
        }


@dataclass(frozen=True, slots=True)
class SellerRecord:
    """Verified outcomes of one seller: only jobs that this node paid for itself and that were not self-dealing."""

    seller: str
    jobs: int = 0
    succeeded: int = 0
    schema_invalid: int = 0
    promised: int = 0
    kept_promise: int = 0
    ratings: int = 0
    rating_total: int = 0
    latency_seconds: float | None = None

    @property
    def new(self) -> bool:
        return self.jobs == 0

    @property
    def success_rate(self) -> float | None:
        return self.succeeded / self.jobs if self.jobs else None

    @property
    def quality(self) -> float:
        """Mean quality of its jobs, 0-5: success, kept promises and ratings, each where known."""
        parts = [(0.6, self.succeeded / max(1, self.jobs))]
        if self.promised:
            parts.append((0.15, self.kept_promise / self.promised))
        if self.ratings:
            parts.append((0.25, (self.rating_total / self.ratings - 1) / 4))
        return 5 * sum(weight * value for weight, value in parts) / sum(weight for weight, _ in parts)

    def reputation(self, claimed_score: float = 0.0, claimed_count: int = 0) -> float:
        """Score 0-5 with a Bayesian prior; what a market claims weighs at most `CLAIM_WEIGHT_MAX` own outcomes."""
        claim_weight = min(claimed_count / 4, CLAIM_WEIGHT_MAX)
        weight = PRIOR_WEIGHT + claim_weight + self.jobs
        return (PRIOR_SCORE * PRIOR_WEIGHT + claimed_score * claim_weight + self.quality * self.jobs) / weight


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """One market as a source of offers, since this process started."""

    market: str
    asked: int = 0
    answered: int = 0
    failed: int = 0
    late: int = 0
    cache_hits: int = 0
    stale_hits: int = 0
    offers: int = 0
    dropped: int = 0
    mean_seconds: float = 0.0
    last_error: str = ""
    last_seen: datetime | None = None
    circuit: str = "closed"  # open: it hung or kept failing and is left alone for a while; half_open: to be tried
    dead_sources: Mapping[str, str] = field(default_factory=dict)  # of a market of several: who is silent, and why

    @property
    def success_rate(self) -> float | None:
        """Share of finished questions that were answered; `None` before the first."""
        finished = self.answered + self.failed
        return self.answered / finished if finished else None


@dataclass(frozen=True, slots=True)
class Hired:
    """What a hire gave: the checked output, its receipt, and the receipts of attempts before it."""

    receipt: Receipt
    output: object
    receipts: tuple[Receipt, ...] = ()
    resumed: bool = False

    def to_json(self) -> dict[str, object]:
        return {
            "receipt": self.receipt.model_dump(mode="json"),
            "output": self.output,
            "receipts": [receipt.model_dump(mode="json") for receipt in self.receipts],
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Offers side by side, best first, and why others were left out."""

    offers: tuple[RankedOffer, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


class Rates:
    """USD rates by asset; a rate older than `max_age_seconds` converts nothing."""

    def __init__(self, rates: tuple[Rate, ...] = (), *, max_age_seconds: float = RATE_AGE_MAX_SECONDS) -> None:
        self._rates = {rate.asset.caip19: rate for rate in rates}
        self._max_age_seconds = max_age_seconds

    def put(self, rate: Rate) -> None:
        self._rates[rate.asset.caip19] = rate

    def usd(self, money: Money, now: datetime) -> Decimal | None:
        """Value in USD; `None` when there is no rate young enough."""
        rate = self.of(money.asset)
        return None if rate is None or self._too_old(rate, now) else rate.to_usd(money)

    def of(self, asset: Asset) -> Rate | None:
        """The rate last put, however old."""
        return self._rates.get(asset.caip19)

    def refusal(self, asset: Asset, now: datetime) -> str:
        """Why amounts of an asset are not converted; empty when they are."""
        rate = self.of(asset)
        if rate is None:
            return f"no USD rate is known for {asset.symbol}"
        if not self._too_old(rate, now):
            return ""
        age, most = rate.age_seconds(now), self._max_age_seconds
        return f"the USD rate of {asset.symbol} ({rate.source}) is {age:.0f} s old, {most:.0f} s is the most"

    def _too_old(self, rate: Rate, now: datetime) -> bool:
        return rate.age_seconds(now) > self._max_age_seconds


def _rate_json(rate: Rate) -> dict[str, object]:
    return {
        "usd": f"{rate.usd:f}",
        "source": rate.source,
        "observed_at": None if rate.pegged else rate.observed_at.isoformat(),
    }


def error_json(code: str, message: str, next_step: str = "") -> JsonObject:
    """An error as a receipt and an attempt keep it."""
    body: JsonObject = {"code": code, "message": message}
    if next_step:
        body["next_step"] = next_step
    return body
