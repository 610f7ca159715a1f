"""Wallets over HTTP: what programs and pages ask, with everything strangers may send."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from agentnexus.api.app import create_api
from agentnexus.core.clock import SeededEntropy, SystemClock
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.wallets.model import PasskeyKey
from agentnexus.wallets.routes import no_wallet_routes, wallet_routes
from tests.wallets.conftest import WHOLE, World

pytestmark = pytest.mark.timeout(120)
Json = dict[str, object]
KEY = {"Idempotency-Key": "k1"}


@dataclass(frozen=True)
class Registered:
    id: str
    public_key: bytes


@dataclass
class Site:
    """The routes behind the API's own edge, and clients with their own tokens."""

    world: World
    app: FastAPI
    tokens: Tokens
    clients: dict[str, httpx.AsyncClient]

    async def ask(self, user_id: str, method: str, path: str, **kwargs: object) -> httpx.Response:
        if user_id not in self.clients:
            token = await self.tokens.admit(user_id)
            self.clients[user_id] = httpx.AsyncClient(
                transport=httpx.ASGITransport(self.app),
                base_url="http://nexus.test",
                headers={"Authorization": f"Bearer {token}"},
                timeout=60,
            )
        return await self.clients[user_id].request(method, f"/wallet{path}", **kwargs)  # type: ignore[arg-type]  # passed on

    async def data(self, user_id: str, method: str, path: str, **kwargs: object) -> Json:
        answer = await self.ask(user_id, method, path, **kwargs)
        assert answer.status_code < 300, answer.text
        body = answer.json()
        assert body["success"] is True
        found: Json = body["data"]
        return found

    async def refused(self, user_id: str, method: str, path: str, **kwargs: object) -> tuple[int, Json]:
        answer = await self.ask(user_id, method, path, **kwargs)
        error = answer.json()["error"]
        assert answer.status_code >= 400
        assert error["message"]
        assert error.get("next_step") or error["details"]["field"], error
        return answer.status_code, error

    async def wallet(self, user_id: str = "ann", **body: object) -> Json:
        made = await self.data(user_id, "POST", "", json={"kind": "server", **body})
        await self.world.chain.mint(str(made["address"]), 10 * WHOLE)
        return made


def app_of(world: World, router: APIRouter, tokens: Tokens) -> FastAPI:
    return create_api(
        routers=[("", router)],
        pages=[],
        callers=Callers(tokens),
        limiter=Limiter(world.database, per_minute=100_000),
        checks={},
        clock=SystemClock(),
        version="0",
    )


@pytest.fixture
async def site(world: World) -> AsyncIterator[Site]:
    tokens = Tokens(world.database, SeededEntropy(1))

    async def passkeys(user_id: str) -> list[Registered]:
        found: PasskeyKey = world.passkey(user_id)
        return [Registered(found.credential_id, found.public_key)]

    site = Site(world, app_of(world, wallet_routes(world.wallets(), passkeys), tokens), tokens, {})
    yield site
    for client in site.clients.values():
        await client.aclose()


async def test_a_person_without_keys_has_an_account_sends_and_sees_it(site: Site) -> None:
    made = await site.wallet()
    assert {name: made[name] for name in ("kind", "network", "deployed", "guardian", "exported_at")} == {
        "kind": "server",
        "network": "eip155:31337",
        "deployed": False,
        "guardian": None,
        "exported_at": None,
    }
    held = await site.data("ann", "GET", "/balance")
    assert held["address"] == made["address"]
    assert held["total_usd"] == "10.00"
    (usdc, coin) = held["balances"]  # type: ignore[misc]  # a list of two
    assert (usdc["symbol"], usdc["amount"], usdc["atomic"], usdc["usd"]) == ("USDC", "10", "10000000", "10.00")
    assert (coin["symbol"], coin["amount"], coin["usd"]) == ("ETH", "0", None)
    body = {"calls": [{"to": site.world.seller, "amount": "1.5"}, {"to": site.world.seller, "amount": "0.5"}]}
    begun = await site.data("ann", "POST", "/user-operations", json=body, headers=KEY)
    assert (begun["state"], begun["sign"], begun["gas"]) == ("signed", None, "sponsor")
    assert begun["title"] == f"Send 1.50 USDC to {site.world.seller}, and 1 more"
    done = await site.data("ann", "GET", f"/user-operations/{begun['id']}", params={"wait": 30})
    assert (done["state"], done["error"]) == ("succeeded", None)
    assert int(str(done["gas_cost_wei"])) > 0
    again = await site.data("ann", "POST", "/user-operations", json=body, headers=KEY)
    assert again == done
    page = await site.data("ann", "GET", "/transactions")
    lines = page["transactions"]
    assert isinstance(lines, list)
    assert sorted((line["kind"], line["amount"]) for line in lines) == [("in", "10"), ("out", "0.5"), ("out", "1.5")]
    assert (page["next"], page["complete"]) == (None, True)
    assert (await site.data("ann", "GET", "/account"))["deployed"] is True


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_passkey_signs_what_it_is_asked_for(site: Site) -> None:
    credential = site.world.passkey("ann").credential_id
    made = await site.wallet("ann", kind="passkey", credential_id=credential)
    assert (made["kind"], made["credential_id"], made["owner"]) == ("passkey", credential, None)
    body = {"calls": [{"to": site.world.seller, "amount": "1"}]}
    begun = await site.data("ann", "POST", "/user-operations", json=body, headers=KEY)
    sign = begun["sign"]
    assert isinstance(sign, dict)
    assert (begun["state"], sign["kind"], sign["typed_data"]) == ("unsigned", "passkey", None)
    digest = bytes.fromhex(sign["hash"][2:])
    assert sign["challenge"] == b64(digest)
    authenticator_data, client_data, signature = site.world.passkeys["ann"].answer(digest)
    given = {
        "authenticator_data": b64(authenticator_data),
        "client_data": b64(client_data),
        "signature": b64(signature),
    }
    where = f"/user-operations/{begun['id']}"
    wrong = {**given, "signature": b64(site.world.passkeys["ann"].answer(bytes(32))[2])}
    assert (await site.refused("ann", "POST", f"{where}/signature", json=wrong))[0] == 403
    sent = await site.data("ann", "POST", f"{where}/signature", json=given)
    assert (sent["state"], sent["sign"]) == ("signed", None)
    assert (await site.data("ann", "GET", where, params={"wait": 30}))["state"] == "succeeded"


async def test_a_key_signs_what_it_is_asked_for(site: Site) -> None:
    key = site.world.chain.accounts["alice"]
    made = await site.wallet("alice", kind="key", address=key.address)
    assert (made["owner"], made["proven"]) == (key.address, False)
    body = {"calls": [{"to": site.world.seller, "amount": "1"}]}
    begun = await site.data("alice", "POST", "/user-operations", json=body, headers=KEY)
    sign = begun["sign"]
    assert isinstance(sign, dict)
    signature = to_hex(await key.signer.sign(bytes.fromhex(sign["hash"][2:])))
    where = f"/user-operations/{begun['id']}/signature"
    assert (await site.data("alice", "POST", where, json={"signature": signature}))["state"] == "signed"
    assert (await site.data("alice", "GET", "/account"))["proven"] is True


async def test_what_waits_for_a_signature_is_discarded_by_its_owner_only(site: Site) -> None:
    key = site.world.chain.accounts["alice"]
    await site.wallet("alice", kind="key", address=key.address)
    await site.wallet("ann")
    body = {"calls": [{"to": site.world.seller, "amount": "1"}]}
    begun = await site.data("alice", "POST", "/user-operations", json=body, headers=KEY)
    sign, where = begun["sign"], f"/user-operations/{begun['id']}"
    assert isinstance(sign, dict)
    assert (await site.refused("ann", "DELETE", where))[0] == 404
    gone = await site.data("alice", "DELETE", where)
    assert (gone["state"], gone["sign"]) == ("rejected", None)
    assert await site.data("alice", "GET", where) == gone == await site.data("alice", "DELETE", where)
    signature = to_hex(await key.signer.sign(bytes.fromhex(sign["hash"][2:])))
    status, error = await site.refused("alice", "POST", f"{where}/signature", json={"signature": signature})
    assert (status, error["code"]) == (409, "conflict")
    sent = await site.data("ann", "POST", "/user-operations", json=body, headers=KEY)
    assert (await site.refused("ann", "DELETE", f"/user-operations/{sent['id']}"))[0] == 409


async def test_the_key_is_exported_when_it_is_really_wanted(site: Site) -> None:
    made = await site.wallet()
    for body in ({}, {"confirm": False}):
        status, error = await site.refused("ann", "POST", "/export", json=body)
        assert (status, error["code"]) == (400, "invalid_input")
    answer = await site.ask("ann", "POST", "/export", json={"confirm": True})
    assert answer.headers["cache-control"] == "no-store"
    handed = answer.json()["data"]
    assert (handed["address"], handed["owner"]) == (made["address"], made["owner"])
    assert len(str(handed["key"])) == 66
    assert (await site.data("ann", "GET", "/account"))["exported_at"] is not None


async def grow_old(site: Site) -> None:
    """As if everybody had signed in six minutes ago."""
    async with site.world.database.connection() as connection:
        await connection.execute("update identity.token set proven_at = proven_at - interval '6 minutes'")


async def test_a_stolen_token_takes_no_key_and_lets_nobody_else_in(site: Site) -> None:
    await site.wallet()
    bob = site.world.chain.accounts["bob"].address
    session = {
        "key": bob,
        "valid_until": "2030-01-01T00:00:00Z",
        "permissions": [{"contract": bob, "function": ""}],
    }
    await grow_old(site)
    for path, body in (
        ("/export", {"confirm": True}),
        ("/guardian", {"guardian": bob, "delay_seconds": 86_400}),
        ("/sessions", session),
    ):
        status, error = await site.refused("ann", "POST", path, json=body, headers=KEY)
        assert (status, error["code"]) == (403, "sign_in_again"), path
    account = await site.data("ann", "GET", "/account")
    assert (account["exported_at"], account["guardian"]) == (None, None)
    # What defends the account stays within reach.
    body = {"calls": [{"to": site.world.seller, "amount": "1"}]}
    await site.data("ann", "POST", "/user-operations", json=body, headers=KEY)


async def test_the_owner_of_a_key_signs_for_a_guardian_whenever_that_was(site: Site) -> None:
    alice = site.world.chain.accounts["alice"].address
    await site.data("alice", "POST", "", json={"kind": "key", "address": alice})
    await grow_old(site)
    body = {"guardian": site.world.chain.accounts["bob"].address, "delay_seconds": 86_400}
    begun = await site.data("alice", "POST", "/guardian", json=body, headers=KEY)
    assert begun["state"] == "unsigned"
    assert begun["sign"] is not None


async def test_settings_are_operations_too(site: Site) -> None:
    await site.wallet()
    bob = site.world.chain.accounts["bob"].address

    async def does(method: str, path: str, key: str, **kwargs: object) -> None:
        begun = await site.data("ann", method, path, headers={"Idempotency-Key": key}, **kwargs)
        done = await site.data("ann", "GET", f"/user-operations/{begun['id']}", params={"wait": 30})
        assert (done["state"], done["purpose"]) == ("succeeded", "setting")

    await does("POST", "/guardian", "1", json={"guardian": bob, "delay_seconds": 86_400})
    assert (await site.data("ann", "GET", "/account"))["guardian"] == {"address": bob, "delay_seconds": 86_400}
    session = {
        "key": bob,
        "valid_until": "2030-01-01T00:00:00Z",
        "permissions": [
            {"contract": site.world.chain.usdc.reference, "function": "transfer(address,uint256)"},
            {"contract": bob, "function": ""},
        ],
        "limits": [{"asset": "USDC", "amount": "2"}, {"asset": "ETH", "amount": "0.1"}],
    }
    await does("POST", "/sessions", "2", json=session)
    await does("DELETE", f"/sessions/{bob}", "3")
    await does("POST", "/gas", "4", json={"amount": "5"})
    await does("POST", "/guardian", "5", json={"guardian": None})
    assert (await site.data("ann", "GET", "/account"))["guardian"] is None
    status, error = await site.refused("ann", "POST", "/recovery/cancel", json={}, headers=KEY)
    assert (status, error["code"]) == (402, "payment_failed")
    told = await site.data("ann", "GET", "/gas")
    assert told["paymaster"] == site.world.manifest.address("Paymaster")


async def test_before_there_is_a_wallet_everything_says_so(site: Site) -> None:
    for path in ("/account", "/balance", "/transactions"):
        status, error = await site.refused("ann", "GET", path)
        assert (status, error["code"]) == (404, "not_found")
    body = {"calls": [{"to": site.world.seller, "amount": "1"}]}
    assert (await site.refused("ann", "POST", "/user-operations", json=body, headers=KEY))[0] == 404
    assert (await site.refused("ann", "POST", "/export", json={"confirm": True}))[0] == 404


async def test_nobody_sees_or_signs_operations_of_others(site: Site) -> None:
    await site.wallet()
    await site.wallet("eve")
    body = {"calls": [{"to": site.world.seller, "amount": "1"}]}
    begun = await site.data("ann", "POST", "/user-operations", json=body, headers=KEY)
    where = f"/user-operations/{begun['id']}"
    for method, path, kwargs in (
        ("GET", where, {}),
        ("GET", where, {"params": {"wait": 1}}),
        ("POST", f"{where}/signature", {"json": {"signature": "0x" + "11" * 65}}),
        ("GET", "/user-operations/op_none", {}),
        ("GET", "/user-operations/op%00", {}),
        ("POST", "/user-operations/%00/signature", {"json": {"signature": "0x" + "11" * 65}}),
    ):
        status, error = await site.refused("eve", method, path, **kwargs)
        assert (status, error["code"]) == (404, "not_found")
    # Their own key is theirs: the same text is another operation.
    other = await site.data("eve", "POST", "/user-operations", json=body, headers=KEY)
    assert other["id"] != begun["id"]


async def test_without_a_token_nothing_is_told(site: Site) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site.app), base_url="http://nexus.test") as client:
        for method, path in (
            ("GET", "/account"),
            ("GET", "/balance"),
            ("GET", "/transactions"),
            ("GET", "/gas"),
            ("GET", "/user-operations/op_1"),
        ):
            assert (await client.request(method, f"/wallet{path}")).status_code in (401, 403)
        assert (await client.post("/wallet", json={"kind": "server"})).status_code in (401, 403)
        assert (await client.post("/wallet/export", json={"confirm": True})).status_code in (401, 403)


HOSTILE_CALLS: list[object] = [
    [],
    None,
    "everything",
    [{}],
    [{"to": "SELLER"}],
    [{"to": "SELLER", "amount": 1}],
    [{"to": "SELLER", "amount": "1", "more": "x"}],
    [{"to": "SELLER", "amount": "1", "data": "0x"}],
    [{"to": "SELLER", "amount": "-1"}],
    [{"to": "SELLER", "amount": "0"}],
    [{"to": "SELLER", "amount": "NaN"}],
    [{"to": "SELLER", "amount": "0.0000001"}],
    [{"to": "SELLER", "amount": "1" * 101}],
    [{"to": "SELLER", "amount": "1", "asset": "0x1"}],
    [{"to": "0x0", "amount": "1"}],
    [{"to": "0x" + "00" * 20, "amount": "1"}],
    [{"to": "0x" + "00" * 20, "data": "0x12345678"}],
    [{"to": "SELLER", "value_wei": "-1"}],
    [{"to": "SELLER", "value_wei": "1" * 40}],
    [{"to": "SELLER", "value_wei": "\u0661"}],
    [{"to": "SELLER", "data": "12"}],
    [{"to": "SELLER", "data": "0x1"}],
    [{"to": "SELLER", "data": "0x" + "11" * 40_000}],
    [{"to": "SELLER", "amount": "1"}] * 33,
]


async def test_calls_that_cannot_be_meant_are_refused_and_begin_nothing(site: Site) -> None:
    await site.wallet()

    def filled(value: object) -> object:
        if isinstance(value, list):
            return [filled(each) for each in value]
        if isinstance(value, dict):
            return {name: filled(each) for name, each in value.items()}
        return site.world.seller if value == "SELLER" else value

    for calls in HOSTILE_CALLS:
        status, error = await site.refused(
            "ann", "POST", "/user-operations", json={"calls": filled(calls)}, headers=KEY
        )
        assert (status, error["code"]) == (400, "invalid_input"), calls
    assert await site.world.database.pool.fetchval("select count(*) from wallet.operation") == 0


async def test_the_wallets_own_settings_are_not_reached_by_plain_calls(site: Site) -> None:
    made = await site.wallet()
    call = {"to": made["address"], "data": "0x13af4035" + "00" * 32}
    status, error = await site.refused("ann", "POST", "/user-operations", json={"calls": [call]}, headers=KEY)
    assert (status, error["code"]) == (403, "not_allowed")


async def test_an_operation_needs_a_key_of_its_own(site: Site) -> None:
    await site.wallet()
    body = {"calls": [{"to": site.world.seller, "amount": "1"}]}
    missing: list[dict[str, str]] = [{}, {"Idempotency-Key": ""}, {"Idempotency-Key": "k" * 201}]
    for headers in missing:
        for method, path, more in (
            ("POST", "/user-operations", {"json": body}),
            ("POST", "/guardian", {"json": {"guardian": site.world.seller}}),
            ("POST", "/gas", {"json": {"amount": "1"}}),
            ("DELETE", f"/sessions/{site.world.seller}", {}),
        ):
            assert (await site.refused("ann", method, path, headers=headers, **more))[0] == 400


HOSTILE_WALLETS: list[Json] = [
    {},
    {"kind": "none"},
    {"kind": "server", "address": "0x" + "11" * 20},
    {"kind": "key"},
    {"kind": "key", "address": "alice"},
    {"kind": "key", "address": 5},
    {"kind": "passkey"},
    {"kind": "passkey", "credential_id": "c" * 2_001},
    {"kind": "delegated", "address": "0x" + "00" * 20},
    {"kind": "server", "owner": "me"},
]


async def test_wallets_that_cannot_be_meant_are_not_made(site: Site) -> None:
    for body in HOSTILE_WALLETS:
        status, error = await site.refused("ann", "POST", "", json=body)
        assert (status, error["code"]) == (400, "invalid_input"), body
    assert (await site.refused("ann", "GET", "/account"))[0] == 404


async def test_another_persons_passkey_makes_no_wallet(site: Site) -> None:
    body = {"kind": "passkey", "credential_id": site.world.passkey("ben").credential_id}
    status, error = await site.refused("ann", "POST", "", json=body)
    assert (status, error["code"]) == (404, "not_found")


HOSTILE_SIGNATURES: list[Json] = [
    {},
    {"signature": ""},
    {"signature": "0x"},
    {"signature": "0x" + "11" * 64},
    {"signature": "0x" + "11" * 65},
    {"signature": "0x" + "11" * 66},
    {"signature": 5},
    {"signature": "0x" + "11" * 65, "delegation": "0x11"},
    {"signature": "AAAA", "authenticator_data": "A"},
    {"signature": "AAAA", "authenticator_data": "AAAA", "client_data": "AAAA"},
    {"signature": "!!!!", "authenticator_data": "AAAA", "client_data": "AAAA"},
    {"signature": "A" * 20_000},
    {"signature": "0x" + "11" * 65, "more": 1},
]


async def test_signatures_that_are_none_are_refused_and_lose_nothing(site: Site) -> None:
    key = site.world.chain.accounts["alice"]
    await site.wallet("alice", kind="key", address=key.address)
    sent = {"calls": [{"to": site.world.seller, "amount": "1"}]}
    begun = await site.data("alice", "POST", "/user-operations", json=sent, headers=KEY)
    where = f"/user-operations/{begun['id']}"
    for body in HOSTILE_SIGNATURES:
        status, error = await site.refused("alice", "POST", f"{where}/signature", json=body)
        assert (status, error["code"]) in ((400, "invalid_input"), (403, "not_allowed")), body
    after = await site.data("alice", "GET", where)
    assert after["state"] == "unsigned"
    assert after["sign"] == begun["sign"]


SOMEBODY = "0x" + "11" * 20
SESSION: Json = {
    "key": SOMEBODY,
    "valid_until": "2030-01-01T00:00:00Z",
    "permissions": [{"contract": SOMEBODY, "function": "f()"}],
}
HOSTILE_SETTINGS: list[tuple[str, Json]] = [
    ("/guardian", {}),
    ("/guardian", {"guardian": "bob"}),
    ("/guardian", {"guardian": SOMEBODY, "delay_seconds": 5}),
    ("/guardian", {"guardian": SOMEBODY, "delay_seconds": 2**50}),
    ("/guardian", {"guardian": SOMEBODY, "gas": "free"}),
    ("/sessions", {}),
    ("/sessions", {**SESSION, "permissions": []}),
    ("/sessions", {**SESSION, "key": "k"}),
    ("/sessions", {**SESSION, "key": "0x" + "00" * 20}),
    ("/sessions", {**SESSION, "valid_until": "soon"}),
    ("/sessions", {**SESSION, "valid_until": "1960-01-01T00:00:00Z"}),
    ("/sessions", {**SESSION, "valid_until": "2020-01-01T00:00:00Z"}),
    ("/sessions", {**SESSION, "permissions": [{"contract": SOMEBODY, "function": "f("}]}),
    ("/sessions", {**SESSION, "permissions": [{"contract": "0x", "function": "f()"}]}),
    ("/sessions", {**SESSION, "limits": [{"asset": "USDC", "amount": "-1"}]}),
    ("/sessions", {**SESSION, "limits": [{"asset": "USDC", "amount": "1" * 60}]}),
    ("/gas", {}),
    ("/gas", {"amount": "0"}),
    ("/gas", {"amount": "-1"}),
    ("/export", {"confirm": "maybe"}),
]


async def test_settings_that_cannot_be_meant_are_refused(site: Site) -> None:
    await site.wallet()
    for path, body in HOSTILE_SETTINGS:
        status, error = await site.refused("ann", "POST", path, json=body, headers=KEY)
        assert (status, error["code"]) == (400, "invalid_input"), (path, body)
    assert (await site.refused("ann", "DELETE", "/sessions/somebody", headers=KEY))[0] == 400
    assert await site.world.database.pool.fetchval("select count(*) from wallet.operation") == 0


async def test_histories_and_waits_have_bounds(site: Site) -> None:
    await site.wallet()
    queries: list[dict[str, object]] = [{"limit": each} for each in (0, 201, "x")]
    queries += [{"before": each} for each in ("x", "a" * 201, "1.\x00")]
    for query in queries:
        assert (await site.refused("ann", "GET", "/transactions", params=query))[0] == 400, query
    for wait in ("-1", "31", "nan", "inf", "x"):
        assert (await site.refused("ann", "GET", "/user-operations/op_1", params={"wait": wait}))[0] == 400, wait


async def test_a_node_without_contracts_says_what_is_missing_everywhere(world: World) -> None:
    tokens = Tokens(world.database, SeededEntropy(1))
    app = app_of(world, no_wallet_routes(), tokens)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://nexus.test") as client:
        for method, path in (
            ("POST", ""),
            ("GET", "/account"),
            ("POST", "/user-operations"),
            ("DELETE", "/sessions/0x"),
        ):
            answer = await client.request(method, f"/wallet{path}")
            assert answer.status_code == 503
            assert "contracts deploy" in answer.json()["error"]["next_step"]
