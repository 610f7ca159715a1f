"""What people do on the pages, in Chromium: with scripts, and the main things without them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.async_api import Page, expect

from agentnexus.core.errors import InsufficientFunds
from agentnexus.workflows.model import WorkflowStatus
from tests.web import samples
from tests.web.conftest import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


async def test_searching_as_you_type_changes_the_list_and_the_address(visitor: Visitor) -> None:
    page = await visitor.open("/marketplace")
    await page.locator("#q").press_sequentially("summar", delay=10)
    await expect(page.locator(".agent-card")).to_have_count(1)
    await expect(page.locator(".agent-card h3")).to_have_text("Content summarizer")
    await page.wait_for_url("**q=summar*")
    await page.reload()
    await expect(page.locator("#q")).to_have_value("summar")
    await expect(page.locator(".agent-card")).to_have_count(1)


async def test_more_agents_are_added_below_the_ones_already_there(visitor: Visitor) -> None:
    page = await visitor.open("/marketplace")
    await expect(page.locator(".agent-card")).to_have_count(3)
    await page.get_by_role("link", name="Show more agents").click()
    await expect(page.locator(".agent-card")).to_have_count(4)


@pytest.mark.parametrize("javascript", [True, False])
async def test_a_task_with_files_is_created_and_its_page_opens(visitor: Visitor, javascript: bool) -> None:
    page = await visitor.open("/", javascript=javascript)
    await page.locator("#text").fill("Summarise this report")
    files = [{"name": f"report-{n}.txt", "mimeType": "text/plain", "buffer": b"hello"} for n in (1, 2)]
    await page.locator("#files").set_input_files(files)
    if javascript:
        await expect(page.locator("[data-files] li")).to_have_count(2)
        await page.get_by_role("button", name="Remove report-1.txt").click()
    await page.locator("#max_cost").fill("0.25")
    await page.get_by_role("button", name="Make a plan").click()
    await page.wait_for_url("**/tasks/wf_planning")
    (task,) = visitor.site.runs.created
    assert task.text == "Summarise this report"
    assert [each.filename for each in task.files] == (
        ["report-2.txt"] if javascript else ["report-1.txt", "report-2.txt"]
    )
    assert task.max_cost == samples.USDC.parse("0.25")


async def _fill_question(page: Page) -> None:
    await page.locator("[name='in/question']").fill("When does it end?")
    await page.locator("[name='in/sources/0/name']").fill("a.txt")
    await page.locator("[name='in/sources/0/text']").fill("It ends in May.")


async def test_the_form_made_from_a_schema_sends_what_was_typed(visitor: Visitor) -> None:
    page = await visitor.open("/agents/org.agentnexus.knowledge-qa")
    await _fill_question(page)
    await page.get_by_role("button", name="Add source").click()
    await page.locator("[name='in/sources/1/file']").set_input_files(
        [{"name": "b.pdf", "mimeType": "application/pdf", "buffer": b"%PDF"}]
    )
    await expect(page.locator("[name='in/sources/1/name']")).to_have_value("b.pdf")
    await page.locator("[name='in/style']").select_option("full")
    await page.get_by_role("button", name="Run for 0.012 USDC").first.click()
    await page.wait_for_url("**/tasks/wf_executing")
    assert visitor.site.runs.ran == [
        (
            "org.agentnexus.knowledge-qa",
            {
                "question": "When does it end?",
                "sources": [{"name": "a.txt", "text": "It ends in May."}, {"name": "b.pdf", "file": "JVBERg=="}],
                "top_k": 5,
                "style": "full",
            },
        )
    ]


async def test_list_items_can_be_added_and_removed_without_scripts(visitor: Visitor) -> None:
    page = await visitor.open("/agents/org.agentnexus.knowledge-qa", javascript=False)
    await _fill_question(page)
    await page.get_by_role("button", name="Add source").click()
    await expect(page.locator("[name='in/sources/1/name']")).to_be_visible()
    assert await page.locator("[name='in/question']").input_value() == "When does it end?"
    await page.get_by_role("button", name="Remove Source 2").click()
    await expect(page.locator("[name='in/sources/1/name']")).to_have_count(0)
    await page.get_by_role("button", name="Run for 0.012 USDC").first.click()
    await page.wait_for_url("**/tasks/wf_executing")
    assert visitor.site.runs.ran[0][1]["sources"] == [{"name": "a.txt", "text": "It ends in May."}]


async def test_a_mistake_is_shown_at_its_field_and_what_was_typed_is_kept(visitor: Visitor) -> None:
    page = await visitor.open("/agents/org.agentnexus.knowledge-qa", javascript=False)
    await _fill_question(page)
    await page.locator("form#run").evaluate("form => form.setAttribute('novalidate', '')")
    await page.locator("[name='in/top_k']").fill("99")
    await page.get_by_role("button", name="Run for 0.012 USDC").first.click()
    field = page.locator("[name='in/top_k']")
    await expect(field).to_have_attribute("aria-invalid", "true")
    described = await field.get_attribute("aria-describedby")
    assert described is not None
    await expect(page.locator(f"#{described.split()[-1]}")).to_contain_text("Must be 20 or less.")
    await expect(page.locator("[name='in/question']")).to_have_value("When does it end?")
    await expect(page.get_by_role("alert")).to_contain_text("Passages to return")


async def test_too_little_money_is_said_on_the_form_with_what_to_do(visitor: Visitor) -> None:
    visitor.site.runs.refuse = InsufficientFunds("the wallet has 0.001 USDC", next_step="top it up")
    page = await visitor.open("/agents/org.agentnexus.knowledge-qa")
    await _fill_question(page)
    await page.get_by_role("button", name="Run for 0.012 USDC").first.click()
    await expect(page.get_by_role("alert")).to_contain_text("The wallet has 0.001 USDC.")
    await expect(page.get_by_role("alert")).to_contain_text("Top it up.")


async def test_a_running_task_updates_live_to_its_end_without_losing_focus(visitor: Visitor) -> None:
    runs = visitor.site.runs
    page = await visitor.open("/tasks/wf_executing")
    await expect(page.locator("#run-head .status")).to_have_text("Working")
    await page.locator("#run-log summary").focus()
    moved = runs.workflows["wf_executing"].model_copy(
        update={"steps": samples.steps("completed", "completed", "running", "pending")}
    )
    await runs.advance("wf_executing", moved)
    await expect(page.locator("#step-2 .status")).to_have_text("Done")
    await expect(page.locator(".plan-wide .plan-node.tone-done")).to_have_count(2)
    assert await page.evaluate("document.activeElement.tagName") == "SUMMARY"
    done = moved.model_copy(
        update={
            "status": WorkflowStatus.COMPLETED,
            "result": samples.RESULT,
            "steps": samples.steps("completed", "completed", "completed", "completed"),
            "finished_at": moved.created_at + timedelta(seconds=4),
        }
    )
    await runs.advance("wf_executing", done)
    await expect(page.locator("#run-head .status")).to_have_text("Done")
    await expect(page.locator("#run-result")).to_contain_text("What the report says")
    await expect(page.locator("#run-money form")).to_have_count(0)


@pytest.mark.parametrize("javascript", [True, False])
async def test_a_plan_is_approved_and_a_run_is_stopped(visitor: Visitor, javascript: bool) -> None:
    page = await visitor.open("/tasks/wf_approval", javascript=javascript)
    await expect(page.locator("#run-approval")).to_contain_text("0.057 USDC")
    await page.get_by_role("button", name="Approve and start").click()
    await expect(page.locator("#run-head .status")).to_have_text("Working")
    await page.get_by_role("button", name="Stop, and refund what is left").click()
    await expect(page.locator("#run-head .status")).to_have_text("Cancelled")


async def test_what_a_stranger_wrote_never_runs(visitor: Visitor) -> None:
    for path in ("/tasks/wf_hostile", "/tasks/wf_completed", "/workflows"):
        page = await visitor.open(path)
        page.on("dialog", lambda dialog: visitor.trouble.append(f"a dialog opened: {dialog.message}"))
        await page.wait_for_load_state("networkidle")
        assert await page.locator("main script, main [onerror], main iframe").count() == 0
    picture = page.context.pages[0].locator("img")
    assert await picture.count() >= 1


async def test_a_chart_is_shown_as_a_picture_and_every_file_can_be_saved(visitor: Visitor) -> None:
    page = await visitor.open("/tasks/wf_completed")
    chart = page.locator("figure.picture img")
    assert await chart.evaluate("e => e.naturalWidth > 0 && e.src.startsWith('data:image/svg+xml;base64,')")
    for name in ("Download all (JSON)", "figures.csv", "Revenue by region.svg"):
        async with page.expect_download() as waiting:
            await page.get_by_role("link", name=name).click()
        saved = await (await waiting.value).path()
        assert saved.stat().st_size > 10
    await page.get_by_text("4 receipts: who was paid what").click()
    async with page.expect_download() as waiting:
        await page.get_by_role("link", name="Receipt for PDF extractor").click()
    assert b'"signature"' in (await (await waiting.value).path()).read_bytes()


async def test_the_drawing_of_the_plan_leads_to_the_steps(visitor: Visitor) -> None:
    page = await visitor.open("/tasks/wf_executing")
    await page.get_by_role("link", name="Summarise the report Content summarizer Working").first.focus()
    await page.keyboard.press("Enter")
    assert page.url.endswith("#step-3")
    await expect(page.locator("#step-3")).to_be_in_viewport()


async def test_a_choice_between_shapes_shows_only_the_chosen_one(visitor: Visitor) -> None:
    from dataclasses import replace

    union = {
        "type": "object",
        "properties": {"x": {"oneOf": [{"type": "string"}, {"type": "integer", "title": "Count"}]}},
    }
    visitor.site.app.state.catalogue.agents = (replace(samples.AGENTS[0], input_schema=union, examples=()),)
    page = await visitor.open("/agents/org.agentnexus.pdf-extractor", javascript=False)
    await expect(page.locator("[name='in/x/~01']")).to_be_hidden()
    await page.get_by_label("Count").first.check()
    await expect(page.locator("[name='in/x/~01']")).to_be_visible()
    await page.locator("[name='in/x/~01']").fill("7")
    await page.get_by_role("button", name="Run for 0.02 USDC").first.click()
    await page.wait_for_url("**/tasks/wf_executing")
    assert visitor.site.runs.ran[0][1] == {"x": 7}
