"""A prepaid account as its page shows it, and what each refusal of a claim means to a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

REFUSALS: Final = {
    "malformed": "That is not a transaction signature",
    "unknown": "The network does not know this transaction",
    "unconfirmed": "The transaction is not final yet",
    "failed": "The transaction failed on the chain: nothing was sent",
    "wrong_recipient": "Nothing of this transaction came to the address of this node",
    "wrong_asset": "The transaction carries something that is not taken here",
    "wrong_amount": "The transaction carries another amount",
    "foreign": "The money did not come from your wallet alone",
    "too_old": "The transaction is too old to be claimed",
    "reused": "This transaction was credited before",
}


@dataclass(frozen=True, slots=True)
class HeldView:
    """One asset of an account, as decimal text with its symbol."""

    symbol: str
    available: str
    reserved: str
    spent: str


@dataclass(frozen=True, slots=True)
class TopUpView:
    """Where to send. `qr` is an SVG element of a Solana Pay link that wallets read."""

    address: str
    network: str
    assets: Sequence[str]
    link: str
    qr: str
    claim_days: int


@dataclass(frozen=True, slots=True)
class EntryView:
    """A line of the history; `run_id` leads to the task it was for."""

    label: str
    amount: str
    incoming: bool
    signature: str
    run_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AccountView:
    wallet: str
    created_at: datetime
    held: Sequence[HeldView]
    history: Sequence[EntryView]
    entries: int
    older: int | None = None  # where the next page begins


@dataclass(frozen=True, slots=True)
class PrepaidPage:
    """`top_up` is None where this node keeps no prepaid accounts; `missing` then says what to set.

    `account` is None before one is opened; `proves` is whether opening asks for the wallet's signature.
    """

    top_up: TopUpView | None
    account: AccountView | None = None
    proves: bool = True
    missing: Sequence[tuple[str, str]] = ()
