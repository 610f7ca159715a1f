"""From calls to a signed operation: nonce, account creation, fees, gas, sponsor, signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from agentnexus.rails.evm.contracts.abi import abi_of
from agentnexus.rails.evm.contracts.account import AccountPlan, execute_data
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.encoding import uint
from agentnexus.rails.evm.rpc import Call as RpcCall
from agentnexus.rails.evm.rpc import Rpc, call_data, eth_call
from agentnexus.rails.evm.userops.bundler import Bundler, GasEstimate
from agentnexus.rails.evm.userops.model import UserOperation
from agentnexus.rails.evm.userops.signers import OperationSigner
from agentnexus.rails.evm.userops.sponsors import Sponsor


@dataclass(frozen=True, slots=True)
class Sender:
    """The account that acts. `factory` and its data make it in its first operation, and are left out after that."""

    address: str
    factory: str | None = None
    factory_data: bytes = b""

    @classmethod
    def planned(cls, plan: AccountPlan, factory: str, implementation: str) -> Self:
        """An account of our factory, whether it exists yet or not."""
        creation = abi_of("AccountFactory").encode("createAccount", plan.values())
        return cls(plan.address(factory, implementation), factory, creation)


async def build(
    rpc: Rpc,
    bundler: Bundler,
    sender: Sender,
    calls: Sequence[Call],
    *,
    signer: OperationSigner,
    sponsor: Sponsor | None = None,
    lane: int = 0,
    gas: GasEstimate | None = None,
) -> UserOperation:
    """A signed operation that runs `calls`, all or none, ready for `bundler.send`.

    Args:
        sponsor: who pays the gas; the account itself when None.
        lane: nonces of different lanes do not wait for each other.
        gas: limits that are known already, which saves the estimate.

    Raises `ContractRefused` when the calls would fail, and what the sponsor raises when it refuses.
    """
    fees = await bundler.gas_price()
    exists, nonce = await _state(rpc, sender, lane)
    operation = UserOperation(
        sender=sender.address,
        nonce=nonce,
        call_data=execute_data(calls),
        factory=None if exists else sender.factory,
        factory_data=b"" if exists else sender.factory_data,
        max_fee_per_gas=fees.maximum,
        max_priority_fee_per_gas=fees.priority,
        signature=signer.dummy,
    )
    if sponsor is not None:
        operation = await sponsor.stub(operation)
    limits = gas or await bundler.estimate(operation)
    operation = with_gas(operation, limits, extra_verification=0 if gas else signer.extra_verification_gas)
    if sponsor is not None:
        operation = await sponsor.final(operation)
    return operation.signed(await signer.sign(operation.hash(bundler.chain_id)))


def with_gas(operation: UserOperation, gas: GasEstimate, *, extra_verification: int = 0) -> UserOperation:
    """The operation with these limits; the sponsor's own, where it gave some, are a floor."""
    return replace(
        operation,
        call_gas_limit=gas.call,
        verification_gas_limit=gas.verification + extra_verification,
        pre_verification_gas=gas.pre_verification,
        paymaster_verification_gas_limit=max(
            operation.paymaster_verification_gas_limit, gas.paymaster_verification or 0
        ),
        paymaster_post_op_gas_limit=max(operation.paymaster_post_op_gas_limit, gas.paymaster_post_op or 0),
    )


async def _state(rpc: Rpc, sender: Sender, lane: int) -> tuple[bool, int]:
    """Whether the account exists, and its next nonce."""
    nonce = abi_of("EntryPoint").encode("getNonce", (sender.address, lane))
    answers = await rpc.batch(
        [RpcCall("eth_getCode", (sender.address, "latest")), eth_call(ENTRY_POINT, nonce, block="latest")]
    )
    return call_data(answers[0]) != b"", uint(call_data(answers[1]))
