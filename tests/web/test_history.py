"""The history of tasks: filters in their words, a bounded search that goes on where it stopped, page by page."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest

from agentnexus.core.errors import InvalidInput
from agentnexus.platform.database import Database
from agentnexus.web.adapters import history
from agentnexus.web.adapters.history import matches, search
from agentnexus.web.views.history import HistoryQuery
from tests.web import samples
from tests.workflows.site import make, open_site, sse

HTML = {"accept": "text/html"}


def cents(amount: str) -> object:
    return samples.USDC.parse(amount)


@pytest.mark.parametrize(("query", "found"), [
    (HistoryQuery(), True),
    (HistoryQuery(status="completed"), True),
    (HistoryQuery(status="failed"), False),
    (HistoryQuery(words="TABLES report"), True),
    (HistoryQuery(words="sales.csv"), True),
    (HistoryQuery(words="tables of Mars"), False),
    (HistoryQuery(least=cents("0.057"), most=cents("0.057")), True),
    (HistoryQuery(least=cents("0.06")), False),
    (HistoryQuery(most=cents("0.05")), False),
])  # fmt: skip
def test_a_task_fits_when_every_filter_does(query: HistoryQuery, found: bool) -> None:
    assert matches(samples.sample_workflows()["wf_completed"], query) is found


async def test_the_page_keeps_what_was_asked_for(client: httpx.AsyncClient) -> None:
    asked = "/history?status=failed&q=report&since=2026-11-01&until=2026-11-30&least=0.01&most=1"
    page = (await client.get(asked, headers=HTML)).text
    assert '<option value="failed" selected>' in page
    for value in ("report", "2026-11-01", "2026-11-30", "0.01", "1"):
        assert f'value="{value}"' in page
    assert page.count("/tasks/wf_") == 1
    (more,) = re.findall(r'href="(/history\?[^"]*cursor=more)"', page)
    assert "status=failed" in more
    assert "most=1" in more


@pytest.mark.parametrize(("asked", "says", "status"), [
    ("q=nothing-like-this", "No task fits that", 200),
    ("q=rare", "None among the newest 1,000 tasks", 200),
    ("since=yesterday", "Yesterday is no date.", 400),
    ("most=much", "What to do:", 400),
    ("status=strange", "wf_completed", 200),
])  # fmt: skip
async def test_what_finds_nothing_or_cannot_be_read_says_so(
    client: httpx.AsyncClient, asked: str, says: str, status: int
) -> None:
    answer = await client.get(f"/history?{asked}", headers=HTML)
    assert answer.status_code == status
    assert says in answer.text


async def test_tasks_are_grouped_by_what_they_wait_for(client: httpx.AsyncClient) -> None:
    page = (await client.get("/workflows", headers=HTML)).text
    parts = re.split(r"<h2[^>]*>", page)[1:]
    assert [part.partition("<")[0] for part in parts] == ["Waiting for you", "Under way", "Lately"]
    assert "wf_approval" in parts[0]
    assert "wf_executing" in parts[1]
    assert "wf_planning" in parts[1]
    assert "wf_failed" in parts[2]
    assert 'href="/history"' in parts[2]


async def test_real_tasks_are_found_page_by_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SHOWN", 2)
    monkeypatch.setattr(history, "PAGE_MAX", 2)
    monkeypatch.setattr(history, "LOOKED_AT_MAX", 4)
    async with open_site(database) as api:
        ann, workflows = await api.client("ann"), api.room.workflows
        made = [await make(ann, f"Analyse file number {number}", autoApprove=True) for number in range(5)]
        for each in made:
            await sse(ann, each)
        seen: list[str] = []
        cursor = ""
        for _ in range(3):
            page = await search(workflows, "ann", HistoryQuery(cursor=cursor))
            seen += [run.id for run in page.runs]
            cursor = page.next_cursor
        assert (seen, cursor) == (made[::-1], "")
        rare = await search(workflows, "ann", HistoryQuery(words="number 0"))
        assert (rare.runs, rare.looked_at, bool(rare.next_cursor)) == ([], 4, True)
        further = await search(workflows, "ann", HistoryQuery(words="number 0", cursor=rare.next_cursor))
        assert ([run.id for run in further.runs], further.next_cursor) == ([made[0]], "")
        assert (await search(workflows, "bob", HistoryQuery())).runs == []
        today = datetime.now(UTC).date()
        await _by_day(workflows, today, len(made))
        with pytest.raises(InvalidInput):
            await search(workflows, "ann", HistoryQuery(cursor="not ours"))


async def _by_day(workflows: object, today: date, count: int) -> None:
    day = timedelta(days=1)

    async def seen(**days: date) -> int:
        found, cursor = 0, ""
        while True:
            page = await search(workflows, "ann", HistoryQuery(**days, cursor=cursor))  # type: ignore[arg-type]  # the room
            found, cursor = found + len(page.runs), page.next_cursor
            if not cursor:
                return found

    assert await seen(since=today - day, until=today) == count
    assert await seen(until=today - 2 * day) == 0  # midnight may pass meanwhile
    assert await seen(since=today + day) == 0
