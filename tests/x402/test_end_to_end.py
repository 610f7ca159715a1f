"""Our buyer, our seller and our facilitator on a real chain."""

from __future__ import annotations

from tests.x402.conftest import client_of
from tests.x402.support import PRICE, RailPurse, open_shop
from x402.schemas import PaymentRequirements

from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentState
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.markets.x402.buy import Call
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.markets.x402.reservations import Reservations


async def test_a_call_is_paid_once_and_its_repeat_is_answered_from_store(
    chain: DevelopmentChain,
    facilitator: Facilitator,
    reservations: Reservations,
    purse: RailPurse,
    usdc_price: PaymentRequirements,
    policy: PaymentPolicy,
) -> None:
    async with open_shop(facilitator, accepts=[usdc_price], reservations=reservations) as shop:
        client = client_of(shop.http, policy)
        call = Call("POST", "http://localhost/report", "call-1", b"some text")
        before = await chain.usdc_of(usdc_price.pay_to)
        first = await client.buy(call, purse, Money(chain.usdc, PRICE))
        again = await client.buy(call, purse, Money(chain.usdc, PRICE))
        assert first.answer.body == again.answer.body
        assert first.payment is not None
        assert first.payment.state is PaymentState.CONFIRMED
        assert first.payment.evidence["transaction"] == again.payment.evidence["transaction"]
        assert shop.work.runs == 1
        assert await chain.usdc_of(usdc_price.pay_to) == before + PRICE
