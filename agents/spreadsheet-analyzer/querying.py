"""Runs a checked plan on a table and says the outcome in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl
from plan import PERIOD_LENGTHS, Aggregate, Cell, Comparison, Filter, Group, Measure, Plan, check
from polars.exceptions import PolarsError
from profiling import Value, json_value

from agentnexus.sdk import Refusal

MAX_RESULT_ROWS = 1000
MAX_PIVOT_COLUMNS = 100
MEASURE = "value"
WORDS: dict[Aggregate, str] = {
    "sum": "total",
    "mean": "average",
    "median": "median",
    "min": "lowest",
    "max": "highest",
    "unique": "number of different",
}
COMPARE: dict[Comparison, Callable[[pl.Expr, object], pl.Expr]] = {
    "=": pl.Expr.eq,
    "!=": pl.Expr.ne,
    ">": pl.Expr.gt,
    ">=": pl.Expr.ge,
    "<": pl.Expr.lt,
    "<=": pl.Expr.le,
}
AGGREGATE: dict[Aggregate, Callable[[pl.Expr], pl.Expr]] = {
    "sum": pl.Expr.sum,
    "mean": pl.Expr.mean,
    "median": pl.Expr.median,
    "min": pl.Expr.min,
    "max": pl.Expr.max,
    "count": pl.Expr.count,
    "unique": lambda column: column.drop_nulls().n_unique(),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rows of the result (the measure is the last column, unless pivoted) and a sentence."""

    columns: list[str]
    rows: list[list[Value]]
    sentence: str
    matched_rows: int


def run(plan: Plan, frame: pl.DataFrame) -> Outcome:
    """Raises `Refusal` when the plan does not fit the table."""
    check(plan, frame)
    try:
        matched = frame.filter([_condition(condition, frame) for condition in plan.filters]) if plan.filters else frame
        result = (
            _grouped(plan, matched) if plan.group_by else matched.select(_measure(plan.measure, frame).alias(MEASURE))
        )
    except (PolarsError, ValueError, TypeError) as error:
        raise Refusal(
            f"the query does not fit the data: {error}",
            next_step="compare columns with values of their type",
            field="query",
        ) from error
    sentence = _sentence(plan, result, matched.height)
    if plan.pivot:
        result = _pivoted(plan, result)
    result = result.head(MAX_RESULT_ROWS)
    titles = [plan.measure.title if name == MEASURE else name for name in result.columns]
    return Outcome(titles, [[json_value(cell) for cell in row] for row in result.iter_rows()], sentence, matched.height)


def _condition(condition: Filter, frame: pl.DataFrame) -> pl.Expr:
    column = pl.col(condition.column)
    dtype = frame[condition.column].dtype
    if condition.period == "year":
        column, dtype = column.dt.year(), pl.Int32()
    if isinstance(condition.value, list):
        column = column.cast(pl.Float64) if dtype.is_numeric() else column
        return column.is_in([_literal(value, dtype) for value in condition.value])
    return COMPARE[condition.op](column, _literal(condition.value, dtype))


def _literal(value: Cell, dtype: pl.DataType) -> object:
    if isinstance(value, str) and dtype == pl.Date:
        return date.fromisoformat(value)
    if isinstance(value, str) and isinstance(dtype, pl.Datetime):
        return datetime.fromisoformat(value)
    if isinstance(value, float | int) and dtype == pl.String:
        return f"{value:g}"
    return value


def _measure(measure: Measure, frame: pl.DataFrame) -> pl.Expr:
    if measure.column is None:
        return pl.len()
    column = pl.col(measure.column)
    if measure.aggregate == "sum" and frame.schema[measure.column].is_integer():
        column = column.cast(pl.Int128)  # 64 bits would wrap around without a word
    return AGGREGATE[measure.aggregate](column)


def _group_key(group: Group) -> pl.Expr:
    column = pl.col(group.column)
    return column.dt.truncate(PERIOD_LENGTHS[group.period]).cast(pl.Date) if group.period else column


def _grouped(plan: Plan, frame: pl.DataFrame) -> pl.DataFrame:
    keys = [group.column for group in plan.group_by]
    known = frame.drop_nulls(keys)
    result = known.group_by([_group_key(group) for group in plan.group_by], maintain_order=True)
    measured = result.agg(_measure(plan.measure, frame).alias(MEASURE))
    if plan.order is None:
        return measured.sort(keys).head(plan.limit or MAX_RESULT_ROWS)
    descending = plan.order == "descending"
    ordered = measured.drop_nulls(MEASURE).sort([MEASURE, *keys], descending=[descending, *[False] * len(keys)])
    return ordered.head(plan.limit or MAX_RESULT_ROWS)


def _pivoted(plan: Plan, result: pl.DataFrame) -> pl.DataFrame:
    rows, columns = (group.column for group in plan.group_by)
    if result[columns].n_unique() > MAX_PIVOT_COLUMNS:
        raise Refusal(f"a pivot over {columns} has too many columns", next_step="swap the two columns", field="query")
    return result.pivot(columns, index=rows, values=MEASURE).sort(rows)


def number_text(value: object) -> str:
    """A figure as people write it: no more digits than say something."""
    plain = json_value(value)
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        return "nothing" if plain is None else str(plain)
    if isinstance(plain, int) or plain == int(plain):
        return f"{int(plain):,}"
    return f"{plain:,.2f}" if abs(plain) >= 1 else f"{plain:.4g}"


def _described(plan: Plan) -> str:
    measure = plan.measure
    what = f"{WORDS[measure.aggregate]} {measure.column}" if measure.aggregate in WORDS else "number of rows"
    conditions = []
    for condition in plan.filters:
        value = condition.value
        shown = " or ".join(map(_value_text, value)) if isinstance(value, list) else _value_text(value)
        conditions.append(f"{condition.column} {condition.op} {shown}")
    return f"{what} where {' and '.join(conditions)}" if conditions else what


def _value_text(value: Cell) -> str:
    """Years and whole numbers without a point and without thousands signs."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sentence(plan: Plan, result: pl.DataFrame, matched: int) -> str:
    what = _described(plan)
    if matched == 0 or result.height == 0:
        return f"No rows match: {what}."
    if not plan.group_by:
        if plan.measure.aggregate == "count":
            return f"The {what} is {number_text(result[MEASURE][0])}."
        scope = "1 row" if matched == 1 else f"{matched:,} rows"
        return f"The {what} is {number_text(result[MEASURE][0])} (over {scope})."
    pairs = [(" / ".join(_label(cell) for cell in row[:-1]), number_text(row[-1])) for row in result.iter_rows()]
    by = " and ".join(f"{group.column}{f' ({group.period})' if group.period else ''}" for group in plan.group_by)
    listed = "; ".join(f"{label}: {value}" for label, value in pairs[:12])
    more = f"; and {len(pairs) - 12} more" if len(pairs) > 12 else ""
    if plan.order is None:
        return f"The {what} by {by}: {listed}{more}."
    place = "highest" if plan.order == "descending" else "lowest"
    head = f"{pairs[0][0]} has the {place} {what.removeprefix(f'{place} ')}: {pairs[0][1]}"
    rest = "; ".join(f"{label} with {value}" for label, value in pairs[1:12])
    return f"{head}. Next: {rest}{more}." if rest else f"{head}."


def _label(cell: object) -> str:
    return "nothing" if cell is None else str(json_value(cell))
