"""Searching and ranking: the right offers, in an order that can be explained, from an index of any size."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.core.money import Asset, Money, Rate
from agentnexus.core.offers import Capability, Constraints, Meter, Need, Offer, Party, Price, Reputation, Strategy
from agentnexus.hiring import rank
from agentnexus.hiring.match import Buyer, is_local, too_dear
from agentnexus.hiring.model import PRIOR_SCORE, RATE_AGE_MAX_SECONDS, Rates, SellerRecord
from agentnexus.hiring.search import OfferIndex
from agentnexus.hiring.text import TextIndex, stem, tokens
from tests.hiring.support import EURC, NOW, RATES, USDC, known, make_offer, seller_key, usd

NEED = Need(capability="text.echo")


def index(*offers: Offer, records: dict[str, SellerRecord] | None = None) -> OfferIndex:
    return OfferIndex(offers, rates=RATES, now=NOW, records=records)


def order(need: Need, *offers: Offer, buyer: Buyer | None = None) -> list[str]:
    answer = index(*offers).search(need, now=NOW, buyer=buyer)
    return [ranked.offer.seller.key for ranked in answer.offers]


def keys(*numbers: int) -> list[str]:
    return [seller_key(number) for number in numbers]


def with_strategy(strategy: Strategy) -> Need:
    return Need(capability="text.echo", strategy=strategy)


def test_value_is_reputation_for_the_money() -> None:
    good_dear, fair_cheap = (
        make_offer(1, price="0.10", reputation=known(5)),
        make_offer(2, price="0.02", reputation=known(4)),
    )
    assert order(with_strategy(Strategy.VALUE), good_dear, fair_cheap) == keys(2, 1)
    (best, _) = index(good_dear, fair_cheap).search(NEED, now=NOW).offers
    assert best.value_score == pytest.approx(best.reputation / 0.02)


def test_below_a_tenth_of_a_cent_cheaper_is_not_better_value() -> None:
    free, cheap = make_offer(1, price="0", reputation=known(3)), make_offer(2, price="0.0005", reputation=known(4))
    assert order(with_strategy(Strategy.VALUE), free, cheap) == keys(2, 1)


def test_price_reputation_and_latency_order_by_what_they_say() -> None:
    offers = [
        make_offer(1, price="0.03", reputation=known(5), latency_ms=900),
        make_offer(2, price="0.01", reputation=known(3), latency_ms=500),
        make_offer(3, price="0.02", reputation=known(4), latency_ms=100),
    ]
    assert order(with_strategy(Strategy.PRICE), *offers) == keys(2, 3, 1)
    assert order(with_strategy(Strategy.REPUTATION), *offers) == keys(1, 3, 2)
    assert order(with_strategy(Strategy.LATENCY), *offers) == keys(3, 2, 1)


def test_composite_weighs_everything() -> None:
    poor = make_offer(1, price="0.05", reputation=known(1), latency_ms=9000, success_rate=0.5)
    good = make_offer(2, price="0.01", reputation=known(5), latency_ms=100, success_rate=1.0, stake=usd("1000"))
    assert order(with_strategy(Strategy.COMPOSITE), poor, good) == keys(2, 1)
    assert sum(rank.COMPOSITE_WEIGHTS.values()) == pytest.approx(1.0)


def test_an_unknown_latency_counts_as_the_median_and_says_so() -> None:
    offers = [make_offer(1, latency_ms=100), make_offer(2), make_offer(3, latency_ms=900)]
    assert order(with_strategy(Strategy.LATENCY), *offers) == keys(1, 2, 3)
    middle = index(*offers).search(with_strategy(Strategy.LATENCY), now=NOW).offers[1]
    assert any("latency unknown" in reason for reason in middle.reasons)


def test_prices_in_different_assets_are_compared_in_usd() -> None:
    dollars, euros = (
        make_offer(1, price="0.021"),
        make_offer(2).model_copy(update={"price": Price(per_job=EURC.parse("0.02"))}),
    )
    assert order(with_strategy(Strategy.PRICE), dollars, euros) == keys(1, 2)
    ranked = index(dollars, euros).search(with_strategy(Strategy.PRICE), now=NOW).offers
    assert ranked[1].price_usd == Decimal("0.022")


def test_an_asset_without_a_rate_is_never_chosen_and_says_why() -> None:
    strange = Asset("XYZ", 6, "eip155:1/erc20:0x" + "7" * 40)
    offer = make_offer(1).model_copy(update={"price": Price(per_job=strange.parse("0.01"))})
    answer = index(offer).search(NEED, now=NOW)
    assert (answer.offers, answer.left_out) == ((), {"rate": 1})


def test_a_rate_that_is_too_old_is_no_rate() -> None:
    rates = Rates((Rate(USDC, Decimal(1), "test", NOW - timedelta(hours=2)),), max_age_seconds=3600)
    assert rates.usd(usd("1"), NOW) is None
    rates.put(Rate(USDC, Decimal("0.99"), "test", NOW))
    assert rates.usd(usd("1"), NOW) == Decimal("0.99")


def test_an_offer_whose_rate_has_grown_old_is_left_out_with_age_and_source() -> None:
    rates = Rates((Rate(USDC, Decimal(1), "the test's feed", NOW),))
    offers = OfferIndex([make_offer(1)], rates=rates, now=NOW)
    assert len(offers.search(NEED, now=NOW).offers) == 1
    later = NOW + timedelta(seconds=RATE_AGE_MAX_SECONDS + 1)
    answer = OfferIndex([make_offer(1)], rates=rates, now=later).search(NEED, now=later)
    assert answer.left_out == {"rate": 1}
    assert answer.near_misses[0].refusal.message == (
        "the USD rate of USDC (the test's feed) is 901 s old, 900 s is the most"
    )


def test_a_limit_in_an_asset_whose_rate_is_old_lets_nothing_through() -> None:
    rates = Rates((Rate(USDC, Decimal(1), "a", NOW, pegged=True), Rate(EURC, Decimal(1), "b", NOW)))
    later = NOW + timedelta(days=1)
    assert not too_dear(usd("1"), EURC.parse("2"), rates, NOW)
    assert too_dear(usd("1"), EURC.parse("2"), rates, later)
    assert not too_dear(usd("1"), usd("1"), rates, later)  # nothing is converted


def test_a_pegged_rate_never_ages_and_names_who_laid_it_down() -> None:
    rates = Rates((Rate(USDC, Decimal(1), "by decree", NOW, pegged=True),), max_age_seconds=1)
    later = NOW + timedelta(days=400)
    assert rates.usd(usd("1"), later) == 1
    (ranked,) = OfferIndex([make_offer(1)], rates=rates, now=later).search(NEED, now=later).offers
    assert ranked.to_json()["rate"] == {"usd": "1", "source": "by decree", "observed_at": None}


def test_an_observed_rate_is_shown_with_its_time() -> None:
    rates = Rates((Rate(USDC, Decimal("0.9990"), "a feed", NOW),))
    (ranked,) = OfferIndex([make_offer(1)], rates=rates, now=NOW).search(NEED, now=NOW).offers
    assert ranked.to_json()["rate"] == {"usd": "0.9990", "source": "a feed", "observed_at": NOW.isoformat()}


def test_metered_prices_count_with_their_maximum() -> None:
    metered = make_offer(1).model_copy(
        update={
            "price": Price(per_job=usd("0.01"), meters=(Meter(event="page", unit_price=usd("0.01"), maximum_count=9),))
        }
    )
    assert order(with_strategy(Strategy.PRICE), metered, make_offer(2, price="0.09")) == keys(2, 1)


def test_a_newcomer_is_shown_as_new_and_counts_with_the_prior() -> None:
    (ranked,) = index(make_offer(1)).search(NEED, now=NOW).offers
    assert (ranked.new, ranked.reputation) == (True, PRIOR_SCORE)
    assert ranked.to_json()["reputation"] == "new"
    assert any(reason.startswith("new:") for reason in ranked.reasons)


def test_what_a_market_claims_weighs_less_than_what_was_verified() -> None:
    claims = make_offer(1, reputation=Reputation(score=5, count=100_000, source="itself"))
    record = SellerRecord(seller_key(1), jobs=100, succeeded=10)
    (ranked,) = index(claims, records={seller_key(1): record}).search(NEED, now=NOW).offers
    assert ranked.reputation < 2


@pytest.mark.parametrize(
    ("changes", "limits", "rule"),
    [
        ({}, {"max_price": usd("0.01")}, "price"),
        ({}, {"max_price": EURC.parse("0.01")}, "price"),
        ({}, {"min_reputation": 4.0}, "reputation"),
        ({}, {"sellers_denied": (seller_key(1),)}, "seller"),
        ({}, {"sellers_allowed": (seller_key(2),)}, "seller"),
        ({}, {"markets": ("nostr",)}, "market"),
        ({"region": "us"}, {"region": "eu"}, "region"),
        ({}, {"model": "llama"}, "model"),
        ({"attestation": "signed"}, {"min_attestation": "count-zk"}, "attestation"),
        ({"latency_ms": 5000}, {"deadline_seconds": 1}, "deadline"),
        ({"expires_at": NOW}, {}, "expired"),
        ({"endpoint": "http://shop.example/run"}, {}, "insecure"),
        ({"rails": ({"network": "eip155:1"},)}, {"networks": ("eip155:8453",)}, "network"),
        ({"rails": ({"network": "eip155:1"},)}, {}, "network"),
    ],
)
def test_each_constraint_leaves_out_what_it_must_and_names_itself(
    changes: dict[str, object], limits: dict[str, object], rule: str
) -> None:
    need = Need(capability="text.echo", constraints=Constraints.model_validate(limits))
    buyer = Buyer(networks=frozenset({"eip155:31337"}))
    answer = index(make_offer(1, **changes)).search(need, now=NOW, buyer=buyer)
    assert (answer.offers, answer.left_out) == ((), {rule: 1})
    assert answer.near_misses[0].refusal.message


def test_an_offer_that_meets_every_constraint_is_found() -> None:
    offer = make_offer(
        1, region="eu", models=("llama",), attestation="tee", latency_ms=100, reputation=known(5),
        rails=({"network": "eip155:31337"},), endpoint="http://127.0.0.1/run", expires_at=NOW + timedelta(seconds=1),
    )  # fmt: skip
    limits = Constraints(
        max_price=usd("0.02"), deadline_seconds=1, min_reputation=4, min_attestation="count-zk", region="eu",
        model="llama", markets=("scripted",), networks=("eip155:31337",), sellers_allowed=(seller_key(1),),
    )  # fmt: skip
    need = Need(capability="text.echo", constraints=limits)
    assert order(need, offer, buyer=Buyer(networks=frozenset({"eip155:31337"}))) == keys(1)


def test_the_price_limit_is_exact_to_the_last_unit() -> None:
    need = Need(capability="text.echo", constraints=Constraints(max_price=Money(USDC, 20_000)))
    at, over = make_offer(1), make_offer(2).model_copy(update={"price": Price(per_job=Money(USDC, 20_001))})
    assert order(need, at, over) == keys(1)


def test_an_input_that_the_sellers_schema_does_not_take_is_a_near_miss() -> None:
    wants_file = make_offer(1).model_copy(
        update={"capability": Capability(name="text.echo", input_schema={"type": "object", "required": ["file"]})}
    )
    answer = index(wants_file).search(Need(capability="text.echo", input={"text": "x"}), now=NOW)
    assert answer.left_out == {"input": 1}
    assert "file" in answer.near_misses[0].to_json()["reason"]  # type: ignore[operator]


def test_a_seller_with_a_hostile_schema_is_left_out_and_the_others_are_found() -> None:
    hostile = make_offer(1).model_copy(
        update={"capability": Capability(name="text.echo", input_schema={"$ref": "http://169.254.169.254/"})}
    )
    assert order(Need(capability="text.echo", input={"a": "b"}), hostile, make_offer(2)) == keys(2)


def test_preferred_sellers_come_first_when_they_serve_and_blocked_ones_never() -> None:
    offers = [make_offer(number, price=f"0.0{number}") for number in (1, 2, 3)]
    buyer = Buyer(preferred=(seller_key(3), seller_key(9)), blocked=frozenset({seller_key(2)}))
    assert order(NEED, *offers, buyer=buyer) == keys(3, 1)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("::1", True), ("localhost", True), ("shop.local", True), ("10.1.2.3", True),
        ("192.168.1.9", True), ("8.8.8.8", False), ("example.com", False), ("localhost.example.com", False),
        ("", False), ("notlocalhost", False),
    ],
)  # fmt: skip
def test_only_this_machine_and_its_network_are_local(host: str, local: bool) -> None:
    assert is_local(host) is local


def test_words_find_the_capability_that_does_it() -> None:
    offers = [
        make_offer(1, capability="pdf.extract"), make_offer(2, capability="text.summarize"),
        make_offer(3, capability="table.analyze"),
    ]  # fmt: skip
    for text, number in [("summarise this long text", 2), ("extraction from PDFs", 1), ("analysing tables", 3)]:
        assert order(Need(text=text), *offers) == keys(number), text
    assert index(*offers).capabilities("text summary")[0][0] == "text.summarize"


def test_words_that_nobody_knows_find_nothing() -> None:
    assert order(Need(text="repair my bicycle"), make_offer(1)) == []
    assert order(Need(text="repair my bicycle with an echo"), make_offer(1)) == []


def test_no_words_at_all_mean_everything() -> None:
    assert len(order(Need(text="please"), make_offer(1), make_offer(2, capability="other"))) == 2


def test_an_empty_index_answers() -> None:
    for need in (Need(), NEED, Need(text="anything")):
        answer = index().search(need, now=NOW)
        assert (answer.offers, answer.considered) == ((), 0)


@pytest.mark.parametrize(
    "words", [("summary", "summaries"), ("extract", "extraction"), ("analyze", "analyzing"), ("tables", "table")]
)
def test_forms_of_a_word_have_one_stem(words: tuple[str, str]) -> None:
    assert stem(words[0]) == stem(words[1])


def test_tokens_are_bounded_and_skip_empty_words() -> None:
    assert tokens("the of and") == []
    assert len(tokens("word " * 10_000)) == 400


def test_rare_words_count_more_than_common_ones() -> None:
    found = TextIndex([["pdf", "text"], ["text"], ["text"]]).scores(["pdf", "text"])
    assert found[0] > 2 * found[1]


offers_strategy = st.lists(
    st.builds(
        lambda number, price, score, count, latency: make_offer(
            number, price=f"0.{price:06d}", reputation=Reputation(score=score, count=count), latency_ms=latency
        ),
        number=st.integers(1, 9),
        price=st.integers(0, 999_999),
        score=st.floats(0, 5),
        count=st.integers(0, 100),
        latency=st.none() | st.integers(0, 10**6),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(offers=offers_strategy, strategy=st.sampled_from(Strategy), limit=st.integers(1, 40))
def test_every_order_is_by_score_whole_and_explained(offers: list[Offer], strategy: Strategy, limit: int) -> None:
    ranked = index(*offers).search(with_strategy(strategy), now=NOW, limit=limit).offers
    assert len(ranked) == min(limit, len(offers))
    scores = [one.score for one in ranked]
    assert scores == sorted(scores, reverse=True)
    for one in ranked:
        assert 0 <= one.price_score <= 1
        assert 0 <= one.reputation_score <= 1
        assert 0 <= one.latency_score <= 1
        assert one.value_score >= 0
        assert one.reasons
        assert np.isfinite(one.score)


@settings(max_examples=40, deadline=None)
@given(offers=offers_strategy, cap=st.integers(0, 999_999))
def test_nothing_over_the_price_limit_and_nothing_under_it_lost(offers: list[Offer], cap: int) -> None:
    need = Need(capability="text.echo", constraints=Constraints(max_price=Money(USDC, cap)))
    found = index(*offers).search(need, now=NOW, limit=100).offers
    assert len(found) == sum(offer.price.maximum.atomic <= cap for offer in offers)


@settings(max_examples=40, deadline=None)
@given(offers=offers_strategy)
def test_cheaper_never_lowers_the_price_score(offers: list[Offer]) -> None:
    ranked = index(*offers).search(with_strategy(Strategy.PRICE), now=NOW, limit=100).offers
    prices = [one.price_usd for one in ranked]
    assert prices == sorted(prices)


def test_ten_thousand_offers_are_searched_like_ten() -> None:
    chance = random.Random(4)
    many = [
        make_offer(1, price=f"0.{chance.randint(1, 99999):05d}").model_copy(
            update={"id": f"o{number}", "seller": Party(ids={"evm": f"0x{number:040x}"})}
        )
        for number in range(10_000)
    ]
    answer = OfferIndex(many, rates=RATES, now=NOW).search(with_strategy(Strategy.PRICE), now=NOW, limit=5)
    cheapest = sorted(offer.price.maximum.atomic for offer in many)[:5]
    assert [one.offer.price.maximum.atomic for one in answer.offers] == cheapest
    assert answer.considered == 10_000
