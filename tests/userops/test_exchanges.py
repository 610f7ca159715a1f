"""What hosted bundlers and paymaster services were seen to answer, and what it becomes here.

They cannot be reached from here. Each exchange in `exchanges.json` names the public thread or page whose facts it
follows; "recorded" ones were pasted there by people who got them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentnexus.core.errors import InvalidInput, NexusError, NotAllowed, PaymentFailed
from agentnexus.rails.evm.contracts import ContractRefused
from agentnexus.rails.evm.contracts.entry_point import DELEGATION_MARKER, ENTRY_POINT
from agentnexus.rails.evm.delegation import DelegationSignature
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.errors import ChainUnavailable, NodeError, Reverted
from agentnexus.rails.evm.rpc import Rpc, RpcValue
from agentnexus.rails.evm.userops import Flavour, RpcBundler, ServiceSponsor, UserOperation
from tests.userops.json_rpc_service import serving

CHAIN = 31337
EXCHANGES = json.loads((Path(__file__).parent / "exchanges.json").read_text())
KINDS: dict[str, type[NexusError]] = {
    kind.__name__: kind for kind in (ContractRefused, NotAllowed, PaymentFailed, Reverted)
}
OPERATION = UserOperation(
    "0x" + "5e" * 20, 3, b"\x01\x02", max_fee_per_gas=10**9, max_priority_fee_per_gas=10**8, signature=b"\x07"
)
HASH = to_hex(OPERATION.hash(CHAIN))
PAYMASTER = "0x" + "9a" * 20


def bundler(rpc: Rpc, flavour: Flavour = Flavour.PLAIN) -> RpcBundler:
    return RpcBundler(rpc, rpc, CHAIN, flavour=flavour)


async def asked(rpc: Rpc, method: str) -> object:
    """What our client does that makes this request."""
    if method == "eth_estimateUserOperationGas":
        return await bundler(rpc).estimate(OPERATION)
    if method == "eth_sendUserOperation":
        return await bundler(rpc).send(OPERATION)
    return await ServiceSponsor(rpc, CHAIN).stub(OPERATION)


@pytest.mark.parametrize("exchange", EXCHANGES, ids=[each["title"] for each in EXCHANGES])
async def test_a_refusal_means_what_its_words_say(exchange: dict[str, Any]) -> None:
    answer: RpcValue = {"error": exchange["error"], "status": exchange.get("status", 200)}
    nothing: dict[str, RpcValue] = {"eth_getUserOperationByHash": None, "eth_getUserOperationReceipt": None}
    async with serving(**nothing, **{exchange["method"]: answer}) as (_, rpc):
        with pytest.raises(NexusError) as caught:
            await asked(rpc, exchange["method"])
    error = caught.value
    assert type(error) is KINDS[exchange["becomes"]]
    told = error.message + str(error.details)
    assert exchange["says"] in told
    assert exchange.get("step", "") in error.next_step
    if "reason" in exchange:
        assert error.details["reason"] == exchange["reason"]


def test_every_exchange_names_where_its_facts_are_from() -> None:
    assert len({each["title"] for each in EXCHANGES}) == len(EXCHANGES)
    for each in EXCHANGES:
        assert each["follows"]
        assert each["basis"].split(",")[0] in {"recorded", "documented"}


# Alto keeps operations by hash and then by sender and nonce (pimlicolabs/alto, its mempool's words).
ALTO_SAME = "Already known"
ALTO_OTHER = (
    "AA25 invalid account nonce: User operation is already in mempool and getting processed with same nonce and sender"
)
ALTO_REPLACES = (
    "AA25 invalid account nonce: User operation already present in mempool, bump the gas price by minimum 10%"
)


async def test_the_same_operation_at_alto_is_there_already() -> None:
    async with serving(eth_sendUserOperation={"error": {"code": -32602, "message": ALTO_SAME}}) as (service, rpc):
        assert await bundler(rpc).send(OPERATION) == HASH
    assert [method for method, _ in service.asked] == ["eth_sendUserOperation"]


@pytest.mark.parametrize("message", [ALTO_OTHER, ALTO_REPLACES])
async def test_another_operation_with_its_nonce_is_not_taken_for_it(message: str) -> None:
    refused: RpcValue = {"error": {"code": -32602, "message": message}}
    async with serving(
        eth_sendUserOperation=refused, eth_getUserOperationByHash=None, eth_getUserOperationReceipt=None
    ) as (_, rpc):
        with pytest.raises(PaymentFailed, match="AA25"):
            await bundler(rpc).send(OPERATION)


async def test_a_bundler_that_holds_it_may_call_it_a_bad_replacement_of_itself() -> None:
    refused: RpcValue = {"error": {"code": -32602, "message": "replacement underpriced"}}
    pending: RpcValue = {"userOperation": {**OPERATION.to_json()}, "entryPoint": ENTRY_POINT, "blockNumber": None}
    async with serving(
        eth_sendUserOperation=refused, eth_getUserOperationReceipt=None, eth_getUserOperationByHash=pending
    ) as (service, rpc):
        assert await bundler(rpc).send(OPERATION) == HASH
    assert service.asked[-1] == ("eth_getUserOperationByHash", [HASH])


async def test_rundler_suggests_fees() -> None:
    # alchemyplatform/rundler docs/architecture/rpc.md and Alchemy's page of this method.
    price: RpcValue = {
        "currentPriorityFee": "0x59682f00",
        "baseFee": "0x165a0bc00",
        "blockNumber": "0x12a3b4c",
        "suggested": {"maxPriorityFeePerGas": "0x746a5280", "maxFeePerGas": "0x28CDB6C80"},
    }
    async with serving(rundler_getUserOperationGasPrice=price) as (service, rpc):
        fees = await bundler(rpc, Flavour.ALCHEMY).gas_price()
    assert (fees.maximum, fees.priority) == (0x28CDB6C80, 0x746A5280)
    assert service.asked == [("rundler_getUserOperationGasPrice", [])]


async def test_an_older_rundler_tells_the_least_tip_and_gets_a_quarter_more() -> None:
    async with serving(
        rundler_maxPriorityFeePerGas="0x5f5e100",
        eth_getBlockByNumber={"baseFeePerGas": "0x3b9aca00"},
        eth_maxPriorityFeePerGas="0x1",
    ) as (_, rpc):
        fees = await bundler(rpc, Flavour.ALCHEMY).gas_price()
    assert (fees.maximum, fees.priority) == (2 * 10**9 + 125_000_000, 125_000_000)


@pytest.mark.parametrize("answer", [{"suggested": None}, {"suggested": {"maxFeePerGas": "0x1"}}, "0x1"])
async def test_a_suggestion_that_lacks_a_fee_is_refused(answer: RpcValue) -> None:
    async with serving(rundler_getUserOperationGasPrice=answer) as (_, rpc):
        with pytest.raises(InvalidInput):
            await bundler(rpc, Flavour.ALCHEMY).gas_price()


# Fields, hex forms and what is absent as on docs.pimlico.io (eth_getUserOperationReceipt) and, for EntryPoint v0.8, in
# Nethereum/Nethereum, issue 1098: no paymaster and no reason, mixed-case addresses, a nonce with a lane.
PIMLICO_RECEIPT: dict[str, RpcValue] = {
    "userOpHash": HASH,
    "sender": "0x0187873bB8a0811CC0Ac784dE2Cd3227Ffa1b9f8",
    "nonce": "0x18554d9a95404c5e8ac591f8608a18f80000000000000000",
    "actualGasUsed": "0x586f4",
    "actualGasCost": "0x3dc5972af1c18",
    "success": True,
    "logs": [],
    "receipt": {
        "transactionHash": "0x" + "57" * 32,
        "transactionIndex": "0x20",
        "blockHash": "0x" + "EA" * 32,
        "blockNumber": "0x31de70e",
        "status": "0x1",
        "contractAddress": None,
    },
}


async def test_a_receipt_without_paymaster_and_reason_is_whole() -> None:
    async with serving(eth_getUserOperationReceipt=[None, PIMLICO_RECEIPT]) as (service, rpc):
        receipt = await bundler(rpc).receipt(HASH)
    assert receipt.succeeded
    assert receipt.paymaster is None
    assert receipt.reason is None
    assert receipt.sender == "0x0187873bb8a0811cc0ac784de2cd3227ffa1b9f8"
    assert receipt.nonce == 0x18554D9A95404C5E8AC591F8608A18F8 << 64
    assert (receipt.gas_used, receipt.gas_cost_wei, receipt.block_number) == (0x586F4, 0x3DC5972AF1C18, 0x31DE70E)
    assert receipt.block_hash == "0x" + "ea" * 32
    assert len(service.asked) == 2


@pytest.mark.parametrize(("told", "succeeded"), [(True, True), ("true", True), (False, False), ("false", False)])
async def test_success_is_read_as_a_word_too(told: RpcValue, succeeded: bool) -> None:
    # Text in Biconomy's documentation (bcnmy/docs, pull request 208).
    async with serving(eth_getUserOperationReceipt={**PIMLICO_RECEIPT, "success": told}) as (_, rpc):
        assert (await bundler(rpc).receipt(HASH)).succeeded is succeeded


@pytest.mark.parametrize("told", [None, "", 1, "0x1"])
async def test_a_receipt_that_does_not_tell_of_success_is_no_failure(told: RpcValue) -> None:
    async with serving(eth_getUserOperationReceipt={**PIMLICO_RECEIPT, "success": told}) as (_, rpc):
        with pytest.raises(InvalidInput, match="does not say"):
            await bundler(rpc).receipt(HASH)


async def test_a_hash_in_capitals_is_the_same() -> None:
    async with serving(eth_sendUserOperation="0x" + HASH[2:].upper()) as (_, rpc):
        assert await bundler(rpc).send(OPERATION) == HASH


async def test_limits_that_come_with_the_paymasters_signature_are_the_ones_it_covers() -> None:
    # Both methods may give them (Alchemy's and viem's types of ERC-7677).
    stub: RpcValue = {"paymaster": PAYMASTER, "paymasterData": "0xdead", "paymasterPostOpGasLimit": "0x64"}
    final: RpcValue = {
        "paymaster": PAYMASTER,
        "paymasterData": "0xbeef",
        "paymasterVerificationGasLimit": "0x7530",
        "paymasterPostOpGasLimit": "0x1",
    }
    async with serving(pm_getPaymasterStubData=stub, pm_getPaymasterData=final) as (_, rpc):
        sponsor = ServiceSponsor(rpc, CHAIN)
        stubbed = await sponsor.stub(OPERATION)
        assert (stubbed.paymaster_verification_gas_limit, stubbed.paymaster_post_op_gas_limit) == (0, 100)
        estimated = replace(stubbed, paymaster_verification_gas_limit=50_000)
        sponsored = await sponsor.final(estimated)
    assert (sponsored.paymaster_verification_gas_limit, sponsored.paymaster_post_op_gas_limit) == (30_000, 1)
    assert sponsored.paymaster_data == b"\xbe\xef"


async def test_a_signature_without_limits_keeps_the_estimate() -> None:
    final: RpcValue = {"paymaster": PAYMASTER, "paymasterData": "0xbeef"}
    estimated = replace(OPERATION, paymaster_verification_gas_limit=50_000, paymaster_post_op_gas_limit=7)
    async with serving(pm_getPaymasterData=final) as (_, rpc):
        sponsored = await ServiceSponsor(rpc, CHAIN).final(estimated)
    assert (sponsored.paymaster_verification_gas_limit, sponsored.paymaster_post_op_gas_limit) == (50_000, 7)


async def test_a_service_out_of_money_is_our_trouble_and_passes() -> None:
    # Seen at Pimlico: the words of an account that has to be topped up.
    short: RpcValue = {"error": {"code": -32603, "message": "Insufficient Pimlico balance for sponsorship"}}
    async with serving(pm_getPaymasterStubData=short) as (_, rpc):
        with pytest.raises(NodeError, match="Insufficient"):
            await ServiceSponsor(rpc, CHAIN).stub(OPERATION)


async def test_a_call_that_fails_at_the_service_is_told_like_a_bundlers() -> None:
    failing: RpcValue = {"error": {"code": -32521, "message": "execution reverted", "data": {"revertData": "0x"}}}
    async with serving(pm_getPaymasterStubData=failing) as (_, rpc):
        with pytest.raises(Reverted):
            await ServiceSponsor(rpc, CHAIN).stub(OPERATION)


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_other_http_errors_stay_outages(status: int) -> None:
    failing: RpcValue = {"error": {"code": -32521, "message": "execution reverted"}, "status": status}
    async with serving(eth_estimateUserOperationGas=failing) as (_, rpc):
        with pytest.raises(ChainUnavailable, match=str(status)):
            await bundler(rpc).estimate(OPERATION)


async def test_a_delegation_is_written_as_bundlers_read_it() -> None:
    # Numbers as hex, r and s of 32 bytes (Alto's and Rundler's types; ERC-7769).
    delegation = DelegationSignature(CHAIN, "0x" + "de" * 20, 0, 1, 0x1F, 2**255)
    operation = replace(OPERATION, delegation=delegation)
    answer = to_hex(operation.hash(CHAIN))
    async with serving(eth_sendUserOperation=answer) as (service, rpc):
        assert await bundler(rpc).send(operation) == answer
    (sent, entry_point) = service.asked[0][1]
    assert entry_point == ENTRY_POINT
    assert isinstance(sent, dict)
    assert sent["factory"] == "0x7702"
    assert sent["eip7702Auth"] == {
        "chainId": "0x7a69",
        "address": "0x" + "de" * 20,
        "nonce": "0x0",
        "yParity": "0x1",
        "r": "0x" + "00" * 31 + "1f",
        "s": "0x80" + "00" * 31,
    }
    # The marker as a whole address means the same (safe-research/shadowlings, pull request 2).
    whole = {**sent, "factory": to_hex(DELEGATION_MARKER)}
    assert UserOperation.from_json(whole) == UserOperation.from_json(sent) == operation
