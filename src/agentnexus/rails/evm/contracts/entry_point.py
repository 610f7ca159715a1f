"""ERC-4337's EntryPoint v0.8: packed user operations, nonces, deposits, and bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from agentnexus.rails.evm.contracts.abi import AbiValue
from agentnexus.rails.evm.contracts.contract import Call, Contract, as_bytes, as_int
from agentnexus.rails.evm.encoding import keccak, word
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.typed_data import Domain

ENTRY_POINT = "0x4337084d9e255ff0702461cf8895ce9e3b5ff108"
_TYPEHASH = keccak(
    b"PackedUserOperation(address sender,uint256 nonce,bytes initCode,bytes callData,bytes32 accountGasLimits,"
    b"uint256 preVerificationGas,bytes32 gasFees,bytes paymasterAndData)"
)
DELEGATION_MARKER = b"\x77\x02" + bytes(18)
_NOTHING = keccak(b"")


@dataclass(frozen=True, slots=True)
class PackedOperation:
    """A user operation as EntryPoint takes it: two 128-bit numbers to a word, optional parts run together."""

    sender: str
    nonce: int
    init_code: bytes
    call_data: bytes
    account_gas_limits: bytes
    pre_verification_gas: int
    gas_fees: bytes
    paymaster_and_data: bytes
    signature: bytes

    def value(self) -> tuple[AbiValue, ...]:
        """For the ABI."""
        return (
            self.sender,
            self.nonce,
            self.init_code,
            self.call_data,
            self.account_gas_limits,
            self.pre_verification_gas,
            self.gas_fees,
            self.paymaster_and_data,
            self.signature,
        )

    def hash(self, chain_id: int, *, entry_point: str = ENTRY_POINT, delegate: str | None = None) -> bytes:
        """What the account's owner signs (EIP-712); `delegate` is the code a delegating key (EIP-7702) points at."""
        init_code = self.init_code
        if delegate is not None and init_code[:20] == DELEGATION_MARKER:
            init_code = bytes.fromhex(delegate[2:]) + init_code[20:]
        struct = (
            _TYPEHASH
            + word(self.sender)
            + word(self.nonce)
            + (keccak(init_code) if init_code else _NOTHING)
            + keccak(self.call_data)
            + self.account_gas_limits
            + word(self.pre_verification_gas)
            + self.gas_fees
            + (keccak(self.paymaster_and_data) if self.paymaster_and_data else _NOTHING)
        )
        return _domain(chain_id, entry_point).digest(keccak(struct))


class EntryPoint(Contract):
    """The one contract that runs user operations; at the same address on every chain."""

    NAME: ClassVar[str] = "EntryPoint"

    def __init__(self, rpc: Rpc, address: str = ENTRY_POINT) -> None:
        super().__init__(rpc, address)

    async def nonce(self, account: str, key: int = 0) -> int:
        """The next nonce of an account; `key` (192 bits) picks the lane, and lanes run beside each other."""
        return as_int(await self.read("getNonce", account, key, block="pending"))

    async def deposit_of(self, owner: str) -> int:
        """Wei that an account or paymaster keeps here for gas."""
        return as_int(await self.read("balanceOf", owner))

    async def operation_hash(self, operation: PackedOperation) -> bytes:
        """The contract's own opinion of `PackedOperation.hash`."""
        return as_bytes(await self.read("getUserOpHash", operation.value()))

    def deposit_to(self, owner: str, wei: int) -> Call:
        return self.call("depositTo", owner, value=wei)

    def handle(self, operations: Sequence[PackedOperation], beneficiary: str) -> Call:
        """Run operations and send what they pay for gas to the beneficiary."""
        return self.call("handleOps", [each.value() for each in operations], beneficiary)


@lru_cache(maxsize=64)
def _domain(chain_id: int, entry_point: str) -> Domain:
    return Domain("ERC4337", "1", chain_id, entry_point)
