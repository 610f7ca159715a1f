"""The gate in front of paid work: what a pattern covers, what a 402 says to the byte, what is kept of an answer."""

from __future__ import annotations

import base64
import json
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Match, Mount, Route
from tests.x402.support import PAYEE, TOKEN, requirement

from agentnexus.core.errors import InvalidInput, LimitExceeded
from agentnexus.core.money import Asset, Money
from agentnexus.markets.x402.answers import settlement_headers, too_large, unfinished, with_headers
from agentnexus.markets.x402.decorator import paid, priced_routes
from agentnexus.markets.x402.exchange import (
    Capture,
    Disconnected,
    json_response,
    read_body,
    replaying,
    request_hash,
    send_response,
)
from agentnexus.markets.x402.networks import V1_CHAIN_IDS, caip2, evm_chain_id, v1_name
from agentnexus.markets.x402.pricing import DemandCache, PricedRequest, PricedRoute, demand, exact
from agentnexus.markets.x402.reservations import StoredResponse

USDC = Asset("USDC", 6, f"eip155:31337/erc20:{TOKEN}")


async def work(_request: object) -> PlainTextResponse:
    return PlainTextResponse("work")


# --- what a pattern covers --------------------------------------------------------------------------------------------

TEMPLATES = [
    ("/report", ["/report"]),
    ("/agents/{name}", ["/agents/a", "/agents/a.b-c", "/agents/%C3%BC", "/agents/a b"]),
    ("/agents/{name:str}", ["/agents/a"]),
    ("/pages/{number:int}", ["/pages/1", "/pages/007"]),
    ("/rates/{value:float}", ["/rates/1.5", "/rates/1"]),
    ("/jobs/{id:uuid}", [f"/jobs/{uuid.UUID(int=7)}"]),
    ("/files/{rest:path}", ["/files/", "/files/a", "/files/a/b/../c"]),
    ("/a/{one}/b/{two:int}", ["/a/x/b/2"]),
    ("/a.b/{x}", ["/a.b/c"]),
]


@pytest.mark.parametrize(("template", "paths"), TEMPLATES, ids=[template for template, _ in TEMPLATES])
def test_whatever_the_router_routes_to_paid_work_the_gate_stops(template: str, paths: list[str]) -> None:
    """A path that reaches the handler and not the gate is free work."""
    route = Route(template, paid(requirement())(work), methods=["GET"])
    gates = priced_routes([route])
    assert {gate.pattern for gate in gates} == {f"GET {template}", f"HEAD {template}"}
    for path in paths:
        scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
        assert route.matches(scope)[0] is Match.FULL, path
        assert any(gate.match("GET", path) is not None for gate in gates), path
        assert all(gate.match("POST", path) is None for gate in gates), path


@given(st.sampled_from([template for template, _ in TEMPLATES]), st.text("ab/.1-\n%é{}", max_size=12))
def test_no_path_reaches_a_handler_past_its_gate(template: str, tail: str) -> None:
    route = Route(template, paid(requirement())(work), methods=["GET"])
    path = re.sub(r"\{.*", "", template) + tail
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    if route.matches(scope)[0] is Match.FULL:
        assert any(gate.match("GET", path) is not None for gate in priced_routes([route]))


def test_parameters_come_out_by_name() -> None:
    gate = PricedRoute("POST /a/{one}/b/{two:int}/{rest:path}", [requirement()])
    assert gate.match("POST", "/a/x/b/2/y/z") == {"one": "x", "two": "2", "rest": "y/z"}
    assert PricedRoute("/free", [requirement()]).match("BREW", "/free") == {}


@pytest.mark.parametrize("path", ["/report/", "/Report", "/reports", "/x/report", "//report", "", "/report?x=1"])
def test_a_neighbouring_path_is_not_priced(path: str) -> None:
    assert PricedRoute("GET /report", [requirement()]).match("GET", path) is None


def test_marks_are_found_in_apps_inside_apps_and_only_there() -> None:
    deep = Mount("/deep", Starlette(routes=[Route("/{n:int}", paid(requirement())(work), methods=["POST"])]))
    app = Starlette(routes=[Mount("/api", Starlette(routes=[deep])), Route("/free", lambda _request: None)])
    assert [gate.pattern for gate in priced_routes(app.routes)] == ["POST /api/deep/{n:int}"]


def test_a_mark_keeps_what_it_was_given() -> None:
    mark = paid([requirement()], description="d", mime_type="text/csv", streaming=True, identifier_required=True)
    marked = mark(work)
    (gate, _head) = sorted(priced_routes([Route("/r", marked)]), key=lambda found: found.pattern)
    assert (gate.description, gate.mime_type, gate.streaming, gate.identifier_required) == ("d", "text/csv", True, True)


def test_a_route_without_any_way_to_pay_is_a_mistake() -> None:
    with pytest.raises(InvalidInput, match="at least one requirement"):
        PricedRoute("GET /report", [])


# --- what a 402 says --------------------------------------------------------------------------------------------------

GOLDEN_V1 = (
    '{"x402Version":1,"accepts":[{"scheme":"exact","network":"eip155:31337","maxAmountRequired":"20000",'
    '"resource":"https://shop.example/report","description":"A report","mimeType":"application/json",'
    '"payTo":"PAYEE","maxTimeoutSeconds":60,"asset":"TOKEN","extra":{"name":"USD Coin","version":"2"}}],'
    '"error":"payment required"}'
)


def priced(**more: object) -> PricedRoute:
    price = exact(Money(USDC, 20_000), PAYEE, domain_name="USD Coin", domain_version="2")
    return PricedRoute("GET /report", [price], description="A report", **more)  # type: ignore[arg-type]


def decoded(header: bytes) -> dict[str, object]:
    found = json.loads(base64.b64decode(header))
    assert isinstance(found, dict)
    return found


def test_the_v1_body_is_this_to_the_key() -> None:
    route = priced()
    said = demand(route, route.price, "https://shop.example/report", "payment required")  # type: ignore[arg-type]
    expected = json.loads(GOLDEN_V1.replace("PAYEE", PAYEE).replace("TOKEN", TOKEN))
    assert json.loads(said.body) == expected


def test_the_v2_header_is_this_to_the_key() -> None:
    route = priced(identifier_required=True)
    said = decoded(demand(route, route.price, "https://shop.example/report", "why").header)  # type: ignore[arg-type]
    extensions = said.pop("extensions")
    assert said == {
        "x402Version": 2,
        "error": "why",
        "resource": {"url": "https://shop.example/report", "description": "A report", "mimeType": "application/json"},
        "accepts": [
            {
                "scheme": "exact", "network": "eip155:31337", "asset": TOKEN, "amount": "20000", "payTo": PAYEE,
                "maxTimeoutSeconds": 60, "extra": {"name": "USD Coin", "version": "2"},
            }
        ],
    }  # fmt: skip
    assert isinstance(extensions, dict)
    assert extensions["payment-identifier"]["info"] == {"required": True}


def test_addresses_get_their_checksums_whatever_their_case() -> None:
    mixed = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    for given_form in (mixed, mixed.lower(), "0x" + mixed[2:].upper()):
        asset = Asset("USDC", 6, f"eip155:1/erc20:{given_form}")
        found = exact(Money(asset, 1), given_form, domain_name="n", domain_version="1")
        assert (found.pay_to, found.asset) == (mixed, mixed)


@pytest.mark.parametrize("payee", ["", "0x", "0x12", "0x" + "g" * 40, PAYEE + "0", "bob.eth"])
def test_a_payee_that_is_no_address_is_refused_before_anybody_pays_it(payee: str) -> None:
    with pytest.raises(InvalidInput):
        exact(Money(USDC, 1), payee, domain_name="n", domain_version="1")


def test_a_static_402_is_made_once_per_address_and_the_oldest_make_room() -> None:
    cache, route = DemandCache(limit=2), priced()
    price = route.price
    first = cache.get(route, price, "https://a/1")  # type: ignore[arg-type]
    assert cache.get(route, price, "https://a/1") is first  # type: ignore[arg-type]
    assert cache.get(route, price, "https://a/2") is not first  # type: ignore[arg-type]
    cache.get(route, price, "https://a/3")  # type: ignore[arg-type]
    assert cache.get(route, price, "https://a/1") is not first  # type: ignore[arg-type]


@pytest.mark.parametrize(("body", "value"), [(b"{}", {}), (b"5", 5), (b'"\xc3\xbc"', "ü"), (b"null", None)])
def test_a_price_function_reads_the_body_as_json(body: bytes, value: object) -> None:
    assert PricedRequest("POST", "/", {}, "", {}, body).json() == value


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"nope"])
def test_a_body_that_is_no_json_is_the_clients_mistake(body: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        PricedRequest("POST", "/", {}, "", {}, body).json()
    assert refused.value.details == {"field": "body"}


# --- the exchange -----------------------------------------------------------------------------------------------------


def arriving(*messages: dict[str, object]) -> object:
    waiting = list(messages)

    async def receive() -> dict[str, object]:
        return waiting.pop(0)

    return receive


def part(body: bytes, *, more: bool = False) -> dict[str, object]:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize(
    ("parts", "limit", "whole"),
    [
        ([b""], 0, b""),
        ([b"abc"], 3, b"abc"),
        ([b"a", b"", b"bc"], 3, b"abc"),
        ([b"abc"], 2, None),
        ([b"ab", b"c"], 2, None),
    ],
)
async def test_a_body_is_read_to_its_limit_and_not_a_byte_further(
    parts: list[bytes], limit: int, whole: bytes | None
) -> None:
    messages = [part(each, more=at < len(parts) - 1) for at, each in enumerate(parts)]
    if whole is not None:
        assert await read_body(arriving(*messages), limit) == whole  # type: ignore[arg-type]
        return
    with pytest.raises(LimitExceeded) as refused:
        await read_body(arriving(*messages), limit)  # type: ignore[arg-type]
    assert refused.value.details == {"limit": "request_bytes"}


async def test_a_client_that_leaves_before_it_has_sent_all_is_no_request() -> None:
    with pytest.raises(Disconnected):
        await read_body(arriving(part(b"a", more=True), {"type": "http.disconnect"}), 10)  # type: ignore[arg-type]


async def test_a_body_is_given_again_once_and_then_the_server_speaks() -> None:
    receive = replaying(b"abc", arriving({"type": "http.disconnect"}))  # type: ignore[arg-type]
    assert await receive() == part(b"abc")
    assert await receive() == {"type": "http.disconnect"}


def test_a_payment_is_bound_to_all_of_a_request() -> None:
    base = ("POST", "/a", b"x=1", b"body")
    hashes = {request_hash(*base)}
    for at, other in enumerate(("PUT", "/b", b"x=2", b"bodY")):
        changed = [*base]
        changed[at] = other
        hashes.add(request_hash(*changed))  # type: ignore[arg-type]
    hashes |= {request_hash("POST", "/ax", b"=1", b"body"), request_hash("POST", "/a", b"", b"x=1body")}
    assert len(hashes) == 7
    assert request_hash(*base) == "sha256:" + request_hash(*base)[7:]
    assert len(request_hash(*base)) == 71


@given(st.text(max_size=9), st.binary(max_size=9), st.binary(max_size=9), st.text(max_size=9), st.binary(max_size=9))
def test_no_two_requests_share_a_binding(path: str, query: bytes, body: bytes, path2: str, query2: bytes) -> None:
    same = (path, query) == (path2, query2)
    assert (request_hash("GET", path, query, body) == request_hash("GET", path2, query2, body)) is same


def start(status: int, *headers: tuple[bytes, bytes]) -> dict[str, object]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, *, more: bool = False) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_an_answer_is_kept_without_what_belongs_to_its_connection() -> None:
    capture = Capture(100)
    headers = [(b"Content-Type", b"text/plain"), (b"Date", b"now"), (b"Connection", b"close"), (b"X-A", b"\xe9")]
    for message in (start(201, *headers), body(b"ab", more=True), body(b"c")):
        await capture.send(message)
    assert capture.complete
    assert capture.response() == StoredResponse(201, (("content-type", "text/plain"), ("x-a", "é")), b"abc")


@pytest.mark.parametrize(("size", "fits"), [(10, True), (11, False)])
async def test_an_answer_at_the_limit_is_kept_and_one_above_stops_the_handler(size: int, fits: bool) -> None:
    capture = Capture(10)
    await capture.send(start(200))
    if fits:
        await capture.send(body(b"x" * size))
        assert len(capture.response().body) == size
        return
    with pytest.raises(LimitExceeded) as refused:
        await capture.send(body(b"x" * size))
    assert capture.overflowed
    assert "max_response_bytes" in refused.value.next_step


def test_an_app_that_answers_nothing_is_a_failure() -> None:
    assert Capture(10).response().status == 500


async def test_a_stored_answer_is_sent_with_its_true_length() -> None:
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    stored = StoredResponse(200, (("content-length", "999"), ("x-a", "é")), b"abc")
    await send_response(send, stored, [(b"x-b", b"1")])  # type: ignore[arg-type]
    assert sent[0]["headers"] == [(b"x-a", b"\xe9"), (b"content-length", b"3"), (b"x-b", b"1")]
    assert sent[1]["body"] == b"abc"


@pytest.mark.parametrize(("version", "name"), [(2, "payment-response"), (1, "x-payment-response")])
def test_a_settlement_travels_under_the_name_of_the_clients_version(version: int, name: str) -> None:
    settlement = {"success": True, "transaction": "0x1", "network": "eip155:1"}
    added = with_headers(json_response(200, {}), settlement_headers(version, settlement))
    found = dict(added.headers)
    assert json.loads(base64.b64decode(found[name])) == settlement
    assert ("payment-response" in found) is (version == 2)


def test_what_is_not_done_yet_is_neither_a_demand_nor_an_outage() -> None:
    answer = unfinished("still at it", transaction="0x1")
    told = json.loads(answer.body)["error"]
    assert answer.status == 202
    assert dict(answer.headers)["retry-after"] == "1"
    assert told["details"] == {"transaction": "0x1"}
    assert "do not sign a new payment" in told["next_step"]


@pytest.mark.parametrize("error", [None, LimitExceeded("too large", limit="response_bytes")])
def test_an_answer_too_large_is_the_sellers_failure(error: LimitExceeded | None) -> None:
    answer = too_large("GET /report", error)
    assert answer.status == 500
    assert json.loads(answer.body)["error"]["details"] == {"limit": "response_bytes"}


@given(st.integers(0, 10**30))
def test_every_evm_network_has_its_chain_id(number: int) -> None:
    assert evm_chain_id(f"eip155:{number}") == number
    assert caip2(v1_name(f"eip155:{number}")) == f"eip155:{number}"


@pytest.mark.parametrize("name", sorted(V1_CHAIN_IDS))
def test_v1_names_are_words_and_no_two_share_a_chain(name: str) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
    assert [other for other, chain_id in V1_CHAIN_IDS.items() if chain_id == V1_CHAIN_IDS[name]] == [name]
