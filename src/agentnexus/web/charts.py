"""Geometry of the charts on the money pages: figures in, shapes of an SVG out. Pure.

Shapes fill a box of 100 by 100 that the page stretches; words stay outside it, so that they are readable on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SIZE: Final = 100.0
GAP_SHARE: Final = 0.28
LEAST_HEIGHT: Final = 1.2  # a payment too small for the scale is still seen


@dataclass(frozen=True, slots=True)
class Value:
    """One figure: `label` names it, `text` is it as people read it, `number` its size for the drawing."""

    label: str
    text: str
    number: int


@dataclass(frozen=True, slots=True)
class Column:
    """A column from the ground up, in the box of 100 by 100."""

    x: float
    y: float
    width: float
    height: float
    value: Value


@dataclass(frozen=True, slots=True)
class Columns:
    """Side by side in order; `top` is the figure at the upper edge, `marks` the labels below (first, middle, last)."""

    columns: Sequence[Column]
    top: Value | None
    marks: Sequence[str]


@dataclass(frozen=True, slots=True)
class Stairs:
    """A level that changes once per value: `line` and `area` are SVG paths, `levels` the table beside them."""

    line: str
    area: str
    top: str
    marks: Sequence[str]
    levels: Sequence[Value]


def columns(values: Sequence[Value]) -> Columns:
    """Columns as high as their share of the largest."""
    top = max(values, key=lambda value: value.number, default=None)
    if top is None or top.number <= 0:
        return Columns((), None, ())
    step = SIZE / len(values)
    drawn = [
        _column(index * step + step * GAP_SHARE / 2, step * (1 - GAP_SHARE), value, top.number)
        for index, value in enumerate(values)
        if value.number > 0
    ]
    return Columns(drawn, top, marks([value.label for value in values]))


def _column(x: float, width: float, value: Value, largest: int) -> Column:
    height = max(SIZE * value.number / largest, LEAST_HEIGHT)
    return Column(round(x, 3), round(SIZE - height, 3), round(width, 3), round(height, 3), value)


def stairs(levels: Sequence[Value], full: Value) -> Stairs | None:
    """From `full` down (or up) to each level in turn; None when there is nothing to draw."""
    if not levels or full.number <= 0:
        return None
    step = SIZE / len(levels)
    points = [(0.0, _y(full.number, full.number))]
    for index, level in enumerate(levels):
        height = _y(level.number, full.number)
        points += [(index * step, height), ((index + 1) * step, height)]
    line = "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points)
    area = f"{line}L{SIZE:.2f} {SIZE:.2f}L0 {SIZE:.2f}Z"
    return Stairs(line, area, full.text, marks([level.label for level in levels]), levels)


def _y(number: int, full: int) -> float:
    return SIZE - SIZE * min(max(number, 0), full) / full


def marks(labels: Sequence[str]) -> Sequence[str]:
    """First, middle and last, as far as they are different."""
    if len(labels) < 3:
        return tuple(labels)
    return labels[0], labels[len(labels) // 2], labels[-1]


def percent_of(part: int, whole: int) -> int:
    """0..100 for a meter; what is there at all shows at least 1."""
    if whole <= 0 or part <= 0:
        return 0
    return min(100, max(1, round(100 * part / whole)))
