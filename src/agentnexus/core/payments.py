"""Payments, holds, budgets and receipts: what money did for a job, in forms a stranger can check."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from agentnexus.core.money import Money
from agentnexus.core.offers import Noun, Offer, Quote


class PayMode(StrEnum):
    """How the seller's protocol wants the money."""

    AUTHORIZE = "authorize"  # a signature the seller can settle (x402 exact)
    PAY = "pay"  # money moves now
    HOLD = "hold"  # money locked until a proof (escrow, hold invoice)


class PaymentRequest(Noun):
    """What the seller's protocol asks for.

    `reference` is the protocol's own term (an x402 requirement, a BOLT11 invoice, escrow terms); `binding` ties the
    payment to one job (``job:<key>`` or a resource URL) and makes the rail's idempotency key.
    """

    rail: str
    amount: Money
    payee: str
    mode: PayMode
    reference: dict[str, object]
    binding: str
    expires_at: datetime | None = None


class PaymentState(StrEnum):
    RESERVED = "reserved"
    SENT = "sent"
    HELD = "held"
    CONFIRMED = "confirmed"
    RELEASED = "released"
    REFUNDED = "refunded"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def final(self) -> bool:
        return self in (
            PaymentState.CONFIRMED, PaymentState.RELEASED, PaymentState.REFUNDED, PaymentState.FAILED
        )  # fmt: skip


class Payment(Noun):
    """A payment and its evidence. `unknown` is looked up, never sent again.

    `evidence` holds what the network gave: ``signature``/``payload`` (authorisation), ``transaction``,
    ``preimage``, ``cancel_transaction``, ``block``.
    """

    id: str
    request: PaymentRequest
    state: PaymentState
    evidence: dict[str, object] = Field(default_factory=dict)


class Hold(Noun):
    """A payment set aside: ends exactly once, in release (to the seller) or refund (to the buyer)."""

    payment: Payment
    deadline: datetime

    @property
    def id(self) -> str:
        return self.payment.id


class Limits(Noun):
    """Limits of one budget node; `None` means none. All in the budget's asset."""

    per_payment: Money | None = None
    per_task: Money | None = None
    per_tick: Money | None = None
    per_hour: Money | None = None  # sliding
    per_day: Money | None = None  # UTC day
    total: Money | None = None
    per_seller: Money | None = None
    per_capability: Money | None = None
    keep_back: Money | None = None  # never touched: spendable is total - keep_back


class Counted(Noun):
    """What a payment counted as in the payer's budget, which is kept in another asset, and who says so."""

    amount: Money
    source: str


class PaymentRecord(Noun):
    """One payment in a receipt: enough to find it on its network.

    `authorization` is what the payer signed, by a name that nobody else's payment has: an ERC-3009 nonce, or the
    payer's signature in a Solana transaction. Receipts from before it was kept lack it; absent fields stay out of the
    JSON, so that their signatures stay good.
    """

    rail: str
    network: str
    asset: str
    amount: str  # atomic units, as text
    payer: str
    payee: str
    transaction: str  # "" when nothing moved
    state: PaymentState
    refund_transaction: str = ""
    authorization: str = ""
    counted: Counted | None = None

    def worth(self, asset: str) -> int:
        """Atomic units of an asset (CAIP-19) that this payment is, or counted as; 0 when it is neither."""
        if self.asset == asset:
            return int(self.amount)
        return 0 if self.counted is None or self.counted.amount.asset.caip19 != asset else self.counted.amount.atomic

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        written: dict[str, object] = handler(self)
        return {name: value for name, value in written.items() if value or name not in ("authorization", "counted")}


class ReceiptStatus(StrEnum):
    SETTLED = "settled"
    REFUNDED = "refunded"
    FAILED = "failed"


class Receipt(Noun):
    """What happened in one hire, signed by the buyer's node; verifiable offline (spec 01).

    `signature` is Ed25519 (base64) over the canonical JSON of everything but itself; `signer` is
    ``ed25519:<hex public key>``.
    """

    version: int = 1
    id: str
    job_id: str
    need_hash: str
    offer: Offer
    quote: Quote | None
    status: ReceiptStatus
    payments: tuple[PaymentRecord, ...]
    result_hash: str  # "" when there is no result
    attestation: str = "none"
    started_at: datetime
    finished_at: datetime
    error: dict[str, object] | None = None
    signer: str = ""
    signature: str = ""
