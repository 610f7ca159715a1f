"""Rights to use agents as ERC-1155 tokens: classes, minting, vouchers, and who has access."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from agentnexus.rails.evm.contracts.abi import AbiValue
from agentnexus.rails.evm.contracts.contract import Call, Contract, as_bool, as_int, as_text, as_tuple
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, keccak, word
from agentnexus.rails.evm.typed_data import Domain

_VOUCHER_TYPEHASH = keccak(
    b"Voucher(address to,uint256 id,uint64 amount,uint64 nonce,uint48 validUntil,address escrow,bytes32 deal)"
)
_EPOCH_BITS = 64


@dataclass(frozen=True, slots=True)
class AgentClass:
    """One agent (or tier of one). `period_seconds` 0: its tokens never end."""

    cap: int
    supply: int
    period_seconds: int
    soulbound: bool
    active: bool


@dataclass(frozen=True, slots=True)
class Voucher:
    """A minter's promise to mint, brought on chain by anybody before `valid_until` (Unix seconds).

    Args:
        deal: what it is given for; with `escrow`, it is worth something only while that deal is open there.
    """

    to: str
    token_id: int
    nonce: int
    valid_until: int
    deal: bytes = bytes(32)
    amount: int = 1
    escrow: str = ZERO_ADDRESS

    def value(self) -> tuple[AbiValue, ...]:
        """For the ABI."""
        return (self.to, self.token_id, self.amount, self.nonce, self.valid_until, self.escrow, self.deal)

    def digest(self, chain_id: int, entitlements: str) -> bytes:
        """What the minter signs."""
        numbers = (self.token_id, self.amount, self.nonce, self.valid_until)
        struct = _VOUCHER_TYPEHASH + word(self.to) + b"".join(word(each) for each in numbers)
        struct += word(self.escrow) + self.deal
        return Domain("AgentNexus Entitlements", "1", chain_id, entitlements).digest(keccak(struct))


def epoch_id(agent_class: int, epoch: int = 0) -> int:
    """The token of a class for an epoch; epoch 0 never ends."""
    return agent_class << _EPOCH_BITS | epoch


class Entitlements(Contract):
    """Who may use which agent."""

    NAME: ClassVar[str] = "Entitlements"

    async def has_access(self, holder: str, agent_class: int) -> bool:
        return as_bool(await self.read("hasAccess", holder, agent_class))

    async def balance(self, holder: str, token_id: int) -> int:
        return as_int(await self.read("balanceOf", holder, token_id))

    async def balances(self, holder: str, token_ids: Sequence[int]) -> list[int]:
        answer = await self.read("balanceOfBatch", [holder] * len(token_ids), list(token_ids))
        return [as_int(each) for each in as_tuple(answer)]

    async def class_of(self, agent_class: int) -> AgentClass:
        """Raises `ContractRefused` (``NoSuchClass``) for one that was never made."""
        cap, supply, period, _exists, soulbound, active = as_tuple(await self.read("classOf", agent_class))
        return AgentClass(as_int(cap), as_int(supply), as_int(period), as_bool(soulbound), as_bool(active))

    async def current_id(self, agent_class: int) -> int:
        """The token that gives access now."""
        return as_int(await self.read("currentId", agent_class))

    async def nonce_used(self, holder: str, nonce: int) -> bool:
        return as_bool(await self.read("nonceUsed", holder, nonce))

    async def uri(self, token_id: int) -> str:
        return as_text(await self.read("uri", token_id))

    def create_class(
        self, agent_class: int, *, cap: int, period_seconds: int = 0, soulbound: bool = True, uri: str = ""
    ) -> Call:
        """Make a class, active from the start; from the registrar."""
        return self.call("createClass", agent_class, cap, period_seconds, soulbound, uri)

    def set_active(self, agent_class: int, active: bool) -> Call:
        return self.call("setActive", agent_class, active)

    def set_cap(self, agent_class: int, cap: int) -> Call:
        return self.call("setCap", agent_class, cap)

    def mint(self, to: str, token_id: int, amount: int = 1) -> Call:
        return self.call("mint", to, token_id, amount)

    def mint_with_voucher(self, voucher: Voucher, signer: str, signature: bytes) -> Call:
        """Mint what a minter promised; from anybody."""
        return self.call("mintWithVoucher", voucher.value(), signer, signature)

    def safe_transfer(self, holder: str, to: str, token_id: int, amount: int = 1) -> Call:
        """Pass tokens on, where their class allows it; from their holder."""
        return self.call("safeTransferFrom", holder, to, token_id, amount, b"")

    def burn(self, holder: str, token_id: int, amount: int = 1) -> Call:
        return self.call("burn", holder, token_id, amount)

    def revoke(self, holder: str, token_id: int, reason: bytes, amount: int = 1) -> Call:
        """Take tokens back; `reason` is the id of the refunded deal. From the revoker."""
        return self.call("revoke", holder, token_id, amount, reason)
