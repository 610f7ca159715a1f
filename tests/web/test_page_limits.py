"""Pages that ask the chain are shown to each visitor so often a minute at most, whichever process they ask."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import httpx
import pytest
from starlette.applications import Starlette

from agentnexus.core.clock import SeededEntropy
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database
from agentnexus.web.adapters.house import ASKS_THE_CHAIN, visitors
from agentnexus.web.app import pages_app
from agentnexus.web.doors import Doors
from tests.web.preview import preview_app

MOST = 3


@pytest.fixture
async def tokens(database: Database) -> dict[str, str]:
    made = Tokens(database, SeededEntropy(1))
    return {name: await made.issue(name) for name in ("ann", "bob")}


def app_of(database: Database, *, most: int = MOST) -> Starlette:
    """The pages as the house puts them together, in a process of its own as far as limits go."""
    doors: Doors = preview_app().state.doors
    callers = Callers(Tokens(database, SeededEntropy(2)))
    limiter, views = Limiter(database, per_minute=2), Limiter(database, per_minute=most)
    return pages_app(replace(doors, user=visitors(callers, limiter, views)))


async def look(app: Starlette, path: str, token: str, method: str = "GET", **headers: str) -> httpx.Response:
    sent = {"accept": "text/html", "authorization": f"Bearer {token}", **headers}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node", headers=sent) as client:
        return await client.request(method, path)


async def test_who_looks_too_often_gets_a_page_that_says_when_to_come_back(
    database: Database, tokens: dict[str, str]
) -> None:
    app = app_of(database)
    for path in ("/wallet", "/entitlements", "/wallet/export"):
        assert (await look(app, path, tokens["ann"])).status_code == 200
    refused = await look(app, "/wallet", tokens["ann"])
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "Too many requests" in refused.text
    assert f"Wait {refused.headers['retry-after']} s." in refused.text
    assert refused.headers["content-type"].startswith("text/html")
    program = await look(app, "/wallet", tokens["ann"], accept="application/json")
    assert (program.status_code, program.json()["error"]["code"]) == (429, "rate_limited")
    assert int(program.headers["retry-after"]) >= 1


async def test_each_visitor_is_counted_alone_and_over_all_processes(database: Database, tokens: dict[str, str]) -> None:
    one, other = app_of(database), app_of(database)
    answers = [await look(app, "/wallet", tokens["ann"]) for app in (one, other, one, other)]
    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert (await look(other, "/wallet", tokens["bob"])).status_code == 200


async def test_pages_that_ask_no_chain_are_free_and_posts_count_as_ever(
    database: Database, tokens: dict[str, str]
) -> None:
    app = app_of(database)
    for _ in range(MOST):
        await look(app, "/wallet", tokens["ann"])
    for path in ("/", "/money", "/workflows", "/connect", "/money"):
        assert (await look(app, path, tokens["ann"])).status_code == 200, path
    # What starts work has its own measure, which looking does not use up.
    sent = [await look(app, "/wallet/recovery", tokens["ann"], "POST") for _ in range(3)]
    assert [each.status_code for each in sent] == [303, 303, 429]
    assert "retry-after" in sent[-1].headers


async def test_a_stranger_is_led_to_sign_in_and_uses_up_nothing(database: Database, tokens: dict[str, str]) -> None:
    app = app_of(database, most=1)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
        for _ in range(3):
            assert (await client.get("/wallet", headers={"accept": "text/html"})).status_code == 303
    assert (await look(app, "/wallet", tokens["ann"])).status_code == 200


@pytest.mark.parametrize(
    ("path", "asks"),
    [
        ("/wallet", True),
        ("/wallet/export", True),
        ("/wallet/operations/op_1/live", True),
        ("/entitlements", True),
        ("/purchases/pur_1", True),
        ("/uses/use_1", True),
        ("/agents/org.agentnexus.pdf/buy", True),
        ("/agents/org.agentnexus.pdf", False),
        ("/agents", False),
        ("/wallets", False),
        ("/money", False),
        ("/", False),
        (quote("/\nwallet"), False),
    ],
)
def test_which_pages_ask_the_chain(path: str, asks: bool) -> None:
    assert bool(ASKS_THE_CHAIN.match(path)) is asks
