"""Holds on Solana: signed once per key, lapsing with their blockhash, looked up and never guessed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from solders.hash import Hash
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from tests.x402.svm.support import NETWORK, PRICE, Stage, presented, request_of
from x402.schemas import PaymentRequirements

from agentnexus.core.errors import InsufficientFunds, InvalidInput, PaymentUnknown, Unavailable
from agentnexus.core.payments import Hold, PaymentState, PayMode
from agentnexus.devnet.solana.faults import Fault
from agentnexus.markets.x402.svm.exact import parse_transfer
from agentnexus.rails.solana import exact
from agentnexus.rails.solana.authorize import Authorizations
from agentnexus.rails.solana.cluster import Cluster, Commitment, Mention, Outcome
from agentnexus.rails.solana.errors import WrongNetwork
from agentnexus.rails.solana.rpc import SolanaRpc

BLOCKHASH_LIFE_SLOTS = 260
STRANGER = str(Keypair.from_seed(b"\x05" * 32).pubkey())


def transaction_of(hold: Hold) -> str:
    payload = hold.payment.evidence["payload"]
    assert isinstance(payload, dict)
    return str(payload["transaction"])


async def collect(stage: Stage, hold: Hold, asked: PaymentRequirements) -> str:
    """What a seller does with it; the transaction."""
    settled = await stage.facilitator().settle(presented(asked, {"transaction": transaction_of(hold)}), asked)
    assert settled.success, settled
    return settled.transaction


async def test_a_hold_is_a_signed_payment_that_moves_nothing(stage: Stage) -> None:
    asked = stage.asked()
    hold = await stage.rail().open(request_of(stage, asked), "job-1")
    read = parse_transfer(transaction_of(hold))
    assert read.signed_by_payer()
    assert (read.amount, read.pays(stage.seller.pubkey())) == (PRICE, True)
    assert read.memos == (exact.memo_for("job-1"),)
    assert hold.payment.state is PaymentState.HELD
    assert hold.deadline > datetime.now(UTC)
    assert await stage.paid() == 0
    assert (await stage.rail().lookup(hold.payment)).state is PaymentState.HELD


async def test_a_repeat_is_the_very_same_payment_whatever_happened_in_between(stage: Stage) -> None:
    request = request_of(stage, stage.asked())
    first = await stage.rail().open(request, "job-1")
    await stage.chain.advance(5)
    hinted = request_of(stage, stage.asked(recentBlockhash=str(await stage.blockhash())))
    again = await stage.rail().open(hinted, "job-1")
    assert transaction_of(again) == transaction_of(first)
    assert again.payment.evidence == first.payment.evidence


async def test_a_hold_is_given_again_when_a_new_one_could_not_be_made(stage: Stage) -> None:
    """The wallet is empty by now, or the node is away: the first signature is there all the same."""
    request = request_of(stage, stage.asked(amount=8 * PRICE))
    first = await stage.rail().open(request, "job-1")
    await collect(stage, first, stage.asked(amount=8 * PRICE))
    again = await stage.rail().open(request, "job-1")
    assert transaction_of(again) == transaction_of(first)
    async with SolanaRpc("http://127.0.0.1:1", retries=0) as rpc:
        stage.cluster = Cluster(rpc)
        assert transaction_of(await stage.rail().open(request, "job-1")) == transaction_of(first)
        with pytest.raises(Unavailable):
            await stage.rail().open(request, "job-2")


async def test_two_processes_that_open_one_hold_at_once_sign_one_payment(stage: Stage) -> None:
    """Their blockhashes differ, so without the books there would be two payments that can both be collected."""
    request = request_of(stage, stage.asked())

    async def opened(number: int) -> str:
        await stage.chain.advance(number)
        return transaction_of(await stage.rail().open(request, "job-1"))

    assert len(set(await asyncio.gather(*(opened(number) for number in range(8))))) == 1


async def test_purchases_with_the_sellers_memo_in_one_block_are_payments_of_their_own(stage: Stage) -> None:
    blockhash = str(await stage.blockhash())
    asked = stage.asked(memo_text="order", recentBlockhash=blockhash)
    holds = [await stage.rail().open(request_of(stage, asked), f"job-{number}") for number in range(4)]
    assert len({hold.payment.evidence["message_hash"] for hold in holds}) == 4
    assert {parse_transfer(transaction_of(hold)).memos for hold in holds} == {(b"order",)}
    for hold in holds:
        await collect(stage, hold, asked)
    assert await stage.paid() == 4 * PRICE


async def test_a_hint_that_our_node_knows_is_used_and_any_other_is_not(stage: Stage) -> None:
    known = await stage.blockhash()
    await stage.chain.advance(3)
    hints = {"good": str(known), "stale": str(Hash.new_unique()), "garbage": "l0O"}
    used = {}
    for name, hint in hints.items():
        hold = await stage.rail().open(request_of(stage, stage.asked(recentBlockhash=hint)), name)
        used[name] = parse_transfer(transaction_of(hold)).message.recent_blockhash
    assert used["good"] == known
    assert used["stale"] != known
    assert str(used["stale"]) != hints["stale"]
    assert await stage.cluster.is_valid(used["stale"])
    assert await stage.cluster.is_valid(used["garbage"])


async def test_a_collected_hold_is_confirmed_by_the_sellers_proof_or_without_it(stage: Stage) -> None:
    asked = stage.asked()
    proofs: list[dict[str, object]] = []
    for number, proof in enumerate(["right", "none", "wrong", "another's"]):
        hold = await stage.rail().open(request_of(stage, asked), f"job-{number}")
        transaction = await collect(stage, hold, asked)
        claimed = {"right": transaction, "wrong": "x" * 88}.get(proof) or (
            "" if proof == "none" else proofs[0]["transaction"]
        )
        proofs.append({"transaction": transaction})
        rail = stage.rail(settle_wait_seconds=0.05)
        payment = await rail.settle(hold, {"transaction": claimed})
        assert payment.state is PaymentState.CONFIRMED, proof
        assert payment.evidence["transaction"] == transaction
    assert await stage.paid() == 4 * PRICE


async def test_what_nobody_has_sent_is_unknown_and_not_paid(stage: Stage) -> None:
    hold = await stage.rail().open(request_of(stage, stage.asked()), "job-1")
    payment = await stage.rail(settle_wait_seconds=0.05).settle(hold, {"transaction": "1" * 88})
    assert payment.state is PaymentState.UNKNOWN


async def test_a_hold_is_refunded_only_when_no_block_can_take_it_any_more(stage: Stage) -> None:
    hold = await stage.rail().open(request_of(stage, stage.asked()), "job-1")
    with pytest.raises(PaymentUnknown) as caught:
        await stage.rail(cancel_wait_seconds=0.1).cancel(hold)
    assert caught.value.details["last_valid_block_height"] == hold.payment.evidence["last_valid_block_height"]
    cancelling = asyncio.create_task(stage.rail().cancel(hold))
    await stage.chain.advance(BLOCKHASH_LIFE_SLOTS)
    payment = await cancelling
    assert (payment.state, payment.evidence["expired"]) == (PaymentState.REFUNDED, True)
    late = await stage.facilitator().settle(
        presented(stage.asked(), {"transaction": transaction_of(hold)}), stage.asked()
    )
    assert not late.success
    assert await stage.paid() == 0


async def test_a_seller_that_was_faster_than_the_refund_is_paid(stage: Stage) -> None:
    asked = stage.asked()
    hold = await stage.rail().open(request_of(stage, asked), "job-1")
    cancelling = asyncio.create_task(stage.rail().cancel(hold))
    transaction = await collect(stage, hold, asked)
    payment = await cancelling
    assert (payment.state, payment.evidence["transaction"]) == (PaymentState.CONFIRMED, transaction)
    await stage.chain.advance(BLOCKHASH_LIFE_SLOTS)
    assert (await stage.rail().lookup(hold.payment)).state is PaymentState.CONFIRMED


async def test_a_payment_that_failed_on_the_chain_is_refunded_once_that_is_final(stage: Stage) -> None:
    asked = stage.asked()
    hold = await stage.rail().open(request_of(stage, asked), "job-1")
    await stage.chain.fault(Fault.FAIL_ON_CHAIN)
    settled = await stage.facilitator().settle(presented(asked, {"transaction": transaction_of(hold)}), asked)
    assert not settled.success
    proof = {"transaction": settled.transaction}
    assert (await stage.rail(settle_wait_seconds=0.05).settle(hold, proof)).state is not PaymentState.CONFIRMED
    await stage.chain.advance(10)
    payment = await stage.rail().lookup(hold.payment)
    assert (payment.state, payment.evidence["failed_transaction"]) == (PaymentState.REFUNDED, settled.transaction)


async def test_a_payment_is_found_among_many_of_the_same_wallet(stage: Stage) -> None:
    asked = stage.asked(amount=10)
    holds = [await stage.rail().open(request_of(stage, asked), f"job-{number}") for number in range(12)]
    transactions = [await collect(stage, hold, asked) for hold in holds]
    found = await stage.rail().lookup(holds[3].payment)
    assert found.evidence["transaction"] == transactions[3]


async def test_a_wallet_without_the_money_signs_nothing(stage: Stage) -> None:
    with pytest.raises(InsufficientFunds) as caught:
        await stage.rail().open(request_of(stage, stage.asked(amount=PRICE * 1000)), "job-1")
    assert caught.value.details["address"] == str(stage.buyer.pubkey())
    stage.buyer = Keypair()  # it has not even an account
    with pytest.raises(InsufficientFunds):
        await stage.rail().open(request_of(stage, stage.asked()), "job-2")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("network", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"),
        ("asset", STRANGER),
        ("payTo", STRANGER),
        ("amount", "1"),
        ("scheme", "upto"),
        ("extra", {}),
        ("extra", {"feePayer": "nobody"}),
        ("extra", {"feePayer": 7}),
        ("extra", {"feePayer": STRANGER, "memo": "x" * 257}),
        ("extra", {"feePayer": STRANGER, "memo": 7}),
    ],
)
async def test_a_reference_that_says_something_else_is_not_signed(stage: Stage, field: str, value: object) -> None:
    request = request_of(stage, stage.asked())
    changed = request.model_copy(update={"reference": {**request.reference, field: value}})
    with pytest.raises(InvalidInput):
        await stage.rail().open(changed, "job-1")


async def test_a_seller_cannot_make_the_buyer_pay_the_networks_fee(stage: Stage) -> None:
    with pytest.raises(InvalidInput, match="fee payer"):
        await stage.rail().open(request_of(stage, stage.asked(feePayer=str(stage.buyer.pubkey()))), "job-1")


async def test_an_asset_of_another_network_is_refused(stage: Stage) -> None:
    request = request_of(stage, stage.asked())
    asset = stage.asset.__class__("USDC", 6, stage.asset.caip19.replace(NETWORK, "solana:other"))
    with pytest.raises(WrongNetwork):
        await stage.rail().open(request.model_copy(update={"amount": asset.zero()}), "job-1")


async def test_a_token_with_other_decimals_or_none_at_all_is_refused(stage: Stage) -> None:
    request = request_of(stage, stage.asked())
    wrong = stage.asset.__class__("USDC", 9, stage.asset.caip19)
    with pytest.raises(InvalidInput, match="decimals"):
        await stage.rail().open(
            request.model_copy(update={"amount": wrong.zero() + type(request.amount)(wrong, PRICE)}), "k"
        )
    nothing = str(Keypair().pubkey())
    asset = stage.asset.__class__("USDC", 6, f"{NETWORK}/token:{nothing}")
    changed = {"amount": type(request.amount)(asset, PRICE), "reference": {**request.reference, "asset": nothing}}
    with pytest.raises(InvalidInput, match="not a token"):
        await stage.rail().open(request.model_copy(update=changed), "k")


@pytest.mark.parametrize("mode", [PayMode.PAY, PayMode.HOLD])
async def test_only_authorisations_are_opened(stage: Stage, mode: PayMode) -> None:
    with pytest.raises(InvalidInput):
        await stage.rail().open(request_of(stage, stage.asked()).model_copy(update={"mode": mode}), "job-1")


async def test_a_node_that_is_away_decides_nothing(stage: Stage) -> None:
    hold = await stage.rail().open(request_of(stage, stage.asked()), "job-1")
    away = Stage(stage.chain, stage.database, stage.buyer, stage.seller, stage.sponsor)
    async with SolanaRpc("http://127.0.0.1:1", retries=0) as rpc:
        away.cluster = Cluster(rpc)
        rail: Authorizations = away.rail(cancel_wait_seconds=1.0)
        for asking in (rail.lookup(hold.payment), rail.cancel(hold), rail.settle(hold, {"transaction": "1" * 88})):
            with pytest.raises(Unavailable):
                await asking


async def test_a_transaction_that_the_node_lists_and_does_not_show_keeps_the_payment_open(stage: Stage) -> None:
    """It may be ours: to call the payment refunded would be a guess."""
    asked = stage.asked()
    hold = await stage.rail().open(request_of(stage, asked), "job-1")
    await collect(stage, hold, asked)
    await stage.chain.advance(BLOCKHASH_LIFE_SLOTS)

    class Forgetful(Cluster):
        async def outcome(self, signature: str, commitment: Commitment = Commitment.CONFIRMED) -> Outcome | None:
            return None

    stage.cluster = Forgetful(stage.chain.rpc)
    with pytest.raises(Unavailable, match="not shown"):
        await stage.rail().lookup(hold.payment)


async def test_the_end_of_the_payers_history_is_looked_for_page_by_page(stage: Stage) -> None:
    asked = stage.asked(amount=10)
    first = await stage.rail().open(request_of(stage, asked), "job-0")
    transaction = await collect(stage, first, asked)
    for number in range(1, 6):
        await collect(stage, await stage.rail().open(request_of(stage, asked), f"job-{number}"), asked)

    class ShortPages(Cluster):
        pages = 0

        async def mentions(
            self, address: Pubkey, *, before: str | None, commitment: Commitment, minimum_slot: int, limit: int = 2
        ) -> list[Mention]:
            self.pages += 1
            return await super().mentions(
                address, before=before, commitment=commitment, minimum_slot=minimum_slot, limit=2
            )

    stage.cluster = pages = ShortPages(stage.chain.rpc)
    assert (await stage.rail().lookup(first.payment)).evidence["transaction"] == transaction
    assert pages.pages == 3
