"""Registry entries and Bazaar items in every dialect of the field, read as offers; ours written in all their names."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset
from agentnexus.core.offers import COUNT_MAX, Need, Offer
from agentnexus.markets.x402.discover import PAGE, PAGES_MAX, BazaarSource, RegistrySource
from agentnexus.markets.x402.registry.model import (
    MIN_PRICE_USD,
    PRIOR_MEAN,
    SCHEMA_BYTES_MAX,
    Accept,
    Change,
    Query,
    Rating,
    Registration,
    Service,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NETWORK = "eip155:31337"
TOKEN = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
USDC = Asset("USDC", 6, f"{NETWORK}/erc20:{TOKEN}")
OWNER = "0x" + "Ab" * 20
NOBODY = httpx.AsyncClient()
REGISTRY = RegistrySource("http://r.test/", NOBODY, ManualClock(NOW), {USDC.caip19: USDC})
BAZAAR = BazaarSource("http://r.test/", NOBODY, ManualClock(NOW), {USDC.caip19: USDC})
Json = dict[str, object]


def accept(**changes: object) -> Json:
    return {"scheme": "exact", "network": NETWORK, "asset": TOKEN, "amount": "20000", "payTo": OWNER, **changes}


def entry(**changes: object) -> Json:
    full = {
        "url": "http://seller.test/pdf",
        "name": "PDF extractor",
        "description": "Text of PDF files",
        "owner": OWNER,
        "accepts": [accept()],
        "capabilities": ["pdf.extract"],
        **changes,
    }
    return {name: value for name, value in full.items() if value is not ...}


def read(**changes: object) -> Offer:
    offer = REGISTRY.offer(entry(**changes))
    assert offer is not None
    return offer


# --- names that differ between registries -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["url", "resource", "endpoint"])
def test_the_address_is_read_under_any_of_its_names(name: str) -> None:
    assert read(**{"url": ..., name: "http://x.test/a"}).endpoint == "http://x.test/a"


@pytest.mark.parametrize("name", ["ownerWalletAddress", "owner", "walletAddress"])
def test_the_owner_is_read_under_any_of_its_names(name: str) -> None:
    assert read(**{"owner": ..., name: OWNER}).seller.key == f"evm:{OWNER.lower()}"


@pytest.mark.parametrize("name", ["averageResponseTimeMs", "averageLatencyMs", "averageLatency"])
def test_the_latency_is_read_under_any_of_its_names(name: str) -> None:
    assert read(**{name: 120.9}).latency_ms == 120


@pytest.mark.parametrize("name", ["totalRatings", "ratings"])
def test_the_number_of_ratings_is_read_under_any_of_its_names(name: str) -> None:
    assert read(**{name: 7}).reputation.count == 7


@pytest.mark.parametrize(
    ("stated", "score"),
    [(0, 0.0), (4.5, 4.5), (5, 5.0), (5.1, 5.1 / 2000), (7000, 3.5), (10_000, 5.0), (99_999, 5.0), (-1, 0.0)],
)
@pytest.mark.parametrize("name", ["reputation", "reputationScore"])
def test_reputation_is_read_on_either_scale(name: str, stated: float, score: float) -> None:
    assert read(**{name: stated}).reputation.score == pytest.approx(score)


@pytest.mark.parametrize("stated", ["high", None, [5], float("inf"), 10**400])
def test_reputation_that_is_no_number_is_none_at_all(stated: object) -> None:
    assert read(reputation=stated).reputation.score == 0


@pytest.mark.parametrize("name", ["amount", "maxAmountRequired"])
def test_the_price_is_read_in_the_words_of_both_versions(name: str) -> None:
    terms = {**accept(), "amount": None, name: "30000"}
    assert read(accepts=[terms]).price.maximum == USDC.parse("0.03")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"capabilities": ["pdf.extract", "other"]}, "pdf.extract"),
        ({"capabilities": [], "category": "data-analysis"}, "data-analysis"),
        ({"capabilities": None, "category": None}, "general"),
        ({"capabilities": "pdf.extract"}, "general"),
        ({"capabilities": [" PDF Extract "]}, "pdf-extract"),
        ({"capabilities": ["Data/Analysis"]}, "data.analysis"),
    ],
)
def test_the_capability_is_the_first_named_else_the_category(changes: Json, name: str) -> None:
    assert read(**changes).capability.name == name


@pytest.mark.parametrize(
    ("stated", "schema"),
    [
        ({"type": "object"}, {"type": "object"}),
        ('{"type": "object"}', {"type": "object"}),
        (None, {}),
        ("null", {}),
        ("[1]", {}),
        (5, {}),
        (True, {}),
    ],
)
def test_schemas_come_as_objects_or_as_text(stated: object, schema: Json) -> None:
    offer = read(inputSchema=stated, outputSchema=stated)
    assert offer.capability.input_schema == schema == offer.capability.output_schema


@pytest.mark.parametrize(
    ("stated", "verified"), [(True, True), (False, False), ("true", False), (1, False), (None, False)]
)
def test_only_a_plain_true_is_verified(stated: object, verified: bool) -> None:
    assert read(verified=stated).evidence == {"verified": verified}


@pytest.mark.parametrize(("stated", "rate"), [(1, 1.0), (0, 0.0), (0.5, 0.5), (1.5, None), (-0.1, None), ("1", None)])
def test_a_success_rate_is_a_share_or_unknown(stated: object, rate: float | None) -> None:
    assert read(successRate=stated).success_rate == rate


@pytest.mark.parametrize("stated", [float("inf"), float("nan"), 10**400, -5, "fast", None])
def test_figures_that_nothing_can_be_reckoned_with_are_unknown(stated: object) -> None:
    offer = read(averageLatency=stated, totalRatings=stated)
    assert offer.latency_ms is None
    assert offer.reputation.count == 0
    assert read(averageLatency=COUNT_MAX).latency_ms == COUNT_MAX


UNREADABLE: dict[str, Json] = {
    "no address": {"url": ...},
    "an empty address": {"url": ""},
    "an address that is no text": {"url": ["http://x"]},
    "no owner": {"owner": ...},
    "no accepts": {"accepts": ...},
    "an unknown asset": {"accepts": [accept(asset="0x" + "9" * 40)]},
    "a v1 network name": {"accepts": [accept(network="base-sepolia")]},
    "a schema that is broken text": {"inputSchema": "{"},
    "a schema nested without end": {"inputSchema": "[" * 100_000},
    "a capability that is no name": {"capabilities": ["Tell me!"]},
    "a reputation that is no number": {"reputation": float("nan"), "reputationScore": 1},
}


@pytest.mark.parametrize("changes", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_entry_that_cannot_be_read_is_dropped_and_not_raised(changes: Json) -> None:
    found = REGISTRY.offer(entry(**changes))
    assert found is None or found.reputation.score == 0


def test_the_same_service_has_one_id_in_every_dialect() -> None:
    item = {"resource": "http://seller.test/pdf", "accepts": [accept()], "metadata": {"capabilities": ["pdf.extract"]}}
    bazaar = BAZAAR.offer(item)
    assert bazaar is not None
    assert bazaar.id == read().id == read(url=..., endpoint="http://seller.test/pdf").id
    assert read(capabilities=["other"]).id != read().id


# --- Bazaar items -----------------------------------------------------------------------------------------------------


def test_without_an_owner_the_first_payee_is_the_seller() -> None:
    offer = BAZAAR.offer({"resource": "http://s.test/a", "type": "http", "accepts": [accept()]})
    assert offer is not None
    assert offer.seller.key == f"evm:{OWNER.lower()}"
    assert (offer.capability.name, offer.title) == ("general", "general")


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "mcp"},
        {"type": None},
        {"resource": None},
        {"accepts": None},
        {"accepts": []},
        {"accepts": ["x"]},
        {"accepts": [{"payTo": OWNER}]},
    ],
)
def test_an_item_that_cannot_be_bought_here_is_dropped(changes: Json) -> None:
    item: Json = {"resource": "http://s.test/a", "type": "http", "accepts": [accept()], **changes}
    assert BAZAAR.offer(item) is None


@pytest.mark.parametrize("metadata", [None, [], "x", 5])
def test_metadata_of_any_kind_is_survived(metadata: object) -> None:
    item: Json = {"resource": "http://s.test/a", "accepts": [accept()], "metadata": metadata}
    assert BAZAAR.offer(item) is not None


# --- pages ------------------------------------------------------------------------------------------------------------

Answer = Callable[[httpx.Request], httpx.Response]


async def gathered(kind: type[RegistrySource | BazaarSource], answer: Answer, need: Need | None = None) -> list[Offer]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        source = kind("http://r.test/", client, ManualClock(NOW), {USDC.caip19: USDC})
        return [offer async for offer in source.discover(need or Need())]


@pytest.mark.parametrize("wrap", [lambda found: found, lambda found: {"services": found}])
async def test_a_registry_answers_with_a_list_or_with_services(wrap: Callable[[list[Json]], object]) -> None:
    assert len(await gathered(RegistrySource, lambda _request: httpx.Response(200, json=wrap([entry()])))) == 1


@pytest.mark.parametrize("word", ["items", "resources"])
async def test_a_bazaar_answers_with_items_or_resources(word: str) -> None:
    item = {"resource": "http://s.test/a", "accepts": [accept()]}
    assert len(await gathered(BazaarSource, lambda _request: httpx.Response(200, json={word: [item]}))) == 1


async def test_a_full_page_leads_to_the_next_and_a_short_one_ends() -> None:
    asked: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        asked.append((request.url.params["limit"], str(offset)))
        count = PAGE if offset == 0 else 1
        return httpx.Response(200, json=[entry(url=f"http://s{offset + n}.test") for n in range(count)])

    assert len(await gathered(RegistrySource, answer)) == PAGE + 1
    assert asked == [(str(PAGE), "0"), (str(PAGE), str(PAGE))]


async def test_a_registry_without_end_is_left_after_so_many_pages() -> None:
    asked = 0

    def endless(_request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(200, json=[{}] * PAGE)

    assert await gathered(RegistrySource, endless) == []
    assert asked == PAGES_MAX


async def test_the_capability_is_asked_for_and_free_words_are_not() -> None:
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("capability"))
        return httpx.Response(200, json=[])

    await gathered(RegistrySource, answer, Need(capability="pdf.extract"))
    await gathered(RegistrySource, answer, Need(text="read my PDF"))
    assert asked == ["pdf.extract", None]


async def test_one_entry_with_endless_figures_does_not_take_its_neighbours_along() -> None:
    body = json.dumps([entry(averageLatency=float("inf"), totalRatings=float("inf")), entry(url="http://b.test")])
    found = await gathered(RegistrySource, lambda _request: httpx.Response(200, content=body.encode()))
    assert [offer.endpoint for offer in found] == ["http://seller.test/pdf", "http://b.test"]


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, 503])
async def test_any_other_status_is_an_outage_named_with_its_number(status: int) -> None:
    with pytest.raises(Unavailable, match=str(status)):
        await gathered(RegistrySource, lambda _request: httpx.Response(status, json=[]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [
        "url", "owner", "name", "description", "capabilities", "category", "tags", "inputSchema", "outputSchema",
        "reputation", "totalRatings", "averageLatency", "successRate", "verified", "accepts",
    ]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(NAMES, json_values)
def test_any_value_under_any_name_is_read_or_dropped(name: str, value: object) -> None:
    for offer in (
        REGISTRY.offer(entry(**{name: value})),
        BAZAAR.offer({"resource": "http://s.test", "accepts": [accept()], "metadata": {name: value}}),
    ):
        assert offer is None or offer.price.maximum == USDC.parse("0.02")


# --- our own registry's entries ---------------------------------------------------------------------------------------


def registration(**changes: object) -> Json:
    return {
        "url": "http://seller.test/pdf", "name": "PDF", "ownerWalletAddress": OWNER, "pricePerCall": "0.02",
        "accepts": [accept()], **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "ftp://x"),
        ("url", "http://user@x"),
        ("url", "http://x/#a"),
        ("url", "http://"),
        ("url", "http://x/" + "a" * 2048),
        ("name", ""),
        ("name", "n" * 101),
        ("description", "d" * 1001),
        ("category", "c" * 51),
        ("pricePerCall", "0"),
        ("pricePerCall", "-1"),
        ("pricePerCall", "1000001"),
        ("pricePerCall", "NaN"),
        ("pricingModel", "FREE"),
        ("acceptedTokens", []),
        ("acceptedTokens", ["T"] * 21),
        ("accepts", []),
        ("accepts", [accept()] * 33),
        ("inputSchema", {"x": "a" * SCHEMA_BYTES_MAX}),
        ("inputSchema", "a" * (SCHEMA_BYTES_MAX + 1)),
        ("inputSchema", "{"),
        ("inputSchema", "5"),
        ("capabilities", [""]),
        ("capabilities", ["c" * 101]),
        ("capabilities", ["c"] * 51),
        ("tags", ["t" * 101]),
    ],
)
def test_a_registration_outside_its_limits_names_the_field(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Registration.model_validate(registration(**{field: value}))
    assert {str(error["loc"][0]) for error in refused.value.errors()} == {field}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "http://x/" + "a" * 2039),
        ("name", "n" * 100),
        ("pricePerCall", "0.000000000001"),
        ("pricePerCall", "1000000"),
        ("accepts", [accept()] * 32),
        ("inputSchema", '{"type": "object"}'),
        ("inputSchema", None),
        ("capabilities", ["c" * 100] * 50),
        ("description", "d" * 1000),
    ],
)
def test_a_registration_at_its_limits_is_taken(field: str, value: object) -> None:
    assert Registration.model_validate(registration(**{field: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": "0"},
        {"amount": "01"},
        {"amount": "-1"},
        {"amount": "1.5"},
        {"amount": "9" * 79},
        {"amount": 20000},
        {"scheme": ""},
        {"network": "ab"},
        {"payTo": ""},
        {"maxTimeoutSeconds": 0},
        {"maxTimeoutSeconds": 86_401},
    ],
)
def test_terms_that_nobody_could_pay_are_refused(changes: Json) -> None:
    with pytest.raises(ValidationError):
        Accept.model_validate(accept(**changes))


def test_terms_keep_what_a_scheme_adds_to_them() -> None:
    assert Accept.model_validate(accept(outputSchema={"a": 1})).model_dump()["outputSchema"] == {"a": 1}


def test_doubled_words_are_kept_once_in_order() -> None:
    assert Registration.model_validate(registration(tags=["b", "a", "b"])).tags == ["a", "b"]


def test_the_owner_may_change_little_and_nothing_else() -> None:
    assert Change.model_validate({"status": "PAUSED"}).status == "PAUSED"
    for forbidden in ("url", "accepts", "ownerWalletAddress", "verified", "rating_sum"):
        with pytest.raises(ValidationError, match=forbidden):
            Change.model_validate({forbidden: "x"})


@pytest.mark.parametrize("stars", [0, 6, 2.5, None])
def test_a_rating_has_one_to_five_whole_stars(stars: object) -> None:
    with pytest.raises(ValidationError):
        Rating.model_validate({"rating": stars, "transaction": "0x1", "network": NETWORK})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", 0), ("limit", 101), ("offset", -1), ("offset", 100_001), ("minReputation", 10_001),
        ("minUptime", 100.1), ("maxPrice", 0), ("sortBy", "random"), ("query", "q" * 201),
    ],
)  # fmt: skip
def test_a_search_outside_its_limits_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Query.model_validate({name: value})


def service(**changes: object) -> Service:
    return Service.model_validate(
        {
            "id": "svc_1", "registration": Registration.model_validate(registration()), "owner": OWNER.lower(),
            "status": "ACTIVE", "verified": False, "total_calls": 0, "successful_calls": 0, "response_ms_sum": 0,
            "rating_sum": 0, "rating_count": 0, "created_at": NOW, "updated_at": NOW, **changes,
        }
    )  # fmt: skip


def test_a_new_entry_is_written_under_every_name_the_field_reads() -> None:
    found = service().to_json()
    assert found["id"] == found["serviceId"] == "svc_1"
    assert found["url"] == found["resource"] == "http://seller.test/pdf"
    assert found["owner"] == found["ownerWalletAddress"] == OWNER.lower()
    assert found["reputation"] == found["reputationScore"] == round(PRIOR_MEAN * 2000)
    assert found["uptime"] == found["uptimePercentage"] == 100.0
    assert found["averageLatency"] == found["averageResponseTimeMs"] == 0
    assert found["averageRating"] == 0
    assert found["successRate"] is None
    assert found["pricePerCall"] == "0.02"
    json.dumps(found)


def test_what_we_write_is_read_back_as_the_same_offer_by_both_doors() -> None:
    known = service(total_calls=4, successful_calls=3, response_ms_sum=1000, rating_sum=20, rating_count=4)
    ours, bazaar = REGISTRY.offer(known.to_json()), BAZAAR.offer(known.to_bazaar())
    assert ours is not None
    assert bazaar is not None
    assert ours.id == bazaar.id
    assert ours.price == bazaar.price
    assert (ours.latency_ms, ours.success_rate, ours.reputation.count) == (250, 0.75, 4)
    assert (bazaar.latency_ms, bazaar.success_rate, bazaar.reputation.count) == (250, 0.75, 4)
    assert ours.reputation.score == pytest.approx(bazaar.reputation.score, abs=0.001)


def test_a_bazaar_item_has_the_shape_of_the_protocol() -> None:
    item = service().to_bazaar()
    assert set(item) == {"resource", "type", "x402Version", "accepts", "lastUpdated", "metadata", "extensions"}
    assert (item["type"], item["x402Version"], item["lastUpdated"]) == ("http", 2, int(NOW.timestamp()))
    assert item["extensions"] == {
        "bazaar": {
            "info": {"input": {"type": "http", "method": "POST", "bodyType": "json", "body": {}}},
            "schema": {"type": "object"},
        }
    }


@given(st.integers(0, 1000), st.lists(st.integers(1, 5), max_size=50))
def test_reputation_lies_between_prior_and_ratings_and_never_leaves_its_scale(calls: int, stars: list[int]) -> None:
    known = service(total_calls=calls, successful_calls=calls, rating_sum=sum(stars), rating_count=len(stars))
    mean = sum(stars) / len(stars) if stars else PRIOR_MEAN
    assert min(mean, PRIOR_MEAN) - 1e-9 <= known.reputation <= max(mean, PRIOR_MEAN) + 1e-9
    assert 0 <= int(str(known.to_json()["reputation"])) <= 10_000


def test_almost_free_is_not_infinitely_good_value() -> None:
    def value(price: str) -> float:
        return service(registration=Registration.model_validate(registration(pricePerCall=price))).value_score

    assert value("0.000001") == value(str(MIN_PRICE_USD)) == pytest.approx(PRIOR_MEAN / MIN_PRICE_USD)
    assert value("1") == pytest.approx(PRIOR_MEAN)
    assert Decimal(str(service().to_json()["valueScore"])) == Decimal("175.0")
