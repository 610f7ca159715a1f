"""A catalogue market in front of nodes that are old, careless, endless or hostile: the good offers still arrive."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset
from agentnexus.core.offers import COUNT_MAX, Need, Offer
from agentnexus.markets.catalogue.discover import OFFER_LIFE, PAGES_MAX, UNREADABLE, offer_of, read_offers
from tests.hiring.support import NOW

TOKEN = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
OTHER = "0x" + "2" * 40
PAYEE = "0x" + "Ab" * 20
USDC = Asset("USDC", 6, f"eip155:31337/erc20:{TOKEN}")
SATS = Asset("SAT", 0, f"eip155:31337/erc20:{OTHER}")
ASSETS = {USDC.caip19: USDC, SATS.caip19: SATS}
API = "http://node.test"


def accept(amount: object = "20000", **changes: object) -> dict[str, object]:
    terms = {"scheme": "exact", "network": "eip155:31337", "asset": TOKEN, "amount": amount, "payTo": PAYEE}
    return {**terms, **changes}


def listing(**changes: object) -> dict[str, object]:
    return {
        "id": "org.example.pdf",
        "name": "PDF extractor",
        "summary": "Text of PDF files",
        "capability": "pdf.extract",
        "tags": ["pdf"],
        "inputSchema": {"type": "object"},
        "outputSchema": {"type": "object"},
        "developer": {"name": "Ann"},
        "statistics": {"averageDurationMs": 120.7, "successRate": 0.97, "rating": 4.5, "ratings": 12},
        "codeHash": "sha256:1",
        "x402": {"resource": "http://node.test/x402/agents/pdf", "accepts": [accept()]},
        **changes,
    }


def read(entry: object) -> Offer:
    assert isinstance(entry, dict)
    return offer_of(entry, ManualClock(NOW), ASSETS)


Answer = Callable[[httpx.Request], httpx.Response]


async def offers_of(answer: Answer, need: Need | None = None) -> list[Offer]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        return [offer async for offer in read_offers(client, API, need or Need(), ManualClock(NOW), ASSETS)]


def pages(*bodies: object) -> Answer:
    """One body per page; the cursor is the number of the next one."""

    def answer(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("cursor", "0"))
        following = str(number + 1) if number + 1 < len(bodies) else None
        return httpx.Response(200, json={"data": bodies[number], "pagination": {"nextCursor": following}})

    return answer


def test_a_listing_becomes_this_offer() -> None:
    offer = read(listing())
    assert offer.model_dump(mode="json", exclude={"id", "capability", "rails"}) == {
        "market": "catalogue",
        "seller": {
            "ids": {"evm": PAYEE.lower(), "url": "http://node.test/x402/agents/pdf"}, "name": "Ann", "verified_by": [],
        },
        "title": "PDF extractor",
        "description": "Text of PDF files",
        "price": {"per_job": USDC.parse("0.02").to_json(), "meters": []},
        "endpoint": "http://node.test/x402/agents/pdf",
        "models": [],
        "reputation": {"score": 4.5, "count": 12, "source": "catalogue"},
        "latency_ms": 120,
        "uptime": None,
        "success_rate": 0.97,
        "stake": None,
        "attestation": "none",
        "region": "",
        "observed_at": "2026-11-20T12:00:00Z",
        "expires_at": "2026-11-20T13:00:00Z",
        "stale": False,
        "sources": ["catalogue"],
        "evidence": {"agent": "org.example.pdf", "code_hash": "sha256:1", "executions": "http://node.test/api/v1/executions"},
    }  # fmt: skip
    assert offer.expires_at == NOW + OFFER_LIFE
    assert offer.rails == (accept(),)


def test_the_id_stays_while_the_address_does_and_changes_with_it() -> None:
    moved = listing(x402={"resource": "http://node.test/other", "accepts": [accept()]})
    assert read(listing(name="New name")).id == read(listing()).id != read(moved).id


UNPAYABLE: dict[str, dict[str, object]] = {
    "no terms at all": {"x402": None},
    "terms that are a text": {"x402": "free"},
    "nowhere to pay": {"x402": {"accepts": [accept()]}},
    "no accepts": {"x402": {"resource": "http://a"}},
    "accepts that are no list": {"x402": {"resource": "http://a", "accepts": accept()}},
    "no accept": {"x402": {"resource": "http://a", "accepts": []}},
    "an unknown asset": {"x402": {"resource": "http://a", "accepts": [accept(asset="0x" + "9" * 40)]}},
    "an unknown network": {"x402": {"resource": "http://a", "accepts": [accept(network="eip155:1")]}},
    "nobody to pay": {"x402": {"resource": "http://a", "accepts": [accept(payTo="")]}},
    "a negative price": {"x402": {"resource": "http://a", "accepts": [accept("-1")]}},
    "a decimal price": {"x402": {"resource": "http://a", "accepts": [accept("0.02")]}},
    "an exponent": {"x402": {"resource": "http://a", "accepts": [accept("1e5")]}},
    "a superscript": {"x402": {"resource": "http://a", "accepts": [accept("²")]}},
    "a price of eighty digits": {"x402": {"resource": "http://a", "accepts": [accept("9" * 80)]}},
    "no capability": {"capability": None},
    "a capability that is no name": {"capability": "Extract PDFs!"},
    "a capability of absurd length": {"capability": "a" * 101},
    "a rating above five": {"statistics": {"rating": 5.1}},
    "a rating that is no number": {"statistics": {"rating": float("nan")}},
}


@pytest.mark.parametrize("changes", UNPAYABLE.values(), ids=UNPAYABLE.keys())
async def test_a_listing_that_cannot_be_bought_is_dropped_and_its_neighbours_stay(changes: dict[str, object]) -> None:
    bad = listing(**changes)
    with pytest.raises(UNREADABLE):
        read(bad)
    body = json.dumps({"data": [listing(), bad, listing(name="Second")]}).encode()
    found = await offers_of(lambda _request: httpx.Response(200, content=body))
    assert [offer.title for offer in found] == ["PDF extractor", "Second"]


ODD: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "no statistics": ({"statistics": None}, {"latency_ms": None, "success_rate": None}),
    "statistics that are a list": ({"statistics": [1]}, {"latency_ms": None}),
    "a negative duration": ({"statistics": {"averageDurationMs": -1}}, {"latency_ms": None}),
    "an endless duration": ({"statistics": {"averageDurationMs": float("inf")}}, {"latency_ms": None}),
    "a duration that is no number": ({"statistics": {"averageDurationMs": float("nan")}}, {"latency_ms": None}),
    "a duration beyond floats": ({"statistics": {"averageDurationMs": 10**400}}, {"latency_ms": None}),
    "a duration in words": ({"statistics": {"averageDurationMs": "fast"}}, {"latency_ms": None}),
    "the longest duration": ({"statistics": {"averageDurationMs": COUNT_MAX}}, {"latency_ms": COUNT_MAX}),
    "a success above all": ({"statistics": {"successRate": 1.01}}, {"success_rate": None}),
    "a success of all": ({"statistics": {"successRate": 1}}, {"success_rate": 1.0}),
    "no developer": ({"developer": None}, {}),
    "no schemas": ({"inputSchema": None, "outputSchema": "x"}, {}),
    "tags that are a text": ({"tags": "pdf"}, {}),
    "no summary": ({"summary": None}, {}),
}


@pytest.mark.parametrize(("changes", "expected"), ODD.values(), ids=ODD.keys())
def test_what_is_missing_or_odd_is_unknown(changes: dict[str, object], expected: dict[str, object]) -> None:
    offer = read(listing(**changes))
    assert {name: getattr(offer, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("ratings", "count"), [(7, 7), (-1, 0), (None, 0), ("many", 0), (10**400, 0), (float("inf"), 0), (2.9, 2)]
)
def test_a_count_of_ratings_is_a_number_that_can_be_reckoned_with(ratings: object, count: int) -> None:
    assert read(listing(statistics={"rating": 4, "ratings": ratings})).reputation.count == count


def test_long_texts_of_strangers_are_cut() -> None:
    offer = read(listing(name="n" * 10_000, summary="s" * 10_000, developer={"name": "d" * 10_000}, tags=["t"] * 1000))
    assert (len(offer.title), len(offer.description), len(offer.seller.name)) == (200, 2000, 100)
    assert len(offer.capability.tags) == 50


def test_of_several_ways_to_pay_the_known_ones_are_kept_and_the_cheapest_is_the_price() -> None:
    entries = [
        accept("30000"),
        accept("5", asset="0x" + "9" * 40),
        "nonsense",
        accept("10000"),
        accept("1", payTo=None),
    ]
    offer = read(listing(x402={"resource": "http://a", "accepts": entries}))
    assert [rail["amount"] for rail in offer.rails] == ["30000", "10000"]
    assert offer.price.maximum == USDC.parse("0.01")


def test_only_the_first_ways_to_pay_are_looked_at() -> None:
    entries = [accept(str(1000 - number)) for number in range(100)]
    assert len(read(listing(x402={"resource": "http://a", "accepts": entries})).rails) == 32


def test_an_asset_is_known_however_its_address_is_written() -> None:
    shouted = accept(asset="0x" + TOKEN[2:].upper())
    assert read(listing(x402={"resource": "http://a", "accepts": [shouted]})).price.maximum == USDC.parse("0.02")


async def test_every_page_is_read_in_order() -> None:
    found = await offers_of(pages([listing(name="one")], [], [listing(name="two"), listing(name="three")]))
    assert [offer.title for offer in found] == ["one", "two", "three"]


async def test_a_list_without_end_is_read_so_far_and_no_further() -> None:
    asked = 0

    def endless(_request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(200, json={"data": [], "pagination": {"nextCursor": "again"}})

    assert await offers_of(endless) == []
    assert asked == PAGES_MAX


@pytest.mark.parametrize("pagination", [None, {}, {"nextCursor": None}, {"nextCursor": 5}, {"nextCursor": ""}])
async def test_without_a_cursor_the_page_is_the_last(pagination: object) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"data": [listing()], "pagination": pagination})

    assert len(await offers_of(answer)) == 1
    assert len(asked) == 1


async def test_the_capability_and_the_cursor_are_asked_for_as_given() -> None:
    asked: list[httpx.QueryParams] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params)
        following = "a b&c=d" if len(asked) == 1 else None
        return httpx.Response(200, json={"data": [], "pagination": {"nextCursor": following}})

    await offers_of(answer, Need(capability="pdf.extract"))
    assert [(each.get("capability"), each.get("cursor")) for each in asked] == [
        ("pdf.extract", None),
        ("pdf.extract", "a b&c=d"),
    ]


FOREIGN: dict[str, httpx.Response] = {
    "an error": httpx.Response(503, json={"data": []}),
    "a redirect": httpx.Response(302, headers={"location": "http://elsewhere"}),
    "no JSON": httpx.Response(200, text="<html>"),
    "nested without end": httpx.Response(200, content=b"[" * 100_000),
    "a list": httpx.Response(200, json=[listing()]),
    "a number": httpx.Response(200, json=5),
    "null": httpx.Response(200, json=None),
    "no data": httpx.Response(200, json={"items": []}),
    "data that is an object": httpx.Response(200, json={"data": {}}),
    "pagination that is a list": httpx.Response(200, json={"data": [], "pagination": [1]}),
    "an answer of another charset": httpx.Response(200, content=b"\xff\xfe\x00", headers={"content-type": "a/b"}),
}


@pytest.mark.parametrize("answer", FOREIGN.values(), ids=FOREIGN.keys())
async def test_what_is_no_catalogue_is_unavailable_and_says_where(answer: httpx.Response) -> None:
    with pytest.raises(Unavailable, match=r"node\.test"):
        await offers_of(lambda _request: answer)


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.ReadTimeout(""), httpx.RemoteProtocolError("x")]
)
async def test_a_node_that_does_not_answer_leaves_the_others_to_be_asked(error: Exception) -> None:
    def broken(_request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(Unavailable) as refused:
        await offers_of(broken)
    assert refused.value.next_step == "other markets are still asked"
    assert str(error) in refused.value.message or type(error).__name__ in refused.value.message


async def test_offers_before_a_broken_page_have_already_arrived() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "cursor" in request.url.params:
            return httpx.Response(500)
        return httpx.Response(200, json={"data": [listing()], "pagination": {"nextCursor": "2"}})

    arrived: list[Offer] = []
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(Unavailable):
            async for offer in read_offers(client, API, Need(), ManualClock(NOW), ASSETS):
                arrived.append(offer)
    assert [offer.title for offer in arrived] == ["PDF extractor"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(sorted(listing()))


@settings(max_examples=150, deadline=None)
@given(FIELDS, json_values)
def test_any_value_in_any_field_makes_an_offer_or_is_refused_as_unreadable(name: str, value: object) -> None:
    try:
        offer = read(listing(**{name: value}))
    except UNREADABLE:
        return
    assert offer.price.maximum == USDC.parse("0.02")
    assert offer.seller.key == f"evm:{PAYEE.lower()}"


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["scheme", "network", "asset", "amount", "payTo", "extra"]), json_values)
def test_any_value_in_the_terms_never_makes_a_cheaper_offer_by_accident(name: str, value: object) -> None:
    try:
        offer = read(listing(x402={"resource": "http://a", "accepts": [accept(), accept(**{name: value})]}))
    except UNREADABLE:
        return
    if name != "amount" or not str(value).isdecimal():
        assert offer.price.maximum == USDC.parse("0.02")
