"""The payer's rail: holds that end exactly once, transfers that are paid exactly once."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from tests.evm.conftest import Desk, open_desk

from agentnexus.core.errors import InsufficientFunds, InvalidInput, PaymentFailed, PaymentUnknown
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Hold, PaymentState, PayMode
from agentnexus.core.ports import Holding, Rail
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.rails.evm.eip3009 import SignedAuthorization, nonce_for
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.errors import Refusal, SettlementRefused, WrongNetwork
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.signer import LocalSigner
from agentnexus.rails.evm.token import transfer_with_authorization_call
from agentnexus.rails.evm.transactions import OutgoingState
from agentnexus.rails.evm.wallet import EvmRail


def payload_of(hold: Hold) -> SignedAuthorization:
    return SignedAuthorization.from_json(hold.payment.evidence["payload"])


async def test_the_rail_is_a_rail_that_can_hold(desk: Desk) -> None:
    rail: Rail = desk.rail
    assert rail.name == "evm"
    assert isinstance(desk.rail, Holding)


async def test_a_hold_is_a_payload_that_a_facilitator_accepts(desk: Desk) -> None:
    hold = await desk.rail.open(desk.request(), "job-1")
    assert hold.payment.state is PaymentState.HELD
    payload = hold.payment.evidence["payload"]
    assert json.loads(json.dumps(payload)) == payload
    assert isinstance(payload, dict)
    assert set(payload) == {"signature", "authorization"}
    assert all(isinstance(value, str) for value in payload["authorization"].values())
    await desk.settler.verify(payload_of(hold), desk.requirement())


async def test_opening_again_with_the_same_key_signs_the_same_nonce(desk: Desk) -> None:
    first = await desk.rail.open(desk.request(), "job-1")
    second = await desk.rail.open(desk.request(), "job-1")
    assert payload_of(first).authorization.nonce == payload_of(second).authorization.nonce == nonce_for("job-1")
    assert first.payment.evidence["nonce"] == to_hex(nonce_for("job-1"))


async def test_with_an_expiry_in_the_request_the_repeated_payload_is_the_same_to_the_byte(desk: Desk) -> None:
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)
    request = desk.request().model_copy(update={"expires_at": expires})
    first = await desk.rail.open(request, "job-1")
    second = await desk.rail.open(request, "job-1")
    assert first.payment.evidence["payload"] == second.payment.evidence["payload"]
    assert first.deadline == expires


async def test_a_collected_hold_settles_as_confirmed(desk: Desk) -> None:
    hold = await desk.rail.open(desk.request(), "job-1")
    settlement = await desk.settler.settle(payload_of(hold), desk.requirement())
    payment = await desk.rail.settle(hold, {"transaction": settlement.transaction})
    assert payment.state is PaymentState.CONFIRMED
    assert payment.evidence["transaction"] == settlement.transaction
    assert payment.evidence["block"] == settlement.block_number


async def test_settling_without_a_proof_finds_the_transaction_by_its_nonce(desk: Desk) -> None:
    hold = await desk.rail.open(desk.request(), "job-1")
    settlement = await desk.settler.settle(payload_of(hold), desk.requirement())
    payment = await desk.rail.settle(hold, {})
    assert payment.state is PaymentState.CONFIRMED
    assert payment.evidence["transaction"] == settlement.transaction


async def test_an_uncollected_hold_is_unknown_to_settle_and_held_to_lookup(desk: Desk) -> None:
    hold = await desk.rail.open(desk.request(), "job-1")
    assert (await desk.rail.settle(hold, {})).state is PaymentState.UNKNOWN
    assert (await desk.rail.lookup(hold.payment)).state is PaymentState.HELD


async def test_a_forged_proof_does_not_confirm(desk: Desk) -> None:
    """The seller names a real transaction that pays him for another job."""
    other = await desk.signed("another-job")
    unrelated = await desk.settler.settle(other, desk.requirement())
    hold = await desk.rail.open(desk.request(), "job-1")
    assert (await desk.rail.settle(hold, {"transaction": unrelated.transaction})).state is PaymentState.UNKNOWN
    for nonsense in ("", "0x12", "0x" + "z" * 64, 7, None):
        assert (await desk.rail.settle(hold, {"transaction": nonsense})).state is PaymentState.UNKNOWN


async def test_a_proof_that_is_nowhere_on_chain_is_unknown(chain: DevelopmentChain, database: Database) -> None:
    desk = await open_desk(chain, database)
    rail = EvmRail(desk.sender, desk.rail.signer, settle_wait_seconds=0.05)
    hold = await rail.open(desk.request(), "job-1")
    assert (await rail.settle(hold, {"transaction": "0x" + "ab" * 32})).state is PaymentState.UNKNOWN


async def test_a_cancelled_hold_is_refunded_and_can_never_be_collected(desk: Desk) -> None:
    hold = await desk.rail.open(desk.request(), "job-1")
    payment = await desk.rail.cancel(hold)
    assert payment.state is PaymentState.REFUNDED
    assert str(payment.evidence["cancel_transaction"]).startswith("0x")
    with pytest.raises(SettlementRefused) as refused:
        await desk.settler.settle(payload_of(hold), desk.requirement())
    assert refused.value.refusal is Refusal.NONCE_USED
    assert await desk.seller_earned() == 0


async def test_cancelling_twice_is_one_cancellation(desk: Desk) -> None:
    hold = await desk.rail.open(desk.request(), "job-1")
    first = await desk.rail.cancel(hold)
    second = await desk.rail.cancel(hold)
    assert second.state is PaymentState.REFUNDED
    assert second.evidence["cancel_transaction"] == first.evidence["cancel_transaction"]


async def test_cancelling_after_the_seller_collected_is_confirmed(desk: Desk) -> None:
    hold = await desk.rail.open(desk.request(), "job-1")
    settlement = await desk.settler.settle(payload_of(hold), desk.requirement())
    payment = await desk.rail.cancel(hold)
    assert payment.state is PaymentState.CONFIRMED
    assert payment.evidence["transaction"] == settlement.transaction


@pytest.mark.parametrize("attempt", range(4))
async def test_cancel_and_settle_at_once_end_in_exactly_one(desk: Desk, attempt: int) -> None:
    hold = await desk.rail.open(desk.request(), f"race-{attempt}")
    settling = asyncio.create_task(desk.settler.settle(payload_of(hold), desk.requirement()))
    cancelled = await desk.rail.cancel(hold)
    try:
        settlement = await settling
    except SettlementRefused:
        assert cancelled.state is PaymentState.REFUNDED
        assert await desk.seller_earned() == 0
    else:
        assert cancelled.state is PaymentState.CONFIRMED
        assert cancelled.evidence["transaction"] == settlement.transaction
        assert await desk.seller_earned() == 10_000


async def test_cancelling_while_the_settlement_waits_for_its_block_is_confirmed_by_that_block(desk: Desk) -> None:
    hold = await desk.rail.open(desk.request(), "job-1")
    await desk.chain.automine(False)
    settling = asyncio.create_task(desk.settler.settle(payload_of(hold), desk.requirement()))
    await desk.mempool_holds(1)
    cancelling = asyncio.create_task(desk.rail.cancel(hold))
    await desk.chain.automine(True)
    await desk.chain.mine()
    settlement = await settling
    payment = await cancelling
    assert payment.state is PaymentState.CONFIRMED
    assert payment.evidence["transaction"] == settlement.transaction


async def test_a_cancellation_overtaken_inside_the_block_is_confirmed(desk: Desk) -> None:
    """The payee sees the cancellation waiting and collects with a better tip."""
    hold = await desk.rail.open(desk.request(), "job-1")
    await desk.chain.automine(False)
    cancelling = asyncio.create_task(desk.rail.cancel(hold))
    await desk.mempool_holds(1)
    call = transfer_with_authorization_call(payload_of(hold), contract_wallet=False)
    overtaking = await desk.chain.rpc.call(
        "eth_sendTransaction",
        {
            "from": desk.seller,
            "to": desk.chain.usdc.reference,
            "data": to_hex(call),
            "gas": hex(300_000),
            "maxFeePerGas": hex(10**11),
            "maxPriorityFeePerGas": hex(10**11),
        },
    )
    await desk.chain.automine(True)
    await desk.chain.mine()
    payment = await cancelling
    assert payment.state is PaymentState.CONFIRMED
    assert payment.evidence["transaction"] == overtaking
    cancellation = await desk.sender.find(
        f"cancel:{desk.chain.usdc.reference}:{desk.rail.address}:{to_hex(nonce_for('job-1'))}"
    )
    assert cancellation is not None
    assert cancellation.state is OutgoingState.REVERTED


async def test_a_cancellation_that_no_block_decides_is_unknown(chain: DevelopmentChain, database: Database) -> None:
    desk = await open_desk(chain, database)
    impatient = EvmRail(desk.sender, desk.rail.signer, relayer=desk.settler.relayer, send_wait_seconds=0.2)
    hold = await impatient.open(desk.request(), "job-1")
    await chain.automine(False)
    settling = asyncio.create_task(desk.settler.settle(payload_of(hold), desk.requirement()))
    await desk.mempool_holds(1)
    with pytest.raises(PaymentUnknown, match="no longer be cancelled"):
        await impatient.cancel(hold)
    await chain.automine(True)
    await chain.mine()
    await settling
    assert (await impatient.cancel(hold)).state is PaymentState.CONFIRMED


async def test_an_expired_hold_is_refunded_without_spending_gas(desk: Desk) -> None:
    hold = await desk.rail.open(desk.request(), "job-1")
    valid_before = hold.payment.evidence["valid_before"]
    assert isinstance(valid_before, int)
    await desk.chain.set_next_block_time(valid_before)
    await desk.chain.mine()
    payment = await desk.rail.cancel(hold)
    assert payment.state is PaymentState.REFUNDED
    assert payment.evidence["expired"] is True
    assert (await desk.rail.settle(hold, {})).state is PaymentState.REFUNDED


async def test_a_wallet_without_the_money_opens_no_hold(desk: Desk) -> None:
    poor = EvmRail(desk.sender, desk.chain.accounts["outsider"].signer)
    with pytest.raises(InsufficientFunds) as caught:
        await poor.open(desk.request(), "job-1")
    assert "USDC" in caught.value.next_step


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", "10001"),
        ("payTo", "0x" + "11" * 20),
        ("asset", "0x" + "22" * 20),
        ("network", "eip155:8453"),
        ("network", "base"),
        ("scheme", "upto"),
    ],
)
async def test_a_requirement_that_differs_from_the_payment_is_not_signed(desk: Desk, field: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await desk.rail.open(desk.request(**{field: value}), "job-1")
    assert caught.value.details["field"] == f"reference.{field}"


@pytest.mark.parametrize("seconds", [0, -1, True, "60", None])
async def test_a_senseless_timeout_is_not_signed(desk: Desk, seconds: object) -> None:
    with pytest.raises(InvalidInput, match="maxTimeoutSeconds"):
        await desk.rail.open(desk.request(maxTimeoutSeconds=seconds), "job-1")


async def test_a_timeout_of_years_is_cut_to_a_day(desk: Desk) -> None:
    hold = await desk.rail.open(desk.request(maxTimeoutSeconds=10**9), "job-1")
    assert hold.deadline < datetime.now(UTC) + timedelta(days=1, minutes=1)


async def test_a_wrong_signing_domain_is_noticed_before_signing(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match="USD Coin"):
        await desk.rail.open(desk.request(extra={"name": "USDC", "version": "2"}), "job-1")


async def test_a_permit2_requirement_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match="eip3009"):
        await desk.rail.open(desk.request(extra={"assetTransferMethod": "permit2"}), "job-1")


async def test_a_version_1_requirement_is_read_as_well(desk: Desk) -> None:
    request = desk.request()
    reference = {key: value for key, value in request.reference.items() if key not in ("amount", "network")}
    older = request.model_copy(update={"reference": {**reference, "maxAmountRequired": "10000", "network": "local"}})
    hold = await desk.rail.open(older, "job-1")
    await desk.settler.verify(payload_of(hold), desk.requirement())


async def test_an_expired_request_is_refused(desk: Desk) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(InvalidInput, match="expired"):
        await desk.rail.open(desk.request().model_copy(update={"expires_at": past}), "job-1")


async def test_a_payment_on_another_network_is_refused(desk: Desk) -> None:
    elsewhere = Asset("USDC", 6, "eip155:8453/erc20:" + desk.chain.usdc.reference)
    request = desk.request().model_copy(update={"amount": Money(elsewhere, 10_000)})
    with pytest.raises(WrongNetwork, match="eip155:31337"):
        await desk.rail.open(request, "job-1")


async def test_a_mainnet_key_is_refused_on_a_local_network(desk: Desk) -> None:
    with pytest.raises(WrongNetwork, match="mainnet key"):
        EvmRail(desk.sender, LocalSigner(b"\x07" * 32, NetworkKind.MAINNET))


async def test_balances_of_token_and_coin(desk: Desk) -> None:
    assert (await desk.rail.balance(desk.chain.usdc)).atomic == 10_000_000_000
    assert (await desk.rail.balance(desk.chain.network.native)).atomic > 10**18


async def test_an_authorisation_costs_the_payer_nothing_and_a_transfer_costs_gas(desk: Desk) -> None:
    assert await desk.rail.fee(desk.request()) == desk.chain.usdc.zero()
    fee = await desk.rail.fee(desk.request(mode=PayMode.PAY))
    assert fee.asset == desk.chain.network.native
    assert fee.atomic > 0


async def test_a_transfer_is_paid_once_per_key(desk: Desk) -> None:
    request = desk.request(mode=PayMode.PAY)
    first = await desk.rail.send(request, "pay-1")
    second = await desk.rail.send(request, "pay-1")
    assert first.state is PaymentState.CONFIRMED
    assert second.evidence["transaction"] == first.evidence["transaction"]
    assert await desk.seller_earned() == 10_000
    assert (await desk.rail.lookup(first)).state is PaymentState.CONFIRMED


async def test_the_networks_own_coin_can_be_sent(desk: Desk) -> None:
    native = desk.chain.network.native
    before = await desk.chain.rpc.read_int("eth_getBalance", desk.seller, "latest")
    request = desk.request(mode=PayMode.PAY).model_copy(update={"amount": Money(native, 12_345), "reference": {}})
    payment = await desk.rail.send(request, "pay-1")
    assert payment.state is PaymentState.CONFIRMED
    assert await desk.chain.rpc.read_int("eth_getBalance", desk.seller, "latest") == before + 12_345


async def test_a_transfer_of_more_than_there_is_moves_nothing(desk: Desk) -> None:
    with pytest.raises(InsufficientFunds):
        await desk.rail.send(desk.request(10_000_000_001, mode=PayMode.PAY), "pay-1")
    assert await desk.seller_earned() == 0


async def test_a_transfer_not_mined_in_time_is_unknown_and_later_confirmed(desk: Desk) -> None:
    rail = EvmRail(desk.sender, desk.rail.signer, send_wait_seconds=0.2, settle_wait_seconds=0.2)
    request = desk.request(mode=PayMode.PAY)
    await desk.chain.automine(False)
    with pytest.raises(PaymentUnknown) as unknown:
        await rail.send(request, "pay-1")
    pending = await desk.sender.find("send:pay-1")
    assert pending is not None
    assert unknown.value.details["transaction"] == pending.transaction
    hold = await rail.open(desk.request(), "job-1")
    payment = hold.payment.model_copy(update={"id": "pay-1", "request": request, "evidence": {}})
    assert (await rail.lookup(payment)).state is PaymentState.UNKNOWN
    await desk.chain.automine(True)
    await desk.chain.mine()
    found = await rail.lookup(payment)
    assert found.state is PaymentState.CONFIRMED
    assert (await rail.send(request, "pay-1")).evidence["transaction"] == found.evidence["transaction"]
    assert await desk.seller_earned() == 10_000


async def test_a_transfer_that_was_never_stored_is_known_to_have_failed(desk: Desk) -> None:
    hold = await desk.rail.open(desk.request(), "job-1")
    never = hold.payment.model_copy(update={"request": desk.request(mode=PayMode.PAY), "id": "never"})
    assert (await desk.rail.lookup(never)).state is PaymentState.FAILED


async def test_holds_and_payments_are_not_mixed_up(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match="hold"):
        await desk.rail.open(desk.request(mode=PayMode.PAY), "job-1")
    with pytest.raises(InvalidInput, match="open a hold"):
        await desk.rail.send(desk.request(), "job-1")


async def test_a_transfer_that_reverts_when_mined_is_a_failed_payment(desk: Desk) -> None:
    """The money leaves between the trial run and the block."""
    request = desk.request(10_000_000_000, mode=PayMode.PAY)
    await desk.chain.automine(False)
    draining = asyncio.create_task(desk.rail.send(desk.request(1, mode=PayMode.PAY), "drain"))
    await desk.mempool_holds(1)
    sending = asyncio.create_task(desk.rail.send(request, "pay-1"))
    await desk.mempool_or_done(2, sending)
    await desk.chain.automine(True)
    await desk.chain.mine()
    assert (await draining).state is PaymentState.CONFIRMED
    with pytest.raises(PaymentFailed):
        await sending
    assert await desk.seller_earned() == 1
