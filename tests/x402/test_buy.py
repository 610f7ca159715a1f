"""The buyer: one payment per call whatever the seller does, and money that ends either paid or cancelled."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from tests.x402.conftest import client_of
from tests.x402.support import PRICE, RailPurse, ScriptedFacilitator, open_shop, outcome
from x402.schemas import PaymentRequired, PaymentRequirements, SettleResponse
from x402.schemas.v1 import PaymentRequiredV1

from agentnexus.core.errors import LimitExceeded, NotAllowed, PaymentFailed, PaymentUnknown, SellerFailed
from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentState
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.markets.x402.buy import BuyLimits, Call, X402Client
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.policy import PaymentPolicy, TermsRefused
from agentnexus.markets.x402.wire import Resource, decode_header, encode_header, present, read_payload, to_json, to_v1

URL = "http://localhost/report"


class Seller:
    """A server whose paid answers are scripted; it settles really where the script says ``take``."""

    def __init__(self, facilitator: Facilitator, asked: PaymentRequirements, *, version: int = 2) -> None:
        self.facilitator = facilitator
        self.asked = asked
        self.version = version
        self.script: list[Callable[[httpx.Request], httpx.Response | Exception]] = []
        self.payments: list[str] = []
        self.take = False
        self.settled: SettleResponse | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        header = request.headers.get("payment-signature") or request.headers.get("x-payment")
        if header is None:
            return self.demand()
        self.payments.append(header)
        if self.take:
            payload = present(read_payload(decode_header(header, part="payment"))).payload
            demanded = self.asked if self.version == 2 else to_v1(self.asked, Resource(URL))
            self.settled = await self.facilitator.settle(payload, demanded)
            assert self.settled.success, self.settled
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        result = step(request)
        if isinstance(result, Exception):
            raise result
        return result

    def demand(self) -> httpx.Response:
        if self.version == 2:
            required = PaymentRequired(
                accepts=[self.asked], extensions={"payment-identifier": {"info": {"required": False}}}
            )
            return httpx.Response(402, headers={"PAYMENT-REQUIRED": encode_header(required)}, json={})
        return httpx.Response(402, json=to_json(PaymentRequiredV1(accepts=[to_v1(self.asked, Resource(URL))])))

    def paid(self, request: httpx.Request) -> httpx.Response:
        settled = self.settled or SettleResponse(success=True, transaction="0x" + "00" * 32, network=self.asked.network)
        name = "PAYMENT-RESPONSE" if self.version == 2 else "X-PAYMENT-RESPONSE"
        return httpx.Response(200, headers={name: encode_header(settled)}, json={"result": 1})


@pytest.fixture
def seller(facilitator: Facilitator, usdc_price: PaymentRequirements) -> Seller:
    return Seller(facilitator, usdc_price)


@pytest.fixture
def cap(chain: DevelopmentChain) -> Money:
    return Money(chain.usdc, PRICE)


@pytest.fixture
async def client(seller: Seller, policy: PaymentPolicy, limits: BuyLimits):
    async with httpx.AsyncClient(transport=httpx.MockTransport(seller)) as http:
        yield client_of(http, policy, limits)


CALL = Call("POST", URL, "call-1", b"input")


def answers(status: int, **arguments: object) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, **arguments)  # type: ignore[arg-type]  # passed through


def breaks(error: type[httpx.TransportError]) -> Callable[[httpx.Request], Exception]:
    return lambda _: error("broken")


@pytest.mark.parametrize("version", [1, 2])
async def test_a_seller_of_either_version_is_paid(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money, version: int, chain: DevelopmentChain
) -> None:
    seller.version, seller.take = version, True
    seller.script = [seller.paid]
    bought = await client.buy(CALL, purse, cap)
    assert bought.payment is not None
    assert bought.payment.state is PaymentState.CONFIRMED
    assert seller.settled is not None
    assert bought.payment.evidence["transaction"] == seller.settled.transaction
    assert json.loads(bought.answer.body) == {"result": 1}


async def test_what_is_free_is_not_paid(policy: PaymentPolicy, purse: RailPurse, cap: Money) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answers(200, json={"free": True}))) as http:
        bought = await client_of(http, policy).buy(CALL, purse, cap)
    assert bought.payment is None
    assert not purse.holds


async def test_the_payment_identifier_is_ours_and_the_same_at_every_try(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money
) -> None:
    seller.take = True
    seller.script = [answers(503, headers=NOW), breaks(httpx.ReadTimeout), seller.paid]
    await client.buy(CALL, purse, cap)
    assert len(seller.payments) == 3
    assert len(set(seller.payments)) == 1
    first = decode_header(seller.payments[0], part="payment")
    identifier = present(read_payload(first)).identifier
    assert identifier is not None
    await client.buy(Call("POST", URL, "call-2", b"input"), purse, cap)
    second = decode_header(seller.payments[-1], part="payment")
    assert present(read_payload(second)).identifier != identifier


NOW = {"retry-after": "0"}
RESENT = [
    answers(202, headers=NOW),
    answers(425, headers=NOW),
    answers(429, headers=NOW),
    answers(503, headers=NOW),
    breaks(httpx.ReadTimeout),
    breaks(httpx.ConnectError),
    breaks(httpx.RemoteProtocolError),
    lambda _: httpx.Response(402, headers={"PAYMENT-RESPONSE": encode_header(outcome("settlement_pending"))}),
    lambda _: httpx.Response(402, headers={"PAYMENT-RESPONSE": encode_header(outcome("unexpected_settle_error"))}),
]


@pytest.mark.parametrize("trouble", RESENT)
async def test_passing_trouble_is_answered_with_the_very_same_payment(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money, trouble: Callable[[httpx.Request], httpx.Response]
) -> None:
    seller.take = True
    seller.script = [trouble, seller.paid]
    bought = await client.buy(CALL, purse, cap)
    assert bought.payment is not None
    assert bought.payment.state is PaymentState.CONFIRMED
    assert len(seller.payments) == 2
    assert len(set(seller.payments)) == 1
    assert len(purse.holds) == 1


@pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 500, 502, 503])
async def test_a_seller_that_does_not_deliver_gets_nothing(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money, chain: DevelopmentChain, status: int
) -> None:
    seller.script = [answers(status, text="no")]
    with pytest.raises(SellerFailed) as caught:
        await client.buy(CALL, purse, cap)
    assert caught.value.details["status"] == status
    assert len(seller.payments) == 1  # a repeat would only make the seller fail again
    (hold,) = purse.holds.values()
    assert (await purse.lookup(hold.payment)).state is PaymentState.REFUNDED
    # What was signed cannot be collected any more.
    late = await seller.facilitator.settle(
        present(read_payload(decode_header(seller.payments[0], part="payment"))).payload, seller.asked
    )
    assert not late.success


async def test_a_refused_payment_is_cancelled_and_says_why(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money
) -> None:
    refusal = PaymentRequired(error="invalid_exact_evm_insufficient_balance", accepts=[seller.asked])
    seller.script = [answers(402, headers={"PAYMENT-REQUIRED": encode_header(refusal)})]
    with pytest.raises(PaymentFailed, match="insufficient_balance"):
        await client.buy(CALL, purse, cap)
    assert purse.refunds == ["invalid_exact_evm_insufficient_balance"]
    assert len(seller.payments) == 1


async def test_the_official_empty_402_after_a_settle_error_is_not_paid_a_second_time(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money, chain: DevelopmentChain
) -> None:
    """x402#2603: the official middleware answers an empty 402 although the money may have moved."""
    seller.take = True
    seller.script = [answers(402, json={})]
    before = await chain.usdc_of(seller.asked.pay_to)
    with pytest.raises(PaymentUnknown, match="took the payment"):
        await client.buy(CALL, purse, cap)
    seller.script = [seller.paid]
    assert (await client.buy(CALL, purse, cap)).payment is not None
    assert len(set(seller.payments)) == 1
    assert await chain.usdc_of(seller.asked.pay_to) == before + PRICE


async def test_silence_without_money_moving_ends_in_a_cancelled_payment(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money
) -> None:
    seller.script = [breaks(httpx.ReadTimeout)]
    with pytest.raises(SellerFailed, match="cancelled"):
        await client.buy(CALL, purse, cap)
    assert len(seller.payments) == 3
    assert len(set(seller.payments)) == 1


async def test_silence_after_the_money_moved_is_unknown_and_the_repeat_gets_the_answer(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money, chain: DevelopmentChain
) -> None:
    seller.take = True
    seller.script = [breaks(httpx.ReadTimeout)]
    before = await chain.usdc_of(seller.asked.pay_to)
    with pytest.raises(PaymentUnknown, match="is confirmed"):
        await client.buy(CALL, purse, cap)
    seller.script = [seller.paid]
    bought = await client.buy(CALL, purse, cap)
    assert bought.payment is not None
    assert bought.payment.state is PaymentState.CONFIRMED
    assert await chain.usdc_of(seller.asked.pay_to) == before + PRICE


async def test_a_settlement_that_stays_unknown_is_neither_cancelled_nor_repeated(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money
) -> None:
    seller.script = [answers(202, headers={"retry-after": "0"})]
    with pytest.raises(PaymentUnknown, match="not confirmed"):
        await client.buy(CALL, purse, cap)
    assert not purse.refunds
    assert len(set(seller.payments)) == 1


async def test_a_lying_settlement_is_not_believed_and_the_answer_is_still_given(
    seller: Seller, policy: PaymentPolicy, purse: RailPurse, cap: Money
) -> None:
    seller.script = [seller.paid]  # claims a transaction that does not exist
    purse.rail._settle_wait = 0.01
    async with httpx.AsyncClient(transport=httpx.MockTransport(seller)) as http:
        client = client_of(http, policy, BuyLimits(confirmations=2, pause=0.001))
        bought = await client.buy(CALL, purse, cap)
    assert bought.payment is not None
    assert bought.payment.state is PaymentState.UNKNOWN
    assert json.loads(bought.answer.body) == {"result": 1}


async def test_a_dearer_402_than_agreed_is_not_signed(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money
) -> None:
    seller.asked = seller.asked.model_copy(update={"amount": str(PRICE + 1)})
    with pytest.raises(TermsRefused, match="more than"):
        await client.buy(CALL, purse, cap)
    assert not purse.holds
    assert not seller.payments


async def test_a_402_that_pays_another_address_than_the_offer_is_not_signed(
    client: X402Client, purse: RailPurse, cap: Money
) -> None:
    with pytest.raises(TermsRefused, match="not the address of the offer"):
        await client.buy(Call("POST", URL, "call-1", payees=["0x" + "99" * 20]), purse, cap)
    assert not purse.holds


async def test_a_forbidden_host_is_not_even_asked(purse: RailPurse, cap: Money, policy: PaymentPolicy) -> None:
    def never(_: httpx.Request) -> httpx.Response:
        raise AssertionError("asked")

    async with httpx.AsyncClient(transport=httpx.MockTransport(never)) as http:
        with pytest.raises(NotAllowed):
            await client_of(http, policy).buy(Call("GET", "http://shop.example/", "k"), purse, cap)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed_with_a_payment(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money, status: int
) -> None:
    seller.script = [answers(status, headers={"location": "http://evil.example/"})]
    with pytest.raises(SellerFailed):
        await client.buy(CALL, purse, cap)
    (hold,) = purse.holds.values()
    assert (await purse.lookup(hold.payment)).state is PaymentState.REFUNDED


@pytest.mark.parametrize("content", [b"", b"<html>pay here</html>", b'{"x402Version":9}', b"[" * 50_000])
async def test_a_402_that_is_not_x402_is_the_sellers_failure(
    policy: PaymentPolicy, purse: RailPurse, cap: Money, content: bytes
) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answers(402, content=content))) as http:
        with pytest.raises(SellerFailed, match="not x402"):
            await client_of(http, policy).buy(CALL, purse, cap)
    assert not purse.holds


async def test_a_seller_that_is_not_there_costs_nothing(policy: PaymentPolicy, purse: RailPurse, cap: Money) -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(SellerFailed, match="does not answer"):
            await client_of(http, policy).buy(Call("GET", "http://127.0.0.1:9/", "k"), purse, cap)
    assert not purse.holds


async def test_an_endless_answer_is_cut_off(policy: PaymentPolicy, purse: RailPurse, cap: Money) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answers(200, content=b"x" * 2000))) as http:
        with pytest.raises(LimitExceeded):
            await client_of(http, policy, BuyLimits(answer_bytes=1000)).buy(CALL, purse, cap)


async def test_an_endless_paid_answer_is_cut_off_and_its_payment_cancelled(
    seller: Seller, policy: PaymentPolicy, purse: RailPurse, cap: Money
) -> None:
    seller.script = [answers(200, content=b"x" * 5000)]
    async with httpx.AsyncClient(transport=httpx.MockTransport(seller)) as http:
        with pytest.raises(SellerFailed, match="LimitExceeded"):
            await client_of(http, policy, BuyLimits(answer_bytes=3000)).buy(CALL, purse, cap)
    (hold,) = purse.holds.values()
    assert (await purse.lookup(hold.payment)).state is PaymentState.REFUNDED


async def test_asking_tells_the_price_without_signing(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money
) -> None:
    terms = await client.ask(CALL, cap)
    assert not hasattr(terms, "status")
    assert terms.price == cap  # type: ignore[union-attr]  # terms, not an answer
    assert not seller.payments


async def test_a_repeat_after_a_crash_sends_the_first_payment_though_the_terms_read_otherwise_now(
    seller: Seller, client: X402Client, purse: RailPurse, cap: Money
) -> None:
    seller.take = True
    seller.script = [breaks(httpx.ReadTimeout)]
    with pytest.raises(PaymentUnknown):
        await client.buy(CALL, purse, cap)
    seller.asked = seller.asked.model_copy(update={"max_timeout_seconds": 30})
    seller.script, seller.take = [seller.paid], False
    await client.buy(CALL, purse, cap)
    assert len(set(seller.payments)) == 1


async def test_our_seller_and_our_buyer_get_through_an_unknown_settlement(
    policy: PaymentPolicy, purse: RailPurse, cap: Money, usdc_price: PaymentRequirements, facilitator: Facilitator
) -> None:
    class Flaky(ScriptedFacilitator):
        async def settle(self, payload: object, requirements: object) -> SettleResponse:
            settled = await facilitator.settle(payload, requirements)  # type: ignore[arg-type]  # passed on
            self.settled += 1
            if self.settled == 1:
                raise httpx.ReadTimeout("the answer was lost")
            return settled

    flaky = Flaky()
    async with open_shop(flaky, accepts=[usdc_price]) as shop:
        bought = await client_of(shop.http, policy).buy(CALL, purse, cap)
    assert bought.payment is not None
    assert bought.payment.state is PaymentState.CONFIRMED
    assert (shop.work.runs, flaky.settled) == (1, 2)
