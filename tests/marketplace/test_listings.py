"""The catalogue: listing, finding with and without typing errors, filters, orders, pages."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.marketplace.listings.model import (
    Listing,
    ListingQuery,
    ListingStatus,
    Position,
    Sort,
    Statistics,
    listing_json,
    price_of,
    search_text,
    trigrams,
)
from agentnexus.marketplace.listings.search import prefix_query
from agentnexus.marketplace.listings.service import Listings
from agentnexus.platform.database import Database
from agentnexus.runtime.bundle import Bundle
from agentnexus.sdk.manifest import Manifest
from tests.marketplace.conftest import SELLER, TOKEN, USDC

SCHEMA: dict[str, object] = {"type": "object"}


def bundle(name: str, **changes: object) -> Bundle:
    """A prepared bundle without code: listing needs only what the manifest says."""
    fields: dict[str, object] = {
        "name": f"org.test.{name}",
        "version": "1.0.0",
        "title": name.replace("-", " ").title(),
        "summary": f"Does {name} work.",
        "categories": ["general"],
        "capability": f"{name.replace('-', '_')}.run",
        "pricing": {"per_run": "0.05"},
    } | changes
    return Bundle(Path("/nowhere"), Manifest.model_validate(fields), "sha256:" + "0" * 64, SCHEMA, SCHEMA)


async def put(listings: Listings, *bundles: Bundle) -> list[Listing]:
    return [await listings.publish(each, SELLER.public_id) for each in bundles]


def ids(page: object) -> list[str]:
    return [listing.id.removeprefix("org.test.") for listing in page.listings]  # type: ignore[attr-defined]  # a page


@pytest.fixture
async def shelf(listings: Listings) -> Listings:
    await put(
        listings,
        bundle(
            "pdf-extractor", summary="Text and tables of PDF files.", categories=["data-analysis"], tags=["documents"]
        ),
        bundle("content-summarizer", summary="Key sentences of a text.", pricing={"per_run": "0.01"}),
        bundle("spreadsheet-analyzer", summary="Outliers and charts of a table.", categories=["data-analysis"]),
        bundle("gas-optimizer", summary="When to send a transaction.", pricing={"per_run": "0.2"}),
    )
    return listings


async def test_a_listing_says_what_its_manifest_says_and_how_it_is_paid(listings: Listings) -> None:
    (listing,) = await put(listings, bundle("pdf-extractor", pricing={"per_run": "0.02"}))

    assert listing.price == USDC.parse("0.02")
    assert listing.status is ListingStatus.ACTIVE
    assert listing.path == "/x402/agents/org.test.pdf-extractor"
    accept = listing.accepts[0]
    assert (accept["amount"], str(accept["asset"]).lower(), accept["network"]) == ("20000", TOKEN, "eip155:31337")
    assert str(accept["payTo"]).lower() == SELLER.public_id.lower()
    assert accept["extra"] == {"name": "USD Coin", "version": "2"}
    assert await listings.get(listing.id) == listing


async def test_metered_agents_are_priced_at_their_most(listings: Listings) -> None:
    metered = {"per_run": "0.01", "events": [{"name": "page", "price": "0.001", "maximum": 50}]}

    (listing,) = await put(listings, bundle("reader", pricing=metered))

    assert listing.price == USDC.parse("0.06")


@pytest.mark.parametrize(
    "pricing", [{"per_run": "0"}, {"per_run": "0.01", "currency": "EUR"}, {"per_run": "0.0000001"}]
)
def test_agents_without_a_price_in_our_currency_are_not_listed(pricing: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        price_of(bundle("odd", pricing=pricing).manifest, USDC)


async def test_a_bundle_that_was_not_prepared_is_not_listed(listings: Listings) -> None:
    with pytest.raises(InvalidInput, match="not prepared"):
        await listings.publish(replace(bundle("raw"), input_schema=None), SELLER.public_id)


async def test_a_new_version_replaces_the_listing_and_keeps_the_old_one_and_the_figures(
    listings: Listings, database: Database
) -> None:
    await put(listings, bundle("reader"))
    async with database.connection() as connection:
        await connection.execute("update marketplace.listing set runs = 7, succeeded = 6")

    newer = replace(bundle("reader", version="1.1.0", title="Better reader"), code_hash="sha256:" + "1" * 64)
    (listing,) = await put(listings, newer)

    assert (listing.manifest.title, listing.statistics.runs) == ("Better reader", 7)
    assert [version["version"] for version in await listings.versions(listing.id)] == ["1.1.0", "1.0.0"]


async def test_publishing_the_same_bundle_again_is_one_version(listings: Listings) -> None:
    first, second = [*await put(listings, bundle("reader")), *await put(listings, bundle("reader"))]

    assert first.created_at == second.created_at
    assert len(await listings.versions(first.id)) == 1


@pytest.mark.parametrize(
    ("text", "best"),
    [
        ("pdf", "pdf-extractor"),
        ("extract text of a pdf", "pdf-extractor"),
        ("summarize", "content-summarizer"),
        ("sumarizer", "content-summarizer"),
        ("spredsheet", "spreadsheet-analyzer"),
        ("spreadsh", "spreadsheet-analyzer"),
        ("outliers", "spreadsheet-analyzer"),
        ("transaktion", "gas-optimizer"),
        ("documents", "pdf-extractor"),
        ("PDF_Extractor", "pdf-extractor"),
    ],
)
async def test_search_finds_whole_words_beginnings_and_mistyped_words(shelf: Listings, text: str, best: str) -> None:
    assert ids(await shelf.list(text))[0] == best


@pytest.mark.parametrize("text", ["zzzzqqq", "!!!", "'; drop table marketplace.listing; --", "\x00", "%", "q:x & | !"])
async def test_nonsense_and_operators_find_nothing_and_break_nothing(shelf: Listings, text: str) -> None:
    found = await shelf.list(text)

    assert found.listings == () or text == "\x00"
    assert (await shelf.list()).total == 4


@pytest.mark.parametrize("text", ["agent", "agnet"])
async def test_pages_of_a_search_hold_every_find_once_also_when_words_were_mistyped(
    listings: Listings, text: str
) -> None:
    await put(listings, *(bundle(f"agent-{number}") for number in range(7)), bundle("zebra", summary="Stripes."))

    seen: list[str] = []
    page = await listings.list(text, limit=3)
    while True:
        assert page.total == 7
        seen += ids(page)
        if not page.next_cursor:
            break
        page = await listings.list(text, limit=3, cursor=page.next_cursor)

    assert sorted(seen) == sorted(f"agent-{number}" for number in range(7))


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("pdf", "'pdf':*"),
        ("Extract text", "'extract' & 'text':*"),
        ("it's & (a | b):*", "'it' & 's' & 'a' & 'b':*"),
        ("!!", ""),
        ("über_straße", "'über' & 'straße':*"),
    ],
)
def test_words_are_quoted_and_the_last_one_is_a_beginning(text: str, asked: str) -> None:
    assert prefix_query(text) == asked


async def test_filters_combine(shelf: Listings) -> None:
    assert set(ids(await shelf.list(category="data-analysis"))) == {"pdf-extractor", "spreadsheet-analyzer"}
    assert ids(await shelf.list(max_price=USDC.parse("0.01"))) == ["content-summarizer"]
    assert ids(await shelf.list(min_price=Decimal("0.06"))) == ["gas-optimizer"]
    assert ids(await shelf.list(capability="pdf_extractor.run")) == ["pdf-extractor"]
    assert ids(await shelf.list("pdf", "general")) == []
    assert ids(await shelf.list("table", category="data-analysis", max_price=Decimal("0.05")))[0] in {
        "spreadsheet-analyzer",
        "pdf-extractor",
    }


async def test_orders_are_by_price_runs_rating_and_age(shelf: Listings, database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("update marketplace.listing set runs = 9 where id = 'org.test.gas-optimizer'")
        await connection.execute(
            "update marketplace.listing set rating_sum = 50, rating_count = 10 where id = 'org.test.pdf-extractor'"
        )

    assert ids(await shelf.list(sort=Sort.PRICE))[0] == "content-summarizer"
    assert ids(await shelf.list(sort="price"))[-1] == "gas-optimizer"
    assert ids(await shelf.list(sort="popularity"))[0] == "gas-optimizer"
    assert ids(await shelf.list(sort=Sort.RATING))[0] == "pdf-extractor"
    assert ids(await shelf.list(sort=Sort.NEWEST))[0] == "gas-optimizer"
    assert ids(await shelf.list(sort=""))[0] == "gas-optimizer"


@pytest.mark.parametrize("sort", list(Sort))
async def test_pages_hold_every_listing_exactly_once(listings: Listings, sort: Sort) -> None:
    await put(listings, *(bundle(f"agent-{number}") for number in range(11)))

    seen: list[str] = []
    cursor = ""
    for _ in range(4):
        page = await listings.list(sort=sort, limit=3, cursor=cursor)
        assert page.total == 11
        seen += ids(page)
        cursor = page.next_cursor
    assert cursor == ""
    assert sorted(seen) == sorted(f"agent-{number}" for number in range(11))


async def test_a_page_stays_where_it_was_when_new_agents_arrive(listings: Listings) -> None:
    await put(listings, *(bundle(f"agent-{number}") for number in range(4)))
    first = await listings.list(sort=Sort.NEWEST, limit=2)

    await put(listings, bundle("late-comer"))

    rest = await listings.list(sort=Sort.NEWEST, limit=10, cursor=first.next_cursor)
    assert set(ids(first)) | set(ids(rest)) == {f"agent-{number}" for number in range(4)}


@pytest.mark.parametrize(
    "cursor",
    ["x", "!!", "WzFd", "e30", "bnVsbA", "WyJOYU4iLCJhIiwiYSJd", "WyIxIiwiXHUwMDAwIiwiYSJd", "WyIxIiwiYSIsIngiXQ", "é"],
)
async def test_a_foreign_cursor_is_refused(listings: Listings, cursor: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await listings.list(cursor=cursor)
    assert caught.value.details["field"] == "cursor"


@pytest.mark.parametrize("limit", [0, -1, 101])
def test_pages_have_limits(limit: int) -> None:
    with pytest.raises(InvalidInput):
        ListingQuery(limit=limit)


async def test_an_unknown_order_is_refused_with_the_known_ones(listings: Listings) -> None:
    with pytest.raises(InvalidInput, match="cannot sort") as caught:
        await listings.list(sort="luck")
    assert "popularity" in caught.value.next_step


async def test_only_active_agents_are_found_and_sold(shelf: Listings) -> None:
    for status in ListingStatus:
        await shelf.set_status("org.test.pdf-extractor", status)
        is_found = "pdf-extractor" in ids(await shelf.list())
        assert is_found is (status is ListingStatus.ACTIVE)
        assert (await shelf.get("org.test.pdf-extractor")).status is status
    with pytest.raises(NotFound, match="suspended"):
        await shelf.for_sale("org.test.pdf-extractor")
    assert len(await shelf.all_active()) == 3


async def test_what_is_not_there_is_not_found(listings: Listings) -> None:
    with pytest.raises(NotFound):
        await listings.get("org.test.nothing")
    with pytest.raises(NotFound):
        await listings.get("\x00")
    with pytest.raises(NotFound):
        await listings.set_status("org.test.nothing", ListingStatus.ACTIVE)


async def test_categories_are_counted(shelf: Listings) -> None:
    assert await shelf.categories() == {"data-analysis": 2, "general": 2}


async def test_all_active_reads_past_one_page(listings: Listings) -> None:
    await put(listings, *(bundle(f"agent-{number}") for number in range(103)))

    assert len(await listings.all_active()) == 103


async def test_the_json_form_has_decimal_prices_and_x402_terms(listings: Listings) -> None:
    (listing,) = await put(listings, bundle("pdf-extractor", pricing={"per_run": "0.020"}))

    shown = listing_json(listing, "https://node.example")

    assert shown["price"] == "0.020000"
    assert shown["x402"] == {
        "method": "POST",
        "resource": "https://node.example/x402/agents/org.test.pdf-extractor",
        "accepts": list(listing.accepts),
    }
    assert shown["statistics"] == {
        "runs": 0,
        "successRate": None,
        "averageDurationMs": None,
        "p95DurationMs": None,
        "rating": None,
        "ratings": 0,
    }


def test_few_ratings_are_pulled_to_the_middle_and_none_is_none() -> None:
    assert Statistics().rating is None
    assert Statistics(rating_sum=5, ratings=1).rating == pytest.approx(3.75)
    assert Statistics(rating_sum=5000, ratings=1000).rating == pytest.approx(4.99, abs=0.01)


@given(
    st.decimals(allow_nan=False, allow_infinity=False), st.text(st.characters(exclude_characters="\x00", codec="utf-8"))
)
def test_positions_survive_their_cursor(value: Decimal, identifier: str) -> None:
    position = Position(value, identifier)

    if len(position.encode()) <= 500:
        assert Position.decode(position.encode()) == position


@given(st.text(max_size=50))
def test_trigrams_are_three_characters_and_those_of_a_text_hold_those_of_its_words(text: str) -> None:
    pieces = set(trigrams(text))

    assert all(len(piece) >= 3 for piece in pieces)
    assert all(set(trigrams(word)) <= pieces for word in text.lower().split() if word.isalnum())


def test_the_searched_text_has_title_name_capability_and_tags() -> None:
    text = search_text(bundle("pdf-extractor", tags=["documents"]).manifest)

    assert all(word in text for word in ("pdf extractor", "documents", "general", "does pdf-extractor work"))
