"""The spreadsheet analyzer on tables as they come: odd encodings, ragged rows, workbooks, bombs, questions."""

from __future__ import annotations

import csv
import io
import json
from xml.etree import ElementTree

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.sdk import Context, Recorder
from agentnexus.sdk.execute import execute_blocking
from tests.agents.support import bomb_workbook, encoded, example, load, refused, run, workbook

NAME = "spreadsheet-analyzer"
SHOPS = """region,month,sales,price
North,2024-01,120,2.5
South,2024-01,95,3
North,2024-02,135,2.75
South,2024-02,140,3.5
"""


def analyze(text: str | bytes, **options: object) -> dict:
    data = text.encode() if isinstance(text, str) else text
    return run(NAME, {"file": encoded(data), **options})


def columns(answer: dict) -> dict[str, dict]:
    return {column["name"]: column for column in answer["result"]["tables"][0]["columns"]}


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def test_the_example_table_is_described_column_by_column() -> None:
    answer = run(NAME, {"file": example("power-stations.csv")})

    table = answer["result"]["tables"][0]
    assert table["rows"] == 24
    assert [(column["name"], column["dtype"]) for column in table["columns"]] == [
        ("name", "text"),
        ("kind", "text"),
        ("country", "text"),
        ("first_power_year", "integer"),
        ("capacity_mw", "number"),
    ]
    capacity = columns(answer)["capacity_mw"]
    assert capacity["stats"]["max"] == 22500
    assert capacity["stats"]["min"] == 4.95
    assert [outlier["value"] for outlier in capacity["outliers"][:2]] == [22500, 16000]
    assert answer["engine"] == "rules"


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("Which country has the most capacity?", "China has the highest total capacity_mw: 52,360"),
        ("which station has the highest capacity", "Three Gorges has the highest capacity_mw: 22,500"),
        ("which kind has the most stations", "hydro has the highest number of rows: 12"),
        ("average capacity by kind", "offshore wind: 438.16"),
        ("how many stations in Denmark", "country = Denmark is 3"),
        ("how many stations opened after 2000", "first_power_year > 2000 is 12"),
        ("average capacity per country since 2003", "first_power_year >= 2003"),
        ("top 3 countries by capacity", "China has the highest total capacity_mw: 52,360. Next: Brazil with 19,603;"),
        ("what is the capacity of Hoover Dam", "2,080"),
        ("median capacity of offshore wind in the United Kingdom", "is 630 (over 3 rows)"),
        ("how many different countries are there", "number of different country is 12"),
        ("capacity of plants between 1960 and 1970", "6,240"),
    ],
)
def test_questions_become_plans_with_exact_answers(question: str, says: str) -> None:
    result = run(NAME, {"file": example("power-stations.csv"), "question": question})["result"]

    assert says in result["answer"]
    assert result["query"] is not None


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("Which region sold most?", "North has the highest total sales: 255. Next: South with 235."),
        ("Which region sold least?", "South has the lowest total sales: 235. Next: North with 255."),
        ("average price by month", "2024-01-01: 2.75; 2024-02-01: 3.12"),
        ("total sales per month", "2024-01-01: 215; 2024-02-01: 275"),
        ("total sales in the North", "region = North is 255"),
        ("sales by region and by month", "2024-01-01 / North: 120; 2024-01-01 / South: 95"),
        ("How many rows are in the South?", "is 2."),
        ("What were the total sales in 2024?", "490"),
        ("total sales where price over 2.6", "price > 2.6 is 370"),
    ],
)
def test_everyday_questions_about_sales_are_answered(question: str, says: str) -> None:
    assert says in analyze(SHOPS, question=question)["result"]["answer"]


@pytest.mark.parametrize("question", ["What is the weather?", "why?", "tell me a joke", "is it good"])
def test_a_question_that_cannot_be_mapped_is_said_to_be_so(question: str) -> None:
    answer = analyze(SHOPS, question=question)

    assert answer["result"]["answer"] is None
    assert answer["result"]["query"] is None
    assert "could not be mapped" in answer["warnings"][-1]


def test_a_query_plan_runs_as_sent_and_pivots() -> None:
    plan = {
        "group_by": [{"column": "region"}, {"column": "month", "period": "month"}],
        "measure": {"aggregate": "sum", "column": "sales"},
        "pivot": True,
    }

    result = analyze(SHOPS, query=plan)["result"]["query_result"]

    assert result["columns"] == ["region", "2024-01-01", "2024-02-01"]
    assert result["rows"] == [["North", 120, 135], ["South", 95, 140]]


@pytest.mark.parametrize(
    "plan",
    [
        {"measure": {"aggregate": "sum", "column": "nothing"}},
        {"measure": {"aggregate": "sum"}},
        {"measure": {"aggregate": "mean", "column": "region"}},
        {"measure": {"aggregate": "count"}, "group_by": [{"column": "region", "period": "month"}]},
        {"measure": {"aggregate": "count"}, "filters": [{"column": "sales", "op": "in", "value": 3}]},
        {"measure": {"aggregate": "count"}, "filters": [{"column": "sales", "op": ">", "value": "many"}]},
        {"measure": {"aggregate": "count"}, "filters": [{"column": "month", "op": ">", "value": "not a date"}]},
        {"measure": {"aggregate": "count"}, "pivot": True, "group_by": [{"column": "region"}]},
    ],
)
def test_a_plan_that_does_not_fit_the_table_is_refused(plan: dict) -> None:
    assert refused(NAME, {"file": encoded(SHOPS.encode()), "query": plan}).field == "query"


def test_a_plan_with_an_unknown_part_is_an_input_error() -> None:
    plan = {"measure": {"aggregate": "exec", "column": "sales"}}

    assert refused(NAME, {"file": encoded(SHOPS.encode()), "query": plan}).code == "invalid_input"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_delimiter_and_encoding_are_recognised(delimiter: str, encoding: str) -> None:
    rows = [["Straße", "Anzahl"], ["Königsallee", "12"], ["Mühlweg", "7"]]
    text = "\n".join(delimiter.join(row) for row in rows)

    answer = analyze(text.encode(encoding))

    assert columns(answer)["Straße"]["dtype"] == "text"
    assert columns(answer)["Anzahl"]["stats"]["sum"] == 19
    assert answer["result"]["tables"][0]["preview"][0] == ["Königsallee", 12]


@pytest.mark.parametrize(
    ("cells", "dtype", "total"),
    [
        (["1", "2", "3"], "integer", 6),
        (["1.5", "2", ""], "number", 3.5),
        (["1,200", "3,400,000", "12"], "integer", 3401212),
        (["$1,200.50", "$3", "$4.50"], "number", 1208),
        (["12%", "8%", "30%"], "integer", 50),
        (["(5)", "10", "n/a"], "integer", 5),
        (["1 000", "2 500", "3"], "integer", 3503),
        (["1e3", "2", "NaN"], "number", 1002),
    ],
)
def test_numbers_are_recognised_behind_signs_and_separators(cells: list[str], dtype: str, total: float) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["label", "amount"])
    writer.writerows(["x", cell] for cell in cells)

    amount = columns(analyze(buffer.getvalue()))["amount"]

    assert amount["dtype"] == dtype
    assert amount["stats"]["sum"] == total


def test_a_decimal_comma_is_understood_where_the_delimiter_leaves_it_free() -> None:
    answer = analyze("ort;preis\nKöln;1.234,50\nBonn;0,5\n")

    assert columns(answer)["preis"]["stats"]["sum"] == 1235


@pytest.mark.parametrize(
    ("cells", "dtype", "first"),
    [
        (["2024-01-31", "2023-12-01"], "date", "2023-12-01"),
        (["31.01.2024", "01.12.2023"], "date", "2023-12-01"),
        (["12/31/2024", "01/02/2024"], "date", "2024-01-02"),
        (["31/12/2024", "15/02/2024"], "date", "2024-02-15"),
        (["2024-01-31T10:00:00", "2024-01-30T09:00:00"], "datetime", "2024-01-30T09:00:00"),
        (["Jan 5, 2024", "Feb 7, 2023"], "date", "2023-02-07"),
    ],
)
def test_dates_are_recognised_in_common_forms(cells: list[str], dtype: str, first: str) -> None:
    answer = analyze("name;when\n" + "\n".join(f"x;{cell}" for cell in cells))

    assert columns(answer)["when"]["dtype"] == dtype
    assert columns(answer)["when"]["stats"]["min"] == first


def test_codes_with_leading_zeros_stay_text() -> None:
    assert columns(analyze("zip,n\n01067,1\n50667,2\n"))["zip"]["dtype"] == "text"


def test_yes_and_no_are_truths() -> None:
    assert columns(analyze("name,paid\na,yes\nb,no\nc,YES\n"))["paid"]["stats"] == {"true": 2, "false": 1}


def test_a_few_bad_cells_do_not_spoil_a_number_column_and_are_named() -> None:
    text = "n,label\n" + "".join(f"{number},x\n" for number in range(30)) + "broken,x\n"

    answer = analyze(text)

    assert columns(answer)["n"]["dtype"] == "integer"
    assert columns(answer)["n"]["nulls"] == 1
    assert any("'broken'" in warning for warning in answer["warnings"])


def test_ragged_rows_preambles_and_missing_headers_are_repaired_and_said() -> None:
    answer = analyze("Report of the harbour\n\nship,tons\nAnna,12\nBerta,7,extra\nClara\nDora,9\n")

    assert answer["result"]["tables"][0]["rows"] == 4
    assert columns(answer)["tons"]["stats"]["sum"] == 28
    assert any("skipped 1 lines" in warning for warning in answer["warnings"])
    assert any("2 rows have more or fewer cells" in warning for warning in answer["warnings"])
    numbered = analyze("1,2\n3,4\n5,6\n")
    assert list(columns(numbered)) == ["column_1", "column_2"]
    assert any("no header" in warning for warning in numbered["warnings"])


def test_repeated_and_blank_column_names_become_different() -> None:
    assert list(columns(analyze("a,a,,a\nx,y,z,w\nx,y,z,w\n"))) == ["a", "a_2", "column_3", "a_3"]


def test_an_unclosed_quotation_mark_does_not_swallow_the_table() -> None:
    text = 'name,n\n"broken,1\n' + "".join(f"row{number},{number}\n" for number in range(100))

    answer = analyze(text)

    assert answer["result"]["tables"][0]["rows"] == 101
    assert any("never closed" in warning for warning in answer["warnings"])


def test_duplicates_gaps_outliers_and_correlations_are_found() -> None:
    rows = [(n, 2 * n + 1, "same") for n in range(1, 30)] + [(5000, 61, "same"), (1, 3, "same")]
    text = "a,b,c\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows) + ",5,same\n"

    answer = analyze(text)

    found = answer["result"]["findings"]
    assert "1 rows repeat an earlier row" in found
    assert any(finding.startswith("a has 1 missing") for finding in found)
    assert any(finding.startswith("a has 1 outliers: 5000 (row 30)") for finding in found)
    assert "c has the same value in every row" in found
    pairs = answer["result"]["tables"][0]["correlations"]
    assert {(pair["a"], pair["b"]) for pair in pairs} == {("a", "b")}


def test_a_perfect_line_correlates_with_one() -> None:
    pairs = analyze("a,b\n" + "".join(f"{n},{-3 * n}\n" for n in range(9)))["result"]["tables"][0]["correlations"]

    assert pairs == [{"a": "a", "b": "b", "r": -1.0, "rows": 9}]


def test_workbooks_give_one_table_per_sheet_and_a_sheet_can_be_chosen() -> None:
    book = workbook(
        {"Ships": [["ship", "tons"], ["Anna", 12], ["Berta", 7.5]], "Empty": [], "Ports": [["port"], ["Esbjerg"]]}
    )

    both = run(NAME, {"file": encoded(book)})["result"]["tables"]
    assert [(table["name"], table["rows"]) for table in both] == [("Ships", 2), ("Ports", 1)]
    one = run(NAME, {"file": encoded(book), "sheet": "Ships", "question": "total tons"})["result"]
    assert len(one["tables"]) == 1
    assert "19.50" in one["answer"]
    assert refused(NAME, {"file": encoded(book), "sheet": "Cargo"}).field == "sheet"


def test_workbook_dates_and_title_lines_are_understood() -> None:
    from datetime import date

    book = workbook({"S": [["Quarterly figures"], ["day", "n"], [date(2024, 1, 5), 3], [date(2024, 2, 6), 4]]})

    answer = run(NAME, {"file": encoded(book)})

    assert columns(answer)["day"]["dtype"] in ("date", "datetime")
    assert columns(answer)["n"]["stats"]["sum"] == 7


def test_parquet_is_read_and_nested_columns_are_left_out() -> None:
    frame = pl.DataFrame({"n": [1, 2], "nested": [[1], [2]], "kind": pl.Series(["a", "b"], dtype=pl.Categorical)})

    answer = run(NAME, {"file": encoded(parquet(frame))})

    assert list(columns(answer)) == ["n", "kind"]
    assert any("nested" in warning for warning in answer["warnings"])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"  \n\n ", "empty"),
        (b"a,b\n", "no rows"),
        (bytes(range(256)) * 10, "not a text table"),
        (b"\x89PNG\r\n\x1a\n" + bytes(2000), "not a text table"),
        (b"PAR1 broken PAR1", "not a readable Parquet"),
        (b"PK\x03\x04 broken", "not an Excel workbook"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), "cannot be read"),
        (b"\xd0\xcf\x11\xe0" + bytes(600) + "EncryptedPackage".encode("utf-16-le"), "encrypted"),
        (b"%PDF-1.4\n" + bytes(100), "not a text table"),
    ],
)
def test_files_that_hold_no_table_are_refused(data: bytes, says: str) -> None:
    assert says in refused(NAME, {"file": encoded(data)}).message


def test_the_wrong_kind_is_refused_with_what_to_do() -> None:
    book = workbook({"S": [["a"], [1]]})

    assert refused(NAME, {"file": encoded(book), "kind": "csv"}).field == "kind"
    assert refused(NAME, {"file": encoded(b"a,b\n1,2\n"), "kind": "xlsx"}).field == "file"
    assert refused(NAME, {"file": encoded(b"a,b\n1,2\n"), "kind": "parquet"}).field == "file"


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = bomb_workbook(300 * 1024 * 1024)
    assert len(bomb) < 2 * 1024 * 1024

    assert "unpacks to" in refused(NAME, {"file": encoded(bomb)}).message


def test_fifty_megabytes_are_refused_with_the_limit() -> None:
    assert "50.0 MB" in refused(NAME, {"file": encoded(b"a,b\n" + b"1,2\n" * (50 * 1024 * 256))}).message


def test_formulas_and_markup_in_cells_stay_text_in_answers_and_charts() -> None:
    text = "name,n\n=cmd|' /C calc'!A0,1\n<script>alert(1)</script>,2\nplain,3\n"

    answer = analyze(text, question="chart total n by name")

    svg = answer["result"]["charts"][0]["svg"]
    assert "<script>" not in svg
    assert "&lt;script&gt;" in svg
    ElementTree.fromstring(svg)


def test_charts_are_whole_vega_lite_specifications_and_files_of_svg() -> None:
    recorder = Recorder()

    result = run(NAME, {"file": example("power-stations.csv"), "question": "chart of capacity by kind"}, recorder)[
        "result"
    ]

    chart = result["charts"][0]
    assert chart["spec"]["mark"] == "bar"
    assert len(chart["spec"]["data"]["values"]) == 5
    artifacts = recorder.of("artifact")
    assert [artifact["media_type"] for artifact in artifacts] == ["image/svg+xml"] * len(result["charts"])
    for shown in result["charts"]:
        root = ElementTree.fromstring(shown["svg"])
        assert root.attrib["role"] == "img"
        assert root.find("{http://www.w3.org/2000/svg}title").text == shown["title"]
        assert "href" not in shown["svg"]


def charts_of(**request: object) -> list[str]:
    return [chart["title"] for chart in analyze(SHOPS, **request)["result"]["charts"]]


def test_an_answer_is_drawn_when_that_is_asked_for_and_then_it_and_nothing_else() -> None:
    whole = charts_of()
    assert len(whole) == 1
    (answered,) = charts_of(question="total sales per month, as a chart")
    assert answered not in whole
    assert charts_of(question="total sales per month") == []
    for words in ("plot total sales per month", "graph of total sales per month", "trend of total sales per month"):
        assert charts_of(question=words) == [answered]
    assert (
        charts_of(query={"group_by": [{"column": "month"}], "measure": {"aggregate": "count"}}) != []
    )  # no words to ask
    assert charts_of(question="total sales") == []  # one figure has no picture, and nobody asked for another
    assert charts_of(question="total sales, and draw a chart") == whole
    assert charts_of(question="tell me about the weather on Mars") == whole


def test_a_series_over_time_becomes_a_line() -> None:
    charts = analyze(SHOPS, question="chart total sales per month")["result"]["charts"]

    assert charts[0]["kind"] == "line"
    assert "polyline" in charts[0]["svg"]


CELL = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12).map(str.strip)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(CELL, st.integers(-(10**9), 10**9)), min_size=1, max_size=30))
def test_what_is_written_as_csv_is_read_back(rows: list[tuple[str, int]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["label", "amount"])
    writer.writerows(rows)
    _, agent = load(NAME)

    outcome = execute_blocking(agent, {"file": encoded(buffer.getvalue().encode())}, Context())

    assert outcome.status == "completed"
    table = outcome.output["result"]["tables"][0]
    amount = next(column for column in table["columns"] if column["name"] == "amount")
    assert table["rows"] == len(rows)
    assert amount["stats"]["sum"] == sum(value for _, value in rows)
    assert amount["stats"]["min"] == min(value for _, value in rows)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_crash_the_agent(data: bytes) -> None:
    _, agent = load(NAME)

    outcome = execute_blocking(agent, {"file": encoded(data)}, Context())

    assert outcome.status in ("completed", "refused"), outcome
    json.dumps(outcome.output, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_no_question_crashes_the_agent(question: str) -> None:
    _, agent = load(NAME)

    outcome = execute_blocking(agent, {"file": encoded(SHOPS.encode()), "question": question}, Context())

    assert outcome.status == "completed", outcome


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30))
def test_an_axis_holds_zero_and_every_value_between_round_ticks(values: list[float]) -> None:
    load(NAME)
    from svg import HEIGHT, axis_for

    axis = axis_for(values)

    assert axis.ticks[0] <= min(0, *values) + 1e-6
    assert axis.ticks[-1] >= max(0, *values) - 1e-6
    assert all(0 <= axis.y(value) <= HEIGHT for value in values)
    assert 2 <= len(axis.ticks) <= 12
