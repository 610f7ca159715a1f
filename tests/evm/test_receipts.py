"""Receipts, confirmations and the history of an authorisation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.evm.conftest import FAR_FUTURE, Desk

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import InvalidInput, PaymentUnknown
from agentnexus.rails.evm.encoding import to_hex, topic, word
from agentnexus.rails.evm.fees import GWEI, FeeLimits, FeeOracle, Fees
from agentnexus.rails.evm.outcome import OutcomeKind, OutcomeReader
from agentnexus.rails.evm.receipts import Log, find_receipt, wait_for_receipt
from agentnexus.rails.evm.token import paid, transfers


async def test_a_receipt_counts_only_with_its_confirmations(desk: Desk) -> None:
    settlement = await desk.settler.settle(await desk.signed(), desk.requirement())
    assert await find_receipt(desk.chain.rpc, [settlement.transaction], confirmations=3) is None
    await desk.chain.mine(2)
    receipt = await find_receipt(desk.chain.rpc, [settlement.transaction], confirmations=3)
    assert receipt is not None
    assert receipt.block_number == settlement.block_number


async def test_the_receipt_of_whichever_form_was_mined_is_found(desk: Desk) -> None:
    settlement = await desk.settler.settle(await desk.signed(), desk.requirement())
    receipt = await find_receipt(desk.chain.rpc, ["0x" + "aa" * 32, settlement.transaction])
    assert receipt is not None
    assert receipt.transaction == settlement.transaction


async def test_waiting_for_what_never_comes_ends_in_unknown(desk: Desk) -> None:
    nowhere = "0x" + "aa" * 32
    with pytest.raises(PaymentUnknown) as caught:
        await wait_for_receipt(desk.chain.rpc, desk.chain.network, [nowhere], timeout_seconds=0.05)
    assert caught.value.details["transaction"] == nowhere
    assert "do not pay" in caught.value.next_step


async def test_a_payment_is_only_what_its_logs_say_exactly(desk: Desk) -> None:
    signed = await desk.signed()
    settlement = await desk.settler.settle(signed, desk.requirement())
    receipt = await find_receipt(desk.chain.rpc, [settlement.transaction])
    assert receipt is not None
    token, nonce = desk.chain.usdc.reference, signed.authorization.nonce

    def says(payee: str = desk.seller, value: int = 10_000, mark: bytes | None = nonce, contract: str = token) -> bool:
        return paid(receipt.logs, contract, payer=desk.rail.address, payee=payee, value=value, nonce=mark)

    assert says()
    assert says(mark=None)
    assert not says(value=9_999)
    assert not says(payee=desk.rail.address)
    assert not says(mark=bytes(32))
    assert not says(contract="0x" + "11" * 20)


def log(**changes: object) -> Log:
    topics = (topic("Transfer(address,address,uint256)"), to_hex(word(1)), to_hex(word(2)))
    good = Log("0x" + "11" * 20, topics, word(5), "0x" + "22" * 32, 1, "0x" + "33" * 32, 0)
    return replace(good, **changes)  # type: ignore[arg-type]  # fields by name


def test_malformed_transfer_events_are_left_out() -> None:
    good = log()
    bad = [
        log(topics=good.topics[:2]),
        log(topics=(*good.topics, good.topics[0])),
        log(data=b""),
        log(data=word(5) * 2),
    ]
    foreign = [log(contract="0x" + "44" * 20), log(topics=("0x" + "55" * 32, *good.topics[1:]))]
    assert [each.value for each in transfers([*bad, good, *foreign], good.contract)] == [5]


@pytest.mark.parametrize("value", [None, [], "0x", {"address": "0x"}, {"data": "0x", "blockNumber": 7}])
def test_a_log_in_an_odd_shape_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        Log.from_json(value)  # type: ignore[arg-type]  # the point of the test


async def test_an_old_use_is_found_across_many_blocks(desk: Desk) -> None:
    signed = await desk.signed()
    settlement = await desk.settler.settle(signed, desk.requirement())
    await desk.chain.mine(45)
    reader = OutcomeReader(desk.chain.rpc, desk.chain.network, span_blocks=4)
    outcome = await reader.read(
        desk.chain.usdc.reference,
        desk.rail.address,
        signed.authorization.nonce,
        valid_before=FAR_FUTURE,
        from_block=0,
    )
    assert (outcome.kind, outcome.transaction) == (OutcomeKind.USED, settlement.transaction)


async def test_a_use_before_the_stated_block_is_unclear_rather_than_guessed(desk: Desk) -> None:
    signed = await desk.signed()
    await desk.settler.settle(signed, desk.requirement())
    await desk.chain.mine(100)
    reader = OutcomeReader(desk.chain.rpc, desk.chain.network)
    head = await desk.chain.rpc.read_int("eth_blockNumber")
    outcome = await reader.read(
        desk.chain.usdc.reference,
        desk.rail.address,
        signed.authorization.nonce,
        valid_before=FAR_FUTURE,
        from_block=head,
    )
    assert outcome.kind is OutcomeKind.UNCLEAR


async def test_fees_are_kept_for_about_a_block_and_read_again_when_told(desk: Desk, clock: ManualClock) -> None:
    oracle = FeeOracle(desk.chain.rpc, desk.chain.network, clock, FeeLimits())
    first = await oracle.current()
    assert await oracle.current() is first
    clock.advance(1)
    second = await oracle.current()
    assert second is not first
    oracle.forget()
    assert await oracle.current() is not second


@pytest.mark.parametrize(("maximum", "priority"), [(8, 8), (GWEI, 1), (1, 0)])
def test_a_bump_is_at_least_what_nodes_demand(maximum: int, priority: int) -> None:
    bumped = Fees(maximum, priority).bumped(Fees(0, 0))
    assert bumped.maximum * 10 >= maximum * 11
    assert bumped.priority * 10 >= priority * 11


def test_a_bump_goes_to_the_usual_price_when_that_is_more() -> None:
    assert Fees(10, 1).bumped(Fees(100, 50)) == Fees(100, 50)
