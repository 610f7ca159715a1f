"""The query plan: what a question became. Plain data, checked against the table before it runs."""

from __future__ import annotations

from typing import Literal

import polars as pl
from profiling import kind_of
from pydantic import Field

from agentnexus.sdk import Refusal
from agentnexus.sdk.answers import Part

Aggregate = Literal["sum", "mean", "median", "min", "max", "count", "unique"]
Comparison = Literal["=", "!=", ">", ">=", "<", "<=", "in"]
Period = Literal["year", "quarter", "month", "week", "day"]
Order = Literal["ascending", "descending"]
Cell = str | float | bool

PERIOD_LENGTHS = {"year": "1y", "quarter": "1q", "month": "1mo", "week": "1w", "day": "1d"}


class Filter(Part):
    """Keeps rows where the comparison holds. Dates are ISO text; `period` compares that part of a date."""

    column: str
    op: Comparison
    value: Cell | list[Cell]
    period: Literal["year"] | None = None


class Group(Part):
    """Rows with the same value form a group; dates may be cut to a period."""

    column: str
    period: Period | None = None


class Measure(Part):
    """What is computed per group. `count` needs no column."""

    aggregate: Aggregate
    column: str | None = None

    @property
    def title(self) -> str:
        return f"{self.aggregate} of {self.column}" if self.column else "count"


class Plan(Part):
    """filter, group, measure, sort, cut. Two groups can be laid out as a pivot table."""

    table: str | None = None
    filters: list[Filter] = Field(default_factory=list, max_length=20)
    group_by: list[Group] = Field(default_factory=list, max_length=2)
    measure: Measure
    order: Order | None = None
    limit: int | None = Field(default=None, ge=1, le=1000)
    pivot: bool = False


def check(plan: Plan, frame: pl.DataFrame) -> None:
    """Raises `Refusal` when a column is missing or its type does not fit what is asked of it."""
    for name in (*(f.column for f in plan.filters), *(g.column for g in plan.group_by), plan.measure.column):
        if name is not None and name not in frame.columns:
            raise Refusal(
                f"there is no column {name!r}", next_step=f"choose from: {', '.join(frame.columns[:30])}", field="query"
            )
    for group in plan.group_by:
        if group.period and kind_of(frame[group.column]) not in ("date", "datetime"):
            raise Refusal(f"{group.column} holds no dates", next_step="group by a date column", field="query")
    for condition in plan.filters:
        if condition.period and kind_of(frame[condition.column]) not in ("date", "datetime"):
            raise Refusal(f"{condition.column} holds no dates", next_step="leave out `period`", field="query")
        if (condition.op == "in") != isinstance(condition.value, list):
            raise Refusal("`in` takes a list, other comparisons one value", next_step="correct it", field="query")
    column = plan.measure.column
    if column is None and plan.measure.aggregate != "count":
        raise Refusal(f"{plan.measure.aggregate} of what?", next_step="name measure.column", field="query")
    arithmetic = plan.measure.aggregate in ("sum", "mean", "median")
    if column is not None and arithmetic and not frame[column].dtype.is_numeric():
        raise Refusal(f"{column} holds no numbers", next_step="choose a numeric column", field="query")
    if plan.pivot and len(plan.group_by) != 2:
        raise Refusal("a pivot needs two columns in group_by", next_step="add one", field="query")
