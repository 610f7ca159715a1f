"""What a listing is, what may be asked of the catalogue, and the pure rules of both."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.sdk.manifest import Manifest

Schema = dict[str, object]

PAGE_DEFAULT = 20
PAGE_MAX = 100
PRIOR_RATINGS, PRIOR_MEAN = 5, 3.5
CURSOR_CHARACTERS_MAX = 500
TRIGRAM = 3


class ListingStatus(StrEnum):
    """Only `active` listings are found and sold; the rest can be looked up by id."""

    DRAFT = "draft"
    PENDING_REVIEW = "pending_review"
    APPROVED = "approved"
    ACTIVE = "active"
    MAINTENANCE = "maintenance"
    DEPRECATED = "deprecated"
    SUSPENDED = "suspended"


class Sort(StrEnum):
    """`relevance` is the order of a text search; without a text it is popularity."""

    RELEVANCE = "relevance"
    PRICE = "price"
    POPULARITY = "popularity"
    RATING = "rating"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of finished runs. Durations in milliseconds, over the last runs; `rating` None while nobody rated."""

    runs: int = 0
    succeeded: int = 0
    average_ms: int | None = None
    p95_ms: int | None = None
    rating_sum: int = 0
    ratings: int = 0

    @property
    def success_rate(self) -> float | None:
        return self.succeeded / self.runs if self.runs else None

    @property
    def rating(self) -> float | None:
        """Mean of the stars, pulled to the prior while there are few."""
        if not self.ratings:
            return None
        return (self.rating_sum + PRIOR_RATINGS * PRIOR_MEAN) / (self.ratings + PRIOR_RATINGS)


@dataclass(frozen=True, slots=True)
class Listing:
    """One agent as buyers see it. `accepts` are x402 requirements; `seller` is the address they pay."""

    manifest: Manifest
    status: ListingStatus
    price: Money
    seller: str
    developer: str
    accepts: tuple[dict[str, object], ...]
    code_hash: str
    input_schema: Schema
    output_schema: Schema
    created_at: datetime
    updated_at: datetime
    statistics: Statistics = field(default_factory=Statistics)

    @property
    def id(self) -> str:
        """The manifest's name; also the last part of its x402 path."""
        return self.manifest.name

    @property
    def path(self) -> str:
        """Where it is sold, below the API's address."""
        return f"/x402/agents/{self.id}"

    @property
    def month_price(self) -> Money | None:
        """Of a whole month; None where it is sold by the run only."""
        text = self.manifest.pricing.per_month
        return None if text is None else self.price.asset.parse(text)


@dataclass(frozen=True, slots=True)
class ListingQuery:
    """What the catalogue is asked. Prices are decimal amounts of the currency, bounds included."""

    text: str = ""
    category: str = ""
    capability: str = ""
    min_price: Decimal | None = None
    max_price: Decimal | None = None
    sort: Sort = Sort.RELEVANCE
    limit: int = PAGE_DEFAULT
    cursor: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= PAGE_MAX:
            raise InvalidInput(f"a page has 1 to {PAGE_MAX} agents", next_step="choose a limit in it", field="limit")


@dataclass(frozen=True, slots=True)
class Page:
    """`next_cursor` is empty on the last page; `total` counts all pages."""

    listings: tuple[Listing, ...]
    next_cursor: str = ""
    total: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """The last row of a page: sort value, id and how it was found; enough to go on however the list has changed."""

    value: Decimal
    id: str
    matching: str = "a"

    def encode(self) -> str:
        plain = json.dumps([str(self.value), self.id, self.matching])
        return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, cursor: str) -> Position:
        """Raises `InvalidInput` for anything we did not make."""
        try:
            padded = cursor[:CURSOR_CHARACTERS_MAX] + "=" * (-len(cursor) % 4)
            value, identifier, matching = json.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
            position = cls(Decimal(str(value)), str(identifier), str(matching))
        except (ValueError, TypeError, ArithmeticError) as error:
            raise _foreign_cursor() from error
        if not position.value.is_finite() or "\x00" in position.id or position.matching not in ("a", "w", "l"):
            raise _foreign_cursor()
        return position


def _foreign_cursor() -> InvalidInput:
    return InvalidInput("this cursor is not one of ours", next_step="start again without a cursor", field="cursor")


def price_of(manifest: Manifest, asset: Asset) -> Money:
    """The most one run costs, in `asset`. Raises `InvalidInput` when it is free or in another currency."""
    if manifest.pricing.currency != asset.symbol:
        raise InvalidInput(
            f"{manifest.name} is priced in {manifest.pricing.currency}, this node sells in {asset.symbol}",
            next_step=f"set currency = {asset.symbol!r} in agent.toml",
            field="pricing.currency",
        )
    price = asset.parse(f"{manifest.pricing.maximum:f}")
    if price.atomic <= 0:
        raise InvalidInput(
            f"{manifest.name} has no price", next_step="set pricing.per_run in agent.toml", field="pricing.per_run"
        )
    if manifest.pricing.per_month is not None:
        asset.parse(manifest.pricing.per_month)  # says so, if it has more places than the asset
    return price


def search_text(manifest: Manifest) -> str:
    """What a typo-tolerant search looks at: the words people type, not the long description."""
    parts = (
        manifest.title,
        manifest.capability.replace(".", " "),
        *manifest.categories,
        *manifest.tags,
        manifest.summary,
    )
    return " ".join((*parts, manifest.name.rpartition(".")[2].replace("-", " "))).lower()


def trigrams(text: str) -> list[str]:
    """Three-letter pieces of every word, its begin and end marked, sorted and without repeats."""
    pieces: set[str] = set()
    for word in "".join(character if character.isalnum() else " " for character in text.lower()).split():
        padded = f"  {word} "
        pieces.update(padded[at : at + TRIGRAM] for at in range(len(padded) - TRIGRAM + 1))
    return sorted(pieces)


def listing_json(listing: Listing, api_url: str) -> dict[str, object]:
    """The listing as ``/api/v1/agents`` shows it. Prices are decimal strings."""
    manifest, statistics = listing.manifest, listing.statistics
    return {
        "id": listing.id,
        "name": manifest.title,
        "summary": manifest.summary,
        "description": manifest.description,
        "version": manifest.version,
        "status": listing.status.value,
        "capability": manifest.capability,
        "category": manifest.categories[0],
        "categories": list(manifest.categories),
        "tags": list(manifest.tags),
        "licence": manifest.licence,
        "price": f"{listing.price.decimal:f}",
        "currency": listing.price.asset.symbol,
        "asset": listing.price.asset.caip19,
        "month": _month_json(listing),
        "transferable": manifest.pricing.transferable,
        "developer": {"name": listing.developer, "address": listing.seller},
        "statistics": {
            "runs": statistics.runs,
            "successRate": statistics.success_rate,
            "averageDurationMs": statistics.average_ms,
            "p95DurationMs": statistics.p95_ms,
            "rating": statistics.rating,
            "ratings": statistics.ratings,
        },
        "limits": manifest.limits.model_dump(mode="json"),
        "egressHosts": list(manifest.egress.hosts),
        "examples": [example.model_dump(mode="json") for example in manifest.examples],
        "inputSchema": listing.input_schema,
        "outputSchema": listing.output_schema,
        "codeHash": listing.code_hash,
        "x402": {"method": "POST", "resource": f"{api_url}{listing.path}", "accepts": list(listing.accepts)},
        "createdAt": listing.created_at.isoformat(),
        "updatedAt": listing.updated_at.isoformat(),
    }


def _month_json(listing: Listing) -> dict[str, object] | None:
    """`runs` null: as many as its owner likes."""
    if listing.month_price is None:
        return None
    return {"price": f"{listing.month_price.decimal:f}", "runs": listing.manifest.pricing.runs_per_month}


def short_json(listing: Listing, api_url: str) -> Mapping[str, object]:
    """The same without what only the agent's own page needs."""
    whole = listing_json(listing, api_url)
    return {name: value for name, value in whole.items() if name not in ("examples", "limits", "description")}
