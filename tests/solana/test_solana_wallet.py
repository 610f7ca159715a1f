"""Paying on the development chain: what arrives, what is refused, and what a bad day on the network does."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from solders.pubkey import Pubkey
from tests.solana.conftest import SOL, START_USDC, Desk, funded_wallet, new_wallet

from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput, PaymentFailed, PaymentUnknown
from agentnexus.core.money import Asset
from agentnexus.core.payments import Payment, PaymentState, PayMode
from agentnexus.core.ports import Holding, Rail
from agentnexus.devnet.solana.accounts import fee_mint_keypair
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.devnet.solana.faults import Fault
from agentnexus.platform.database import Database
from agentnexus.rails.solana.cluster import Commitment
from agentnexus.rails.solana.errors import WrongNetwork
from agentnexus.rails.solana.landed import read_landed
from agentnexus.rails.solana.networks import MAINNET, NetworkKind
from agentnexus.rails.solana.programs import TOKEN_2022_PROGRAM, associated_address
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.signer import LocalSigner
from agentnexus.rails.solana.transfers import TransferPlanner
from agentnexus.rails.solana.wallet import SolanaRail


async def test_the_rail_keeps_the_core_ports(desk: Desk) -> None:
    rail: Rail = desk.rail
    assert isinstance(rail, Holding)
    assert rail.name == "solana"


async def test_usdc_reaches_a_payee_who_has_no_token_account_yet(desk: Desk) -> None:
    payment = await desk.rail.send(desk.request(10_000), "k1")
    assert payment.state is PaymentState.CONFIRMED
    assert await desk.usdc_of(desk.payee) == 10_000
    assert (await desk.rail.balance(desk.chain.usdc)).atomic == START_USDC - 10_000
    landed = await read_landed(desk.chain.rpc, str(payment.evidence["transaction"]), Commitment.CONFIRMED)
    assert landed is not None
    assert landed.slot == payment.evidence["slot"]


async def test_the_quoted_fee_covers_what_the_payment_costs(desk: Desk) -> None:
    before = await desk.chain.lamports_of(desk.payer.key)
    quoted = await desk.rail.fee(desk.request())
    await desk.rail.send(desk.request(), "k1")
    spent = before - await desk.chain.lamports_of(desk.payer.key)
    assert quoted.asset == desk.chain.network.native
    assert 2_000_000 < spent <= quoted.atomic  # mostly the rent of the payee's token account
    second = await desk.rail.fee(desk.request())
    assert second.atomic < 10_000


async def test_a_poor_wallet_is_told_the_fee_all_the_same(desk: Desk) -> None:
    rail = SolanaRail(desk.sender, new_wallet().signer)
    for asset in (desk.chain.usdc, desk.chain.network.native):
        assert (await rail.fee(desk.request(SOL, asset))).atomic > 5_000
    assert (await rail.fee(desk.request(mode=PayMode.AUTHORIZE))).atomic == 0


async def test_sol_is_paid_and_its_balance_read(desk: Desk) -> None:
    sol = desk.chain.network.native
    payment = await desk.rail.send(desk.request(SOL // 10, sol), "k1")
    assert payment.state is PaymentState.CONFIRMED
    assert await desk.chain.lamports_of(desk.payee.key) == SOL // 10
    assert 5_000 <= SOL - SOL // 10 - (await desk.rail.balance(sol)).atomic < 5_020


async def test_sol_that_leaves_the_payee_below_rent_is_refused_before_it_is_signed(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match="a new wallet"):
        await desk.rail.send(desk.request(1_000, desk.chain.network.native), "k1")
    assert await desk.sender.find("send:k1") is None


async def test_a_token_with_a_transfer_fee_brings_the_payee_the_exact_amount(desk: Desk) -> None:
    fee_token = desk.chain.fee_token
    await desk.chain.mint(desk.payer.key, START_USDC, fee_token)
    await desk.rail.send(desk.request(100_000, fee_token), "k1")
    got = await desk.chain.tokens_of(desk.payee.key, fee_mint_keypair().pubkey(), TOKEN_2022_PROGRAM)
    assert got == 100_000
    assert (await desk.rail.balance(fee_token)).atomic == START_USDC - 101_011  # 1 %, rounded up


async def test_another_key_may_pay_the_fees(desk: Desk) -> None:
    sponsor, poor = await funded_wallet(desk.chain), new_wallet()
    await desk.chain.mint(poor.key, 50_000)
    rail = SolanaRail(desk.sender, poor.signer, fee_payer=sponsor.signer)
    payment = await rail.send(desk.request(50_000), "k1")
    assert payment.state is PaymentState.CONFIRMED
    assert await desk.chain.lamports_of(poor.key) == 0
    assert await desk.chain.lamports_of(sponsor.key) < SOL - 2_000_000


async def test_one_key_pays_once_however_often_it_is_asked(desk: Desk) -> None:
    first, *others = await asyncio.gather(*(desk.rail.send(desk.request(), "k1") for _ in range(8)))
    assert {each.evidence["transaction"] for each in others} == {first.evidence["transaction"]}
    assert await desk.usdc_of(desk.payee) == 10_000
    assert await desk.sent_by_payer() == 1


async def test_two_keys_pay_twice_within_one_block(desk: Desk) -> None:
    await desk.chain.mint(desk.payee.key, 1)  # so that both payments are the same instruction
    await asyncio.gather(*(desk.rail.send(desk.request(), f"k{number}") for number in range(12)))
    assert await desk.usdc_of(desk.payee) == 120_001


async def test_a_key_means_one_payment(desk: Desk) -> None:
    await desk.rail.send(desk.request(10_000), "k1")
    with pytest.raises(Conflict, match="another payment"):
        await desk.rail.send(desk.request(10_001), "k1")
    with pytest.raises(Conflict):
        await desk.rail.send(desk.request(10_000, payee=new_wallet().address), "k1")


async def test_too_little_money_is_known_before_anything_is_signed(desk: Desk) -> None:
    with pytest.raises(InsufficientFunds) as caught:
        await desk.rail.send(desk.request(START_USDC + 1), "k1")
    assert caught.value.details["address"] == desk.payer.address
    with pytest.raises(InsufficientFunds):
        await desk.rail.send(desk.request(2 * SOL, desk.chain.network.native), "k2")
    assert await desk.sent_by_payer() == 0


async def test_a_wallet_without_sol_cannot_pay_and_is_told_so(desk: Desk) -> None:
    poor = new_wallet()
    await desk.chain.mint(poor.key, 50_000)
    with pytest.raises(PaymentFailed, match="AccountNotFound") as caught:
        await SolanaRail(desk.sender, poor.signer).send(desk.request(), "k1")
    assert "SOL" in caught.value.next_step


@pytest.mark.parametrize("payee", ["", "not-an-address", "0x" + "ab" * 20, "1" * 31, "9" * 45])
async def test_a_payee_that_is_no_address_is_refused(desk: Desk, payee: str) -> None:
    with pytest.raises(InvalidInput, match="Solana address"):
        await desk.rail.send(desk.request(payee=payee), "k1")


async def test_money_is_not_sent_where_nobody_can_take_it(desk: Desk) -> None:
    usdc = Pubkey.from_string(desk.chain.usdc.reference)
    for address in (usdc, associated_address(desk.payer.key, usdc)):
        for asset in (desk.chain.usdc, desk.chain.network.native):
            with pytest.raises(InvalidInput, match="not a wallet"):
                await desk.rail.send(desk.request(1_000_000, asset, payee=str(address)), f"{address}{asset.symbol}")
    with pytest.raises(InvalidInput, match="pay itself"):
        await desk.rail.send(desk.request(payee=desk.payer.address), "k1")


@pytest.mark.parametrize("atomic", [0, -1, 2**64])
async def test_an_amount_no_transfer_can_carry_is_refused(desk: Desk, atomic: int) -> None:
    with pytest.raises(InvalidInput, match="amount"):
        await desk.rail.send(desk.request(atomic), "k1")


async def test_assets_of_other_networks_and_wrong_decimals_are_refused(desk: Desk) -> None:
    with pytest.raises(WrongNetwork):
        await desk.rail.send(desk.request(asset=MAINNET.usdc), "k1")
    lying = replace(desk.chain.usdc, decimals=9)
    with pytest.raises(InvalidInput, match="has 6 decimals"):
        await desk.rail.send(desk.request(asset=lying), "k2")
    nothing = Asset("X", 6, desk.chain.network.token(new_wallet().key).caip19)
    with pytest.raises(InvalidInput, match="is not a token"):
        await desk.rail.balance(nothing)


async def test_only_payments_are_sent(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match="sends payments"):
        await desk.rail.send(desk.request(mode=PayMode.HOLD), "k1")


async def test_a_mainnet_key_is_refused_on_a_test_network_and_the_reverse(desk: Desk, database: Database) -> None:
    mainnet_key = LocalSigner(new_wallet().keypair.secret(), NetworkKind.MAINNET)
    with pytest.raises(WrongNetwork, match="mainnet key"):
        SolanaRail(desk.sender, mainnet_key)
    with pytest.raises(WrongNetwork, match="mainnet key"):
        SolanaRail(desk.sender, desk.payer.signer, fee_payer=mainnet_key)
    mainnet_sender = TransactionSender(database, desk.chain.rpc, MAINNET)
    with pytest.raises(WrongNetwork, match="testnet key"):
        SolanaRail(mainnet_sender, desk.payer.signer)


async def test_a_node_of_another_cluster_is_refused(solana: SolanaDevelopmentChain, database: Database) -> None:
    with pytest.raises(WrongNetwork, match="not on solana:5eykt4"):
        await TransactionSender.open(database, solana.rpc, MAINNET)


async def test_an_answer_that_is_lost_does_not_pay_twice(desk: Desk) -> None:
    await desk.chain.fault(Fault.DROP_ANSWER)
    payment = await desk.rail.send(desk.request(), "k1")
    assert payment.state is PaymentState.CONFIRMED
    assert await desk.sent_by_payer() == 1


async def test_a_send_that_the_network_lost_is_sent_again_as_the_same_bytes(desk: Desk) -> None:
    sender = TransactionSender(desk.sender.database, desk.chain.rpc, desk.chain.network, resend_seconds=0.05)
    rail = SolanaRail(sender, desk.payer.signer)
    await desk.chain.fault(Fault.LOSE_SEND, 3)
    payment = await rail.send(desk.request(), "k1")
    assert payment.state is PaymentState.CONFIRMED
    assert await desk.sent_by_payer() == 1


async def test_a_transaction_that_fails_on_the_chain_is_never_called_paid(desk: Desk) -> None:
    await desk.rail.send(desk.request(1), "first")  # the payee has an account
    await desk.chain.fault(Fault.FAIL_ON_CHAIN)
    with pytest.raises(PaymentFailed, match="failed on the chain") as caught:
        await desk.rail.send(desk.request(10_000), "k1")
    signature = str(caught.value.details["transaction"])
    status = await desk.chain.rpc.value("getSignatureStatuses", [signature])
    assert isinstance(status, list)
    assert isinstance(status[0], dict)
    assert status[0]["confirmationStatus"] == "confirmed"  # what the official signer takes for success
    assert status[0]["err"] == {"InstructionError": [2, {"Custom": 1}]}
    assert await desk.usdc_of(desk.payee) == 1
    failed = await desk.rail.lookup(_sent("k1", desk))
    assert failed.state is PaymentState.FAILED
    assert failed.evidence["transaction"] == signature


async def test_a_failed_key_stays_failed_and_a_new_one_pays(desk: Desk) -> None:
    await desk.rail.send(desk.request(1), "first")
    await desk.chain.fault(Fault.FAIL_ON_CHAIN)
    for _ in range(2):
        with pytest.raises(PaymentFailed):
            await desk.rail.send(desk.request(10_000), "k1")
    assert (await desk.rail.send(desk.request(10_000), "k2")).state is PaymentState.CONFIRMED
    assert await desk.usdc_of(desk.payee) == 10_001


async def test_a_transaction_that_stays_processed_is_not_called_confirmed(desk: Desk) -> None:
    await desk.chain.fault(Fault.HOLD_CONFIRMATION)
    impatient = SolanaRail(desk.sender, desk.payer.signer, send_wait_seconds=0.3, lookup_wait_seconds=0.3)
    with pytest.raises(PaymentUnknown):
        await impatient.send(desk.request(), "k1")
    unknown = await impatient.lookup(_sent("k1", desk))
    assert unknown.state is PaymentState.UNKNOWN
    assert await desk.usdc_of(desk.payee) == 10_000  # it may have moved already
    await desk.chain.release()
    assert (await impatient.lookup(unknown)).state is PaymentState.CONFIRMED


async def test_a_transaction_that_never_lands_is_unknown_until_its_blockhash_has_expired(desk: Desk) -> None:
    await desk.chain.fault(Fault.LOSE_SEND, 1_000)
    impatient = SolanaRail(desk.sender, desk.payer.signer, send_wait_seconds=0.3, lookup_wait_seconds=0.5)
    with pytest.raises(PaymentUnknown) as caught:
        await impatient.send(desk.request(), "k1")
    await desk.chain.advance(151)  # past its last block, which is not final yet
    unknown = await impatient.lookup(_sent("k1", desk))
    assert unknown.state is PaymentState.UNKNOWN
    await desk.chain.advance(100)
    failed = await impatient.lookup(unknown)
    assert failed.state is PaymentState.FAILED
    assert failed.evidence["transaction"] == caught.value.details["transaction"]
    with pytest.raises(PaymentFailed, match="never will"):
        await impatient.send(desk.request(), "k1")
    await desk.chain.release()
    assert await desk.usdc_of(desk.payee) == 0
    assert (await desk.rail.send(desk.request(), "k2")).state is PaymentState.CONFIRMED


async def test_a_late_transaction_is_found_after_its_blockhash_expired(desk: Desk) -> None:
    """The node that lost our first send had passed it on all the same."""
    await desk.chain.fault(Fault.HOLD_SEND)
    await desk.chain.fault(Fault.LOSE_SEND, 0)
    impatient = SolanaRail(desk.sender, desk.payer.signer, send_wait_seconds=0.2, lookup_wait_seconds=1.0)
    with pytest.raises(PaymentUnknown):
        await impatient.send(desk.request(), "k1")
    await desk.chain.release()
    await desk.chain.advance(400)
    assert (await impatient.lookup(_sent("k1", desk))).state is PaymentState.CONFIRMED
    assert await desk.usdc_of(desk.payee) == 10_000


async def test_what_was_stored_and_not_sent_is_sent_when_the_process_starts_again(desk: Desk) -> None:
    planner = TransferPlanner(desk.chain.rpc, desk.chain.network, desk.payer.key, desk.payer.key)
    plan = await planner.plan(desk.payee.address, desk.request().amount)
    staged = await desk.sender.stage("send:k1", "an intent", plan.instructions, [desk.payer.signer])
    assert await desk.usdc_of(desk.payee) == 0
    assert await desk.sender.recover(desk.payer.address) == []
    assert await desk.usdc_of(desk.payee) == 10_000
    found = await desk.sender.find("send:k1")
    assert found is not None
    assert (found.signature, str(found.state)) == (staged.signature, "succeeded")


async def test_what_cannot_be_finished_is_reported_by_recover(desk: Desk) -> None:
    await desk.chain.fault(Fault.LOSE_SEND, 1_000)
    impatient = SolanaRail(desk.sender, desk.payer.signer, send_wait_seconds=0.2)
    with pytest.raises(PaymentUnknown):
        await impatient.send(desk.request(), "k1")
    (left,) = await desk.sender.recover(desk.payer.address, timeout_seconds=0.3)
    assert left.key == "send:k1"


async def test_a_payment_nobody_ever_made_is_failed(desk: Desk) -> None:
    assert (await desk.rail.lookup(_sent("never", desk))).state is PaymentState.FAILED


async def test_a_node_that_is_away_for_a_moment_is_asked_again(desk: Desk) -> None:
    await desk.chain.fault(Fault.UNAVAILABLE, 2)
    assert (await desk.rail.balance(desk.chain.usdc)).atomic == START_USDC


def _sent(key: str, desk: Desk) -> Payment:
    return Payment(id=key, request=desk.request(), state=PaymentState.SENT)


async def test_of_two_calls_with_one_key_a_refusal_and_a_transfer_only_the_first_counts(desk: Desk) -> None:
    """The second refuses after the first has signed, or signs after the first was refused: never both."""
    plan = await TransferPlanner(desk.chain.rpc, desk.chain.network, desk.payer.key, desk.payer.key).plan(
        desk.payee.address, desk.request().amount
    )
    refused = await desk.sender.refuse("one", "x", desk.payer.address, "its account was closed")
    assert refused.refused
    assert await desk.sender.stage("one", "x", plan.instructions, [desk.payer.signer]) == refused
    assert await desk.sender.deliver(refused) == refused
    signed = await desk.sender.stage("two", "x", plan.instructions, [desk.payer.signer])
    assert await desk.sender.refuse("two", "x", desk.payer.address, "its account was closed") == signed
    assert not signed.refused
