"""Pages as somebody without scripts uses them, and as somebody who means harm: plain requests against the real site."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from agentnexus.core.errors import InsufficientFunds
from agentnexus.web.views.agents import AgentView
from tests.web import samples
from tests.web.browsing import FormReader, read_form
from tests.web.preview import PreviewRuns, preview_app
from tests.web.test_browser_pages import PAGES
from tests.web.test_pages_http import HTML

QA = "/agents/org.agentnexus.knowledge-qa"
RUN = f"{QA}/run"


@pytest.fixture
def app() -> Starlette:
    return preview_app()


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """The pages in this process: no test here needs a connection of its own."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as made:
        yield made


@pytest.fixture
def runs(app: Starlette) -> PreviewRuns:
    found: PreviewRuns = app.state.runs
    return found


async def pressed(
    client: httpx.AsyncClient, data: dict[str, str | list[str]], button: str = "", value: str = ""
) -> str:
    """The page that comes back when a button of the agent's form is pressed."""
    answer = await client.post(RUN, data={**data, **({button: value} if button else {})})
    assert answer.status_code in (200, 422)
    return answer.text


def sources(page: str) -> list[str]:
    """What stands in the name fields of the sources, in order; blank ones too."""
    sent = read_form(page).sent
    numbered = [(name, texts) for name, texts in sent.items() if re.fullmatch(r"in/sources/\d+/name", name)]
    return [texts[0] for _, texts in sorted(numbered)]


async def test_an_item_is_added_below_the_ones_already_there(client: httpx.AsyncClient) -> None:
    page = await pressed(client, {"in/sources/0/name": "one", "in/question": "Why?"}, "_add", "/sources")
    assert sources(page) == ["one", ""]
    assert read_form(page).sent["in/question"] == ["Why?"]


@pytest.mark.parametrize(
    ("gone", "left"),
    [("/sources/0", ["two", "three"]), ("/sources/1", ["one", "three"]), ("/sources/2", ["one", "two"])],
)
async def test_the_very_item_whose_button_was_pressed_goes(
    client: httpx.AsyncClient, gone: str, left: list[str]
) -> None:
    data = {f"in/sources/{number}/name": name for number, name in enumerate(["one", "two", "three"])}
    assert sources(await pressed(client, {**data}, "_remove", gone)) == left


async def test_removing_an_empty_item_leaves_the_filled_ones(client: httpx.AsyncClient) -> None:
    data = {"in/sources/0/name": "one", "in/sources/1/name": "", "in/sources/2/name": "three"}
    assert sources(await pressed(client, {**data}, "_remove", "/sources/1")) == ["one", "three"]
    assert sources(await pressed(client, {**data}, "_remove", "/sources/2")) == ["one"]


async def test_nothing_is_run_while_items_are_added_or_removed(client: httpx.AsyncClient, runs: PreviewRuns) -> None:
    for button in ("_add", "_remove"):
        await pressed(client, {"in/question": "Why?", "in/sources/0/name": "x"}, button, "/sources")
    assert runs.ran == []


@pytest.mark.parametrize("example", ["0", "-1", "99", "²", "9" * 5000, "x", "0x0", " 0", "\u0660"])
async def test_any_example_number_shows_the_page(client: httpx.AsyncClient, example: str) -> None:
    answer = await client.get(QA, params={"example": example})
    assert answer.status_code == 200
    assert ("When does the lease end?" in read_form(answer.text).sent.get("in/question", [""])) == (example == "0")


@pytest.mark.parametrize(
    "query",
    [
        {"q": "<script>alert(1)</script>"},
        {"q": "x" * 10_000},
        {"q": "\x00"},
        {"category": "' or 1=1 --"},
        {"max_price": "NaN"},
        {"max_price": "-5"},
        {"max_price": "1e99"},
        {"max_price": "0.00000000001"},
        {"sort": "drop table"},
        {"cursor": "!!!"},
        {"cursor": "9" * 500},
    ],
)
async def test_the_list_takes_any_filter(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    answer = await client.get("/marketplace", params=query, headers=HTML)
    assert answer.status_code in (200, 400)
    assert "<script>alert" not in answer.text
    if answer.status_code == 400:
        assert "cursor" in query


async def test_a_search_that_finds_nothing_says_so_and_how_to_go_on(client: httpx.AsyncClient) -> None:
    page = (await client.get("/marketplace", params={"q": "zzzzqqqq"}, headers=HTML)).text
    assert not re.search(r'href="/agents/', page)
    assert re.search(r"(?i)no agent|nothing", page)


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_has_one_heading_a_language_and_labelled_controls(
    client: httpx.AsyncClient, path: str
) -> None:
    page = (await client.get(path, headers=HTML)).text
    assert re.search(r'<html[^>]* lang="en"', page)
    assert len(re.findall(r"<h1[ >]", page)) == 1
    assert re.search(r"<title>[^<]+</title>", page)
    labelled = set(re.findall(r'<label[^>]* for="([^"]+)"', page))
    for found in re.finditer(r"<(input|select|textarea)\b([^>]*)>", page):
        attributes = found[2]
        if re.search(r'type="(hidden|submit|checkbox|radio|button)"', attributes):
            continue
        identifier = re.search(r'\bid="([^"]+)"', attributes)
        assert "aria-label" in attributes or (identifier and identifier[1] in labelled), found[0]


@pytest.mark.parametrize("path", PAGES)
async def test_every_form_posts_to_this_site_only(client: httpx.AsyncClient, path: str) -> None:
    page = (await client.get(path, headers=HTML)).text
    for action in re.findall(r'<form[^>]*\baction="([^"]*)"', page):
        assert action.startswith("/")
        assert not action.startswith("//")


@pytest.mark.parametrize("path", PAGES)
async def test_every_address_on_a_page_is_ours_or_opens_without_a_referrer(
    client: httpx.AsyncClient, path: str
) -> None:
    page = (await client.get(path, headers=HTML)).text
    for tag in re.findall(r"<a\b[^>]*>", page):
        address = re.search(r'href="([^"]*)"', tag)
        if address and re.match(r"https?:", address[1]):
            assert "noopener" in tag or "noreferrer" in tag
        elif address:
            assert re.match(r"[/#?]|mailto:|solana:", address[1]), tag


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/tasks", "/marketplace", QA, "/tasks/wf_completed"])
async def test_other_verbs_are_not_allowed(client: httpx.AsyncClient, path: str, method: str) -> None:
    answer = await client.request(method, path, headers=HTML)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) <= {"GET", "HEAD", "POST"}


async def test_head_tells_the_same_headers_without_a_body(client: httpx.AsyncClient) -> None:
    answer = await client.head("/marketplace", headers=HTML)
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/agents/%00", "/agents/..%2f..%2fetc", "/tasks/%3Cscript%3E", "/agents/" + "x" * 2000]
)
async def test_a_strange_address_is_a_friendly_not_found(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers=HTML)
    assert answer.status_code in (400, 404)
    assert "<script>" not in answer.text.replace("<script ", "")
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", ["../../../etc/passwd", "%2e%2e/%2e%2e/pyproject.toml", "vendor/../../app.py", "x.js"])
async def test_static_files_never_lead_out_of_their_folder(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/static/{path}")
    assert answer.status_code == 404


RAW: list[tuple[str, int]] = [
    ("{", 422),
    ("[]", 422),
    ("5", 422),
    ("null", 422),
    ("[" * 50_000, 422),
    ('{"question": 5}', 422),
    ('{"question": "Why?", "sources": "x"}', 422),
    ('{"question": "\\ud800", "sources": []}', 422),
]


@pytest.mark.parametrize(("text", "status"), RAW, ids=[text[:20] for text, _ in RAW])
async def test_raw_json_that_does_not_fit_is_refused_on_the_page(
    client: httpx.AsyncClient, text: str, status: int
) -> None:
    answer = await client.post(RUN, data={"_json": text, "_run": "1"})
    assert answer.status_code == status
    assert "<form" in answer.text


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"origin": "null"}])
async def test_a_foreign_form_is_refused_with_what_to_do(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await client.post("/tasks", data={"text": "Summarise"}, headers={**HTML, **headers})
    assert answer.status_code == 403
    assert "Open the page here and send it again." in answer.text
    assert answer.headers["content-security-policy"]


@pytest.mark.parametrize("value", ["dark", "light", "system"])
async def test_each_theme_is_kept_in_a_cookie_that_only_pages_read(client: httpx.AsyncClient, value: str) -> None:
    answer = await client.post("/theme", data={"theme": value})
    cookie = answer.headers["set-cookie"].lower()
    assert answer.status_code == 303
    assert "samesite=lax" in cookie or "samesite=strict" in cookie
    assert "path=/" in cookie
    page = (await client.get("/", headers=HTML)).text
    root = re.search(r"<html[^>]*>", page)
    assert root is not None
    assert (f'"{value}"' in root[0]) == (value != "system") or value == "system"


@pytest.mark.parametrize("cookie", ['dark"><script>', "DARK", "", "neon", "x" * 3000])
async def test_a_forged_theme_cookie_changes_nothing(client: httpx.AsyncClient, cookie: str) -> None:
    plain = (await client.get("/", headers=HTML)).text
    forged = (await client.get("/", headers={**HTML, "cookie": f"theme={cookie}"})).text
    root = r"<html[^>]*>"
    assert re.findall(root, plain) == re.findall(root, forged)
    assert '"><script>' not in forged


async def test_what_was_posted_comes_back_when_the_seller_cannot_be_paid(
    client: httpx.AsyncClient, runs: PreviewRuns
) -> None:
    data = {"in/question": 'Why "now"?', "in/sources/0/name": "a<b", "in/sources/0/text": "text", "_run": "1"}
    runs.refuse = InsufficientFunds("the wallet has too little", next_step="deposit 1 USDC")
    answer = await client.post(RUN, data=data)
    assert answer.status_code == 402
    kept = read_form(answer.text).sent
    assert kept["in/question"] == ['Why "now"?']
    assert kept["in/sources/0/name"] == ["a<b"]
    assert "Deposit 1 USDC." in answer.text


def controls(page: str) -> FormReader:
    return read_form(page)


async def test_a_task_form_names_what_the_server_reads(client: httpx.AsyncClient) -> None:
    page = (await client.get("/", headers=HTML)).text
    assert {"text", "max_cost", "files"} <= set(controls(page).controls)


@pytest.mark.parametrize("agent", samples.AGENTS, ids=lambda agent: agent.id)
async def test_every_agents_form_sent_empty_is_refused_at_its_needed_fields(
    client: httpx.AsyncClient, agent: AgentView
) -> None:
    answer = await client.post(f"/agents/{agent.id}/run", data={"_run": "1"})
    required = (agent.input_schema or {}).get("required")
    if required:
        assert answer.status_code == 422
        assert "This is needed." in answer.text
    else:
        assert answer.status_code in (303, 422)


@pytest.mark.parametrize("agent", samples.AGENTS, ids=lambda agent: agent.id)
async def test_every_example_of_every_agent_is_drawn_as_it_is(client: httpx.AsyncClient, agent: AgentView) -> None:
    for number, example in enumerate(agent.examples[:5]):
        page = (await client.get(f"/agents/{agent.id}", params={"example": str(number)}, headers=HTML)).text
        sent = controls(page).sent
        for name, value in example.input.items():
            if isinstance(value, str) and len(value) < 1000:
                assert value in [text for texts in sent.values() for text in texts], name


async def test_a_download_is_the_exact_result(client: httpx.AsyncClient) -> None:
    answer = await client.get("/tasks/wf_completed/result.json")
    assert json.loads(answer.content) == samples.sample_workflows()["wf_completed"].result


@pytest.mark.parametrize("place", ["", "/", "/result/nothing", "/result/²", "x" * 5000, "/result/charts/99", "/../etc"])
async def test_a_file_that_is_not_there_is_not_found(client: httpx.AsyncClient, place: str) -> None:
    answer = await client.get("/tasks/wf_completed/file", params={"at": place}, headers=HTML)
    assert answer.status_code == 404
    assert "Download the whole result instead." in answer.text or "no file" in answer.text.lower()


async def test_the_market_may_choose_the_seller_of_a_run(client: httpx.AsyncClient, runs: PreviewRuns) -> None:
    page = (await client.get("/agents/org.agentnexus.pdf-extractor")).text
    assert 'name="_run" value="market">Let the market choose' in page
    assert 'href="/economy?need=pdf.extract"' in page
    sent = {"_run": "market", "in/question": "What?", "in/sources/0/name": "a", "in/sources/0/text": "text"}
    answer = await client.post("/agents/org.agentnexus.knowledge-qa/run", data=sent)
    assert answer.status_code == 303
    ((seller, value),) = runs.ran
    assert (seller, value["question"]) == ("market", "What?")
