"""The geometry of charts: nothing leaves its box, heights are true to the figures, and nothing is drawn for nothing."""

from __future__ import annotations

import random
import re
from datetime import date

import pytest

from agentnexus.core.money import Money
from agentnexus.ledger.metrics import Point, Spending
from agentnexus.web.adapters.money_views import burn_chart, day_chart, day_values, shares, window
from agentnexus.web.charts import SIZE, Value, columns, marks, percent_of, stairs
from tests.web.samples import USDC


def values(*numbers: int) -> list[Value]:
    return [Value(f"d{index}", str(number), number) for index, number in enumerate(numbers)]


@pytest.mark.parametrize("seed", range(8))
def test_columns_stay_in_their_box_and_are_true_to_the_figures(seed: int) -> None:
    dice = random.Random(seed)
    numbers = [dice.choice([0, dice.randint(1, 10 ** dice.randint(1, 30))]) for _ in range(dice.randint(1, 90))]
    chart = columns(values(*numbers))
    assert len(chart.columns) == sum(number > 0 for number in numbers)
    for column in chart.columns:
        assert 0 <= column.x < column.x + column.width <= SIZE
        assert 0 <= column.y <= SIZE
        assert column.y + column.height == pytest.approx(SIZE, abs=0.01)
    ordered = sorted(chart.columns, key=lambda column: column.value.number)
    assert [column.height for column in ordered] == sorted(column.height for column in ordered)
    lefts = [column.x for column in chart.columns]
    assert lefts == sorted(lefts)
    if any(numbers):
        assert chart.top is not None
        assert chart.top.number == max(numbers)


def test_half_is_half_as_high_and_a_speck_is_still_seen() -> None:
    full, half, speck = columns(values(1000, 500, 1)).columns
    assert (full.height, half.height) == (100, 50)
    assert 1 <= speck.height < 2


@pytest.mark.parametrize("numbers", [(), (0,), (0, 0, 0)])
def test_no_figures_draw_nothing(numbers: tuple[int, ...]) -> None:
    chart = columns(values(*numbers))
    assert (list(chart.columns), chart.top) == ([], None)
    assert stairs(values(*numbers), Value("", "0", 0)) is None


@pytest.mark.parametrize("seed", range(8))
def test_stairs_go_down_with_the_figures_inside_the_box(seed: int) -> None:
    dice = random.Random(seed)
    full = dice.randint(1, 10**12)
    left, levels = full, []
    for index in range(dice.randint(1, 60)):
        left -= dice.randint(0, max(left, 0))
        levels.append(Value(f"d{index}", str(left), left))
    chart = stairs(levels, Value("", str(full), full))
    assert chart is not None
    points = [tuple(map(float, pair)) for pair in re.findall(r"[ML]([\d.]+) ([\d.]+)", chart.line)]
    assert all(0 <= x <= SIZE and 0 <= y <= SIZE for x, y in points)
    heights = [y for _, y in points]
    assert heights == sorted(heights)
    assert min(points) == points[0]
    assert points[-1][0] == pytest.approx(SIZE, abs=0.01)
    assert chart.area.startswith(chart.line)


def test_a_level_beyond_the_scale_stays_at_its_edge() -> None:
    chart = stairs(values(500, -50), Value("", "100", 100))
    assert chart is not None
    assert [float(y) for y in re.findall(r" ([\d.]+)", chart.line)] == [0, 0, 0, 100, 100]


def test_marks_name_the_ends_and_the_middle() -> None:
    assert [tuple(marks(labels)) for labels in ([], ["a"], ["a", "b"], ["a", "b", "c"], list("abcde"))] == [
        (), ("a",), ("a", "b"), ("a", "b", "c"), ("a", "c", "e"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [(0, 10, 0), (1, 10**9, 1), (5, 10, 50), (10, 10, 100), (99, 10, 100), (5, 0, 0), (-5, 10, 0)],
)
def test_a_meter_is_a_whole_percentage(part: int, whole: int, expected: int) -> None:
    assert percent_of(part, whole) == expected


def test_a_window_has_every_day_and_ends_today() -> None:
    days = window(date(2026, 3, 1), 3)
    assert days == ["2026-02-27", "2026-02-28", "2026-03-01"]
    spent = [Spending("2026-02-28", Money(USDC, 5), 1)]
    assert [value.number for value in day_values(spent, days)] == [0, 5, 0]
    assert len(day_chart(spent, days).columns) == 1


def test_a_burn_down_holds_its_level_on_days_without_payments() -> None:
    days = window(date(2026, 3, 5), 5)
    points = [
        Point("2026-03-02", Money(USDC, 30), Money(USDC, 30), Money(USDC, 70)),
        Point("2026-03-04", Money(USDC, 70), Money(USDC, 100), Money(USDC, 0)),
    ]
    chart = burn_chart(points, days)
    assert chart is not None
    assert [level.number for level in chart.levels] == [100, 70, 70, 0, 0]
    assert burn_chart([], days) is None
    assert burn_chart([Point("2026-03-02", Money(USDC, 1), Money(USDC, 1), None)], days) is None


def test_shares_are_against_the_largest() -> None:
    groups = [Spending("a", Money(USDC, 200), 2), Spending("", Money(USDC, 50), 1)]
    assert [(share.label, share.bar) for share in shares(groups, "unnamed")] == [("a", 100), ("unnamed", 25)]
    assert shares([], "unnamed") == []
