"""Text tables as they come from the world: any encoding and delimiter, preambles, ragged rows, stray quotes."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agentnexus.sdk import Refusal
from agentnexus.sdk.texts import decode_text, looks_binary

DELIMITERS = ",;\t|"
SNIFFED_LINES = 200
MAX_COLUMNS = 2000
MAX_ROWS = 2_000_000
MAX_CELL_CHARACTERS = 1_000_000


@dataclass(slots=True)
class TextTable:
    """Equal-length rows of cells as text. `decimal_comma` when the delimiter leaves the comma to numbers."""

    header: list[str]
    rows: list[list[str]]
    encoding: str
    delimiter: str
    decimal_comma: bool
    warnings: list[str] = field(default_factory=list)


def read_csv(data: bytes) -> TextTable:
    """The table in the bytes. Raises `Refusal` for binary data, an empty file or one without a table."""
    if looks_binary(data):
        raise Refusal(
            "this is not a text table", next_step="send CSV text, or set `kind` to xlsx or parquet", field="file"
        )
    text, encoding = decode_text(data)
    text = text.replace("\x00", "")
    if not text.strip():
        raise Refusal("the CSV is empty", next_step="send a file with a header and rows", field="file")
    delimiter = sniff_delimiter(text)
    warnings = [] if encoding.startswith("utf-8") else [f"read as {encoding}, the file is not UTF-8"]
    rows, broken_quotes = _split(text, delimiter)
    if broken_quotes:
        warnings.append("a quotation mark is never closed; quotes were read as plain characters")
    if not rows:
        raise Refusal("the CSV has no rows", next_step="send a file with a header and rows", field="file")
    return shape(rows, encoding=encoding, delimiter=delimiter, warnings=warnings)


def sniff_delimiter(text: str) -> str:
    """The delimiter that parts the most lines into the same number of cells; a comma when nothing parts them."""
    lines = text.splitlines()[:SNIFFED_LINES]
    best, best_score = ",", 0.0
    for delimiter in DELIMITERS:
        widths = Counter(len(row) for row in _tolerant(csv.reader(lines, delimiter=delimiter)) if row)
        usual, count = max(widths.items(), key=lambda item: (item[1] * (item[0] > 1), item[0]), default=(1, 0))
        score = count / max(1, sum(widths.values())) * min(usual - 1, 5) ** 0.25 if usual > 1 else 0.0
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _tolerant(reader: Iterable[list[str]]) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error:
        return


def _split(text: str, delimiter: str) -> tuple[list[list[str]], bool]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    try:
        rows = _collect(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        # A quote that is never closed swallows the rest of the file into one cell; real cells have few line breaks.
        broken = any("\n" in cell and cell.count("\n") > 50 for row in rows[-3:] for cell in row)
    except csv.Error:
        rows, broken = [], True
    if broken:
        rows = _collect(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=csv.QUOTE_NONE))
    return rows, broken


def _collect(reader: Iterable[list[str]]) -> list[list[str]]:
    rows = []
    for row in reader:
        if any(cell.strip() for cell in row):
            rows.append(row)
        if len(rows) > MAX_ROWS or len(row) > MAX_COLUMNS:
            raise Refusal(
                f"the table is larger than {MAX_ROWS:,} rows or {MAX_COLUMNS:,} columns",
                next_step="split it, or send only the columns you need",
                field="file",
            )
    return rows


def shape(rows: list[list[str]], *, encoding: str, delimiter: str, warnings: list[str]) -> TextTable:
    """Rows of any length as a table: lines above it skipped, header found, every row as wide as most rows are."""
    widths = Counter(map(len, rows))
    # The width of most rows is the table's: a title above it or a total below it has fewer cells.
    width = max(widths.items(), key=lambda item: (item[1], item[0]))[0]
    first = next(at for at, row in enumerate(rows) if len(row) == width)
    if first > 0 and width > 1 and all(len(row) < width for row in rows[:first]):
        warnings.append(f"skipped {first} lines above the table")
        rows = rows[first:]
    header, body = (rows[0], rows[1:]) if is_header(rows[0]) else ([], rows)
    if not header:
        warnings.append("the table has no header; columns were numbered")
    ragged = sum(1 for row in body if len(row) != width)
    if ragged:
        warnings.append(f"{ragged} rows have more or fewer cells than the {width} columns; they were padded or cut")
    body = [row if len(row) == width else (row + [""] * width)[:width] for row in body]
    return TextTable(unique_names(header, width), body, encoding, delimiter, delimiter in ";\t|", warnings)


def is_header(row: list[str]) -> bool:
    """Names, not values: no cell is a number and most are filled."""
    filled = [cell for cell in row if cell.strip()]
    return len(filled) * 2 > len(row) and not any(_is_number(cell) for cell in filled)


def unique_names(header: list[str], width: int) -> list[str]:
    """`width` column names: blank ones numbered, repeats counted."""
    names: list[str] = []
    taken: set[str] = set()
    for position in range(width):
        base = " ".join(header[position].split())[:200] if position < len(header) else ""
        name = base = base or f"column_{position + 1}"
        repeat = 2
        while name in taken:
            name, repeat = f"{base}_{repeat}", repeat + 1
        taken.add(name)
        names.append(name)
    return names


def _is_number(cell: str) -> bool:
    plain = cell.strip().replace(",", "").replace(".", "", 1).lstrip("+-").rstrip("%")
    # Years do appear as column names of wide tables.
    return plain.isdigit() and not (len(plain) == 4 and plain[:2] in ("19", "20"))
