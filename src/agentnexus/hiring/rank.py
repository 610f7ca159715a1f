"""Put offers in order, side by side in USD. Pure: the same columns give the same order, and every part can be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agentnexus.core.offers import Strategy

PRICE_FLOOR_USD = 0.001
LATENCY_DEFAULT_MS = 5_000.0
SUCCESS_DEFAULT = 0.9
STAKE_FULL_USD = 1_000.0
COMPOSITE_WEIGHTS: Mapping[str, float] = {
    "price": 0.30, "latency": 0.15, "success": 0.20, "reputation": 0.30, "stake": 0.05,
}  # fmt: skip

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Columns:
    """What ranking looks at, one number per offer. Unknown is NaN, except that every price is known.

    Args:
        price_usd: the most one job can cost; for ordering only, money itself stays an integer.
        reputation: 0-5, prior included.
        latency_ms, success, stake_usd: as the seller states or as measured.
    """

    price_usd: Column
    reputation: Column
    latency_ms: Column
    success: Column
    stake_usd: Column

    def take(self, numbers: NDArray[np.intp]) -> Columns:
        """The same columns for some offers."""
        return Columns(
            self.price_usd[numbers],
            self.reputation[numbers],
            self.latency_ms[numbers],
            self.success[numbers],
            self.stake_usd[numbers],
        )

    def __len__(self) -> int:
        return len(self.price_usd)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of each offer's score; all but `value` are 0-1, higher is better."""

    value: Column
    price: Column
    reputation: Column
    latency: Column
    success: Column
    stake: Column
    median_price_usd: float

    def of(self, strategy: Strategy) -> Column:
        """The score by which `strategy` orders."""
        match strategy:
            case Strategy.VALUE:
                return self.value
            case Strategy.PRICE:
                return self.price
            case Strategy.REPUTATION:
                return self.reputation
            case Strategy.LATENCY:
                return self.latency
            case Strategy.COMPOSITE:
                weights = COMPOSITE_WEIGHTS
                composite: Column = (
                    weights["price"] * self.price
                    + weights["latency"] * self.latency
                    + weights["success"] * self.success
                    + weights["reputation"] * self.reputation
                    + weights["stake"] * self.stake
                )
                return composite


def parts(columns: Columns) -> Parts:
    """Scores of every offer. Price and latency are compared with the median of the offers present.

    An offer at the median scores 0.5, a free or instant one 1; one absurd offer cannot squeeze the rest together,
    as it could with minimum and maximum.
    """
    latency = np.where(
        np.isnan(columns.latency_ms), _median(columns.latency_ms, LATENCY_DEFAULT_MS), columns.latency_ms
    )
    price = columns.price_usd
    return Parts(
        value=columns.reputation / np.maximum(price, PRICE_FLOOR_USD),
        price=_against_median(price, PRICE_FLOOR_USD),
        reputation=columns.reputation / 5,
        latency=_against_median(latency, 1.0),
        success=np.where(np.isnan(columns.success), SUCCESS_DEFAULT, columns.success),
        stake=np.minimum(np.nan_to_num(columns.stake_usd) / STAKE_FULL_USD, 1.0),
        median_price_usd=_median(price, PRICE_FLOOR_USD),
    )


def _median(column: Column, default: float) -> float:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else default


def _against_median(column: Column, floor: float) -> Column:
    middle = max(_median(column, floor), floor)
    result: Column = middle / (middle + np.maximum(column, 0.0))
    return result


def order(columns: Columns, scored: Parts, strategy: Strategy) -> NDArray[np.intp]:
    """Places of all offers, best first; ties go to the cheaper, then to the better reputed, then to the earlier."""
    return np.lexsort((-columns.reputation, columns.price_usd, -scored.of(strategy)))


def best(columns: Columns, scored: Parts, strategy: Strategy, count: int) -> NDArray[np.intp]:
    """The first `count` places of `order` and all that tie with the last of them, without sorting the rest."""
    score = scored.of(strategy)
    if count >= len(score):
        return order(columns, scored, strategy)
    threshold = np.partition(score, len(score) - count)[len(score) - count]
    places = np.flatnonzero(score >= threshold)
    inside = np.lexsort((-columns.reputation[places], columns.price_usd[places], -score[places]))
    result: NDArray[np.intp] = places[inside]
    return result


def reasons(columns: Columns, scored: Parts, number: int) -> tuple[str, ...]:
    """Why this offer stands where it stands, in words."""
    price = float(columns.price_usd[number])
    said = [f"costs at most ${price:.6g}{_compared(price, scored.median_price_usd)}"]
    said.append(f"reputation {float(columns.reputation[number]):.2f} of 5")
    latency = float(columns.latency_ms[number])
    said.append("latency unknown, counted as the median" if np.isnan(latency) else f"answers in about {latency:.0f} ms")
    success = float(columns.success[number])
    if not np.isnan(success):
        said.append(f"{success:.0%} of its jobs succeed")
    if float(scored.stake[number]) > 0:
        said.append(f"stake worth ${float(columns.stake_usd[number]):.2f}")
    return tuple(said)


def _compared(price: float, median: float) -> str:
    if not median or price == median:
        return ""
    return f", {abs(price - median) / median:.0%} {'cheaper' if price < median else 'dearer'} than the median"
