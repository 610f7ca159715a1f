"""The paymaster: what its policy service signs, the data an operation carries, and its deposit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts.contract import Call, Contract, as_bytes, as_text
from agentnexus.rails.evm.contracts.entry_point import PackedOperation
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, keccak, word
from agentnexus.rails.evm.typed_data import Domain

_TYPEHASH = keccak(
    b"Sponsorship(uint8 mode,uint48 validAfter,uint48 validUntil,address token,uint256 tokenPerNative,"
    b"address sender,uint256 nonce,bytes initCode,bytes callData,bytes32 accountGasLimits,"
    b"uint256 preVerificationGas,bytes32 gasFees,uint256 paymasterVerificationGasLimit,"
    b"uint256 paymasterPostOpGasLimit)"
)
_HEAD_BYTES = 52  # address and two gas limits, in front of the paymaster's own data
_TIME_MAX = (1 << 47) - 1  # the bit above would mean block numbers
# Whoever checks it goes all the way to recovering a key: `s` is in the lower half.
DUMMY_SIGNATURE = bytes.fromhex("f" * 31 + "0" * 33 + "7" + "a" * 63 + "1c")


class Mode(IntEnum):
    SPONSORED = 0
    PAID_IN_TOKEN = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """What a signature of the policy service covers besides the operation itself.

    Args:
        valid_until: Unix seconds; keep it to minutes.
        token: what the account pays its gas in; the zero address when it is sponsored.
        token_per_native: atomic units of the token for 10^18 wei.
    """

    valid_until: int
    valid_after: int = 0
    token: str = ZERO_ADDRESS
    token_per_native: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.valid_after < self.valid_until <= _TIME_MAX:
            raise InvalidInput("a sponsorship's time must be a span of Unix seconds", field="valid_until")
        if (self.token == ZERO_ADDRESS) != (self.token_per_native == 0):
            raise InvalidInput("gas paid in a token needs both the token and its price", field="token_per_native")

    @property
    def mode(self) -> Mode:
        return Mode.SPONSORED if self.token == ZERO_ADDRESS else Mode.PAID_IN_TOKEN

    def data(self, signature: bytes = DUMMY_SIGNATURE) -> bytes:
        """The paymaster's part of an operation."""
        head = bytes([self.mode]) + self.valid_after.to_bytes(6, "big") + self.valid_until.to_bytes(6, "big")
        if self.mode is Mode.PAID_IN_TOKEN:
            head += bytes.fromhex(self.token[2:]) + self.token_per_native.to_bytes(32, "big")
        return head + signature

    def digest(self, operation: PackedOperation, chain_id: int, paymaster: str) -> bytes:
        """What the policy service signs for an operation whose gas limits and fees are final."""
        limits = operation.paymaster_and_data[20:_HEAD_BYTES]
        if len(limits) != 32:
            raise InvalidInput("the operation names no paymaster yet", field="paymaster")
        head = (self.mode, self.valid_after, self.valid_until)
        struct = (
            _TYPEHASH
            + b"".join(word(int(each)) for each in head)
            + word(self.token)
            + word(self.token_per_native)
            + word(operation.sender)
            + word(operation.nonce)
            + keccak(operation.init_code)
            + keccak(operation.call_data)
            + operation.account_gas_limits
            + word(operation.pre_verification_gas)
            + operation.gas_fees
            + word(int.from_bytes(limits[:16], "big"))
            + word(int.from_bytes(limits[16:], "big"))
        )
        return Domain("AgentNexus Paymaster", "1", chain_id, paymaster).digest(keccak(struct))


class Paymaster(Contract):
    """Pays gas from its deposit for operations that its policy service signed."""

    NAME: ClassVar[str] = "Paymaster"

    async def signer(self) -> str:
        """Whose signature sponsors."""
        return as_text(await self.read("SIGNER"))

    async def sponsorship_hash(self, operation: PackedOperation, policy: Policy) -> bytes:
        """The contract's own opinion of `Policy.digest`."""
        data = operation.paymaster_and_data[:_HEAD_BYTES] + policy.data()
        return as_bytes(await self.read("sponsorshipHash", replace(operation, paymaster_and_data=data).value()))

    def deposit(self, wei: int) -> Call:
        """Add to what pays for gas; from anybody."""
        return self.call("deposit", value=wei)

    def withdraw(self, to: str, wei: int) -> Call:
        return self.call("withdraw", to, wei)

    def withdraw_tokens(self, token: str, to: str, amount: int) -> Call:
        return self.call("withdrawTokens", token, to, amount)

    def add_stake(self, wei: int, unstake_delay_seconds: int) -> Call:
        return self.call("addStake", unstake_delay_seconds, value=wei)
