"""The preview server on a free port, and headless Chromium pages that fail a test on any console error."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import uvicorn
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect
from starlette.applications import Starlette

from agentnexus.platform.process import free_port
from tests.web.preview import PreviewRuns, preview_app

CHROMIUM = Path(os.environ.get("NEXUS_CHROMIUM", "/usr/bin/chromium"))
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_MS = 30_000  # other tests may have the machine meanwhile
expect.set_options(timeout=PATIENCE_MS)
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@dataclass
class Site:
    """The running pages, and the parts a test may move."""

    url: str
    app: Starlette

    @property
    def runs(self) -> PreviewRuns:
        runs: PreviewRuns = self.app.state.runs
        return runs


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    app = preview_app()
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=port, log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield Site(f"http://127.0.0.1:{port}", app)
    server.should_exit = True
    await task


@pytest.fixture
async def client(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=site.url) as made:
        yield made


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("no Chromium: apt-get install chromium, or set NEXUS_CHROMIUM")
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        await made.close()


@dataclass
class Visitor:
    """A browser window on the site; `trouble` collects what its console complained about."""

    browser: Browser
    site: Site
    contexts: list[BrowserContext] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    async def open(self, path: str, *, size: str = "desktop", theme: str = "light", javascript: bool = True) -> Page:
        width, height = SIZES[size]
        context = await self.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, java_script_enabled=javascript,
            reduced_motion="reduce", base_url=self.site.url,
        )  # fmt: skip
        self.contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.trouble.append(f"script error: {error}"))
        await page.goto(path)
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        # The browser itself reports the status of error pages; every other complaint is ours.
        if message.type in ("error", "warning") and "the server responded with a status of" not in message.text:
            self.trouble.append(message.text)


@pytest.fixture
async def visitor(browser: Browser, site: Site) -> AsyncIterator[Visitor]:
    made = Visitor(browser, site)
    yield made
    for context in made.contexts:
        await context.close()
    assert made.trouble == []
