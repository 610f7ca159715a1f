"""Buyer, seller and facilitator of ours trade on Solana, beside EVM where a seller takes both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
from tests.x402.conftest import client_of
from tests.x402.support import RailPurse, Shop, Work, identified, late_copy, open_shop, sign
from tests.x402.support import requirement as evm_requirement
from tests.x402.support import v2_payment as evm_payment
from tests.x402.svm.support import NETWORK, PRICE, Stage, presented
from x402.schemas import PaymentRequired, PaymentRequirements, VerifyResponse

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import PaymentUnknown, SellerFailed, Unavailable
from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentState
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.devnet.solana.faults import Fault
from agentnexus.markets.x402.buy import BuyLimits, Call
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.facilitators import Facilitators
from agentnexus.markets.x402.policy import PaymentPolicy, TermsRefused
from agentnexus.markets.x402.pricing import PricedRoute
from agentnexus.markets.x402.reservations_postgres import PostgresReservations
from agentnexus.markets.x402.svm.facilitator import SolanaFacilitator
from agentnexus.markets.x402.svm.pricing import WithBlockhash
from agentnexus.markets.x402.wire import (
    PAYMENT_REQUIRED,
    PAYMENT_RESPONSE,
    AnyPayload,
    AnyRequirements,
    encode_header,
    read_settlement,
)

URL = "http://localhost/report"


@asynccontextmanager
async def shop_of(
    stage: Stage, accepts: Sequence[PaymentRequirements] | None = None, **more: object
) -> AsyncIterator[Shop]:
    """A shop that sells for USDC on Solana, its books in PostgreSQL."""
    asked = accepts or [stage.asked()]
    reservations = PostgresReservations(stage.database)
    facilitator = more.pop("facilitator", None) or stage.facilitator()
    async with open_shop(facilitator, accepts=asked, reservations=reservations, **more) as shop:  # type: ignore[arg-type]  # passed through
        yield shop


def header(asked: PaymentRequirements, payload: dict[str, object], **more: object) -> dict[str, str]:
    return evm_payment(asked, payload, **more)


async def test_our_buyer_buys_from_our_seller(stage: Stage, solana_policy: PaymentPolicy) -> None:
    async with shop_of(stage) as shop:
        purse = RailPurse(stage.rail())
        call = Call("POST", URL, "call-1", b"please", payees=(str(stage.seller.pubkey()),))
        bought = await client_of(shop.http, solana_policy).buy(call, purse, Money(stage.asset, PRICE))
        assert json.loads(bought.answer.body)["echo"] == "please"
        assert bought.payment is not None
        assert bought.payment.state is PaymentState.CONFIRMED
        assert (shop.work.runs, await stage.paid(), await stage.left()) == (1, PRICE, 9 * PRICE)
        again = await client_of(shop.http, solana_policy).buy(call, purse, Money(stage.asset, PRICE))
        assert again.answer.body == bought.answer.body
        assert (shop.work.runs, await stage.paid()) == (1, PRICE)
        (seen,) = shop.work.seen
        assert (seen.payer, seen.network, seen.amount) == (str(stage.buyer.pubkey()), NETWORK, PRICE)  # type: ignore[attr-defined]  # PaidCall


async def test_our_buyer_pays_with_v1_where_a_seller_speaks_only_that(
    stage: Stage, solana_policy: PaymentPolicy
) -> None:
    async with shop_of(stage) as shop:
        inner = shop.http._transport

        class OnlyV1(httpx.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                response = await inner.handle_async_request(request)
                response.headers.pop(PAYMENT_REQUIRED, None)
                return response

        async with httpx.AsyncClient(transport=OnlyV1()) as http:
            call = Call("GET", URL, "call-1")
            bought = await client_of(http, solana_policy).buy(call, RailPurse(stage.rail()), Money(stage.asset, PRICE))
        assert bought.payment is not None
        assert bought.payment.state is PaymentState.CONFIRMED
        assert "x-payment-response" in bought.answer.headers
        assert await stage.paid() == PRICE


async def test_a_seller_takes_evm_and_solana_in_one_402(
    stage: Stage,
    chain: DevelopmentChain,
    facilitator: Facilitator,
    purse: RailPurse,
    usdc_price: PaymentRequirements,
    policy: PaymentPolicy,
    solana_policy: PaymentPolicy,
) -> None:
    both = Facilitators([facilitator, stage.facilitator()])
    before = await chain.usdc_of(usdc_price.pay_to)
    async with shop_of(stage, [usdc_price, stage.asked()], facilitator=both) as shop:
        offered = PaymentRequired.model_validate(await shop.header())
        assert [each.network for each in offered.accepts] == ["eip155:31337", NETWORK]
        on_evm = await client_of(shop.http, policy).buy(Call("GET", URL, "evm"), purse, Money(chain.usdc, PRICE))
        on_solana = await client_of(shop.http, solana_policy).buy(
            Call("GET", URL, "solana"), RailPurse(stage.rail()), Money(stage.asset, PRICE)
        )
    for bought in (on_evm, on_solana):
        assert bought.payment is not None
        assert bought.payment.state is PaymentState.CONFIRMED
    assert await stage.paid() == PRICE
    assert await chain.usdc_of(usdc_price.pay_to) == before + PRICE
    supported = both.get_supported()
    assert [kind.network for kind in supported.kinds] == ["eip155:31337"] * 2 + [NETWORK, "solana-devnet"]
    assert set(supported.signers) == {"eip155:*", "solana:*"}


async def test_a_payment_on_a_network_that_nobody_settles_is_refused(stage: Stage) -> None:
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    nobody = Facilitators([])
    assert (await nobody.verify(payment, asked)).invalid_reason == Reason.INVALID_NETWORK
    assert (await nobody.settle(payment, asked)).error_reason == Reason.INVALID_NETWORK


async def test_an_evm_payload_on_solana_and_the_reverse_are_refused(
    stage: Stage, chain: DevelopmentChain, facilitator: Facilitator, usdc_price: PaymentRequirements
) -> None:
    evm = await sign(chain.accounts["buyer"].signer, usdc_price, "k")
    svm = await stage.payload()
    both = Facilitators([facilitator, stage.facilitator()])
    async with shop_of(stage, [usdc_price, stage.asked()], facilitator=both) as shop:
        for asked, payload in ((stage.asked(), evm), (usdc_price, svm)):
            response = await shop.http.get("/report", headers=header(asked, payload))
            assert response.status_code in (400, 402)
        assert shop.work.runs == 0


async def test_eight_copies_of_one_payment_run_the_handler_once(stage: Stage) -> None:
    asked = stage.asked()
    payment = header(asked, await stage.payload())
    async with shop_of(stage, [asked]) as shop:
        answers = await asyncio.gather(*(shop.http.get("/report", headers=payment) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert (shop.work.runs, await stage.paid(), await stage.left()) == (1, PRICE, 9 * PRICE)


class LateForTheFirst(SolanaFacilitator):
    """Checks the first payment it is asked about only when told."""

    gate: asyncio.Event | None = None

    async def verify(self, payload: AnyPayload, requirements: AnyRequirements) -> VerifyResponse:
        if self.gate is None:
            self.gate = asyncio.Event()
            await self.gate.wait()
        return await super().verify(payload, requirements)


async def test_a_copy_that_is_checked_after_the_settlement_gets_the_same_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stage.asked()
    payment = header(asked, await stage.payload())
    facilitator = LateForTheFirst(stage.settler(), [stage.asset])
    async with shop_of(stage, [asked], facilitator=facilitator) as shop:
        copy = await late_copy(shop, payment, monkeypatch)
        first = await shop.http.get("/report", headers=payment)
        assert facilitator.gate is not None
        facilitator.gate.set()
        answer = await copy
    assert (first.status_code, answer.status_code) == (200, 200)
    assert answer.content == first.content
    assert (shop.work.runs, await stage.paid()) == (1, PRICE)


async def test_copies_whose_slot_0_was_varied_are_the_same_payment(stage: Stage) -> None:
    """Whoever passes it on can write anything there: it must not make a new payment of it."""
    import base64

    asked = stage.asked()
    text = await stage.transaction()
    varied = bytearray(base64.b64decode(text))
    varied[1:65] = b"\x05" * 64
    async with shop_of(stage, [asked]) as shop:
        first = await shop.http.get("/report", headers=header(asked, {"transaction": text}))
        second = await shop.http.get(
            "/report", headers=header(asked, {"transaction": base64.b64encode(bytes(varied)).decode()})
        )
        assert (first.status_code, second.status_code) == (200, 409)
        assert shop.work.runs == 1
    assert await stage.paid() == PRICE


async def test_one_payment_buys_one_resource(stage: Stage) -> None:
    asked = stage.asked()
    payment = header(asked, await stage.payload())
    async with shop_of(stage, [asked]) as shop:
        assert (await shop.http.get("/report", headers=payment)).status_code == 200
        assert (await shop.http.get("/other", headers=payment)).status_code == 409
        assert (await shop.http.post("/report", headers=payment, content=b"x")).status_code == 409
        assert shop.work.runs == 1


async def test_two_sellers_with_books_of_their_own_share_no_payment(stage: Stage) -> None:
    """One payee, two shops: whoever settles first is paid, the other one gives nothing away."""
    asked = stage.asked()
    payment = header(asked, await stage.payload())
    async with (
        open_shop(stage.facilitator(), accepts=[asked]) as one,
        open_shop(stage.facilitator(), accepts=[asked]) as two,
    ):
        answers = await asyncio.gather(*(shop.http.get("/report", headers=payment) for shop in (one, two)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert statuses[1] in (402, 409)
    assert await stage.paid() == PRICE


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"transaction": 7},
        {"transaction": "AAAA"},
        {"transaction": "A" * 3000},
        {"transaction": ["x"]},
        {"signature": "0x", "authorization": {}},
    ],
)
async def test_payments_that_cannot_be_read_are_refused_politely(stage: Stage, payload: dict[str, object]) -> None:
    asked = stage.asked()
    async with shop_of(stage, [asked]) as shop:
        response = await shop.http.get("/report", headers=header(asked, payload))
        assert response.status_code in (400, 402)
        first = encode_header({"x402Version": 1, "scheme": "exact", "network": "solana-devnet", "payload": payload})
        response = await shop.http.get("/report", headers={"X-PAYMENT": first})
        assert response.status_code in (400, 402)
        assert shop.work.runs == 0


async def test_work_that_fails_costs_nothing_and_the_payment_lapses(stage: Stage, solana_policy: PaymentPolicy) -> None:
    async with shop_of(stage, work=Work(status=422)) as shop:
        purse = RailPurse(stage.rail())
        client = client_of(shop.http, solana_policy)
        buying = asyncio.create_task(client.buy(Call("GET", URL, "call-1"), purse, Money(stage.asset, PRICE)))
        while not purse.refunds:
            await asyncio.sleep(0.01)
        await stage.chain.advance(260)
        with pytest.raises(SellerFailed):
            await buying
    assert (await stage.paid(), await stage.left()) == (0, 10 * PRICE)


async def test_a_refusal_before_the_signature_has_lapsed_is_unknown_and_not_a_refund(
    stage: Stage, solana_policy: PaymentPolicy
) -> None:
    async with shop_of(stage, work=Work(status=422)) as shop:
        client = client_of(shop.http, solana_policy)
        with pytest.raises(PaymentUnknown):
            await client.buy(
                Call("GET", URL, "call-1"), RailPurse(stage.rail(cancel_wait_seconds=0.1)), Money(stage.asset, PRICE)
            )


async def test_a_drained_buyer_gets_neither_the_answer_nor_a_debt(stage: Stage, solana_policy: PaymentPolicy) -> None:
    """The money goes away between the check and the settlement: the work is done and stays locked."""
    asked = stage.asked(amount=10 * PRICE)
    first = header(asked, await stage.payload("a", amount=10 * PRICE))
    second = presented(asked, await stage.payload("b", amount=10 * PRICE))
    work = Work(gate=asyncio.Event())
    async with shop_of(stage, [asked], work=work) as shop:
        asking = asyncio.create_task(shop.http.get("/report", headers=first))
        await work.started.wait()
        assert (await stage.facilitator().settle(second, asked)).success
        assert work.gate is not None
        work.gate.set()
        refused = await asking
        assert refused.status_code == 402
        assert b"run" not in refused.content
        settlement = read_settlement(refused.headers[PAYMENT_RESPONSE], None)
        assert settlement is not None
        assert settlement.error_reason == Reason.SVM_SIMULATION_FAILED
        await stage.chain.mint(stage.buyer.pubkey(), 10 * PRICE)
        unlocked = await shop.http.get("/report", headers=first)
        assert (unlocked.status_code, work.runs) == (200, 1)


async def test_a_settlement_that_is_not_known_yet_is_asked_again_with_the_same_payment(
    stage: Stage, solana_policy: PaymentPolicy
) -> None:
    await stage.chain.fault(Fault.HOLD_SEND)
    facilitator = stage.facilitator(timeout_seconds=0.1)
    async with shop_of(stage, facilitator=facilitator) as shop:
        client = client_of(shop.http, solana_policy, BuyLimits(tries=100, pause=0.05))
        buying = asyncio.create_task(
            client.buy(Call("GET", URL, "call-1"), RailPurse(stage.rail()), Money(stage.asset, PRICE))
        )
        while not await facilitator.settler.settlements.left_behind(NETWORK, 0.0):
            await asyncio.sleep(0.01)
        await stage.chain.release()
        bought = await buying
    assert bought.payment is not None
    assert bought.payment.state is PaymentState.CONFIRMED
    assert (shop.work.runs, await stage.paid()) == (1, PRICE)


async def test_streams_are_settled_before_their_first_byte(stage: Stage, solana_policy: PaymentPolicy) -> None:
    asked = stage.asked()
    async with shop_of(stage, [asked]) as shop:
        response = await shop.http.get("/stream", headers=header(asked, await stage.payload()))
        assert response.text.count("part") == 3
        assert await stage.paid() == PRICE


async def test_the_payment_identifier_holds_on_solana_too(stage: Stage) -> None:
    asked = stage.asked()
    async with shop_of(stage, [asked]) as shop:
        more = identified("an-identifier-of-mine")
        first = await shop.http.get("/report", headers=header(asked, await stage.payload("a"), **more))
        other = await shop.http.get("/report", headers=header(asked, await stage.payload("b"), **more))
        assert (first.status_code, other.status_code) == (200, 409)
        assert await stage.paid() == PRICE


async def test_a_402_may_carry_a_blockhash_that_saves_the_buyer_a_question(
    stage: Stage, solana_policy: PaymentPolicy
) -> None:
    async def latest() -> tuple[str, int]:
        found = await stage.cluster.latest_blockhash()
        return str(found.blockhash), found.last_valid_block_height

    price = WithBlockhash([evm_requirement(), stage.asked()], latest, SystemClock())
    async with shop_of(stage, routes=[PricedRoute("GET /report", price)]) as shop:
        offered = PaymentRequired.model_validate(await shop.header())
        assert "recentBlockhash" not in (offered.accepts[0].extra or {})
        hint = (offered.accepts[1].extra or {})["recentBlockhash"]
        assert hint == str(await stage.blockhash())
        await stage.chain.advance(3)
        purse = RailPurse(stage.rail())
        await client_of(shop.http, solana_policy).buy(Call("GET", URL, "call-1"), purse, Money(stage.asset, PRICE))
    assert await stage.paid() == PRICE


async def test_a_402_goes_out_without_the_hint_when_the_node_is_away(stage: Stage) -> None:
    async def away() -> tuple[str, int]:
        raise Unavailable("the node is away")

    price = WithBlockhash([stage.asked()], away, SystemClock())
    async with shop_of(stage, routes=[PricedRoute("GET /report", price)]) as shop:
        offered = PaymentRequired.model_validate(await shop.header())
    assert offered.accepts == [stage.asked()]


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": {}},
        {"pay_to": "not-an-address"},
        {"asset": "11111111111111111111111111111111"},
        {"amount": str(2 * PRICE)},
        {"max_timeout_seconds": 86_400},
        {"extra": {"feePayer": "x", "assetTransferMethod": "eip3009"}},
    ],
)
async def test_terms_that_nobody_should_sign_are_not_signed(
    stage: Stage, solana_policy: PaymentPolicy, changes: dict[str, object]
) -> None:
    asked = stage.asked().model_copy(update=changes)
    purse = RailPurse(stage.rail())
    async with shop_of(stage, [asked]) as shop:
        with pytest.raises(TermsRefused):
            await client_of(shop.http, solana_policy).buy(Call("GET", URL, "call-1"), purse, Money(stage.asset, PRICE))
    assert not purse.holds


async def test_an_offers_payee_is_compared_with_its_case(stage: Stage, solana_policy: PaymentPolicy) -> None:
    async with shop_of(stage) as shop:
        call = Call("GET", URL, "call-1", payees=(str(stage.seller.pubkey()).swapcase(),))
        with pytest.raises(TermsRefused):
            await client_of(shop.http, solana_policy).buy(call, RailPurse(stage.rail()), Money(stage.asset, PRICE))
