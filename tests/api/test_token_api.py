"""Tokens over HTTP: a caller replaces and ends their own, sees no secret, and reaches nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from agentnexus.api.app import create_api
from agentnexus.api.token_routes import token_routes
from agentnexus.core.clock import ManualClock, SeededEntropy
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database

Client = Callable[[str], httpx.AsyncClient]


@pytest.fixture
def tokens(database: Database) -> Tokens:
    return Tokens(database, SeededEntropy(1))


@pytest.fixture
async def client(database: Database, tokens: Tokens, clock: ManualClock) -> AsyncIterator[Client]:
    """Who sends a token; none for the empty one, which the local user may do."""
    app = create_api(
        routers=[("/api/v1", token_routes(tokens))], pages=[], callers=Callers(tokens, local_user="local"),
        limiter=Limiter(database, per_minute=600, clock=clock), checks={}, clock=clock, version="1",
    )  # fmt: skip
    opened: list[httpx.AsyncClient] = []

    def open_client(token: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        opened.append(httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers))
        return opened[-1]

    yield open_client
    for each in opened:
        await each.aclose()


async def test_the_token_in_use_is_replaced_and_ended(tokens: Tokens, client: Client) -> None:
    ann = client(await tokens.issue("ann", label="laptop"))
    answer = (await ann.post("/api/v1/auth/rotate")).json()["data"]
    assert (answer["user"], answer["old_ends_in_seconds"]) == ("ann", 600)
    fresh = client(answer["token"])
    listed = (await fresh.get("/api/v1/auth/tokens")).json()["data"]
    assert [entry["label"] for entry in listed] == ["laptop", "laptop"]
    assert answer["token"] not in str(listed)
    assert (await fresh.delete("/api/v1/auth/token")).json()["data"] == {"ended": True, "user": "ann"}
    gone = await fresh.get("/api/v1/auth/tokens")
    assert gone.status_code == 403
    assert "nexus token issue" in gone.json()["error"]["next_step"]
    assert (await ann.get("/api/v1/auth/tokens")).status_code == 200, "within its last ten minutes"


async def test_a_token_ends_by_its_id_for_its_owner_and_for_operators_alone(tokens: Tokens, client: Client) -> None:
    ann, eve = client(await tokens.issue("ann")), client(await tokens.issue("eve"))
    operator = client(await tokens.issue("root", "operator"))
    (entry,) = (await ann.get("/api/v1/auth/tokens")).json()["data"]
    path = f"/api/v1/auth/tokens/{entry['id']}"
    assert (await eve.delete(path)).status_code == 404
    assert (await ann.get("/api/v1/auth/tokens")).status_code == 200
    assert (await operator.delete(path)).status_code == 200
    assert (await ann.get("/api/v1/auth/tokens")).status_code == 403
    for odd in ("tok_", "tok_zz", "%00", "tok_" + "0" * 16):
        assert (await eve.delete(f"/api/v1/auth/tokens/{odd}")).status_code in (400, 404)


async def test_who_sends_no_token_has_none_to_replace(client: Client) -> None:
    answer = await client("").post("/api/v1/auth/rotate")
    assert answer.status_code == 400
    assert "Bearer" in answer.json()["error"]["next_step"]
    assert (await client("nx_unknown").post("/api/v1/auth/rotate")).status_code == 403
