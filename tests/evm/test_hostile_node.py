"""A node that lies, answers in odd shapes or changes its mind: what each reader makes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from tests.evm.test_rpc import Handler, bad_node

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import InvalidInput, NexusError, PaymentUnknown, Unavailable
from agentnexus.rails.evm.encoding import MAX_WORD, to_hex, word
from agentnexus.rails.evm.errors import ChainUnavailable, NodeError, Refusal, Reverted, SettlementRefused, WrongNetwork
from agentnexus.rails.evm.fees import GWEI, FeeLimits, FeeOracle, Fees
from agentnexus.rails.evm.networks import NETWORKS, Network, NetworkKind
from agentnexus.rails.evm.nonces import check_chain
from agentnexus.rails.evm.outcome import OutcomeKind, OutcomeReader
from agentnexus.rails.evm.receipts import Log, Receipt, find_receipt, poll_seconds, unknown, wait_for_receipt
from agentnexus.rails.evm.rpc import Call, RpcValue
from agentnexus.rails.evm.token import (
    CANCELED_TOPIC,
    TRANSFER_TOPIC,
    USED_TOPIC,
    Token,
    paid,
    refusal_of,
    transfers,
)

LOCAL = NETWORKS[31337]
BASE = NETWORKS[8453]
TX = "0x" + "ab" * 32
BLOCK = "0x" + "cd" * 32
TOKEN = "0x" + "11" * 20
PAYER, PAYEE = "0x" + "22" * 20, "0x" + "33" * 20
NONCE = b"\x44" * 32
Script = Callable[[str, list[RpcValue]], RpcValue]


def scripted(answer: Script) -> Handler:
    """A node that answers every request, single or batched, by method; `{"error": …}` becomes a JSON-RPC error."""

    async def handler(body: bytes, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(body)
        replies = []
        for request in asked if isinstance(asked, list) else [asked]:
            result = answer(request["method"], request["params"])
            reply = {"jsonrpc": "2.0", "id": request["id"]}
            is_error = isinstance(result, dict) and set(result) == {"error"}
            replies.append(reply | (result if is_error else {"result": result}))  # type: ignore[operator]  # a dict here
        # Batches may be answered in any order.
        data = json.dumps(replies[::-1] if isinstance(asked, list) else replies[0]).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(data) + data)
        await writer.drain()

    return handler


def always(**results: RpcValue) -> Handler:
    return scripted(lambda method, _parameters: results[method])


def log(**changes: RpcValue) -> dict[str, RpcValue]:
    return {
        "address": TOKEN.upper().replace("0X", "0x"),
        "topics": [TRANSFER_TOPIC, to_hex(word(PAYER)), to_hex(word(PAYEE))],
        "data": to_hex(word(5)),
        "transactionHash": TX.upper().replace("0X", "0x"),
        "blockNumber": "0x10",
        "blockHash": BLOCK,
        "logIndex": "0x0",
        **changes,
    }


def receipt(**changes: RpcValue) -> dict[str, RpcValue]:
    return {
        "transactionHash": TX,
        "status": "0x1",
        "blockNumber": "0x10",
        "blockHash": BLOCK,
        "gasUsed": "0x5208",
        "effectiveGasPrice": "0x3b9aca00",
        "from": PAYER,
        "contractAddress": None,
        "logs": [log()],
        **changes,
    }


async def test_answers_of_a_batch_are_matched_by_id_and_not_by_place() -> None:
    async with bad_node(always(a="0x1", b="0x2", c="0x3")) as (_, rpc):
        assert await rpc.batch([Call("a"), Call("b"), Call("c")]) == ["0x1", "0x2", "0x3"]


async def test_one_bad_request_of_a_batch_leaves_the_others_alone() -> None:
    refused: RpcValue = {"error": {"code": -32000, "message": "no"}}
    async with bad_node(always(a="0x1", b=refused, c={"error": {"code": 3, "message": "x", "data": "0x01"}})) as (
        _,
        rpc,
    ):
        one, two, three = await rpc.batch([Call("a"), Call("b"), Call("c")])
    assert one == "0x1"
    assert isinstance(two, NodeError)
    assert (two.rpc_code, two.rpc_message) == (-32000, "no")
    assert isinstance(three, Reverted)
    assert three.data == b"\x01"


async def test_an_empty_batch_asks_nothing_of_the_node() -> None:
    async with bad_node(always()) as (node, rpc):
        assert await rpc.batch([]) == []
    assert node.requests in ([], [[]])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 3, "message": "execution reverted: paused", "data": "0x"}, Reverted),
        ({"code": -32000, "message": "execution reverted"}, Reverted),
        ({"code": -32015, "message": "VM Exception while processing transaction: REVERT"}, Reverted),
        ({"code": -32000, "message": "nonce too low"}, NodeError),
        ({"code": -32005, "message": "rate limit"}, NodeError),
        ({"code": None, "message": None}, NodeError),
        ({"code": 1.5, "message": ["odd"]}, NodeError),
        ({}, NodeError),
    ],
)
async def test_a_contracts_no_is_told_from_the_nodes_no(error: RpcValue, kind: type[NexusError]) -> None:
    async with bad_node(always(eth_call={"error": error})) as (_, rpc):
        with pytest.raises(kind) as caught:
            await rpc.call("eth_call", {})
    assert caught.value.next_step


@pytest.mark.parametrize("result", ["7", 7, None, "0x", "0xg", "0x1_0", "0x1\n", " 0x1", "-0x1", [], {}, True, 1.0])
async def test_a_quantity_is_hex_or_it_is_nothing(result: RpcValue) -> None:
    async with bad_node(always(eth_blockNumber=result)) as (_, rpc):
        with pytest.raises(InvalidInput, match="not a JSON-RPC quantity") as caught:
            await rpc.read_int("eth_blockNumber")
    assert caught.value.details["field"] == "eth_blockNumber"


@pytest.mark.parametrize(("result", "number"), [("0x0", 0), ("0x00", 0), ("0xFf", 255), ("0x" + "f" * 64, MAX_WORD)])
async def test_quantities_of_every_size_are_read(result: str, number: int) -> None:
    async with bad_node(always(eth_blockNumber=result)) as (_, rpc):
        assert await rpc.read_int("eth_blockNumber") == number


async def test_a_quantity_of_a_million_digits_is_refused_and_not_computed() -> None:
    async with bad_node(always(eth_blockNumber="0x" + "f" * 1_000_000)) as (_, rpc):
        with pytest.raises(InvalidInput):
            await rpc.read_int("eth_blockNumber")


@pytest.mark.parametrize("result", ["", "0x1", "12", "0xzz", None, 5, [], "0x12\n"])
async def test_data_is_whole_bytes_of_hex(result: RpcValue) -> None:
    async with bad_node(always(eth_call=result)) as (_, rpc):
        with pytest.raises(InvalidInput, match="hex"):
            await rpc.read_contract(TOKEN, b"")


@pytest.mark.parametrize(
    ("status", "succeeded"), [("0x1", True), ("0x01", True), ("0x0", False), ("0x2", False), ("0xff", False)]
)
def test_only_status_one_is_success(status: str, succeeded: bool) -> None:
    assert Receipt.from_json(receipt(status=status)).succeeded is succeeded


@pytest.mark.parametrize("field", ["status", "blockNumber", "gasUsed"])
@pytest.mark.parametrize("value", [None, "", 1, "one", [], "0x"])
def test_a_receipt_with_an_odd_figure_is_refused_by_field(field: str, value: RpcValue) -> None:
    with pytest.raises(InvalidInput) as caught:
        Receipt.from_json(receipt(**{field: value}))
    assert caught.value.details["field"] == field


def test_a_receipt_is_read_in_lower_case_with_its_logs() -> None:
    read = Receipt.from_json(receipt(contractAddress="0x" + "AB" * 20, transactionHash=TX.upper().replace("0X", "0x")))
    assert (read.transaction, read.block_number, read.gas_used, read.gas_price_wei) == (TX, 16, 21000, GWEI)
    assert read.contract == "0x" + "ab" * 20
    assert (read.logs[0].contract, read.logs[0].transaction) == (TOKEN, TX)


@pytest.mark.parametrize("logs", [None, {}, "none", 3])
def test_a_receipt_without_a_list_of_logs_has_none(logs: RpcValue) -> None:
    assert Receipt.from_json(receipt(logs=logs)).logs == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", None),
        ("data", "0x1"),
        ("data", 5),
        ("blockNumber", None),
        ("blockNumber", "16"),
        ("logIndex", None),
        ("logIndex", "0x"),
    ],
)
def test_a_log_with_an_odd_part_is_refused_by_field(field: str, value: RpcValue) -> None:
    with pytest.raises(InvalidInput) as caught:
        Log.from_json(log(**{field: value}))
    assert caught.value.details["field"] == field


@pytest.mark.parametrize(
    "changes",
    [
        {"topics": []},
        {"topics": None},
        {"topics": [TRANSFER_TOPIC]},
        {"topics": [TRANSFER_TOPIC, to_hex(word(PAYER))]},
        {"topics": [TRANSFER_TOPIC, to_hex(word(PAYER)), to_hex(word(PAYEE)), to_hex(word(1))]},
        {"topics": [USED_TOPIC, to_hex(word(PAYER)), to_hex(word(PAYEE))]},
        {"data": "0x"},
        {"data": to_hex(word(5) + word(5))},
        {"data": to_hex(b"\x05" * 31)},
        {"address": "0x" + "12" * 20},
    ],
)
def test_what_only_resembles_a_transfer_is_none(changes: dict[str, RpcValue]) -> None:
    odd = Log.from_json(log(**changes))
    assert transfers([odd], TOKEN) == []
    assert not paid([odd], TOKEN, payer=PAYER, payee=PAYEE, value=5)


@pytest.mark.parametrize(
    ("payer", "payee", "value", "nonce", "expected"),
    [
        (PAYER, PAYEE, 5, None, True),
        (PAYER, PAYEE, 5, NONCE, True),
        (PAYER, PAYEE, 4, None, False),
        (PAYER, PAYEE, 6, NONCE, False),
        (PAYEE, PAYER, 5, None, False),
        (PAYER, PAYER, 5, None, False),
        (PAYER, PAYEE, 5, b"\x45" * 32, False),
    ],
)
def test_paid_means_exactly_this_payer_payee_value_and_nonce(
    payer: str, payee: str, value: int, nonce: bytes | None, expected: bool
) -> None:
    used = log(topics=[USED_TOPIC, to_hex(word(PAYER)), to_hex(NONCE)], data="0x")
    logs = [Log.from_json(log()), Log.from_json(used)]
    assert paid(logs, TOKEN, payer=payer, payee=payee, value=value, nonce=nonce) is expected


def test_a_used_mark_of_another_contract_or_payer_proves_nothing() -> None:
    transfer = Log.from_json(log())
    foreign = Log.from_json(log(address="0x" + "12" * 20, topics=[USED_TOPIC, to_hex(word(PAYER)), to_hex(NONCE)]))
    others = Log.from_json(log(topics=[USED_TOPIC, to_hex(word(PAYEE)), to_hex(NONCE)]))
    for mark in (foreign, others):
        assert not paid([transfer, mark], TOKEN, payer=PAYER, payee=PAYEE, value=5, nonce=NONCE)


@pytest.mark.parametrize(
    ("message", "data", "refusal"),
    [
        ("FiatTokenV2: authorization is used or canceled", b"", Refusal.NONCE_USED),
        ("FiatTokenV2: authorization is not yet valid", b"", Refusal.NOT_YET_VALID),
        ("FiatTokenV2: authorization is expired", b"", Refusal.EXPIRED),
        ("ERC20: transfer amount exceeds balance", b"", Refusal.INSUFFICIENT_BALANCE),
        ("FiatTokenV2: INVALID SIGNATURE", b"", Refusal.BAD_SIGNATURE),
        ("Blacklistable: account is blacklisted", b"", Refusal.WOULD_REVERT),
        ("", b"", Refusal.WOULD_REVERT),
        ("", b"\x12\x34", Refusal.WOULD_REVERT),
        (
            "execution reverted",
            bytes.fromhex("08c379a0") + word(32) + word(22) + b"authorization is expired".ljust(32, b"\0"),
            Refusal.WOULD_REVERT,  # the text is cut to the stated 22 characters, which say nothing
        ),
        (
            "execution reverted",
            bytes.fromhex("08c379a0") + word(32) + word(24) + b"authorization is expired".ljust(32, b"\0"),
            Refusal.EXPIRED,
        ),
    ],
)
def test_a_tokens_reasons_are_understood_by_selector_or_by_words(message: str, data: bytes, refusal: Refusal) -> None:
    assert refusal_of(Reverted(message, data)) is refusal


@pytest.mark.parametrize("refusal", list(Refusal))
def test_every_refusal_has_advice_and_a_machine_readable_reason(refusal: Refusal) -> None:
    error = SettlementRefused(refusal, "no", transaction=TX)
    assert error.next_step
    assert error.details == {"refusal": str(refusal), "transaction": TX}
    assert "transaction" not in SettlementRefused(refusal, "no").details


async def test_no_receipt_yet_is_nothing() -> None:
    async with bad_node(always(eth_getTransactionReceipt=None)) as (_, rpc):
        assert await find_receipt(rpc, [TX]) is None


async def test_a_receipt_without_a_block_is_still_waiting() -> None:
    async with bad_node(always(eth_getTransactionReceipt=receipt(blockNumber=None))) as (_, rpc):
        assert await find_receipt(rpc, [TX]) is None


@pytest.mark.parametrize(("head", "needed", "is_final"), [(16, 1, True), (16, 2, False), (17, 2, True), (15, 2, False)])
async def test_confirmations_count_the_including_block(head: int, needed: int, is_final: bool) -> None:
    handler = always(eth_getTransactionReceipt=receipt(), eth_blockNumber=hex(head))
    async with bad_node(handler) as (_, rpc):
        found = await find_receipt(rpc, [TX], confirmations=needed)
    assert (found is not None) is is_final


async def test_waiting_in_vain_is_unknown_with_the_newest_transaction() -> None:
    async with bad_node(always(eth_getTransactionReceipt=None)) as (node, rpc):
        with pytest.raises(PaymentUnknown, match="not mined within") as caught:
            await wait_for_receipt(rpc, LOCAL, ["0xold", TX], timeout_seconds=0.05)
    assert caught.value.details == {"transaction": TX}
    assert "do not pay a second time" in caught.value.next_step
    assert node.requests


@pytest.mark.parametrize(("waited", "said"), [(0.4, "within 0 s"), (30.0, "within 30 s")])
def test_the_unknown_error_says_how_long_was_waited(waited: float, said: str) -> None:
    assert said in unknown(TX, waited).message


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.name)
def test_polling_is_quick_where_blocks_are_and_never_a_flood(network: Network) -> None:
    assert 0.002 <= poll_seconds(network) <= 0.5
    assert poll_seconds(network) <= max(network.block_seconds, 0.002)


@pytest.mark.parametrize(
    ("base", "tip", "limit", "fees"),
    [
        ("0x0", "0x0", 10, Fees(0, 0)),
        ("0x1", "0x1", 10, Fees(3, 1)),
        ("0x4", "0x2", 10, Fees(10, 2)),
        ("0x5", "0x5", 10, Fees(10, 5)),
        ("0x0", "0xa", 10, Fees(10, 10)),
        ("0x9", "0x1", 10, Fees(10, 1)),
    ],
)
async def test_fees_last_some_blocks_and_never_pass_the_limit(
    base: str, tip: str, limit: int, fees: Fees, clock: ManualClock
) -> None:
    handler = always(eth_getBlockByNumber={"baseFeePerGas": base}, eth_maxPriorityFeePerGas=tip)
    async with bad_node(handler) as (_, rpc):
        assert await FeeOracle(rpc, BASE, clock, FeeLimits(maximum_fee_wei=limit)).current() == fees


@pytest.mark.parametrize(("base", "tip"), [("0xa", "0x1"), ("0xb", "0x0"), ("0x0", "0xb"), ("0x" + "f" * 64, "0x0")])
async def test_one_wei_above_the_limit_sends_nothing(base: str, tip: str, clock: ManualClock) -> None:
    handler = always(eth_getBlockByNumber={"baseFeePerGas": base}, eth_maxPriorityFeePerGas=tip)
    async with bad_node(handler) as (_, rpc):
        with pytest.raises(Unavailable, match="our limit is") as caught:
            await FeeOracle(rpc, BASE, clock, FeeLimits(maximum_fee_wei=10)).current()
    assert "raise the fee limit" in caught.value.next_step


async def test_a_chain_without_tips_or_base_fee_costs_nothing(clock: ManualClock) -> None:
    missing: RpcValue = {"error": {"code": -32601, "message": "method not found"}}
    for block in ({}, None):
        async with bad_node(always(eth_getBlockByNumber=block, eth_maxPriorityFeePerGas=missing)) as (_, rpc):
            assert await FeeOracle(rpc, BASE, clock, FeeLimits()).current() == Fees(0, 0)


async def test_fees_are_asked_once_per_block_and_again_after_it(clock: ManualClock) -> None:
    handler = always(eth_getBlockByNumber={"baseFeePerGas": "0x1"}, eth_maxPriorityFeePerGas="0x0")
    async with bad_node(handler) as (node, rpc):
        fees = FeeOracle(rpc, BASE, clock, FeeLimits())
        await fees.current()
        clock.advance(1.999)
        await fees.current()
        assert len(node.requests) == 1
        clock.advance(0.001)
        await fees.current()
        assert len(node.requests) == 2


async def test_fees_that_could_not_be_read_are_asked_for_again(clock: ManualClock) -> None:
    answers = iter(["nonsense", "0x1"])

    def script(method: str, _parameters: list[RpcValue]) -> RpcValue:
        return {"baseFeePerGas": next(answers)} if method == "eth_getBlockByNumber" else "0x0"

    async with bad_node(scripted(script)) as (_, rpc):
        fees = FeeOracle(rpc, BASE, clock, FeeLimits())
        with pytest.raises(InvalidInput, match="baseFeePerGas"):
            await fees.current()
        assert await fees.current() == Fees(2, 0)


@pytest.mark.parametrize(
    ("before", "usual", "after"),
    [
        (Fees(0, 0), Fees(0, 0), Fees(0, 0)),
        (Fees(8, 8), Fees(0, 0), Fees(9, 9)),
        (Fees(9, 1), Fees(0, 0), Fees(11, 2)),
        (Fees(100, 10), Fees(113, 11), Fees(113, 12)),
        (Fees(100, 10), Fees(112, 12), Fees(113, 12)),
        (Fees(100, 10), Fees(500, 1), Fees(500, 12)),
    ],
)
def test_a_replacement_is_dearer_by_an_eighth_or_as_dear_as_usual(before: Fees, usual: Fees, after: Fees) -> None:
    assert before.bumped(usual) == after


async def test_the_chain_behind_the_node_must_be_the_one_configured() -> None:
    genesis: RpcValue = {"hash": BLOCK}
    async with bad_node(always(eth_chainId="0x2105", eth_getBlockByNumber=genesis)) as (_, rpc):
        assert await check_chain(rpc, BASE) == BLOCK
        with pytest.raises(WrongNetwork, match="on chain 8453, not 31337") as caught:
            await check_chain(rpc, LOCAL)
    assert "NEXUS_EVM_RPC_URL" in caught.value.next_step


async def test_a_node_without_its_first_block_is_not_mistaken_for_another_chain() -> None:
    async with bad_node(always(eth_chainId="0x2105", eth_getBlockByNumber=None)) as (_, rpc):
        assert await check_chain(rpc, BASE) == ""


def reading(used: int, logs: RpcValue, *, timestamp: str = "0x64") -> Handler:
    head: RpcValue = {"number": "0x20", "timestamp": timestamp}
    return always(eth_call=to_hex(word(used)), eth_getBlockByNumber=head, eth_getLogs=logs)


@pytest.mark.parametrize(
    ("timestamp", "kind"), [("0x62", OutcomeKind.OPEN), ("0x63", OutcomeKind.OPEN), ("0x64", OutcomeKind.EXPIRED)]
)
async def test_an_unused_authorisation_is_open_until_the_second_it_expires(timestamp: str, kind: OutcomeKind) -> None:
    async with bad_node(reading(0, [], timestamp=timestamp)) as (_, rpc):
        outcome = await OutcomeReader(rpc, BASE).read(TOKEN, PAYER, NONCE, valid_before=100, from_block=0)
    assert (outcome.kind, outcome.transaction) == (kind, None)


@pytest.mark.parametrize(("mark", "kind"), [(USED_TOPIC, OutcomeKind.USED), (CANCELED_TOPIC, OutcomeKind.CANCELLED)])
async def test_the_event_tells_a_collected_from_a_cancelled_authorisation(mark: str, kind: OutcomeKind) -> None:
    event = log(topics=[mark, to_hex(word(PAYER)), to_hex(NONCE)], data="0x")
    async with bad_node(reading(1, [event])) as (_, rpc):
        outcome = await OutcomeReader(rpc, BASE).read(TOKEN, PAYER, NONCE, valid_before=100, from_block=30)
    assert (outcome.kind, outcome.transaction, outcome.block_number) == (kind, TX, 16)


async def test_a_used_nonce_without_its_event_is_unclear_even_after_expiry() -> None:
    async with bad_node(reading(1, [])) as (_, rpc):
        outcome = await OutcomeReader(rpc, BASE).read(TOKEN, PAYER, NONCE, valid_before=1, from_block=0)
    assert outcome.kind is OutcomeKind.UNCLEAR


async def test_a_node_without_blocks_decides_nothing() -> None:
    async with bad_node(always(eth_call=to_hex(word(0)), eth_getBlockByNumber=None)) as (_, rpc):
        with pytest.raises(ChainUnavailable, match="latest block"):
            await OutcomeReader(rpc, BASE).read(TOKEN, PAYER, NONCE, valid_before=1, from_block=0)


@pytest.mark.parametrize("logs", [None, {}, "0x", 5])
async def test_logs_that_are_no_list_are_refused(logs: RpcValue) -> None:
    async with bad_node(reading(1, logs)) as (_, rpc):
        with pytest.raises(InvalidInput, match="list"):
            await OutcomeReader(rpc, BASE).read(TOKEN, PAYER, NONCE, valid_before=1, from_block=0)


@pytest.mark.parametrize(
    ("from_block", "span", "questions"),
    [
        (32, 2000, [(16, 32)]),
        (1000, 2000, [(16, 32)]),
        (0, 2000, [(0, 32)]),
        (20, 10, [(4, 13), (14, 23), (24, 32)]),
        (0, 33, [(0, 32)]),
        (0, 32, [(0, 31), (32, 32)]),
        (0, 11, [(0, 10), (11, 21), (22, 32)]),
    ],
)
async def test_spans_cover_every_block_once_from_a_little_before_the_signing(
    from_block: int, span: int, questions: list[tuple[int, int]]
) -> None:
    async with bad_node(reading(1, [])) as (node, rpc):
        reader = OutcomeReader(rpc, BASE, span_blocks=span)
        await reader.read(TOKEN, PAYER, NONCE, valid_before=1, from_block=from_block)
    asked = [request for request in node.requests if isinstance(request, dict)]
    ranges = [(int(each["params"][0]["fromBlock"], 16), int(each["params"][0]["toBlock"], 16)) for each in asked]
    assert ranges == questions


@pytest.mark.parametrize(("network", "block"), [(BASE, "latest"), (LOCAL, "pending")])
async def test_a_local_chain_is_read_as_if_its_next_block_were_there(network: Network, block: str) -> None:
    async with bad_node(reading(0, [])) as (node, rpc):
        await OutcomeReader(rpc, network).read(TOKEN, PAYER, NONCE, valid_before=1000, from_block=0)
    (batch,) = node.requests
    assert isinstance(batch, list)
    assert batch[1]["params"] == [block, False]


async def test_an_address_that_is_no_token_is_said_to_be_none() -> None:
    reverted: RpcValue = {"error": {"code": 3, "message": "execution reverted", "data": "0x"}}
    async with bad_node(always(eth_call=reverted)) as (_, rpc):
        with pytest.raises(InvalidInput, match="not a token with signed transfers") as caught:
            await Token(rpc, TOKEN, 8453).domain()
    assert caught.value.details == {"field": "asset"}
    assert "USDC" in caught.value.next_step


async def test_an_account_without_code_has_no_balance_to_believe() -> None:
    async with bad_node(always(eth_call="0x")) as (_, rpc):
        with pytest.raises(InvalidInput, match="less than one word"):
            await Token(rpc, TOKEN, 8453).balance(PAYER)


async def test_a_token_whose_domain_nobody_can_name_is_not_signed_for() -> None:
    async with bad_node(always(eth_call=to_hex(b"\x99" * 32))) as (_, rpc):
        with pytest.raises(InvalidInput):
            await Token(rpc, TOKEN, 8453).domain("USD Coin", "2")


@pytest.mark.parametrize("kind", [NetworkKind.MAINNET, NetworkKind.TESTNET])
def test_only_local_chains_are_tried_on_their_pending_block(kind: NetworkKind) -> None:
    assert {network.trial_block for network in NETWORKS.values() if network.kind is kind} == {"latest"}
