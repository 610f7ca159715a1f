"""What buyers want and what sellers sell: capability, need, price, offer, quote, job."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator

from agentnexus.core.canonical import content_hash
from agentnexus.core.money import Money

CAPABILITY_NAME = r"^[a-z0-9]+(?:[._-][a-z0-9]+)*$"
Schema = dict[str, object]
COUNT_MAX = 10**12  # strangers state these: more would not fit the floats that offers are compared by


class Noun(BaseModel):
    """Base of the nouns that cross the wire: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Party(Noun):
    """Someone on one or more networks. Compared by `key`, never by name.

    `ids` maps a network kind (``evm``, ``solana``, ``nostr``, ``libp2p``, ``url``) to the id there.
    """

    ids: dict[str, str] = Field(min_length=1)
    name: str = ""
    verified_by: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The id that identity checks use, e.g. ``evm:0xabc…`` (lower-case addresses)."""
        kind = next((k for k in ("evm", "solana", "nostr", "libp2p", "url") if k in self.ids), min(self.ids))
        value = self.ids[kind]
        return f"{kind}:{value.lower() if kind == 'evm' else value}"


class Capability(Noun):
    """A thing that can be done, e.g. ``pdf.extract``, with the JSON Schemas of what goes in and comes out."""

    name: str = Field(pattern=CAPABILITY_NAME, max_length=100)
    title: str = ""
    description: str = ""
    input_schema: Schema = Field(default_factory=dict)
    output_schema: Schema = Field(default_factory=dict)
    tags: tuple[str, ...] = ()


class Strategy(StrEnum):
    """How offers are ordered (spec 01)."""

    VALUE = "value"
    PRICE = "price"
    REPUTATION = "reputation"
    LATENCY = "latency"
    COMPOSITE = "composite"


class Constraints(Noun):
    """What an offer must meet to be considered. `None` and empty mean: no limit."""

    max_price: Money | None = None
    deadline_seconds: float | None = Field(default=None, gt=0)
    min_reputation: float | None = Field(default=None, ge=0, le=5)
    min_attestation: str | None = None
    region: str | None = None
    model: str | None = None
    markets: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    sellers_allowed: tuple[str, ...] = ()
    sellers_denied: tuple[str, ...] = ()


class Need(Noun):
    """What a buyer wants: a capability by name, or free text to match one, with its input."""

    capability: str | None = Field(default=None, pattern=CAPABILITY_NAME, max_length=100)
    text: str = Field(default="", max_length=5000)
    input: dict[str, object] = Field(default_factory=dict)
    constraints: Constraints = Constraints()
    strategy: Strategy = Strategy.VALUE

    def hash(self) -> str:
        """``sha256:…`` of the canonical form; what a receipt points at."""
        return content_hash(self)


class Meter(Noun):
    """A metered event (``page``, ``1k_tokens_in``, ``second``): price of one and the most that may be charged."""

    event: str
    unit_price: Money
    maximum_count: int = Field(ge=0)


class Price(Noun):
    """Per job, plus optional meters; a maximum is always computable."""

    per_job: Money
    meters: tuple[Meter, ...] = ()

    @property
    def maximum(self) -> Money:
        result = self.per_job
        for meter in self.meters:
            result = result + meter.unit_price * meter.maximum_count
        return result


class Reputation(Noun):
    """Score 0-5 from verified outcomes, how many there were, and who counted. `count` 0 means new."""

    score: float = Field(default=0.0, ge=0, le=5)
    count: int = Field(default=0, ge=0, le=COUNT_MAX)
    source: str = ""


class Offer(Noun):
    """One priced capability of one seller on one market.

    `rails` are the ways it can be paid as the seller states them (for x402: the ``accepts`` entries, each with
    scheme, network, asset, amount, payTo …). `endpoint` is where the work is asked for.
    """

    id: str = Field(min_length=1, max_length=300)
    market: str
    seller: Party
    capability: Capability
    title: str
    description: str = ""
    price: Price
    rails: tuple[dict[str, object], ...] = ()
    endpoint: str = ""
    models: tuple[str, ...] = ()
    reputation: Reputation = Reputation()
    latency_ms: int | None = Field(default=None, ge=0, le=COUNT_MAX)
    uptime: float | None = Field(default=None, ge=0, le=1)
    success_rate: float | None = Field(default=None, ge=0, le=1)
    stake: Money | None = None
    attestation: str = "none"
    region: str = ""
    observed_at: datetime
    expires_at: datetime | None = None
    stale: bool = False
    sources: tuple[str, ...] = ()
    evidence: dict[str, object] = Field(default_factory=dict)


class RefundRule(StrEnum):
    """What happens to the money when the work is not delivered."""

    NOT_SETTLED_ON_FAILURE = "not_settled_on_failure"  # a signature only; it is cancelled
    HELD_UNTIL_CHECKED = "held_until_checked"  # escrow or hold invoice
    SELLER_DISCRETION = "seller_discretion"  # paid first


class Quote(Noun):
    """A firm price for one job from one offer."""

    offer_id: str
    job_id: str
    maximum: Money
    breakdown: dict[str, str] = Field(default_factory=dict)
    valid_until: datetime
    refund_rule: RefundRule


class JobState(StrEnum):
    """A job's life; payments run beside it, not inside it (design/core.md)."""

    QUOTED = "quoted"
    RESERVED = "reserved"
    REQUESTED = "requested"
    WORKING = "working"
    DELIVERED = "delivered"
    CHECKED = "checked"
    SETTLED = "settled"
    REFUNDING = "refunding"
    REFUNDED = "refunded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (JobState.SETTLED, JobState.REFUNDED, JobState.FAILED, JobState.CANCELLED)


class Job(Noun):
    """One hired unit of work on one offer. `key` is the deterministic idempotency key of the hire attempt."""

    id: str
    key: str
    need: Need
    offer_id: str
    attempt: int = Field(default=1, ge=1)
    state: JobState = JobState.QUOTED

    @field_validator("key")
    @classmethod
    def _key_not_empty(cls, value: str) -> str:
        if not value:
            raise ValueError("a job needs an idempotency key")
        return value
