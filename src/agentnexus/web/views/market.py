"""Offers of all markets side by side, and the markets' health."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agentnexus.web.views.runs import State

Figures: TypeAlias = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class OfferView:
    title: str
    capability: str
    market: str
    seller: str
    price: str
    reputation: str
    speed: str
    state: State


@dataclass(frozen=True, slots=True)
class MarketView:
    name: str
    state: State
    offers: int
    answered: str
    trouble: str = ""
