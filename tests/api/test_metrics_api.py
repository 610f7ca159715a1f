"""Economic metrics over HTTP: one's own, a task's, a budget's; nobody sees another's, an operator sees all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from agentnexus.api.app import create_api
from agentnexus.api.metrics_routes import metrics_routes
from agentnexus.core.clock import ManualClock, SeededEntropy
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.ledger.books import Books
from agentnexus.ledger.economics import Economics
from agentnexus.ledger.model import TransferKind
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.platform.database import Database
from tests.ledger.conftest import USDC, WALLET, usdc
from tests.ledger.wallets import OWNER_ID, grants_of, signed


@dataclass
class World:
    books: Books
    clients: dict[str, httpx.AsyncClient]

    async def economy(self, who: str = "ann", **query: str) -> dict[str, Any]:
        answer = await self.clients[who].get("/metrics/economy", params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["data"]
        return found

    async def pay(self, key: str, amount: str, budget: str, payee: str = "seller:evm:0xbb") -> None:
        await self.books.reserve(
            key, budget_id=budget, payer_account=WALLET, payee_account=payee, amount=usdc(amount),
            seller=payee.removeprefix("seller:"), capability="pdf.extract", rail="evm",
        )  # fmt: skip
        await self.books.capture(key)


@pytest.fixture
async def world(database: Database, clock: ManualClock) -> AsyncIterator[World]:
    async with Books(database, clock) as books:
        await books.deposit("d", WALLET, usdc("100"))
        budgets, grants = PersonalBudgets(books, USDC), grants_of(books, clock)
        for user in ("ann", "eve"):
            await budgets.current(user)
            await books.budgets.create(f"workflow:wf_{user}", parent=f"user:{user}")
        proof = grants.approvers.proof("ann", OWNER_ID)
        await grants.approvers.link(proof, signed(proof))
        tokens = Tokens(database, SeededEntropy(1))
        app = create_api(
            routers=[("", metrics_routes(books, Economics(database, USDC), grants.approvers, budgets))], pages=[],
            callers=Callers(tokens), limiter=Limiter(database, per_minute=600, clock=clock), checks={}, clock=clock,
            version="1",
        )  # fmt: skip
        clients = {}
        for user, role in (("ann", "basic"), ("eve", "basic"), ("boss", "operator")):
            headers = {"Authorization": f"Bearer {await tokens.issue(user, role)}"}
            clients[user] = httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://api", headers=headers
            )
        yield World(books, clients)
        for client in clients.values():
            await client.aclose()


async def test_everybody_sees_his_own_and_an_operator_all(world: World) -> None:
    await world.pay("a", "0.5", "workflow:wf_ann")
    await world.pay("b", "0.25", "user:eve")
    assert (await world.economy("ann"))["spent"]["atomic"] == "500000"
    assert (await world.economy("eve"))["spent"]["atomic"] == "250000"
    assert (await world.economy("boss"))["spent"]["atomic"] == "750000"


async def test_a_task_and_a_budget_are_their_owners(world: World) -> None:
    await world.pay("a", "0.5", "workflow:wf_ann")
    await world.pay("b", "0.25", "user:ann")
    assert (await world.economy(workflow="wf_ann"))["spent"]["atomic"] == "500000"
    assert (await world.economy(budget="user:ann"))["count"] == 2
    assert (await world.economy(capability="pdf.extract", seller="evm:0xbb"))["count"] == 2
    assert (await world.economy(seller="evm:0xcc"))["count"] == 0
    for query in ({"workflow": "wf_ann"}, {"budget": "user:ann"}, {"budget": "user:nobody"}):
        for path in ("economy", "burn-down"):
            answer = await world.clients["eve"].get(f"/metrics/{path}", params=query)
            assert answer.status_code == 404, query
    assert (await world.economy("boss", workflow="wf_ann"))["count"] == 1


async def test_what_ones_linked_wallets_are_paid_is_earned(world: World) -> None:
    await world.pay("a", "0.5", "user:eve", payee=f"seller:{OWNER_ID}")
    await world.pay("b", "0.2", "user:ann")
    await world.books.transfer("b", WALLET, "fees:x", usdc("0.01"), TransferKind.FEE)
    hers = await world.economy("ann")
    assert [hers[name]["atomic"] for name in ("earned", "spent", "fees", "net")] == [
        "500000",
        "200000",
        "10000",
        "290000",
    ]
    assert (await world.economy("eve"))["earned"]["atomic"] == "0"


async def test_a_window_of_time_needs_its_offset(world: World, clock: ManualClock) -> None:
    await world.pay("a", "0.5", "user:ann")
    clock.advance(86_400)
    await world.pay("b", "0.25", "user:ann")
    assert (await world.economy(since=clock.now().isoformat()))["spent"]["atomic"] == "250000"
    assert (await world.economy(until=clock.now().isoformat()))["spent"]["atomic"] == "500000"
    for query in ({"since": "2026-11-21T00:00:00"}, {"since": "yesterday"}, {"surprise": "1"}, {"seller": "x" * 301}):
        assert (await world.clients["ann"].get("/metrics/economy", params=query)).status_code == 400, query


async def test_a_budget_burns_down_over_http(world: World, clock: ManualClock) -> None:
    await world.pay("a", "0.5", "workflow:wf_ann")
    clock.advance(86_400)
    await world.pay("b", "0.25", "user:ann")
    points = (await world.clients["ann"].get("/metrics/burn-down")).json()["data"]
    assert [(point["day"], point["spent_so_far"]["atomic"], point["left"]) for point in points] == [
        ("2026-11-20", "500000", None),
        ("2026-11-21", "750000", None),
    ]
    of_task = (await world.clients["ann"].get("/metrics/burn-down", params={"workflow": "wf_ann"})).json()["data"]
    assert [point["spent"]["atomic"] for point in of_task] == ["500000"]


async def test_hosted_prices_are_ones_own_table(world: World) -> None:
    await world.pay("a", "0.02", "user:ann")
    assert (await world.economy())["savings"] is None
    changed = await world.clients["ann"].patch("/metrics/prices", json={"pdf.extract": "0.10"})
    assert changed.json()["data"]["pdf.extract"]["atomic"] == "100000"
    savings = (await world.economy())["savings"]
    assert savings["saved"] == usdc("0.08").to_json()
    assert (await world.clients["eve"].get("/metrics/prices")).json()["data"] == {}
    wrong = await world.clients["ann"].patch("/metrics/prices", json={"pdf.extract": "cheap"})
    assert wrong.status_code == 400
    assert (await world.clients["ann"].patch("/metrics/prices", json={"pdf.extract": None})).json()["data"] == {}
