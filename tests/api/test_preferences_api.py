"""Lists of sellers and limits of a search, over HTTP: each caller's own, honoured by search, explanation and hire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import APIRouter

from agentnexus.api.app import create_api, guarded
from agentnexus.api.hiring_routes import hiring_routes
from agentnexus.api.preference_routes import preference_routes
from agentnexus.core.clock import ManualClock, SeededEntropy, TimeOrderedIds
from agentnexus.hiring.statistics import PREFERENCES_MAX
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.platform.database import Database
from tests.hiring.support import USDC, Economy, known, make_offer, seller_key

CHEAP = make_offer(1, price="0.01")
GOOD = make_offer(2, price="0.03", reputation=known(4.9, 400))
FAR = make_offer(3, price="0.04", region="eu", rails=({"network": "eip155:8453", "scheme": "exact"},))
PREFERENCES = "/api/v1/preferences"


@dataclass
class Desk:
    """Ann and Bob in front of one node."""

    economy: Economy
    client: httpx.AsyncClient
    tokens: dict[str, str]

    async def call(self, method: str, path: str, user: str = "ann", **more: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[user]}"}
        return await self.client.request(method, path, headers=headers, **more)  # type: ignore[arg-type]  # passed on

    async def sellers(self, user: str = "ann", /, **query: object) -> list[str]:
        """Who is found for the need, best first."""
        answer = await self.call("GET", "/api/v1/offers", user, params={"need": "text.echo", **query})
        assert answer.status_code == 200, answer.text
        return [ranked["seller"] for ranked in answer.json()["data"]]

    async def hired(self, user: str = "ann", **more: object) -> str:
        """The seller of a hire."""
        body = {"need": "text.echo", "input": {"text": "x"}, "max_price": "0.1", **more}
        answer = await self.call("POST", "/api/v1/hire", user, json=body)
        assert answer.status_code == 200, answer.text
        offer = answer.json()["data"]["receipt"]["offer"]
        return f"evm:{offer['seller']['ids']['evm']}"


@pytest.fixture
async def desk(database: Database, clock: ManualClock) -> AsyncIterator[Desk]:
    economy = await Economy.build(database, offers=[CHEAP, GOOD, FAR])
    tokens = Tokens(database, SeededEntropy(1))
    budgets = PersonalBudgets(economy.books, USDC)
    router = APIRouter()
    router.include_router(hiring_routes(economy.hiring, budgets, USDC, TimeOrderedIds()))
    router.include_router(preference_routes(economy.hiring.records))
    app = create_api(
        routers=[("/api/v1", router)], pages=[], callers=Callers(tokens), checks={}, clock=clock, version="1",
        limiter=Limiter(database, per_minute=6000, burst=600, clock=clock),
    )  # fmt: skip
    transport = httpx.ASGITransport(guarded(app, 65536), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield Desk(economy, client, {user: await tokens.issue(user) for user in ("ann", "bob")})
    await economy.close()


async def put(desk: Desk, number: int, kind: str, user: str = "ann") -> None:
    answer = await desk.call("PUT", PREFERENCES, user, json={"seller": seller_key(number), "kind": kind})
    assert answer.status_code == 200, answer.text


async def test_a_blocked_seller_is_neither_found_nor_hired_by_that_user_alone(desk: Desk) -> None:
    await put(desk, 1, "blocked")
    assert seller_key(1) not in await desk.sellers()
    assert seller_key(1) in await desk.sellers("bob")
    assert await desk.hired(policy="cheapest") == seller_key(2)
    assert await desk.hired("bob", policy="cheapest") == seller_key(1)


async def test_a_preferred_seller_comes_first_and_is_hired_though_it_is_the_dearest(desk: Desk) -> None:
    assert (await desk.sellers())[0] != seller_key(3)
    await put(desk, 3, "preferred")
    assert (await desk.sellers())[0] == seller_key(3)
    for number in range(3):
        assert await desk.hired(key=str(number)) == seller_key(3)


async def test_a_preferred_seller_that_does_not_serve_gives_way(desk: Desk) -> None:
    await put(desk, 9, "preferred")  # sells nothing
    await put(desk, 3, "preferred")
    assert await desk.hired(max_price="0.02") == seller_key(1)


async def test_lists_are_shown_changed_and_cleared(desk: Desk) -> None:
    await put(desk, 1, "preferred")
    await put(desk, 2, "blocked")
    await put(desk, 1, "blocked")
    shown = (await desk.call("GET", PREFERENCES)).json()["data"]
    assert [(each["seller"], each["kind"]) for each in shown] == [
        (seller_key(1), "blocked"), (seller_key(2), "blocked"),
    ]  # fmt: skip
    assert shown[0]["since"]
    for _ in range(2):  # clearing again changes nothing
        answer = await desk.call("DELETE", PREFERENCES, params={"seller": seller_key(1)})
        assert answer.json()["data"] == {"seller": seller_key(1), "kind": None}
    assert [each["seller"] for each in (await desk.call("GET", PREFERENCES)).json()["data"]] == [seller_key(2)]
    assert (await desk.call("GET", PREFERENCES, "bob")).json()["data"] == []


async def test_an_address_means_the_same_seller_however_it_is_written(desk: Desk) -> None:
    answer = await desk.call("PUT", PREFERENCES, json={"seller": f" evm:0x{1:040X}", "kind": "blocked"})
    assert answer.json()["data"]["seller"] == seller_key(1)
    assert seller_key(1) not in await desk.sellers()


@pytest.mark.parametrize("seller", ["bob", "evm:", ":0x1", "EVM:0x1", "evm:\x00", "evm:" + "x" * 191])
async def test_what_is_no_seller_is_refused_with_where_to_find_one(desk: Desk, seller: str) -> None:
    answer = await desk.call("PUT", PREFERENCES, json={"seller": seller, "kind": "blocked"})
    assert answer.status_code in (400, 422)
    if len(seller) < 190:
        assert "nexus offers" in answer.json()["error"]["next_step"]


async def test_an_unknown_kind_is_refused(desk: Desk) -> None:
    answer = await desk.call("PUT", PREFERENCES, json={"seller": seller_key(1), "kind": "adored"})
    assert answer.status_code in (400, 422)
    assert (await desk.call("GET", PREFERENCES)).json()["data"] == []


async def test_lists_have_an_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PREFERENCES_MAX == 500
    monkeypatch.setattr("agentnexus.hiring.statistics.PREFERENCES_MAX", 2)
    await put(desk, 1, "blocked")
    await put(desk, 2, "blocked")
    answer = await desk.call("PUT", PREFERENCES, json={"seller": seller_key(3), "kind": "blocked"})
    assert answer.status_code == 409
    await put(desk, 2, "preferred")  # one that is there may change its list
    await put(desk, 3, "blocked", "bob")


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({}, {1, 2, 3}),
        ({"min_reputation": 4.2}, {2}),
        ({"network": ["eip155:8453"]}, {1, 2, 3}),  # who does not say on which network is asked
        ({"network": ["eip155:1", "eip155:10"]}, {1, 2}),
        ({"region": "us"}, {1, 2}),
        ({"region": "eu"}, {1, 2, 3}),
        ({"market": ["elsewhere"]}, set()),
        ({"market": ["elsewhere", "scripted"]}, {1, 2, 3}),
        ({"max_price": "0.03"}, {1, 2}),
    ],
)
async def test_limits_leave_out_whom_they_say(desk: Desk, limits: dict[str, object], found: set[int]) -> None:
    assert set(await desk.sellers("ann", **limits)) == {seller_key(number) for number in found}


async def test_what_limits_left_out_is_counted(desk: Desk) -> None:
    query = {"need": "text.echo", "min_reputation": 5}
    answer = (await desk.call("GET", "/api/v1/offers", params=query)).json()
    assert answer["data"] == []
    assert answer["left_out"] == {"reputation": 3}


async def test_a_hire_keeps_to_the_limits_and_the_policy_it_is_given(desk: Desk) -> None:
    assert await desk.hired(policy="cheapest") == seller_key(1)
    assert await desk.hired(policy="best", strategy="reputation") == seller_key(2)
    assert await desk.hired(min_reputation=4.2) == seller_key(2)
    refused = await desk.call(
        "POST", "/api/v1/hire",
        json={"need": "text.echo", "input": {}, "max_price": "0.1", "market": ["elsewhere"]},
    )  # fmt: skip
    assert refused.status_code == 404
    turns = {await desk.hired(policy="round_robin", strategy="reputation") for _ in range(4)}
    assert len(turns) > 1


async def test_the_explanation_takes_the_policy_too(desk: Desk) -> None:
    answer = await desk.call("GET", "/api/v1/offers/explain", params={"need": "text.echo", "policy": "cheapest"})
    assert answer.json()["data"]["why"] == "the cheapest"


@pytest.mark.parametrize(
    "wrong",
    [{"min_reputation": 6}, {"market": [""]}, {"policy": "dearest"}, {"strategy": "luck"}, {"region": "x" * 101}],
)
async def test_limits_that_are_none_are_refused(desk: Desk, wrong: dict[str, object]) -> None:
    body = {"need": "text.echo", "input": {}, "max_price": "0.1", **wrong}
    assert (await desk.call("POST", "/api/v1/hire", json=body)).status_code in (400, 422)
