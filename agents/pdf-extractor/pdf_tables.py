"""Tables of a page as rows of cells: by ruled lines and filled backgrounds, else by cells that stand in columns."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Sequence

import pdfplumber
from borderless_tables import borderless_tables
from pdfminer.pdfexceptions import PDFException
from pdfminer.psexceptions import PSException
from pdfplumber.page import Page
from pdfplumber.utils.exceptions import PdfminerException

Table = list[list[str]]

MAX_OBJECTS_PER_PAGE = 60_000
FAULTS = (
    PdfminerException, PDFException, PSException, ValueError, TypeError, KeyError, IndexError, AttributeError,
    AssertionError, OverflowError, RecursionError,
)  # fmt: skip


def read_tables(
    data: bytes,
    numbers: Sequence[int],
    *,
    password: str | None,
    budget_seconds: float,
    on_page: Callable[[int], None],
) -> tuple[dict[int, list[Table]], list[int]]:
    """Tables by page number (from 1), and the pages that were left out: damaged, too dense or out of time."""
    found: dict[int, list[Table]] = {}
    skipped: list[int] = []
    ends_at = time.monotonic() + budget_seconds
    try:
        document = pdfplumber.open(io.BytesIO(data), password=password or "")
    except FAULTS:
        return found, list(numbers)
    with document:
        for number in numbers:
            if time.monotonic() > ends_at or number > len(document.pages):
                skipped.append(number)
                continue
            on_page(number)
            page = document.pages[number - 1]
            try:
                found[number] = page_tables(page)
            except FAULTS:
                skipped.append(number)
            finally:
                page.close()
    return found, skipped


def page_tables(page: Page) -> list[Table]:
    """Tables of one page, in reading order. Raises `ValueError` for a page too dense to search."""
    if sum(len(kind) for kind in page.objects.values()) > MAX_OBJECTS_PER_PAGE:
        raise ValueError("too many drawn objects")
    drawn = page.find_tables()
    ruled = [(table.bbox[1], clean(table.extract())) for table in drawn]
    kept = [(top, table) for top, table in ruled if is_table(table)]
    plain = borderless_tables(page, [table.bbox for table in drawn])
    found = kept + [(top, clean(table)) for top, table in plain]
    return [table for _, table in sorted(found, key=lambda pair: pair[0])]


def clean(rows: Sequence[Sequence[str | None]]) -> Table:
    """Cells as single lines; rows and columns that are empty throughout are dropped."""
    cells = [[re.sub(r"\s+", " ", (cell or "").replace("\x00", "")).strip() for cell in row] for row in rows]
    kept = [row for row in cells if any(row)]
    width = max(map(len, kept), default=0)
    padded = [row + [""] * (width - len(row)) for row in kept]
    columns = [index for index in range(width) if any(row[index] for row in padded)]
    return [[row[index] for index in columns] for row in padded]


def is_table(table: Table) -> bool:
    """A frame around one text is no table: at least two rows and two columns."""
    return len(table) >= 2 and max(len(row) for row in table) >= 2
