"""The seller: one run of the handler per payment, answers only against money, nobody is told to pay twice."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from tests.x402.support import (
    PAYEE,
    PRICE,
    ScriptedFacilitator,
    Shop,
    Work,
    identified,
    open_shop,
    outcome,
    requirement,
    sign,
    v1_payment,
    v2_payment,
)
from x402.schemas import PaymentRequirements, SettleResponse
from x402.schemas.v1 import PaymentRequiredV1

from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.devnet.accounts import development_accounts
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.decorator import paid, priced_routes
from agentnexus.markets.x402.pricing import PricedRequest, PricedRoute
from agentnexus.markets.x402.reservations import Reservations, SaleState
from agentnexus.markets.x402.sell import PaidCall, SellerMiddleware
from agentnexus.markets.x402.turn import CheckoutLimits
from agentnexus.markets.x402.wire import PAYMENT_REQUIRED, PAYMENT_RESPONSE, decode_header, read_settlement

BUYER = development_accounts()["buyer"].signer
TRANSACTION = "0x" + "cd" * 32


@pytest.fixture
def scripted() -> ScriptedFacilitator:
    return ScriptedFacilitator()


async def payment(key: str = "k1", asked: PaymentRequirements | None = None, **more: object) -> dict[str, str]:
    asked = asked or requirement()
    return v2_payment(asked, await sign(BUYER, asked, key), **more)


def required(response: httpx.Response) -> dict[str, object]:
    return decode_header(response.headers[PAYMENT_REQUIRED], part="402")


async def test_an_unpaid_request_is_told_the_price_in_both_versions(scripted: ScriptedFacilitator) -> None:
    async with open_shop(scripted) as shop:
        response = await shop.http.get("/report?page=2")
        assert response.status_code == 402
        assert response.headers["cache-control"] == "no-store"
        second = required(response)
        assert second["accepts"] == [requirement().model_dump(mode="json", by_alias=True)]
        assert second["resource"]["url"] == "http://localhost/report?page=2"  # type: ignore[index]  # JSON
        first = PaymentRequiredV1.model_validate_json(response.content)
        assert first.accepts[0].resource == "http://localhost/report?page=2"
        assert first.accepts[0].max_amount_required == str(PRICE)
        assert shop.work.runs == 0
        assert scripted.verified == 0


async def test_routes_without_a_price_pass_through(scripted: ScriptedFacilitator) -> None:
    async with open_shop(scripted) as shop:
        assert (await shop.http.get("/free")).status_code == 200
        assert (await shop.http.get("/nothing")).status_code == 404


async def test_a_paid_request_gets_the_answer_with_its_settlement(
    scripted: ScriptedFacilitator, reservations: Reservations
) -> None:
    async with open_shop(scripted, reservations=reservations) as shop:
        response = await shop.http.post("/report", content=b"hello", headers=await payment())
        assert response.status_code == 200
        assert response.json()["echo"] == "hello"
        assert response.headers["x-work"] == "1"
        settlement = read_settlement(response.headers[PAYMENT_RESPONSE], None)
        assert settlement is not None
        assert settlement.success
        (call,) = shop.work.seen
        assert isinstance(call, PaidCall)
        assert (call.payer, call.amount, call.version) == (BUYER.public_id, PRICE, 2)


async def test_a_v1_client_pays_and_gets_a_v1_settlement(
    scripted: ScriptedFacilitator, reservations: Reservations
) -> None:
    async with open_shop(scripted, reservations=reservations) as shop:
        response = await shop.http.get("/report", headers=v1_payment(await sign(BUYER, requirement(), "k1")))
        assert response.status_code == 200
        assert "x-payment-response" in response.headers
        assert "payment-response" not in response.headers


@pytest.mark.parametrize("copies", [8])
async def test_eight_copies_of_one_payment_run_the_handler_once_and_all_get_the_answer(
    scripted: ScriptedFacilitator, reservations: Reservations, copies: int
) -> None:
    async with open_shop(scripted, reservations=reservations) as shop:
        shop.work.gate = asyncio.Event()
        headers = await payment()
        asked = [asyncio.create_task(shop.http.get("/report", headers=headers)) for _ in range(copies)]
        await shop.work.started.wait()
        shop.work.gate.set()
        answers = await asyncio.gather(*asked)
        assert [answer.status_code for answer in answers] == [200] * copies
        assert len({answer.content for answer in answers}) == 1
        assert shop.work.runs == 1
        assert scripted.settled == 1


async def test_copies_of_a_failing_call_share_the_failure_instead_of_running_in_turn(
    scripted: ScriptedFacilitator, reservations: Reservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_shop(scripted, reservations=reservations, work=Work(status=422)) as shop:
        shop.work.gate = asyncio.Event()
        headers = await payment()
        first = asyncio.create_task(shop.http.get("/report", headers=headers))
        await shop.work.started.wait()
        waiting: set[asyncio.Task[object] | None] = set()
        changed = reservations.changed

        async def noticed(payment_id: str, timeout_seconds: float) -> None:
            waiting.add(asyncio.current_task())
            await changed(payment_id, timeout_seconds)

        monkeypatch.setattr(reservations, "changed", noticed)
        copies = [asyncio.create_task(shop.http.get("/report", headers=headers)) for _ in range(5)]
        async with asyncio.timeout(20):
            while len(waiting) < len(copies):
                await asyncio.sleep(0.001)
        shop.work.gate.set()
        answers = await asyncio.gather(first, *copies)
        assert {answer.status_code for answer in answers} == {422}
        assert shop.work.runs == 1
        assert scripted.settled == 0


async def test_a_replay_is_answered_from_store(scripted: ScriptedFacilitator, reservations: Reservations) -> None:
    async with open_shop(scripted, reservations=reservations) as shop:
        headers = await payment()
        first = await shop.http.get("/report", headers=headers)
        scripted.verify_reason = "invalid_exact_evm_nonce_already_used"
        again = await shop.http.get("/report", headers=headers)
        assert again.content == first.content
        assert again.headers["x-work"] == "1"
        settlements = [read_settlement(each.headers[PAYMENT_RESPONSE], None) for each in (first, again)]
        assert settlements[0] == settlements[1]
        assert (shop.work.runs, scripted.settled) == (1, 1)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/other", b""), ("POST", "/report", b"x"), ("GET", "/report?page=3", b""), ("HEAD", "/report", b"")],
)
async def test_a_payment_used_for_one_request_is_refused_for_any_other(
    scripted: ScriptedFacilitator, reservations: Reservations, method: str, path: str, body: bytes
) -> None:
    async with open_shop(scripted, reservations=reservations) as shop:
        headers = await payment()
        assert (await shop.http.get("/report", headers=headers)).status_code == 200
        mixed = await shop.http.request(method, path, content=body, headers=headers)
        assert mixed.status_code == 409
        assert shop.work.runs == 1


async def test_another_body_under_the_same_payment_is_refused(
    scripted: ScriptedFacilitator, reservations: Reservations
) -> None:
    async with open_shop(scripted, reservations=reservations) as shop:
        headers = await payment()
        assert (await shop.http.post("/report", content=b"one", headers=headers)).status_code == 200
        other = await shop.http.post("/report", content=b"two", headers=headers)
        assert other.status_code == 409
        assert other.json()["error"]["code"] == "conflict"
        assert shop.work.runs == 1


async def test_a_payment_that_names_another_resource_is_refused_before_its_first_use(
    scripted: ScriptedFacilitator,
) -> None:
    async with open_shop(scripted) as shop:
        headers = await payment(resource={"url": "http://localhost/report"})
        mixed = await shop.http.get("/other", headers=headers)
        assert mixed.status_code == 402
        assert required(mixed)["error"] == "resource_mismatch"
        assert (await shop.http.get("/report", headers=headers)).status_code == 200


async def test_one_identifier_is_one_request(scripted: ScriptedFacilitator, reservations: Reservations) -> None:
    async with open_shop(scripted, reservations=reservations) as shop:
        same = identified("my-identifier-0001")
        first = await shop.http.get("/report", headers=await payment("k1", **same))
        again = await shop.http.get("/report", headers=await payment("k1", **same))
        assert first.content == again.content
        other = await shop.http.get("/report", headers=await payment("k2", **same))
        assert other.status_code == 409
        changed = await shop.http.get("/report", headers=await payment("k1", **identified("my-identifier-0002")))
        assert changed.status_code == 409
        assert shop.work.runs == 1


async def test_two_payers_may_choose_the_same_identifier(
    scripted: ScriptedFacilitator, reservations: Reservations
) -> None:
    async with open_shop(scripted, reservations=reservations) as shop:
        same = identified("my-identifier-0001")
        other = development_accounts()["alice"].signer
        assert (await shop.http.get("/report", headers=await payment("k1", **same))).status_code == 200
        stranger = v2_payment(requirement(), await sign(other, requirement(), "k1"), **same)
        assert (await shop.http.get("/report", headers=stranger)).status_code == 200
        assert shop.work.runs == 2


async def test_a_route_can_insist_on_an_identifier(scripted: ScriptedFacilitator) -> None:
    route = PricedRoute("GET /report", [requirement()], identifier_required=True)
    async with open_shop(scripted, routes=[route]) as shop:
        declared = required(await shop.http.get("/report"))
        assert declared["extensions"]["payment-identifier"]["info"] == {"required": True}  # type: ignore[index]
        missing = await shop.http.get("/report", headers=await payment())
        assert missing.status_code == 400
        given = await shop.http.get("/report", headers=await payment(**identified("my-identifier-0001")))
        assert given.status_code == 200


async def test_an_invalid_payment_is_refused_with_the_reason_and_runs_nothing(scripted: ScriptedFacilitator) -> None:
    scripted.verify_reason = "invalid_exact_evm_insufficient_balance"
    async with open_shop(scripted) as shop:
        response = await shop.http.get("/report", headers=await payment())
        assert response.status_code == 402
        assert required(response)["error"] == "invalid_exact_evm_insufficient_balance"
        assert response.json()["error"] == "invalid_exact_evm_insufficient_balance"
        assert shop.work.runs == 0


@pytest.mark.parametrize(
    "change", [{"amount": "1"}, {"pay_to": "0x" + "99" * 20}, {"asset": "0x" + "99" * 20}, {"network": "eip155:1"}]
)
async def test_a_payment_for_other_terms_is_refused_before_it_is_verified(
    scripted: ScriptedFacilitator, change: dict[str, str]
) -> None:
    async with open_shop(scripted) as shop:
        response = await shop.http.get("/report", headers=await payment(asked=requirement().model_copy(update=change)))
        assert response.status_code == 402
        assert required(response)["error"] == "invalid_payment_requirements"
        assert scripted.verified == 0


async def test_a_check_that_gives_no_reason_is_refused_with_a_word_of_the_protocol(
    scripted: ScriptedFacilitator,
) -> None:
    scripted.verify_reason = ""
    async with open_shop(scripted) as shop:
        response = await shop.http.get("/report", headers=await payment())
    assert response.status_code == 402
    assert required(response)["error"] == Reason.UNEXPECTED_VERIFY
    assert (shop.work.runs, scripted.settled) == (0, 0)


@pytest.mark.parametrize("header", ["%%%", "bm90IGpzb24=", "W10=", "e30="])
@pytest.mark.parametrize("name", ["PAYMENT-SIGNATURE", "X-PAYMENT"])
async def test_a_malformed_payment_header_is_a_400_that_says_so(
    scripted: ScriptedFacilitator, name: str, header: str
) -> None:
    async with open_shop(scripted) as shop:
        response = await shop.http.get("/report", headers={name: header})
        assert response.status_code == 400
        assert response.json()["error"]["next_step"]
        assert shop.work.runs == 0


async def test_an_oversized_body_is_refused_before_it_is_read_whole(scripted: ScriptedFacilitator) -> None:
    route = PricedRoute("POST /report", [requirement()], max_request_bytes=10)
    async with open_shop(scripted, routes=[route]) as shop:
        response = await shop.http.post("/report", content=b"x" * 11, headers=await payment())
        assert response.status_code == 413
        assert (await shop.http.post("/report", content=b"x" * 10, headers=await payment())).status_code == 200


@pytest.mark.parametrize("status", [400, 404, 422, 500, 503])
async def test_a_failing_handler_costs_nothing_and_frees_the_payment(
    scripted: ScriptedFacilitator, reservations: Reservations, status: int
) -> None:
    async with open_shop(scripted, reservations=reservations, work=Work(status=status)) as shop:
        headers = await payment()
        failed = await shop.http.get("/report", headers=headers)
        assert failed.status_code == status
        assert PAYMENT_RESPONSE not in failed.headers
        assert scripted.settled == 0
        shop.work.status = 200
        assert (await shop.http.get("/report", headers=headers)).status_code == 200
        assert (shop.work.runs, scripted.settled) == (2, 1)


async def test_a_crashing_handler_costs_nothing_and_frees_the_payment(
    scripted: ScriptedFacilitator, reservations: Reservations
) -> None:
    async with open_shop(scripted, reservations=reservations, work=Work(failure=RuntimeError("boom"))) as shop:
        headers = await payment()
        assert (await shop.http.get("/report", headers=headers)).status_code == 500
        assert scripted.settled == 0
        shop.work.failure = None
        assert (await shop.http.get("/report", headers=headers)).status_code == 200


async def test_an_answer_too_large_to_keep_is_not_sold(
    scripted: ScriptedFacilitator, reservations: Reservations
) -> None:
    route = PricedRoute("GET /report", [requirement()], max_response_bytes=500)
    async with open_shop(scripted, routes=[route], reservations=reservations, work=Work(size=500)) as shop:
        response = await shop.http.get("/report", headers=await payment())
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "limit_exceeded"
        assert "streaming" in response.json()["error"]["next_step"]
        assert scripted.settled == 0


async def test_a_refused_settlement_never_leaks_the_answer(
    scripted: ScriptedFacilitator, reservations: Reservations
) -> None:
    scripted.settle_script = [outcome("invalid_exact_evm_insufficient_balance")]
    async with open_shop(scripted, reservations=reservations) as shop:
        headers = await payment()
        refused = await shop.http.get("/report", headers=headers)
        assert refused.status_code == 402
        assert b"run" not in refused.content
        assert required(refused)["error"] == "invalid_exact_evm_insufficient_balance"
        settlement = read_settlement(refused.headers[PAYMENT_RESPONSE], None)
        assert settlement is not None
        assert not settlement.success
        # The money comes after all: the kept answer is released without working again.
        released = await shop.http.get("/report", headers=headers)
        assert released.status_code == 200
        assert (shop.work.runs, scripted.settled) == (1, 2)


PENDING = outcome("settlement_pending", TRANSACTION)
UNKNOWN = [
    [PENDING, PENDING],
    [outcome("settlement_pending")],
    [outcome("unexpected_settle_error")],
    [outcome("")],
    [SettleResponse(success=False, transaction="", network="eip155:31337")],
    [outcome("invalid_exact_evm_nonce_already_used")],
    [Unavailable("facilitator is down")],
    [TimeoutError()],
    [httpx.ReadTimeout("no answer")],
    [ValueError("Facilitator settle failed (500)")],
]


@pytest.mark.parametrize("script", UNKNOWN)
async def test_an_unknown_settlement_asks_for_the_same_payment_again_and_is_released_later(
    scripted: ScriptedFacilitator, reservations: Reservations, script: list[object]
) -> None:
    scripted.settle_script = list(script)  # type: ignore[arg-type]  # settlements and exceptions
    async with open_shop(scripted, reservations=reservations) as shop:
        headers = await payment()
        unknown = await shop.http.get("/report", headers=headers)
        assert unknown.status_code == 202
        assert unknown.headers["retry-after"] == "1"
        assert unknown.json()["error"]["code"] == "payment_unknown"
        assert "same payment" in unknown.json()["error"]["next_step"]
        assert b"echo" not in unknown.content
        released = await shop.http.get("/report", headers=headers)
        assert released.status_code == 200
        assert released.json()["run"] == 1
        assert shop.work.runs == 1


async def test_a_pending_settlement_is_asked_for_once_more_at_once(scripted: ScriptedFacilitator) -> None:
    scripted.settle_script = [PENDING]
    async with open_shop(scripted) as shop:
        assert (await shop.http.get("/report", headers=await payment())).status_code == 200
        assert scripted.settled == 2


async def test_a_settlement_without_a_transaction_is_not_believed(scripted: ScriptedFacilitator) -> None:
    scripted.settle_script = [outcome("").model_copy(update={"success": True, "error_reason": None})]
    async with open_shop(scripted) as shop:
        assert (await shop.http.get("/report", headers=await payment())).status_code == 202


async def test_when_payments_cannot_be_checked_nothing_runs_and_nothing_is_taken(
    scripted: ScriptedFacilitator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object) -> None:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(scripted, "verify", down)
    async with open_shop(scripted) as shop:
        response = await shop.http.get("/report", headers=await payment())
        assert response.status_code == 503
        assert "same payment" in response.json()["error"]["next_step"]
        assert shop.work.runs == 0


async def test_a_copy_that_waits_too_long_is_told_to_ask_again(scripted: ScriptedFacilitator) -> None:
    async with open_shop(scripted, limits=CheckoutLimits(wait=0.01)) as shop:
        shop.work.gate = asyncio.Event()
        headers = await payment()
        first = asyncio.create_task(shop.http.get("/report", headers=headers))
        await shop.work.started.wait()
        waiting = await shop.http.get("/report", headers=headers)
        assert waiting.status_code == 202
        shop.work.gate.set()
        assert (await first).status_code == 200


async def test_a_dead_sellers_lease_ends_and_the_repeat_runs_again(
    scripted: ScriptedFacilitator, reservations: Reservations
) -> None:
    """The first seller is cancelled without a chance to say so, as by kill -9 (test_crash.py does that for real)."""
    async with open_shop(scripted, reservations=reservations, limits=CheckoutLimits(lease=0.2)) as shop:
        dead = asyncio.Event()
        shop.work.gate = dead
        headers = await payment()
        first = asyncio.create_task(shop.http.get("/report", headers=headers))
        await shop.work.started.wait()
        claim_owner = await _owner(shop)
        assert await reservations.renew(claim_owner[0], claim_owner[1], -1)
        shop.work.gate = None
        again = await shop.http.get("/report", headers=headers)
        assert again.status_code == 200
        assert again.json()["run"] == 2
        dead.set()
        late = await first  # the first owner lost its lease: it answers with the settled result, not its own
        assert late.content == again.content
        assert scripted.settled == 1


async def _owner(shop: Shop) -> tuple[str, str]:
    (call,) = shop.work.seen
    assert isinstance(call, PaidCall)
    from agentnexus.markets.x402.reservations import Claim

    held = await shop.reservations.find(Claim(call.payment_id, "", "", ""))
    assert held is not None
    return held.claim.payment_id, held.owner


async def test_replays_end_with_their_window(scripted: ScriptedFacilitator, reservations: Reservations) -> None:
    limits = CheckoutLimits(replay=-1, replay_identified=3600)
    async with open_shop(scripted, reservations=reservations, limits=limits) as shop:
        bare, named = await payment("k1"), await payment("k2", **identified("my-identifier-0001"))
        for headers in (bare, named):
            assert (await shop.http.get("/report", headers=headers)).status_code == 200
        # What settled on chain can be read by anybody; what was never on chain may be repeated for longer.
        assert (await shop.http.get("/report", headers=bare)).status_code == 409
        assert (await shop.http.get("/report", headers=named)).status_code == 200


async def test_several_accepts_are_offered_and_any_one_pays(scripted: ScriptedFacilitator) -> None:
    dear = requirement(50_000, asset="0x" + "55" * 20)
    async with open_shop(scripted, accepts=[requirement(), dear]) as shop:
        offered = await shop.header()
        assert len(offered["accepts"]) == 2  # type: ignore[arg-type]  # JSON list
        assert (await shop.http.get("/report", headers=await payment("a", dear))).status_code == 200
        assert (await shop.http.get("/report", headers=await payment("b"))).status_code == 200


async def priced_by_length(request: PricedRequest) -> list[PaymentRequirements]:
    data = request.json()
    if not isinstance(data, dict):
        raise InvalidInput("send an object", field="body")
    words = str(data.get("text", "")).split()
    return [requirement(1000 * len(words))] if words else []


async def test_a_price_may_depend_on_the_request_body(scripted: ScriptedFacilitator) -> None:
    """The official FastAPI adapter gives the price function no body (facts §2.3)."""
    async with open_shop(scripted, routes=[PricedRoute("POST /report", priced_by_length)]) as shop:
        three = json.dumps({"text": "one two three"}).encode()
        asked = await shop.header(method="POST", content=three)
        assert asked["accepts"][0]["amount"] == "3000"  # type: ignore[index]  # JSON
        headers = await payment(asked=requirement(3000))
        longer = json.dumps({"text": "one two three four"}).encode()
        assert (await shop.http.post("/report", content=longer, headers=headers)).status_code == 402
        assert (await shop.http.post("/report", content=three, headers=headers)).status_code == 200
        free = await shop.http.post("/report", content=b"{}")
        assert free.status_code == 200
        assert free.json()["echo"] == "{}"
        refused = await shop.http.post("/report", content=b"[1]")
        assert refused.status_code == 400
        assert (await shop.http.post("/report", content=b"no json")).status_code == 400


def test_the_official_adapter_has_no_body_for_a_dynamic_price() -> None:
    from x402.http.middleware.fastapi import FastAPIAdapter

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    from starlette.requests import Request

    assert FastAPIAdapter(Request(scope)).get_body() is None


@pytest.mark.parametrize(
    ("pattern", "method", "path", "matches"),
    [
        ("GET /report", "GET", "/report", True),
        ("GET /report", "HEAD", "/report", True),
        ("GET /report", "POST", "/report", False),
        ("GET /report", "GET", "/report/", False),
        ("GET /report", "GET", "/reports", False),
        ("GET /report", "GET", "/report\n", True),
        ("/report", "DELETE", "/report", True),
        ("POST /agents/{name}", "POST", "/agents/a", True),
        ("POST /agents/{name}", "POST", "/agents/a/b", False),
        ("POST /agents/{name:path}", "POST", "/agents/a/b", True),
        ("/x/*", "GET", "/x/a\nb", True),
        ("GET /a.b", "GET", "/aXb", False),
    ],
)
def test_patterns_match_what_a_router_would_route(pattern: str, method: str, path: str, matches: bool) -> None:
    assert (PricedRoute(pattern, [requirement()]).match(method, path) is not None) is matches


async def test_extensions_too_large_to_come_back_are_left_out(scripted: ScriptedFacilitator) -> None:
    large = PricedRoute(
        "GET /report", [requirement()], extensions={"bazaar": {"info": {}, "schema": {"x": "y" * 9000}}}
    )
    small = PricedRoute("GET /other", [requirement()], extensions={"bazaar": {"info": {}, "schema": {"x": "y" * 900}}})
    async with open_shop(scripted, routes=[large, small]) as shop:
        assert set((await shop.header("/report"))["extensions"]) == {"payment-identifier"}  # type: ignore[call-overload]
        assert set((await shop.header("/other"))["extensions"]) == {"payment-identifier", "bazaar"}  # type: ignore[call-overload]


async def test_a_line_feed_in_the_path_does_not_slip_past_the_gate(scripted: ScriptedFacilitator) -> None:
    """Starlette's `$` matches before a final line feed, so ``/report%0A`` reaches the handler of ``/report``."""
    async with open_shop(scripted) as shop:
        assert (await shop.http.get("/report%0A")).status_code == 402
        assert shop.work.runs == 0


async def test_head_of_a_priced_get_is_priced(scripted: ScriptedFacilitator) -> None:
    async with open_shop(scripted) as shop:
        assert (await shop.http.head("/report")).status_code == 402


async def test_path_parameters_make_distinct_resources(scripted: ScriptedFacilitator) -> None:
    async with open_shop(scripted) as shop:
        headers = await payment()
        assert (await shop.http.post("/agents/a", headers=headers)).status_code == 200
        assert (await shop.http.post("/agents/b", headers=headers)).status_code == 409


async def test_marked_endpoints_become_priced_routes(scripted: ScriptedFacilitator) -> None:
    @paid(requirement(), description="marked")
    async def marked(request: object) -> PlainTextResponse:
        return PlainTextResponse("worth it")

    async def free(request: object) -> PlainTextResponse:
        return PlainTextResponse("free")

    inner = Starlette(routes=[Route("/marked/{number}", marked, methods=["GET", "POST"]), Route("/free", free)])
    app = Starlette(routes=[Mount("/api", inner)])
    routes = priced_routes(app.routes)
    assert {route.pattern for route in routes} == {
        "GET /api/marked/{number}",
        "HEAD /api/marked/{number}",
        "POST /api/marked/{number}",
    }
    from agentnexus.markets.x402.reservations import MemoryReservations

    seller = SellerMiddleware(
        app, routes=routes, facilitator=scripted, reservations=MemoryReservations(), public_url="https://shop.example"
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(seller), base_url="http://inside") as http:
        assert (await http.get("/api/free")).text == "free"
        unpaid = await http.get("/api/marked/1")
        assert required(unpaid)["resource"]["url"] == "https://shop.example/api/marked/1"  # type: ignore[index]
        assert (await http.get("/api/marked/1", headers=await payment())).text == "worth it"


@pytest.mark.parametrize("amount", [0, -1])
def test_a_price_of_nothing_is_a_mistake(amount: int) -> None:
    with pytest.raises(InvalidInput, match="more than nothing"):
        requirement(amount)
    with pytest.raises(InvalidInput, match="at least one"):
        PricedRoute("/x", [])


async def test_states_left_behind_are_those_the_store_documents(
    scripted: ScriptedFacilitator, reservations: Reservations
) -> None:
    async with open_shop(scripted, reservations=reservations) as shop:
        await shop.http.get("/report", headers=await payment())
        payment_id, owner = await _owner(shop)
        from agentnexus.markets.x402.reservations import Claim

        held = await reservations.find(Claim(payment_id, "", "", ""))
        assert held is not None
        assert held.state is SaleState.SETTLED
        assert payment_id == f"eip155:31337:{requirement().asset}:{BUYER.public_id}:{payment_id.rsplit(':', 1)[1]}"
        assert replace(held.claim, resource="").client_key is None
        assert PAYEE not in payment_id
        assert owner.startswith("sale_")
