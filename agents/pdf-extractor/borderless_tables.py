"""Tables without ruled lines: rows of cells parted by wide gaps that stand under each other. Prose is left alone.

Columns of running text, contents pages, lists and letters have gaps, too. What counts as a table has at least three
rows with one cell per column, short cells, and figures in one of the later columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from pdfplumber.page import Page

Table = list[list[str]]
Box = tuple[float, float, float, float]

ROWS_MIN, COLUMNS_MIN = 3, 2
GAP_EMS = 1.1  # from this on a gap parts cells: the widest space of justified text is narrower
PITCH_MAX = 2.6  # rows of one table stand no further apart than so many heights of their letters
FILLED_MIN = 0.6
FIGURES_MIN = 0.6
WORDS_MAX = 4.0  # mean words of a cell; running text has more
WORDS_PER_PAGE_MAX = 20_000
FIGURE = re.compile(
    r"^[-+(]?\W{0,2}\d[\d.,:/\s'\u2019-]*(?:[%\u2030)]|[A-Za-z\u20ac$\u00a3\u00b0]{1,4})?$|^[-\u2013\u2014]$|^n/?a$",
    re.IGNORECASE,
)
LEADERS = re.compile(r"\.{4,}|(?:\. ){4,}|…{2,}")


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of a line; `left` and `right` in points from the page's left edge."""

    text: str
    left: float
    right: float
    words: int


@dataclass(frozen=True, slots=True)
class Line:
    """Cells at one height; `top` in points from the page's top edge, `height` that of the letters."""

    top: float
    height: float
    cells: tuple[Cell, ...]


def borderless_tables(page: Page, ruled: Sequence[Box]) -> list[tuple[float, Table]]:
    """Tables outside of the ruled ones, each with its top edge."""
    words = [word for word in page.extract_words() if not any(_inside(word, box) for box in ruled)]
    if len(words) > WORDS_PER_PAGE_MAX:
        raise ValueError("too many words")
    found = []
    for lines in _runs(_lines(words)):
        table = _table(lines)
        if table is not None:
            found.append((lines[0].top, table))
    return found


def _inside(word: dict[str, float], box: Box) -> bool:
    x, y = (word["x0"] + word["x1"]) / 2, (word["top"] + word["bottom"]) / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _lines(words: Iterable[dict[str, float]]) -> list[Line]:
    """Words on one height, from the top down, parted into cells at wide gaps."""
    rows: list[list[dict[str, float]]] = []
    for word in sorted(words, key=lambda each: ((each["top"] + each["bottom"]) / 2, each["x0"])):
        middle = (word["top"] + word["bottom"]) / 2
        if rows and rows[-1][0]["top"] <= middle <= rows[-1][0]["bottom"]:
            rows[-1].append(word)
        else:
            rows.append([word])
    return [_line(sorted(row, key=lambda each: each["x0"])) for row in rows]


def _line(row: Sequence[dict[str, float]]) -> Line:
    height = median(word["bottom"] - word["top"] for word in row)
    groups = [[row[0]]]
    for before, word in pairwise(row):
        if word["x0"] - before["x1"] > GAP_EMS * height:
            groups.append([])
        groups[-1].append(word)
    cells = tuple(
        Cell(" ".join(str(word["text"]) for word in group), group[0]["x0"], group[-1]["x1"], len(group))
        for group in groups
    )
    return Line(min(word["top"] for word in row), height, cells)


def _runs(lines: Sequence[Line]) -> Iterable[list[Line]]:
    """Neighbouring lines of several cells, evenly close to each other."""
    run: list[Line] = []
    for line in lines:
        if run and (len(line.cells) < COLUMNS_MIN or line.top - run[-1].top > PITCH_MAX * line.height):
            yield run
            run = []
        if len(line.cells) >= COLUMNS_MIN:
            run.append(line)
    yield run


def _table(lines: Sequence[Line]) -> Table | None:
    """The lines as rows, or `None` when they are no table."""
    if len(lines) < ROWS_MIN:
        return None
    columns = _columns([cell for line in lines for cell in line.cells])
    rows = [_row(line, columns) for line in lines]
    if len(columns) < COLUMNS_MIN or any(row is None for row in rows):
        return None
    table = [row for row in rows if row is not None]
    cells = [cell for line in lines for cell in line.cells]
    filled = len(cells) / (len(lines) * len(columns))
    wordy = sum(cell.words for cell in cells) / len(cells)
    if filled < FILLED_MIN or wordy > WORDS_MAX or any(LEADERS.search(cell.text) for cell in cells):
        return None
    return table if any(_are_figures(table, number) for number in range(1, len(columns))) else None


def _columns(cells: Sequence[Cell]) -> list[tuple[float, float]]:
    """Stretches of the page's width that cells cover together."""
    columns: list[tuple[float, float]] = []
    for cell in sorted(cells, key=lambda each: each.left):
        if columns and cell.left < columns[-1][1]:
            columns[-1] = (columns[-1][0], max(columns[-1][1], cell.right))
        else:
            columns.append((cell.left, cell.right))
    return columns


def _row(line: Line, columns: Sequence[tuple[float, float]]) -> list[str] | None:
    """One cell per column; `None` where two fall into the same."""
    row = [""] * len(columns)
    for cell in line.cells:
        at = next(number for number, (left, right) in enumerate(columns) if left <= cell.left and cell.right <= right)
        if row[at]:
            return None
        row[at] = cell.text
    return row


def _are_figures(table: Table, column: int) -> bool:
    """Whether a column, its heading apart, holds mostly figures."""
    values = [row[column] for row in table[1:] if row[column]]
    return len(values) >= ROWS_MIN - 1 and sum(bool(FIGURE.match(v)) for v in values) >= FIGURES_MIN * len(values)
