"""A file of any supported kind as named, typed tables."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from typing import Literal

import fastexcel
import polars as pl
from csv_reading import MAX_COLUMNS, MAX_ROWS, TextTable, read_csv, shape, unique_names
from polars.exceptions import PanicException, PolarsError
from typing_columns import typed

from agentnexus.sdk import Refusal

Kind = Literal["csv", "xlsx", "parquet"]

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
MAX_RATIO = 200
MAX_SHEETS = 20
OLE_MARK = b"\xd0\xcf\x11\xe0"


@dataclass(slots=True)
class Table:
    name: str
    frame: pl.DataFrame
    warnings: list[str] = field(default_factory=list)


def read_tables(data: bytes, kind: Kind | None, sheet: str | None) -> list[Table]:
    """All tables of the file (one, except for workbooks). Raises `Refusal` naming what is wrong with it."""
    match kind or detect_kind(data):
        case "parquet":
            tables = [_read_parquet(data)]
        case "xlsx":
            tables = _read_workbook(data, sheet)
        case _:
            tables = [_read_text(data)]
    for table in tables:
        if table.frame.height > MAX_ROWS or table.frame.width > MAX_COLUMNS:
            raise Refusal(
                f"the table {table.name} is larger than {MAX_ROWS:,} rows or {MAX_COLUMNS:,} columns",
                next_step="split it, or send only the columns you need",
                field="file",
            )
    filled = [table for table in tables if table.frame.height and table.frame.width]
    if not filled:
        raise Refusal("the table has no rows", next_step="send a file with a header and rows", field="file")
    return filled


def detect_kind(data: bytes) -> Kind:
    """By the file's first bytes."""
    if data.startswith(b"PAR1"):
        return "parquet"
    return "xlsx" if data.startswith((b"PK\x03\x04", OLE_MARK)) else "csv"


def _read_text(data: bytes) -> Table:
    if detect_kind(data) != "csv":
        raise Refusal("this is not CSV", next_step="leave `kind` empty, it is recognised", field="kind")
    return _typed_table("table", read_csv(data))


def _typed_table(name: str, read: TextTable) -> Table:
    columns = []
    warnings = list(read.warnings)
    for position, title in enumerate(read.header):
        raw = pl.Series(title, [row[position] for row in read.rows], dtype=pl.String)
        column, lost = typed(raw, decimal_comma=read.decimal_comma)
        columns.append(column.rename(title))
        warnings.extend(lost)
    return Table(name, pl.DataFrame(columns), warnings)


def _read_parquet(data: bytes) -> Table:
    try:
        lazy = pl.scan_parquet(io.BytesIO(data))
        schema = lazy.collect_schema()
        nested = [name for name, dtype in schema.items() if dtype.is_nested() or dtype == pl.Binary]
        frame = lazy.drop(nested).head(MAX_ROWS + 1).collect()
    except (PolarsError, PanicException, OSError, ValueError) as error:
        raise Refusal(
            "this is not a readable Parquet file", next_step="write it again, or send CSV", field="file"
        ) from error
    warnings = [f"columns with nested values were left out: {', '.join(nested)}"] if nested else []
    return Table("table", _plain(frame), warnings)


def _read_workbook(data: bytes, sheet: str | None) -> list[Table]:
    _check_archive(data)
    try:
        book = fastexcel.read_excel(data)
        names = book.sheet_names
    except (fastexcel.FastExcelError, PanicException, ValueError) as error:
        raise Refusal(
            "this workbook cannot be read: it is damaged or no workbook",
            next_step="open it, save it again as .xlsx and send the new file",
            field="file",
        ) from error
    if sheet is not None and sheet not in names:
        raise Refusal(
            f"there is no sheet {sheet!r}", next_step=f"choose one of: {', '.join(names[:20])}", field="sheet"
        )
    tables = [_read_sheet(book, name) for name in ([sheet] if sheet is not None else names[:MAX_SHEETS])]
    if sheet is None and len(names) > MAX_SHEETS:
        tables[0].warnings.append(f"only the first {MAX_SHEETS} of {len(names)} sheets were read")
    return tables


def _check_archive(data: bytes) -> None:
    """Refuses what unpacks to more than a workbook needs, before anything is unpacked."""
    if data.startswith(OLE_MARK):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise Refusal("the workbook is encrypted", next_step="remove its password and send it again", field="file")
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise Refusal(
            "this is not an Excel workbook", next_step="send .xlsx, .csv or .parquet", field="file"
        ) from error
    if unpacked > MAX_UNPACKED_BYTES or unpacked > MAX_RATIO * max(len(data), 50_000):
        raise Refusal(
            f"the workbook unpacks to {unpacked / 2**20:.0f} MB, which is more than this agent takes",
            next_step="remove empty formatted areas, or send the sheet as CSV",
            field="file",
        )


def _read_sheet(book: fastexcel.ExcelReader, name: str) -> Table:
    try:
        # As text, like CSV: a title line or a note in a column would otherwise decide the type of the numbers below it.
        frame = book.load_sheet(name, header_row=None, dtypes="string").to_polars()
    except (fastexcel.FastExcelError, PolarsError, PanicException, ValueError) as error:
        return Table(name, pl.DataFrame(), [f"the sheet {name} cannot be read ({type(error).__name__})"])
    rows = [[cell or "" for cell in row] for row in frame.iter_rows() if any(row)]
    if not rows:
        return Table(name, pl.DataFrame())
    titles = next((at for at, row in enumerate(rows) if len(list(filter(None, row))) > 1), 0)
    warnings = [f"skipped {titles} lines above the table in {name}"] if titles else []
    return _typed_table(name, shape(rows[titles:], encoding="utf-8", delimiter="", warnings=warnings))


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Names made unique and blank-free; categories and decimals as text and numbers."""
    renamed = frame.rename(dict(zip(frame.columns, unique_names(frame.columns, frame.width), strict=True)))
    return renamed.with_columns(
        pl.col(pl.Decimal).cast(pl.Float64), pl.col(pl.Categorical).cast(pl.String), pl.col(pl.Time).cast(pl.String)
    )
