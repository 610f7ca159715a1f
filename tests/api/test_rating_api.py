"""Stars over HTTP: counted here for whoever paid, and given to the registry where that is asked for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import APIRouter

from agentnexus.api.app import create_api, guarded
from agentnexus.api.hiring_routes import hiring_routes
from agentnexus.core.clock import ManualClock, SeededEntropy, TimeOrderedIds
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.markets.x402.rating import RegistryRater
from agentnexus.platform.database import Database
from tests.hiring.support import USDC, WALLET, Economy, make_offer, seller_key


class Key:
    """A signer for the economy's wallet; what it signs is the registry's to judge."""

    public_id = WALLET

    async def sign(self, message: bytes) -> bytes:
        return bytes(65)


@dataclass
class Registry:
    """Lists the one offer; `status` is its answer to a rating."""

    status: int = 200
    rated: list[dict[str, object]] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=[{"id": "svc_1", "url": make_offer(1).endpoint}])
        self.rated.append(json.loads(request.content))
        return httpx.Response(self.status, json={"success": self.status == 200, "error": {"message": "rated before"}})


@dataclass
class Desk:
    registry: Registry
    economy: Economy
    client: httpx.AsyncClient
    tokens: dict[str, str]

    async def call(self, path: str, body: object, user: str = "ann") -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[user]}"}
        return await self.client.post(f"/api/v1/{path}", json=body, headers=headers)

    async def hired(self) -> str:
        """The id of the receipt of a hire of Ann's."""
        answer = await self.call("hire", {"need": "text.echo", "input": {"text": "x"}, "max_price": "0.1"})
        return str(answer.json()["data"]["receipt"]["id"])

    async def stars(self) -> tuple[int, int]:
        """How many ratings the seller has on this node, and their sum."""
        record = await self.economy.hiring.records.record(seller_key(1))
        return record.ratings, record.rating_total


@pytest.fixture
async def desk(request: pytest.FixtureRequest, database: Database, clock: ManualClock) -> AsyncIterator[Desk]:
    economy = await Economy.build(database)
    tokens, registry = Tokens(database, SeededEntropy(1)), Registry()
    async with httpx.AsyncClient(transport=httpx.MockTransport(registry.answer)) as http:
        rater = RegistryRater("http://registry.test", http, [Key()], clock)
        router = APIRouter()
        router.include_router(
            hiring_routes(
                economy.hiring, PersonalBudgets(economy.books, USDC), USDC, TimeOrderedIds(),
                rater=None if getattr(request, "param", "") == "no registry" else rater,
            )
        )  # fmt: skip
        app = create_api(
            routers=[("/api/v1", router)], pages=[], callers=Callers(tokens), checks={}, clock=clock, version="1",
            limiter=Limiter(database, per_minute=6000, burst=600, clock=clock),
        )  # fmt: skip
        transport = httpx.ASGITransport(guarded(app, 65536), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            yield Desk(registry, economy, client, {user: await tokens.issue(user) for user in ("ann", "bob")})
    await economy.close()


async def test_stars_stay_here_unless_they_are_to_be_published(desk: Desk) -> None:
    receipt = await desk.hired()
    answer = await desk.call(f"receipts/{receipt}/rating", {"rating": 4})
    assert answer.json()["data"] == {"receipt": receipt, "rating": 4}
    assert await desk.stars() == (1, 4)
    assert desk.registry.rated == []


async def test_published_stars_are_at_the_registry_with_the_payment(desk: Desk) -> None:
    receipt = await desk.hired()
    answer = await desk.call(f"receipts/{receipt}/rating", {"rating": 5, "publish": True, "comment": "quick"})
    assert answer.json()["data"] == {"receipt": receipt, "rating": 5, "published": True}
    assert await desk.stars() == (1, 5)
    (sent,) = desk.registry.rated
    assert (sent["rating"], sent["comment"], sent["network"]) == (5, "quick", USDC.network)
    assert str(sent["transaction"]).startswith("tx:")


async def test_when_the_registry_says_no_the_stars_count_here_and_the_reason_is_told(desk: Desk) -> None:
    desk.registry.status = 409
    receipt = await desk.hired()
    answer = await desk.call(f"receipts/{receipt}/rating", {"rating": 2, "publish": True})
    assert answer.status_code == 200
    assert answer.json()["data"]["published"] is False
    assert "rated before" in answer.json()["data"]["reason"]
    assert await desk.stars() == (1, 2)


@pytest.mark.parametrize("desk", ["no registry"], indirect=True)
async def test_a_node_without_a_registry_says_so(desk: Desk) -> None:
    receipt = await desk.hired()
    answer = await desk.call(f"receipts/{receipt}/rating", {"rating": 2, "publish": True})
    assert answer.json()["data"] | {"receipt": ""} == {
        "receipt": "", "rating": 2, "published": False, "reason": "this node has no registry",
    }  # fmt: skip


async def test_nobody_publishes_stars_for_what_somebody_else_bought(desk: Desk) -> None:
    receipt = await desk.hired()
    answer = await desk.call(f"receipts/{receipt}/rating", {"rating": 1, "publish": True}, "bob")
    assert answer.status_code == 404
    assert desk.registry.rated == []
    assert await desk.stars() == (0, 0)


@pytest.mark.parametrize("body", [{"rating": 0}, {"rating": 6}, {"rating": 5, "comment": "x" * 501}, {}])
async def test_what_is_no_rating_is_refused(desk: Desk, body: dict[str, object]) -> None:
    receipt = await desk.hired()
    assert (await desk.call(f"receipts/{receipt}/rating", body)).status_code in (400, 422)
    assert await desk.stars() == (0, 0)
