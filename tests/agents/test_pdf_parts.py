"""The parts of the PDF extractor one by one: cells, details, opening."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reportlab.pdfgen.canvas import Canvas

from agentnexus.sdk import Refusal
from tests.agents.support import drawn, load, picture_page, text_page


@pytest.fixture(scope="module", autouse=True)
def parts() -> SimpleNamespace:
    load("pdf-extractor")
    import field_search
    import pdf_details
    import pdf_opening
    import pdf_pages
    import pdf_tables

    return SimpleNamespace(
        fields=field_search, details=pdf_details, opening=pdf_opening, pages=pdf_pages, tables=pdf_tables
    )


def reader_of(data: bytes) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(data))


@pytest.mark.parametrize(
    ("rows", "cleaned"),
    [
        ([["a", "b"], ["1", "2"]], [["a", "b"], ["1", "2"]]),
        ([["a", None], ["1", "2"]], [["a", ""], ["1", "2"]]),
        ([["a", "", "b"], ["1", None, "2"]], [["a", "b"], ["1", "2"]]),
        ([["a\nb", " c  d "], ["\x00", "x"]], [["a b", "c d"], ["", "x"]]),
        ([["", ""], ["a", "b"]], [["a", "b"]]),
        ([["a"], ["b", "c"]], [["a", ""], ["b", "c"]]),
        ([], []),
    ],
)
def test_cells_are_single_lines_and_empty_rows_and_columns_go(
    parts: SimpleNamespace, rows: list[list[str | None]], cleaned: list[list[str]]
) -> None:
    assert parts.tables.clean(rows) == cleaned


@given(st.lists(st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=5), max_size=6))
def test_cleaned_tables_are_rectangles_without_empty_rows(parts: SimpleNamespace, rows: list[list[str | None]]) -> None:
    cleaned = parts.tables.clean(rows)

    assert len({len(row) for row in cleaned}) <= 1
    assert all(any(row) for row in cleaned)


@pytest.mark.parametrize(
    ("table", "is_table"),
    [([["a", "b"], ["1", "2"]], True), ([["a", "b"]], False), ([["a"], ["b"]], False)],
)
def test_a_frame_around_one_text_is_no_table(parts: SimpleNamespace, table: list[list[str]], is_table: bool) -> None:
    assert parts.tables.is_table(table) is is_table


def test_pages_out_of_time_are_named_and_not_searched(parts: SimpleNamespace) -> None:
    data = drawn(text_page("one"), text_page("two"))

    found, skipped = parts.tables.read_tables(
        data, [1, 2], password=None, budget_seconds=-1, on_page=lambda _number: None
    )

    assert (found, skipped) == ({}, [1, 2])


def test_pages_too_dense_to_search_are_skipped(parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.tables, "MAX_OBJECTS_PER_PAGE", 3)

    found, skipped = parts.tables.read_tables(
        drawn(text_page("many letters")), [1], password=None, budget_seconds=9, on_page=lambda _number: None
    )

    assert (found, skipped) == ({}, [1])


def test_a_file_the_table_reader_cannot_open_skips_all_pages(parts: SimpleNamespace) -> None:
    found, skipped = parts.tables.read_tables(
        b"%PDF-1.4 broken", [1, 2], password=None, budget_seconds=9, on_page=lambda _number: None
    )

    assert (found, skipped) == ({}, [1, 2])


def test_times_are_utc_whatever_zone_they_were_written_in(parts: SimpleNamespace) -> None:
    plus_two = timezone(timedelta(hours=2))

    assert parts.details.rfc3339(datetime(2024, 1, 2, 3, 4, 5, tzinfo=plus_two)) == "2024-01-02T01:04:05Z"
    assert parts.details.rfc3339(datetime(2024, 1, 2, 3, 4, 5)) == "2024-01-02T03:04:05Z"
    assert parts.details.rfc3339(datetime(2024, 1, 2, tzinfo=UTC)) == "2024-01-02T00:00:00Z"


def test_nested_outlines_keep_their_levels(parts: SimpleNamespace) -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(drawn(text_page("a"), text_page("b"))))
    top = writer.add_outline_item(title="Chapter", page_number=0)
    writer.add_outline_item(title="Section", page_number=1, parent=top)
    buffer = io.BytesIO()
    writer.write(buffer)

    outline = parts.details.read_outline(reader_of(buffer.getvalue()))

    assert outline == [(1, "Chapter", 1), (2, "Section", 2)]


def test_a_document_without_properties_still_tells_its_version(parts: SimpleNamespace) -> None:
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.metadata = None
    buffer = io.BytesIO()
    writer.write(buffer)

    assert parts.details.read_metadata(reader_of(buffer.getvalue()))["pdf_version"][0] == "1"


@pytest.mark.parametrize("fault", [KeyError, ValueError, RecursionError, pypdf.errors.PdfReadError])
def test_a_detail_a_damaged_file_does_not_give_is_missing(parts: SimpleNamespace, fault: type[Exception]) -> None:
    def read() -> str:
        raise fault("damaged")

    assert parts.details.tolerant(read, "nothing") == "nothing"


def test_pictures_are_counted_also_inside_forms(parts: SimpleNamespace) -> None:
    def in_a_form(canvas: Canvas) -> None:
        canvas.beginForm("stamp")
        picture_page(canvas)
        canvas.endForm()
        canvas.doForm("stamp")

    data = drawn(picture_page, in_a_form, text_page("none"))

    assert [parts.pages.count_images(page) for page in reader_of(data).pages] == [1, 1, 0]


@pytest.mark.parametrize(
    ("raw", "tidied"),
    [("a  \nb", "a\nb"), ("a\n\n\n\nb", "a\n\nb"), ("\x00a\r\nb\n", "a\nb"), ("  ", "")],
)
def test_text_is_tidied(parts: SimpleNamespace, raw: str, tidied: str) -> None:
    assert parts.pages.tidy(raw) == tidied


def test_documents_without_or_with_too_many_pages_are_refused(
    parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = pypdf.PdfWriter()
    buffer = io.BytesIO()
    writer.write(buffer)
    with pytest.raises(Refusal, match="no pages"):
        parts.opening.open_pdf(buffer.getvalue(), None)
    monkeypatch.setattr(parts.opening, "MAX_PAGES", 1)
    with pytest.raises(Refusal, match="has 2 pages"):
        parts.opening.open_pdf(drawn(text_page("a"), text_page("b")), None)


@pytest.mark.parametrize(
    ("raw", "kind", "value"),
    [
        ("EUR 1,234.50 incl. tax", "number", 1234.5),
        ("3 pieces", "integer", 3),
        ("none", "number", None),
        ("Yes", "boolean", True),
        ("maybe", "boolean", None),
        ("text", "string", "text"),
        ("text", None, "text"),
    ],
)
def test_found_values_become_the_type_asked_for(
    parts: SimpleNamespace, raw: str, kind: str | None, value: object
) -> None:
    assert parts.fields.coerce(raw, kind) == value


@pytest.mark.parametrize("schema", [{}, {"properties": []}, {"properties": {"a": True}}, {"properties": {"": {}}}])
def test_odd_schemas_find_nothing_and_break_nothing(parts: SimpleNamespace, schema: dict[str, object]) -> None:
    found = parts.fields.find_fields(schema, "b: 1", [["c", "d"]])

    assert all(value is None for value in found.values())


def test_labels_are_found_in_rows_of_two_cells(parts: SimpleNamespace) -> None:
    schema = {"properties": {"gross_weight": {"type": "number"}, "port": {}}}

    found = parts.fields.find_fields(schema, "", [["Gross weight", "12.5 t"], ["Port:", "Esbjerg"], ["x", "y", "z"]])

    assert found == {"gross_weight": 12.5, "port": "Esbjerg"}
