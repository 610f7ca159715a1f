"""Firm quotes: one that breaks its offer, the buyer's limit or its word buys nothing, and the next seller is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from agentnexus.core.canonical import content_hash
from agentnexus.core.errors import InvalidInput, NexusError, PaymentFailed, SellerFailed, Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.core.offers import Constraints, Job, Offer, Price, Quote
from agentnexus.hiring import quotes
from agentnexus.platform.database import Database
from tests.hiring.support import EURC, NEED, USDC, Economy, make_offer, seller_key, usd

Quoting = Callable[[Offer, Job], Awaitable[Quote]]
UNKNOWN = Asset("XYZ", 6, f"{USDC.network}/erc20:0x" + "9" * 40)


def quoting(economy: Economy, number: int, change: Callable[[Quote], Quote | Exception]) -> list[str]:
    """Seller `number` quotes what `change` makes of an honest quote; the sellers that were asked for one, in order."""
    honest, asked = economy.market.quote, []

    async def quote(offer: Offer, job: Job) -> Quote:
        asked.append(offer.seller.key)
        made = await honest(offer, job)
        if offer.seller.key != seller_key(number):
            return made
        changed = change(made)
        if isinstance(changed, Exception):
            raise changed
        return changed

    economy.market.quote = quote  # type: ignore[method-assign]  # the market's own words, bent
    return asked


def at(amount: Money) -> Callable[[Quote], Quote]:
    return lambda quote: quote.model_copy(update={"maximum": amount})


@pytest.fixture
async def economy(database: Database) -> AsyncIterator[Economy]:
    """Two sellers, the first one cheaper."""
    made = await Economy.build(database, offers=[make_offer(1, price="0.02"), make_offer(2, price="0.03")])
    yield made
    await made.assert_sound()
    await made.close()


BENT: list[tuple[str, Callable[[Quote], Quote | Exception]]] = [
    ("more than double", at(usd("0.040001"))),
    ("over the limit in another asset", at(EURC.parse("0.95"))),
    ("in an asset without a rate", at(Money(UNKNOWN, 1))),
    ("of another offer", lambda quote: quote.model_copy(update={"offer_id": "scripted:2:text.echo"})),
    ("for another job", lambda quote: quote.model_copy(update={"job_id": "job_other"})),
    ("unavailable", lambda _: Unavailable("the seller is away")),
    ("refused", lambda _: SellerFailed("no capacity")),
]
LIMITED = NEED.model_copy(update={"constraints": Constraints(max_price=usd("1"))})


@pytest.mark.parametrize("change", [change for _, change in BENT], ids=[name for name, _ in BENT])
async def test_a_bent_quote_sends_the_buyer_to_the_next_seller(
    economy: Economy, change: Callable[[Quote], Quote | Exception]
) -> None:
    asked = quoting(economy, 1, change)
    hired = await economy.hire(LIMITED)
    assert hired.receipt.offer.seller.key == seller_key(2)  # type: ignore[attr-defined]  # Hired
    assert asked == [seller_key(1), seller_key(2)]
    assert economy.market.asked == [seller_key(2)]
    assert (await economy.paid(1), await economy.paid(2)) == ("0", "0.03")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (BENT[0][1], PaymentFailed, "quoted at 0.040001 USDC"),
        (BENT[1][1], PaymentFailed, "1.00 USDC is the most allowed"),
        (BENT[4][1], SellerFailed, "the quote is for another job"),
        (BENT[6][1], SellerFailed, "no capacity"),
    ],
)
async def test_without_another_seller_the_reason_is_told_and_nothing_was_asked_or_kept(
    database: Database, change: Callable[[Quote], Quote | Exception], error: type[NexusError], said: str
) -> None:
    economy = await Economy.build(database)
    quoting(economy, 1, change)
    with pytest.raises(error, match=said):
        await economy.hire(LIMITED)
    assert economy.market.asked == []
    assert await economy.hiring.receipts("k1") == []
    await economy.assert_sound()
    await economy.close()


async def test_up_to_double_is_paid_as_it_was_quoted_and_receipted(economy: Economy) -> None:
    quoting(economy, 1, at(usd("0.04")))
    hired = await economy.hire()
    assert hired.receipt.quote.maximum == usd("0.04")  # type: ignore[attr-defined]  # Hired
    assert await economy.paid(1) == "0.02"


async def test_the_limit_itself_may_be_quoted_and_an_atom_more_may_not(economy: Economy) -> None:
    need = NEED.model_copy(update={"constraints": Constraints(max_price=usd("0.03"))})
    quoting(economy, 1, at(usd("0.030001")))
    first = await economy.hire(need, key="over")
    quoting(economy, 1, at(usd("0.03")))
    second = await economy.hire(need, key="at")
    assert [hired.receipt.offer.seller.key for hired in (first, second)] == [seller_key(2), seller_key(1)]  # type: ignore[attr-defined]  # Hired


async def test_a_seller_that_never_quotes_is_left_after_a_while(
    economy: Economy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotes, "QUOTE_SECONDS", 0.01)
    honest = economy.market.quote

    async def quote(offer: Offer, job: Job) -> Quote:
        if offer.seller.key == seller_key(1):
            await asyncio.Event().wait()
        return await honest(offer, job)

    economy.market.quote = quote  # type: ignore[method-assign]  # the market's own words, bent
    hired = await economy.hire()
    assert hired.receipt.offer.seller.key == seller_key(2)  # type: ignore[attr-defined]  # Hired
    assert economy.market.asked == [seller_key(2)]


async def test_metered_offers_are_held_to_the_double_of_their_maximum(economy: Economy) -> None:
    offer = make_offer(1)
    metered = Price.model_validate(
        {
            "per_job": usd("0.01"),
            "meters": [{"event": "page", "unit_price": usd("0.001"), "maximum_count": 10}],
        }
    )
    economy.market.offers = [offer.model_copy(update={"price": metered}), make_offer(2, price="0.05")]
    quoting(economy, 1, at(usd("0.04")))
    assert (await economy.hire()).receipt.offer.seller.key == seller_key(1)  # type: ignore[attr-defined]  # Hired


async def test_an_offer_without_a_canonical_form_is_not_hired(economy: Economy) -> None:
    """It could not stand in a receipt that anybody can check."""
    odd = make_offer(1)
    schema = {"type": "object", "x-weight": 2**60}
    odd = odd.model_copy(update={"capability": odd.capability.model_copy(update={"input_schema": schema})})
    with pytest.raises(InvalidInput, match="canonical"):
        content_hash(odd)
    economy.market.offers = [odd, make_offer(2, price="0.03")]
    asked = quoting(economy, 1, lambda quote: quote)
    hired = await economy.hire()
    assert asked == [seller_key(1), seller_key(2)]
    assert hired.receipt.offer.seller.key == seller_key(2)  # type: ignore[attr-defined]  # Hired
    assert economy.market.asked == [seller_key(2)]
