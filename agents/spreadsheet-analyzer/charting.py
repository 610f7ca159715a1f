"""Chooses the chart that fits the data, as a Vega-Lite specification and as a finished SVG."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from plan import Plan
from profiling import kind_of
from querying import MEASURE, Outcome
from svg import Chart as Drawing
from svg import bar_chart, line_chart

SCHEMA_URL = "https://vega.github.io/schema/vega-lite/v5.json"
MAX_BARS = 20
MAX_POINTS = 500
HISTOGRAM_BINS = 12


@dataclass(frozen=True, slots=True)
class Chart:
    """`kind`: bar or line."""

    title: str
    kind: str
    spec: dict[str, object]
    svg: str


def chart_of(kind: str, x: str, data: Drawing) -> Chart:
    """A chart with its data inside, so that nothing has to be fetched to show it."""
    y = data.unit
    spec: dict[str, object] = {
        "$schema": SCHEMA_URL,
        "title": data.title,
        "data": {"values": [{x: label, y: value} for label, value in zip(data.labels, data.values, strict=True)]},
        "mark": kind,
        "encoding": {
            "x": {"field": _escaped(x), "type": "ordinal", "title": x, "sort": None},
            "y": {"field": _escaped(y), "type": "quantitative", "title": y},
        },
    }
    return Chart(data.title, kind, spec, line_chart(data) if kind == "line" else bar_chart(data))


def _escaped(field: str) -> str:
    """Vega reads dots and brackets in a field name as a path."""
    return "".join(f"\\{character}" if character in ".[]\\" else character for character in field)


def query_chart(plan: Plan, outcome: Outcome) -> Chart | None:
    """The result of a query with one group; None when there is nothing to compare."""
    if len(plan.group_by) != 1 or plan.pivot:
        return None
    pairs = [(str(row[0]), float(row[1])) for row in outcome.rows if isinstance(row[1], int | float)]
    if len(pairs) < 2:
        return None
    x, y = plan.group_by[0].column, outcome.columns[-1]
    is_series = plan.group_by[0].period is not None
    pairs = pairs[:MAX_POINTS] if is_series else pairs[:MAX_BARS]
    title = f"{y[:1].upper()}{y[1:]} by {x}"
    drawing = Drawing(title, [pair[0] for pair in pairs], [pair[1] for pair in pairs], y)
    return chart_of("line" if is_series else "bar", x, drawing)


def overview_chart(frame: pl.DataFrame) -> Chart | None:
    """A first look: numbers over time, else numbers by category, else the spread of a number."""
    numeric = [c.name for c in frame.get_columns() if c.dtype.is_numeric() and c.null_count() < len(c)]
    dates = [c.name for c in frame.get_columns() if kind_of(c) in ("date", "datetime") and c.null_count() < len(c)]
    texts = [c.name for c in frame.get_columns() if kind_of(c) == "text" and 2 <= c.n_unique() <= max(50, frame.height)]
    measure = _telling(numeric)
    if measure and dates:
        return _over_time(frame, dates[0], measure)
    if texts:
        category = min(texts, key=lambda name: (frame[name].n_unique() > MAX_BARS, texts.index(name)))
        return _by_category(frame, category, measure)
    return _histogram(frame[measure]) if measure else None


def _telling(numeric: list[str]) -> str | None:
    """The first number that is not a year, a rank or an id."""
    dull = ("year", "id", "rank", "index", "no", "number", "code", "zip")
    return next((name for name in numeric if not set(name.lower().replace("_", " ").split()) & set(dull)), None)


def _over_time(frame: pl.DataFrame, when: str, measure: str) -> Chart:
    series = frame.drop_nulls([when, measure]).group_by(when).agg(pl.col(measure).mean().alias(MEASURE)).sort(when)
    series = series.gather_every(max(1, -(-series.height // MAX_POINTS)))
    labels = [cell.isoformat() for cell in series[when].to_list()]
    values = series[MEASURE].cast(pl.Float64).to_list()
    return chart_of("line", when, Drawing(f"{measure} over time", labels, values, measure))


def _by_category(frame: pl.DataFrame, category: str, measure: str | None) -> Chart:
    amount = pl.col(measure).sum() if measure else pl.len()
    groups = frame.drop_nulls([category]).group_by(category, maintain_order=True).agg(amount.alias(MEASURE))
    top = groups.sort([MEASURE, category], descending=[True, False]).head(MAX_BARS)
    y = f"total {measure}" if measure else "rows"
    title = f"{y[:1].upper()}{y[1:]} by {category}"
    values = top[MEASURE].cast(pl.Float64).to_list()
    return chart_of("bar", category, Drawing(title, top[category].to_list(), values, y))


def _histogram(column: pl.Series) -> Chart | None:
    values = column.drop_nulls().cast(pl.Float64)
    if values.n_unique() < 2:
        return None
    counts = values.hist(bin_count=HISTOGRAM_BINS)
    labels = [f"\u2264 {edge:.4g}" for edge in counts["breakpoint"].to_list()]
    tallies = counts["count"].cast(pl.Float64).to_list()
    return chart_of("bar", column.name, Drawing(f"Spread of {column.name}", labels, tallies, "rows"))
