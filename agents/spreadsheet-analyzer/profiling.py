"""What is in each column and what is odd about it: gaps, repeats, outliers, columns that move together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl

Value = str | int | float | bool | None

IQR_REACH = 1.5
MAD_REACH = 3.5
MAD_SCALE = 1.4826
MIN_VALUES_FOR_OUTLIERS = 8
MIN_VALUES_FOR_CORRELATION = 5
STRONG_CORRELATION = 0.8
MAX_CORRELATED_COLUMNS = 30
SHOWN_OUTLIERS = 10
TOP_VALUES = 5
# JSON numbers are doubles to most readers: above, a whole number keeps its digits as text.
JSON_WHOLE_MAX = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Outlier:
    """`row` counts data rows from 1; `methods` are those that flag it."""

    row: int
    value: float
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Correlation:
    """Pearson's r over rows where both are filled."""

    a: str
    b: str
    r: float
    rows: int


def kind_of(column: pl.Series) -> str:
    """integer, number, boolean, date, datetime or text."""
    dtype = column.dtype
    if dtype.is_integer():
        return "integer"
    if dtype.is_numeric():
        return "number"
    names = {pl.Boolean: "boolean", pl.Date: "date"}
    return "datetime" if isinstance(dtype, pl.Datetime) else names.get(type(dtype), "text")


def json_value(value: object) -> Value:
    """Any cell as JSON: times as RFC 3339 text, floats JSON lacks as None, whole numbers it would round as text."""
    if isinstance(value, int) and not -JSON_WHOLE_MAX <= value <= JSON_WHOLE_MAX:
        return str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def column_stats(column: pl.Series) -> dict[str, object]:
    """Statistics that fit the column's type; empty when it has no values."""
    filled = column.drop_nulls()
    if filled.is_empty():
        return {}
    kind = kind_of(column)
    if kind in ("integer", "number"):
        quartiles = [filled.quantile(share, "linear") for share in (0.25, 0.5, 0.75)]
        named = {"q1": quartiles[0], "median": quartiles[1], "q3": quartiles[2]}
        figures = {"min": filled.min(), "max": filled.max(), "mean": filled.mean(), "std": filled.std()}
        return {name: json_value(value) for name, value in {**figures, **named, "sum": exact_sum(filled)}.items()}
    if kind == "boolean":
        return {"true": int(filled.sum()), "false": len(filled) - int(filled.sum())}
    if kind in ("date", "datetime"):
        return {"min": json_value(filled.min()), "max": json_value(filled.max()), "unique": filled.n_unique()}
    counts = filled.value_counts(sort=True, name="count").sort(["count", column.name], descending=[True, False])
    top = [{"value": str(row[0])[:200], "count": row[1]} for row in counts.head(TOP_VALUES).iter_rows()]
    lengths = filled.str.len_chars()
    return {"unique": counts.height, "top": top, "min_length": lengths.min(), "max_length": lengths.max()}


def exact_sum(column: pl.Series) -> object:
    """The sum, of whole numbers exactly: 64 bits would wrap around without a word."""
    return (column.cast(pl.Int128) if column.dtype.is_integer() else column).sum()


def outliers(column: pl.Series) -> list[Outlier]:
    """Values far out by Tukey's fences (1.5 IQR) or by the robust z-score (median and MAD, over 3.5)."""
    filled = column.drop_nulls()
    if not column.dtype.is_numeric() or len(filled) < MIN_VALUES_FOR_OUTLIERS:
        return []
    values = column.cast(pl.Float64).to_numpy()
    known = values[~np.isnan(values)]
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    reach = IQR_REACH * (high - low)
    # 1.4826 makes the median deviation of a normal distribution its standard deviation.
    deviation = MAD_SCALE * np.median(np.abs(known - middle))
    by_fence = (values < low - reach) | (values > high + reach) if reach > 0 else np.zeros(len(values), dtype=bool)
    by_mad = np.abs(values - middle) > MAD_REACH * deviation if deviation > 0 else np.zeros(len(values), dtype=bool)
    found = [
        Outlier(int(row) + 1, float(values[row]), (*(["iqr"] * bool(by_fence[row])), *(["mad"] * bool(by_mad[row]))))
        for row in np.flatnonzero(by_fence | by_mad)
    ]
    return sorted(found, key=lambda outlier: (-abs(outlier.value - float(middle)), outlier.row))


def correlations(frame: pl.DataFrame) -> list[Correlation]:
    """All pairs of numeric columns, strongest first."""
    numeric = [column for column in frame.get_columns() if column.dtype.is_numeric()][:MAX_CORRELATED_COLUMNS]
    arrays = {column.name: column.cast(pl.Float64).to_numpy() for column in numeric}
    found = []
    for a, b in combinations(arrays, 2):
        both = ~(np.isnan(arrays[a]) | np.isnan(arrays[b]))
        rows = int(both.sum())
        x, y = arrays[a][both], arrays[b][both]
        if rows < MIN_VALUES_FOR_CORRELATION or np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        r = float(np.corrcoef(x, y)[0, 1])
        if math.isfinite(r):
            found.append(Correlation(a, b, round(r, 4), rows))
    return sorted(found, key=lambda pair: -abs(pair.r))


def duplicate_rows(frame: pl.DataFrame) -> int:
    """Rows that repeat an earlier one."""
    return frame.height - frame.unique().height


def findings(frame: pl.DataFrame, far_out: dict[str, list[Outlier]], pairs: list[Correlation]) -> list[str]:
    """Sentences for a reader, the most surprising kinds first."""
    said = []
    if repeated := duplicate_rows(frame):
        said.append(f"{repeated} rows repeat an earlier row")
    for column in frame.get_columns():
        missing = column.null_count()
        if missing == len(column):
            said.append(f"{column.name} is empty")
        elif missing:
            said.append(f"{column.name} has {missing} missing values ({missing / len(column):.0%})")
        elif len(column) > 1 and column.n_unique() == 1:
            said.append(f"{column.name} has the same value in every row")
    for name, found in far_out.items():
        if found:
            shown = ", ".join(f"{outlier.value:g} (row {outlier.row})" for outlier in found[:3])
            said.append(f"{name} has {len(found)} outliers: {shown}")
    for pair in pairs:
        if abs(pair.r) >= STRONG_CORRELATION:
            direction = "rise together" if pair.r > 0 else "move against each other"
            said.append(f"{pair.a} and {pair.b} {direction} (r = {pair.r:.2f})")
    return said
