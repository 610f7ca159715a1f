"""Choice under load: of the offers that rank well two are drawn, and the one expected to cost less time wins.

Always taking the best-ranked seller sends everybody to the same one; two random draws spread the load and still find
the good ones. Deterministic under a seed, and `Choice.explain()` shows every factor.
"""

from __future__ import annotations

import statistics
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from agentnexus.core.clock import SystemClock, SystemEntropy
from agentnexus.core.offers import Strategy
from agentnexus.core.ports import Clock, Entropy
from agentnexus.hiring.load import LoadTable, SellerLoad
from agentnexus.hiring.model import RankedOffer

POOL_MAX = 10
GOOD_ENOUGH = 0.7
EXPLORATION = 0.02
EXPLORATION_PRICE_FACTOR = 2.0
PRICE_WEIGHTS = {
    Strategy.PRICE: 2.0,
    Strategy.VALUE: 1.0,
    Strategy.COMPOSITE: 0.35,
    Strategy.REPUTATION: 0.35,
    Strategy.LATENCY: 0.0,
}
STICKY_SLOWDOWN = 3.0
SESSIONS_MAX = 10_000
PRICE_FLOOR_USD = 0.001


class Policy(StrEnum):
    """How one offer is taken from the ranked list."""

    BALANCED = "balanced"  # power of two choices
    BEST = "best"  # the first of the list
    CHEAPEST = "cheapest"
    ROUND_ROBIN = "round_robin"


@dataclass(frozen=True, slots=True)
class Factor:
    """One offer's expected cost: predicted seconds × (in flight + 1) / success² × (price / median)^weight."""

    seller: str
    predicted_seconds: float
    in_flight: int
    success: float
    price_factor: float
    cost: float

    def to_json(self) -> dict[str, object]:
        return {
            "seller": self.seller,
            "predicted_seconds": round(self.predicted_seconds, 4),
            "in_flight": self.in_flight,
            "success": round(self.success, 4),
            "price_factor": round(self.price_factor, 4),
            "cost": round(self.cost, 6),
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen offer, why, and every factor that was looked at."""

    chosen: RankedOffer
    why: str
    factors: tuple[Factor, ...] = ()
    ejected: tuple[str, ...] = ()

    def explain(self) -> dict[str, object]:
        """``{offer, seller, why, factors, ejected}``."""
        return {
            "offer": self.chosen.offer.id,
            "seller": self.chosen.seller,
            "why": self.why,
            "factors": [factor.to_json() for factor in self.factors],
            "ejected": list(self.ejected),
        }


class Chooser:
    """Holds the load table of this process and takes one offer at a time.

    Args:
        entropy: `SeededEntropy` makes every choice repeatable.
        exploration: share of choices given to the least tried offer within a price cap.
    """

    def __init__(
        self, *, clock: Clock | None = None, entropy: Entropy | None = None, exploration: float = EXPLORATION
    ) -> None:
        self.loads = LoadTable()
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()
        self._exploration = exploration
        self._turns: dict[str, int] = {}
        self._sessions: OrderedDict[str, str] = OrderedDict()

    def choose(
        self,
        ranked: Sequence[RankedOffer],
        *,
        strategy: Strategy = Strategy.VALUE,
        policy: Policy = Policy.BALANCED,
        session: str | None = None,
        preferred: Iterable[str] = (),
    ) -> Choice | None:
        """One of `ranked` (best first); `None` only when it is empty. Ejected sellers serve when nobody else can."""
        if not ranked:
            return None
        now = self._clock.monotonic()
        usable = [offer for offer in ranked if self._load(offer).available(now)]
        ejected = tuple(dict.fromkeys(o.seller for o in ranked if not self._load(o).available(now)))
        pool = usable or list(ranked)
        wanted = set(preferred)
        liked = [offer for offer in pool if offer.seller in wanted]
        choice = self._take(liked or pool, strategy, policy, session, now)
        if session is not None:
            self._remember(session, choice.chosen.seller)
        return Choice(choice.chosen, choice.why, choice.factors, ejected)

    def _take(
        self, pool: Sequence[RankedOffer], strategy: Strategy, policy: Policy, session: str | None, now: float
    ) -> Choice:
        good = [offer for offer in pool if offer.score >= GOOD_ENOUGH * pool[0].score][:POOL_MAX]
        factors = self._factors(good, strategy, now)
        if session is not None and (kept := self._sticky(session, good, factors)) is not None:
            return kept
        match policy:
            case Policy.BEST:
                return Choice(pool[0], "the best ranked", factors)
            case Policy.CHEAPEST:
                return Choice(min(pool, key=lambda offer: offer.price_usd), "the cheapest", factors)
            case Policy.ROUND_ROBIN:
                return self._next_in_turn(good, factors)
            case Policy.BALANCED:
                return self._two_choices(good, factors, explore=session is None)

    def _two_choices(self, good: Sequence[RankedOffer], factors: tuple[Factor, ...], *, explore: bool) -> Choice:
        if len(good) == 1:
            return Choice(good[0], "the only one that ranks well", factors)
        if explore and self._entropy.uniform() < self._exploration:
            cap = EXPLORATION_PRICE_FACTOR * float(statistics.median(offer.price_usd for offer in good))
            affordable = [offer for offer in good if float(offer.price_usd) <= cap]
            least = min(affordable, key=lambda offer: self._load(offer).tried)
            return Choice(least, "tried least so far: exploration", factors)
        first = int(self._entropy.uniform() * len(good))
        second = int(self._entropy.uniform() * (len(good) - 1))
        second += second >= first
        winner = min((first, second), key=lambda place: (factors[place].cost, place))
        loser = first if winner == second else second
        return Choice(
            good[winner],
            f"of two drawn, expected cost {factors[winner].cost:.3g} against {factors[loser].cost:.3g}",
            factors,
        )

    def _next_in_turn(self, good: Sequence[RankedOffer], factors: tuple[Factor, ...]) -> Choice:
        capability = good[0].offer.capability.name
        ordered = sorted(good, key=lambda offer: offer.offer.id)
        turn = self._turns.get(capability, 0)
        self._turns[capability] = turn + 1
        return Choice(ordered[turn % len(ordered)], "its turn", factors)

    def _sticky(self, session: str, good: Sequence[RankedOffer], factors: tuple[Factor, ...]) -> Choice | None:
        seller = self._sessions.get(session)
        fastest = min(factor.predicted_seconds for factor in factors)
        for offer, factor in zip(good, factors, strict=True):
            if offer.seller == seller and factor.predicted_seconds <= STICKY_SLOWDOWN * fastest:
                return Choice(offer, "the session stays with its seller", factors)
        return None

    def _remember(self, session: str, seller: str) -> None:
        self._sessions[session] = seller
        self._sessions.move_to_end(session)
        if len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)

    def _factors(self, offers: Sequence[RankedOffer], strategy: Strategy, now: float) -> tuple[Factor, ...]:
        times = [self._known_seconds(offer) for offer in offers]
        known = [seconds for seconds in times if seconds is not None]
        usual = statistics.median(known) if known else 1.0
        prices = [max(float(offer.price_usd), PRICE_FLOOR_USD) for offer in offers]
        median_price = statistics.median(prices)
        weight = PRICE_WEIGHTS[strategy]
        return tuple(
            self._factor(offer, usual if seconds is None else seconds, (price / median_price) ** weight, now)
            for offer, seconds, price in zip(offers, times, prices, strict=True)
        )

    def _known_seconds(self, offer: RankedOffer) -> float | None:
        measured = self._load(offer).latency_seconds
        if measured is None and offer.offer.latency_ms is not None:
            return offer.offer.latency_ms / 1000
        return measured

    def _factor(self, offer: RankedOffer, seconds: float, price_factor: float, now: float) -> Factor:
        load = self._load(offer)
        success = load.success(now)
        seconds = max(seconds, 0.001)
        cost = seconds * (load.in_flight + 1) / success**2 * price_factor
        return Factor(offer.seller, seconds, load.in_flight, success, price_factor, cost)

    def _load(self, offer: RankedOffer) -> SellerLoad:
        return self.loads.of(offer.seller, offer.offer.capability.name)
