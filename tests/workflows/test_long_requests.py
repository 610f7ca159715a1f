"""Requests of the greatest length, made to be slow to read: everybody's plans wait while one is made."""

from __future__ import annotations

import pytest

from agentnexus.core.errors import NoOffer
from agentnexus.workflows.planner.offline import OfflinePlanner
from agentnexus.workflows.planner.port import Task
from agentnexus.workflows.planner.wording import HEAD_MAX
from agentnexus.workflows.service import TASK_MAX

from .catalogue import agents_offered
from .test_offline_planner import CHAIN, plan, shape


@pytest.mark.parametrize(
    "part", ["summarize ", "Summarize and then ", " and ", "x \n", "a:", "a: ", "a,", "(", "please ", "a" + " " * 2000]
)
async def test_a_request_as_long_as_allowed_is_refused_before_it_is_read(part: str) -> None:
    text = (part * TASK_MAX)[:TASK_MAX].strip()
    with pytest.raises(NoOffer) as refusal:
        await OfflinePlanner().plan(Task(text, ()), agents_offered())
    assert refusal.value.next_step


async def test_a_long_text_behind_a_short_request_is_work_and_not_a_request() -> None:
    text = "The tides follow the Moon. " * 3000
    plan = await OfflinePlanner().plan(Task(f"Summarize this text: {text}", ()), agents_offered())
    assert [step.capability for step in plan.steps] == ["text.summarize"]
    with pytest.raises(NoOffer, match="characters long") as refusal:
        await OfflinePlanner().plan(Task("w" * (HEAD_MAX + 1), ()), agents_offered())
    assert "colon" in refusal.value.next_step


@pytest.mark.parametrize("filler", [" ", "\t", " ,", "\n", " \n", "\u00a0", ", and "], ids=repr)
async def test_long_runs_between_words_change_nothing_and_do_not_stop_the_planner(filler: str) -> None:
    """Would run into the timeout of the suite: what a joint of clauses looks for has several runs of spaces in it."""
    found = await plan("Summarise" + filler * (3000 // len(filler)) + " report.pdf", "report.pdf")
    assert shape(found) == CHAIN
