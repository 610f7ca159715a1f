"""Gas of an operation, found by one simulation on the node: each of EntryPoint's calls, by itself."""

from __future__ import annotations

from dataclasses import replace

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts.abi import abi_of, encode_values
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.contracts.refusals import refusal
from agentnexus.rails.evm.delegation import AUTHORIZATION_GAS, designator
from agentnexus.rails.evm.encoding import from_hex, quantity, selector, to_hex, uint
from agentnexus.rails.evm.errors import NodeError
from agentnexus.rails.evm.rpc import Rpc, RpcValue, method_missing
from agentnexus.rails.evm.userops.bundler import GasEstimate
from agentnexus.rails.evm.userops.model import UserOperation

_TRANSACTION_GAS = 21_000
_NON_ZERO_BYTE_GAS, _ZERO_BYTE_GAS = 16, 4
# What EntryPoint does for an operation outside everything it meters: copying, the event, paying.
_OPERATION_GAS = 18_500
# EntryPoint's own work that counts as verification: hashing, calling the account, the nonce; the first number of a lane
# takes a storage slot.
_VERIFICATION_OVERHEAD_GAS, _NEW_LANE_GAS = 14_000, 17_100
# An account that pays by itself sends coin ahead while it is validated: a call with value, and its deposit's slot.
_PREPAYMENT_GAS = 36_000
_NUMBER_MASK = (1 << 64) - 1
# Rollups of the OP stack, and the contract that knows what their data costs.
_OP_STACK = {10, 8453, 84532}
_FEE_ORACLE = "0x420000000000000000000000000000000000000f"
_SIMULATION_GAS = 10_000_000
# Where a node cannot simulate: enough for any operation of ours.
_GENEROUS = GasEstimate(call=500_000, verification=400_000, pre_verification=0)


async def estimate_gas(rpc: Rpc, operation: UserOperation, chain_id: int, *, block: str = "latest") -> GasEstimate:
    """Limits with some room. Raises `ContractRefused` when creation, paymaster or calls would fail."""
    before = pre_verification_gas(operation) + await data_fee_gas(rpc, operation, chain_id)
    trial = replace(
        operation,
        verification_gas_limit=operation.verification_gas_limit or _SIMULATION_GAS // 10,
        call_gas_limit=operation.call_gas_limit or _SIMULATION_GAS // 10,
        pre_verification_gas=before,
    )
    steps = _steps(trial, chain_id)
    try:
        used = await _simulate(rpc, [call for _, call in steps], block, code_overrides(operation))
    except NodeError as error:
        if not method_missing(error):
            raise
        return replace(_GENEROUS, pre_verification=before)
    gas = dict(zip((name for name, _ in steps), used, strict=True))
    nonce = _VERIFICATION_OVERHEAD_GAS + (0 if operation.nonce & _NUMBER_MASK else _NEW_LANE_GAS)
    return GasEstimate(
        call=_with_room(gas["call"]),
        verification=_with_room(gas.get("create", 0) + gas["validate"] + nonce)
        + (_PREPAYMENT_GAS if operation.paymaster is None else 0),
        pre_verification=before,
        paymaster_verification=_with_room(gas["sponsor"]) if "sponsor" in gas else None,
    )


def pre_verification_gas(operation: UserOperation) -> int:
    """What the bundle costs for this operation beyond what EntryPoint meters, when it is alone in its bundle."""
    # Numbers that are not known yet are counted as if they were long.
    filled = replace(
        operation,
        call_gas_limit=operation.call_gas_limit or 0xFFFFFF,
        verification_gas_limit=operation.verification_gas_limit or 0xFFFFFF,
        pre_verification_gas=operation.pre_verification_gas or 0xFFFFFF,
        max_fee_per_gas=operation.max_fee_per_gas or 0xFFFFFFFFFF,
    )
    delegation = AUTHORIZATION_GAS if operation.delegation else 0
    return _TRANSACTION_GAS + _OPERATION_GAS + delegation + _data_gas(_bundle(filled))


async def data_fee_gas(rpc: Rpc, operation: UserOperation, chain_id: int) -> int:
    """What a rollup charges for keeping the bundle's bytes on Ethereum, as gas at the operation's price; else 0."""
    if chain_id not in _OP_STACK:
        return 0
    question = selector("getL1Fee(bytes)") + encode_values(["bytes"], [_bundle(operation)])
    wei = uint(await rpc.read_contract(_FEE_ORACLE, question))
    # Half of the maximum is the base fee's reserve: this is what the operation is charged if prices stay.
    price = max((operation.max_fee_per_gas + operation.max_priority_fee_per_gas) // 2, 1)
    return wei * 5 // (4 * price)


def _bundle(operation: UserOperation) -> bytes:
    return abi_of("EntryPoint").encode("handleOps", ([operation.pack().value()], ENTRY_POINT))


def code_overrides(operation: UserOperation) -> dict[str, RpcValue]:
    """State for trying an operation whose delegation is not set yet."""
    return {operation.sender: {"code": to_hex(designator(operation.delegate))}} if operation.delegate else {}


def _steps(operation: UserOperation, chain_id: int) -> list[tuple[str, Call]]:
    """The calls that EntryPoint will make."""
    packed = operation.pack()
    operation_hash = operation.hash(chain_id)
    steps = []
    if operation.factory is not None:
        steps.append(("create", Call(operation.factory, operation.factory_data)))
    elif operation.delegation is not None and operation.factory_data:
        steps.append(("create", Call(operation.sender, operation.factory_data)))
    validate = abi_of("Account").encode("validateUserOp", (packed.value(), operation_hash, 0))
    steps.append(("validate", Call(operation.sender, validate)))
    if operation.paymaster is not None:
        values = (packed.value(), operation_hash, operation.max_cost_wei)
        data = abi_of("Paymaster").encode("validatePaymasterUserOp", values)
        steps.append(("sponsor", Call(operation.paymaster, data)))
    steps.append(("call", Call(operation.sender, operation.call_data)))
    return steps


async def _simulate(rpc: Rpc, calls: list[Call], block: str, overrides: dict[str, RpcValue]) -> list[int]:
    """Gas of each call without the transaction around it, run one after the other from EntryPoint."""
    requests: list[RpcValue] = [
        {"from": ENTRY_POINT, "to": call.target, "data": to_hex(call.data), "gas": hex(_SIMULATION_GAS)}
        for call in calls
    ]
    answer = await rpc.call(
        "eth_simulateV1", {"blockStateCalls": [{"calls": requests, "stateOverrides": overrides}]}, block
    )
    (only,) = answer if isinstance(answer, list) and len(answer) == 1 else [None]
    results = only.get("calls") if isinstance(only, dict) else None
    if not isinstance(results, list) or len(results) != len(calls):
        raise InvalidInput("the node's simulation has another number of results than calls", field="eth_simulateV1")
    used = []
    for call, result in zip(calls, results, strict=True):
        if not isinstance(result, dict) or quantity(result.get("status"), field="status") != 1:
            raise _failure(result)
        whole = quantity(result.get("gasUsed"), field="gasUsed")
        used.append(max(whole - _TRANSACTION_GAS - _data_gas(call.data), 0))
    return used


def _failure(result: RpcValue) -> Exception:
    """Why a simulated call failed: its revert data, which nodes put in either of two places."""
    if not isinstance(result, dict):
        return InvalidInput("the node's simulation is not an object", field="eth_simulateV1")
    error = result.get("error")
    data = error.get("data") if isinstance(error, dict) else None
    return refusal(from_hex(data or result.get("returnData") or "0x", field="returnData"))


def _data_gas(data: bytes) -> int:
    zeros = data.count(0)
    return zeros * _ZERO_BYTE_GAS + (len(data) - zeros) * _NON_ZERO_BYTE_GAS


def _with_room(gas: int) -> int:
    """A fifth and a little: states change until mining, and refunds hide a part of what is needed meanwhile.

    Not more: EntryPoint takes a tenth of what is left over, from 40,000 on.
    """
    return gas + gas // 5 + 10_000
