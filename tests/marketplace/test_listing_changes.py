"""Searching a catalogue while it changes, and with words and cursors that mean harm."""

from __future__ import annotations

import asyncio
import base64
import json
from decimal import Decimal

import pytest

from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.marketplace.listings.model import ListingStatus, Position, Sort
from agentnexus.marketplace.listings.search import WORDS_MAX, prefix_query
from agentnexus.marketplace.listings.service import Listings
from tests.marketplace.test_listings import bundle, ids, put


async def every_page(listings: Listings, limit: int = 3, **query: object) -> list[str]:
    """All listings of a search, page by page."""
    found: list[str] = []
    cursor = ""
    for _ in range(50):
        page = await listings.list(limit=limit, cursor=cursor, **query)  # type: ignore[arg-type]
        found += ids(page)
        cursor = page.next_cursor
        if not cursor:
            return found
    raise AssertionError("the pages never end")


async def shelf_of(listings: Listings, count: int) -> None:
    """Agents 00, 01, … whose price grows with their number."""
    await put(
        listings,
        *(
            bundle(f"reader-{n:02}", summary="Reads letters.", pricing={"per_run": f"0.{n + 1:02}"})
            for n in range(count)
        ),
    )


async def test_what_goes_off_sale_between_pages_is_gone_and_nothing_else_moves(listings: Listings) -> None:
    await shelf_of(listings, 9)
    first = await listings.list(sort=Sort.PRICE, limit=3)
    await listings.set_status("org.test.reader-01", ListingStatus.DEPRECATED)  # already shown
    await listings.set_status("org.test.reader-04", ListingStatus.SUSPENDED)  # not yet
    second = await listings.list(sort=Sort.PRICE, limit=3, cursor=first.next_cursor)
    assert ids(first) == ["reader-00", "reader-01", "reader-02"]
    assert ids(second) == ["reader-03", "reader-05", "reader-06"]


async def test_the_listing_a_cursor_stands_at_may_go_and_the_next_page_still_follows(listings: Listings) -> None:
    await shelf_of(listings, 6)
    first = await listings.list(sort=Sort.PRICE, limit=3)
    await listings.set_status("org.test.reader-02", ListingStatus.SUSPENDED)
    assert ids(await listings.list(sort=Sort.PRICE, limit=3, cursor=first.next_cursor)) == [
        "reader-03", "reader-04", "reader-05",
    ]  # fmt: skip


async def test_a_price_that_falls_between_pages_hides_nobody_else(listings: Listings) -> None:
    await shelf_of(listings, 6)
    first = await listings.list(sort=Sort.PRICE, limit=2)
    await put(listings, bundle("reader-05", summary="Reads letters.", pricing={"per_run": "0.001"}, version="1.1.0"))
    rest = await listings.list(sort=Sort.PRICE, limit=10, cursor=first.next_cursor)
    assert ids(rest) == ["reader-02", "reader-03", "reader-04"], "the one that fell is on a page before"
    assert ids(await listings.list(sort=Sort.PRICE, limit=1)) == ["reader-05"]


@pytest.mark.parametrize("sort", Sort)
async def test_pages_of_every_size_hold_the_same_listings_in_the_same_order(listings: Listings, sort: Sort) -> None:
    await shelf_of(listings, 7)
    whole = ids(await listings.list(query="reader", sort=sort, limit=100))
    assert sorted(whole) == [f"reader-{n:02}" for n in range(7)]
    for limit in (1, 2, 6, 7, 8):
        assert await every_page(listings, limit, query="reader", sort=sort) == whole


async def test_publishing_at_the_same_time_leaves_one_listing_with_one_version(listings: Listings) -> None:
    await asyncio.gather(*(put(listings, bundle("reader")) for _ in range(8)))
    assert ids(await listings.list()) == ["reader"]
    assert [version["version"] for version in await listings.versions("org.test.reader")] == ["1.0.0"]


async def test_searches_during_changes_always_answer(listings: Listings) -> None:
    await shelf_of(listings, 5)

    async def change() -> None:
        for status in (ListingStatus.MAINTENANCE, ListingStatus.ACTIVE) * 3:
            await listings.set_status("org.test.reader-02", status)

    async def search() -> list[str]:
        return await every_page(listings, 2, query="letters")

    *found, _ = await asyncio.gather(search(), search(), search(), change())
    steady = {"reader-00", "reader-01", "reader-03", "reader-04"}
    for names in found:
        assert steady <= set(names)
        assert len(names) == len(set(names))


@pytest.mark.parametrize("status", [status for status in ListingStatus if status is not ListingStatus.ACTIVE])
async def test_in_any_other_state_an_agent_is_known_but_neither_found_nor_sold(
    listings: Listings, status: ListingStatus
) -> None:
    await put(listings, bundle("reader"))
    await listings.set_status("org.test.reader", status)
    assert (await listings.get("org.test.reader")).status is status
    assert ids(await listings.list()) == []
    assert await listings.categories() == {}
    with pytest.raises(NotFound, match=status.value) as refused:
        await listings.for_sale("org.test.reader")
    assert refused.value.next_step == "look for another agent"
    assert refused.value.details == {"agent": "org.test.reader"}


HOSTILE = [
    "'; drop table marketplace.listing; --",
    "a & b | !c <-> d",
    "\\",
    "'",
    "reader:*",
    "(((",
    "%_%",
    "\x00",
    "😀",
    "a" * 5000,
    " ".join(["reader"] * 500),
    "\u202ereader",
]


async def test_hostile_words_break_nothing_and_the_catalogue_stays(listings: Listings) -> None:
    await shelf_of(listings, 2)
    for text in HOSTILE:
        page = await listings.list(query=text, category=text[:50], capability=text[:50])
        assert page.listings == () or text == "\x00", "no more than nothing is asked for by a NUL"
        await listings.list(query=text)
    assert len((await listings.list()).listings) == 2


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("", ""),
        ("   ", ""),
        ("!!!", ""),
        ("Read", "'read':*"),
        ("read letters", "'read' & 'letters':*"),
        ("read_letters", "'read' & 'letters':*"),
        ("O'Brien", "'o' & 'brien':*"),
        ("a:* | b", "'a' & 'b':*"),
        ("über straße", "'über' & 'straße':*"),
    ],
)
def test_words_become_a_query_without_operators(text: str, asked: str) -> None:
    assert prefix_query(text) == asked


def test_only_so_many_words_are_searched_for() -> None:
    assert prefix_query("w " * 100).count("&") == WORDS_MAX - 1


def forged(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x", "=", "ä", "null", forged(), forged("1"), forged("one", "id", "a"), forged("1", 5, "a"),
        forged("1", "id", "z"), forged("1", "id", "a", "more"), forged(None, None, None), forged({"a": 1}, "id", "a"),
        forged("1" * 400, "id", "a"), "A" * 501,
    ],
)  # fmt: skip
async def test_a_forged_cursor_is_refused_or_harmless(listings: Listings, cursor: str) -> None:
    await shelf_of(listings, 2)
    try:
        page = await listings.list(cursor=cursor)
    except InvalidInput as refused:
        assert refused.details["field"] == "cursor"
        assert refused.next_step
    else:
        assert set(ids(page)) <= {"reader-00", "reader-01"}


@pytest.mark.parametrize("value", ["0", "-5", "123456789.123456789", "0.000000001"])
def test_a_cursor_keeps_its_position_exactly(value: str) -> None:
    position = Position(Decimal(value), "org.test.a", "w")
    assert Position.decode(position.encode()) == position


@pytest.mark.parametrize(
    ("least", "most", "found"),
    [
        (None, None, ["00", "01", "02"]),
        ("0.02", None, ["01", "02"]),
        (None, "0.02", ["00", "01"]),
        ("0.02", "0.02", ["01"]),
        ("0.0200001", "0.0299", []),
        ("0.03", "0.01", []),
        ("0", "1000000", ["00", "01", "02"]),
    ],
)
async def test_price_limits_include_their_ends(
    listings: Listings, least: str | None, most: str | None, found: list[str]
) -> None:
    await shelf_of(listings, 3)
    page = await listings.list(
        sort=Sort.PRICE,
        min_price=None if least is None else Decimal(least),
        max_price=None if most is None else Decimal(most),
    )
    assert [name.removeprefix("reader-") for name in ids(page)] == found
