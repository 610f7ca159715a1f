"""Questions to tables in the words people use, with golden answers worked out by hand from the same rows."""

from __future__ import annotations

import csv
import io
import statistics
from collections import defaultdict
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.sdk import Refusal
from tests.agents.support import EXAMPLES, load

ROWS = list(csv.DictReader(io.StringIO((EXAMPLES / "power-stations.csv").read_text(encoding="utf-8"))))
ORDERS = """order_id,customer,city,product,units,unit_price,ordered_on,paid
1,Anna,Oslo,tea,10,1.50,2023-01-05,yes
2,Bo,Oslo,coffee,4,2.50,2023-01-20,no
3,Anna,Bergen,tea,7,1.50,2023-04-02,yes
4,Cem,New York,iced tea,2,4.00,2023-11-30,yes
5,Dora,York,coffee,9,2.50,2024-01-01,no
6,Bo,Oslo,tea,1,1.75,2024-02-29,yes
7,Cem,New York,coffee,30,2.25,2024-03-01,no
8,Anna,Bergen,iced tea,3,4.00,2024-12-31,yes
"""


@pytest.fixture(scope="module")
def parts() -> SimpleNamespace:
    load("spreadsheet-analyzer")
    import asking
    import plan
    import querying
    import table_reading

    return SimpleNamespace(asking=asking, plan=plan, querying=querying, reading=table_reading)


@pytest.fixture(scope="module")
def stations(parts: SimpleNamespace) -> pl.DataFrame:
    return table(parts, (EXAMPLES / "power-stations.csv").read_bytes())


@pytest.fixture(scope="module")
def orders(parts: SimpleNamespace) -> pl.DataFrame:
    return table(parts, ORDERS.encode())


def table(parts: SimpleNamespace, data: bytes) -> pl.DataFrame:
    (read,) = parts.reading.read_tables(data, "csv", None)
    frame = read.frame
    assert isinstance(frame, pl.DataFrame)
    return frame


def answer(parts: SimpleNamespace, frame: pl.DataFrame, question: str) -> SimpleNamespace | None:
    plan = parts.asking.plan_for(question, frame)
    if plan is None:
        return None
    outcome = parts.querying.run(plan, frame)
    return SimpleNamespace(plan=plan, rows=outcome.rows, sentence=outcome.sentence, matched=outcome.matched_rows)


def figure(parts: SimpleNamespace, frame: pl.DataFrame, question: str) -> object:
    """The one figure of an answer without groups."""
    found = answer(parts, frame, question)
    assert found is not None, question
    assert not found.plan.group_by, found.plan
    ((value,),) = found.rows
    return value


def capacity(**wanted: str) -> list[float]:
    return [float(row["capacity_mw"]) for row in ROWS if all(row[key] == value for key, value in wanted.items())]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("how many stations are there", 24),
        ("How many stations?", 24),
        ("count the stations", 24),
        ("number of stations", 24),
        ("How many hydro stations are there?", 12),
        ("how many stations are in China", 3),
        ("how many stations in the United States", 4),
        ("how many stations in the United Kingdom?", 3),
        ("how many solar or tidal stations", 4),
        ("how many stations are not in China", 21),
        ("how many stations are outside China", 21),
        ("how many stations except hydro", 12),
        ("how many stations other than hydro", 12),
        ("how many stations excluding solar and tidal", 20),
        ("how many pumped storage stations in Germany", 1),
        ("how many kinds are there", 5),
        ("how many countries are there", 12),
        ("how many different countries", 12),
        ("how many distinct kinds", 5),
        ("number of unique countries", 12),
        ("how many stations opened after 2000", 12),
        ("how many stations opened since 2000", 13),
        ("how many stations opened before 1970", 4),
        ("how many stations opened from 2019", 3),
        ("how many stations opened in 2013", 3),
        ("how many stations opened between 1960 and 1970", 2),
        ("how many stations have a capacity over 10000 MW", 5),
        ("how many stations have a capacity of at least 14,000", 3),
        ("how many stations have a capacity above 14,000", 2),
        ("how many stations have a capacity of at most 40", 2),
        ("how many stations have a capacity below 40", 1),
        ("how many stations have a capacity no more than 240", 4),
        ("how many stations have a capacity not over 240", 4),
        ("how many stations have a capacity no less than 14,000", 3),
        ("how many stations have a capacity not below 14,000", 3),
        ("how many stations opened not after 1966", 3),
        ("how many stations opened not before 2019", 3),
        ("how many stations with capacity between 240 and 254", 2),
        ("total capacity", 127050.95),
        ("what is the total capacity?", 127050.95),
        ("sum of capacity", 127050.95),
        ("overall capacity", 127050.95),
        ("combined capacity of hydro", 118296),
        ("total capacity of hydro in China", 52360),
        ("total capacity in China and Brazil", 71963),
        ("capacity of Three Gorges", 22500),
        ("What's the capacity of Itaipu?", 14000),
        ("capacity of Gwynt y M\u00f4r", 576),
        ("capacity in 2012", 630),
        ("minimum capacity", 4.95),
        ("smallest capacity", 4.95),
        ("lowest capacity of hydro", 2080),
        ("maximum capacity", 22500),
        ("highest capacity in the United States", 6809),
        ("largest capacity of offshore wind", 1218),
        ("median capacity of tidal", 247),
        ("mean capacity of tidal", 247),
        ("average capacity of solar", 784.5),
        ("average first power year of tidal", 1988.5),
        ("earliest first power year", 1936),
        ("latest first power year", 2021),
        ("total capacity opened after 2010", 45340),
    ],
)
def test_one_figure_about_the_power_stations(
    parts: SimpleNamespace, stations: pl.DataFrame, question: str, expected: float
) -> None:
    assert figure(parts, stations, question) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["hydro", "offshore wind", "solar", "tidal", "pumped storage"])
@pytest.mark.parametrize(
    ("asked", "worked_out"),
    [
        ("total capacity of {}", sum),
        ("what is the average capacity of {}?", statistics.fmean),
        ("median capacity for {}", statistics.median),
        ("maximum capacity of {} stations", max),
        ("minimum capacity of {} stations", min),
        ("how many {} stations are there", len),
    ],
)
def test_every_aggregate_of_every_kind_is_the_one_worked_out_by_hand(
    parts: SimpleNamespace, stations: pl.DataFrame, kind: str, asked: str, worked_out: object
) -> None:
    assert callable(worked_out)
    assert figure(parts, stations, asked.format(kind)) == pytest.approx(worked_out(capacity(kind=kind)))


@pytest.mark.parametrize("column", ["kind", "country"])
@pytest.mark.parametrize(
    ("asked", "worked_out"),
    [
        ("total capacity by {}", sum),
        ("average capacity per {}", statistics.fmean),
        ("median capacity for each {}", statistics.median),
        ("maximum capacity by {}", max),
        ("minimum capacity for every {}", min),
        ("number of stations per {}", len),
        ("count by {}", len),
    ],
)
def test_every_group_has_its_own_figure(
    parts: SimpleNamespace, stations: pl.DataFrame, column: str, asked: str, worked_out: object
) -> None:
    assert callable(worked_out)
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for row in ROWS:
        groups[row[column]].append(float(row["capacity_mw"]))
    found = answer(parts, stations, asked.format(column))
    assert found is not None
    assert dict(found.rows) == pytest.approx({label: worked_out(values) for label, values in groups.items()})


@pytest.mark.parametrize(
    ("question", "first", "value"),
    [
        ("Which country has the most capacity?", "China", 52360),
        ("which country has the least capacity", "Denmark", 204.95),
        ("which kind has the most stations", "hydro", 12),
        ("which kind has the highest average capacity", "hydro", 9858),
        ("which kind has the lowest average capacity", "tidal", 247),
        ("top 3 countries by capacity", "China", 52360),
        ("bottom 2 countries by capacity", "Denmark", 204.95),
        ("WHICH COUNTRY HAS THE MOST CAPACITY", "China", 52360),
        ("which   country \n has the\tmost capacity ?!", "China", 52360),
        ("which station has the highest capacity", "Three Gorges", 22500),
    ],
)
def test_a_ranking_begins_with_the_right_one(
    parts: SimpleNamespace, stations: pl.DataFrame, question: str, first: str, value: float
) -> None:
    found = answer(parts, stations, question)
    assert found is not None
    assert (found.rows[0][0], found.rows[0][1]) == (first, pytest.approx(value))
    values = [row[-1] for row in found.rows]
    assert values == sorted(values, reverse=found.plan.order == "descending")


@pytest.mark.parametrize(("asked", "count"), [("top 1", 1), ("top 3", 3), ("bottom 2", 2), ("top 99", 12)])
def test_a_ranking_is_as_long_as_it_was_asked_for(
    parts: SimpleNamespace, stations: pl.DataFrame, asked: str, count: int
) -> None:
    found = answer(parts, stations, f"{asked} countries by capacity")
    assert found is not None
    assert len(found.rows) == count


def test_two_groups_are_two_columns(parts: SimpleNamespace, stations: pl.DataFrame) -> None:
    found = answer(parts, stations, "sum of capacity by kind and country")
    assert found is not None
    assert [group.column for group in found.plan.group_by] == ["kind", "country"]
    assert ["hydro", "China", pytest.approx(52360)] in found.rows
    assert sum(row[2] for row in found.rows) == pytest.approx(127050.95)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("total units", 66),
        ("how many orders", 8),
        ("how many customers are there", 4),
        ("how many cities are there", 4),
        ("total units in Oslo", 15),
        ("total units in York", 9),
        ("total units in New York", 32),
        ("total units of tea", 18),
        ("total units of iced tea", 5),
        ("total units of tea in Oslo", 11),
        ("total units of tea and coffee", 61),
        ("total units not of tea", 48),
        ("total units without coffee", 23),
        ("total units bought by Anna", 20),
        ("total units of Anna and Bo", 25),
        ("average unit price of coffee", 2.416667),
        ("highest unit price", 4),
        ("lowest unit price of tea", 1.5),
        ("total units in 2023", 23),
        ("total units during 2024", 43),
        ("total units since 2024", 43),
        ("total units before 2024", 23),
        ("total units where unit price over 2", 48),
        ("total units where unit price at least 2.5", 18),
        ("total units where unit price under 1.75", 17),
        ("total units with unit price between 1.75 and 2.5", 44),
        ("how many orders in 2023", 4),
        ("latest ordered on", "2024-12-31"),
        ("earliest ordered on", "2023-01-05"),
    ],
)
def test_one_figure_about_the_orders(
    parts: SimpleNamespace, orders: pl.DataFrame, question: str, expected: float | str
) -> None:
    found = figure(parts, orders, question)
    assert found == (expected if isinstance(expected, str) else pytest.approx(expected))


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("units by year", [["2023-01-01", 23], ["2024-01-01", 43]]),
        ("yearly units", [["2023-01-01", 23], ["2024-01-01", 43]]),
        ("total units per quarter", [["2023-01-01", 14], ["2023-04-01", 7], ["2023-10-01", 2], ["2024-01-01", 40],
                                     ["2024-10-01", 3]]),
        ("units by product", [["coffee", 43], ["iced tea", 5], ["tea", 18]]),
        ("units by city", [["Bergen", 10], ["New York", 32], ["Oslo", 15], ["York", 9]]),
        ("which product sold most", [["coffee", 43], ["tea", 18], ["iced tea", 5]]),
        ("which customer bought least units", [["Dora", 9], ["Bo", 5], ["Anna", 20]]),
    ],
)  # fmt: skip
def test_groups_of_the_orders(
    parts: SimpleNamespace, orders: pl.DataFrame, question: str, rows: list[list[object]]
) -> None:
    found = answer(parts, orders, question)
    assert found is not None
    if "least" in question:
        assert found.plan.order == "ascending"
        assert found.rows[0] == ["Bo", 5]
        return
    assert found.rows == rows


@pytest.mark.parametrize(
    "question",
    [
        "What is the weather?",
        "why?",
        "hello",
        "capacity?",
        "sum",
        "country",
        "tell me something",
        "is it good",
        "wie viele Kraftwerke gibt es",
        "total capacity in Atlantis",
        "how many stations in Norway",
        "average capacity of Gondor and Mordor",
        "total capacity of Pikachu in China",
        "1 2 3",
        "?????",
        "\u202etotal",
        "\U0001f600",
    ],
)
def test_what_the_table_cannot_answer_gets_no_answer(
    parts: SimpleNamespace, stations: pl.DataFrame, question: str
) -> None:
    assert answer(parts, stations, question) is None


@pytest.mark.parametrize(
    "question",
    [
        "Total Capacity By Country",
        "How Many Stations Are There",
        "total capacity of hydro in MW",
        "Average capacity in January",
        "In China, what is the total capacity?",
    ],
)
def test_capital_letters_alone_are_no_stranger(parts: SimpleNamespace, stations: pl.DataFrame, question: str) -> None:
    assert answer(parts, stations, question) is not None


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("how many stations are there", "The number of rows is 24."),
        ("total capacity of hydro", "The total capacity_mw where kind = hydro is 118,296 (over 12 rows)."),
        ("capacity of Vindeby", "The total capacity_mw where name = Vindeby is 4.95 (over 1 row)."),
        ("how many stations are not in China", "The number of rows where country != China is 21."),
        (
            "which kind has the highest average capacity",
            "hydro has the highest average capacity_mw: 9,858. Next: pumped storage with 2,031.50; solar with 784.50; "
            "offshore wind with 438.16; tidal with 247.",
        ),
        ("top 1 countries by capacity", "China has the highest total capacity_mw: 52,360."),
        ("number of stations by kind in France", "The number of rows where country = France by kind: tidal: 1."),
        ("how many stations opened after 2050", "No rows match: number of rows where first_power_year > 2050."),
        ("total capacity opened after 2050", "No rows match: total capacity_mw where first_power_year > 2050."),
    ],
)
def test_the_sentence_says_what_was_computed(
    parts: SimpleNamespace, stations: pl.DataFrame, question: str, sentence: str
) -> None:
    found = answer(parts, stations, question)
    assert found is not None
    assert found.sentence == sentence


def test_long_lists_are_cut_with_a_count(parts: SimpleNamespace, stations: pl.DataFrame) -> None:
    found = answer(parts, stations, "total capacity by name")
    assert found is not None
    assert found.sentence.endswith("; and 12 more.")
    assert len(found.rows) == 24


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ({"measure": {"aggregate": "sum", "column": "nope"}}, "no column 'nope'"),
        ({"measure": {"aggregate": "count"}, "group_by": [{"column": "nope"}]}, "no column 'nope'"),
        ({"measure": {"aggregate": "count"}, "filters": [{"column": "nope", "op": "=", "value": 1}]}, "no column"),
        ({"measure": {"aggregate": "sum"}}, "sum of what"),
        ({"measure": {"aggregate": "median", "column": "city"}}, "no numbers"),
        ({"measure": {"aggregate": "sum", "column": "paid"}}, "no numbers"),
        ({"measure": {"aggregate": "count"}, "group_by": [{"column": "city", "period": "year"}]}, "no dates"),
        (
            {
                "measure": {"aggregate": "count"},
                "filters": [{"column": "units", "op": "=", "value": 1, "period": "year"}],
            },
            "no dates",
        ),
        ({"measure": {"aggregate": "count"}, "filters": [{"column": "units", "op": "in", "value": 3}]}, "`in` takes"),
        ({"measure": {"aggregate": "count"}, "filters": [{"column": "units", "op": "=", "value": [3]}]}, "`in` takes"),
        ({"measure": {"aggregate": "count"}, "pivot": True}, "two columns"),
        ({"measure": {"aggregate": "count"}, "pivot": True, "group_by": [{"column": "city"}]}, "two columns"),
        (
            {"measure": {"aggregate": "count"}, "filters": [{"column": "ordered_on", "op": ">", "value": "soon"}]},
            "does not fit the data",
        ),
        (
            {"measure": {"aggregate": "count"}, "filters": [{"column": "units", "op": ">", "value": "many"}]},
            "does not fit the data",
        ),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_its_reason(
    parts: SimpleNamespace, orders: pl.DataFrame, plan: dict[str, object], why: str
) -> None:
    with pytest.raises(Refusal, match=why) as caught:
        parts.querying.run(parts.plan.Plan.model_validate(plan), orders)
    assert caught.value.next_step
    assert caught.value.field == "query"


@pytest.mark.parametrize(
    ("condition", "matched"),
    [
        ({"column": "units", "op": "=", "value": 10}, 1),
        ({"column": "units", "op": "!=", "value": 10}, 7),
        ({"column": "units", "op": ">", "value": 9}, 2),
        ({"column": "units", "op": ">=", "value": 9}, 3),
        ({"column": "units", "op": "<", "value": 2}, 1),
        ({"column": "units", "op": "<=", "value": 2}, 2),
        ({"column": "units", "op": "in", "value": [1, 2, 99]}, 2),
        ({"column": "units", "op": "in", "value": []}, 0),
        ({"column": "unit_price", "op": "=", "value": 2.5}, 2),
        ({"column": "city", "op": "=", "value": "Oslo"}, 3),
        ({"column": "city", "op": "=", "value": "oslo"}, 0),
        ({"column": "city", "op": "!=", "value": "Oslo"}, 5),
        ({"column": "city", "op": "in", "value": ["Oslo", "York"]}, 4),
        ({"column": "city", "op": ">", "value": "O"}, 4),
        ({"column": "paid", "op": "=", "value": True}, 5),
        ({"column": "paid", "op": "!=", "value": True}, 3),
        ({"column": "ordered_on", "op": "=", "value": "2024-02-29"}, 1),
        ({"column": "ordered_on", "op": ">=", "value": "2024-01-01"}, 4),
        ({"column": "ordered_on", "op": "<", "value": "2023-01-05"}, 0),
        ({"column": "ordered_on", "op": "=", "value": 2024, "period": "year"}, 4),
        ({"column": "ordered_on", "op": "<=", "value": 2023, "period": "year"}, 4),
    ],
)
def test_conditions_keep_exactly_their_rows(
    parts: SimpleNamespace, orders: pl.DataFrame, condition: dict[str, object], matched: int
) -> None:
    plan = parts.plan.Plan.model_validate({"measure": {"aggregate": "count"}, "filters": [condition]})
    outcome = parts.querying.run(plan, orders)
    assert outcome.matched_rows == matched
    assert outcome.rows == [[matched]]


def test_conditions_hold_together(parts: SimpleNamespace, orders: pl.DataFrame) -> None:
    filters = [
        {"column": "product", "op": "=", "value": "tea"},
        {"column": "city", "op": "=", "value": "Oslo"},
        {"column": "units", "op": ">", "value": 5},
    ]
    plan = parts.plan.Plan.model_validate({"measure": {"aggregate": "sum", "column": "units"}, "filters": filters})
    outcome = parts.querying.run(plan, orders)
    assert (outcome.rows, outcome.matched_rows) == ([[10]], 1)


def test_a_pivot_lays_two_groups_across(parts: SimpleNamespace, orders: pl.DataFrame) -> None:
    plan = parts.plan.Plan.model_validate(
        {
            "measure": {"aggregate": "sum", "column": "units"},
            "group_by": [{"column": "city"}, {"column": "product"}],
            "pivot": True,
        }
    )
    outcome = parts.querying.run(plan, orders)
    assert outcome.columns[0] == "city"
    assert set(outcome.columns[1:]) == {"tea", "coffee", "iced tea"}
    by_city = {row[0]: dict(zip(outcome.columns[1:], row[1:], strict=True)) for row in outcome.rows}
    assert by_city["Oslo"] == {"tea": 11, "coffee": 4, "iced tea": None}
    assert by_city["Bergen"] == {"tea": 7, "coffee": None, "iced tea": 3}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"), (5, "5"), (-5, "-5"), (1234567, "1,234,567"), (3.0, "3"), (0.5, "0.5"), (0.123456, "0.1235"),
        (1.005, "1.00"), (1234.5678, "1,234.57"), (-0.25, "-0.25"), (1e-9, "0"), (None, "nothing"), (True, "True"),
        ("text", "text"), (float("nan"), "nothing"), (float("inf"), "nothing"), (10**20, str(10**20)),
        (2**53, str(2**53)),
    ],
)  # fmt: skip
def test_figures_are_written_as_people_write_them(parts: SimpleNamespace, value: object, shown: str) -> None:
    assert parts.querying.number_text(value) == shown


SPOKEN = """total average how many which what top 3 by per not in over under between and 2013 10 capacity country kind
    hydro China solar most least stations year first of the or highest Atlantis ? , . no more than less"""
WORDS = st.sampled_from(SPOKEN.split())


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=12))
def test_any_words_in_any_order_make_a_plan_that_runs_or_none(
    parts: SimpleNamespace, stations: pl.DataFrame, words: list[str]
) -> None:
    found = answer(parts, stations, " ".join(words))
    if found is None:
        return
    assert found.sentence.endswith(".")
    assert found.matched <= stations.height
    assert len(found.rows) <= 1000
    columns = {*(item.column for item in found.plan.filters), *(item.column for item in found.plan.group_by)}
    assert columns <= set(stations.columns)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-(10**6), 10**6)), min_size=1, max_size=40))
def test_groups_add_up_to_the_whole(parts: SimpleNamespace, rows: list[tuple[str, int]]) -> None:
    frame = pl.DataFrame({"shop": [shop for shop, _ in rows], "sales": [sale for _, sale in rows]})
    found = answer(parts, frame, "total sales by shop")
    assert found is not None
    assert sum(value for _, value in found.rows) == sum(sale for _, sale in rows)
    assert [label for label, _ in found.rows] == sorted({shop for shop, _ in rows})


@pytest.mark.parametrize("largest", [2**63 - 1, -(2**63)])
def test_sums_beyond_64_bits_keep_their_digits(parts: SimpleNamespace, largest: int) -> None:
    frame = pl.DataFrame({"label": ["x", "x", "y"], "amount": [largest, largest, 1]})
    found = answer(parts, frame, "total amount by label")
    assert found is not None
    assert found.rows == [["x", str(2 * largest)], ["y", 1]]
    assert figure(parts, frame, "total amount") == str(2 * largest + 1)
