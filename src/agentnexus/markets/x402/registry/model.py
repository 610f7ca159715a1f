"""What a registry entry is: the liberal form sellers send, and the union of field names buyers in the field read."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from agentnexus.core.offers import Schema

PricingModel = Literal["FLAT", "TIERED", "DYNAMIC"]
Status = Literal["ACTIVE", "PAUSED", "DEPRECATED"]
Sort = Literal["value", "price", "reputation", "recent"]
PRIOR_RATINGS, PRIOR_MEAN = 5, 3.5
SCHEMA_BYTES_MAX = 64 * 1024
MIN_PRICE_USD = 0.001


class Accept(BaseModel):
    """One x402 payment requirement the service takes (v2 names; v1's are read too)."""

    model_config = ConfigDict(extra="allow")

    scheme: str = Field(min_length=1, max_length=40)
    network: str = Field(min_length=3, max_length=80)
    asset: str = Field(min_length=1, max_length=128)
    amount: str = Field(pattern=r"^[1-9][0-9]{0,77}$", validation_alias=AliasChoices("amount", "maxAmountRequired"))
    payTo: str = Field(min_length=1, max_length=128)
    maxTimeoutSeconds: int = Field(default=60, ge=1, le=86_400)
    extra: dict[str, object] = Field(default_factory=dict)


class Registration(BaseModel):
    """Body of ``POST /services/register``. `accepts` says exactly how it is paid; the rest is for finding it."""

    model_config = ConfigDict(extra="ignore")

    url: str = Field(max_length=2048)
    name: str = Field(min_length=1, max_length=100)
    description: str = Field(default="", max_length=1000)
    category: str = Field(default="general", max_length=50)
    ownerWalletAddress: str = Field(max_length=64, validation_alias=AliasChoices("ownerWalletAddress", "walletAddress"))
    pricePerCall: Decimal = Field(gt=0, le=1_000_000)
    pricingModel: PricingModel = "FLAT"
    acceptedTokens: list[str] = Field(default_factory=lambda: ["USDC"], min_length=1, max_length=20)
    accepts: list[Accept] = Field(min_length=1, max_length=32)
    inputSchema: Schema | None = None
    outputSchema: Schema | None = None
    capabilities: list[str] = Field(default_factory=list, max_length=50)
    tags: list[str] = Field(default_factory=list, max_length=50)
    extra: dict[str, object] = Field(default_factory=dict)

    @field_validator("url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
            raise ValueError("must be a plain http(s) address")
        return value

    @field_validator("inputSchema", "outputSchema", mode="before")
    @classmethod
    def _schema_may_be_text(cls, value: object) -> object:
        text = value if isinstance(value, str) else json.dumps(value)
        if len(text) > SCHEMA_BYTES_MAX:
            raise ValueError(f"schema larger than {SCHEMA_BYTES_MAX} bytes")
        return json.loads(text) if isinstance(value, str) else value

    @field_validator("capabilities", "tags")
    @classmethod
    def _short_words(cls, value: list[str]) -> list[str]:
        if any(not 1 <= len(word) <= 100 for word in value):
            raise ValueError("each must have 1-100 characters")
        return sorted(set(value))


class Change(BaseModel):
    """Body of ``PATCH /services/{id}``: what the owner may change."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=100)
    description: str | None = Field(default=None, max_length=1000)
    status: Status | None = None
    tags: list[str] | None = Field(default=None, max_length=50)
    capabilities: list[str] | None = Field(default=None, max_length=50)


class Rating(BaseModel):
    """Body of ``POST /services/{id}/rate``, signed by the payer of `transaction`."""

    model_config = ConfigDict(extra="ignore")

    rating: int = Field(ge=1, le=5)
    transaction: str = Field(min_length=1, max_length=128, validation_alias=AliasChoices("transaction", "signature"))
    network: str = Field(min_length=3, max_length=80)
    comment: str = Field(default="", max_length=500)
    success: bool = True
    responseTimeMs: int | None = Field(default=None, ge=0, le=86_400_000)


class Query(BaseModel):
    """Query string of ``GET /services/discover``."""

    query: str = Field(default="", max_length=200)
    category: str | None = Field(default=None, max_length=50)
    capability: str | None = Field(default=None, max_length=100)
    maxPrice: Decimal | None = Field(default=None, gt=0)
    minReputation: int = Field(default=0, ge=0, le=10_000)
    minUptime: float = Field(default=0, ge=0, le=100)
    tags: list[str] = Field(default_factory=list)
    network: str | None = None
    sortBy: Sort = "value"
    limit: int = Field(default=20, ge=1, le=100)
    offset: int = Field(default=0, ge=0, le=100_000)


class Service(BaseModel):
    """One stored entry."""

    id: str
    registration: Registration
    owner: str
    status: Status
    verified: bool
    total_calls: int
    successful_calls: int
    response_ms_sum: int
    rating_sum: int
    rating_count: int
    created_at: datetime
    updated_at: datetime

    @property
    def reputation(self) -> float:
        """0-5: mean rating pulled to the prior while there are few."""
        return (self.rating_sum + PRIOR_RATINGS * PRIOR_MEAN) / (self.rating_count + PRIOR_RATINGS)

    @property
    def success_rate(self) -> float | None:
        return self.successful_calls / self.total_calls if self.total_calls else None

    @property
    def average_ms(self) -> int:
        return self.response_ms_sum // self.total_calls if self.total_calls else 0

    @property
    def value_score(self) -> float:
        """Reputation per dollar, the price floored so that almost free is not infinitely good."""
        return self.reputation / max(float(self.registration.pricePerCall), MIN_PRICE_USD)

    def to_json(self) -> dict[str, object]:
        """The union of the names that registry clients in the field read."""
        entry = self.registration.model_dump(mode="json")
        accepts: list[dict[str, object]] = [each | {"maxAmountRequired": each["amount"]} for each in entry["accepts"]]
        price, first = f"{self.registration.pricePerCall:f}", self.registration.accepts[0]
        updated, reputation = self.updated_at.isoformat(), round(self.reputation * 2000)
        uptime = 100.0 if self.success_rate is None else round(100 * self.success_rate, 2)
        return entry | {
            "id": self.id,
            "serviceId": self.id,
            "resource": self.registration.url,
            "ownerWalletAddress": self.owner,
            "owner": self.owner,
            "pricePerCall": price,
            "currency": self.registration.acceptedTokens[0],
            "pricing": {"amount": price, "asset": first.asset, "network": first.network},
            "accepts": accepts,
            "inputSchema": json.dumps(entry["inputSchema"]) if entry["inputSchema"] is not None else None,
            "outputSchema": json.dumps(entry["outputSchema"]) if entry["outputSchema"] is not None else None,
            "status": self.status,
            "verified": self.verified,
            "totalCalls": self.total_calls,
            "successfulCalls": self.successful_calls,
            "successRate": self.success_rate,
            "averageResponseTimeMs": self.average_ms,
            "averageLatency": self.average_ms,
            "averageResponseTime": self.average_ms,
            "uptimePercentage": uptime,
            "uptime": uptime,
            "reputationScore": reputation,
            "reputation": reputation,
            "totalRatings": self.rating_count,
            "averageRating": round(self.rating_sum / self.rating_count, 2) if self.rating_count else 0,
            "valueScore": round(self.value_score, 6),
            "createdAt": self.created_at.isoformat(),
            "lastUpdated": updated,
            "updatedAt": updated,
        }

    def to_bazaar(self) -> dict[str, object]:
        """One item of ``/discovery/resources`` (x402 v2 Bazaar)."""
        entry = self.registration
        info: dict[str, object] = {"input": {"type": "http", "method": "POST", "bodyType": "json", "body": {}}}
        return {
            "resource": entry.url,
            "type": "http",
            "x402Version": 2,
            "accepts": [accept.model_dump(mode="json") for accept in entry.accepts],
            "lastUpdated": int(self.updated_at.timestamp()),
            "metadata": {
                "name": entry.name,
                "description": entry.description,
                "category": entry.category,
                "capabilities": entry.capabilities,
                "tags": entry.tags,
                "owner": self.owner,
                "inputSchema": entry.inputSchema,
                "outputSchema": entry.outputSchema,
                "reputation": round(self.reputation, 3),
                "ratings": self.rating_count,
                "averageLatencyMs": self.average_ms,
                "successRate": self.success_rate,
                "verified": self.verified,
                "extra": entry.extra,
            },
            "extensions": {"bazaar": {"info": info, "schema": entry.inputSchema or {"type": "object"}}},
        }
