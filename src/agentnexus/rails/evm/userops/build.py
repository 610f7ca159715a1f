"""From calls to a signed operation: nonce, account creation, fees, gas, sponsor, signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from agentnexus.rails.evm.contracts.abi import abi_of
from agentnexus.rails.evm.contracts.account import AccountPlan, execute_data
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.delegation import DelegationSignature, delegate_of, sign_delegation
from agentnexus.rails.evm.encoding import uint
from agentnexus.rails.evm.rpc import Call as RpcCall
from agentnexus.rails.evm.rpc import Rpc, call_data, call_int, eth_call
from agentnexus.rails.evm.signer import EvmSigner
from agentnexus.rails.evm.userops.bundler import Bundler, GasEstimate
from agentnexus.rails.evm.userops.model import UserOperation
from agentnexus.rails.evm.userops.signers import OperationSigner
from agentnexus.rails.evm.userops.sponsors import Sponsor


@dataclass(frozen=True, slots=True)
class Sender:
    """The account that acts.

    Args:
        factory: makes the account in its first operation, with `factory_data`; left out after that.
        key: of an address that is to run `delegate`'s code (EIP-7702); the delegation goes with its first operation.
    """

    address: str
    factory: str | None = None
    factory_data: bytes = b""
    key: EvmSigner | None = None
    delegate: str | None = None

    @classmethod
    def planned(cls, plan: AccountPlan, factory: str, implementation: str) -> Self:
        """An account of our factory, whether it exists yet or not."""
        creation = abi_of("AccountFactory").encode("createAccount", plan.values())
        return cls(plan.address(factory, implementation), factory, creation)

    @classmethod
    def delegating(cls, key: EvmSigner, implementation: str) -> Self:
        """An ordinary key as an account of its own address; the same address, and nothing to create."""
        return cls(key.public_id, key=key, delegate=implementation)


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
    state = await _state(rpc, sender, lane)
    delegation = await _delegation(sender, state, bundler.chain_id)
    exists = bool(state.code)
    operation = UserOperation(
        sender=sender.address,
        nonce=state.nonce,
        call_data=execute_data(calls),
        factory=None if exists else sender.factory,
        factory_data=b"" if exists else sender.factory_data,
        max_fee_per_gas=fees.maximum,
        max_priority_fee_per_gas=fees.priority,
        signature=signer.dummy,
        delegation=delegation,
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


@dataclass(frozen=True, slots=True)
class _State:
    """The account on the chain: its code, its next nonce, and how many transactions its own key sent."""

    code: bytes
    nonce: int
    transactions: int


async def _state(rpc: Rpc, sender: Sender, lane: int) -> _State:
    nonce = abi_of("EntryPoint").encode("getNonce", (sender.address, lane))
    code, number, transactions = await rpc.batch(
        [
            RpcCall("eth_getCode", (sender.address, "latest")),
            eth_call(ENTRY_POINT, nonce),
            RpcCall("eth_getTransactionCount", (sender.address, "latest")),
        ]
    )
    return _State(call_data(code), uint(call_data(number)), call_int(transactions))


async def _delegation(sender: Sender, state: _State, chain_id: int) -> DelegationSignature | None:
    """The delegation that is still to be set, if any."""
    if sender.key is None or sender.delegate is None or delegate_of(state.code) == sender.delegate:
        return None
    return await sign_delegation(sender.key, chain_id, sender.delegate, state.transactions)
