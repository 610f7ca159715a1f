"""Draws bar and line charts as plain SVG that follows the page's text colour and needs nothing from the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 40, 88
MAX_LABELS = 16
LABEL_CHARACTERS = 16
MAX_DOTS = 200
ELLIPSIS = "\u2026"
SMALLEST_SPAN = 1e-300  # below it the step between two ticks is no number any more
ACCENT = "#3b6fd4"


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn: `labels` and `values` of equal length, at least one; `unit` names the values."""

    title: str
    labels: Sequence[str]
    values: Sequence[float]
    unit: str

    @property
    def step(self) -> float:
        """Width of one value."""
        return (WIDTH - LEFT - RIGHT) / max(1, len(self.values))


@dataclass(frozen=True, slots=True)
class Axis:
    """Round ticks from at or below the smallest value (and zero) to at or above the largest."""

    ticks: Sequence[float]

    def y(self, value: float) -> float:
        """The height of a value on the canvas."""
        low, high = self.ticks[0], self.ticks[-1]
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def axis_for(values: Sequence[float]) -> Axis:
    """An axis that shows zero and every value."""
    low, high = min(0.0, *values), max(0.0, *values)
    if high - low < SMALLEST_SPAN:
        high = low + 1.0
    raw = (high - low) / 5
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= raw)
    return Axis([step * count for count in range(math.floor(low / step), math.ceil(high / step) + 1)])


def bar_chart(chart: Chart) -> str:
    """One bar per label; negative values hang from the zero line."""
    axis = axis_for(chart.values)
    zero = axis.y(0.0)
    bars = []
    for position, value in enumerate(chart.values):
        height = max(abs(axis.y(value) - zero), 0.5)
        bars.append(
            f'<rect x="{LEFT + chart.step * (position + 0.1):.1f}" y="{min(zero, axis.y(value)):.1f}" '
            f'width="{chart.step * 0.8:.1f}" height="{height:.1f}" fill="{ACCENT}">'
            f"<title>{escape(chart.labels[position])}: {short(value)}</title></rect>"
        )
    return _frame(chart, axis, "".join(bars))


def line_chart(chart: Chart) -> str:
    """Values in the order of their labels, joined by a line."""
    axis = axis_for(chart.values)
    spots = [(LEFT + chart.step * (position + 0.5), axis.y(value)) for position, value in enumerate(chart.values)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{ACCENT}"/>' for x, y in spots[:MAX_DOTS])
    line = f'<polyline points="{path}" fill="none" stroke="{ACCENT}" stroke-width="2"/>{dots}'
    return _frame(chart, axis, line)


def short(value: float) -> str:
    """``1200000`` as ``1.2M``."""
    for size, mark in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if mark == 'k' else size):.3g}{mark}"
    return f"{value:.4g}"


def _frame(chart: Chart, axis: Axis, marks: str) -> str:
    summary = "; ".join(
        f"{label}: {short(value)}" for label, value in zip(chart.labels[:12], chart.values, strict=False)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" fill="currentColor" '
        f'font-family="system-ui, sans-serif" font-size="11"><title>{escape(chart.title)}</title>'
        f"<desc>{escape(summary)}</desc>"
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="600">{escape(chart.title)}</text>'
        f'<text x="{LEFT}" y="34" fill-opacity="0.7">{escape(chart.unit)}</text>'
        f"{''.join(_tick(tick, axis) for tick in axis.ticks)}{marks}{_names(chart)}</svg>"
    )


def _tick(value: float, axis: Axis) -> str:
    y = axis.y(value)
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
        f'stroke-opacity="{0.6 if value == 0 else 0.15}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
    )


def _names(chart: Chart) -> str:
    """Labels below the axis; every n-th when there are many."""
    every = max(1, math.ceil(len(chart.labels) / MAX_LABELS))
    names = []
    for position in range(0, len(chart.labels), every):
        label = chart.labels[position]
        shown = label if len(label) <= LABEL_CHARACTERS else f"{label[: LABEL_CHARACTERS - 1]}{ELLIPSIS}"
        place = f"translate({LEFT + chart.step * (position + 0.5):.1f},{HEIGHT - BOTTOM + 14}) rotate(-35)"
        names.append(f'<text transform="{place}" text-anchor="end">{escape(shown)}</text>')
    return "".join(names)
