"""Long task pages: what is long is folded, and everything is still there; an error says all its reasons."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from agentnexus.core.errors import InvalidPlan, NoOffer
from agentnexus.web.results import Block, blocks_of
from agentnexus.web.results.folding import ITEMS_SHOWN, ROWS_SHOWN, TEXT_FOLDED, TEXT_SHOWN, fold
from agentnexus.web.views.problems import REASONS_SHOWN, problem_of
from agentnexus.workflows.model import StepState, StepStatus, WorkflowStatus
from tests.web import samples
from tests.web.preview import PreviewRuns, preview_app
from tests.web.test_pages_http import HTML

WORDS = "The harbour was rebuilt after the storm, and trade came back within three years. "
SUMMARY = re.compile(r"<details[^>]*><summary>([^<]*)</summary>")


@pytest.fixture
def app() -> Starlette:
    return preview_app()


@pytest.fixture
def runs(app: Starlette) -> PreviewRuns:
    found: PreviewRuns = app.state.runs
    return found


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=HTML) as made:
        yield made


async def page_of(client: httpx.AsyncClient, run_id: str = "wf_completed") -> str:
    answer = await client.get(f"/tasks/{run_id}")
    assert answer.status_code == 200
    return answer.text


def changed(runs: PreviewRuns, run_id: str, **changes: object) -> None:
    runs.workflows[run_id] = runs.workflows[run_id].model_copy(update=changes)


def block(value: object) -> Block:
    (made,) = blocks_of({"part": value, "other": {"a": 1}})[:1]
    return made


# -- what is cut, and where ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "short",
        "x" * (TEXT_SHOWN + TEXT_FOLDED - 1),
        [{"a": at, "b": at} for at in range(ROWS_SHOWN)],
        [f"a sentence that is longer than a word, number {at}" for at in range(ITEMS_SHOWN + 1)],
        {"a": 1, "b": {"c": 2}},
        7,
        None,
    ],
    ids=["word", "text", "table", "list", "group", "number", "nothing"],
)
def test_what_is_short_is_shown_whole(value: object) -> None:
    assert fold(block(value)) is None


def test_a_long_text_is_cut_at_the_end_of_a_line() -> None:
    text = "\n".join([WORDS * 5] * 12)
    halves = fold(Block("text", text=text))
    assert halves is not None
    assert halves.opening.text.endswith("three years. ")
    assert len(halves.opening.text) <= TEXT_SHOWN
    assert f"{halves.opening.text}\n{halves.rest.text}" == text
    assert halves.label == f"The rest, {len(halves.rest.text):,} characters"


def test_a_long_line_is_cut_after_a_word_and_a_long_word_anywhere() -> None:
    sentence, word = fold(Block("text", text=WORDS * 60)), fold(Block("text", text="x" * 9000))
    assert sentence is not None
    assert word is not None
    assert sentence.opening.text.split()[-1] in WORDS.split()
    assert sentence.rest.text.split()[0] in WORDS.split()
    assert len(word.opening.text) == TEXT_SHOWN
    assert word.opening.text + word.rest.text == "x" * 9000


def test_markdown_is_cut_between_its_parts() -> None:
    text = "\n\n".join(f"## Part {at}\n\n- one **{at}**\n- {WORDS * 4}" for at in range(12))
    whole = block(text)
    halves = fold(whole)
    assert whole.kind == "markdown"
    assert halves is not None
    assert halves.opening.parts + halves.rest.parts == whole.parts
    assert halves.opening.parts[0].kind == "heading"
    assert 1 < len(halves.opening.parts) < len(whole.parts)


def test_one_part_that_is_longer_than_a_screen_is_not_torn() -> None:
    assert fold(block(f"```\n{WORDS * 100}\n```")) is None


def test_the_rest_of_a_table_keeps_its_columns_and_what_was_left_out_of_it() -> None:
    halves = fold(block([{"city": f"city {at}", "people": at} for at in range(260)]))
    assert halves is not None
    assert (halves.label, halves.opening.more, halves.rest.more) == ("185 more rows", 0, 60)
    assert halves.opening.columns == halves.rest.columns == ("City", "People")
    assert halves.rest.numeric == (False, True)
    assert (halves.opening.rows[-1][1], halves.rest.rows[0][1]) == (str(ROWS_SHOWN - 1), str(ROWS_SHOWN))


def test_the_rest_of_a_list_goes_on_counting() -> None:
    halves = fold(block([f"a finding that is a sentence of its own, number {at}" for at in range(30)]))
    assert halves is not None
    assert (halves.label, halves.opening.first, halves.rest.first) == ("24 more", 1, ITEMS_SHOWN + 1)


@given(st.text(max_size=6_000))
def test_no_character_of_any_text_is_lost_but_gaps_at_the_fold(text: str) -> None:
    halves = fold(Block("text", text=text))
    if halves is not None:
        assert text.startswith(halves.opening.text)
        assert text.endswith(halves.rest.text)
        gap = text[len(halves.opening.text) : len(text) - len(halves.rest.text)]
        assert not gap.strip("\n ")
        assert halves.opening.text


# -- the page -----------------------------------------------------------------------------------------------------


async def test_a_long_result_is_folded_and_whole(client: httpx.AsyncClient, runs: PreviewRuns) -> None:
    result = {
        "text": "\n".join(f"line {at}: {WORDS}" for at in range(150)),
        "rows": [{"city": f"city {at}", "people": at} for at in range(100)],
        "findings": [f"a finding that is a sentence of its own, number {at}" for at in range(40)],
    }
    changed(runs, "wf_completed", result=result)
    page = await page_of(client)
    folds = SUMMARY.findall(page)
    assert {"85 more rows", "34 more"} <= set(folds)
    assert any(label.startswith("The rest, ") for label in folds)
    for wanted in ("line 149:", "city 99", "number 39"):
        assert wanted in page
    assert 'start="7"' in page


async def test_a_long_task_is_shortened_on_top_and_can_be_read_whole(
    client: httpx.AsyncClient, runs: PreviewRuns
) -> None:
    text = f"{WORDS * 12}And then <b>the end</b>."
    changed(runs, "wf_completed", text=text)
    page = await page_of(client)
    title = re.findall(r"<h1[^>]*>(.*?)</h1>", page, re.S)[0]
    assert title.endswith("...")
    assert len(title) < 220
    assert "The whole task" in SUMMARY.findall(page)
    assert "And then &lt;b&gt;the end&lt;/b&gt;." in page


async def test_a_task_of_a_sentence_or_two_is_not_folded(client: httpx.AsyncClient, runs: PreviewRuns) -> None:
    changed(runs, "wf_completed", text=WORDS * 2)
    assert "The whole task" not in await page_of(client)


@pytest.mark.parametrize(("count", "folded"), [(2, False), (3, True)])
async def test_more_receipts_than_two_are_folded(
    client: httpx.AsyncClient, runs: PreviewRuns, count: int, folded: bool
) -> None:
    changed(runs, "wf_completed", receipts=runs.workflows["wf_completed"].receipts[:count])
    page = await page_of(client)
    assert (f"{count} receipts: who was paid what" in SUMMARY.findall(page)) is folded
    assert page.count(" download>") >= count


@pytest.mark.parametrize(
    ("status", "is_open"), [(WorkflowStatus.COMPLETED, False), (WorkflowStatus.FAILED, True)], ids=["done", "failed"]
)
async def test_many_steps_are_folded_once_all_went_well(
    client: httpx.AsyncClient, runs: PreviewRuns, status: WorkflowStatus, is_open: bool
) -> None:
    states = tuple(
        StepState(id=f"s{at}", title=f"Step of {at}", capability="text.summarize", status=StepStatus.COMPLETED)
        for at in range(9)
    )
    plan = samples.PLAN.model_copy(
        update={"steps": tuple(samples.PLAN.steps[0].model_copy(update={"id": each.id}) for each in states)}
    )
    changed(runs, "wf_completed", plan=plan, steps=states, status=status)
    page = await page_of(client)
    (fold_,) = re.findall(r"<details class=\"fold\"([^>]*)><summary>9 steps, 9 done</summary>", page)
    assert ("open" in fold_) is is_open
    assert 'id="step-9"' in page


# -- reasons ------------------------------------------------------------------------------------------------------


async def test_a_plan_that_cannot_run_says_every_reason(client: httpx.AsyncClient, runs: PreviewRuns) -> None:
    reasons = ["step s2 (text.summarize): text is missing", "nobody sells <i>video.cut</i>", "s1 waits for s9"]
    error = InvalidPlan(f"the plan cannot run: {reasons[0]} (and 2 more)", next_step="say it anew", reasons=reasons)
    changed(runs, "wf_failed", error=error.to_json(), steps=(), plan=None)
    page = await page_of(client, "wf_failed")
    assert re.findall(r"<li>([^<]*)</li>", re.findall(r'<ul class="reasons">(.*?)</ul>', page, re.S)[0]) == [
        "Step s2 (text.summarize): text is missing.",
        "Nobody sells &lt;i&gt;video.cut&lt;/i&gt;.",
        "s1 waits for s9.",
    ]
    assert "reasons</summary>" not in page


async def test_many_reasons_are_folded(client: httpx.AsyncClient, runs: PreviewRuns) -> None:
    error = InvalidPlan("the plan cannot run", reasons=[f"reason {at}" for at in range(8)])
    changed(runs, "wf_failed", error=error.to_json())
    assert "8 reasons" in SUMMARY.findall(await page_of(client, "wf_failed"))


def test_sellers_that_failed_and_offers_that_came_near_are_reasons() -> None:
    failed = NoOffer(
        "all sellers failed",
        attempts=[
            {"seller": "Ada", "market": "x402", "error": {"code": "bad_result", "message": "no summary in it"}},
            {"seller": "Bo", "error": None},
        ],
        near_misses=[{"seller": "Cy", "price": "3 USDC", "reason": "costs more than 1 USDC", "rule": "price"}],
    )
    problem = problem_of(failed)
    assert problem is not None
    assert problem.reasons == ("Ada: no summary in it.", "Cy for 3 USDC: costs more than 1 USDC.")


@pytest.mark.parametrize(
    "details",
    [
        {"reasons": ["it is too dear"]},
        {"reasons": ["The plan cannot run: it is too dear"]},
        {"reasons": "no list"},
        {"reasons": [7, None, "", {"a": 1}]},
        {"attempts": [7, {"error": "text"}, {"error": {"message": ""}}]},
        {"near_misses": [None, {"seller": "x"}]},
        {},
    ],
)
def test_nothing_is_said_twice_and_no_shape_of_details_breaks_the_page(details: dict[str, object]) -> None:
    body = {"code": "invalid_plan", "message": "the plan cannot run: it is too dear", "details": details}
    problem = problem_of(body)
    assert problem is not None
    assert problem.reasons == ()


def test_reasons_are_bounded_and_each_is_said_once() -> None:
    found = problem_of(InvalidPlan("no", reasons=["same", "same", *(f"reason {at} " * 200 for at in range(60))]))
    assert found is not None
    assert len(found.reasons) == REASONS_SHOWN
    assert found.reasons[0] == "Same."
    assert max(len(reason) for reason in found.reasons) <= 401


def test_an_error_without_details_has_no_reasons() -> None:
    found = problem_of({"code": "x", "message": "it broke", "details": None})
    assert found is not None
    assert (found.message, found.reasons) == ("It broke.", ())
