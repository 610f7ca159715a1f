"""What a user's wallet is, what it sends, and what somebody has to sign for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from agentnexus.core.money import Money
from agentnexus.rails.evm.contracts.account import Owner
from agentnexus.rails.evm.userops.passkeys import Assertion

DISCARDED = "you discarded it"  # message of the error of an operation that its owner took back


class WalletKind(StrEnum):
    """Who signs for a wallet."""

    SERVER = "server"  # this node, with a key that is sealed at rest and can be exported
    PASSKEY = "passkey"  # a passkey in the user's browser or phone
    KEY = "key"  # a wallet the user has already, as the owner of an account of our factory
    DELEGATED = "delegated"  # a wallet the user has already, at its own address (EIP-7702)


class GasPayer(StrEnum):
    """Who pays for gas."""

    SPONSOR = "sponsor"  # our paymaster, by its policies
    USDC = "usdc"  # the account, in USDC, at a price our paymaster signs
    ACCOUNT = "account"  # the account, in the chain's coin


class OperationState(StrEnum):
    UNSIGNED = "unsigned"  # waits for its owner's signature
    SIGNED = "signed"  # kept before it leaves; perhaps on chain, perhaps not yet
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # mined, its calls failed: nothing of them happened
    REJECTED = "rejected"  # never mined, and never will be

    @property
    def final(self) -> bool:
        return self in (OperationState.SUCCEEDED, OperationState.FAILED, OperationState.REJECTED)


@dataclass(frozen=True, slots=True)
class Wallet:
    """A user's account on one network. `credential_id` (base64url) is the passkey's, where there is one."""

    id: str
    user_id: str
    network: str
    address: str
    kind: WalletKind
    owner: Owner
    created_at: datetime
    credential_id: str = ""
    exported_at: datetime | None = None
    proven: bool = False  # a signature by the owner was seen; until then anybody may have named that address


@dataclass(frozen=True, slots=True)
class PasskeyKey:
    """The passkey that shall own a wallet; `public_key` is DER or the 65 bytes of the point."""

    credential_id: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Operation:
    """Something a wallet does: calls that happen all or none, once per `key` of its user.

    Args:
        purpose: ``send``, ``purchase`` or ``setting``.
        title: what it does, in words for people.
        hash: of the user operation, "" while nothing is built.
        valid_until: when what waits for a signature is too old and is built anew.
        error: in our error form, when it ended badly, or while it is refused.
    """

    id: str
    user_id: str
    wallet_id: str
    key: str
    purpose: str
    title: str
    gas: GasPayer
    state: OperationState
    created_at: datetime
    updated_at: datetime
    hash: str = ""
    valid_until: datetime | None = None
    transaction: str = ""
    gas_cost_wei: int | None = None
    error: Mapping[str, object] | None = None

    @property
    def discarded(self) -> bool:
        """Its owner took it back before it was signed."""
        return self.error is not None and self.error.get("message") == DISCARDED


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """What the owner is to sign for an operation.

    Args:
        hash: the 32 bytes; a passkey's challenge as they are.
        typed_data: the same as EIP-712 JSON, for wallets that show what they sign.
        delegation: EIP-7702 authorisation to sign as well: chain id, address, nonce.
    """

    operation_id: str
    kind: WalletKind
    hash: bytes
    valid_until: datetime
    credential_id: str = ""
    typed_data: Mapping[str, object] | None = None
    delegation: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class KeySignature:
    """65 bytes over the operation's hash (or its typed data), and over the delegation where one was asked for."""

    signature: bytes
    delegation: bytes = b""


Answer = Assertion | KeySignature


@dataclass(frozen=True, slots=True)
class Transfer:
    """Something to send: `amount` is decimal text; `asset` is ``USDC``, the coin's symbol, or an ERC-20's address."""

    to: str
    amount: str
    asset: str = "USDC"


@dataclass(frozen=True, slots=True)
class Balances:
    """What an account holds in one block. USDC counts as dollars; the coin's worth is None where nobody said it."""

    coin: Money
    usdc: Money
    coin_usd: Decimal | None
    usdc_usd: Decimal
    block_number: int


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """USDC that came or went, or an operation that moved none.

    Args:
        kind: ``in``, ``out`` or ``operation``.
        counterparty: who sent or got it.
        discarded: its owner took it back before it was signed.
        operation_id: what it was a part of, where that was an operation of this wallet.
    """

    id: str
    kind: str
    at: datetime
    title: str
    transaction: str
    amount: Money | None = None
    counterparty: str = ""
    operation_id: str = ""
    purpose: str = ""
    state: OperationState = OperationState.SUCCEEDED
    discarded: bool = False


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Newest first; `before` asks for the next page, "" at the end. `complete`: the chain was read up to its head."""

    lines: Sequence[HistoryLine]
    before: str
    complete: bool
