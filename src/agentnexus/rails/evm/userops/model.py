"""A user operation: its fields, the packed form EntryPoint takes, the hash that is signed, and the JSON of bundlers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts.entry_point import DELEGATION_MARKER, ENTRY_POINT, PackedOperation
from agentnexus.rails.evm.delegation import DelegationSignature
from agentnexus.rails.evm.encoding import address, from_hex, quantity, to_hex
from agentnexus.rails.evm.rpc import RpcValue

_U128_MAX = (1 << 128) - 1
_U192_MAX = (1 << 192) - 1
_SHORT_MARKER = "0x7702"


@dataclass(frozen=True, slots=True)
class UserOperation:
    """What an account shall do, and who pays for it. Gas in units, fees in wei per unit, addresses in lower case.

    Args:
        nonce: lane (192 bits) and number in the lane (64 bits); see `nonce_of`.
        factory: makes the account in this operation; None once it exists.
        delegation: for keys that are accounts by EIP-7702: the delegation that is set together with this operation.
            Then `factory` is None and `factory_data` an optional first call of the account.
        paymaster: who pays the gas; the account itself when None.
    """

    sender: str
    nonce: int
    call_data: bytes
    factory: str | None = None
    factory_data: bytes = b""
    call_gas_limit: int = 0
    verification_gas_limit: int = 0
    pre_verification_gas: int = 0
    max_fee_per_gas: int = 0
    max_priority_fee_per_gas: int = 0
    paymaster: str | None = None
    paymaster_verification_gas_limit: int = 0
    paymaster_post_op_gas_limit: int = 0
    paymaster_data: bytes = b""
    signature: bytes = b""
    delegation: DelegationSignature | None = None

    @property
    def delegate(self) -> str | None:
        """The code that the sender's key delegates to in this operation."""
        return self.delegation.delegate if self.delegation else None

    @property
    def init_code(self) -> bytes:
        if self.delegation is not None:
            return DELEGATION_MARKER + self.factory_data
        return bytes.fromhex(self.factory[2:]) + self.factory_data if self.factory else b""

    @property
    def gas_limit(self) -> int:
        """All gas the operation may take, whoever pays."""
        return (
            self.call_gas_limit
            + self.verification_gas_limit
            + self.pre_verification_gas
            + self.paymaster_verification_gas_limit
            + self.paymaster_post_op_gas_limit
        )

    @property
    def max_cost_wei(self) -> int:
        """The most the operation can cost whoever pays its gas."""
        return self.gas_limit * self.max_fee_per_gas

    def pack(self) -> PackedOperation:
        """The form of the contract. Raises `InvalidInput` for numbers that do not fit theirs."""
        return PackedOperation(
            sender=self.sender,
            nonce=self.nonce,
            init_code=self.init_code,
            call_data=self.call_data,
            account_gas_limits=_pair(self.verification_gas_limit, self.call_gas_limit),
            pre_verification_gas=self.pre_verification_gas,
            gas_fees=_pair(self.max_priority_fee_per_gas, self.max_fee_per_gas),
            paymaster_and_data=self._paymaster_and_data(),
            signature=self.signature,
        )

    def _paymaster_and_data(self) -> bytes:
        if self.paymaster is None:
            return b""
        limits = _pair(self.paymaster_verification_gas_limit, self.paymaster_post_op_gas_limit)
        return bytes.fromhex(self.paymaster[2:]) + limits + self.paymaster_data

    @classmethod
    def unpack(cls, packed: PackedOperation, *, delegation: DelegationSignature | None = None) -> Self:
        """The fields of a packed operation; `delegation` for one that carries the marker of EIP-7702."""
        init, paid = packed.init_code, packed.paymaster_and_data
        if 0 < len(init) < 20 or 0 < len(paid) < 52:
            raise InvalidInput("the packed operation is cut off", field="initCode" if init else "paymasterAndData")
        if (init[:20] == DELEGATION_MARKER) != (delegation is not None):
            raise InvalidInput("an operation that delegates and its delegation go together", field="delegation")
        verification, call = _split(packed.account_gas_limits)
        priority, maximum = _split(packed.gas_fees)
        paymaster_verification, post_op = _split(paid[20:52]) if paid else (0, 0)
        return cls(
            sender=packed.sender,
            nonce=packed.nonce,
            call_data=packed.call_data,
            factory=to_hex(init[:20]) if init and delegation is None else None,
            factory_data=init[20:],
            call_gas_limit=call,
            verification_gas_limit=verification,
            pre_verification_gas=packed.pre_verification_gas,
            max_fee_per_gas=maximum,
            max_priority_fee_per_gas=priority,
            paymaster=to_hex(paid[:20]) if paid else None,
            paymaster_verification_gas_limit=paymaster_verification,
            paymaster_post_op_gas_limit=post_op,
            paymaster_data=paid[52:],
            signature=packed.signature,
            delegation=delegation,
        )

    def hash(self, chain_id: int, entry_point: str = ENTRY_POINT) -> bytes:
        """What the owner signs, and what the operation is known by; without the signature."""
        return self.pack().hash(chain_id, entry_point=entry_point, delegate=self.delegate)

    def signed(self, signature: bytes) -> Self:
        return replace(self, signature=signature)

    def to_json(self) -> dict[str, RpcValue]:
        """The form of bundlers' and paymasters' JSON-RPC; fields that are not used are left out."""
        body: dict[str, RpcValue] = {
            "sender": self.sender,
            "nonce": hex(self.nonce),
            "callData": to_hex(self.call_data),
            "callGasLimit": hex(self.call_gas_limit),
            "verificationGasLimit": hex(self.verification_gas_limit),
            "preVerificationGas": hex(self.pre_verification_gas),
            "maxFeePerGas": hex(self.max_fee_per_gas),
            "maxPriorityFeePerGas": hex(self.max_priority_fee_per_gas),
            "signature": to_hex(self.signature),
        }
        if self.delegation is not None:
            body["eip7702Auth"] = {**self.delegation.to_json()}
        if self.delegation is not None or self.factory is not None:
            body["factory"] = _SHORT_MARKER if self.delegation is not None else self.factory
            body["factoryData"] = to_hex(self.factory_data)
        if self.paymaster is not None:
            body["paymaster"] = self.paymaster
            body["paymasterVerificationGasLimit"] = hex(self.paymaster_verification_gas_limit)
            body["paymasterPostOpGasLimit"] = hex(self.paymaster_post_op_gas_limit)
            body["paymasterData"] = to_hex(self.paymaster_data)
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, RpcValue]) -> Self:
        """Read the form of JSON-RPC; absent numbers are 0. Raises `InvalidInput` naming the field."""
        delegation = _delegation(body)

        def number(field: str) -> int:
            return quantity("0x0" if body.get(field) is None else body[field], field=field)

        def data(field: str) -> bytes:
            return from_hex("0x" if body.get(field) is None else body[field], field=field)

        def optional(field: str) -> str | None:
            return address(body[field], field=field) if body.get(field) not in (None, "0x") else None

        return cls(
            sender=address(body.get("sender"), field="sender"),
            nonce=number("nonce"),
            call_data=data("callData"),
            factory=None if delegation else optional("factory"),
            factory_data=data("factoryData"),
            call_gas_limit=number("callGasLimit"),
            verification_gas_limit=number("verificationGasLimit"),
            pre_verification_gas=number("preVerificationGas"),
            max_fee_per_gas=number("maxFeePerGas"),
            max_priority_fee_per_gas=number("maxPriorityFeePerGas"),
            paymaster=optional("paymaster"),
            paymaster_verification_gas_limit=number("paymasterVerificationGasLimit"),
            paymaster_post_op_gas_limit=number("paymasterPostOpGasLimit"),
            paymaster_data=data("paymasterData"),
            signature=data("signature"),
            delegation=delegation,
        )


def _delegation(body: Mapping[str, RpcValue]) -> DelegationSignature | None:
    """The delegation of an operation whose factory is the marker, written short or as a whole address."""
    factory, authorization = body.get("factory"), body.get("eip7702Auth")
    if not isinstance(factory, str) or factory.lower() not in (_SHORT_MARKER, to_hex(DELEGATION_MARKER)):
        return None
    if not isinstance(authorization, dict):
        raise InvalidInput("the operation delegates, but does not say to what", field="eip7702Auth")
    return DelegationSignature.from_json(authorization)


def nonce_of(lane: int, number: int) -> int:
    """A nonce from its lane and its number there; lanes run beside each other."""
    if not 0 <= lane <= _U192_MAX or not 0 <= number < 1 << 64:
        raise InvalidInput("a nonce is a lane of 192 bits and a number of 64", field="nonce")
    return lane << 64 | number


def _pair(high: int, low: int) -> bytes:
    if not (0 <= high <= _U128_MAX and 0 <= low <= _U128_MAX):
        raise InvalidInput("gas and fees are numbers of 128 bits", field="gas")
    return high.to_bytes(16, "big") + low.to_bytes(16, "big")


def _split(pair: bytes) -> tuple[int, int]:
    if len(pair) != 32:
        raise InvalidInput("two packed numbers take 32 bytes", field="gas")
    return int.from_bytes(pair[:16], "big"), int.from_bytes(pair[16:], "big")
