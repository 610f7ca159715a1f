"""Cells and files as the world writes them: money, debts, percent, dates of every style, encodings, odd workbooks."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, time

import openpyxl
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.styles import Font

from tests.agents.support import encoded, refused, run, workbook

NAME = "spreadsheet-analyzer"


def analyze(data: str | bytes, **options: object) -> dict:
    return run(NAME, {"file": encoded(data.encode() if isinstance(data, str) else data), **options})


def written(cells: list[str], delimiter: str = ",") -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["label", "amount"])
    writer.writerows(["x", cell] for cell in cells)
    return buffer.getvalue()


def amount(cells: list[str], delimiter: str = ",") -> dict:
    """The described column of these cells."""
    (table,) = analyze(written(cells, delimiter))["result"]["tables"]
    return next(column for column in table["columns"] if column["name"] == "amount")


def tables(answer: dict) -> dict[str, dict]:
    return {table["name"]: table for table in answer["result"]["tables"]}


def names(answer: dict) -> list[str]:
    return [column["name"] for column in answer["result"]["tables"][0]["columns"]]


@pytest.mark.parametrize(
    ("cells", "dtype", "total"),
    [
        (["(1,200)", "(3)", "5"], "integer", -1198),
        (["(1,200.50)", "3"], "number", -1197.5),
        (["$(5)", "10"], "integer", 5),
        (["($5.00)", "10"], "number", 5),
        (["(\u20ac5)", "(\u00a36)"], "integer", -11),
        (["-$5", "$7"], "integer", 2),
        (["$-5", "+$7"], "integer", 2),
        (["$ 5", "$ 7"], "integer", 12),
        (["5-", "3.5-"], "number", -8.5),
        (["+5", "-3"], "integer", 2),
        (["\u00a31,000", "\u00a32"], "integer", 1002),
        (["\u00a5100", "200\u00a5"], "integer", 300),
        (["USD 5", "6 USD"], "integer", 11),
        (["EUR 1,234.50", "CHF 1"], "number", 1235.5),
        (["\u20ac1.200,50", "\u20ac3,5"], "number", 1204),
        (["1.200,50 \u20ac", "3,5 \u20ac"], "number", 1204),
        (["1,00", "2,50"], "number", 3.5),
        (["1,000", "2,000"], "integer", 3000),
        (["1,234,567.89", "0.11"], "number", 1234568),
        (["1 234 567", "1"], "integer", 1234568),
        (["1 234 567 890", "1"], "integer", 1234567891),
        (["1\u00a0234\u00a0567", "5"], "integer", 1234572),
        (["1\u202f234,5", "5"], "number", 1239.5),
        (["1'234'567", "1"], "integer", 1234568),
        (["1\u2019234.5", "2"], "number", 1236.5),
        (["0.5%", "12.5 %"], "number", 13),
        (["100%", "-5%"], "integer", 95),
        (["1e5", "2E-3"], "number", 100000.002),
        ([".5", "-.5", "1."], "number", 1),
        (["-0", "0.0"], "number", 0),
        (["0", "1"], "integer", 1),
        (["5", "", "N/A", "-", "--", "null", "None", "?", "#N/A", "missing", "\u2013", "nan"], "integer", 5),
        (["\u20035 ", "\t6 ", "\u00a07"], "integer", 18),
        (["99999999999999999999", "1"], "number", 1e20),
        (["9223372036854775807", "1"], "integer", "9223372036854775808"),
        (["9007199254740991", "1"], "integer", "9007199254740992"),
        (["9007199254740990", "1"], "integer", 9007199254740991),
    ],
)
def test_numbers_are_read_behind_their_dress(cells: list[str], dtype: str, total: float | str) -> None:
    column = amount(cells)
    assert column["dtype"] == dtype
    assert column["stats"]["sum"] == (total if isinstance(total, str) else pytest.approx(total))


@pytest.mark.parametrize(
    "cells",
    [
        ["1/2", "3/4"],
        ["0x10", "0x20"],
        ["12 kg", "13 kg"],
        ["555 1234", "555 9876"],
        ["1,2,3", "4,5,6"],
        ["1.2.3", "4.5.6"],
        ["10:30", "11:45"],
        ["01067", "50667"],
        ["00", "01"],
        ["1-2", "3-4"],
        ["$", "\u20ac"],
        ["()", "( )"],
        ["%", "%%"],
        ["inf", "-inf", "1"],
        ["\u0661\u0662", "\u0663"],
        ["y", "n"],
        ["1", "0", "yes"],
        ["Monday", "Tuesday"],
        ["Q1 2024", "Q2 2024"],
        ["2024-W01", "2024-W02"],
        ["2024-13-01", "2024-02-30"],
        ["1 2 3", "4 5 6"],
        ["+49 30 1234567", "+49 40 7654321"],
        ["192.168.0.1", "10.0.0.1"],
        ["DE89 3704 0044 0532 0130 00", "x"],
    ],
)
def test_what_only_looks_like_a_number_or_a_date_stays_text(cells: list[str]) -> None:
    column = amount(cells)
    assert column["dtype"] == "text"
    assert column["stats"]["unique"] == len(set(cells))


@pytest.mark.parametrize(
    ("cells", "dtype", "first", "last"),
    [
        (["2024-01-31", "2023-12-01"], "date", "2023-12-01", "2024-01-31"),
        (["2024/01/31", "2023/12/01"], "date", "2023-12-01", "2024-01-31"),
        (["31.01.2024", "01.12.2023"], "date", "2023-12-01", "2024-01-31"),
        (["1.2.2024", "3.12.2023"], "date", "2023-12-03", "2024-02-01"),
        (["31.12.24", "01.01.70"], "date", "1970-01-01", "2024-12-31"),
        (["01/02/2024", "12/31/2024"], "date", "2024-01-02", "2024-12-31"),
        (["01/02/2024", "31/12/2024"], "date", "2024-02-01", "2024-12-31"),
        (["31/12/24", "01/01/24"], "date", "2024-01-01", "2024-12-31"),
        (["12/31/24", "1/1/24"], "date", "2024-01-01", "2024-12-31"),
        (["1/1/69", "1/1/70"], "date", "1970-01-01", "2069-01-01"),
        (["31-12-2024", "01-02-2024"], "date", "2024-02-01", "2024-12-31"),
        (["2024-01", "2023-12"], "date", "2023-12-01", "2024-01-01"),
        (["Jan 2024", "December 2023"], "date", "2023-12-01", "2024-01-01"),
        (["5 Jan 2024", "6 February 2023"], "date", "2023-02-06", "2024-01-05"),
        (["January 5, 2024", "February 6, 2023"], "date", "2023-02-06", "2024-01-05"),
        (["Jan 5, 2024", "Feb 6, 2023"], "date", "2023-02-06", "2024-01-05"),
        (["2024-02-29", "2023-02-28"], "date", "2023-02-28", "2024-02-29"),
        (["2024-01-31 10:00", "2024-01-30 09:30"], "datetime", "2024-01-30T09:30:00", "2024-01-31T10:00:00"),
        (["2024-01-31T10:00", "2024-01-30T09:30"], "datetime", "2024-01-30T09:30:00", "2024-01-31T10:00:00"),
        (["2024-01-31 10:00:05", "2024-01-30 09:30:00"], "datetime", "2024-01-30T09:30:00", "2024-01-31T10:00:05"),
        (["2024-01-31 10:00:05.5", "2024-01-30 09:30:00"], "datetime", "2024-01-30T09:30:00",
         "2024-01-31T10:00:05.500000"),
        (["2024-01-31T10:00:00Z", "2024-01-31T09:00:00.250Z"], "datetime", "2024-01-31T09:00:00.250000",
         "2024-01-31T10:00:00"),
        (["2024-01-31T10:00:00+02:00", "2024-01-31T09:00:00+00:00"], "datetime", "2024-01-31T08:00:00",
         "2024-01-31T09:00:00"),
        (["2024-01-31 00:30:00-0800", "2024-01-31 00:30:00Z"], "datetime", "2024-01-31T00:30:00",
         "2024-01-31T08:30:00"),
    ],
)  # fmt: skip
def test_dates_of_every_style_are_read(cells: list[str], dtype: str, first: str, last: str) -> None:
    column = amount(cells, delimiter=";")
    assert (column["dtype"], column["stats"]["min"], column["stats"]["max"]) == (dtype, first, last)


@pytest.mark.parametrize(
    ("bad", "good", "dtype"), [(1, 19, "integer"), (1, 20, "integer"), (2, 38, "integer"), (1, 18, "text")]
)
def test_one_odd_cell_in_twenty_is_named_and_one_more_makes_text(bad: int, good: int, dtype: str) -> None:
    cells = [str(number) for number in range(good)] + [f"odd {number}" for number in range(bad)]
    answer = analyze(written(cells))
    column = answer["result"]["tables"][0]["columns"][1]
    assert column["dtype"] == dtype
    if dtype == "integer":
        assert column["nulls"] == bad
        assert any(f"{bad} cells of amount are no numbers" in warning for warning in answer["warnings"])
    else:
        assert column["nulls"] == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-(10**11), 10**11), min_size=2, max_size=8), st.sampled_from([",", " ", "\u00a0", "'"]))
def test_grouped_digits_come_back_as_the_same_numbers(numbers: list[int], separator: str) -> None:
    cells = [f"{number:,}".replace(",", separator) for number in numbers]
    assert amount(cells)["stats"]["sum"] == sum(numbers)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=8))
def test_debts_in_parentheses_are_the_negatives(cents: list[int]) -> None:
    debts = amount([f"(${cent / 100:,.2f})" for cent in cents])
    assert debts["stats"]["sum"] == pytest.approx(-sum(cents) / 100, rel=1e-9, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.dates(date(1970, 1, 1), date(2068, 12, 31)), min_size=2, max_size=8),
    st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%d.%m.%y", "%Y/%m/%d", "%d %b %Y", "%B %d, %Y"]),
)
def test_dates_come_back_as_the_same_days(days: list[date], style: str) -> None:
    column = amount([day.strftime(style) for day in days], delimiter=";")
    assert column["dtype"] == "date"
    assert (column["stats"]["min"], column["stats"]["max"]) == (min(days).isoformat(), max(days).isoformat())


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_do_not_matter(encoding: str, newline: str) -> None:
    text = newline.join(["ort,menge", "K\u00f6ln,12", "M\u00fcnchen,7", "D\u00fcsseldorf,1", ""])
    answer = analyze(text.encode(encoding))
    (table,) = answer["result"]["tables"]
    assert names(answer) == ["ort", "menge"]
    assert table["preview"] == [["K\u00f6ln", 12], ["M\u00fcnchen", 7], ["D\u00fcsseldorf", 1]]


@pytest.mark.parametrize(
    ("text", "columns", "preview"),
    [
        ('a,b\n"x\ny",1\n"z",2\n', ["a", "b"], [["x\ny", 1], ["z", 2]]),
        ('a,b\n"say ""hi""",1\nz,2\n', ["a", "b"], [['say "hi"', 1], ["z", 2]]),
        ('"a, the first","b"\n1,2\n3,4\n', ["a, the first", "b"], [[1, 2], [3, 4]]),
        ("a,b\n,1\nx,\n", ["a", "b"], [[None, 1], ["x", None]]),
        ("a,b,\n1,2,\n3,4,\n", ["a", "b", "column_3"], [[1, 2, None], [3, 4, None]]),
        ("a,A,a\nx,y,z\nu,v,w\n", ["a", "A", "a_2"], [["x", "y", "z"], ["u", "v", "w"]]),
        ("\u0627\u0644\u0627\u0633\u0645,\u05de\u05e1\u05e4\u05e8\n\u0639\u0644\u064a,3\n\u05d3\u05d5\u05d3,4\n",
         ["\u0627\u0644\u0627\u0633\u0645", "\u05de\u05e1\u05e4\u05e8"], [["\u0639\u0644\u064a", 3],
                                                                          ["\u05d3\u05d5\u05d3", 4]]),
        ("\U0001f600,n\n\U0001f680,1\n\u4f60\u597d,2\n", ["\U0001f600", "n"], [["\U0001f680", 1], ["\u4f60\u597d", 2]]),
        (" a , b \n 1 , 2 \n 3 , 4 \n", ["a", "b"], [[1, 2], [3, 4]]),
        ("a,b\n1,2\n\n\n3,4\n,\n", ["a", "b"], [[1, 2], [3, 4]]),
        ("a;b\n1,5;2\n2,5;3\n", ["a", "b"], [[1.5, 2], [2.5, 3]]),
        ("a\tb c\td\n1\tx y\t2\n3\tz\t4\n", ["a", "b c", "d"], [[1, "x y", 2], [3, "z", 4]]),
        ("a|b\n1|2\n3|4\n", ["a", "b"], [[1, 2], [3, 4]]),
        ("just\none\ncolumn\n", ["just"], [["one"], ["column"]]),
        ("2019,2020,2021\n1,2,3\n4,5,6\n", ["2019", "2020", "2021"], [[1, 2, 3], [4, 5, 6]]),
        ("x" * 300 + ",b\n1,2\n3,4\n", ["x" * 200, "b"], [[1, 2], [3, 4]]),
    ],
)  # fmt: skip
def test_text_tables_in_odd_shapes(text: str, columns: list[str], preview: list[list[object]]) -> None:
    answer = analyze(text)
    assert names(answer) == columns
    assert answer["result"]["tables"][0]["preview"] == preview


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("Report\nof 2024\na,b\n1,2\n3,4\n", "skipped 2 lines above the table"),
        ("1,2\n3,4\n", "the table has no header; columns were numbered"),
        ("a,b\n1,2\n3\n4,5\n", "1 rows have more or fewer cells than the 2 columns"),
        ("a,b\n1,2\n3,4,5\n6,7\n", "1 rows have more or fewer cells than the 2 columns"),
        ("K\u00f6ln,b\nx,2\n".encode("latin-1").decode("latin-1"), ""),
    ],
)
def test_every_repair_is_said(text: str, warning: str) -> None:
    said = analyze(text)["warnings"]
    assert any(warning in each for each in said) if warning else said == []


def test_a_very_wide_table_is_read_to_its_limit_and_refused_beyond() -> None:
    header = ",".join(f"c{number}" for number in range(2000))
    row = ",".join(str(number) for number in range(2000))
    answer = analyze(f"{header}\n{row}\n{row}\n")
    assert len(names(answer)) == 2000
    assert "2,000 columns" in refused(NAME, {"file": encoded(f"{header},x\n{row},1\n".encode())}).message


def test_a_cell_of_a_hundred_thousand_characters_is_a_cell() -> None:
    long = "word " * 20_000
    answer = analyze(f'name,note\na,"{long}"\nb,short\n')
    note = answer["result"]["tables"][0]["columns"][1]
    assert note["stats"]["max_length"] == len(long.strip())
    assert all(len(top["value"]) <= 200 for top in note["stats"]["top"])


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet", None])
def test_a_file_is_never_read_as_what_it_is_not(kind: str | None) -> None:
    pdf = b"%PDF-1.7\n" + bytes(range(256)) * 4
    assert refused(NAME, {"file": encoded(pdf), "kind": kind}).field == "file"


def styled(**cells: object) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Figures"
    for place, value in cells.items():
        sheet[place] = value
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def test_merged_titles_above_a_sheet_are_skipped() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Figures"
    sheet["A1"] = "Sales of the year"
    sheet["A1"].font = Font(bold=True)
    sheet.merge_cells("A1:C1")
    for row in (["region", "units", "price"], ["North", 3, 1.5], ["South", 4, 2.5]):
        sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    answer = analyze(buffer.getvalue())
    assert names(answer) == ["region", "units", "price"]
    assert tables(answer)["Figures"]["rows"] == 2
    assert any("skipped 1 lines" in warning for warning in answer["warnings"])


def test_merged_cells_inside_a_table_leave_gaps_and_not_copies() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["region", "units"], ["North", 3], ["North", 4], ["South", 5]):
        sheet.append(row)
    sheet.merge_cells("A2:A3")
    buffer = io.BytesIO()
    book.save(buffer)
    columns = analyze(buffer.getvalue())["result"]["tables"][0]["columns"]
    assert columns[0]["nulls"] == 1
    assert columns[1]["stats"]["sum"] == 12


def test_cells_of_every_kind_are_read_from_a_workbook() -> None:
    rows = [
        ["text", "whole", "decimal", "yes", "day", "moment", "gap"],
        ["a", 1, 1.5, True, date(2024, 1, 5), datetime(2024, 1, 5, 10, 30), None],
        ["b", 2, 2.25, False, date(2023, 2, 6), datetime(2023, 2, 6, 11, 0), None],
    ]
    columns = {c["name"]: c for c in analyze(workbook({"S": rows}))["result"]["tables"][0]["columns"]}
    assert columns["whole"]["stats"]["sum"] == 3
    assert columns["decimal"]["stats"]["sum"] == 3.75
    assert columns["yes"]["stats"] == {"true": 1, "false": 1}
    assert columns["day"]["stats"]["min"].startswith("2023-02-06")
    assert columns["moment"]["stats"]["max"].startswith("2024-01-05T10:30")
    assert columns["gap"]["nulls"] == 2


def test_formulas_without_a_stored_value_are_gaps() -> None:
    answer = analyze(styled(A1="n", B1="m", A2=1, B2="=A2*2", A3=2, B3="=A3*2"))
    columns = {c["name"]: c for c in answer["result"]["tables"][0]["columns"]}
    assert columns["n"]["stats"]["sum"] == 3
    assert columns["m"]["nulls"] == 2


@pytest.mark.parametrize("title", ["\u0421\u043f\u0438\u0441\u043e\u043a", "a'b", "x y", "\u6570\u636e", "1", "=1+1"])
def test_sheets_may_have_any_name(title: str) -> None:
    book = workbook({title: [["a", "b"], [1, 2], [3, 4]], "Other": [["c"], ["x"]]})
    assert list(tables(analyze(book))) == [title, "Other"]
    assert list(tables(analyze(book, sheet=title))) == [title]


def test_more_sheets_than_are_read_is_said() -> None:
    book = workbook({f"S{number}": [["a", "b"], [1, number]] for number in range(22)})
    answer = analyze(book)
    assert len(answer["result"]["tables"]) == 20
    assert "only the first 20 of 22 sheets were read" in answer["warnings"]
    assert list(tables(analyze(book, sheet="S21"))) == ["S21"]


def test_a_missing_sheet_is_refused_with_those_that_there_are() -> None:
    error = refused(NAME, {"file": encoded(workbook({"One": [["a"], [1]], "Two": [["b"], [2]]})), "sheet": "one"})
    assert (error.field, error.next_step) == ("sheet", "choose one of: One, Two")


@pytest.mark.parametrize("rows", [[], [[]], [[None, None]], [["only a header", "here"]]])
def test_a_workbook_without_rows_is_refused(rows: list[list[object]]) -> None:
    assert refused(NAME, {"file": encoded(workbook({"S": rows}))}).field == "file"


def test_parquet_columns_of_every_kind_are_described() -> None:
    frame = pl.DataFrame(
        {
            "whole": [1, 2, None],
            "text": ["a", None, "c"],
            "day": [date(2024, 1, 1), date(2024, 1, 2), None],
            "moment": [datetime(2024, 1, 1, tzinfo=UTC)] * 3,
            "clock": [time(10, 0), time(11, 0), None],
            "exact": pl.Series(["1.50", "2.50", None]).cast(pl.Decimal(10, 2)),
            "flag": [True, False, None],
            "blob": [b"\x00", b"\x01", None],
            "list": [[1], [2], None],
        }
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    answer = analyze(buffer.getvalue())
    columns = {column["name"]: column for column in answer["result"]["tables"][0]["columns"]}
    assert {name: column["dtype"] for name, column in columns.items()} == {
        "whole": "integer", "text": "text", "day": "date", "moment": "datetime", "clock": "text", "exact": "number",
        "flag": "boolean",
    }  # fmt: skip
    assert columns["exact"]["stats"]["sum"] == 4
    assert "columns with nested values were left out: blob, list" in answer["warnings"]


def test_answers_are_json_that_any_reader_understands() -> None:
    text = written(["1e308", "1e308", "9223372036854775807"])
    body = json.dumps(analyze(text), allow_nan=False)
    whole = [value for value in json.loads(body, parse_int=lambda text: abs(int(text))).values() if value]
    assert whole
    assert "Infinity" not in body
    assert "NaN" not in body
