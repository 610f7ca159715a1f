"""The composed API: owner's budget and wallet, health, one error shape, limits per caller."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from agentnexus.api.app import create_api, guarded
from agentnexus.api.hiring_routes import need_of
from agentnexus.api.money_routes import WalletView, money_routes
from agentnexus.core.clock import ManualClock, SeededEntropy
from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.ledger.books import Books
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.platform.database import Database

USDC = Asset("USDC", 6, "eip155:31337/erc20:0x5fbdb2315678afecb367f032d93f642f64180aa3")
ACCOUNT = "wallet:eip155:31337:0xaa"
SOLANA_USDC = Asset(
    "USDC", 6, "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1/token:4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"
)
OTHER_ACCOUNT = f"wallet:{SOLANA_USDC.network}:Buyer"


class World:
    def __init__(self) -> None:
        self.chain_up = True
        self.other_chain_up = True
        self.client = httpx.AsyncClient()

    async def on_chain(self) -> Money:
        if not self.chain_up:
            raise Unavailable("the chain does not answer", next_step="see `nexus doctor`")
        return USDC.parse("7")

    async def on_other_chain(self) -> Money:
        if not self.other_chain_up:
            raise Unavailable("that chain does not answer", next_step="see `nexus doctor`")
        return SOLANA_USDC.parse("3")


@pytest.fixture
async def world(database: Database, clock: ManualClock) -> AsyncIterator[World]:
    world = World()
    async with Books(database) as books:
        await books.deposit("d", ACCOUNT, USDC.parse("7"))
        tokens = Tokens(database, SeededEntropy(1))
        wallet = WalletView("eip155:31337", "0xaa", ACCOUNT, USDC, world.on_chain)
        other = WalletView(SOLANA_USDC.network, "Buyer", OTHER_ACCOUNT, SOLANA_USDC, world.on_other_chain)
        await books.deposit("e", OTHER_ACCOUNT, SOLANA_USDC.parse("3"))
        router = APIRouter()
        router.include_router(money_routes(books, PersonalBudgets(books, USDC), wallet, [other]))

        async def database_check() -> None:
            async with database.connection() as connection:
                await connection.execute("select 1")

        async def page(_request: object) -> PlainTextResponse:
            return PlainTextResponse("page")

        app = create_api(
            routers=[("/api/v1", router)],
            pages=[Route("/{path:path}", page)],
            callers=Callers(tokens),
            limiter=Limiter(database, per_minute=60, burst=5, clock=clock),
            checks={"database": database_check, "chain": world.on_chain},
            clock=clock,
            version="9.9.9",
        )
        transport = httpx.ASGITransport(guarded(app, 1024), raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {await tokens.issue('ann')}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
            world.client = client
            yield world


async def test_a_budget_is_shown_and_changed_by_its_owner(world: World) -> None:
    shown = (await world.client.get("/api/v1/budget")).json()["data"]
    assert shown["limits"]["per_payment"]["limit"]["atomic"] == "1000000"
    assert shown["spent"]["atomic"] == "0"
    changed = (await world.client.patch("/api/v1/budget", json={"per_day": "3", "per_hour": None})).json()["data"]
    assert changed["limits"]["per_day"]["left"]["atomic"] == "3000000"
    assert changed["limits"]["per_hour"]["limit"] is None
    assert changed["id"] == shown["id"]


async def test_a_wrong_limit_is_named(world: World) -> None:
    answer = await world.client.patch("/api/v1/budget", json={"per_century": "3"})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "per_century"
    malformed = await world.client.patch("/api/v1/budget", json=[1])
    assert malformed.status_code == 400
    assert malformed.json()["error"]["details"]["fields"]


async def test_the_wallet_shows_chain_and_books(world: World) -> None:
    wallet = (await world.client.get("/api/v1/wallet")).json()["data"]
    assert wallet["on_chain"] == wallet["posted"]
    (other,) = wallet["others"]
    assert (other["network"], other["address"]) == (SOLANA_USDC.network, "Buyer")
    assert other["on_chain"] == other["posted"] == SOLANA_USDC.parse("3").to_json()
    world.other_chain_up = False  # which does not hide the first
    (other,) = (await world.client.get("/api/v1/wallet")).json()["data"]["others"]
    assert (other["on_chain"], other["posted"]) == (None, SOLANA_USDC.parse("3").to_json())
    world.chain_up = False
    down = await world.client.get("/api/v1/wallet")
    assert (down.status_code, down.json()["error"]["code"]) == (503, "unavailable")


async def test_without_a_token_nothing_is_shown(world: World) -> None:
    answer = await world.client.get("/api/v1/budget", headers={"Authorization": "Bearer nx_wrong"})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "not_allowed"


async def test_a_caller_over_the_rate_is_told_how_long_to_wait(world: World) -> None:
    for _ in range(5):
        assert (await world.client.get("/api/v1/budget")).status_code == 200
    limited = await world.client.get("/api/v1/budget")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "5")


async def test_health_says_what_is_wrong(world: World) -> None:
    live = (await world.client.get("/health")).json()
    assert (live["status"], live["version"]) == ("healthy", "9.9.9")
    assert (await world.client.get("/ready")).status_code == 200
    deep = (await world.client.get("/health/deep")).json()
    assert (deep["status"], deep["version"]) == ("healthy", "9.9.9")
    world.chain_up = False
    degraded = await world.client.get("/health/deep")
    assert degraded.json()["status"] == "degraded"
    assert degraded.json()["checks"]["chain"]["details"] == "the chain does not answer"
    assert (await world.client.get("/ready")).status_code == 200


async def test_pages_hide_no_api_route_and_metrics_are_prometheus(world: World) -> None:
    assert (await world.client.get("/anything")).text == "page"
    assert "agentnexus_http_request_duration_seconds" in (await world.client.get("/metrics")).text
    assert (await world.client.get("/openapi.json")).json()["info"]["title"] == "AgentNexus"


async def test_a_body_over_the_limit_never_reaches_a_route(world: World) -> None:
    answer = await world.client.patch("/api/v1/budget", content=b"{" + b" " * 2000 + b"}")
    assert answer.status_code == 413


def test_a_dotted_name_is_a_capability_and_words_are_words() -> None:
    assert need_of("pdf.extract").capability == "pdf.extract"
    assert need_of("read my pdf").text == "read my pdf"
    assert need_of("summary").text == "summary"


async def test_budgets_are_cut_changed_and_closed(world: World) -> None:
    made = await world.client.post("/api/v1/budgets", json={"name": "agent", "limits": {"total": "2"}})
    assert made.status_code == 201
    budget = made.json()["data"]
    assert (budget["parent"], budget["left"]["total"]["atomic"]) == ("user:ann", "2000000")
    changed = await world.client.patch(f"/api/v1/budgets/{budget['id']}", json={"total": "3", "per_day": "1"})
    assert changed.json()["data"]["left"]["total"]["atomic"] == "3000000"
    listed = (await world.client.get("/api/v1/budgets")).json()["data"]
    assert [each["id"] for each in listed] == ["user:ann", "user:ann/agent"]
    closed = await world.client.delete(f"/api/v1/budgets/{budget['id']}")
    assert closed.json()["data"]["open"] is False
