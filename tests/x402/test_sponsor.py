"""Whose gas the facilitator pays: every limit refuses in its own word, before any gas is spent, and never a repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest
from tests.x402.support import PRICE, sign
from x402.schemas import PaymentPayload, PaymentRequirements, SettleResponse

from agentnexus.core.clock import ManualClock
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.facilitator_app import facilitator_app
from agentnexus.markets.x402.sponsor import GAS_PER_PAYMENT, Sponsor, SponsorLimits
from agentnexus.markets.x402.wire import WireError, to_json
from agentnexus.platform.database import Database
from agentnexus.rails.evm.transactions import TransactionSender

NETWORK = "eip155:31337"
GAS_OF_ONE = 150_000  # enough for one settlement of the development USDC, too little for two
Make = Callable[[SponsorLimits], Facilitator]


@pytest.fixture
def make(sender: TransactionSender, chain: DevelopmentChain) -> Make:
    return lambda limits: Facilitator.on(sender, chain.accounts["relayer"].signer, [chain.usdc], limits)


async def paying(chain: DevelopmentChain, asked: PaymentRequirements, key: str, who: str = "buyer") -> PaymentPayload:
    payload = await sign(chain.accounts[who].signer, asked, key)
    return PaymentPayload(x402_version=2, payload=payload, accepted=asked)


async def sent(chain: DevelopmentChain) -> int:
    return await chain.rpc.read_int("eth_getTransactionCount", chain.accounts["relayer"].address, "latest")


async def assert_refused(
    facilitator: Facilitator, payload: PaymentPayload, asked: PaymentRequirements, reason: Reason, words: str
) -> None:
    """`/verify` and `/settle` say the same, with HTTP 200 and a message for people."""
    transport = httpx.ASGITransport(facilitator_app(facilitator), raise_app_exceptions=False)
    message = {"x402Version": 2, "paymentPayload": to_json(payload), "paymentRequirements": to_json(asked)}
    async with httpx.AsyncClient(transport=transport, base_url="http://facilitator") as http:
        verified, settled = [await http.post(path, json=message) for path in ("/verify", "/settle")]
    assert (verified.status_code, settled.status_code) == (200, 200)
    assert (verified.json()["isValid"], verified.json()["invalidReason"]) == (False, reason)
    assert (settled.json()["success"], settled.json()["errorReason"]) == (False, reason)
    assert words in verified.json()["invalidMessage"]
    assert words in settled.json()["errorMessage"]


async def test_payments_to_strangers_are_not_sponsored(
    make: Make, chain: DevelopmentChain, usdc_price: PaymentRequirements
) -> None:
    ours = make(SponsorLimits(payees=frozenset({usdc_price.pay_to.lower()})))
    before = await sent(chain)
    elsewhere = usdc_price.model_copy(update={"pay_to": chain.accounts["alice"].address})
    payload = await paying(chain, elsewhere, "stranger")
    await assert_refused(ours, payload, elsewhere, Reason.PAYEE_NOT_SPONSORED, "NEXUS_SPONSORED_PAYEES")
    assert await sent(chain) == before
    assert (await ours.settle(await paying(chain, usdc_price, "ours"), usdc_price)).success


async def test_a_payment_below_the_minimum_is_not_worth_its_gas(
    make: Make, chain: DevelopmentChain, usdc_price: PaymentRequirements
) -> None:
    before = await sent(chain)
    payload = await paying(chain, usdc_price, "small")
    dear = make(SponsorLimits(minimum=PRICE + 1))
    await assert_refused(dear, payload, usdc_price, Reason.AMOUNT_NOT_SPONSORED, str(PRICE + 1))
    assert await sent(chain) == before
    assert (await make(SponsorLimits(minimum=PRICE)).settle(payload, usdc_price)).success


async def test_a_payers_budget_ends_and_other_payers_go_on(
    make: Make, chain: DevelopmentChain, usdc_price: PaymentRequirements
) -> None:
    facilitator = make(SponsorLimits(gas_per_payer_hour=GAS_OF_ONE))  # one settlement, not two
    assert (await facilitator.settle(await paying(chain, usdc_price, "a1"), usdc_price)).success
    second = await paying(chain, usdc_price, "a2")
    await assert_refused(facilitator, second, usdc_price, Reason.PAYER_FEE_BUDGET_EXCEEDED, "again from")
    assert (await facilitator.settle(await paying(chain, usdc_price, "b1", "alice"), usdc_price)).success


async def test_the_budget_of_all_ends_for_all_and_takes_nothing_from_who_is_refused(
    make: Make, chain: DevelopmentChain, usdc_price: PaymentRequirements, database: Database
) -> None:
    facilitator = make(SponsorLimits(gas_per_payer_hour=GAS_PER_PAYMENT, gas_per_hour=GAS_OF_ONE))
    assert (await facilitator.settle(await paying(chain, usdc_price, "a1"), usdc_price)).success
    refused = await paying(chain, usdc_price, "b1", "alice")
    await assert_refused(facilitator, refused, usdc_price, Reason.FEE_BUDGET_EXCEEDED, "again from")
    async with database.connection() as connection:
        scopes = await connection.fetch("select scope from x402.sponsored_gas order by scope")
    assert [row["scope"] for row in scopes] == ["", chain.accounts["buyer"].address]


async def test_a_repeat_is_answered_whatever_the_limits_say_now(
    make: Make, chain: DevelopmentChain, usdc_price: PaymentRequirements
) -> None:
    """The gas is spent and the money has moved: a refusal would make the client pay again."""
    payload = await paying(chain, usdc_price, "repeat")
    first = await make(SponsorLimits(gas_per_payer_hour=GAS_OF_ONE)).settle(payload, usdc_price)
    for now in (
        SponsorLimits(payees=frozenset()),
        SponsorLimits(minimum=PRICE * 2),
        SponsorLimits(gas_per_payment=1),
        SponsorLimits(gas_per_payer_hour=1, gas_per_hour=1),
    ):
        assert await make(now).settle(payload, usdc_price) == first


async def test_racing_settlements_never_pass_a_budget(
    make: Make, chain: DevelopmentChain, usdc_price: PaymentRequirements
) -> None:
    before = await sent(chain)
    processes = [make(SponsorLimits(gas_per_hour=500_000)) for _ in range(3)]
    payloads = [await paying(chain, usdc_price, f"r{number}", who) for number in range(6) for who in ("buyer", "bob")]
    asked: list[Awaitable[SettleResponse]] = [
        processes[place % 3].settle(payload, usdc_price) for place, payload in enumerate(payloads)
    ]
    answers = await asyncio.gather(*asked)
    settled = [answer for answer in answers if answer.success]
    assert 1 <= len(settled) <= 500_000 // 60_000
    assert await sent(chain) == before + len(settled)
    assert {a.error_reason for a in answers if not a.success} == {Reason.FEE_BUDGET_EXCEEDED}


async def test_the_next_hour_begins_anew_and_old_hours_are_forgotten(database: Database, clock: ManualClock) -> None:
    sponsor = Sponsor(database, clock, SponsorLimits(gas_per_payer_hour=100, gas_per_payment=100))
    await sponsor.admit(NETWORK, "0xa", 60)
    for ask in (sponsor.would_admit, sponsor.admit):
        with pytest.raises(WireError, match=r"again from 2026-11-20T13:00:00"):
            await ask(NETWORK, "0xa", 60)
    await sponsor.admit(NETWORK, "0xa", 40)
    await sponsor.admit("eip155:1", "0xa", 100)  # each network has its own gas
    clock.advance(timedelta(hours=1).total_seconds())
    await sponsor.admit(NETWORK, "0xa", 100)
    assert await sponsor.purge() == 0
    clock.advance(timedelta(hours=24).total_seconds())
    assert await sponsor.purge() == 2


async def test_more_than_a_whole_budget_is_refused_on_an_empty_one(database: Database, clock: ManualClock) -> None:
    sponsor = Sponsor(database, clock, SponsorLimits(gas_per_hour=100))
    for ask in (sponsor.would_admit, sponsor.admit):
        with pytest.raises(WireError) as refused:
            await ask(NETWORK, "0xa", 101)
        assert refused.value.reason == Reason.FEE_BUDGET_EXCEEDED
    await sponsor.admit(NETWORK, "0xa", 100)


async def test_without_budgets_nothing_is_written_down(database: Database, clock: ManualClock) -> None:
    sponsor = Sponsor(database, clock, SponsorLimits(minimum=1))
    await sponsor.would_admit(NETWORK, "0xa", GAS_PER_PAYMENT)
    await sponsor.admit(NETWORK, "0xa", GAS_PER_PAYMENT)
    async with database.connection() as connection:
        assert await connection.fetchval("select count(*) from x402.sponsored_gas") == 0
