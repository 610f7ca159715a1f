"""Prepaid accounts as values, with the words for what may be refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from agentnexus.core.errors import InsufficientFunds
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Payment, PaymentRequest


class EntryKind(StrEnum):
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    RESERVED = "reserved"
    CHARGED = "charged"
    RELEASED = "released"


class HoldState(StrEnum):
    """``opening → open → closing → closed``; ``refused`` when there was too little. The last two may begin again."""

    OPENING = "opening"
    REFUSED = "refused"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Account:
    """Who may deposit from which wallet; withdrawals go back to it."""

    user_id: str
    wallet: str
    network: str
    created_at: datetime

    @property
    def ledger(self) -> str:
        return f"escrow:{self.user_id}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history. `amount` is signed from the owner's view of what is available."""

    kind: EntryKind
    amount: Money
    signature: str  # of a deposit or withdrawal; of a charge, the transaction that paid the seller
    reference: str
    at: datetime
    position: int = 0  # in the history; kept by the store


@dataclass(frozen=True, slots=True)
class EscrowBalance:
    """`reserved` is promised to running work or on its way out."""

    available: Money
    reserved: Money

    @property
    def total(self) -> Money:
        return self.available + self.reserved


@dataclass(frozen=True, slots=True)
class Hold:
    """Money of a user set aside for `reference`."""

    reference: str
    user_id: str
    amount: Money
    state: HoldState
    opened_at: datetime
    opening: int

    @property
    def ledger(self) -> str:
        return f"escrow-hold:{self.reference}"


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Money on its way to the owner's wallet. `state` as a payment's; `finished_at` once it is known."""

    id: str
    user_id: str
    request: PaymentRequest
    state: str
    payment: Payment | None
    reason: str
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Payout:
    """Income that the operator took out of the treasury. `left` is what is there now."""

    signature: str
    receiver: str
    amount: Money
    booked_at: datetime
    left: Money

    def to_json(self) -> dict[str, object]:
        return {
            "signature": self.signature,
            "receiver": self.receiver,
            "amount": self.amount.to_json(),
            "booked_at": self.booked_at.isoformat(),
            "left": self.left.to_json(),
        }


def charged_account(asset: Asset) -> str:
    """Where what users paid from their accounts goes: the node's own income."""
    return f"income:escrow:{asset.network}"


def outside_account(network: str) -> str:
    """The world beyond the treasury: the opposite of everything that the treasury wallet must hold."""
    return f"external:escrow:{network}"


def ownership_message(user_id: str, wallet: str) -> str:
    """What the wallet signs to prove that it belongs to the user."""
    return f"AgentNexus prepaid account\nuser: {user_id}\nwallet: {wallet}"


def shortfall(available: Money, required: Money) -> InsufficientFunds:
    """The refusal that spec 05 words."""
    return InsufficientFunds(
        f"Insufficient escrow balance. Available: {plain(available)}, Required: {plain(required)}. Please top up.",
        next_step="send more to the escrow address and claim it with the transaction's signature",
        available=plain(available),
        required=plain(required),
    )


def plain(money: Money) -> str:
    """Decimal text with one digit after the point at least, as ``0.5`` and ``2.0``."""
    text = f"{money.decimal.normalize():f}"
    return text if "." in text else f"{text}.0"
