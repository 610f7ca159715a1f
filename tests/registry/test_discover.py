"""Strangers' listings are read liberally: every dialect of the field, no guess about money, a bad entry drops alone."""

from __future__ import annotations

import json
from collections.abc import Mapping

import httpx
import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset
from agentnexus.core.offers import Need, Offer
from agentnexus.markets.x402.discover import ANSWER_BYTES_MAX, PAGE, BazaarSource, RegistrySource

NETWORK = "eip155:31337"
TOKEN = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
USDC = Asset("USDC", 6, f"{NETWORK}/erc20:{TOKEN}")
ASSETS = {USDC.caip19: USDC}
OWNER = "0x" + "1" * 40


def accept(**changes: object) -> dict[str, object]:
    plain: dict[str, object] = {
        "scheme": "exact", "network": NETWORK, "asset": TOKEN, "amount": "20000", "payTo": OWNER
    }  # fmt: skip
    return plain | changes


def entry(**changes: object) -> dict[str, object]:
    plain: dict[str, object] = {
        "url": "https://seller.example/pdf",
        "name": "PDF reader",
        "description": "Reads PDF files",
        "ownerWalletAddress": OWNER,
        "accepts": [accept()],
        "capabilities": ["pdf.extract"],
    }
    return plain | changes


def registry(clock: ManualClock) -> RegistrySource:
    return RegistrySource("https://registry.example", httpx.AsyncClient(), clock, ASSETS)


def bazaar(clock: ManualClock) -> BazaarSource:
    return BazaarSource("https://registry.example", httpx.AsyncClient(), clock, ASSETS)


def offered(clock: ManualClock, **changes: object) -> Offer:
    offer = registry(clock).offer(entry(**changes))
    assert offer is not None
    return offer


@pytest.mark.parametrize("name", ["url", "resource", "endpoint"])
def test_the_address_has_three_names(clock: ManualClock, name: str) -> None:
    plain = {key: value for key, value in entry().items() if key != "url"}
    offer = registry(clock).offer(plain | {name: "https://seller.example/other"})
    assert offer is not None
    assert offer.endpoint == "https://seller.example/other"


@pytest.mark.parametrize("name", ["ownerWalletAddress", "owner", "walletAddress"])
def test_the_owner_has_three_names_and_one_form(clock: ManualClock, name: str) -> None:
    plain = {key: value for key, value in entry().items() if key != "ownerWalletAddress"}
    offer = registry(clock).offer(plain | {name: "0xABCDEF" + "1" * 34})
    assert offer is not None
    assert offer.seller.ids["evm"] == "0xabcdef" + "1" * 34


def test_the_cheapest_way_to_pay_is_the_price_and_unknown_ones_are_left_out(clock: ManualClock) -> None:
    ways = [accept(amount="30000"), accept(amount="10000"), accept(asset="0x" + "9" * 40, amount="1"), "nonsense"]
    offer = offered(clock, accepts=ways)
    assert offer.price.per_job == USDC.parse("0.01")
    assert [way["amount"] for way in offer.rails] == ["30000", "10000"]


def test_the_old_name_of_an_amount_is_read(clock: ManualClock) -> None:
    old = {key: value for key, value in accept().items() if key != "amount"} | {"maxAmountRequired": "5"}
    assert offered(clock, accepts=[old]).price.per_job.atomic == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"accepts": []},
        {"accepts": None, "pricePerCall": "0.02"},  # a decimal price alone is never turned into money
        {"accepts": "exact"},
        {"accepts": [accept(amount="0.02")]},
        {"accepts": [accept(amount="-5")]},
        {"accepts": [accept(amount="9" * 79)]},
        {"accepts": [accept(amount=None)]},
        {"accepts": [accept(network="eip155:1")]},
        {"accepts": [accept(asset=None)]},
        {"url": ""},
        {"url": 5},
        {"ownerWalletAddress": None},
        {"inputSchema": "{not json"},
        {"capabilities": ["no such / name !"]},
    ],
)
def test_what_cannot_be_paid_or_read_is_dropped(clock: ManualClock, changes: dict[str, object]) -> None:
    assert registry(clock).offer(entry(**changes)) is None


def test_schemas_come_as_objects_or_as_text(clock: ManualClock) -> None:
    schema = {"type": "object", "required": ["file"]}
    assert offered(clock, inputSchema=schema).capability.input_schema == schema
    assert offered(clock, inputSchema=json.dumps(schema)).capability.input_schema == schema
    assert offered(clock, inputSchema=[1]).capability.input_schema == {}


def test_a_service_without_capabilities_is_of_its_category(clock: ManualClock) -> None:
    plain = entry(category="Data Analysis/Tables")
    del plain["capabilities"]
    offer = registry(clock).offer(plain)
    assert offer is not None
    assert offer.capability.name == "data-analysis.tables"


@pytest.mark.parametrize(
    ("changes", "score", "count"),
    [
        ({}, 0.0, 0),
        ({"reputation": 4.5, "totalRatings": 3}, 4.5, 3),
        ({"reputationScore": 9000, "ratings": 12}, 4.5, 12),
        ({"reputation": 1e9}, 5.0, 0),
        ({"reputation": -4}, 0.0, 0),
        ({"reputation": "high", "totalRatings": "many"}, 0.0, 0),
    ],
)
def test_reputation_is_brought_to_one_scale(
    clock: ManualClock, changes: dict[str, object], score: float, count: int
) -> None:
    found = offered(clock, **changes).reputation
    assert (found.score, found.count) == (score, count)


def test_long_texts_are_cut_and_figures_that_cannot_be_are_left_out(clock: ManualClock) -> None:
    offer = offered(
        clock, name="n" * 5000, description="d" * 9000, tags=["t"] * 500, successRate=7, averageLatencyMs=-1
    )
    assert (len(offer.title), len(offer.description), len(offer.capability.tags)) == (200, 2000, 50)
    assert offer.success_rate is None
    assert offer.latency_ms is None


def test_the_same_service_is_the_same_offer_whoever_lists_it(clock: ManualClock) -> None:
    flat = {key: value for key, value in entry().items() if key not in ("url", "accepts", "ownerWalletAddress")}
    item = {"resource": entry()["url"], "type": "http", "accepts": [accept()], "metadata": flat}
    found = bazaar(clock).offer(item)
    assert found is not None
    assert found.id == offered(clock).id
    assert found.seller.ids == offered(clock).seller.ids  # the payee stands for an owner that is not named
    assert found.sources == ("x402-bazaar",)


@pytest.mark.parametrize(
    "changes",
    [{"type": "mcp"}, {"resource": None}, {"accepts": None}, {"accepts": [{}]}, {"metadata": "x", "accepts": 5}],
)
def test_a_bazaar_item_that_cannot_be_bought_is_dropped(clock: ManualClock, changes: Mapping[str, object]) -> None:
    item = {"resource": "https://seller.example/pdf", "accepts": [accept()], "metadata": {"name": "x"}}
    assert bazaar(clock).offer(item) is not None
    assert bazaar(clock).offer({**item, **changes}) is None


def served(*pages: object, status: int = 200) -> tuple[httpx.AsyncClient, list[httpx.URL]]:
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        page = pages[min(len(asked), len(pages)) - 1]
        return httpx.Response(status, content=page if isinstance(page, bytes) else json.dumps(page).encode())

    return httpx.AsyncClient(transport=httpx.MockTransport(answer)), asked


async def found(client: httpx.AsyncClient, clock: ManualClock, need: Need) -> list[Offer]:
    source = RegistrySource("https://registry.example/", client, clock, ASSETS)
    return [offer async for offer in source.discover(need)]


@pytest.mark.parametrize("wrap", [lambda entries: entries, lambda entries: {"services": entries, "total": 1}])
async def test_a_list_may_be_wrapped_and_hold_rubbish(clock: ManualClock, wrap: object) -> None:
    assert callable(wrap)
    client, asked = served(wrap([5, None, "x", entry(), entry(accepts=[])]))
    assert [offer.title for offer in await found(client, clock, Need(capability="pdf.extract"))] == ["PDF reader"]
    assert asked[0].params["capability"] == "pdf.extract"


async def test_pages_are_read_until_a_short_one(clock: ManualClock) -> None:
    full = [entry(url=f"https://seller.example/{number}") for number in range(PAGE)]
    client, asked = served(full, full, full[:1])
    assert len(await found(client, clock, Need(text="anything"))) == 2 * PAGE + 1
    assert [url.params["offset"] for url in asked] == ["0", str(PAGE), str(2 * PAGE)]
    assert "capability" not in asked[0].params


@pytest.mark.parametrize(
    "page", [b"<html>", b"[" * 100_000, b"5", {"error": "x"}, b"[" + b" " * ANSWER_BYTES_MAX + b"]", b"\xff\xfe"]
)
async def test_an_answer_that_is_no_list_is_unavailable(clock: ManualClock, page: object) -> None:
    client, _ = served(page)
    with pytest.raises(Unavailable, match=r"registry\.example"):
        await found(client, clock, Need(text="anything"))


async def test_an_error_status_is_unavailable(clock: ManualClock) -> None:
    client, _ = served([], status=500)
    with pytest.raises(Unavailable, match="500"):
        await found(client, clock, Need(text="anything"))
