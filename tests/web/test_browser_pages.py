"""Every page in Chromium: accessible by axe in both themes and sizes, no sideways scroll, no console complaint."""

from __future__ import annotations

import gzip
import re

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.web.conftest import AXE, Visitor
from tests.web.money_preview import MANDATE

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

PAGES = (
    "/",
    "/marketplace",
    "/marketplace?q=nothing-like-this",
    "/agents/org.agentnexus.pdf-extractor",
    "/agents/org.agentnexus.knowledge-qa?example=0",
    "/workflows",
    "/history",
    "/history?q=rare",
    "/history?q=nothing-like-this&status=failed",
    "/history?since=yesterday",
    "/tasks/wf_planning",
    "/tasks/wf_approval",
    "/tasks/wf_executing",
    "/tasks/wf_completed",
    "/tasks/wf_failed",
    "/tasks/wf_hostile",
    "/economy",
    "/economy?need=down",
    "/money",
    "/money/budget",
    "/money/budget?id=user%3Alocal%2Fresearch-agent",
    "/money/approvals",
    f"/money/approval?id={MANDATE.grant_id}",
    "/prepaid",
    "/connect",
    "/saved",
    "/saved/schedules",
    "/saved/schedules?plan=tpl_1",
    "/saved/schedules/sch_1",
    "/saved/schedules/sch_2",
    "/saved/webhooks",
    "/saved/webhooks/whk_1",
    "/saved/webhooks/whk_2",
    "/nowhere",
    "/broken",
)
RUN_AXE = """async () => {
  const runOnly = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
  const {violations} = await axe.run(document, {runOnly});
  return violations.map((v) => v.id + ': ' + v.nodes.slice(0, 3).map((n) => n.target + ' ' + n.failureSummary));
}"""
SMALL_TARGETS = """() => {
  const inText = 'p, dd, li li, .prose, svg, td, .visually-hidden, .hint, [hidden], .skip';
  const covers = (e) => getComputedStyle(e, '::after').position === 'absolute';  // a card's link covers its card
  return [...document.querySelectorAll('a, button, summary, select, input:not([type=hidden])')]
    .filter((e) => e.checkVisibility({visibilityProperty: true}) && !e.closest(inText) && !covers(e))
    .map((e) => [e, (e.closest('label') ?? e).getBoundingClientRect()])
    .filter(([e, r]) => r.width > 0 && r.height > 0 && (r.height < 43.5 || r.width < 43.5))
    .map(([e, r]) => `${e.tagName} ${e.className} "${e.textContent.trim()}" ${r.width}x${r.height}`);
}"""


async def _violations(page: Page) -> list[str]:
    # Scripts are allowed from our own address only, so the checker comes in beside the policy.
    await page.evaluate(AXE.read_text())
    found: list[str] = await page.evaluate(RUN_AXE)
    return found


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_every_page_is_accessible_and_fits_the_screen(visitor: Visitor, theme: str, size: str) -> None:
    found: dict[str, object] = {}
    page = await visitor.open("/economy", size=size, theme=theme)
    for path in PAGES:
        await page.goto(path)
        problems = await _violations(page)
        wider = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        small = await page.evaluate(SMALL_TARGETS) if size == "phone" else []
        problems += [f"scrolls sideways by {wider}"] * (wider > 0) + [f"small target: {each}" for each in small]
        if problems:
            found[path] = problems
    assert found == {}


async def test_the_chosen_theme_is_kept_on_the_next_page_without_a_flash(visitor: Visitor) -> None:
    page = await visitor.open("/", theme="light")
    light = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    await page.get_by_role("button", name="Dark theme").click()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    response = await page.goto("/marketplace")
    assert response is not None
    assert 'data-theme="dark"' in await response.text()
    assert await page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != light


async def test_the_theme_switch_works_without_scripts(visitor: Visitor) -> None:
    page = await visitor.open("/economy", javascript=False)
    await page.get_by_role("button", name="Dark theme").click()
    await page.wait_for_url("**/economy")
    assert await page.locator("html").get_attribute("data-theme") == "dark"


async def test_everything_on_the_start_page_can_be_reached_by_keyboard(visitor: Visitor) -> None:
    page = await visitor.open("/")
    names = []
    for _ in range(40):
        await page.keyboard.press("Tab")
        names.append(
            await page.evaluate(
                "document.activeElement.getAttribute('name') || document.activeElement.textContent.trim()"
            )
        )
    assert names[0] == "Skip to content"
    for wanted in ("Marketplace", "Tasks", "text", "files", "max_cost", "Make a plan", "PDF extractor"):
        assert wanted in names, f"{wanted} cannot be reached; the order was {names}"


async def test_focus_is_always_visible(visitor: Visitor) -> None:
    page = await visitor.open("/marketplace")
    unseen = []
    for _ in range(16):
        await page.keyboard.press("Tab")
        seen = await page.evaluate(
            """() => { const e = document.activeElement, near = e.closest('.agent-card, .drop') ?? e;
            const wide = (x) => parseFloat(getComputedStyle(x).outlineWidth) >= 2;
            return [e, near].some(wide) || e.outerHTML.slice(0, 80) }"""
        )
        if seen is not True:
            unseen.append(seen)
    assert unseen == []


async def test_slash_puts_the_cursor_into_the_search_box(visitor: Visitor) -> None:
    page = await visitor.open("/marketplace")
    await page.keyboard.press("/")
    await page.keyboard.type("summ")
    assert await page.locator("#q").input_value() == "summ"


@pytest.mark.parametrize("path", ["/", "/marketplace", "/tasks/wf_completed"])
async def test_nothing_moves_after_it_was_drawn(visitor: Visitor, path: str) -> None:
    page = await visitor.open("/economy")
    await page.add_init_script(
        "window.shift = 0; const add = (list) => list.getEntries().forEach((e) => (window.shift += e.value));"
        "new PerformanceObserver(add)"
        ".observe({type: 'layout-shift', buffered: true})"
    )
    await page.goto(path, wait_until="networkidle")
    assert await page.evaluate("window.shift") < 0.02


async def test_the_first_page_is_light(client: httpx.AsyncClient) -> None:
    html = (await client.get("/")).text
    scripts = re.findall(r'<script src="([^"]+)"', html)
    modules = re.findall(r'from "\./([a-z]+\.js)"', (await client.get("/static/js/app.js")).text)
    bodies = [await client.get(path) for path in (*scripts, *(f"/static/js/{name}" for name in modules))]
    assert all(each.status_code == 200 for each in bodies)
    assert len(html.encode()) < 50_000
    assert sum(len(gzip.compress(each.content)) for each in bodies) < 60_000
