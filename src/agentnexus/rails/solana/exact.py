"""The transaction of an x402 `exact` payment on Solana, as bytes: built and signed here, sent by the seller's side.

Slot 0 is the facilitator's: it pays the network's fee and signs last. Nothing in this module does I/O.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace

from solders.hash import Hash
from solders.message import Message, MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from agentnexus.rails.solana.programs import (
    Token,
    compute_unit_limit,
    compute_unit_price,
    memo,
    transfer_tokens,
)

MAX_COMPUTE_UNIT_PRICE = 5_000_000  # micro-lamports per compute unit, by the scheme
MAX_MEMO_BYTES = 256
MAX_TRANSACTION_BYTES = 1232  # one network packet
LAMPORTS_PER_SIGNATURE = 5000
BLOCKHASH_BLOCKS = 150  # a transaction is taken up to so many blocks after its blockhash

UNIT_LIMIT = 20_000
# Two purchases with the seller's memo in one block would be one transaction: the unit limit, which costs nothing at
# our price, tells them apart.
UNIT_LIMIT_VARIANTS = 4096
UNIT_PRICE = 1


@dataclass(frozen=True, slots=True)
class Payment:
    """What one payment does: `amount` atomic units of `token` from `payer` to `payee`, with `memo` beside it."""

    fee_payer: Pubkey
    payer: Pubkey
    payee: Pubkey
    token: Token
    amount: int
    memo: bytes
    unit_limit: int = UNIT_LIMIT
    unit_price: int = UNIT_PRICE

    @property
    def source(self) -> Pubkey:
        return self.token.account_of(self.payer)

    def with_unit_limit(self, units: int) -> Payment:
        return replace(self, unit_limit=units)

    def message(self, blockhash: Hash) -> MessageV0:
        """The scheme's four instructions, good as long as `blockhash` is."""
        instructions = [
            compute_unit_limit(self.unit_limit),
            compute_unit_price(self.unit_price),
            transfer_tokens(self.payer, self.token.account_of(self.payee), self.amount, self.token),
            memo(self.memo),
        ]
        return MessageV0.try_compile(self.fee_payer, instructions, [], blockhash)


def memo_for(key: str) -> bytes:
    """A memo that no other payment has and that a repeat of this one has again: 32 hexadecimal digits."""
    return hashlib.sha256(b"x402-svm-memo\n" + key.encode()).hexdigest()[:32].encode()


def unit_limit_for(key: str, attempt: int = 0) -> int:
    """The unit limit that tells this payment from others with the same memo."""
    digest = hashlib.sha256(b"x402-svm-units\n" + key.encode()).digest()
    return UNIT_LIMIT + (int.from_bytes(digest[:4], "big") + attempt) % UNIT_LIMIT_VARIANTS


def signed_bytes(message: MessageV0 | Message) -> bytes:
    """What every signer of the transaction signs."""
    return to_bytes_versioned(message)


def message_hash(message: MessageV0 | Message) -> str:
    """What names a payment, in hex: nobody can vary it, while slot 0 says only who sponsored the fee."""
    return hashlib.sha256(signed_bytes(message)).hexdigest()


def partly_signed(message: MessageV0, payer_signature: bytes) -> str:
    """The transaction as it goes to the seller, in base64: slot 0 is empty."""
    signatures = [Signature.default(), Signature.from_bytes(payer_signature)]
    return base64.b64encode(bytes(VersionedTransaction.populate(message, signatures))).decode("ascii")


def source_and_memo(payload: str) -> tuple[Pubkey, bytes]:
    """Of a transaction that `partly_signed` made: the account it takes from, and what it can be found by."""
    message = VersionedTransaction.from_bytes(base64.b64decode(payload)).message
    _limit, _price, transfer, memo_ = message.instructions
    return message.account_keys[bytes(transfer.accounts)[0]], bytes(memo_.data)


def payer_signature(payload: str) -> str:
    """Of a transaction that `partly_signed` made: what the payer signed it with. It stays in it, whoever sends it."""
    return str(VersionedTransaction.from_bytes(base64.b64decode(payload)).signatures[1])


def fully_signed(transaction: VersionedTransaction, fee_payer_signature: bytes) -> VersionedTransaction:
    """The same transaction with slot 0 filled in."""
    signatures = [Signature.from_bytes(fee_payer_signature), *transaction.signatures[1:]]
    return VersionedTransaction.populate(transaction.message, signatures)


def network_fee_lamports(signatures: int, unit_limit: int, unit_price: int) -> int:
    """What the fee payer is charged: per signature, and for the priority at the price per compute unit."""
    return signatures * LAMPORTS_PER_SIGNATURE + -(-unit_limit * unit_price // 1_000_000)
