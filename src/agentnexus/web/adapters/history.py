"""The history of tasks, searched: newest first, a bounded number of tasks per page. Works on every engine."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Final

from agentnexus.web.adapters.run_view import run_summary
from agentnexus.web.views.history import HistoryPage, HistoryQuery
from agentnexus.workflows.model import Workflow
from agentnexus.workflows.service import PAGE_MAX, Workflows, cursor_before

SHOWN: Final = 30
LOOKED_AT_MAX: Final = 1000
"""Tasks one request looks at: a search for what is rare goes on where it stopped."""


async def search(workflows: Workflows, user_id: str, query: HistoryQuery) -> HistoryPage:
    """What matches, and a cursor for more. Raises `InvalidInput` for a cursor that is none of ours."""
    cursor = query.cursor or _start(query)
    size = PAGE_MAX if query.filtered else SHOWN
    found: list[Workflow] = []
    looked_at = 0
    while looked_at < LOOKED_AT_MAX:
        page = await workflows.list(user_id, size, cursor)
        for workflow in page.workflows:
            if query.since is not None and workflow.created_at.astimezone(UTC).date() < query.since:
                return HistoryPage([run_summary(each) for each in found], "", looked_at)
            looked_at += 1
            if matches(workflow, query):
                found.append(workflow)
            if len(found) == SHOWN:
                last = workflow is page.workflows[-1] and not page.next_cursor
                following = "" if last else cursor_before(workflow.created_at, workflow.id)
                return HistoryPage([run_summary(each) for each in found], following, looked_at)
        cursor = page.next_cursor
        if not cursor:
            break
    return HistoryPage([run_summary(each) for each in found], cursor, looked_at)


def _start(query: HistoryQuery) -> str:
    if query.until is None:
        return ""
    return cursor_before(datetime.combine(query.until, time(), UTC) + timedelta(days=1))


def matches(workflow: Workflow, query: HistoryQuery) -> bool:
    """Every word of the query is in the task's text, its files' names or its steps' titles."""
    if query.status and workflow.status.value != query.status:
        return False
    if query.least is not None and workflow.cost < query.least:
        return False
    if query.most is not None and workflow.cost > query.most:
        return False
    words = query.words.casefold().split()
    if not words:
        return True
    names = [file.name for file in workflow.files] + [step.title for step in workflow.steps]
    said = " ".join([workflow.text, *names]).casefold()
    return all(word in said for word in words)
