"""Results of strangers: each shape has its picture, nothing becomes markup, nothing is too large."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.core.errors import NotFound
from agentnexus.web.rendering import environment
from agentnexus.web.results import Block, blocks_of, find_file
from agentnexus.web.results.files import FoundFile, file_of
from agentnexus.web.results.markdown import parse_markdown, spans, web_url
from tests.web import samples

DRAW = environment().from_string('{% import "components/results.html" as r %}{{ r.result(blocks, "/tasks/wf_1") }}')
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 40).decode()


def html(value: object) -> str:
    return DRAW.render(blocks=blocks_of(value))


def kinds(value: object) -> list[str]:
    return [block.kind for block in blocks_of(value)]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("short", "fact"),
        ("long " * 40, "text"),
        ("# Title\n\n- a\n- b", "markdown"),
        ("https://example.org/a", "link"),
        (12.5, "fact"),
        (None, "empty"),
        ([], "empty"),
        ({}, "empty"),
        (["north", "south"], "words"),
        (["A whole sentence that is longer than a word.", "b"], "list"),
        ([{"n": 1, "tables": [{"rows": [["a"]]}]}, {"n": 2, "tables": []}], "list"),
        ([{"a": 1, "b": 2}, {"a": 3, "b": 4}], "table"),
        ([["name", "n"], ["x", 1]], "table"),
        ([{"text": "word " * 100, "page": 1}], "list"),
        (PNG, "picture"),
        ("<svg xmlns='http://www.w3.org/2000/svg'></svg>", "picture"),
        ({"name": "a.csv", "media_type": "text/csv", "data": "YSxi"}, "file"),
    ],
)
def test_each_shape_is_drawn_as_what_it_is(value: object, kind: str) -> None:
    assert kinds(value) == [kind]


def test_the_envelope_shows_warnings_first_and_the_engine_last_of_the_facts() -> None:
    blocks = blocks_of(samples.RESULT)
    assert blocks[0] == Block("note", text="Page 17 is a scan: its text could not be read.")
    facts = next(block for block in blocks if block.kind == "facts")
    assert (facts.children[-1].label, facts.children[-1].text) == ("Engine", "rules")
    assert "cost" not in {block.label.lower() for block in blocks}


def test_what_people_came_for_is_first() -> None:
    blocks = blocks_of({"result": {"words": 12, "answer": "Because of the rain, which did not stop. " * 4}})
    assert blocks[0].label == "Answer"


def test_neighbouring_short_answers_become_one_list_of_facts() -> None:
    (facts,) = blocks_of({"pages": 3, "language": "en", "scanned": False})
    assert [(child.label, child.text) for child in facts.children] == [
        ("Pages", "3"),
        ("Language", "en"),
        ("Scanned", "no"),
    ]


def test_a_schema_names_fields_and_says_what_is_a_file() -> None:
    schema = {
        "type": "object",
        "properties": {
            "r": {"type": "string", "title": "The report"},
            "f": {"type": "string", "contentEncoding": "base64"},
        },
    }
    facts, file = blocks_of({"r": "x", "f": "AAAA"}, schema)
    assert facts.children[0].label == "The report"
    assert file.kind == "file"
    assert file.file is not None
    assert file.file.read() == b"\0\0\0"


def test_tables_align_numbers_and_count_what_they_leave_out() -> None:
    (table,) = blocks_of([{"name": f"n{n}", "value": n} for n in range(500)])
    assert table.columns == ("Name", "Value")
    assert table.numeric == (False, True)
    assert len(table.rows) == 200
    assert table.more == 300
    assert "300 more not shown here" in html([{"name": f"n{n}", "value": n} for n in range(500)])


def test_what_is_empty_is_not_shown_and_small_parts_fit_in_a_cell() -> None:
    (table,) = blocks_of(
        [{"name": "a", "gone": None, "stats": {"mean": 2, "max": None}, "top": [{"v": "x", "n": 3}, "y"]}]
    )
    assert table.columns == ("Name", "Stats", "Top")
    assert table.rows == (("a", "Mean: 2", "x, y"),)
    assert [block.kind for block in blocks_of({"title": None, "items": [], "n": 1})] == ["facts"]


def test_rows_of_different_shape_share_one_table() -> None:
    (table,) = blocks_of([{"a": 1, "b": "x"}, {"b": "y", "c": True}])
    assert table.rows == (("1", "x", ""), ("", "y", "yes"))


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "data:text/html,<script>",
        "http://user:pass@bank.example/",
        "//x",
        "ftp://a",
        "http://[",
        "",
    ],
)
def test_only_plain_web_addresses_become_links(address: str) -> None:
    assert web_url(address) == ""
    assert "href" not in html(f"[click]({address}) and **more**")


def test_markdown_is_read_as_far_as_it_is_safe() -> None:
    parts = parse_markdown("# H\n\ntext **b** *i* `c` [l](https://a.example)\n\n1. x\n2. y\n\n```\n<b>\n```")
    assert [part.kind for part in parts] == ["heading", "paragraph", "numbers", "code"]
    assert [span.kind for span in parts[1].lines[0]] == ["text", "strong", "text", "em", "text", "code", "text", "link"]
    assert spans("no marks")[0].text == "no marks"
    assert [part.kind for part in parse_markdown("```\nnever closed")] == ["code"]


def test_numbered_headings_keep_their_numbers() -> None:
    drawn = html("1. Term\n\nFive years.\n\n2. Rent\n\nMonthly.\n\n7) Use\n8) Dogs")
    assert re.findall(r"<ol[^>]*>", drawn) == ["<ol>", '<ol start="2">', '<ol start="7">']


def test_pictures_are_only_ever_shown_through_img() -> None:
    drawn = html({"result": {"chart": {"media_type": "image/svg+xml", "title": "C", "data": samples.SVG}}})
    assert '<img src="data:image/svg+xml;base64,' in drawn
    assert "<svg xmlns" not in drawn
    assert "<script" not in drawn


@pytest.mark.parametrize("media", ["text/html", "application/xhtml+xml", "image/svg+xml;x=1", "image/bmp", "../../x"])
def test_nothing_but_known_pictures_is_inlined(media: str) -> None:
    found = file_of({"media_type": media, "data": "YSxi"})
    assert found is None or found.picture == ""


def test_a_picture_too_large_for_the_page_is_a_download() -> None:
    large = FoundFile("a.png", "image/png", "A" * 4_000_000)
    assert large.picture == ""


@pytest.mark.parametrize("name", ["../../etc/passwd", 'a"b\r\nSet-Cookie: x', "ü" * 300, "", "...", "a/b\\c"])
def test_file_names_cannot_break_out_of_the_header(name: str) -> None:
    found = file_of({"name": name, "media_type": "text/plain", "data": "YSxi"})
    assert found is not None
    assert found.name.isascii()
    assert not set('"/\\\r\n') & set(found.name)
    assert 0 < len(found.name) <= 90


def test_files_are_found_again_by_their_pointer() -> None:
    value = {"result": {"a/b": [{"x": 1}, {"name": "f.csv", "media_type": "text/csv", "data": "YSxi"}]}}
    (block,) = blocks_of(value)
    assert find_file(value, "/result/a~1b/1").read() == b"a,b"
    assert block.children[1].pointer == "/result/a~1b/1"
    for nowhere in ("", "/", "/result", "/result/a~1b/0", "/result/a~1b/99999999", "/result/a~1b/-1", "x"):
        with pytest.raises(NotFound):
            find_file(value, nowhere)


def test_what_only_looks_like_base64_is_no_file() -> None:
    with pytest.raises(NotFound):
        FoundFile("a", "text/plain", "not base64!").read()


def test_no_result_becomes_markup() -> None:
    attack = samples.ATTACK
    parts = {"l": [attack], "t": [{attack: attack, "b": 1}], "m": f"# {attack}\n- {attack}", "d": {attack: [[attack]]}}
    drawn = html({"result": {attack: attack, **parts}, "warnings": [attack], "engine": attack})
    assert "<script" not in drawn
    assert "<img src=x" not in drawn


def test_deep_and_large_results_stay_bounded() -> None:
    deep: object = "end"
    for _ in range(300):
        deep = {"x": [deep]}
    assert len(html(deep)) < 100_000
    assert len(html([[n, [n]] for n in range(20_000)])) < 400_000
    assert len(html("x" * 3_000_000)) < 100_000
    assert html(10**5000)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=60)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)),
    max_leaves=25,
)


@settings(max_examples=200, deadline=None)
@given(value=json_values)
def test_any_json_value_can_be_shown(value: object) -> None:
    drawn = html({"result": value, "warnings": ["<i>careful"]})
    assert "<i>" not in drawn
    html(value)


def test_results_of_several_agents_are_each_drawn_as_their_own() -> None:
    blocks = blocks_of(
        {"Summary of a.pdf": {"result": {"summary": "Long. " * 30}, "engine": "rules", "warnings": ["Careful"]}}
    )
    (group,) = blocks
    assert group.label == "Summary of a.pdf"
    assert [child.kind for child in group.children] == ["note", "text", "facts"]
    assert group.children[1].pointer == "/Summary of a.pdf/result/summary"


@pytest.mark.parametrize(
    ("value", "columns", "first"),
    [
        # Rows beside the names of their columns, as the spreadsheet analyzer answers.
        (
            {"columns": ["region", "sum of units"], "rows": [["North", 211]]},
            ("Region", "Sum of units"),
            ("North", "211"),
        ),
        (
            {"columns": [{"name": "city", "nulls": 0}, {"name": "units", "nulls": 1}], "preview": [["Oslo", 211]]},
            ("City", "Units"),
            ("Oslo", "211"),
        ),
        # Rows alone: a heading only where the first row names columns.
        ([["name", "n"], ["x", 1]], ("name", "n"), ("x", "1")),
        ([["North", 211], ["South", 3]], ("Column 1", "Column 2"), ("North", "211")),
        ([["2024", "211"], ["2025", "3"]], ("Column 1", "Column 2"), ("2024", "211")),
        ([["a", "a"], ["x", "y"]], ("Column 1", "Column 2"), ("a", "a")),
        ([["a", ""], ["x", "y"]], ("Column 1", "Column 2"), ("a", "")),
        ([["only", "row"]], ("Column 1", "Column 2"), ("only", "row")),
        # Names that are not those of the rows say nothing about them.
        ({"columns": ["a", "b", "c"], "rows": [[1, 2]]}, ("Column 1", "Column 2"), ("1", "2")),
        ({"columns": ["a", 5], "rows": [[1, 2]]}, ("Column 1", "Column 2"), ("1", "2")),
    ],
)
def test_a_column_is_called_by_its_name_and_never_by_its_first_figure(
    value: object, columns: tuple[str, ...], first: tuple[str, ...]
) -> None:
    (table,) = [block for block in blocks_of({"result": value}) if block.kind == "table" and block.label != "Columns"]
    assert (table.columns, table.rows[0]) == (columns, first)


def test_names_that_head_their_rows_are_not_listed_once_more() -> None:
    assert [block.kind for block in blocks_of({"columns": ["a", "b"], "rows": [[1, 2]]})] == ["table"]
    described = {"columns": [{"name": "a", "nulls": 1}, {"name": "b", "nulls": 2}], "preview": [[1, 2]]}
    assert [block.kind for block in blocks_of(described)] == ["table", "table"]


def test_the_most_frequent_values_are_said_and_not_how_often() -> None:
    rows = [
        {"name": name, "stats": {"top": [{"count": 2, "value": name}, {"count": 1, "value": "b"}]}} for name in "xy"
    ]
    (table,) = blocks_of({"columns": rows})
    assert [row[1] for row in table.rows] == ["Top: x, b", "Top: y, b"]
