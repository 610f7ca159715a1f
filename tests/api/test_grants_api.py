"""Session approvals over HTTP: drafted, signed as wallets sign, used, and taken back by owner or wallet."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

import httpx
import pytest
from eth_account.messages import encode_typed_data

from agentnexus.api.app import create_api
from agentnexus.api.grant_routes import grant_routes
from agentnexus.api.wallet_forms import signature_text, wallet_id
from agentnexus.core.clock import ManualClock, SeededEntropy, TimeOrderedIds
from agentnexus.core.errors import BudgetExceeded, InvalidInput
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.ledger.books import Books
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.platform.database import Database
from agentnexus.rails.solana.base58 import encode
from tests.ledger.conftest import SELLER, USDC, WALLET, usdc
from tests.ledger.wallets import OTHER, OWNER, SOLANA, grants_of

Json = dict[str, object]
SOLANA_ADDRESS = encode(bytes.fromhex(SOLANA.public_id.removeprefix("ed25519:")))


@dataclass
class World:
    books: Books
    ann: httpx.AsyncClient
    eve: httpx.AsyncClient
    nobody: httpx.AsyncClient

    async def post(self, path: str, body: Json, who: httpx.AsyncClient | None = None) -> Json:
        answer = await (who or self.ann).post(path, json=body)
        assert answer.status_code in (200, 201), answer.text
        return cast("Json", answer.json()["data"])

    async def link(self, address: str, **more: object) -> Json:
        shown = await self.post("/wallets/proof", {"wallet": address})
        body = {"proof": shown["proof"], "signature": await sign(cast("Json", shown["sign"])), **more}
        return await self.post("/wallets", body)

    async def grant(self, address: str, **terms: object) -> Json:
        drafted = await self.post("/grants/draft", {"wallet": address, "total": "5", **terms})
        signature = await sign(cast("Json", drafted["sign"]))
        return await self.post("/grants", {"mandate": drafted["mandate"], "signature": signature})


async def sign(shown: Json) -> str:
    """As wallets do: MetaMask gives hex, Phantom bytes that pages write in base58."""
    if shown["scheme"] == "eip712":
        message = encode_typed_data(full_message=cast("dict[str, object]", shown["typed_data"]))
        return "0x" + OWNER.sign_message(message).signature.hex()
    return encode(await SOLANA.sign(str(shown["message"]).encode()))


@pytest.fixture
async def world(database: Database, clock: ManualClock) -> AsyncIterator[World]:
    async with Books(database, clock) as books:
        await books.deposit("d", WALLET, usdc("100"))
        tokens = Tokens(database, SeededEntropy(1))
        app = create_api(
            routers=[("", grant_routes(grants_of(books, clock), PersonalBudgets(books, USDC), TimeOrderedIds(clock)))],
            pages=[], callers=Callers(tokens), limiter=Limiter(database, per_minute=600, clock=clock), checks={},
            clock=clock, version="1",
        )  # fmt: skip

        def client(token: str) -> httpx.AsyncClient:
            headers = {"Authorization": f"Bearer {token}"}
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            return httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers)

        clients = [client(await tokens.issue("ann")), client(await tokens.issue("eve")), client("")]
        yield World(books, *clients)
        for each in clients:
            await each.aclose()


@pytest.mark.parametrize("address", [OWNER.address, SOLANA_ADDRESS], ids=["evm", "solana"])
async def test_a_grant_from_draft_to_use_to_revocation(world: World, address: str) -> None:
    await world.link(address)
    assert [each["wallet"] for each in (await world.ann.get("/wallets")).json()["data"]] == [wallet_id(address)]
    grant = await world.grant(address, per_payment="2", capabilities=["pdf.extract"], lasts_seconds=600)
    assert (grant["state"], cast("Json", grant["budget"])["parent"]) == ("open", "user:ann")
    await world.books.budgets.create("workflow:wf_1", parent=str(grant["id"]))
    await world.books.reserve(
        "k", budget_id="workflow:wf_1", payer_account=WALLET, payee_account=SELLER, amount=usdc("0.75"),
        seller="evm:0xbb", capability="pdf.extract",
    )  # fmt: skip
    await world.books.capture("k")
    (use,) = (await world.ann.get(f"/grants/{grant['id']}/uses")).json()["data"]
    assert (use["workflow"], use["state"], use["paid"]["atomic"]) == ("wf_1", "posted", "750000")
    (listed,) = (await world.ann.get("/grants")).json()["data"]
    assert listed["budget"]["left"]["total"]["atomic"] == "4250000"
    shown = (await world.ann.get(f"/grants/{grant['id']}")).json()["data"]
    signature = await sign(shown["to_revoke"])
    assert (await world.nobody.post(f"/grants/{grant['id']}/revocation", json={"signature": "0x"})).status_code == 403
    done = await world.post(f"/grants/{grant['id']}/revocation", {"signature": signature}, world.nobody)
    assert done["state"] == "revoked"
    with pytest.raises(BudgetExceeded):
        await world.books.reserve(
            "late", budget_id="workflow:wf_1", payer_account=WALLET, payee_account=SELLER, amount=usdc("0.1"),
            capability="pdf.extract",
        )  # fmt: skip


async def test_the_owner_takes_it_back_with_a_token(world: World) -> None:
    await world.link(OWNER.address)
    grant = await world.grant(OWNER.address)
    assert (await world.post(f"/grants/{grant['id']}/revoke", {}))["state"] == "revoked"
    again = await world.post(f"/grants/{grant['id']}/revoke", {})
    assert again["state"] == "revoked"


async def test_nobody_else_sees_or_touches_it(world: World) -> None:
    await world.link(OWNER.address)
    grant = await world.grant(OWNER.address)
    for method, path in (
        ("GET", f"/grants/{grant['id']}"),
        ("GET", f"/grants/{grant['id']}/uses"),
        ("POST", f"/grants/{grant['id']}/revoke"),
        ("DELETE", f"/wallets/{OWNER.address}"),
    ):
        assert (await world.eve.request(method, path)).status_code == 404, path
        assert (await world.nobody.request(method, path)).status_code == 403, path
    assert (await world.eve.get("/grants")).json()["data"] == []
    stolen = await world.eve.post("/grants", json={"mandate": grant["mandate"], "signature": grant["signature"]})
    assert stolen.status_code == 404
    proof = (await world.post("/wallets/proof", {"wallet": OTHER.address}))["proof"]
    assert (await world.eve.post("/wallets", json={"proof": proof, "signature": "0x"})).status_code == 404


async def test_a_changed_mandate_is_refused(world: World) -> None:
    await world.link(OWNER.address)
    drafted = await world.post("/grants/draft", {"wallet": OWNER.address, "total": "5"})
    signature = await sign(cast("Json", drafted["sign"]))
    mandate = cast("Json", drafted["mandate"])
    (constraint,) = cast("list[Json]", mandate["constraints"])
    for change in ({"constraints": [{**constraint, "max": "50"}]}, {"exp": cast("int", mandate["exp"]) + 1}):
        answer = await world.ann.post("/grants", json={"mandate": {**mandate, **change}, "signature": signature})
        assert answer.status_code == 403, answer.text
    assert (await world.ann.get("/grants")).json()["data"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"wallet": "0x12", "total": "5"},
        {"wallet": "0x" + "11" * 20},
        {"wallet": "0x" + "11" * 20, "total": "five"},
        {"wallet": "0x" + "11" * 20, "total": "0.0000001"},
        {"wallet": "0x" + "11" * 20, "total": "5", "lasts_seconds": 5},
        {"wallet": "0x" + "11" * 20, "total": "5", "surprise": 1},
    ],
)
async def test_a_draft_with_a_mistake_says_so(world: World, body: Json) -> None:
    answer = await world.ann.post("/grants/draft", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


async def test_unlinking_takes_back_what_the_wallet_approved(world: World) -> None:
    await world.link(SOLANA_ADDRESS)
    grant = await world.grant(SOLANA_ADDRESS)
    answer = await world.ann.delete(f"/wallets/{SOLANA_ADDRESS}")
    assert answer.json()["data"] == {"wallet": SOLANA.public_id, "revoked": [grant["id"]]}
    assert (await world.ann.get(f"/grants/{grant['id']}")).json()["data"]["state"] == "revoked"


async def test_a_second_wallet_needs_the_first(world: World) -> None:
    await world.link(OWNER.address)
    shown = await world.post("/wallets/proof", {"wallet": SOLANA_ADDRESS})
    proof = cast("Json", shown["proof"])
    body = {"proof": proof, "signature": await sign(cast("Json", shown["sign"]))}
    refused = await world.ann.post("/wallets", json=body)
    assert refused.status_code == 403
    assert refused.json()["error"]["details"]["wallets"] == [wallet_id(OWNER.address)]


def test_addresses_and_signatures_in_every_usual_spelling() -> None:
    assert wallet_id(f" {OWNER.address} ") == wallet_id(OWNER.address.lower()) == f"evm:{OWNER.address.lower()}"
    assert wallet_id(SOLANA_ADDRESS) == wallet_id(SOLANA.public_id) == SOLANA.public_id
    raw = bytes(range(64))
    spelled = {signature_text(SOLANA.public_id, text) for text in (raw.hex(), encode(raw))}
    assert {b64decode(text) for text in spelled} == {raw}
    (base64_text,) = spelled
    assert signature_text(SOLANA.public_id, base64_text) == base64_text
    for hostile in ("", "0x", "é", "1" * 5000, "=" * 88):
        assert signature_text(SOLANA.public_id, hostile) == hostile
        with pytest.raises(InvalidInput):
            wallet_id(hostile)
