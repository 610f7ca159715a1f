"""Buying and running over HTTP: what is answered, what is refused, and that nobody sees or moves what is another's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI

from agentnexus.api.app import create_api, guarded
from agentnexus.core.clock import SystemEntropy
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.marketplace.executions.routes import execution_routes
from agentnexus.marketplace.executions.service import Executions
from agentnexus.marketplace.purchases.routes import no_purchase_routes, purchase_routes
from agentnexus.platform.http import install_error_handlers
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.wallets.model import KeySignature, WalletKind
from tests.purchases.conftest import AGENT, Shop
from tests.purchases.selling import MONTH, at_day, sell
from tests.wallets.test_kinds import answer

pytestmark = pytest.mark.timeout(180)
BUY = f"/api/v1/agents/{AGENT}/purchase"
RUN = f"/api/v1/agents/{AGENT}/execute"


@dataclass
class Desk:
    """The API of a shop, with somebody's token for each name."""

    shop: Shop
    http: httpx.AsyncClient
    tokens: Tokens

    async def call(self, user_id: str, method: str, path: str, key: str = "", **body: object) -> httpx.Response:
        issued = await self.tokens.issue(user_id)
        headers = {"Authorization": f"Bearer {issued}"} | ({"Idempotency-Key": key} if key else {})
        sent = {"json": body} if body or method == "POST" else {}
        return await self.http.request(method, path, headers=headers, **sent)  # type: ignore[arg-type]  # passed on

    async def data(self, user_id: str, method: str, path: str, key: str = "", **body: object) -> dict[str, object]:
        response = await self.call(user_id, method, path, key, **body)
        assert response.status_code in (200, 202), response.text
        found: dict[str, object] = response.json()["data"]
        return found

    async def bought(self, user_id: str = "ann", quantity: int = 2, key: str = "k1") -> dict[str, object]:
        made = await self.data(user_id, "POST", BUY, key, quantity=quantity)
        await self.shop.finish(str(made["id"]))
        return await self.data(user_id, "GET", f"/api/v1/purchases/{made['id']}")


@asynccontextmanager
async def opened(shop: Shop) -> AsyncIterator[Desk]:
    database, clock = shop.database, shop.world.clock
    tokens = Tokens(database, SystemEntropy())
    executions = shop.entitlements._executions
    assert isinstance(executions, Executions)
    app = create_api(
        routers=[
            ("/api/v1", purchase_routes(shop.purchases, shop.entitlements, clock)),
            ("/api/v1", execution_routes(executions, clock)),
        ],
        pages=[],
        callers=Callers(tokens),
        limiter=Limiter(database, per_minute=100_000),
        checks={},
        clock=clock,
        version="test",
    )
    transport = httpx.ASGITransport(app=guarded(app, 1_000_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://node.test") as http:
        yield Desk(shop, http, tokens)


async def test_runs_are_bought_used_and_the_rest_given_back(shop: Shop, buyer: str) -> None:
    async with opened(shop) as desk:
        made = await desk.data(buyer, "POST", BUY, "k1", quantity=3)
        assert (made["amount"], made["price"], made["currency"], made["fee_bps"]) == ("0.06", "0.02", "USDC", 250)
        assert made["sign"] is None
        await shop.finish(str(made["id"]))
        done = await desk.data(buyer, "GET", f"/api/v1/purchases/{made['id']}?wait=5")
        assert (done["state"], done["step"], done["runs_left"], done["held"]) == ("completed", "entitled", 3, "0.06")
        assert done["refundable"] is True
        assert str(done["transaction"]).startswith("0x")

        use = await desk.data(buyer, "POST", RUN, "r1", input={"text": "hello"})
        ended = await desk.data(buyer, "GET", f"/api/v1/me/uses/{use['id']}?wait=30")
        listed = await desk.data(buyer, "GET", "/api/v1/me/uses")
        assert [(each["id"], each["output"]) for each in listed] == [(use["id"], None)]
        assert ended["state"] == "completed"
        output = ended["output"]
        assert isinstance(output, dict)
        assert output["text"] == "hello"
        await shop.settle_uses()
        rights = (await desk.call(buyer, "GET", "/api/v1/me/entitlements")).json()["data"]
        assert [(each["agent_id"], each["runs_left"], each["status"]) for each in rights] == [(AGENT, 2, "active")]
        access = await desk.data(buyer, "GET", f"/api/v1/me/entitlements/{AGENT}")
        assert (access["runs_left"], access["under_way"]) == (2, 0)

        await desk.data(buyer, "POST", f"/api/v1/purchases/{made['id']}/refund")
        await shop.until(str(made["id"]), lambda it: it.state == "refunded")
        back = await desk.data(buyer, "GET", f"/api/v1/purchases/{made['id']}")
        assert (back["state"], back["runs_left"], back["runs_used"], back["held"]) == ("refunded", 0, 1, "0")
        assert (await desk.call(buyer, "POST", RUN, "r2", input={"text": "x"})).status_code == 404


async def test_a_month_is_quoted_bought_and_shown(shop: Shop, buyer: str) -> None:
    await sell(shop, per_month=MONTH, runs_per_month=18)
    period = await at_day(shop, 15)
    async with opened(shop) as desk:
        quote = await desk.data(buyer, "GET", f"/api/v1/agents/{AGENT}/quote?kind=period")
        assert (quote["amount"], quote["currency"], quote["runs_max"], quote["fee_bps"]) == ("0.3", "USDC", 9, 250)
        assert (quote["starts_at"], quote["ends_at"]) == (period.starts_at.isoformat(), period.ends_at.isoformat())
        refused = await desk.call(buyer, "POST", BUY, "m1", kind="period", at_most="0.29")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
        made = await desk.data(buyer, "POST", BUY, "m1", kind="period", at_most=quote["amount"])
        await shop.finish(str(made["id"]))
        done = await desk.data(buyer, "GET", f"/api/v1/purchases/{made['id']}")
        assert (done["kind"], done["amount"], done["ends_at"]) == ("period", "0.3", quote["ends_at"])
        assert (done["runs_left"], done["runs_max"], done["expires_at"]) == (9, 9, quote["ends_at"])
        assert done["refundable"] is True
        use = await desk.data(buyer, "POST", RUN, "r1", input={"text": "hello"})
        await desk.data(buyer, "GET", f"/api/v1/me/uses/{use['id']}?wait=30")
        await shop.settle_uses()
        await shop.work()
        (right,) = (await desk.call(buyer, "GET", "/api/v1/me/entitlements")).json()["data"]
        assert (right["kind"], right["status"], right["runs_left"]) == ("period", "active", 8)
        assert (right["usage_count"], right["max_usage"], right["expires_at"]) == (1, 9, quote["ends_at"])
        access = await desk.data(buyer, "GET", f"/api/v1/me/entitlements/{AGENT}")
        assert (access["until"], access["period_runs_left"], access["runs_left"]) == (quote["ends_at"], 8, 0)
        assert (await desk.data(buyer, "GET", f"/api/v1/purchases/{made['id']}"))["refundable"] is False
        renewed = await desk.data(buyer, "GET", f"/api/v1/agents/{AGENT}/quote?kind=period")
        assert (renewed["amount"], renewed["starts_at"]) == (MONTH, quote["ends_at"])


async def test_runs_are_passed_on_by_an_operation_of_the_wallet(shop: Shop, buyer: str) -> None:
    await sell(shop, transferable=True)
    bob = (await shop.world.funded("bob", usdc=0)).address
    path = f"/api/v1/me/entitlements/{AGENT}/transfer"
    async with opened(shop) as desk:
        made = await desk.data(buyer, "POST", BUY, "k1", quantity=3)
        await shop.finish(str(made["id"]))
        for body in ({"to": "bob"}, {"to": bob, "count": 0}, {"to": bob, "kind": "year"}, {"count": 1}):
            assert (await desk.call(buyer, "POST", path, "t1", **body)).status_code in (400, 422), body
        assert (await desk.call(buyer, "POST", path, "t1", to=bob, count=4)).status_code == 409
        moved = await desk.data(buyer, "POST", path, "t1", to=bob, count=2)
        assert (moved["purpose"], moved["sign"]) == ("transfer", None)
        await shop.world.wallets().settle(str(moved["id"]))
        await shop.work()
        shown = await desk.data(buyer, "GET", f"/api/v1/purchases/{made['id']}")
        assert (shown["passed_on"], shown["runs_left"], shown["refundable"]) == (2, 1, False)
        assert (await desk.call(buyer, "POST", f"/api/v1/purchases/{made['id']}/refund")).status_code == 409
        access = await desk.data("bob", "GET", f"/api/v1/me/entitlements/{AGENT}")
        assert access["runs_left"] == 2


async def test_the_owner_of_a_key_signs_what_is_passed_on(shop: Shop) -> None:
    await sell(shop, transferable=True)
    await shop.world.funded("alice", WalletKind.KEY)
    bob = (await shop.world.funded("bob", usdc=0)).address
    begun = await shop.purchases.begin("alice", AGENT, 1, "k1")
    asked = await shop.purchases.signing_request("alice", begun.id)
    assert asked is not None
    await shop.purchases.sign("alice", begun.id, await answer(shop.world, "alice", asked))
    await shop.finish(begun.id)
    async with opened(shop) as desk:
        path = f"/api/v1/me/entitlements/{AGENT}/transfer"
        moved = await desk.data("alice", "POST", path, "t1", to=bob)
        sign = moved["sign"]
        assert isinstance(sign, dict)
        assert (sign["kind"], sign["operation_id"]) == ("key", moved["id"])


async def test_what_has_to_be_signed_is_told_and_taken(shop: Shop) -> None:
    await shop.world.funded("alice", WalletKind.KEY)
    async with opened(shop) as desk:
        made = await desk.data("alice", "POST", BUY, "k1", quantity=1)
        assert made["step"] == "signing"
        sign = made["sign"]
        assert isinstance(sign, dict)
        assert (sign["kind"], sign["operation_id"]) == ("key", made["operation_id"])
        assert sign["typed_data"]["domain"]["name"] == "ERC4337"
        path = f"/api/v1/purchases/{made['id']}/signature"
        for wrong in ("0x", "zz", "0x" + "00" * 65):
            refused = await desk.call("alice", "POST", path, signature=wrong)
            assert refused.status_code in (400, 403), refused.text
        asked = await shop.purchases.signing_request("alice", str(made["id"]))
        assert asked is not None
        good = await answer(shop.world, "alice", asked)
        assert isinstance(good, KeySignature)
        signed = await desk.data("alice", "POST", path, signature=to_hex(good.signature))
        assert signed["sign"] is None
        assert (await shop.finish(str(made["id"]))).state == "completed"


async def test_a_purchase_that_cannot_be_signed_now_is_shown_with_the_reason(shop: Shop) -> None:
    await shop.world.funded("alice", WalletKind.KEY, usdc=shop.price)
    async with opened(shop) as desk:
        made = await desk.data("alice", "POST", BUY, "k1", quantity=1)
        tight = [each.model_copy(update={"per_day": "0.00000001"}) for each in shop.world.policies]
        shop.purchases.acts.wallets.paymaster = shop.world.paymaster(*tight)  # type: ignore[attr-defined]  # the real one
        shop.purchases.acts.wallets._builder._paymaster = shop.world.paymaster(*tight)  # type: ignore[attr-defined]
        shop.world.clock.advance(400)
        shown = await desk.data("alice", "GET", f"/api/v1/purchases/{made['id']}")
        assert shown["sign"] is None
        refused = shown["sign_error"]
        assert isinstance(refused, dict)
        assert refused["code"] in ("budget_exceeded", "not_allowed", "unavailable")


async def test_events_of_a_purchase_are_streamed_in_order_and_end(shop: Shop, buyer: str) -> None:
    async with opened(shop) as desk:
        made = await desk.bought()
        body = (await desk.call(buyer, "GET", f"/api/v1/purchases/{made['id']}/stream")).text
        frames = [frame.split("\n") for frame in body.strip().split("\n\n")]
        numbers = [int(frame[0].removeprefix("id: ")) for frame in frames]
        assert numbers == list(range(1, len(frames) + 1))
        names = [frame[1].removeprefix("event: ") for frame in frames]
        assert names[0] == "purchase.initiated"
        assert "purchase.completed" in names
        assert json.loads(frames[-1][2].removeprefix("data: "))["data"]["state"] == "completed"
        rest = (await desk.call(buyer, "GET", f"/api/v1/purchases/{made['id']}/stream?after={numbers[-2]}")).text
        assert rest.startswith(f"id: {numbers[-1]}\n")


async def test_strangers_find_nothing_of_it(shop: Shop, buyer: str) -> None:
    async with opened(shop) as desk:
        made = await desk.bought()
        use = await desk.data(buyer, "POST", RUN, "r1", input={"text": "secret"})
        await desk.data(buyer, "GET", f"/api/v1/me/uses/{use['id']}?wait=30")
        purchase = f"/api/v1/purchases/{made['id']}"
        asked = [
            ("GET", purchase, {}),
            ("GET", f"{purchase}/stream", {}),
            ("POST", f"{purchase}/refund", {}),
            ("POST", f"{purchase}/signature", {"signature": "0x" + "11" * 65}),
            ("GET", f"/api/v1/me/uses/{use['id']}", {}),
            ("GET", f"/api/v1/me/entitlements/{AGENT}", {}),
        ]
        for method, path, body in asked:
            refused = await desk.call("mallory", method, path, **body)
            assert refused.status_code == 404, (path, refused.text)
            assert refused.json()["error"]["next_step"]
        assert (await desk.call("mallory", "POST", RUN, "r1", input={"text": "free"})).status_code == 404
        assert (await desk.call("mallory", "GET", "/api/v1/me/purchases")).json()["data"] == []
        assert (await desk.call("mallory", "GET", "/api/v1/me/entitlements")).json()["data"] == []
        before = await desk.call("mallory", "GET", f"/api/v1/me/purchases?before={made['id']}")
        assert before.json()["data"] == []


async def test_who_knows_the_id_of_a_run_does_not_get_its_work(shop: Shop, buyer: str) -> None:
    async with opened(shop) as desk:
        await desk.bought()
        use = await desk.data(buyer, "POST", RUN, "r1", input={"text": "secret"})
        await desk.data(buyer, "GET", f"/api/v1/me/uses/{use['id']}?wait=30")
        seen = await desk.http.get(f"/api/v1/executions/{use['execution_id']}")
        assert seen.status_code == 200
        assert seen.json()["data"]["output"] is None
        stream = (await desk.http.get(f"/api/v1/executions/{use['execution_id']}/stream")).text
        assert "secret" not in seen.text + stream


async def test_without_a_token_nothing_is_answered(shop: Shop) -> None:
    async with opened(shop) as desk:
        paths = [("POST", BUY), ("POST", RUN), ("GET", "/api/v1/purchases/pur_1"), ("GET", "/api/v1/me/purchases")]
        paths += [("GET", "/api/v1/me/entitlements"), ("GET", "/api/v1/me/uses/use_1")]
        for method, path in paths:
            answered = await desk.http.request(method, path, json={}, headers={"Idempotency-Key": "k"})
            assert answered.status_code == 403, (path, answered.text)


@pytest.mark.parametrize(
    ("body", "key", "status"),
    [
        ({"quantity": 0}, "k1", 400),
        ({"quantity": -5}, "k1", 400),
        ({"quantity": 10**40}, "k1", 400),
        ({"quantity": "many"}, "k1", 400),
        ({"quantity": 1.5}, "k1", 400),
        ({"quantity": 1, "price": "0"}, "k1", 400),
        ({"quantity": 1}, "", 400),
        ({"quantity": 1}, "x" * 300, 400),
        ({"quantity": 51}, "k1", 402),
    ],
)
async def test_a_wrong_order_is_refused_with_what_to_do(
    shop: Shop, buyer: str, body: dict[str, object], key: str, status: int
) -> None:
    async with opened(shop) as desk:
        refused = await desk.call(buyer, "POST", BUY, key, **body)
        assert refused.status_code == status, refused.text
        assert refused.json()["error"]["message"]
        assert await shop.held() == 0


async def test_ids_that_nobody_made_are_not_found(shop: Shop, buyer: str) -> None:
    async with opened(shop) as desk:
        for odd in ("pur_1", "%00", "x" * 3_000, "' or 1=1 --", "..%2f..%2f", "💸"):
            for path in (f"/api/v1/purchases/{odd}", f"/api/v1/me/uses/{odd}", f"/api/v1/me/entitlements/{odd}"):
                answered = await desk.call(buyer, "GET", path)
                assert answered.status_code in (400, 404), (path, answered.text)
            assert (await desk.call(buyer, "POST", f"/api/v1/agents/{odd}/purchase", "k", quantity=1)).status_code in (
                400,
                404,
            )
        for query in ("wait=-1", "wait=31", "wait=nan", "wait=x"):
            assert (await desk.call(buyer, "GET", f"/api/v1/purchases/pur_1?{query}")).status_code in (400, 404)
        assert (await desk.call(buyer, "GET", "/api/v1/me/purchases?limit=0")).status_code == 400


async def test_pages_of_purchases_go_on_where_the_last_one_ended(shop: Shop, buyer: str) -> None:
    async with opened(shop) as desk:
        ids = [str((await desk.bought(quantity=1, key=f"k{number}"))["id"]) for number in range(3)]
        first = (await desk.call(buyer, "GET", "/api/v1/me/purchases?limit=2")).json()
        assert [each["id"] for each in first["data"]] == ids[:0:-1]
        rest = (await desk.call(buyer, "GET", f"/api/v1/me/purchases?limit=2&before={ids[1]}")).json()
        assert [each["id"] for each in rest["data"]] == ids[:1]
        assert rest["pagination"]["nextBefore"] is None


async def test_an_input_with_a_wrong_field_names_it_and_costs_nothing(shop: Shop, buyer: str) -> None:
    async with opened(shop) as desk:
        await desk.bought()
        for wrong in ({"count": 0}, {"nope": 1}, "text", None, [1]):
            refused = await desk.call(buyer, "POST", RUN, "r1", input=wrong)
            assert refused.status_code == 400, refused.text
        assert (await desk.call(buyer, "POST", RUN, "r1")).status_code == 400
        assert (await desk.call(buyer, "POST", RUN, "", input={"text": "x"})).status_code == 400
        access = await desk.data(buyer, "GET", f"/api/v1/me/entitlements/{AGENT}")
        assert access["runs_left"] == 2


async def test_a_node_without_contracts_says_so() -> None:
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(no_purchase_routes(), prefix="/api/v1")
    paths = [("POST", BUY), ("POST", RUN), ("GET", "/api/v1/purchases/p/stream"), ("GET", "/api/v1/me/uses/u")]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://node.test") as http:
        for method, path in paths:
            answered = await http.request(method, path)
            assert (answered.status_code, answered.json()["error"]["code"]) == (503, "unavailable")


async def test_hostile_words_are_refused_and_break_nothing(shop: Shop, buyer: str) -> None:
    async with opened(shop) as desk:
        for path in (
            "/api/v1/agents/a%00b/quote",
            f"/api/v1/agents/{AGENT}/quote?kind=%00",
            f"/api/v1/agents/{AGENT}/quote?quantity=99999999999999999999",
            "/api/v1/purchases/pur_%00",
            "/api/v1/purchases/pur_%00/stream",
            "/api/v1/me/purchases?before=%00",
            "/api/v1/me/entitlements/%00",
            "/api/v1/me/uses/use_%00",
            "/api/v1/agents/" + "a" * 5_000 + "/quote",
        ):
            assert 400 <= (await desk.call(buyer, "GET", path)).status_code < 500, path
        give = f"/api/v1/me/entitlements/{AGENT}/transfer"
        for path, body in (
            (give, {"to": "0x" + "1" * 40, "count": 10**30}),
            (give, {"to": "0x\x00"}),
            (give, {"to": "0x" + "g" * 40}),
            (give, {"to": "0x" + "1" * 40, "kind": "all"}),
            ("/api/v1/me/entitlements/%00/transfer", {"to": "0x" + "1" * 40}),
            (BUY, {"quantity": 10**30}),
            (BUY, {"at_most": "NaN"}),
            (BUY, {"at_most": "1\n"}),
            (BUY, {"kind": "period", "upgrade": "perhaps"}),
            ("/api/v1/agents/a%00b/purchase", {"quantity": 1}),
            ("/api/v1/agents/a%00b/execute", {"input": {"text": "\x00"}}),
            ("/api/v1/purchases/pur_%00/refund", {}),
        ):
            assert 400 <= (await desk.call(buyer, "POST", path, "k1", **body)).status_code < 500, (path, body)
        assert await shop.purchases.list(buyer) == []
