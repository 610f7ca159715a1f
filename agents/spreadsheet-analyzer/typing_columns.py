"""Finds the type behind text cells: whole and decimal numbers with signs of money or percent, dates, yes and no."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

NULL_WORDS = ["", "na", "n/a", "nan", "null", "none", "-", "--", "\u2013", "?", "#n/a", "missing"]
TRUTH_WORDS = {"true": True, "yes": True, "false": False, "no": False}
TOLERATED_SHARE = 0.05
SHOWN_BAD_CELLS = 3

DATE_FORMATS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y")
SLASH_FORMATS = ("%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y")
TIME_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M")
ZONED_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")
# Earlier years are misread ones: of two digits, or of a day in the year's place.
FIRST_YEAR = 1000

THOUSANDS_COMMA = r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$"
THOUSANDS_POINT = r"^[+-]?\d{1,3}(\.\d{3})+(,\d+)?$"
CODE = r"^0\d+$"
MONEY = r"(?:[$\u20ac\u00a3\u00a5]|USD|EUR|GBP|CHF|JPY)"
CURRENCY_BEFORE = rf"^([+-]?)\s*{MONEY}\s*"
CURRENCY_AFTER = rf"\s*(?:{MONEY}|%)$"
ACCOUNTING = r"^\((.+)\)$"
TRAILING_MINUS = r"^([\d.,]+)-$"
SPACED = r"^[+-]?\d{1,3}(?:[\s\u00a0\u202f'\u2019]\d{3})+(?:[.,]\d+)?$"
# Some programs part their fields with the separators of ASCII, which Unicode does not count as blanks.
BLANK_ENDS = r"^[\s\x1c-\x1f]+|[\s\x1c-\x1f]+$"
SPACES = r"[\s\u00a0\u202f'\u2019]"


def typed(column: pl.Series, *, decimal_comma: bool) -> tuple[pl.Series, list[str]]:
    """The column in the narrowest type that all (or nearly all) cells fit, and warnings about those that do not."""
    stripped = column.cast(pl.String).str.replace_all(BLANK_ENDS, "")
    text = stripped.set(stripped.str.to_lowercase().is_in(NULL_WORDS), None)
    filled = len(text) - text.null_count()
    if filled == 0:
        return text, []
    if (truths := _truths(text)) is not None:
        return truths, []
    for candidate in _candidates(text, decimal_comma=decimal_comma):
        if candidate is None:
            continue
        lost = filled - (len(candidate) - candidate.null_count())
        if lost <= filled * TOLERATED_SHARE and lost < filled:
            return candidate, _lost_cells(text, candidate, lost)
    return text, []


def _candidates(text: pl.Series, *, decimal_comma: bool) -> Iterator[pl.Series | None]:
    """Every reading of the column, the likeliest first; made only when the ones before did not fit."""
    # Postcodes and article numbers begin with zeros, and would lose them as numbers.
    if not text.str.contains(CODE).any():
        yield _numbers(text, decimal_comma=decimal_comma)
        # A quoted "1,50" has a decimal comma whatever parts the cells; "1,500" was read above.
        yield _numbers(text, decimal_comma=True)
    yield _dates(text)
    yield _times(text)


def _lost_cells(text: pl.Series, candidate: pl.Series, lost: int) -> list[str]:
    if not lost:
        return []
    bad = text.filter(candidate.is_null() & text.is_not_null()).unique(maintain_order=True)[:SHOWN_BAD_CELLS]
    kind = "numbers" if candidate.dtype.is_numeric() else "dates"
    shown = ", ".join(repr(cell[:40]) for cell in bad.to_list())
    return [f"{lost} cells of {text.name} are no {kind} and count as missing: {shown}"]


def _truths(text: pl.Series) -> pl.Series | None:
    lower = text.str.to_lowercase()
    if not lower.drop_nulls().is_in(list(TRUTH_WORDS)).all():
        return None
    return lower.replace_strict(TRUTH_WORDS, return_dtype=pl.Boolean, default=None).rename(text.name)


def _numbers(text: pl.Series, *, decimal_comma: bool) -> pl.Series:
    # Both around each other: ($5.00) and $(5.00) are the same debt.
    bare = text.str.replace(ACCOUNTING, "-${1}")
    bare = bare.str.replace(CURRENCY_BEFORE, "${1}").str.replace(CURRENCY_AFTER, "")
    bare = bare.str.replace(ACCOUNTING, "-${1}").str.replace(TRAILING_MINUS, "-${1}")
    is_spaced = bare.str.contains(SPACED).fill_null(value=False)
    bare = bare.str.replace_all(SPACES, "").zip_with(is_spaced, bare)
    with_comma = decimal_comma and bool(bare.str.contains(",").any())
    separator, pattern = (".", THOUSANDS_POINT) if with_comma else (",", THOUSANDS_COMMA)
    is_grouped = bare.str.contains(pattern).fill_null(value=False)
    bare = bare.str.replace_all(separator, "", literal=True).zip_with(is_grouped, bare)
    if with_comma:
        bare = bare.str.replace(",", ".", literal=True)
    decimals = bare.cast(pl.Float64, strict=False)
    decimals = decimals.set(decimals.is_finite().not_().fill_null(value=False), None)
    whole = bare.cast(pl.Int64, strict=False)
    return whole if whole.null_count() == decimals.null_count() else decimals


def _dates(text: pl.Series) -> pl.Series | None:
    if text.str.contains(r"^\d{4}-\d{2}$").fill_null(value=True).all():
        return (text + "-01").str.to_date("%Y-%m-%d", strict=False)
    if text.str.contains(r"^[A-Za-z]{3,9} \d{4}$").fill_null(value=True).all():
        return _best([("1 " + text).str.to_date("%d %B %Y", strict=False)])
    text = _whole_years(text)
    # 3/4/2024 is read with the month first unless some other cell makes that impossible; both orders are tried.
    slashed = text.str.contains(r"^\d{1,2}[/-]\d{1,2}[/-]\d{4}$").any()
    return _best([text.str.to_date(form, strict=False) for form in (SLASH_FORMATS if slashed else DATE_FORMATS)])


def _times(text: pl.Series) -> pl.Series | None:
    local = [text.str.to_datetime(form, strict=False, time_unit="ms") for form in TIME_FORMATS]
    zoned = [text.str.to_datetime(form, strict=False, time_unit="ms", time_zone="UTC") for form in ZONED_FORMATS]
    return _best([*local, *(moments.dt.replace_time_zone(None) for moments in zoned)])


def _whole_years(text: pl.Series) -> pl.Series:
    """31/12/24 with its century: up to 69 this one, as POSIX has it."""
    is_short = text.str.contains(r"^\d{1,2}[/.]\d{1,2}[/.]\d{2}$").fill_null(value=False)
    whole = text.str.replace(r"([7-9]\d)$", "19${1}").str.replace(r"([/.])([0-6]\d)$", "${1}20${2}")
    return whole.zip_with(is_short, text)


def _best(tries: list[pl.Series]) -> pl.Series | None:
    best = min((known.set(known.dt.year() < FIRST_YEAR, None) for known in tries), key=pl.Series.null_count)
    return best if best.null_count() < len(best) else None
