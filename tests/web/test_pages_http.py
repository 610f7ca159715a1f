"""The pages over HTTP without a browser: headers, errors, forms, downloads, live events."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

import httpx
import pytest

from agentnexus.core.errors import InsufficientFunds
from agentnexus.web.live import RUN_PANELS
from agentnexus.workflows.model import WorkflowStatus
from tests.web import samples
from tests.web.conftest import Site
from tests.web.test_browser_pages import PAGES

HTML = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_has_the_strict_headers_and_nothing_inline(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path, headers=HTML)
    policy = response.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    main = re.sub(r"<head>.*?</head>", "", response.text, flags=re.S)
    assert not re.search(r"<script|<style|<[a-z][^>]*\s(style|on[a-z]+)=", main)


async def test_the_parent_of_every_agents_page_is_the_marketplace(client: httpx.AsyncClient) -> None:
    answer = await client.get("/agents", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (308, "/marketplace")


async def test_unknown_things_are_friendly_for_people_and_plain_for_programs(client: httpx.AsyncClient) -> None:
    page = await client.get("/agents/nobody", headers=HTML)
    assert page.status_code == 404
    assert "There is no agent with that id." in page.text
    assert "Search the marketplace for it." in page.text
    answer = await client.get("/api/v1/nothing")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    asked = await client.get("/agents/nobody", headers={"accept": "application/json"})
    assert asked.json()["error"]["next_step"]


async def test_a_bug_shows_a_page_and_tells_nothing_of_its_inside(client: httpx.AsyncClient) -> None:
    response = await client.get("/broken", headers=HTML)
    assert response.status_code == 500
    assert "Something broke on our side" in response.text
    assert "a bug, for the page" not in response.text


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]
)
@pytest.mark.parametrize(
    "path", ["/tasks", "/theme", "/tasks/wf_approval/approve", "/agents/org.agentnexus.knowledge-qa/run"]
)
async def test_forms_of_other_sites_are_refused(
    site: Site, client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    response = await client.post(path, data={"text": "spend", "theme": "dark"}, headers=headers)
    assert response.status_code == 403
    assert site.runs.created == []
    assert site.runs.workflows["wf_approval"].status is WorkflowStatus.AWAITING_APPROVAL


async def test_the_same_form_of_our_own_page_is_taken(site: Site, client: httpx.AsyncClient) -> None:
    response = await client.post("/tasks", data={"text": "Summarise", "max_cost": "0.1"}, headers={"origin": site.url})
    assert response.status_code == 303
    assert response.headers["location"] == "/tasks/wf_planning"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"text": " ", "max_cost": "0.1"}, "There is no task yet."),
        ({"text": "x", "max_cost": "abc"}, "Not an amount of USDC"),
        ({"text": "x", "max_cost": "-1"}, "The limit must be more than zero."),
        ({"text": "x", "max_cost": "0.0000001"}, "has more digits than USDC carries."),
        ({"text": "y" * 5001, "max_cost": "1"}, "longer than 5,000 characters"),
    ],
)
async def test_mistakes_in_a_task_come_back_with_what_was_typed(
    site: Site, client: httpx.AsyncClient, data: dict[str, str], words: str
) -> None:
    response = await client.post("/tasks", data=data)
    assert response.status_code == 400
    assert words in response.text
    assert site.runs.created == []


async def test_a_task_that_cannot_be_paid_keeps_its_words(site: Site, client: httpx.AsyncClient) -> None:
    site.runs.refuse = InsufficientFunds("the wallet is empty", next_step="top it up")
    response = await client.post("/tasks", data={"text": "Summarise <this>", "max_cost": "0.33"})
    assert response.status_code == 402
    assert "Summarise &lt;this&gt;</textarea>" in response.text
    assert 'value="0.33"' in response.text
    assert "What to do: Top it up." in response.text


async def test_each_form_has_a_key_of_its_own_that_reaches_the_task(site: Site, client: httpx.AsyncClient) -> None:
    keys = [re.search(r'name="_key" value="([^"]+)"', (await client.get("/")).text) for _ in range(2)]
    assert keys[0] is not None
    assert keys[1] is not None
    assert keys[0][1] != keys[1][1]
    await client.post("/tasks", data={"text": "Summarise", "max_cost": "1", "_key": keys[0][1]})
    assert site.runs.created[0].key == keys[0][1]


async def test_a_body_over_the_limit_is_refused_before_it_is_read(site: Site) -> None:
    address = urlsplit(site.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"POST /tasks HTTP/1.1\r\nhost: x\r\naccept: text/html\r\ncontent-length: 999999999\r\n\r\n")
    answer = await reader.readuntil(b"</html>")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"more than 64 MB" in answer


async def test_the_list_keeps_all_of_its_state_in_the_address(client: httpx.AsyncClient) -> None:
    page = await client.get("/marketplace?q=pdf&category=data-analysis&max_price=abc&sort=nonsense")
    assert page.status_code == 200
    assert 'value="pdf"' in page.text
    assert '<option value="data-analysis" selected>' in page.text
    part = await client.get("/marketplace?q=zzz", headers={"hx-request": "true"})
    assert "<html" not in part.text
    assert "No agent found for “zzz”" in part.text
    whole = await client.get("/marketplace?q=zzz", headers={"hx-request": "true", "hx-history-restore-request": "true"})
    assert "<html" in whole.text


async def test_json_can_be_sent_instead_of_the_form(site: Site, client: httpx.AsyncClient) -> None:
    path = "/agents/org.agentnexus.knowledge-qa/run"
    sent = '{"question": "Why?", "sources": [{"name": "a"}]}'
    assert (await client.post(path, data={"_json": sent})).status_code == 303
    assert site.runs.ran[0][1] == {"question": "Why?", "sources": [{"name": "a"}]}
    for wrong in ("{", "[1]", '"text"', "[" * 100_000, '{"question": 5}'):
        response = await client.post(path, data={"_json": wrong})
        assert response.status_code == 422
        assert "need another look" in response.text
    assert len(site.runs.ran) == 1


async def test_examples_fill_the_form_in(client: httpx.AsyncClient) -> None:
    page = await client.get("/agents/org.agentnexus.knowledge-qa?example=0")
    assert 'value="When does the lease end?"' in page.text
    assert (await client.get("/agents/org.agentnexus.knowledge-qa?example=99")).status_code == 200


async def test_pointers_of_strangers_cannot_break_add_and_remove(client: httpx.AsyncClient) -> None:
    path = "/agents/org.agentnexus.knowledge-qa/run"
    for name in ("_add", "_remove"):
        for pointer in ("", "/", "/nowhere/0", "/sources/99", "/question/x/y", "x" * 500, "/sources/-1"):
            response = await client.post(path, data={name: pointer, "in/question": "Why?"})
            assert response.status_code in (200, 422)


async def test_downloads_are_saved_and_never_opened_on_our_address(client: httpx.AsyncClient) -> None:
    for path in ("result.json", "file?at=/result/charts/0", "receipts/rcpt_1.json"):
        response = await client.get(f"/tasks/wf_completed/{path}")
        assert response.status_code == 200
        assert response.headers["content-disposition"].startswith("attachment; ")
        assert "sandbox" in response.headers["content-security-policy"]
        assert "svg" not in response.headers["content-type"]
    assert (await client.get("/tasks/wf_completed/file?at=/result/nothing")).status_code == 404
    assert (await client.get("/tasks/wf_completed/receipts/other.json")).status_code == 404


async def test_people_and_programs_share_the_address_of_a_workflow(client: httpx.AsyncClient) -> None:
    assert (await client.get("/workflows/wf_completed", headers=HTML)).status_code == 200
    for accept in ("*/*", "application/json", "application/json, text/html"):
        assert (await client.get("/workflows/wf_completed", headers={"accept": accept})).status_code == 404


async def test_the_theme_is_only_ever_one_of_three_and_leads_back_to_our_own_page(
    site: Site, client: httpx.AsyncClient
) -> None:
    good = await client.post("/theme", data={"theme": "dark"}, headers={"referer": f"{site.url}/economy"})
    assert good.headers["location"] == "/economy"
    assert "nexus_theme=dark" in good.headers["set-cookie"]
    assert "samesite=lax" in good.headers["set-cookie"].lower()
    bad = await client.post("/theme", data={"theme": "<x>"}, headers={"referer": "https://evil.example//x"})
    assert bad.headers["location"] == "/"
    assert "set-cookie" not in bad.headers
    page = await client.get("/", headers={"cookie": 'nexus_theme="><script>'})
    assert '<html lang="en" data-theme="system">' in page.text


async def test_static_files_are_kept_for_ever_only_under_their_hash(client: httpx.AsyncClient) -> None:
    page = (await client.get("/")).text
    address = re.search(r'href="(/static/css/base\.css\?v=\w+)"', page)
    assert address is not None
    assert "immutable" in (await client.get(address[1])).headers["cache-control"]
    assert (await client.get("/static/css/base.css")).headers["cache-control"] == "no-cache"
    assert (await client.get("/static/../app.py")).status_code == 404


async def test_live_events_bring_everything_once_then_only_what_changed(site: Site, client: httpx.AsyncClient) -> None:
    runs = site.runs
    messages: list[str] = []
    async with client.stream("GET", "/tasks/wf_executing/live") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        text = ""
        async for piece in response.aiter_text():
            text += piece
            while "\n\n" in text:
                message, _, text = text.partition("\n\n")
                messages.append(message)
                if len(messages) == 1:
                    moved = runs.workflows["wf_executing"].model_copy(
                        update={"steps": samples.steps("completed", "completed", "running", "pending")}
                    )
                    await runs.advance("wf_executing", moved)
                elif len(messages) == 2:
                    await runs.cancel("local", "wf_executing")
    first, second, *_, last = messages
    assert all(f'id="run-{name}"' in first for name in ("head", "plan", "steps", "money", "log", "receipts"))
    assert 'id="run-steps"' in second
    assert 'id="run-receipts"' not in second
    assert 'hx-swap-oob="outerMorph"' in first
    assert last.startswith("event: end")


async def test_a_strangers_live_address_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/tasks/wf_other/live", headers=HTML)).status_code == 404


async def test_every_panel_has_the_one_id_it_is_replaced_by(site: Site) -> None:
    for run_id in site.runs.workflows:
        for name, html in RUN_PANELS.draw(await site.runs.view("local", run_id)).items():
            assert html.strip().startswith('<div id="run-'), (run_id, name)


async def test_a_page_of_an_approved_task_says_what_is_wrong_with_approving_again(client: httpx.AsyncClient) -> None:
    response = await client.post("/tasks/wf_completed/approve", headers=HTML)
    assert response.status_code == 409
    assert "This task is not waiting for approval." in response.text


async def test_a_silent_market_is_a_notice_on_the_economy_page(client: httpx.AsyncClient) -> None:
    response = await client.get("/economy?need=down")
    assert response.status_code == 200
    assert "The registry does not answer." in response.text
