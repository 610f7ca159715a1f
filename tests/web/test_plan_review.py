"""The plan changed on its page before it is approved: sellers with prices, caps, steps left out, refusals in words."""

from __future__ import annotations

import httpx
import pytest
from playwright.async_api import expect

from agentnexus.web.adapters.run_view import run_view
from agentnexus.workflows.model import StepOffer, WorkflowStatus
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
    assert (changed.status_code, changed.headers["location"]) == (303, "/tasks/wf_approval#change-s2")
    plan = site.runs.workflows["wf_approval"].plan
    assert plan is not None
    assert plan.step("s2").offer is not None
    assert plan.step("s2").offer.title == "Careful & Sons"
    page = (await client.get("/tasks/wf_approval", headers=HTML)).text
    assert 'name="seller" value="x402:table.analyze-other" checked>' in page
    assert "3 steps could have another seller" in page  # the preview keeps no way back


async def test_each_seller_is_shown_with_price_market_speed_and_rating(client: httpx.AsyncClient) -> None:
    page = (await client.get("/tasks/wf_approval", headers=HTML)).text
    shown = page[page.index('id="change-s1"') : page.index('id="change-s2"')]
    for fact in ("Careful &amp; Sons", "0.04 USDC", "on x402", "about 1.8 s", "4.6 of 5, 1,200 ratings"):
        assert fact in shown
    assert "speed not known" in shown  # of the planned one, which nobody has measured
    assert "no ratings yet" in shown


async def test_a_step_left_out_leads_to_the_new_price(client: httpx.AsyncClient) -> None:
    form = {"step": "s4", "seller": "x402:text.summarize", "drop": "1"}
    dropped = await client.post("/tasks/wf_approval/plan", data=form, headers=HTML)
    assert dropped.headers["location"] == "/tasks/wf_approval#run-approval"


def test_what_markets_say_of_a_seller_stays_with_the_plan() -> None:
    sold = samples.offer("pdf.extract", "PDF extractor", "0.02").model_copy(update={"latency_ms": 900})
    offer = StepOffer.of(sold)
    assert (offer.rating, offer.ratings, offer.latency_ms) == (4.6, 120, 900)
    older = {name: value for name, value in offer.model_dump().items() if name not in ("rating", "ratings")}
    assert StepOffer.model_validate(older).ratings == 0


@pytest.mark.browser
@pytest.mark.timeout(120)
async def test_a_seller_is_chosen_by_touch_and_its_step_stays_in_sight(visitor: Visitor, site: Site) -> None:
    page = await visitor.open("/tasks/wf_approval", size="phone")
    await page.locator("#change-plan > summary").click()
    step = page.locator("#change-s2")
    await step.get_by_text("Careful & Sons").click()
    await step.get_by_role("button", name="Change and price anew").click()
    await page.wait_for_url("**/tasks/wf_approval#change-s2")
    await expect(page.locator("#change-s2 input[value='x402:table.analyze-other']")).to_be_checked()
    await expect(page.locator("#change-s2")).to_be_in_viewport()
    plan = site.runs.workflows["wf_approval"].plan
    assert plan is not None
    assert plan.step("s2").offer is not None


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
