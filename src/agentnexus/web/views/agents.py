"""An agent of the catalogue as cards and the agent page show it."""

from __future__ import annotations

from dataclasses import dataclass

from agentnexus.core.money import Money
from agentnexus.web.forms.schema import Schema


@dataclass(frozen=True, slots=True)
class ExampleView:
    title: str
    input: dict[str, object]


@dataclass(frozen=True, slots=True)
class AgentView:
    """`price` is the most one run costs, `price_note` how it is made up. Shares are 0..1, times milliseconds.

    `month_price` is there where it is sold by the month, with at most `month_runs` runs (None: as many as one likes);
    `transferable`: what is bought of it may be passed on.
    """

    id: str
    name: str
    summary: str
    price: str
    amount: Money | None = None
    category: str = ""
    description: str = ""
    price_note: str = ""
    developer: str = ""
    verified: bool = False
    version: str = ""
    capability: str = ""
    licence: str = ""
    runs: int = 0
    success_rate: float | None = None
    average_ms: float | None = None
    p95_ms: float | None = None
    rating: float | None = None
    ratings: int = 0
    available: bool = True
    input_schema: Schema | None = None
    output_schema: Schema | None = None
    examples: tuple[ExampleView, ...] = ()
    limits: tuple[tuple[str, str], ...] = ()
    hosts: tuple[str, ...] = ()
    endpoint: str = ""
    month_price: str = ""
    month_runs: int | None = None
    transferable: bool = False


@dataclass(frozen=True, slots=True)
class AgentPage:
    """One page of the catalogue. `categories` are (name, count) where counts are known; `total` is None when not."""

    agents: tuple[AgentView, ...]
    next_cursor: str = ""
    categories: tuple[tuple[str, int | None], ...] = ()
    total: int | None = None
