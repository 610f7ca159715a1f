"""The parts of the spreadsheet analyzer one by one: reading, typing, figures, plans, questions, pictures."""

from __future__ import annotations

import csv
import io
import math
import statistics
from datetime import date
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.sdk import Refusal
from tests.agents.support import load


@pytest.fixture(scope="module", autouse=True)
def parts() -> SimpleNamespace:
    """The agent's own modules, imported the way the sandbox imports them."""
    load("spreadsheet-analyzer")
    import asking
    import charting
    import csv_reading
    import plan
    import profiling
    import querying
    import svg
    import table_reading
    import typing_columns

    return SimpleNamespace(
        asking=asking, charting=charting, csv=csv_reading, plan=plan, profile=profiling, query=querying, svg=svg,
        reading=table_reading, types=typing_columns,
    )  # fmt: skip


SALES = pl.DataFrame(
    {
        "region": ["North", "South", "North", "East", None, "South"],
        "product_name": ["tea", "tea", "coffee", "coffee", "tea", "iced tea"],
        "sold_on": [date(2023, 1, 5), date(2023, 7, 9), date(2024, 1, 2), date(2024, 2, 3), None, date(2024, 2, 9)],
        "units": [10, 20, 30, 40, 50, None],
        "unit_price_eur": [1.5, 2.0, 2.5, 3.0, 1.0, 4.0],
    }
)


SPOKEN = ("which", "region", "units", "by", "per", "most", "top", "3", "total", "average", "2023", "over", "price")


class TestReading:
    @pytest.mark.parametrize(
        ("text", "delimiter"),
        [
            ("a,b\n1,2\n", ","),
            ("a;b\n1,5;2,5\n3,5;4,5\n", ";"),
            ("a\tb\n1\t2\n", "\t"),
            ("a|b|c\n1|2|3\n", "|"),
            ('name,note\n"x; y","a, b"\n"z; w","c"\n', ","),
            ("only\none\ncolumn\n", ","),
        ],
    )
    def test_the_delimiter_is_the_one_that_parts_lines_evenly(
        self, parts: SimpleNamespace, text: str, delimiter: str
    ) -> None:
        assert parts.csv.sniff_delimiter(text) == delimiter

    def test_quoted_line_breaks_and_delimiters_stay_in_their_cell(self, parts: SimpleNamespace) -> None:
        table = parts.csv.read_csv(b'name,note\n"a","first\nsecond, still"\n"b","x"\n')

        assert table.rows == [["a", "first\nsecond, still"], ["b", "x"]]

    @pytest.mark.parametrize(
        ("row", "is_header"),
        [
            (["name", "price"], True),
            (["name", "2019", "2020"], True),
            (["Anna", "12"], False),
            (["", ""], False),
            (["1.5", "2.5"], False),
            (["x", "-3"], False),
        ],
    )
    def test_a_header_has_names_and_no_values(self, parts: SimpleNamespace, row: list[str], is_header: bool) -> None:
        assert parts.csv.is_header(row) is is_header

    @given(st.lists(st.text(max_size=5), max_size=8), st.integers(0, 8))
    def test_column_names_are_as_many_as_columns_and_all_different(
        self, parts: SimpleNamespace, header: list[str], width: int
    ) -> None:
        names = parts.csv.unique_names(header, width)

        assert len(names) == len(set(names)) == width
        assert all(name.strip() for name in names)

    def test_rows_and_columns_beyond_the_limit_are_refused(
        self, parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parts.csv, "MAX_ROWS", 10)
        with pytest.raises(Refusal, match="larger than"):
            parts.csv.read_csv(b"a,b\n" + b"1,2\n" * 20)
        with pytest.raises(Refusal, match="larger than"):
            parts.csv.read_csv(b",".join([b"x"] * 3000) + b"\n")

    @pytest.mark.parametrize(
        ("data", "kind"),
        [(b"PAR1xx", "parquet"), (b"PK\x03\x04", "xlsx"), (b"\xd0\xcf\x11\xe0", "xlsx"), (b"a,b", "csv"), (b"", "csv")],
    )
    def test_kinds_are_told_by_their_first_bytes(self, parts: SimpleNamespace, data: bytes, kind: str) -> None:
        assert parts.reading.detect_kind(data) == kind


class TestTyping:
    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.one_of(st.none(), st.integers(-(10**12), 10**12)), min_size=1, max_size=20))
    def test_whole_numbers_come_back_as_they_were(self, parts: SimpleNamespace, values: list[int | None]) -> None:
        text = pl.Series("n", ["" if value is None else str(value) for value in values], dtype=pl.String)

        column, warnings = parts.types.typed(text, decimal_comma=False)

        if any(value is not None for value in values):
            assert column.to_list() == values
        assert warnings == []

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.floats(-1e9, 1e9).map(lambda value: round(value, 3)), min_size=1, max_size=20), st.booleans())
    def test_decimals_come_back_with_either_sign(
        self, parts: SimpleNamespace, values: list[float], comma: bool
    ) -> None:
        written = [f"{value:.3f}".replace(".", ",") if comma else f"{value:.3f}" for value in values]

        column, _ = parts.types.typed(pl.Series("n", written), decimal_comma=comma)

        assert column.dtype.is_numeric()
        assert column.to_list() == pytest.approx(values)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.dates(date(1000, 1, 1), date(2999, 12, 31)), min_size=1, max_size=20))
    def test_iso_dates_come_back_as_dates(self, parts: SimpleNamespace, days: list[date]) -> None:
        column, _ = parts.types.typed(pl.Series("d", [day.isoformat() for day in days]), decimal_comma=False)

        assert column.to_list() == days

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.text(max_size=8), min_size=1, max_size=12))
    def test_no_cells_crash_the_typing_and_none_is_invented(self, parts: SimpleNamespace, cells: list[str]) -> None:
        column, _ = parts.types.typed(pl.Series("c", cells, dtype=pl.String), decimal_comma=False)

        assert len(column) == len(cells)
        blank = sum(cell.strip().lower() in parts.types.NULL_WORDS for cell in cells)
        assert column.null_count() >= blank

    def test_more_than_one_bad_cell_in_twenty_keeps_a_column_text(self, parts: SimpleNamespace) -> None:
        cells = [str(number) for number in range(30)] + ["a", "b", "c"]

        column, _ = parts.types.typed(pl.Series("c", cells), decimal_comma=False)

        assert column.dtype == pl.String


class TestFigures:
    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=40))
    def test_statistics_agree_with_the_standard_library(self, parts: SimpleNamespace, values: list[int]) -> None:
        stats = parts.profile.column_stats(pl.Series("n", values))

        assert (stats["min"], stats["max"], stats["sum"]) == (min(values), max(values), sum(values))
        assert stats["mean"] == pytest.approx(statistics.fmean(values), abs=1e-5)
        assert stats["median"] == pytest.approx(statistics.median(values))
        assert stats["std"] == pytest.approx(statistics.stdev(values), abs=1e-5)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.floats(-100, 100), min_size=8, max_size=60))
    def test_outliers_by_fences_are_those_beyond_one_and_a_half_iqr(
        self, parts: SimpleNamespace, values: list[float]
    ) -> None:
        found = {item.row: item for item in parts.profile.outliers(pl.Series("n", values))}
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        reach = 1.5 * (high - low)

        for row, value in enumerate(values, start=1):
            slack = 1e-6 * max(1, abs(value), abs(high), abs(low))
            if value > high + reach + slack or value < low - reach - slack:
                assert reach == 0 or "iqr" in found[row].methods
            elif low - reach + slack < value < high + reach - slack:
                assert row not in found or "iqr" not in found[row].methods

    def test_few_values_and_text_have_no_outliers(self, parts: SimpleNamespace) -> None:
        assert parts.profile.outliers(pl.Series("n", [1, 2, 900])) == []
        assert parts.profile.outliers(pl.Series("t", ["a"] * 20)) == []

    def test_a_constant_column_with_one_other_value_is_no_division_by_zero(self, parts: SimpleNamespace) -> None:
        assert parts.profile.outliers(pl.Series("n", [5.0] * 20 + [6.0])) == []

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (None, None),
            (True, True),
            (3, 3),
            (math.nan, None),
            (math.inf, None),
            (0.1 + 0.2, 0.3),
            (date(2024, 1, 2), "2024-01-02"),
            ("x", "x"),
        ],
    )
    def test_cells_become_json_values(self, parts: SimpleNamespace, value: object, shown: object) -> None:
        assert parts.profile.json_value(value) == shown

    def test_columns_without_spread_correlate_with_nothing(self, parts: SimpleNamespace) -> None:
        frame = pl.DataFrame({"a": [1] * 9, "b": list(range(9)), "c": [None] * 4 + list(range(5))})

        assert [(pair.a, pair.b) for pair in parts.profile.correlations(frame)] == [("b", "c")]


class TestPlans:
    def run(self, parts: SimpleNamespace, **plan: object) -> object:
        return parts.query.run(parts.plan.Plan.model_validate(plan), SALES)

    @pytest.mark.parametrize(
        ("aggregate", "value"),
        [("sum", 150), ("mean", 30), ("median", 30), ("min", 10), ("max", 50), ("count", 5), ("unique", 5)],
    )
    def test_aggregates_skip_missing_values(self, parts: SimpleNamespace, aggregate: str, value: float) -> None:
        assert self.run(parts, measure={"aggregate": aggregate, "column": "units"}).rows == [[value]]

    def test_rows_without_a_group_are_left_out_of_groups(self, parts: SimpleNamespace) -> None:
        outcome = self.run(parts, measure={"aggregate": "sum", "column": "units"}, group_by=[{"column": "region"}])

        assert outcome.rows == [["East", 40], ["North", 40], ["South", 20]]

    @pytest.mark.parametrize(
        ("op", "value", "rows"),
        [("=", 20, 1), ("!=", 20, 4), (">", 20, 3), (">=", 20, 4), ("<", 20, 1), ("<=", 20, 2), ("in", [10, 50], 2)],
    )
    def test_comparisons_on_numbers(self, parts: SimpleNamespace, op: str, value: object, rows: int) -> None:
        condition = {"column": "units", "op": op, "value": value}

        assert self.run(parts, measure={"aggregate": "count"}, filters=[condition]).rows == [[rows]]

    def test_dates_are_compared_as_dates_and_by_year(self, parts: SimpleNamespace) -> None:
        after = {"column": "sold_on", "op": ">=", "value": "2024-01-02"}
        year = {"column": "sold_on", "op": "=", "value": 2023, "period": "year"}

        assert self.run(parts, measure={"aggregate": "count"}, filters=[after]).rows == [[3]]
        assert self.run(parts, measure={"aggregate": "count"}, filters=[year]).rows == [[2]]

    @pytest.mark.parametrize(
        ("period", "first"),
        [
            ("year", "2023-01-01"),
            ("quarter", "2023-01-01"),
            ("month", "2023-01-01"),
            ("week", "2023-01-02"),
            ("day", "2023-01-05"),
        ],
    )
    def test_periods_begin_where_calendars_say(self, parts: SimpleNamespace, period: str, first: str) -> None:
        groups = [{"column": "sold_on", "period": period}]

        assert self.run(parts, measure={"aggregate": "count"}, group_by=groups).rows[0][0] == first

    def test_order_and_limit(self, parts: SimpleNamespace) -> None:
        outcome = self.run(
            parts,
            measure={"aggregate": "max", "column": "unit_price_eur"},
            group_by=[{"column": "product_name"}],
            order="descending",
            limit=2,
        )

        assert outcome.rows == [["iced tea", 4.0], ["coffee", 3.0]]
        assert outcome.sentence.startswith("iced tea has the highest unit_price_eur: 4. Next: coffee with 3")

    def test_nothing_matched_is_said(self, parts: SimpleNamespace) -> None:
        condition = {"column": "units", "op": ">", "value": 10_000}

        outcome = self.run(parts, measure={"aggregate": "sum", "column": "units"}, filters=[condition])

        assert outcome.sentence.startswith("No rows match")
        assert outcome.matched_rows == 0

    def test_too_many_pivot_columns_are_refused(self, parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parts.query, "MAX_PIVOT_COLUMNS", 2)

        with pytest.raises(Refusal, match="too many columns"):
            self.run(
                parts,
                measure={"aggregate": "count"},
                pivot=True,
                group_by=[{"column": "region"}, {"column": "product_name"}],
            )

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(-50, 50)), min_size=1, max_size=30), st.integers(-50, 50)
    )
    def test_group_sums_agree_with_a_plain_loop(
        self, parts: SimpleNamespace, rows: list[tuple[str, int]], least: int
    ) -> None:
        frame = pl.DataFrame(rows, schema=["key", "value"], orient="row")
        plan = parts.plan.Plan(
            filters=[parts.plan.Filter(column="value", op=">=", value=least)],
            group_by=[parts.plan.Group(column="key")],
            measure=parts.plan.Measure(aggregate="sum", column="value"),
        )
        expected: dict[str, int] = {}
        for key, value in rows:
            if value >= least:
                expected[key] = expected.get(key, 0) + value

        assert parts.query.run(plan, frame).rows == [[key, expected[key]] for key in sorted(expected)]

    @pytest.mark.parametrize(
        ("value", "text"),
        [(1234567, "1,234,567"), (2.0, "2"), (3.14159, "3.14"), (0.001234, "0.001234"), (None, "nothing"), ("x", "x")],
    )
    def test_figures_are_written_for_people(self, parts: SimpleNamespace, value: object, text: str) -> None:
        assert parts.query.number_text(value) == text


class TestQuestions:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("capacity_mw", ["capacity"]),
            ("unitPriceEUR", ["unit", "pric"]),
            ("Total Sales ($)", ["total", "sal"]),
            ("kg", ["kg"]),
            ("first_power_year", ["first", "power", "year"]),
        ],
    )
    def test_units_do_not_have_to_be_said(self, parts: SimpleNamespace, name: str, words: list[str]) -> None:
        assert parts.asking.column_words(name) == words

    @pytest.mark.parametrize(
        ("question", "conditions"),
        [
            ("sales in the North", [("region", "=", "North")]),
            ("compare North and South", [("region", "in", ["North", "South"])]),
            ("units of iced tea", [("product_name", "=", "iced tea")]),
            ("units of tea", [("product_name", "=", "tea")]),
            ("northern lights", []),
        ],
    )
    def test_quoted_values_become_conditions(
        self, parts: SimpleNamespace, question: str, conditions: list[tuple[str, str, object]]
    ) -> None:
        found = parts.asking.value_filters(question, SALES)

        assert [(item.column, item.op, item.value) for item in found] == conditions

    @pytest.mark.parametrize(
        ("question", "conditions"),
        [
            ("units over 15", [("units", ">", 15)]),
            ("units at least 20 and unit price under 3", [("units", ">=", 20), ("unit_price_eur", "<", 3)]),
            ("units between 10 and 30", [("units", ">=", 10), ("units", "<=", 30)]),
            ("total units in 2023", [("sold_on", "=", 2023)]),
            ("units since 2024", [("sold_on", ">=", 2024)]),
            ("units over 1,000", [("units", ">", 1000)]),
            ("units", []),
        ],
    )
    def test_numbers_become_conditions_on_the_column_said_before_them(
        self, parts: SimpleNamespace, question: str, conditions: list[tuple[str, str, float]]
    ) -> None:
        found = parts.asking.number_filters(question, SALES)

        assert sorted((item.column, item.op, item.value) for item in found) == sorted(conditions)

    @pytest.mark.parametrize(
        ("question", "group", "aggregate", "column", "order", "limit"),
        [
            ("total units by region", "region", "sum", "units", None, None),
            ("average unit price per region", "region", "mean", "unit_price_eur", None, None),
            ("which region has the lowest unit price", "region", "min", "unit_price_eur", "ascending", None),
            ("top 2 regions by units", "region", "sum", "units", "descending", 2),
            ("how many rows per region", "region", "count", None, None, None),
            ("which product name is most expensive", "product_name", "sum", "unit_price_eur", "descending", None),
            ("median units", None, "median", "units", None, None),
            ("latest sold on", None, "max", "sold_on", None, None),
            ("units yearly", "sold_on", "sum", "units", None, None),
        ],
    )
    def test_questions_become_these_plans(
        self,
        parts: SimpleNamespace,
        question: str,
        group: str | None,
        aggregate: str,
        column: str | None,
        order: str | None,
        limit: int | None,
    ) -> None:
        plan = parts.asking.plan_for(question, SALES)

        assert plan is not None
        assert [item.column for item in plan.group_by] == ([group] if group else [])
        assert (plan.measure.aggregate, plan.measure.column) == (aggregate, column)
        assert (plan.order, plan.limit) == (order, limit)

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    "which",
                    "region",
                    "units",
                    "by",
                    "per",
                    "most",
                    "top",
                    "3",
                    "total",
                    "average",
                    "2023",
                    "over",
                    "in",
                    "price",
                ]
            ),
            max_size=9,
        )
    )
    def test_every_plan_that_a_question_makes_runs(self, parts: SimpleNamespace, said: list[str]) -> None:
        plan = parts.asking.plan_for(" ".join(said), SALES)

        if plan is not None:
            assert parts.query.run(plan, SALES).sentence


class TestPictures:
    @pytest.mark.parametrize(
        ("value", "text"),
        [(1_200_000, "1.2M"), (15_000, "15k"), (999, "999"), (-2.5e9, "-2.5G"), (0, "0"), (3.5e12, "3.5T")],
    )
    def test_big_figures_are_short_on_the_axis(self, parts: SimpleNamespace, value: float, text: str) -> None:
        assert parts.svg.short(value) == text

    def test_bars_hang_from_zero_in_both_directions(self, parts: SimpleNamespace) -> None:
        chart = parts.svg.bar_chart(parts.svg.Chart("t", ["up", "down"], [10.0, -10.0], "u"))

        assert chart.count("<rect") == 2
        assert "up: 10" in chart
        assert "down: -10" in chart

    def test_many_labels_are_thinned_and_long_ones_cut(self, parts: SimpleNamespace) -> None:
        labels = [f"a very long label number {number}" for number in range(100)]

        chart = parts.svg.line_chart(parts.svg.Chart("t", labels, [float(number) for number in range(100)], "u"))

        assert chart.count("rotate(-35)") <= 16
        assert "\u2026" in chart

    def test_tables_of_numbers_only_get_a_histogram_and_constants_none(self, parts: SimpleNamespace) -> None:
        spread = parts.charting.overview_chart(pl.DataFrame({"weight": [1.0, 2.0, 2.5, 9.0]}))
        flat = parts.charting.overview_chart(pl.DataFrame({"weight": [1.0, 1.0]}))

        assert spread.title == "Spread of weight"
        assert sum(value["rows"] for value in spread.spec["data"]["values"]) == 4
        assert flat is None

    def test_field_names_with_dots_are_escaped_for_vega(self, parts: SimpleNamespace) -> None:
        chart = parts.charting.overview_chart(pl.DataFrame({"a.b": ["x", "y", "x"], "n[0]": [1, 2, 3]}))

        assert chart.spec["encoding"]["x"]["field"] == "a\\.b"
        assert chart.spec["encoding"]["y"]["field"] == "total n\\[0\\]"


def test_a_written_csv_is_shaped_like_it_was(parts: SimpleNamespace) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["a", "b"], ["1", "x"], ["2"], ["3", "y", "z"]])

    table = parts.csv.read_csv(buffer.getvalue().encode())

    assert table.header == ["a", "b"]
    assert table.rows == [["1", "x"], ["2", ""], ["3", "y"]]
    assert any("2 rows" in warning for warning in table.warnings)
