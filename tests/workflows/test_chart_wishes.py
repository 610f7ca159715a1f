"""A chart is drawn where the words ask for one, and only there: the wish reaches the step that reads the table."""

from __future__ import annotations

import pytest

from agentnexus.core.offers import Offer
from agentnexus.workflows.model import FileRef, Plan
from agentnexus.workflows.planner.offline import OfflinePlanner
from agentnexus.workflows.planner.port import Task
from agentnexus.workflows.planner.wording import DRAWING, with_chart
from agentnexus.workflows.planning import offered_from

from .catalogue import agent_offers


async def questions(say: str) -> list[str]:
    offers: list[Offer] = agent_offers()
    files = (FileRef(name="sales.csv", media_type="text/csv", size_bytes=10, blob="sha256:" + "a" * 64),)
    plan: Plan = await OfflinePlanner().plan(Task(say, files), offered_from(offers))
    return [str(step.input["question"]) for step in plan.steps if "question" in step.input]


@pytest.mark.parametrize("say", [
    "Chart revenue by month",
    "Plot the units sold per region",
    "Show me revenue per month as a chart",
    "Compute the yearly revenue and make a line chart",
    "Draw me a graph of revenue by region",
    "Which region sold the most units? Make a chart, too.",
    "Visualise revenue by region",
    "Revenue by month, please plot it",
])  # fmt: skip
async def test_the_wish_for_a_chart_stays_in_the_question(say: str) -> None:
    (question,) = await questions(say)
    assert DRAWING.search(question)


@pytest.mark.parametrize("say", [
    "Revenue by month", "Which region sold the most units?", "Show me the revenue per region",
    "Compute the average price by product", "Analyse sales.csv: total units by region",
])  # fmt: skip
async def test_nobody_asks_for_a_chart_unasked(say: str) -> None:
    for question in await questions(say):
        assert not DRAWING.search(question)


def test_a_wish_is_added_once_and_to_a_question_only() -> None:
    assert with_chart("revenue by month.", "and plot the") == "revenue by month, as a chart"
    assert with_chart("revenue by month, as a chart", "draw") == "revenue by month, as a chart"
    assert with_chart("revenue by month?", "calculate the") == "revenue by month?"
    assert with_chart("", "plot") == ""
