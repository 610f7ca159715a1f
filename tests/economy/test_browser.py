"""A person at a browser on a running economy: a form, a real payment, the result, a receipt that is on the chain."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.economy.conftest import Town
from tests.web.conftest import CHROMIUM, FLAGS

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser]
TEXT = (
    "The Moon causes the tides of the oceans. The Sun adds to them. Spring tides come at new and full moon. "
    "Neap tides come in between. A tidal power station has worked on the Rance since 1966."
)
PATIENCE_MS = 60_000


@pytest_asyncio.fixture(loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("no Chromium: apt-get install chromium, or set NEXUS_CHROMIUM")
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, town: Town) -> AsyncIterator[Page]:
    trouble: list[str] = []
    context = await browser.new_context(base_url=town.economy.urls["api"], viewport={"width": 1280, "height": 900})
    opened = await context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    yield opened
    await context.close()
    assert trouble == []


async def test_an_agent_is_run_from_its_page_and_paid_on_the_chain(town: Town, page: Page) -> None:
    await page.goto("/agents/org.agentnexus.content-summarizer")
    await page.locator("[name='in/text']").fill(TEXT)
    await page.get_by_role("button", name="Run for").first.click()
    await page.wait_for_url("**/tasks/wf_*")
    await expect(page.get_by_text("The Moon causes the tides").first).to_be_visible(timeout=PATIENCE_MS)
    workflow = page.url.rpartition("/")[2].partition("?")[0]
    state = await town.ended(workflow)
    assert state["status"] == "completed", json.dumps(state)[:2000]
    (receipt,) = state["receipts"]  # type: ignore[misc]  # JSON
    (payment,) = receipt["payments"]
    found = await town.economy.chain.rpc.call("eth_getTransactionReceipt", payment["transaction"])
    assert isinstance(found, dict) and found["status"] == "0x1"
    await page.reload()
    await page.get_by_role("link", name="Receipt for").first.click()
    await expect(page.get_by_text(payment["transaction"]).first).to_be_visible()


async def test_a_task_is_planned_approved_and_followed_to_its_result(town: Town, page: Page) -> None:
    await page.goto("/")
    await page.locator("#text").fill("Summarise this text")
    await page.locator("#files").set_input_files(
        [{"name": "tides.txt", "mimeType": "text/plain", "buffer": TEXT.encode()}]
    )
    await page.locator("#max_cost").fill("0.10")
    await page.get_by_role("button", name="Make a plan").click()
    await page.wait_for_url("**/tasks/wf_*")
    await page.get_by_role("button", name="Approve and start").click()
    await expect(page.get_by_text("The Moon causes the tides").first).to_be_visible(timeout=PATIENCE_MS)
