"""The facilitator on Solana over the development chain: what it takes, what it sends, what it believes."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
from dataclasses import replace

import pytest
from solders.hash import Hash
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from tests.x402.svm.support import NETWORK, PRICE, KeySigner, Stage, presented
from x402.schemas import PaymentRequirements, SettleResponse
from x402.schemas.v1 import PaymentPayloadV1, PaymentRequirementsV1

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import Unavailable
from agentnexus.devnet.solana.faults import Fault
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.sponsor import Sponsor
from agentnexus.markets.x402.svm.facilitator import SolanaFacilitator, lamport_limits
from agentnexus.markets.x402.svm.pricing import fee_payer_of
from agentnexus.markets.x402.svm.settle import TransferSettler
from agentnexus.markets.x402.svm.settlements import Settlements, State
from agentnexus.markets.x402.wire import Resource, to_v1
from agentnexus.rails.solana import exact
from agentnexus.rails.solana.cluster import Cluster
from agentnexus.rails.solana.programs import TOKEN_2022_PROGRAM, Token
from agentnexus.rails.solana.rpc import SolanaRpc

BLOCKHASH_LIFE_SLOTS = 260  # with the margins that a facilitator allows for
STRANGER = str(Keypair.from_seed(b"\x05" * 32).pubkey())


async def test_a_good_payment_is_verified_and_settled(stage: Stage) -> None:
    facilitator, asked = stage.facilitator(), stage.asked()
    payment = presented(asked, await stage.payload())
    verified = await facilitator.verify(payment, asked)
    assert verified.is_valid, verified
    assert verified.payer == str(stage.buyer.pubkey())
    settled = await facilitator.settle(payment, asked)
    assert settled.success, settled
    assert (await stage.paid(), settled.amount) == (PRICE, str(PRICE))
    assert settled.payer == str(stage.buyer.pubkey())
    outcome = await stage.cluster.outcome(settled.transaction)
    assert outcome is not None
    assert outcome.error is None


async def test_v1_payments_are_settled_under_their_own_names(stage: Stage) -> None:
    asked = stage.asked()
    first = to_v1(asked, Resource("https://seller.example/report"))
    assert isinstance(first, PaymentRequirementsV1)
    payment = PaymentPayloadV1(scheme="exact", network="solana-devnet", payload=await stage.payload())
    assert (await stage.facilitator().verify(payment, first)).is_valid
    settled = await stage.facilitator().settle(payment, first)
    assert (settled.success, settled.network) == (True, "solana-devnet")
    assert await stage.paid() == PRICE


async def test_what_is_supported_names_a_fee_payer_in_both_versions(stage: Stage) -> None:
    second = Keypair()
    settler = TransferSettler(
        stage.cluster,
        NETWORK,
        [KeySigner(stage.sponsor), KeySigner(second)],
        Settlements(stage.database),
        SystemClock(),
    )
    facilitator = SolanaFacilitator(settler, [stage.asset])
    supported = [facilitator.get_supported() for _ in range(2)]
    assert [(kind.x402_version, kind.network) for kind in supported[0].kinds] == [(2, NETWORK), (1, "solana-devnet")]
    assert supported[0].signers == {"solana:*": [str(stage.sponsor.pubkey()), str(second.pubkey())]}
    # Each in its turn, so that the load is shared.
    assert {fee_payer_of(each, NETWORK) for each in supported} == {str(stage.sponsor.pubkey()), str(second.pubkey())}
    with pytest.raises(Unavailable):
        fee_payer_of(supported[0], "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp")


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"amount": PRICE - 1}, Reason.SVM_AMOUNT_INSUFFICIENT),
        ({"amount": PRICE + 1}, Reason.SVM_AMOUNT_MISMATCH),
        ({"payee": Keypair().pubkey()}, Reason.SVM_RECIPIENT_MISMATCH),
        ({"fee_payer": Keypair().pubkey()}, Reason.SVM_FEE_PAYER_NOT_MANAGED),
        ({"token": Token(Keypair().pubkey(), 6)}, Reason.SVM_MINT_MISMATCH),
        (
            {"token": Token(Pubkey.from_string("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"), 9)},
            Reason.SVM_MINT_MISMATCH,
        ),
        (
            {"token": Token(Pubkey.from_string("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"), 6, TOKEN_2022_PROGRAM)},
            Reason.SVM_MINT_MISMATCH,
        ),
        ({"unit_price": 4_000_000}, Reason.FEE_CAP_EXCEEDED),
        ({"blockhash": Hash.from_bytes(b"\x09" * 32)}, Reason.SVM_SIMULATION_FAILED),
    ],
)
async def test_a_payment_with_wrong_terms_is_neither_verified_nor_settled(
    stage: Stage, terms: dict[str, object], reason: Reason
) -> None:
    facilitator, asked = stage.facilitator(), stage.asked()
    payment = presented(asked, await stage.payload(**terms))
    assert (await facilitator.verify(payment, asked)).invalid_reason == reason
    settled = await facilitator.settle(payment, asked)
    assert (settled.success, settled.error_reason, settled.transaction) == (False, reason, "")
    assert await stage.paid() == 0
    assert await stage.chain.lamports_of(stage.sponsor.pubkey()) == 1_000_000_000  # it cost nothing


async def test_a_forged_signature_is_refused_before_the_chain_is_asked(stage: Stage) -> None:
    asked = stage.asked()
    data = bytearray(base64.b64decode(await stage.transaction()))
    data[70] ^= 1
    forged = presented(asked, {"transaction": base64.b64encode(bytes(data)).decode()})
    assert (await stage.facilitator().verify(forged, asked)).invalid_reason == Reason.SVM_SIGNATURE
    assert (await stage.facilitator().settle(forged, asked)).error_reason == Reason.SVM_SIGNATURE


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("network", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", Reason.INVALID_NETWORK),
        ("scheme", "upto", Reason.UNSUPPORTED_SCHEME),
        ("amount", "-1", Reason.INVALID_REQUIREMENTS),
        ("asset", STRANGER, Reason.SVM_MINT_MISMATCH),
    ],
)
async def test_requirements_that_are_not_served_are_refused(
    stage: Stage, field: str, value: str, reason: Reason
) -> None:
    asked = stage.asked()
    wrong = asked.model_copy(update={field: value})
    payment = presented(asked, await stage.payload())
    assert (await stage.facilitator().verify(payment, wrong)).invalid_reason == reason


async def test_a_token_that_is_not_on_the_list_is_not_settled(stage: Stage) -> None:
    facilitator = SolanaFacilitator(stage.settler(), [])
    asked = stage.asked()
    refused = await facilitator.verify(presented(asked, await stage.payload()), asked)
    assert refused.invalid_reason == Reason.INVALID_REQUIREMENTS


async def test_a_token_that_keeps_a_fee_of_transfers_is_refused_where_the_official_one_calls_it_paid(
    stage: Stage,
) -> None:
    """The payee would get less than the price, and nothing in the transaction says so."""
    fee = stage.chain.fee_token
    token = Token(Pubkey.from_string(fee.reference), 6, TOKEN_2022_PROGRAM)
    for owner in (stage.buyer, stage.seller):
        await stage.chain.mint(owner.pubkey(), 10 * PRICE, fee)
    stage.asset = fee
    asked = stage.asked()
    payment = presented(asked, await stage.payload(token=token))
    refused = await SolanaFacilitator(stage.settler(), [fee]).verify(payment, asked)
    assert refused.invalid_reason == Reason.SVM_TOKEN_EXTENSION
    settled = await SolanaFacilitator(stage.settler(), [fee]).settle(payment, asked)
    assert settled.error_reason == Reason.SVM_TOKEN_EXTENSION


async def test_a_buyer_without_the_money_is_refused_when_verified(stage: Stage) -> None:
    asked = stage.asked(amount=100 * PRICE)
    refused = await stage.facilitator().verify(presented(asked, await stage.payload(amount=100 * PRICE)), asked)
    assert refused.invalid_reason == Reason.SVM_SIMULATION_FAILED


async def test_a_payer_drained_between_verify_and_settle_costs_the_sponsor_nothing(stage: Stage) -> None:
    facilitator, asked = stage.facilitator(), stage.asked(amount=10 * PRICE)
    first, second = [presented(asked, await stage.payload(name, amount=10 * PRICE)) for name in ("a", "b")]
    assert (await facilitator.verify(first, asked)).is_valid
    assert (await facilitator.verify(second, asked)).is_valid
    assert (await facilitator.settle(second, asked)).success
    before = await stage.chain.lamports_of(stage.sponsor.pubkey())
    settled = await facilitator.settle(first, asked)
    assert (settled.success, settled.error_reason) == (False, Reason.SVM_SIMULATION_FAILED)
    assert await stage.chain.lamports_of(stage.sponsor.pubkey()) == before


async def test_a_payment_that_fails_on_the_chain_after_all_is_not_called_paid(stage: Stage) -> None:
    facilitator, asked = stage.facilitator(), stage.asked()
    payment = presented(asked, await stage.payload())
    assert (await facilitator.verify(payment, asked)).is_valid
    await stage.chain.fault(Fault.FAIL_ON_CHAIN)
    settled = await facilitator.settle_for(payment, asked, "claim-1")
    assert (settled.success, settled.error_reason) == (False, Reason.TRANSACTION_FAILED)
    assert settled.transaction
    assert await stage.paid() == 0
    again = await stage.facilitator().settle_for(payment, asked, "claim-1")
    assert (again.error_reason, again.transaction) == (settled.error_reason, settled.transaction)


async def test_copies_settled_at_once_in_several_processes_move_the_money_once(stage: Stage) -> None:
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    facilitators = [stage.facilitator() for _ in range(4)]  # with nothing in common but the database
    settled = await asyncio.gather(*(each.settle_for(payment, asked, "claim-1") for each in facilitators * 2))
    assert {each.success for each in settled} == {True}
    assert len({each.transaction for each in settled}) == 1
    assert (await stage.paid(), await stage.left()) == (PRICE, 9 * PRICE)


async def test_one_payment_is_good_for_one_seller_only(stage: Stage) -> None:
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    settled = await asyncio.gather(
        *(stage.facilitator().settle_for(payment, asked, f"claim-{number}") for number in range(8))
    )
    won = [each for each in settled if each.success]
    lost = [each for each in settled if not each.success]
    assert len(won) == 1
    assert {each.error_reason for each in lost} == {Reason.DUPLICATE_SETTLEMENT}
    assert {each.transaction for each in lost} == {""}
    assert await stage.paid() == PRICE


async def test_sellers_without_claims_get_one_success_and_duplicates_as_the_scheme_says(stage: Stage) -> None:
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    facilitators = [stage.facilitator() for _ in range(8)]
    settled = await asyncio.gather(*(each.settle(payment, asked) for each in facilitators))
    assert sorted(each.success for each in settled) == [False] * 7 + [True]
    assert {each.error_reason for each in settled if not each.success} == {Reason.DUPLICATE_SETTLEMENT}
    later = await stage.facilitator().settle(payment, asked)
    assert later.error_reason == Reason.DUPLICATE_SETTLEMENT
    assert await stage.paid() == PRICE


@pytest.mark.parametrize("fault", [Fault.DROP_ANSWER, Fault.LOSE_SEND, Fault.HOLD_CONFIRMATION, Fault.HOLD_SEND])
async def test_a_send_whose_fate_is_not_known_is_pending_and_then_settled_once(stage: Stage, fault: Fault) -> None:
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    await stage.chain.fault(fault)
    first = await stage.facilitator(timeout_seconds=0.3).settle_for(payment, asked, "claim-1")
    if not first.success:
        assert first.error_reason == Reason.SETTLEMENT_PENDING
        assert first.transaction
    await stage.chain.release()
    second = await stage.facilitator().settle_for(payment, asked, "claim-1")
    assert second.success, second
    assert second.transaction == (first.transaction or second.transaction)
    assert (await stage.paid(), await stage.left()) == (PRICE, 9 * PRICE)


async def test_a_pending_settlement_of_a_seller_without_claims_can_be_gone_on_with(stage: Stage) -> None:
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    await stage.chain.fault(Fault.HOLD_SEND)
    first = await stage.facilitator(timeout_seconds=0.2).settle(payment, asked)
    assert first.error_reason == Reason.SETTLEMENT_PENDING
    await stage.chain.release()
    second = await stage.facilitator().settle(payment, asked)
    assert (second.success, second.transaction) == (True, first.transaction)


async def test_a_payment_that_no_block_can_take_any_more_has_failed_for_good(stage: Stage) -> None:
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    await stage.chain.fault(Fault.LOSE_SEND, 1000)
    settling = asyncio.create_task(stage.facilitator(timeout_seconds=20).settle_for(payment, asked, "claim-1"))
    store = Settlements(stage.database)
    while not await store.left_behind(NETWORK, 0.0):
        await asyncio.sleep(0.01)
    await stage.chain.advance(BLOCKHASH_LIFE_SLOTS)
    settled = await settling
    assert (settled.success, settled.error_reason, settled.transaction) == (False, Reason.TRANSACTION_FAILED, "")
    await stage.chain.release()
    again = await stage.facilitator().settle_for(payment, asked, "claim-1")
    assert again.error_reason == Reason.TRANSACTION_FAILED
    assert await stage.paid() == 0


async def test_a_chain_that_is_away_before_the_send_leaves_no_trace(stage: Stage) -> None:
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    async with SolanaRpc("http://127.0.0.1:1", retries=0) as rpc:
        away = SolanaFacilitator(
            TransferSettler(
                Cluster(rpc), NETWORK, [KeySigner(stage.sponsor)], Settlements(stage.database), SystemClock()
            ),
            [stage.asset],
        )
        with pytest.raises(Unavailable):
            await away.verify(payment, asked)
        with pytest.raises(Unavailable):
            await away.settle_for(payment, asked, "claim-1")
    assert (await stage.facilitator().settle_for(payment, asked, "claim-2")).success


async def test_a_refused_first_try_can_be_repeated_when_the_money_has_come(stage: Stage) -> None:
    asked = stage.asked(amount=15 * PRICE)
    payment = presented(asked, await stage.payload(amount=15 * PRICE))
    refused = await stage.facilitator().settle_for(payment, asked, "claim-1")
    assert refused.error_reason == Reason.SVM_SIMULATION_FAILED
    await stage.chain.mint(stage.buyer.pubkey(), 5 * PRICE)
    assert (await stage.facilitator().settle_for(payment, asked, "claim-1")).success


async def test_what_a_killed_facilitator_left_is_brought_to_its_end(stage: Stage) -> None:
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    await stage.chain.fault(Fault.HOLD_SEND)
    dying = asyncio.create_task(stage.facilitator().settle_for(payment, asked, "claim-1"))
    store = Settlements(stage.database)
    while not await store.left_behind(NETWORK, 0.0):
        await asyncio.sleep(0.01)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    (left,) = await store.left_behind(NETWORK, 0.0)
    assert left.state is State.SENDING
    await stage.chain.release()
    assert await stage.facilitator().recover(older_than_seconds=0.0) == 0
    known = await store.find(left.outgoing.payment_id)
    assert known is not None
    assert known.state is State.SETTLED
    assert await stage.paid() == PRICE
    assert (await stage.facilitator().settle_for(payment, asked, "claim-1")).transaction == left.outgoing.transaction


async def test_what_ended_long_ago_is_forgotten_and_still_not_settled_again(stage: Stage) -> None:
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    assert (await stage.facilitator().settle_for(payment, asked, "claim-1")).success
    store = Settlements(stage.database)
    assert await store.purge(3600.0) == 0
    assert await store.purge(0.0) == 1
    for _ in range(2):
        again = await stage.facilitator().settle_for(payment, asked, "claim-2")
        assert (again.success, again.error_reason) == (False, Reason.DUPLICATE_SETTLEMENT)
    await stage.chain.advance(BLOCKHASH_LIFE_SLOTS)
    assert not (await stage.facilitator().settle_for(payment, asked, "claim-2")).success
    assert await stage.paid() == PRICE


async def test_sponsored_fees_are_capped_for_each_payer_and_hour(stage: Stage) -> None:
    fee = exact.network_fee_lamports(2, exact.UNIT_LIMIT, 1)
    limits = lamport_limits(lamports_per_payer_hour=2 * fee)
    sponsor = Sponsor(stage.database, SystemClock(), limits)
    facilitator = SolanaFacilitator(stage.settler(), [stage.asset], sponsor=sponsor)
    asked = stage.asked()
    answers: list[SettleResponse] = []
    for number in range(3):
        payment = presented(asked, await stage.payload(f"k{number}"))
        answers.append(await facilitator.settle_for(payment, asked, f"claim-{number}"))
    assert [each.success for each in answers] == [True, True, False]
    assert answers[2].error_reason == Reason.PAYER_FEE_BUDGET_EXCEEDED
    payment = presented(asked, await stage.payload("k4"))
    assert (await facilitator.verify(payment, asked)).invalid_reason == Reason.PAYER_FEE_BUDGET_EXCEEDED


async def test_only_listed_payees_are_sponsored(stage: Stage) -> None:
    limits = replace(lamport_limits(), payees=frozenset({"somebody else"}))
    facilitator = SolanaFacilitator(
        stage.settler(), [stage.asset], sponsor=Sponsor(stage.database, SystemClock(), limits)
    )
    asked: PaymentRequirements = stage.asked()
    refused = await facilitator.verify(presented(asked, await stage.payload()), asked)
    assert refused.invalid_reason == Reason.PAYEE_NOT_SPONSORED


async def test_payments_that_would_fail_use_up_nobodys_budget(stage: Stage) -> None:
    """Else anybody could close the facilitator for an hour with payments from an empty wallet."""
    fee = exact.network_fee_lamports(2, exact.UNIT_LIMIT, 1)
    limits = replace(lamport_limits(), gas_per_hour=fee)
    sponsor = Sponsor(stage.database, SystemClock(), limits)
    facilitator = SolanaFacilitator(stage.settler(), [stage.asset], sponsor=sponsor)
    dear = stage.asked(amount=100 * PRICE)
    for number in range(3):
        payment = presented(dear, await stage.payload(f"k{number}", amount=100 * PRICE))
        refused = await facilitator.settle_for(payment, dear, f"claim-{number}")
        assert refused.error_reason == Reason.SVM_SIMULATION_FAILED
    asked = stage.asked()
    assert (await facilitator.settle_for(presented(asked, await stage.payload()), asked, "claim")).success


async def test_a_payment_that_is_settled_is_not_verified_again(stage: Stage) -> None:
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    assert (await stage.facilitator().settle_for(payment, asked, "claim-1")).success
    refused = await stage.facilitator().verify(payment, asked)
    assert refused.invalid_reason == Reason.DUPLICATE_SETTLEMENT


def test_nobody_needs_the_solana_parts_who_does_not_use_them() -> None:
    modules = ("bootstrap.roles.api", "bootstrap.roles.facilitator", "bootstrap.verify", "markets.x402.market")
    program = "import sys; sys.modules['solders'] = None\n" + "\n".join(f"import agentnexus.{name}" for name in modules)
    subprocess.run([sys.executable, "-c", program], check=True)
