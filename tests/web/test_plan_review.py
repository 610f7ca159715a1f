"""The plan changed on its page before it is approved: sellers with prices, caps, steps left out, refusals in words."""

from __future__ import annotations

import httpx
import pytest

from agentnexus.web.adapters.run_view import run_view
from agentnexus.workflows.model import WorkflowStatus
from tests.web import samples
from tests.web.conftest import AXE, Site, Visitor
from tests.web.test_browser_pages import RUN_AXE, SMALL_TARGETS

HTML = {"accept": "text/html"}


def test_only_a_plan_that_waits_offers_choices_cheapest_first() -> None:
    waiting = run_view(samples.sample_workflows()["wf_approval"])
    first = waiting.steps[0]
    assert [(choice.label, choice.chosen) for choice in first.choices] == [
        ("PDF extractor", True), ("Careful & Sons", False),
    ]  # fmt: skip
    running = run_view(samples.workflow("wf", WorkflowStatus.EXECUTING))
    assert all(step.choices == () for step in running.steps)


async def test_a_step_that_others_need_is_refused_on_the_page_with_their_names(
    site: Site, client: httpx.AsyncClient
) -> None:
    refused = await client.post("/tasks/wf_approval/plan", data={"step": "s1", "drop": "1"}, headers=HTML)
    assert refused.status_code == 409
    assert "Step s1 cannot be dropped: step s3 (Summarise the report)" in refused.text
    assert len(site.runs.workflows["wf_approval"].steps or samples.PLAN.steps) == 4


async def test_another_seller_is_chosen_on_the_page(site: Site, client: httpx.AsyncClient) -> None:
    form = {"step": "s2", "seller": "x402:table.analyze-other", "cap": ""}
    changed = await client.post("/tasks/wf_approval/plan", data=form, headers=HTML)
    assert (changed.status_code, changed.headers["location"]) == (303, "/tasks/wf_approval#run-approval")
    plan = site.runs.workflows["wf_approval"].plan
    assert plan is not None
    assert plan.step("s2").offer is not None
    assert plan.step("s2").offer.title == "Careful & Sons"
    page = (await client.get("/tasks/wf_approval", headers=HTML)).text
    assert '<option value="x402:table.analyze-other" selected>Careful &amp; Sons' in page


@pytest.mark.browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_open_review_is_accessible_and_fits(visitor: Visitor, theme: str, size: str) -> None:
    page = await visitor.open("/tasks/wf_approval", size=size, theme=theme)
    await page.locator("#change-plan > summary").click()
    await page.evaluate(AXE.read_text())
    assert await page.evaluate(RUN_AXE) == []
    assert await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    if size == "phone":
        assert await page.evaluate(SMALL_TARGETS) == []
