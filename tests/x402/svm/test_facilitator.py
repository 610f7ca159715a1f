"""The facilitator on Solana over the development chain."""

from __future__ import annotations

from tests.x402.svm.support import PRICE, Stage, presented


async def test_a_good_payment_is_verified_and_settled(stage: Stage) -> None:
    facilitator, asked = stage.facilitator(), stage.asked()
    payment = presented(asked, await stage.payload())
    verified = await facilitator.verify(payment, asked)
    assert verified.is_valid, verified
    assert verified.payer == str(stage.buyer.pubkey())
    settled = await facilitator.settle(payment, asked)
    assert settled.success, settled
    assert (await stage.paid(), settled.amount) == (PRICE, str(PRICE))
