"""Finds the type behind text cells: whole and decimal numbers with signs of money or percent, dates, yes and no."""

from __future__ import annotations

import polars as pl

NULL_WORDS = ["", "na", "n/a", "nan", "null", "none", "-", "--", "\u2013", "?", "#n/a", "missing"]
TRUTH_WORDS = {"true": True, "yes": True, "false": False, "no": False}
TOLERATED_SHARE = 0.05
SHOWN_BAD_CELLS = 3

DATE_FORMATS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%Y%m%d", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y")
SLASH_FORMATS = ("%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y")
TIME_FORMATS = (
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%dT%H:%M:%S%.fZ",
)

THOUSANDS_COMMA = r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$"
THOUSANDS_POINT = r"^[+-]?\d{1,3}(\.\d{3})+(,\d+)?$"
CODE = r"^0\d+$"
CURRENCY = r"^[$\u20ac\u00a3\u00a5]\s*|\s*[$\u20ac\u00a3\u00a5%]$"
SPACED_DIGITS = r"(\d)[\s\u00a0\u202f'\u2019](\d{3})"


def typed(column: pl.Series, *, decimal_comma: bool) -> tuple[pl.Series, list[str]]:
    """The column in the narrowest type that all (or nearly all) cells fit, and warnings about those that do not."""
    stripped = column.cast(pl.String).str.strip_chars()
    text = stripped.set(stripped.str.to_lowercase().is_in(NULL_WORDS), None)
    filled = len(text) - text.null_count()
    if filled == 0:
        return text, []
    if (truths := _truths(text)) is not None:
        return truths, []
    candidates = [_dates(text), _times(text)]
    # Postcodes and article numbers begin with zeros, and would lose them as numbers.
    if not text.str.contains(CODE).any():
        candidates.insert(0, _numbers(text, decimal_comma=decimal_comma))
    for candidate in candidates:
        if candidate is None:
            continue
        lost = filled - (len(candidate) - candidate.null_count())
        if lost <= filled * TOLERATED_SHARE and lost < filled:
            return candidate, _lost_cells(text, candidate, lost)
    return text, []


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
    bare = text.str.replace_all(CURRENCY, "").str.replace_all(SPACED_DIGITS, "${1}${2}")
    bare = bare.str.replace(r"^\((.+)\)$", "-${1}")
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
    # 3/4/2024 is read with the month first unless some other cell makes that impossible; both orders are tried.
    slashed = text.str.contains(r"^\d{1,2}[/-]\d{1,2}[/-]\d{4}$").any()
    return _best([text.str.to_date(form, strict=False) for form in (SLASH_FORMATS if slashed else DATE_FORMATS)])


def _times(text: pl.Series) -> pl.Series | None:
    return _best([text.str.to_datetime(form, strict=False, time_unit="ms") for form in TIME_FORMATS])


def _best(tries: list[pl.Series]) -> pl.Series | None:
    best = min(tries, key=pl.Series.null_count)
    return best if best.null_count() < len(best) else None
