"""Bundlers: whoever brings operations on chain, and what they tell afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agentnexus.rails.evm.contracts.abi import abi_of
from agentnexus.rails.evm.contracts.contract import as_bool, as_bytes, as_int, as_text
from agentnexus.rails.evm.contracts.refusals import refusal
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, to_hex
from agentnexus.rails.evm.errors import Reverted
from agentnexus.rails.evm.fees import Fees
from agentnexus.rails.evm.receipts import Log, Receipt
from agentnexus.rails.evm.userops.model import UserOperation


@dataclass(frozen=True, slots=True)
class GasEstimate:
    """Gas limits for an operation; the paymaster's are None where its own say stands."""

    call: int
    verification: int
    pre_verification: int
    paymaster_verification: int | None = None
    paymaster_post_op: int | None = None


@dataclass(frozen=True, slots=True)
class UserOperationReceipt:
    """A mined operation. `succeeded` False: its calls failed, nothing of them happened, and the gas was paid.

    Args:
        hash: of the operation.
        paymaster: who paid, None for the account itself.
        gas_cost_wei: what it was charged.
        reason: why its calls failed, where they gave a reason.
        logs: events of this operation's calls.
    """

    hash: str
    sender: str
    nonce: int
    paymaster: str | None
    succeeded: bool
    gas_cost_wei: int
    gas_used: int
    transaction: str
    block_number: int
    block_hash: str
    logs: tuple[Log, ...] = ()
    reason: Reverted | None = None


class Bundler(Protocol):
    """Brings operations on chain.

    All methods raise `ChainUnavailable` when the bundler cannot be reached, and `ContractRefused`, `PaymentFailed` or
    another of the family when it refuses.
    """

    @property
    def chain_id(self) -> int: ...

    async def gas_price(self) -> Fees:
        """What an operation has to offer now."""

    async def estimate(self, operation: UserOperation) -> GasEstimate:
        """Gas limits for an operation whose signature is a dummy. Raises `ContractRefused` when its calls fail."""

    async def send(self, operation: UserOperation) -> str:
        """Hand a signed operation over; its hash. The same operation again is no second one."""

    async def receipt(self, operation_hash: str, *, timeout_seconds: float = 30.0) -> UserOperationReceipt:
        """Wait until it is mined. Raises `PaymentUnknown` when time is up."""


def operation_receipts(receipt: Receipt) -> list[UserOperationReceipt]:
    """All operations of a mined bundle, each with the events between the one before and itself."""
    abi = abi_of("EntryPoint")
    found: list[UserOperationReceipt] = []
    logs: list[Log] = []
    reasons: dict[str, Reverted] = {}
    for log in receipt.logs:
        event = abi.event(log)
        if event is None:
            logs.append(log)
        elif event.name == "BeforeExecution":
            logs.clear()  # what came before belongs to no single operation
        elif event.name in {"UserOperationRevertReason", "PostOpRevertReason"}:
            data = as_bytes(event.arguments["revertReason"])
            reasons[to_hex(as_bytes(event.arguments["userOpHash"]))] = refusal(data)
        elif event.name == "UserOperationEvent":
            told = event.arguments
            operation_hash, paymaster = to_hex(as_bytes(told["userOpHash"])), as_text(told["paymaster"])
            found.append(
                UserOperationReceipt(
                    hash=operation_hash,
                    sender=as_text(told["sender"]),
                    nonce=as_int(told["nonce"]),
                    paymaster=None if paymaster == ZERO_ADDRESS else paymaster,
                    succeeded=as_bool(told["success"]),
                    gas_cost_wei=as_int(told["actualGasCost"]),
                    gas_used=as_int(told["actualGasUsed"]),
                    transaction=receipt.transaction,
                    block_number=receipt.block_number,
                    block_hash=receipt.block_hash,
                    logs=tuple(logs),
                    reason=reasons.get(operation_hash),
                )
            )
            logs.clear()
    return found
