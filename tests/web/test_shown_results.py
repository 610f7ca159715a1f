"""Results drawn at their edges: every kind of value, every limit just met and just passed, Markdown of strangers."""

from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import NotFound
from agentnexus.web.results import Block, blocks_of, find_file
from agentnexus.web.results import blocks as drawing
from agentnexus.web.results.files import MAX_INLINE, PICTURES, FoundFile, file_of
from agentnexus.web.results.markdown import Part, Span, looks_like_markdown, parse_markdown, spans, web_url
from tests.web.test_results import PNG, html, kinds

GIF = base64.b64encode(b"GIF89a" + b"\0" * 30).decode()
PDF = base64.b64encode(b"%PDF-1.7\n" + b"\0" * 30).decode()


def only(value: object, schema: dict[str, object] | None = None) -> Block:
    (block,) = blocks_of(value, schema)
    return block


def text_of(value: object) -> str:
    """How one value reads inside a list of facts."""
    (facts,) = blocks_of({"x": value, "y": "other"})
    return facts.children[0].text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (1234567, "1,234,567"),
        (-5, "-5"),
        (1.0, "1"),
        (0.1 + 0.2, "0.3"),
        (1e-7, "1e-07"),
        (99999.5, "99,999.5"),
        (999999.5, "999,999.5"),
        (1234567.891, "1,234,567.89"),
        (2500000.0, "2,500,000"),
        (-1234567.5, "-1,234,567.5"),
        (1e15, "1e+15"),
        (float("inf"), "inf"),
        (2**127 - 1, f"{2**127 - 1:,}"),
        (2**127, "a number of 128 bits"),
        ("plain", "plain"),
    ],
)
def test_short_values_read_as_people_write_them(value: object, shown: str) -> None:
    assert text_of(value) == shown


@pytest.mark.parametrize("value", [None, "", [], {}, [[]], [[], []], ()])
def test_nothing_is_shown_as_nothing(value: object) -> None:
    assert kinds(value) == ["empty"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x" * 80, "fact"),
        ("x" * 81, "text"),
        ("two\nlines", "text"),
        ("https://example.org", "link"),
        ("https://example.org and more", "fact"),
        ("ftp://example.org", "fact"),
        ("https://user@example.org", "fact"),
        ("# Heading", "markdown"),
        ("#no heading", "fact"),
        ("- item", "markdown"),
        ("-no item", "fact"),
        ("1. first", "markdown"),
        ("2023. A good year", "fact"),
        ("**bold**", "markdown"),
        ("2 * 3 * 4", "fact"),
        ("```\ncode", "markdown"),
    ],
)
def test_a_text_is_what_it_looks_like(text: str, kind: str) -> None:
    assert kinds(text) == [kind]


def test_a_long_text_is_cut_and_says_by_how_much() -> None:
    plain, marked = only("x" * (drawing.MAX_TEXT + 7)), only("# T\n" + "x" * (drawing.MAX_TEXT + 3))
    assert (len(plain.text), plain.more) == (drawing.MAX_TEXT, 7)
    assert marked.more == 7
    assert only("x" * drawing.MAX_TEXT).more == 0


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([{"a": 1, "b": 2}], "table"),
        ([{"a": 1}], "list"),
        ([{"a": 1}, {"b": 2}], "table"),
        ([{"a": "x" * 300, "b": 1}], "table"),
        ([{"a": "x" * 301, "b": 1}], "list"),
        ([{f"c{n}": n for n in range(drawing.MAX_COLUMNS)}], "table"),
        ([{f"c{n}": n for n in range(drawing.MAX_COLUMNS + 1)}], "list"),
        ([{"a": 1, "b": 2}, "text"], "list"),
        ([{"a": [1, 2], "b": {"c": 3}}], "table"),
        ([{"a": [[1], [2]], "b": 1}], "list"),  # a table in a cell is drawn as one, below the rest
        ([{"a": {"b": {"c": {"d": {"e": 1}}}}, "f": 1}], "list"),
        ([{"a": [[[[1]]]], "b": 1}], "list"),
        ([[1, 2], [3, 4]], "table"),
        ([[1, [2]], [3]], "list"),
        (["a", "b"], "words"),
        (["a"], "list"),
        (["a" * 32, "b"], "words"),
        (["a" * 33, "b"], "list"),
        ([1, 2, 3], "list"),
    ],
)
def test_a_list_is_a_table_where_it_is_one(rows: list[object], kind: str) -> None:
    assert kinds(rows) == [kind]


@pytest.mark.parametrize(
    ("column", "numeric"),
    [([1, 2.5, None], True), ([None, None], False), ([1, "2"], False), ([True, False], False), ([0], True)],
)
def test_a_column_is_numeric_when_all_that_is_known_is_numbers(column: list[object], numeric: bool) -> None:
    table = only([{"n": value, "name": "x"} for value in column])
    found = dict(zip(table.columns, table.numeric, strict=True))
    assert found.get("N", False) is numeric


def test_columns_that_are_empty_in_every_row_are_left_out() -> None:
    assert only([{"a": 1, "b": None, "c": "x"}, {"a": 2, "b": "", "c": "y"}]).columns == ("A", "C")


def test_uneven_rows_of_a_grid_are_filled_up() -> None:
    table = only([["name", "n"], ["x"], ["y", 2, 3]])
    assert table.columns == ("name", "n", "")
    assert table.rows == (("x", "", ""), ("y", "2", "3"))


@pytest.mark.parametrize(("count", "shown", "more"), [(200, 200, 0), (201, 200, 1), (5000, 200, 4800)])
def test_long_tables_say_what_they_leave_out(count: int, shown: int, more: int) -> None:
    table = only([{"a": n, "b": n} for n in range(count)])
    assert (len(table.rows), table.more) == (shown, more)


@pytest.mark.parametrize(("count", "more"), [(50, 0), (51, 1)])
def test_long_lists_say_what_they_leave_out(count: int, more: int) -> None:
    block = only(["a sentence that is longer than a mere word is"] * count)
    assert (len(block.children), block.more) == (min(count, 50), more)


@pytest.mark.parametrize(("count", "more"), [(100, 0), (101, 1)])
def test_long_rows_of_words_say_what_they_leave_out(count: int, more: int) -> None:
    block = only(["word"] * count)
    assert (len(block.columns), block.more) == (min(count, 100), more)


def test_every_part_knows_its_place_in_the_result() -> None:
    value = {"result": {"pages": [{"text": "x" * 400, "n": 1}], "a/b": {"c~d": "long " * 40, "e": 1}}}
    places: dict[str, str] = {}

    def walk(blocks: tuple[Block, ...]) -> None:
        for block in blocks:
            places[block.pointer] = block.kind
            walk(block.children)

    walk(blocks_of(value))
    assert places["/result/pages"] == "list"
    assert places["/result/pages/0/text"] == "text"
    assert places["/result/a~1b/c~0d"] == "text"


def test_the_envelope_puts_warnings_before_and_sources_after_the_result() -> None:
    value = {
        "warnings": ["careful", "", None],
        "result": "long answer " * 20,
        "sources": [{"name": "a", "page": 1}],
        "engine": "rules",
        "cost": {"usd": 1},
    }
    assert [block.kind for block in blocks_of(value)] == ["note", "text", "table", "facts"]
    assert "cost" not in html(value).lower()


def test_warnings_of_any_shape_are_words() -> None:
    notes = [
        block.text
        for block in blocks_of({"result": 1, "warnings": [{"page": 3}, 5, "x" * 999]})
        if block.kind == "note"
    ]
    assert [len(note) for note in notes] == [len(notes[0]), 1, 600]
    assert blocks_of({"result": 1, "warnings": "not a list"})


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        (PNG, "image/png"),
        (GIF, "image/gif"),
        (PDF, "application/pdf"),
        ("<svg></svg>", "image/svg+xml"),
        ("  <?xml version='1.0'?> <svg></svg>", "image/svg+xml"),
        ({"data": PNG, "media_type": "image/png"}, "image/png"),
        ({"content": "a,b", "mime_type": "text/csv"}, "text/csv"),
        ({"base64": "YSxi", "mimeType": "application/zip"}, "application/zip"),
        ({"svg": "<svg></svg>", "media_type": "image/svg+xml"}, "image/svg+xml"),
        ({"data": "{}", "content_type": "application/json"}, "application/json"),
    ],
)
def test_a_file_is_known_by_its_type_or_its_first_bytes(value: object, media_type: str) -> None:
    found = file_of(value)
    assert found is not None
    assert found.media_type == media_type
    assert found.size_bytes == len(found.read())


@pytest.mark.parametrize(
    "value",
    [
        "hello", "<svgx>", "iVBORw0KGgo!", {"data": "a,b"}, {"media_type": "text/csv"},
        {"data": "", "media_type": "a/b"}, {"data": "plain", "media_type": "application/zip"},
        {"data": 5, "media_type": "text/csv"}, {"data": "YSxi", "media_type": "x"},
        {"data": "YSxi", "media_type": "TEXT/CSV"}, None, 5, [], {},
    ],
)  # fmt: skip
def test_what_is_no_file_is_shown_as_what_it_is(value: object) -> None:
    assert file_of(value) is None


def test_a_plain_base64_text_is_a_file_only_where_the_schema_says_so() -> None:
    schema: dict[str, object] = {"properties": {"f": {"type": "string", "contentEncoding": "base64"}}}
    assert only({"f": "YSxi"}, schema).kind == "file"
    assert kinds({"f": "YSxi"}) == ["facts"]


@pytest.mark.parametrize(
    ("name", "media_type", "safe"),
    [
        ("report.pdf", "application/pdf", "report.pdf"),
        ("report", "application/pdf", "report.pdf"),
        ("", "image/svg+xml", "file.svg"),
        ("data", "application/octet-stream", "data.bin"),
        ("notes", "text/plain", "notes.txt"),
        ("a/b\\c.txt", "text/plain", "a-b-c.txt"),
        (".htaccess", "text/plain", "htaccess.txt"),
        ("x\r\nSet-Cookie: a.txt", "text/plain", "x-Set-Cookie- a.txt"),
    ],
)
def test_names_become_safe_and_get_an_ending(name: str, media_type: str, safe: str) -> None:
    found = file_of({"name": name, "media_type": media_type, "data": "YSxi"}, "file")
    assert found is not None
    assert found.name == safe


@pytest.mark.parametrize("media_type", sorted(PICTURES))
@pytest.mark.parametrize(("length", "shown"), [(MAX_INLINE, True), (MAX_INLINE + 4, False)])
def test_pictures_are_shown_up_to_their_limit(media_type: str, length: int, shown: bool) -> None:
    found = FoundFile("a", media_type, "A" * length)
    assert found.picture.startswith(f"data:{media_type};base64,") is shown


def test_half_a_surrogate_in_a_picture_or_text_does_not_break_the_page() -> None:
    lone = "<svg>\ud800</svg>"
    drawn = html({"result": {"picture": lone, "text": "\ud800 " * 50}})
    assert "data:image/svg+xml" in drawn
    found = find_file({"a": lone}, "/a")
    assert found.read() == b"<svg>?</svg>"
    assert found.size_bytes == len(found.read())


@pytest.mark.parametrize("pointer", ["", "/", "/x", "/files", "/files/9", "/files/-1", "/files/²", "/files/0/data/x"])
def test_a_pointer_to_no_file_is_not_found_with_another_way(pointer: str) -> None:
    with pytest.raises(NotFound) as refused:
        find_file({"files": [{"name": "a", "media_type": "text/csv", "data": "YSxi"}]}, pointer)
    assert refused.value.next_step == "Download the whole result instead."


@given(
    st.recursive(st.text(max_size=9) | st.none() | st.integers(), st.lists, max_leaves=5), st.text("/~01ab", max_size=9)
)
def test_any_pointer_into_any_result_is_a_file_or_not_found(value: object, pointer: str) -> None:
    with suppress(NotFound):
        assert isinstance(find_file(value, pointer).read(), bytes)


# --- Markdown ---------------------------------------------------------------------------------------------------------


def parts(text: str) -> list[tuple[str, list[str]]]:
    return [(part.kind, ["".join(span.text for span in line) for line in part.lines]) for part in parse_markdown(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n\n \n", []),
        ("one\ntwo", [("paragraph", ["one", "two"])]),
        ("one\n\ntwo", [("paragraph", ["one"]), ("paragraph", ["two"])]),
        ("# A #\ntext", [("heading", ["A"]), ("paragraph", ["text"])]),
        ("####### seven", [("paragraph", ["####### seven"])]),
        ("- a\n* b\n+ c\nd", [("bullets", ["a", "b", "c"]), ("paragraph", ["d"])]),
        ("1. a\n2) b", [("numbers", ["a", "b"])]),
        ("12345. a", [("paragraph", ["12345. a"])]),
        ("text\n- a", [("paragraph", ["text"]), ("bullets", ["a"])]),
        ("```py\n# no heading\n```\nafter", [("code", ["# no heading"]), ("paragraph", ["after"])]),
        ("```\nopen\n\nstill", [("code", ["open\n\nstill"])]),
        ("a\r\nb", [("paragraph", ["a", "b"])]),
    ],
)
def test_markdown_becomes_these_parts(text: str, expected: list[tuple[str, list[str]]]) -> None:
    assert parts(text) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a **b** c", (Span("text", "a "), Span("strong", "b"), Span("text", " c"))),
        ("*i*", (Span("em", "i"),)),
        ("2 * 3 * 4", (Span("text", "2 * 3 * 4"),)),
        ("`**x**`", (Span("code", "**x**"),)),
        ("[l](https://a.example/?x=(1)", (Span("link", "l", "https://a.example/?x=(1"),)),
        ("[l](javascript:alert(1))", (Span("text", "[l](javascript:alert(1)"), Span("text", ")"))),
        ("[l](/local)", (Span("text", "[l](/local)"),)),
        ("**open", (Span("text", "**open"),)),
        ("<b>no</b>", (Span("text", "<b>no</b>"),)),
    ],
)
def test_a_line_becomes_these_pieces(line: str, expected: tuple[Span, ...]) -> None:
    assert spans(line) == expected


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://example.org", True),
        ("HTTPS://EXAMPLE.org", True),
        ("http://127.0.0.1:8080/x", True),
        ("https://", False),
        ("https:example.org", False),
        ("https://a:b@example.org", False),
        ("https://@example.org", False),
        ("javascript://example.org/%0aalert(1)", False),
        ("data:text/html,x", False),
        ("http://[::1", False),
    ],
)
def test_only_plain_web_addresses_are_links(address: str, kept: bool) -> None:
    assert web_url(address) == (address if kept else "")


@given(st.text("ab *_`#-[]()\n.1", max_size=80))
def test_no_word_of_a_markdown_text_is_lost(text: str) -> None:
    said = "".join(span.text for part in parse_markdown(text) for line in part.lines for span in line)
    for character in "ab":
        found, written = said.count(character), text.count(character)
        assert found == written or "```" in text or "](" in text


@given(st.text(max_size=200))
def test_any_text_is_parsed_into_known_parts(text: str) -> None:
    for part in parse_markdown(text):
        assert isinstance(part, Part)
        assert part.kind in ("paragraph", "heading", "code", "bullets", "numbers")
        assert (1 <= part.level <= 6) == (part.kind == "heading")
    assert looks_like_markdown(text) in (True, False)


def test_the_tables_of_a_documents_pages_are_tables() -> None:
    pages = [{"n": 1, "tables": [[["Source", "Share"], ["Solar", "3"], ["Wind", "4"]]]}, {"n": 2, "tables": []}]
    (block,) = blocks_of({"pages": pages})
    assert block.kind == "list"
    first = block.children[0]
    tables = next(child for child in first.children if child.label == "Tables")
    assert (tables.children[0].kind, tables.children[0].columns) == ("table", ("Source", "Share"))


def test_what_people_came_for_stands_first_and_how_it_was_found_last() -> None:
    result = {
        "query": {"column": "a", "pivot": False}, "tables": ["x" * 40, "y" * 40], "findings": ["f" * 40, "g" * 40],
        "query_result": {"columns": ["a"], "rows": [[1]]}, "answer": "It is one. " * 20,
    }  # fmt: skip
    assert [block.label for block in blocks_of(result)] == ["Answer", "Query result", "Findings", "Tables", "Query"]
