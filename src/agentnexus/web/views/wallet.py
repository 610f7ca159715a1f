"""A person's own wallet as its pages show it: money, where to send, what happened, who pays for gas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentnexus.web.views.runs import Problem, State
from agentnexus.web.views.signing import SigningView

OPERATION_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "unsigned": ("Waiting for your signature", "wait"),
    "signed": ("On its way", "busy"),
    "succeeded": ("Done", "done"),
    "failed": ("Failed", "fail"),
    "rejected": ("Not sent", "fail"),
    "discarded": ("Discarded", "back"),  # rejected, by its owner
}
KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "server": (
        "This node keeps the key",
        "It signs for you, so nothing is asked of you. The key is sealed at rest, and you may take it with you.",
    ),
    "passkey": ("A passkey of yours", "Nothing leaves the wallet without your finger, face or device PIN."),
    "key": ("A wallet you have already", "Its key owns this account and signs each operation."),
    "delegated": ("A wallet you have already, at its own address", "It signs on the command line (EIP-7702)."),
}
EXPLORERS: Final[Mapping[str, str]] = {
    "eip155:1": "https://etherscan.io",
    "eip155:8453": "https://basescan.org",
    "eip155:84532": "https://sepolia.basescan.org",
}


@dataclass(frozen=True, slots=True)
class TokenView:
    """One thing a wallet holds, as decimal text. `usd` is empty where no price is known."""

    symbol: str
    amount: str
    usd: str = ""


@dataclass(frozen=True, slots=True)
class OwnWallet:
    """`qr` is an SVG element of the address; `owner` is there for a wallet that another one signs for."""

    address: str
    network: str
    kind: str
    kind_label: str
    kind_text: str
    created_at: datetime
    qr: str
    owner: str = ""
    explorer: str = ""
    exported_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class GasView:
    """Who pays for gas: `sentence` for people, `policies` in more words, `choices` for the form.

    `sold`: gas can be paid in USDC, once the wallet lets the paymaster take it.
    """

    sentence: str
    policies: Sequence[tuple[str, Sequence[str]]] = ()
    choices: Sequence[tuple[str, str]] = ()
    sold: bool = False


@dataclass(frozen=True, slots=True)
class MovementView:
    """A line of the history: money that came or went, or an operation without any. `link` leads to what it was for."""

    label: str
    amount: str
    incoming: bool
    counterparty: str
    transaction: str
    explorer: str
    state: State
    at: datetime
    link: str = ""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Who may help the owner back in, and whether somebody is at it; `ready_at` is when new owners can take over."""

    guardian: str = ""
    delay_days: int = 0
    ready_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PasskeyChoice:
    """A passkey that may own a new wallet."""

    credential_id: str
    name: str


@dataclass(frozen=True, slots=True)
class WalletPage:
    """`missing` says why this node keeps no wallets; `wallet` is None before one is made.

    `money_problem` stands where balances would, when the chain does not answer. `faucet` is the command that makes play
    money, where there is such a thing.
    """

    missing: Problem | None = None
    wallet: OwnWallet | None = None
    total: str = ""
    tokens: Sequence[TokenView] = ()
    money_problem: Problem | None = None
    gas: GasView | None = None
    recovery: Recovery = Recovery()
    history: Sequence[MovementView] = ()
    older: str = ""
    passkeys: Sequence[PasskeyChoice] = ()
    faucet: str = ""


@dataclass(frozen=True, slots=True)
class SendTyped:
    """A transfer as typed. `asset` is ``USDC``, the coin's symbol or a token's address; `key` the form's own."""

    to: str
    amount: str
    asset: str
    gas: str
    key: str


@dataclass(frozen=True, slots=True)
class OperationView:
    """Something a wallet does. `sign` is there while it waits for its owner; `passes_on` runs or a month."""

    id: str
    title: str
    state: State
    final: bool
    gas: str
    created_at: datetime
    transaction: str = ""
    explorer: str = ""
    gas_cost: str = ""
    problem: Problem | None = None
    sign: SigningView | None = None
    passes_on: bool = False


def operation_state(name: str) -> State:
    """In words; an unknown one by its own name."""
    label, tone = OPERATION_STATES.get(name, (name.capitalize(), ""))
    return State(name, label, tone)


def explorer_link(network: str, transaction: str) -> str:
    """Where anybody can look a transaction up; empty for chains nobody shows."""
    base = EXPLORERS.get(network, "")
    return f"{base}/tx/{transaction}" if base and transaction else ""
