"""Spreadsheet analyzer: what a table holds, what is odd in it, and exact answers to simple questions about it."""

from __future__ import annotations

import re

from asking import plan_for
from charting import Chart, overview_chart, query_chart
from plan import Plan
from profiling import (
    SHOWN_OUTLIERS,
    Value,
    column_stats,
    correlations,
    duplicate_rows,
    findings,
    json_value,
    kind_of,
    outliers,
)
from pydantic import Field
from querying import Outcome, run
from table_reading import Kind, Table, read_tables

from agentnexus.sdk import Context, File, Refusal, agent, ui
from agentnexus.sdk.answers import Envelope, Part, check_size, source_of

PREVIEW_ROWS = 5
SHOWN_CORRELATIONS = 20
CHART_WORDS = re.compile(
    r"\b(charts?|plot(?:s|ted)?|graph(?:s|ed)?|diagrams?|histograms?|draw|drawn|pictures?|trends?|visuali[sz]\w*)\b",
    re.IGNORECASE,
)


class Request(Part):
    """A table, and what to find out about it."""

    file: File = Field(title="Table", json_schema_extra=ui("file", order=1, accept=".csv,.tsv,.xlsx,.xls,.parquet"))
    kind: Kind | None = Field(default=None, title="Kind", description="recognised when empty")
    sheet: str | None = Field(default=None, title="Sheet", description="of a workbook; all when empty", max_length=200)
    question: str | None = Field(
        default=None,
        title="Question",
        description='such as "which region sold most" or "average price by month"',
        max_length=1000,
        json_schema_extra=ui("textarea", order=2),
    )
    query: Plan | None = Field(default=None, title="Query plan", description="instead of a question")


class OutlierAnswer(Part):
    """`row` counts data rows from 1; `methods`: iqr, mad."""

    row: int
    value: float
    methods: list[str]


class Column(Part):
    """`dtype`: integer, number, boolean, date, datetime or text."""

    name: str
    dtype: str
    nulls: int = Field(ge=0)
    stats: dict[str, object] = Field(default_factory=dict)
    outliers: list[OutlierAnswer] = Field(default_factory=list)
    outlier_count: int = Field(default=0, ge=0)


class CorrelationAnswer(Part):
    a: str
    b: str
    r: float = Field(ge=-1, le=1)
    rows: int


class TableAnswer(Part):
    """One table or sheet."""

    name: str
    rows: int = Field(ge=0)
    columns: list[Column]
    duplicate_rows: int = Field(default=0, ge=0)
    correlations: list[CorrelationAnswer] = Field(default_factory=list)
    preview: list[list[Value]] = Field(default_factory=list, description="the first rows")


class QueryResult(Part):
    columns: list[str]
    rows: list[list[Value]]
    matched_rows: int = Field(ge=0)


class ChartAnswer(Part):
    """The same picture twice: a Vega-Lite specification with its data, and a finished SVG."""

    title: str
    kind: str
    spec: dict[str, object]
    svg: str


class Analysis(Part):
    """`answer` and `query` are None when nothing was asked, or when the question could not be mapped."""

    tables: list[TableAnswer]
    findings: list[str]
    answer: str | None = None
    query: Plan | None = None
    query_result: QueryResult | None = None
    charts: list[ChartAnswer] = Field(default_factory=list)


class Answer(Envelope[Analysis]):
    """The analysis and what to be careful about."""


@agent
def analyze(request: Request, context: Context) -> Answer:
    """Describe a table, find what is odd, answer a question, draw a chart."""
    data = check_size(request.file)
    tables = read_tables(data, request.kind, request.sheet)
    warnings = [warning for table in tables for warning in table.warnings]
    context.progress(0.4, f"{sum(table.frame.height for table in tables):,} rows read")
    described: list[TableAnswer] = []
    said: list[str] = []
    for table in tables:
        answer, found = _describe(table)
        described.append(answer)
        said.extend(found if len(tables) == 1 else (f"{table.name}: {finding}" for finding in found))
    context.progress(0.7, "columns described")
    plan, outcome = _query(request, tables)
    if request.question and plan is None:
        warnings.append(
            "the question could not be mapped to the columns; name them, as in "
            '"average <number column> by <other column>", or send a query plan'
        )
    charts = _charts(request, tables, plan, outcome)
    for number, chart in enumerate(charts, start=1):
        context.artifact(f"chart-{number}.svg", "image/svg+xml", chart.svg)
    result = Analysis(
        tables=described,
        findings=said,
        answer=outcome.sentence if outcome else None,
        query=plan,
        query_result=None
        if outcome is None
        else QueryResult(columns=outcome.columns, rows=outcome.rows, matched_rows=outcome.matched_rows),
        charts=[ChartAnswer(title=chart.title, kind=chart.kind, spec=chart.spec, svg=chart.svg) for chart in charts],
    )
    return Answer(result=result, sources=[source_of("file", data)], warnings=warnings)


def _describe(table: Table) -> tuple[TableAnswer, list[str]]:
    frame = table.frame
    far_out = {column.name: outliers(column) for column in frame.get_columns()}
    pairs = correlations(frame)
    columns = [
        Column(
            name=column.name,
            dtype=kind_of(column),
            nulls=column.null_count(),
            stats=column_stats(column),
            outliers=[
                OutlierAnswer(row=found.row, value=found.value, methods=list(found.methods))
                for found in far_out[column.name][:SHOWN_OUTLIERS]
            ],
            outlier_count=len(far_out[column.name]),
        )
        for column in frame.get_columns()
    ]
    answer = TableAnswer(
        name=table.name,
        rows=frame.height,
        columns=columns,
        duplicate_rows=duplicate_rows(frame),
        correlations=[
            CorrelationAnswer(a=pair.a, b=pair.b, r=pair.r, rows=pair.rows) for pair in pairs[:SHOWN_CORRELATIONS]
        ],
        preview=[[json_value(cell) for cell in row] for row in frame.head(PREVIEW_ROWS).iter_rows()],
    )
    return answer, findings(frame, far_out, pairs)


def _query(request: Request, tables: list[Table]) -> tuple[Plan | None, Outcome | None]:
    """The plan that was sent, or the one made for the question on the first table it fits."""
    if request.query is not None:
        wanted = request.query.table
        chosen = next((table for table in tables if wanted in (None, table.name)), None)
        if chosen is None:
            raise Refusal(f"there is no table {wanted!r}", next_step="choose a sheet's name", field="query.table")
        return request.query, run(request.query, chosen.frame)
    for table in tables if request.question else ():
        plan = plan_for(request.question or "", table.frame)
        if plan is not None:
            return plan.model_copy(update={"table": table.name}), run(plan, table.frame)
    return None, None


def _charts(request: Request, tables: list[Table], plan: Plan | None, outcome: Outcome | None) -> list[Chart]:
    """A picture of the answer where one was asked for; of the whole table where nothing was answered."""
    if plan is not None and outcome is not None:
        if request.question and request.query is None and not CHART_WORDS.search(request.question):
            return []
        answer = query_chart(plan, outcome)
        if answer is not None:
            return [answer]
    return [chart for table in tables[:3] if (chart := overview_chart(table.frame)) is not None]
