"""A small table of sales, and the query that the built-in spreadsheet agent makes of a question about it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from functools import cache

import polars as pl

from bench.planner.catalogue import AGENTS
from bench.planner.corpus import TableQuery

SALES = """\
date,region,product,units,price,revenue
2025-11-03,north,lamp,12,19.5,234
2025-11-21,south,chair,3,80,240
2025-12-02,north,desk,1,210.25,210.25
2026-01-15,east,lamp,20,18.5,370
2026-01-30,south,desk,2,205,410
2026-02-11,west,chair,7,79.5,556.5
"""


@cache
def _agent() -> tuple[object, pl.DataFrame]:
    sys.path.insert(0, str(AGENTS / "spreadsheet-analyzer"))
    try:
        return importlib.import_module("asking"), pl.read_csv(SALES.encode(), try_parse_dates=True)
    finally:
        sys.path.pop(0)


def query_of(question: str) -> TableQuery | None:
    """The agent's query, or `None` when it says that it does not understand the question."""
    asking, frame = _agent()
    made = asking.plan_for(question, frame)  # type: ignore[attr-defined]  # the agent is no part of this package
    if made is None:
        return None
    measure = made.measure
    return TableQuery(
        group=[group.column + (f"/{group.period}" if group.period else "") for group in made.group_by],
        measure=measure.aggregate + (f" {measure.column}" if measure.column else ""),
        order=made.order,
        limit=made.limit,
    )


def query_misses(wanted: TableQuery, asked: Iterable[str]) -> list[str]:
    """Why no question becomes the wanted query; `order` and `limit` count where they are given."""
    found = [query_of(question) for question in asked]
    for query in found:
        if query is None:
            continue
        same = (sorted(query.group), query.measure) == (sorted(wanted.group), wanted.measure)
        if same and wanted.order in (None, query.order) and wanted.limit in (None, query.limit):
            return []
    return [f"the table is asked {list(asked)}: {[q and q.model_dump() for q in found]}, not {wanted.model_dump()}"]
