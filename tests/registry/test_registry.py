"""The registry and Bazaar over HTTP on a real database: ownership, search, paid-only ratings, discovery."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
import pytest

from agentnexus.core.clock import ManualClock, TimeOrderedIds
from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset
from agentnexus.core.offers import Need, Offer
from agentnexus.markets.x402.discover import BazaarSource, RegistrySource
from agentnexus.markets.x402.registry.app import registry_app
from agentnexus.markets.x402.registry.ownership import sign_request
from agentnexus.markets.x402.registry.store import RegistryStore
from agentnexus.markets.x402.wire import encode_header
from agentnexus.platform.database import Database
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.proofs import ProvenPayment
from agentnexus.rails.evm.signer import LocalSigner

NETWORK = "eip155:31337"
TOKEN = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
USDC = Asset("USDC", 6, f"{NETWORK}/erc20:{TOKEN}")
ALICE, BOB, CAROL = (LocalSigner(bytes([n]) * 32, NetworkKind.LOCAL) for n in (1, 2, 3))


@dataclass
class World:
    client: httpx.AsyncClient
    clock: ManualClock
    paid: dict[tuple[str, ...], ProvenPayment] = field(default_factory=dict)
    answers: dict[str, httpx.Response] = field(default_factory=dict)

    async def send(self, signer: LocalSigner, method: str, path: str, body: object) -> httpx.Response:
        raw = json.dumps(body).encode()
        headers = await sign_request(signer, method, path, raw, self.clock.now())
        return await self.client.request(method, path, content=raw, headers=headers)

    def pay(self, transaction: str, payer: LocalSigner, amount: int = 20_000, **more: object) -> None:
        """A payment to Alice that the chain has, made now."""
        facts = {"asset": TOKEN, "amount": amount, "returned": 0, "at": self.clock.now()} | more
        self.paid[NETWORK, transaction, payer.public_id, ALICE.public_id] = ProvenPayment(**facts)  # type: ignore[arg-type]  # as above

    async def rate(self, identifier: str, transaction: str, payer: LocalSigner = BOB) -> httpx.Response:
        body = {"rating": 5, "transaction": transaction, "network": NETWORK}
        self.clock.advance(1)  # another second is another signature
        return await self.send(payer, "POST", f"/services/{identifier}/rate", body)

    async def register(self, signer: LocalSigner = ALICE, **changes: object) -> httpx.Response:
        return await self.send(signer, "POST", "/services/register", entry(signer, **changes))


def accept(signer: LocalSigner, amount: str = "20000", network: str = NETWORK) -> dict[str, object]:
    return {"scheme": "exact", "network": network, "asset": TOKEN, "amount": amount, "payTo": signer.public_id}


def entry(signer: LocalSigner, **changes: object) -> dict[str, object]:
    return {
        "url": "http://seller.test/x402/agents/pdf",
        "name": "PDF extractor",
        "description": "Text and tables of PDF files",
        "category": "data-analysis",
        "ownerWalletAddress": signer.public_id,
        "pricePerCall": "0.02",
        "accepts": [accept(signer)],
        "capabilities": ["pdf.extract"],
        "inputSchema": json.dumps({"type": "object", "required": ["file"]}),
        "outputSchema": {"type": "object"},
        "tags": ["pdf"],
    } | changes


@pytest.fixture
async def world(database: Database, clock: ManualClock) -> AsyncIterator[World]:
    world = World(client=httpx.AsyncClient(), clock=clock)

    async def paid(*proof: str) -> ProvenPayment | None:
        return world.paid.get(proof)

    def answer(request: httpx.Request) -> httpx.Response:
        if str(request.url) not in world.answers:
            raise httpx.ConnectError("refused")
        return world.answers[str(request.url)]

    app = registry_app(
        RegistryStore(database),
        clock=clock,
        ids=TimeOrderedIds(),
        paid=paid,
        probe=httpx.AsyncClient(transport=httpx.MockTransport(answer)),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://registry.test") as client:
        world.client = client
        yield world


async def test_a_registered_service_is_found_with_every_name_the_field_uses(world: World) -> None:
    made = await world.register()
    assert made.status_code == 201
    found = (await world.client.get("/services/discover", params={"query": "tables"})).json()
    assert [service["id"] for service in found] == [made.json()["id"]]
    service = found[0]
    assert service["reputation"] == service["reputationScore"]
    assert service["uptime"] == service["uptimePercentage"] == 100
    assert service["averageLatency"] == service["averageResponseTimeMs"] == 0
    assert service["pricePerCall"] == "0.02"
    assert json.loads(service["inputSchema"])["required"] == ["file"]
    assert (await world.client.get("/services")).json() == found
    assert (await world.client.get(f"/services/{service['id']}")).json()["url"] == service["url"]
    assert (await world.client.get("/categories")).json() == ["data-analysis"]
    assert (await world.client.get(f"/services/owner/{ALICE.public_id.upper()}")).json()[0]["id"] == service["id"]
    assert (await world.client.get("/health")).json()["status"] == "ok"


async def test_registering_again_updates_and_a_stranger_cannot_take_the_address(world: World) -> None:
    first = (await world.register()).json()["id"]
    world.clock.advance(1)
    again = await world.register(name="PDF extractor 2")
    assert (again.json()["id"], again.json()["name"]) == (first, "PDF extractor 2")
    stolen = await world.register(BOB)
    assert stolen.status_code == 409


@pytest.mark.parametrize("missing", ["X-Owner-Address", "X-Owner-Time", "X-Owner-Signature"])
async def test_an_unsigned_registration_is_refused(world: World, missing: str) -> None:
    raw = json.dumps(entry(ALICE)).encode()
    headers = await sign_request(ALICE, "POST", "/services/register", raw, world.clock.now())
    del headers[missing]
    answer = await world.client.post("/services/register", content=raw, headers=headers)
    assert answer.status_code == 403
    assert "must be signed" in answer.json()["error"]["message"]


async def test_a_signature_covers_body_path_time_and_is_good_once(world: World) -> None:
    raw = json.dumps(entry(ALICE)).encode()
    headers = await sign_request(ALICE, "POST", "/services/register", raw, world.clock.now())
    changed = await world.client.post("/services/register", content=raw + b" ", headers=headers)
    assert changed.status_code == 403
    assert (await world.client.post("/services/register", content=raw, headers=headers)).status_code == 201
    replayed = await world.client.post("/services/register", content=raw, headers=headers)
    assert (replayed.status_code, replayed.json()["error"]["code"]) == (409, "conflict")
    world.clock.advance(301)
    late = await world.client.post("/services/register", content=raw, headers=headers)
    assert "too old" in late.json()["error"]["message"]


@pytest.mark.parametrize("signature", ["", "0x", "0x" + "00" * 65, "0x" + "zz" * 65, "0x" + "ff" * 65])
async def test_malformed_signatures_are_refused(world: World, signature: str) -> None:
    raw = json.dumps(entry(ALICE)).encode()
    headers = await sign_request(ALICE, "POST", "/services/register", raw, world.clock.now())
    headers["X-Owner-Signature"] = signature
    assert (await world.client.post("/services/register", content=raw, headers=headers)).status_code == 403


async def test_one_cannot_register_for_another_owner_or_payee(world: World) -> None:
    assert (await world.register(ownerWalletAddress=BOB.public_id)).status_code == 403
    other = entry(BOB)["accepts"]
    answer = await world.register(accepts=other)
    assert "pays somebody else" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("field_name", "value"),
    [
        ("url", "ftp://x"),
        ("url", "http://user:pw@x/"),
        ("name", ""),
        ("name", "n" * 101),
        ("description", "d" * 1001),
        ("pricePerCall", 0),
        ("pricePerCall", "NaN"),
        ("pricingModel", "FREE"),
        ("accepts", []),
        ("inputSchema", "{not json"),
        ("inputSchema", "[" * 70_000),
        ("capabilities", [""]),
        ("tags", ["t"] * 51),
    ],
)
async def test_a_bad_field_is_named(world: World, field_name: str, value: object) -> None:
    answer = await world.register(**{field_name: value})
    assert answer.status_code == 400
    fields = answer.json()["error"]["details"]["fields"]
    assert any(problem["field"].startswith(field_name) for problem in fields)


async def test_bodies_that_are_no_json_or_too_large_are_refused(world: World) -> None:
    headers = await sign_request(ALICE, "POST", "/services/register", b"{", world.clock.now())
    assert (await world.client.post("/services/register", content=b"{", headers=headers)).status_code == 400
    large = await world.client.post("/services/register", content=b" " * 300_000)
    assert large.status_code == 413


async def test_only_the_owner_changes_a_service_and_a_paused_one_is_not_found(world: World) -> None:
    identifier = (await world.register()).json()["id"]
    path = f"/services/{identifier}"
    assert (await world.send(BOB, "PATCH", path, {"status": "PAUSED"})).status_code == 403
    assert (await world.send(ALICE, "PATCH", path, {"owner": "x"})).status_code == 400
    paused = await world.send(ALICE, "PATCH", path, {"status": "PAUSED"})
    assert paused.json()["status"] == "PAUSED"
    assert (await world.client.get("/services/discover")).json() == []
    assert (await world.client.get("/services/nobody")).status_code == 404


async def test_a_rating_needs_a_payment_of_the_rater_and_counts_once(world: World) -> None:
    identifier = (await world.register()).json()["id"]
    path, body = f"/services/{identifier}/rate", {"rating": 5, "transaction": "0xaa", "network": NETWORK}
    unpaid = await world.send(BOB, "POST", path, body)
    assert unpaid.status_code == 403
    world.pay("0xaa", BOB)
    assert (await world.send(CAROL, "POST", path, body)).status_code == 403
    world.clock.advance(1)
    assert (await world.send(BOB, "POST", path, body)).json() == {"success": True, "newAverageRating": 5.0}
    world.clock.advance(1)
    assert (await world.send(BOB, "POST", path, body)).status_code == 409
    world.clock.advance(1)
    own = await world.send(ALICE, "POST", path, body)
    assert "do not rate themselves" in own.json()["error"]["message"]
    stats = (await world.client.get(f"/services/{identifier}/stats")).json()
    assert (stats["totalCalls"], stats["totalRatings"], len(stats["ratings"])) == (1, 1, 1)
    assert stats["ratings"][0]["payer"] == BOB.public_id


async def test_only_a_payment_of_the_listed_price_that_was_kept_rates(world: World) -> None:
    identifier = (await world.register()).json()["id"]
    world.pay("0x01", BOB, 19_999)
    world.pay("0x02", BOB, asset="0x" + "99" * 20)
    world.pay("0x03", BOB, returned=20_000)
    world.pay("0x04", BOB, returned=19_999)
    world.pay("0x05", BOB, 25_000)
    for transaction, words in (
        ("0x01", "cost 20000 atomic units then, not 19999"),
        ("0x02", "takes another token"),
        ("0x03", "sent back"),
    ):
        refused = await world.rate(identifier, transaction)
        assert refused.status_code == 403
        assert words in refused.json()["error"]["message"]
        assert refused.json()["error"]["next_step"]
    for transaction in ("0x04", "0x05"):
        assert (await world.rate(identifier, transaction)).status_code == 200
    assert (await world.client.get(f"/services/{identifier}")).json()["totalRatings"] == 2


async def test_a_payment_is_measured_by_the_price_of_its_own_time(world: World) -> None:
    """Else a seller would raise its price to be rid of bad ratings, or lower it to have friends rate for dust."""
    identifier = (await world.register()).json()["id"]
    world.clock.advance(3600)
    world.pay("0x01", BOB)
    world.clock.advance(60)
    await world.register(accepts=[accept(ALICE, "50000")], pricePerCall="0.05")
    world.pay("0x02", BOB)  # saw the old price a minute ago
    world.clock.advance(3600)
    world.pay("0x03", BOB)  # long after the change
    world.clock.advance(1)
    await world.register(accepts=[accept(ALICE, "1")], pricePerCall="0.000001")
    world.clock.advance(3600)
    await world.register(accepts=[accept(ALICE, "50000")], pricePerCall="0.05")
    world.clock.advance(3600)
    world.pay("0x04", BOB, 1)
    world.pay("0x05", BOB, at=world.clock.now() - timedelta(days=3))  # before it was registered here
    names = [f"0x0{number}" for number in range(1, 6)]
    assert [(await world.rate(identifier, name)).status_code for name in names] == [200, 200, 403, 403, 200]


async def test_of_several_prices_in_one_token_the_least_counts_and_announcing_again_changes_none(
    world: World, database: Database
) -> None:
    terms = [accept(ALICE, "30000"), accept(ALICE, "10000"), accept(ALICE, "7", network="eip155:1")]
    identifier = (await world.register(accepts=terms)).json()["id"]
    for _ in range(2):
        world.clock.advance(60)
        await world.register(accepts=terms)
    async with database.connection() as connection:
        rows = await connection.fetch("select network, amount::int from registry.price order by amount")
    assert [tuple(row) for row in rows] == [("eip155:1", 7), (NETWORK, 10_000)]
    world.pay("0x01", BOB, 9_999)
    world.pay("0x02", BOB, 10_000)
    assert (await world.rate(identifier, "0x01")).status_code == 403
    assert (await world.rate(identifier, "0x02")).status_code == 200


async def test_one_transaction_rates_one_service_of_its_payee(world: World) -> None:
    first = (await world.register()).json()["id"]
    world.clock.advance(1)
    second = (await world.register(url="http://seller.test/x402/agents/other")).json()["id"]
    world.pay("0x01", BOB)
    assert (await world.rate(first, "0x01")).status_code == 200
    for identifier in (first, second):
        assert (await world.rate(identifier, "0x01")).status_code == 409


async def test_pages_are_cut_after_sorting(world: World) -> None:
    for number, price in enumerate(("0.05", "0.01", "0.03")):
        world.clock.advance(1)
        await world.register(url=f"http://s{number}.test/", pricePerCall=price)
    seen = []
    for offset in range(3):
        page = await world.client.get("/services/discover", params={"sortBy": "price", "limit": 1, "offset": offset})
        assert page.headers["X-Total-Count"] == "3"
        seen += [service["pricePerCall"] for service in page.json()]
    assert seen == ["0.01", "0.03", "0.05"]


async def test_filters_narrow_the_search(world: World) -> None:
    await world.register()
    for parameters, count in (
        ({"category": "data-analysis"}, 1),
        ({"category": "x"}, 0),
        ({"capability": "pdf.extract"}, 1),
        ({"capability": "x"}, 0),
        ({"maxPrice": "0.019"}, 0),
        ({"minReputation": "7000"}, 1),
        ({"minReputation": "9999"}, 0),
        ({"minUptime": "99"}, 1),
        ({"tags": "pdf,other"}, 1),
        ({"tags": "other"}, 0),
        ({"network": NETWORK}, 1),
        ({"network": "eip155:1"}, 0),
        ({"query": "nothing like it"}, 0),
    ):
        assert len((await world.client.get("/services/discover", params=parameters)).json()) == count, parameters
    assert (await world.client.get("/services/discover", params={"limit": "0"})).status_code == 400


async def test_a_service_is_verified_only_when_its_own_402_pays_the_owner(world: World) -> None:
    identifier = (await world.register()).json()["id"]
    url, path = "http://seller.test/x402/agents/pdf", f"/services/{identifier}/verify"
    assert (await world.client.post(path)).status_code == 502
    world.answers[url] = httpx.Response(200)
    assert "did not answer 402" in (await world.client.post(path)).json()["error"]["message"]

    def required(payee: str) -> httpx.Response:
        accept = {"scheme": "exact", "network": NETWORK, "asset": TOKEN, "amount": "1", "payTo": payee}
        accept_with_time = accept | {"maxTimeoutSeconds": 60}
        body = {"x402Version": 2, "resource": {"url": url}, "accepts": [accept_with_time]}
        return httpx.Response(402, headers={"PAYMENT-REQUIRED": encode_header(body)}, json={})

    world.answers[url] = required(BOB.public_id)
    assert (await world.client.post(path)).status_code == 403
    world.answers[url] = required(ALICE.public_id)
    assert (await world.client.post(path)).json()["verified"] is True


async def _collect(source: RegistrySource | BazaarSource, need: Need) -> list[Offer]:
    return [offer async for offer in source.discover(need)]


@pytest.mark.parametrize("kind", [RegistrySource, BazaarSource])
async def test_both_doors_give_the_same_offer(world: World, kind: type[RegistrySource | BazaarSource]) -> None:
    await world.register()
    source = kind("http://registry.test/", world.client, world.clock, {USDC.caip19: USDC})
    (offer,) = await _collect(source, Need(capability="pdf.extract"))
    assert offer.capability.name == "pdf.extract"
    assert offer.capability.input_schema == {"type": "object", "required": ["file"]}
    assert offer.price.maximum == USDC.parse("0.02")
    assert offer.seller.key == f"evm:{ALICE.public_id}"
    assert offer.rails[0]["payTo"] == ALICE.public_id
    assert offer.reputation.score == 3.5 and offer.reputation.count == 0
    assert offer.id == (await _collect(source, Need()))[0].id
    assert await _collect(source, Need(capability="other")) == []


async def test_all_pages_are_read(world: World) -> None:
    for number in range(101):
        world.clock.advance(1)
        assert (await world.register(url=f"http://s{number}.test/")).status_code == 201
    source = RegistrySource("http://registry.test", world.client, world.clock, {USDC.caip19: USDC})
    assert len(await _collect(source, Need())) == 101


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"url": "http://x"},
        {"url": "http://x", "owner": "0x1", "accepts": "none"},
        {"url": "http://x", "owner": "0x1", "accepts": [{"network": "eip155:1", "asset": "0x2", "amount": "1"}]},
        {"url": "http://x", "owner": "0x1", "accepts": [{"network": NETWORK, "asset": TOKEN, "amount": "-5"}]},
        {"url": "http://x", "owner": "0x1", "accepts": [{"network": NETWORK, "asset": TOKEN, "amount": "0.5"}]},
        {"url": "http://x", "owner": "0x1", "accepts": [5]},
    ],
)
async def test_an_entry_that_cannot_be_paid_is_dropped_and_the_good_one_stays(
    clock: ManualClock, bad: dict[str, object]
) -> None:
    good = entry(ALICE) | {"extraneous": 1}
    client = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _request: httpx.Response(200, json={"services": [bad, good, 7]}))
    )
    source = RegistrySource("http://r.test", client, clock, {USDC.caip19: USDC})
    assert [offer.endpoint for offer in await _collect(source, Need())] == [good["url"]]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, json={"x": 1}),
        httpx.Response(200, content=b"[" + b" " * (5 * 1024 * 1024) + b"]"),
        httpx.Response(200, content=b"[" * 100_000),
    ],
)
async def test_a_broken_source_is_unavailable(clock: ManualClock, answer: httpx.Response) -> None:
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: answer))
    with pytest.raises(Unavailable):
        await _collect(BazaarSource("http://r.test", client, clock, {}), Need())


async def test_a_dead_source_is_unavailable(clock: ManualClock) -> None:
    source = RegistrySource("http://127.0.0.1:1", httpx.AsyncClient(), clock, {})
    with pytest.raises(Unavailable, match="does not answer"):
        await _collect(source, Need())


async def test_verifying_tells_strangers_nothing_and_reads_no_more_than_terms(world: World) -> None:
    """Anybody may register any address and have it asked: the answer must not show what is behind it."""
    path = f"/services/{(await world.register()).json()['id']}/verify"
    told = set()
    for inside in (httpx.Response(200, text="admin password: 1"), httpx.Response(500), httpx.Response(302)):
        world.answers["http://seller.test/x402/agents/pdf"] = inside
        told.add((await world.client.post(path)).json()["error"]["message"])
    assert told == {"the service did not answer 402 to an unpaid call"}

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    world.answers["http://seller.test/x402/agents/pdf"] = httpx.Response(402, content=endless())
    answer = await world.client.post(path)
    assert (answer.status_code, answer.json()["error"]["message"]) == (502, "the service answers too much")


async def test_a_node_that_moved_keeps_its_entries_with_their_ratings(world: World, database: Database) -> None:
    old, new = "http://seller.test/", "http://elsewhere.test:5000/"
    first = (await world.register()).json()
    await world.register(BOB, url="http://other.test/x402/agents/pdf", name="Another")
    await world.register(url="http://seller.test/x402/agents/twice", name="Twice")
    await world.register(url="http://elsewhere.test:5000/x402/agents/twice", name="Twice")
    store = RegistryStore(database)
    assert await store.move(old, new) == 1
    assert (await store.get(first["id"])).registration.url == "http://elsewhere.test:5000/x402/agents/pdf"
    urls = sorted(entry["url"] for entry in (await world.client.get("/services/discover")).json())
    assert urls == [
        "http://elsewhere.test:5000/x402/agents/pdf",
        "http://elsewhere.test:5000/x402/agents/twice",
        "http://other.test/x402/agents/pdf",
    ]
    assert await store.move(old, new) == 0


async def test_who_squats_an_address_gives_way_to_whom_it_pays(world: World) -> None:
    squat = (await world.register(BOB)).json()["id"]
    assert (await world.register(ALICE)).status_code == 409  # nobody answers there yet
    terms = {"x402Version": 2, "resource": {"url": entry(ALICE)["url"]}, "accepts": entry(ALICE)["accepts"]}
    for accept in terms["accepts"]:  # type: ignore[attr-defined]  # JSON
        accept |= {"maxTimeoutSeconds": 60, "extra": {}}
    answer = httpx.Response(402, headers={"PAYMENT-REQUIRED": encode_header(terms)})

    world.answers[str(entry(ALICE)["url"])] = answer
    world.clock.advance(1)
    assert (await world.register(CAROL)).status_code == 409  # it does not pay her either
    taken = await world.register(ALICE)

    assert (taken.status_code, taken.json()["owner"]) == (201, ALICE.public_id)
    assert (await world.client.get(f"/services/{squat}")).status_code == 404
    assert (await world.register(BOB)).status_code == 409
