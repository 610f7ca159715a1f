"""Tables without lines are found in what the PDF extractor reads; what only looks like columns is left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Table as RuledTable

from tests.agents.support import drawn, encoded, example, run

ROWS = [
    ("Station", "Country", "Opened", "Capacity MW"),
    ("La Rance", "France", "1966", "240"),
    ("Sihwa Lake", "South Korea", "2011", "254"),
    ("Annapolis Royal", "Canada", "1984", "20"),
    ("Kislaya Guba", "Russia", "1968", "1.7"),
]
LEFT = (60, 190, 300, 400)
PROSE = (
    "The tides of the oceans are caused mainly by the gravity of the Moon",
    "and the Sun adds to them at new moon and at full moon alike, which",
    "makes the spring tides. At the quarters they partly cancel and give",
    "neap tides. The Bay of Fundy in Canada has the largest range of all,",
    "and power stations use such ranges where the shape of a bay allows.",
    "Whether one pays for itself depends on the price of building a dam.",
)
Draw = Callable[[Canvas], object]


def grid(rows: Sequence[Sequence[str]], left: Sequence[float], *, top: float = 700, right_from: int = 99) -> Draw:
    """Texts in columns, those from `right_from` on set flush right."""

    def draw(canvas: Canvas) -> None:
        canvas.setFont("Helvetica", 10)
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                write = canvas.drawRightString if column >= right_from else canvas.drawString
                write(left[column], top - 16 * number, text)

    return draw


def tables(*draw: Draw) -> list[list[list[str]]]:
    def page(canvas: Canvas) -> None:
        canvas.setPageSize(A4)
        for each in draw:
            each(canvas)

    answer = run("pdf-extractor", {"file": encoded(drawn(page)), "want": ["tables"]})
    found: list[list[list[str]]] = answer["result"]["pages"][0]["tables"]
    return found


def test_a_table_set_in_columns_without_any_line_is_found() -> None:
    assert tables(grid(ROWS, LEFT)) == [[list(row) for row in ROWS]]


def test_figures_set_flush_right_stand_in_their_column() -> None:
    assert tables(grid(ROWS, (60, 190, 330, 460), right_from=2)) == [[list(row) for row in ROWS]]


def test_an_empty_cell_stays_in_its_place() -> None:
    rows = [list(row) for row in ROWS]
    rows[2][1] = ""
    rows[3][3] = ""
    assert tables(grid(rows, LEFT)) == [rows]


def test_text_around_a_table_is_no_part_of_it() -> None:
    before = grid([[line] for line in PROSE[:3]], [60], top=800)
    after = grid([[line] for line in PROSE[3:]], [60], top=580)
    assert tables(before, grid(ROWS, LEFT), after) == [[list(row) for row in ROWS]]


def test_two_tables_apart_are_two() -> None:
    lower = [("Item", "Price"), ("Lamp", "19.50"), ("Chair", "80.00"), ("Desk", "210.25")]
    assert tables(grid(ROWS, LEFT), grid(lower, (60, 300), top=400)) == [
        [list(row) for row in ROWS],
        [list(row) for row in lower],
    ]


def test_a_ruled_table_beside_one_without_lines_is_found_once_and_they_stay_in_order() -> None:
    ruled = [["Year", "Rain"], ["2023", "713"], ["2024", "802"], ["2025", "690"]]

    def draw(canvas: Canvas) -> None:
        table = RuledTable(ruled, colWidths=[90, 90])
        table.setStyle([("GRID", (0, 0), (-1, -1), 1, colors.black)])
        table.wrapOn(canvas, 400, 400)
        table.drawOn(canvas, 60, 300)

    assert tables(grid(ROWS, LEFT), draw) == [[list(row) for row in ROWS], ruled]


@pytest.mark.parametrize(
    "draw",
    [
        grid([[line] for line in PROSE], [60]),
        grid([(line[:34], line[34:]) for line in PROSE], (60, 300)),
        grid([(line[:20], line[20:40], line[40:]) for line in PROSE], (60, 220, 380)),
        grid([("Introduction " + "." * 40, "1"), ("Tides " + "." * 46, "4"), ("Power " + "." * 46, "9")], (60, 420)),
        grid([("1.", "read the meter"), ("2.", "write it down"), ("3.", "send it to us")], (60, 90)),
        grid([("•", "lamps"), ("•", "chairs"), ("•", "desks")], (60, 90)),
        grid([("Ann Miller", "Bob Stone"), ("Director", "Engineer"), ("Esbjerg", "Vejle")], (60, 300)),
        grid([("Invoice", "2026-11"), ("Total", "240.00")], (60, 300)),
        grid(ROWS[:2], LEFT),
        grid([("Date:", "3 May"), ("To:", "Ann"), ("From:", "Bob"), ("Subject:", "the dam")], (60, 300)),
    ],
    ids=[
        "prose", "two columns of prose", "three columns of prose", "contents", "numbered list", "bullets", "signatures",
        "two lines", "a heading and a row", "head of a letter",
    ],
)  # fmt: skip
def test_what_only_looks_like_columns_is_no_table(draw: Draw) -> None:
    assert tables(draw) == []


def test_justified_text_is_no_table() -> None:
    def draw(canvas: Canvas) -> None:
        for number, line in enumerate(PROSE):
            text = canvas.beginText(60, 700 - 14 * number)
            text.setFont("Helvetica", 10)
            text.setWordSpace(9)  # the widest a good setter allows
            text.textLine(line[:45])
            canvas.drawText(text)

    assert tables(draw) == []


def test_a_report_with_ruled_tables_reads_as_before() -> None:
    answer = run("pdf-extractor", {"file": example("renewables-report.pdf"), "want": ["tables"]})
    found = [len(page["tables"]) for page in answer["result"]["pages"]]
    assert found == [1, 1, 1, 1]


CELL = st.text("abcdefgh XYZ", min_size=1, max_size=9).map(lambda text: " ".join(text.split()) or "x")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(CELL, CELL, st.integers(0, 99_999)), min_size=3, max_size=12))
def test_whatever_short_words_and_figures_stand_in_columns_come_back(rows: list[tuple[str, str, int]]) -> None:
    written = [("name", "kind", "amount"), *((name, kind, f"{amount:,}") for name, kind, amount in rows)]
    assert tables(grid(written, (60, 250, 420), top=780)) == [[list(row) for row in written]]
