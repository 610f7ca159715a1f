"""The escrow: terms and their id without asking the chain, entries, exits, and what became of a deal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from agentnexus.rails.evm.contracts.abi import AbiValue, Event
from agentnexus.rails.evm.contracts.contract import Call, Contract, as_bool, as_int, as_text, as_tuple
from agentnexus.rails.evm.encoding import keccak, word

_TERMS_TYPEHASH = keccak(
    b"Terms(address buyer,address seller,uint128 amount,uint32 lifetime,uint16 feeBps,uint128 salt)"
)
DEFAULT_LIFETIME_SECONDS = 24 * 3600


class DealStatus(IntEnum):
    NONE = 0
    OPEN = 1
    RELEASED = 2
    REFUNDED = 3
    EXPIRED = 4
    RESOLVED = 5

    @property
    def is_final(self) -> bool:
        return self > DealStatus.OPEN


@dataclass(frozen=True, slots=True)
class DealTerms:
    """What buyer and seller agree on.

    Args:
        buyer: lower-case address that gets refunds, and pays in deposits by signature.
        seller: lower-case address that gets releases.
        amount: atomic units of the escrow's asset.
        salt: makes equal deals different; 128 bits.
        fee_bps: the market's fee in hundredths of a percent, as `Escrow.market` says it is now.
        lifetime_seconds: until anybody may send the money back; 0 for a day.
    """

    buyer: str
    seller: str
    amount: int
    salt: int
    fee_bps: int
    lifetime_seconds: int = 0

    def value(self) -> tuple[AbiValue, ...]:
        """For the ABI."""
        return (self.buyer, self.seller, self.amount, self.lifetime_seconds, self.fee_bps, self.salt)

    def hash(self) -> bytes:
        """EIP-712 hash of the terms."""
        numbers = (self.amount, self.lifetime_seconds, self.fee_bps, self.salt)
        return keccak(_TERMS_TYPEHASH + word(self.buyer) + word(self.seller) + b"".join(word(each) for each in numbers))

    def deal_id(self, chain_id: int, escrow: str) -> bytes:
        """The id of a deal of these terms in that escrow."""
        return keccak(self.hash() + word(chain_id) + word(escrow))

    @classmethod
    def from_event(cls, event: Event) -> Self:
        """The terms that a ``Deposited`` event tells whole."""
        told = event.arguments
        return cls(
            buyer=as_text(told["buyer"]),
            seller=as_text(told["seller"]),
            amount=as_int(told["amount"]),
            salt=as_int(told["salt"]),
            fee_bps=as_int(told["feeBps"]),
            lifetime_seconds=as_int(told["lifetime"]),
        )


@dataclass(frozen=True, slots=True)
class Deal:
    """A deal as the chain has it: `expires_at` in Unix seconds, `remaining` in atomic units."""

    status: DealStatus
    expires_at: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Market:
    """The fee of new deals, who gets it, and whether deposits are stopped."""

    fee_recipient: str
    fee_bps: int
    paused: bool


class Escrow(Contract):
    """Money held between a buyer and a seller until the work is delivered."""

    NAME: ClassVar[str] = "Escrow"

    async def deal(self, deal_id: bytes) -> Deal:
        status, expires_at, remaining = as_tuple(await self.read("deal", deal_id))
        return Deal(DealStatus(as_int(status)), as_int(expires_at), as_int(remaining))

    async def market(self) -> Market:
        recipient, fee_bps, paused = as_tuple(await self.read("market"))
        return Market(as_text(recipient), as_int(fee_bps), as_bool(paused))

    async def token(self) -> str:
        """The asset this escrow holds; the zero address for the chain's coin."""
        return as_text(await self.read("TOKEN"))

    async def credit(self, owner: str) -> int:
        """What could not be paid out to an address and waits for it."""
        return as_int(await self.read("credit", owner))

    async def fees(self) -> int:
        """Fees taken and not swept."""
        return as_int(await self.read("fees"))

    def deposit(self, terms: DealTerms) -> Call:
        """Open a deal with the caller's tokens, which the escrow must be allowed to take."""
        return self.call("deposit", terms.value())

    def deposit_batch(self, batch: Sequence[DealTerms]) -> Call:
        return self.call("depositBatch", [each.value() for each in batch])

    def deposit_native(self, terms: DealTerms) -> Call:
        return self.call("depositNative", terms.value(), value=terms.amount)

    def deposit_with_authorization(
        self, terms: DealTerms, valid_after: int, valid_before: int, signature: bytes
    ) -> Call:
        """Open a deal with the buyer's ERC-3009 signature, whose nonce is the deal's id; from any sender."""
        return self.call("depositWithAuthorization", terms.value(), valid_after, valid_before, signature)

    def deposit_with_permit2(self, terms: DealTerms, nonce: int, deadline: int, signature: bytes) -> Call:
        return self.call("depositWithPermit2", terms.value(), nonce, deadline, signature)

    def release(self, terms: DealTerms) -> Call:
        """Pay the seller; from the buyer or the orchestrator."""
        return self.call("release", terms.value())

    def release_part(self, terms: DealTerms, amount: int) -> Call:
        return self.call("releasePart", terms.value(), amount)

    def release_batch(self, batch: Sequence[DealTerms]) -> Call:
        return self.call("releaseBatch", [each.value() for each in batch])

    def refund(self, terms: DealTerms) -> Call:
        """Give the buyer the rest back; from the seller or the orchestrator."""
        return self.call("refund", terms.value())

    def refund_batch(self, batch: Sequence[DealTerms]) -> Call:
        return self.call("refundBatch", [each.value() for each in batch])

    def expire(self, terms: DealTerms) -> Call:
        """Give the buyer the rest back once the deal is past its time; from anybody."""
        return self.call("expire", terms.value())

    def expire_batch(self, batch: Sequence[DealTerms]) -> Call:
        return self.call("expireBatch", [each.value() for each in batch])

    def resolve(self, terms: DealTerms, for_seller: int) -> Call:
        """End a dispute: so much to the seller, the rest to the buyer; from the arbiter."""
        return self.call("resolve", terms.value(), for_seller)

    def withdraw_credit(self, to: str) -> Call:
        return self.call("withdrawCredit", to)

    def sweep_fees(self) -> Call:
        return self.call("sweepFees")

    def pause_deposits(self) -> Call:
        return self.call("pauseDeposits")

    def unpause_deposits(self) -> Call:
        return self.call("unpauseDeposits")
