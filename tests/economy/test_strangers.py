"""Every route of the running API, called by a stranger with the ids of somebody else's things: none opens or breaks."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest
import pytest_asyncio

from agentnexus.core.clock import SystemEntropy
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database
from tests.economy.conftest import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")
METHODS = ("get", "post", "put", "patch", "delete")
BODIES: Mapping[str, object] = {
    "/workflows/{workflow_id}/plan": {"drop": ["s1"]},
    "/templates/{template_id}": {"name": "mine now"},
    "/schedules/{schedule_id}": {"name": "mine now", "cron": "* * * * *"},
    "/escrow/{user_id}/create": {"userWallet": "11111111111111111111111111111111"},
    "/escrow/{user_id}/deposit": {"signature": "1" * 64},
    "/escrow/{user_id}/withdraw": {"amount": 1},
    "/api/v1/receipts/{receipt_id}/rating": {"rating": 1},
}


@pytest_asyncio.fixture(loop_scope="session")
async def mallory(town: Town) -> AsyncIterator[httpx.AsyncClient]:
    database = await Database.open(town.economy.database_url, max_size=1)
    token = await Tokens(database, SystemEntropy()).issue("mallory")
    await database.close()
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=town.economy.urls["api"], headers=headers, timeout=30) as client:
        yield client


async def owned(town: Town) -> dict[str, str]:
    """Something of each kind that belongs to the town's own user, by the name it has in paths."""
    note = ("note.txt", b"The Moon causes the tides of the oceans. The Sun adds to them.", "text/plain")
    uploaded = (await town.call("POST", "/files", files={"file": note})).json()["file"]
    workflow = await town.create("Summarise this text", files=[uploaded])
    await town.ended(workflow)
    found = {"workflow_id": workflow, "blob": uploaded["blob"]}

    async def made(path: str, body: dict[str, object]) -> str:
        answer = await town.call("POST", path, json=body)
        assert answer.status_code in (200, 201), (path, answer.text)
        text = answer.text
        identifier = re.search(r'"id":\s*"([^"]+)"', text)
        assert identifier is not None, text
        return identifier.group(1)

    found["template_id"] = await made("/templates", {"workflowId": workflow, "name": "mine"})
    schedule: dict[str, object] = {"name": "mine", "cron": "0 0 1 1 *", "input": "Summarise: the Moon and the tides."}
    found["schedule_id"] = await made("/schedules", schedule)
    found["webhook_id"] = await made("/webhooks", {"url": "https://example.com/hook"})
    found["budget_id"] = await made("/api/v1/budgets", {"name": "mine", "limits": {"total": "1"}})
    receipts = (await town.call("GET", "/api/v1/receipts")).json()["data"]
    found["receipt_id"] = str(receipts[0]["id"])
    found["token_id"] = str((await town.call("GET", "/api/v1/auth/tokens")).json()["data"][0]["id"])
    found["user_id"] = "local"
    return found


async def test_a_stranger_opens_nothing_of_anybody_elses(town: Town, mallory: httpx.AsyncClient) -> None:
    things = await owned(town)
    paths = (await town.call("GET", "/openapi.json")).json()["paths"]
    tried, opened, broken = 0, [], []
    for path, operations in paths.items():
        names = re.findall(r"{(\w+)}", path)
        if not any(name in things for name in names):
            continue
        filled = re.sub(r"{(\w+)}", lambda match: things.get(match.group(1), "1"), path)
        for method in METHODS:
            if method not in operations:
                continue
            body = BODIES.get(path, {})
            answer = await mallory.request(method, filled, json=None if method in ("get", "delete") else body)
            tried += 1
            line = (method, path, answer.status_code, answer.text[:200])
            if answer.status_code < 400:
                opened.append(line)
            elif answer.status_code >= 500:
                broken.append(line)
    assert tried >= 20
    assert opened == []
    assert broken == []
    taken = {"workflowId": things["workflow_id"], "name": "mine now"}
    assert (await mallory.post("/templates", json=taken)).status_code == 404
    for path, operations in paths.items():
        if "get" in operations and "{" not in path:
            answer = await mallory.get(path, params={"need": "pdf.extract"})
            assert answer.status_code < 500, (path, answer.text)
            shown = [name for name, thing in things.items() if name != "user_id" and thing in answer.text]
            assert shown == [], f"{path} shows a stranger {shown}"
    note = {"name": "note.txt", "media_type": "text/plain", "size_bytes": 62, "blob": things["blob"]}
    stolen = {"input": "Summarise this text", "files": [note]}
    assert (await mallory.post("/workflows/create", json=stolen)).status_code == 404
    for name in ("workflow_id", "template_id", "schedule_id", "webhook_id"):
        kind = name.removesuffix("_id")
        assert (await town.call("GET", f"/{kind}s/{things[name]}")).status_code == 200, "still there for its owner"
