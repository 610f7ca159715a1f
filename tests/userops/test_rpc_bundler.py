"""Bundlers and paymaster services of others by their JSON: whole conversations, and what they may do wrong.

What hosted ones were seen to answer is in `test_exchanges.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentnexus.core.errors import (
    InsufficientFunds,
    InvalidInput,
    NexusError,
    NotAllowed,
    PaymentFailed,
    PaymentUnknown,
    RateLimited,
)
from agentnexus.rails.evm.contracts import ContractRefused
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.errors import NodeError, Reverted
from agentnexus.rails.evm.fees import FeeLimits
from agentnexus.rails.evm.rpc import Rpc, RpcValue
from agentnexus.rails.evm.userops import Flavour, RpcBundler, ServiceSponsor, UserOperation
from agentnexus.rails.evm.userops.rpc_bundler import receipt_from_json, refused
from tests.userops.json_rpc_service import serving

CHAIN = 31337
SENDER, PAYMASTER = "0x" + "5e" * 20, "0x" + "9a" * 20
OPERATION = UserOperation(
    SENDER, 3, b"\x01\x02", max_fee_per_gas=10**9, max_priority_fee_per_gas=10**8, signature=b"\x07"
)
HASH = to_hex(OPERATION.hash(CHAIN))
ESTIMATE: dict[str, RpcValue] = {
    "preVerificationGas": "0xd3e3",
    "verificationGasLimit": "0x60b01",
    "callGasLimit": "0x13880",
    "paymasterVerificationGasLimit": "0x7530",
    "paymasterPostOpGasLimit": "0x1",
}
RECEIPT: dict[str, RpcValue] = {
    "entryPoint": ENTRY_POINT,
    "userOpHash": HASH,
    "sender": "0x5E5E5E5E5e5E5E5E5e5E5E5E5e5E5e5e5E5E5E5e".lower(),
    "nonce": "0x3",
    "paymaster": PAYMASTER,
    "actualGasCost": "0x1b48eb57e000",
    "actualGasUsed": "0x18c80",
    "success": True,
    "reason": "",
    "logs": [],
    "receipt": {
        "transactionHash": "0x" + "77" * 32,
        "blockHash": "0x" + "88" * 32,
        "blockNumber": "0x2a",
        "status": "0x1",
    },
}


def bundler(rpc: Rpc, flavour: Flavour = Flavour.PLAIN) -> RpcBundler:
    return RpcBundler(rpc, rpc, CHAIN, flavour=flavour)


async def test_pimlico_from_price_to_receipt() -> None:
    price: RpcValue = {
        "slow": {"maxFeePerGas": "0x1", "maxPriorityFeePerGas": "0x1"},
        "standard": {"maxFeePerGas": "0x2", "maxPriorityFeePerGas": "0x1"},
        "fast": {"maxFeePerGas": "0x59682f0e", "maxPriorityFeePerGas": "0x59682f00"},
    }
    async with serving(
        pimlico_getUserOperationGasPrice=price,
        eth_estimateUserOperationGas=ESTIMATE,
        eth_sendUserOperation=HASH,
        eth_getUserOperationReceipt=[None, None, RECEIPT],
    ) as (service, rpc):
        peer = bundler(rpc, Flavour.PIMLICO)
        fees = await peer.gas_price()
        assert (fees.maximum, fees.priority) == (0x59682F0E, 0x59682F00)
        gas = await peer.estimate(OPERATION)
        assert (gas.call, gas.verification, gas.pre_verification) == (80_000, 396_033, 54_243)
        assert (gas.paymaster_verification, gas.paymaster_post_op) == (30_000, 1)
        assert await peer.send(OPERATION) == HASH
        receipt = await peer.receipt(HASH)
    assert receipt.succeeded
    assert (receipt.sender, receipt.nonce, receipt.paymaster) == (SENDER, 3, PAYMASTER)
    assert (receipt.block_number, receipt.gas_used, receipt.gas_cost_wei) == (42, 101_504, 30_000_000_000_000)
    asked = dict(service.asked)
    sent = {**OPERATION.to_json()}
    assert asked["eth_sendUserOperation"] == [sent, ENTRY_POINT]
    unknown = {"callGasLimit", "verificationGasLimit", "preVerificationGas"}
    assert asked["eth_estimateUserOperationGas"][0] == {k: v for k, v in sent.items() if k not in unknown}


async def test_alchemy_from_price_to_receipt() -> None:
    async with serving(
        rundler_getUserOperationGasPrice={
            "currentPriorityFee": "0x5f5e100",
            "baseFee": "0x3b9aca00",
            "blockNumber": "0x29",
            "suggested": {"maxPriorityFeePerGas": "0x7bfa480", "maxFeePerGas": "0x77359400"},
        },
        eth_estimateUserOperationGas={key: ESTIMATE[key] for key in list(ESTIMATE)[:3]},
        eth_sendUserOperation=HASH,
        eth_getUserOperationReceipt={**RECEIPT, "paymaster": "0x" + "00" * 20},
    ) as (_, rpc):
        peer = bundler(rpc, Flavour.ALCHEMY)
        fees = await peer.gas_price()
        assert (fees.maximum, fees.priority) == (2 * 10**9, 130_000_000)
        gas = await peer.estimate(OPERATION)
        assert gas.paymaster_verification is None
        assert await peer.send(OPERATION) == HASH
        assert (await peer.receipt(HASH)).paymaster is None


async def test_a_plain_bundler_costs_what_the_node_says() -> None:
    async with serving(eth_getBlockByNumber={"baseFeePerGas": "0x3b9aca00"}, eth_maxPriorityFeePerGas="0x5f5e100") as (
        _,
        rpc,
    ):
        fees = await bundler(rpc).gas_price()
        assert (fees.maximum, fees.priority) == (2 * 10**9 + 10**8, 10**8)


async def test_a_bundlers_wish_ends_at_our_limit() -> None:
    dear: RpcValue = {"fast": {"maxFeePerGas": hex(10**12), "maxPriorityFeePerGas": "0x1"}}
    async with serving(pimlico_getUserOperationGasPrice=dear) as (_, rpc):
        with pytest.raises(PaymentFailed, match="limit"):
            await bundler(rpc, Flavour.PIMLICO).gas_price()
        generous = RpcBundler(rpc, rpc, CHAIN, flavour=Flavour.PIMLICO, limits=FeeLimits(maximum_fee_wei=10**13))
        assert (await generous.gas_price()).maximum == 10**12


async def test_an_operation_that_came_before_is_not_refused() -> None:
    known: RpcValue = {"error": {"code": -32602, "message": "User operation already known"}}
    async with serving(eth_sendUserOperation=known) as (_, rpc):
        assert await bundler(rpc).send(OPERATION) == HASH


async def test_an_operation_that_was_mined_before_is_not_refused() -> None:
    used: RpcValue = {"error": {"code": -32500, "message": "AA25 invalid account nonce"}}
    async with serving(eth_sendUserOperation=used, eth_getUserOperationReceipt=RECEIPT) as (_, rpc):
        assert await bundler(rpc).send(OPERATION) == HASH
    async with serving(eth_sendUserOperation=used, eth_getUserOperationReceipt=None) as (_, rpc):
        with pytest.raises(PaymentFailed, match="AA25") as caught:
            await bundler(rpc).send(OPERATION)
        assert "nonce" in caught.value.next_step


async def test_a_bundler_on_another_chain_is_noticed() -> None:
    async with serving(eth_sendUserOperation="0x" + "12" * 32) as (_, rpc):
        with pytest.raises(InvalidInput, match="not as"):
            await bundler(rpc).send(OPERATION)


async def test_waiting_for_a_receipt_ends() -> None:
    async with serving(eth_getUserOperationReceipt=None) as (_, rpc):
        with pytest.raises(PaymentUnknown):
            await bundler(rpc).receipt(HASH, timeout_seconds=0.1)


@pytest.mark.parametrize(
    ("code", "message", "kind", "step"),
    [
        (-32602, "missing field", InvalidInput, ""),
        (-32500, "AA21 didn't pay prefund", PaymentFailed, "paymaster"),
        (-32501, "AA33 paymaster says no", PaymentFailed, "inner"),
        (-32502, "uses TIMESTAMP", NotAllowed, ""),
        (-32503, "AA22 expired or not due", PaymentFailed, "expired"),
        (-32504, "throttled", RateLimited, ""),
        (-32505, "stake too low", NotAllowed, ""),
        (-32507, "AA24 signature error", PaymentFailed, "sign"),
        (-32508, "AA31 paymaster deposit too low", InsufficientFunds, "deposit"),
        (-32000, "anything", NodeError, ""),
    ],
)
def test_every_code_of_the_standard_has_its_meaning(code: int, message: str, kind: type[NexusError], step: str) -> None:
    error = refused(NodeError("eth_sendUserOperation", code, message))
    assert type(error) is kind
    assert message in error.message
    assert step in error.next_step
    assert error.next_step


def test_a_revert_is_read_wherever_the_bundler_put_its_reason() -> None:
    reason = "fb8f41b2" + "00" * 12 + "9a" * 20 + "00" * 63 + "05"  # damaged: not a whole number of words
    shortage = "e450d38c" + "00" * 12 + "5e" * 20 + f"{3:064x}" + f"{5:064x}"
    in_data = refused(Reverted("execution reverted", bytes.fromhex(shortage)))
    in_text = refused(Reverted(f"UserOperation reverted during simulation with reason: 0x{shortage}"))
    for error in (in_data, in_text):
        assert isinstance(error, ContractRefused)
        assert (error.error, error.arguments["balance"]) == ("ERC20InsufficientBalance", 3)
    assert isinstance(refused(Reverted(f"reverted with 0x{reason}")), Reverted)
    assert refused(Reverted("execution reverted")).message == "execution reverted"


def test_a_receipt_tells_why_the_calls_failed() -> None:
    shortage = "0xe450d38c" + "00" * 12 + "5e" * 20 + f"{3:064x}" + f"{5:064x}"
    receipt = receipt_from_json({**RECEIPT, "success": False, "reason": shortage, "paymaster": None})
    assert not receipt.succeeded
    assert isinstance(receipt.reason, ContractRefused)
    assert receipt.paymaster is None


@pytest.mark.parametrize("field", ["sender", "nonce", "actualGasCost", "actualGasUsed", "receipt"])
def test_a_receipt_without_a_field_is_refused(field: str) -> None:
    with pytest.raises(InvalidInput):
        receipt_from_json({key: value for key, value in RECEIPT.items() if key != field})


async def test_answers_that_are_no_objects_are_refused() -> None:
    async with serving(eth_estimateUserOperationGas="0x1", pimlico_getUserOperationGasPrice={"fast": None}) as (_, rpc):
        peer = bundler(rpc, Flavour.PIMLICO)
        with pytest.raises(InvalidInput):
            await peer.estimate(OPERATION)
        with pytest.raises(InvalidInput):
            await peer.gas_price()


async def test_a_paymaster_service_of_others_fills_in_its_part() -> None:
    stub: RpcValue = {
        "sponsor": {"name": "Someone"},
        "paymaster": PAYMASTER,
        "paymasterData": "0xdead",
        "paymasterVerificationGasLimit": "0x7530",
        "paymasterPostOpGasLimit": "0x64",
    }
    final: RpcValue = {"paymaster": PAYMASTER, "paymasterData": "0xbeef"}
    async with serving(pm_getPaymasterStubData=stub, pm_getPaymasterData=final) as (service, rpc):
        sponsor = ServiceSponsor(rpc, CHAIN, context={"policyId": "one"})
        stubbed = await sponsor.stub(OPERATION)
        assert stubbed == replace(
            OPERATION,
            paymaster=PAYMASTER,
            paymaster_data=b"\xde\xad",
            paymaster_verification_gas_limit=30_000,
            paymaster_post_op_gas_limit=100,
        )
        assert (await sponsor.final(stubbed)).paymaster_data == b"\xbe\xef"
    assert [(method, asked[1:]) for method, asked in service.asked] == [
        (method, [ENTRY_POINT, hex(CHAIN), {"policyId": "one"}])
        for method in ("pm_getPaymasterStubData", "pm_getPaymasterData")
    ]


async def test_a_paymaster_service_that_answers_nothing_of_use_is_refused() -> None:
    async with serving(pm_getPaymasterStubData=None, pm_getPaymasterData={"paymaster": "0x12"}) as (_, rpc):
        sponsor = ServiceSponsor(rpc, CHAIN)
        with pytest.raises(InvalidInput):
            await sponsor.stub(OPERATION)
        with pytest.raises(InvalidInput):
            await sponsor.final(OPERATION)
