"""Which ways to sign in a node has by its settings, and how the composed parts answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.signing_in import SigningIn, mail_folder, open_mail_login, open_mailer, open_signing_in
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database
from agentnexus.platform.http import install_error_handlers
from agentnexus.platform.process import free_port
from agentnexus.platform.settings import Environment, Settings
from agentnexus.rails.evm.networks import network_by_id
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.web.adapters.sign_in import HouseSignIn

USDC = Asset("USDC", 6, "eip155:31337/erc20:0x" + "11" * 20)


@pytest.fixture
async def chain(database: Database) -> AsyncIterator[Chain]:
    """Of a node that is away."""
    async with Rpc(f"http://127.0.0.1:{free_port()}") as rpc:
        yield Chain(TransactionSender(database, rpc, network_by_id(31337), clock=SystemClock()), USDC)


def opened(database: Database, chain: Chain, settings: Settings) -> SigningIn:
    ground = Ground(settings, database)
    tokens = Tokens(database, ground.entropy)
    limiter = Limiter(database, per_minute=100)
    return open_signing_in(ground, chain, Callers(tokens), tokens, limiter)


async def client_of(made: SigningIn, origin: str) -> httpx.AsyncClient:
    app = FastAPI()
    for router in made.routers():
        app.include_router(router)
    install_error_handlers(app)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=origin, headers={"origin": origin})


async def test_a_development_node_leaves_its_mail_in_a_folder(database: Database, chain: Chain, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, api_url="http://127.0.0.1:5000")
    made = opened(database, chain, settings)
    door = made.page_door()
    assert isinstance(door, HouseSignIn)
    assert door.mail_folder == mail_folder(settings) == tmp_path / "mail"
    async with await client_of(made, "http://localhost:5000") as client:
        answer = await client.post("/auth/email", json={"email": "ada@example.org"})
        assert answer.status_code == 200
        asked = (await client.post("/auth/challenge", json={"address": "0x" + "1" * 40})).json()["data"]
        assert asked["message"].startswith("localhost:5000 wants you to sign in")
        assert "Chain ID: 31337" in asked["message"]
        passkeys = (await client.post("/auth/passkeys/login/options")).json()["data"]
        assert passkeys["rpId"] == "localhost"
    (message,) = (tmp_path / "mail").glob("*.eml")
    assert "127.0.0.1:5000" in message.read_text()


async def test_a_production_node_without_a_mail_server_offers_no_codes(
    database: Database, chain: Chain, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, environment=Environment.PRODUCTION, api_url="https://nexus.example")
    made = opened(database, chain, settings)
    assert (made.mail, made.mail_folder) == (None, None)
    async with await client_of(made, "https://nexus.example") as client:
        assert (await client.post("/auth/email", json={"email": "ada@example.org"})).status_code == 503
        assert (await client.get("/auth/session")).json()["data"]["user"] is None
    assert not (tmp_path / "mail").exists()


async def test_a_node_tells_its_people_of_new_browsers_where_it_sends_mail(
    database: Database, chain: Chain, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, api_url="http://localhost:5000")
    made = opened(database, chain, settings)
    async with await client_of(made, "http://localhost:5000") as client:
        for number in range(2):
            begun = (await client.post("/auth/email", json={"email": "ada@example.org"})).json()["data"]
            code = written(tmp_path)[-1].split()[-1]
            assert code.isdigit(), number
            answer = await client.post("/auth/email/verify", json={"id": begun["id"], "code": code, "cookie": True})
            assert answer.status_code == 200
            client.cookies.clear()  # another browser
    last = max((tmp_path / "mail").glob("*.eml")).read_text()
    assert "Subject: Somebody signed in to localhost:5000 as you" in last
    assert "http://localhost:5000/connect" in last
    production = Settings(home=tmp_path, environment=Environment.PRODUCTION, api_url="https://nexus.example")
    assert opened(database, chain, production).door.sessions.notices is None


def written(home: Path) -> list[str]:
    """The lines with codes, oldest first."""
    texts = [each.read_text() for each in sorted((home / "mail").glob("*.eml"))]
    return [line for text in texts for line in text.splitlines() if line.startswith("    ") and line.strip().isdigit()]


async def test_a_mail_server_needs_a_sender(database: Database, chain: Chain, tmp_path: Path) -> None:
    server = Settings(home=tmp_path, smtp_url=SecretStr("smtps://user:hunter2@mail.example"))
    with pytest.raises(InvalidInput) as raised:
        opened(database, chain, server)
    assert raised.value.next_step == "set NEXUS_MAIL_FROM"
    whole = server.model_copy(update={"mail_from": "node@nexus.example"})
    made = opened(database, chain, whole)
    assert made.mail is not None
    assert made.mail_folder is None
    assert "hunter2" not in repr(whole)


async def test_all_processes_of_a_home_open_each_others_codes(database: Database, tmp_path: Path) -> None:
    ground = Ground(Settings(home=tmp_path), database)
    mailer = open_mailer(ground)
    assert mailer is not None
    first, second = (open_mail_login(ground, Tokens(database, ground.entropy), mailer) for _ in range(2))
    begun = await first.begin("ada@example.org")
    (message,) = (tmp_path / "mail").glob("*.eml")
    code = next(line.strip() for line in message.read_text().splitlines() if line.startswith("    "))
    person, _ = await second.finish(begun.id, code)
    assert person.startswith("mail.")


async def test_without_a_public_address_a_production_node_begins_nothing(
    database: Database, chain: Chain, tmp_path: Path
) -> None:
    made = opened(database, chain, Settings(home=tmp_path, environment=Environment.PRODUCTION))
    async with await client_of(made, "https://nexus.example") as client:
        refused = await client.post("/auth/challenge", json={"address": "0x" + "1" * 40})
    assert refused.status_code == 503
    assert refused.json()["error"]["next_step"] == "set NEXUS_API_URL"
