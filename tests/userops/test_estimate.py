"""Estimates: what a bundle costs beside what EntryPoint meters, rollups' data, and nodes that answer oddly."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts import ContractRefused
from agentnexus.rails.evm.contracts.abi import encode_values
from agentnexus.rails.evm.delegation import DelegationSignature
from agentnexus.rails.evm.encoding import selector, to_hex, word
from agentnexus.rails.evm.errors import NodeError, Reverted
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue
from agentnexus.rails.evm.userops import GasEstimate, UserOperation
from agentnexus.rails.evm.userops.build import with_gas
from agentnexus.rails.evm.userops.estimate import code_overrides, data_fee_gas, estimate_gas, pre_verification_gas

SENDER, OTHER = "0x" + "5e" * 20, "0x" + "9a" * 20
OPERATION = UserOperation(SENDER, 0, b"\x01" * 100, max_fee_per_gas=2_000, max_priority_fee_per_gas=0)
DELEGATION = DelegationSignature(1, OTHER, 0, 0, 1, 1)


class Node(Rpc):
    """Answers in order and keeps what it was asked."""

    def __init__(self, *answers: RpcValue | NodeError | Reverted) -> None:
        super().__init__("http://127.0.0.1:1")
        self.answers = list(answers)
        self.asked: list[Call] = []

    async def batch(self, calls: Sequence[Call]) -> list[RpcValue | NodeError | Reverted]:
        self.asked += calls
        return [self.answers.pop(0) for _ in calls]


def used(*gas: int) -> RpcValue:
    """A simulation in which every call went through."""
    return [{"calls": [{"status": "0x1", "gasUsed": hex(each), "returnData": "0x"} for each in gas]}]


async def test_limits_come_from_one_simulation_of_entry_points_calls() -> None:
    node = Node(used(121_000, 61_000, 81_000, 71_000))
    operation = replace(OPERATION, factory=OTHER, factory_data=b"\x01", paymaster=OTHER)
    gas = await estimate_gas(node, operation, 31337)
    await node.close()
    (asked,) = node.asked
    assert asked.method == "eth_simulateV1"
    targets = re.findall(r'"to": "(0x[0-9a-f]{40})"', json.dumps(asked.parameters))
    assert targets == [OTHER, SENDER, OTHER, SENDER]
    assert gas.call > 48_000
    assert gas.verification > 100_000
    assert gas.paymaster_verification is not None
    assert gas.pre_verification == pre_verification_gas(operation)


async def test_the_first_operation_of_a_lane_pays_for_its_slot() -> None:
    first, later = Node(used(61_000, 71_000)), Node(used(61_000, 71_000))
    one = await estimate_gas(first, OPERATION, 31337)
    two = await estimate_gas(later, replace(OPERATION, nonce=1), 31337)
    assert 17_000 <= one.verification - two.verification <= 22_000
    lane = await estimate_gas(Node(used(61_000, 71_000)), replace(OPERATION, nonce=5 << 64), 31337)
    assert lane.verification - two.verification >= 17_000
    for node in (first, later):
        await node.close()


async def test_a_failing_step_is_told_with_its_reason() -> None:
    data = to_hex(selector("Error(string)") + encode_values(["string"], ["no more"]))
    failures: list[RpcValue] = [
        {"status": "0x0", "returnData": data},
        {"status": "0x0", "error": {"code": 3, "data": data}},
    ]
    for failure in failures:
        whole: RpcValue = {"status": "0x1", "gasUsed": "0x0", "returnData": "0x"}
        with pytest.raises(ContractRefused, match="no more"):
            await estimate_gas(Node([{"calls": [whole, failure]}]), OPERATION, 31337)


@pytest.mark.parametrize("answer", [None, [], [{}], [{"calls": [{"status": "0x1"}]}], [{"calls": [None, None]}]])
async def test_a_simulation_that_cannot_be_read_is_refused(answer: RpcValue) -> None:
    with pytest.raises(InvalidInput):
        await estimate_gas(Node(answer), OPERATION, 31337)


async def test_another_error_of_the_node_is_not_taken_for_a_missing_method() -> None:
    with pytest.raises(NodeError):
        await estimate_gas(Node(NodeError("eth_simulateV1", -32000, "busy")), OPERATION, 31337)


async def test_a_delegation_that_is_not_set_yet_is_simulated() -> None:
    node = Node(used(61_000, 71_000))
    delegating = replace(OPERATION, delegation=DELEGATION)
    gas = await estimate_gas(node, delegating, 31337)
    assert code_overrides(delegating) == {SENDER: {"code": "0xef0100" + OTHER[2:]}}
    assert code_overrides(OPERATION) == {}
    assert gas.pre_verification - pre_verification_gas(OPERATION) >= 25_000
    with_first_call = Node(used(31_000, 61_000, 71_000))
    await estimate_gas(with_first_call, replace(delegating, factory_data=b"\x01"), 31337)
    await node.close()


async def test_a_rollup_is_paid_for_keeping_the_bytes() -> None:
    node = Node(to_hex(word(1_000_000)))
    assert await data_fee_gas(node, OPERATION, 8453) == 1_250  # a quarter more, at 1,000 wei a unit
    assert '"to": "0x420000000000000000000000000000000000000f"' in json.dumps(node.asked[0].parameters)
    assert await data_fee_gas(Node(), OPERATION, 31337) == 0
    assert await data_fee_gas(Node(to_hex(word(4))), replace(OPERATION, max_fee_per_gas=0), 10) == 5


def test_a_longer_operation_costs_its_bundle_more() -> None:
    longer = replace(OPERATION, call_data=b"\x01" * 132)
    assert pre_verification_gas(longer) - pre_verification_gas(OPERATION) == 32 * 16
    zeros = replace(OPERATION, call_data=OPERATION.call_data + bytes(28))  # within the padding
    assert pre_verification_gas(zeros) - pre_verification_gas(OPERATION) <= 16


def test_the_sponsors_own_limits_are_a_floor() -> None:
    sponsored = replace(
        OPERATION, paymaster=OTHER, paymaster_verification_gas_limit=30_000, paymaster_post_op_gas_limit=7
    )
    low = with_gas(sponsored, GasEstimate(1, 2, 3, 20_000, 1), extra_verification=10)
    assert (low.call_gas_limit, low.verification_gas_limit, low.pre_verification_gas) == (1, 12, 3)
    assert (low.paymaster_verification_gas_limit, low.paymaster_post_op_gas_limit) == (30_000, 7)
    high = with_gas(sponsored, GasEstimate(1, 2, 3, 40_000, 9))
    assert (high.paymaster_verification_gas_limit, high.paymaster_post_op_gas_limit) == (40_000, 9)
    assert with_gas(sponsored, GasEstimate(1, 2, 3)).paymaster_verification_gas_limit == 30_000
