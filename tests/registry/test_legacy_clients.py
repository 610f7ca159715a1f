"""Older registry clients, each written from its documented shapes, against our registry over HTTP.

Only the signature is added to their calls: without it they are refused and told what to send.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import httpx
import pytest
from pydantic import BaseModel, Field

from agentnexus.markets.x402.wire import encode_header
from agentnexus.rails.evm.signer import LocalSigner
from tests.registry.test_registry import ALICE, BOB, NETWORK, TOKEN, World, accept

URL = "http://seller.test/x402/agents/pdf"
Json = dict[str, object]


# --- the clients ------------------------------------------------------------------------------------------------------


class ScriptAccept(BaseModel):
    scheme: str
    network: str
    asset: str
    maxAmountRequired: str


class ScriptPricing(BaseModel):
    amount: Decimal
    asset: str
    network: str


class ScriptService(BaseModel):
    """What the JavaScript SDK reads."""

    id: str
    resource: str
    name: str
    category: str
    pricing: ScriptPricing
    accepts: list[ScriptAccept] = Field(min_length=1)
    reputationScore: int
    uptimePercentage: float


class GradientService(BaseModel):
    """What the gradient registry client reads."""

    id: str
    url: str
    reputation: int
    uptime: float
    averageLatency: int
    totalCalls: int
    updatedAt: str


class ReasoningService(BaseModel):
    """What the reasoning engine reads."""

    id: str
    url: str
    owner: str
    currency: str
    pricePerCall: Decimal
    averageResponseTime: int
    verified: bool
    inputSchema: str | None
    outputSchema: str | None


@dataclass
class ScriptClient:
    http: httpx.AsyncClient

    async def discover(self, **query: str) -> list[ScriptService]:
        found = (await self.http.get("/services/discover", params=query)).raise_for_status().json()
        return [ScriptService.model_validate(each) for each in found]


@dataclass
class GradientClient:
    http: httpx.AsyncClient

    async def service(self, identifier: str) -> GradientService:
        return GradientService.model_validate(
            (await self.http.get(f"/services/{identifier}")).raise_for_status().json()
        )


@dataclass
class ReasoningClient:
    http: httpx.AsyncClient

    async def in_category(self, category: str) -> list[ReasoningService]:
        found = (await self.http.get("/services", params={"category": category})).raise_for_status().json()
        listed = found["services"] if isinstance(found, dict) else found
        return [ReasoningService.model_validate(each) for each in listed]


@dataclass
class TemplateClient:
    """The Python seller template; `signer` is the one thing that it has to learn."""

    world: World
    signer: LocalSigner

    def body(self, **changes: object) -> Json:
        return {
            "url": URL,
            "name": "PDF extractor",
            "description": "Text of PDF files",
            "pricing": {"amount": 0.02, "asset": TOKEN, "network": NETWORK},
            "walletAddress": self.signer.public_id,
            "network": NETWORK,
            "metadata": {"category": "documents", "tags": ["pdf"], "capabilities": ["pdf.extract"], "version": "1.2"},
        } | changes

    async def register(self, **changes: object) -> tuple[str, Json]:
        made = await self.world.send(self.signer, "POST", "/services/register", self.body(**changes))
        answer = made.raise_for_status().json()
        return answer["serviceId"], answer["service"]

    async def update(self, identifier: str, body: object) -> httpx.Response:
        self.world.clock.advance(1)
        return await self.world.send(self.signer, "PUT", f"/services/{identifier}", body)

    async def set_status(self, identifier: str, status: object) -> httpx.Response:
        self.world.clock.advance(1)
        return await self.world.send(self.signer, "PATCH", f"/services/{identifier}/status", {"status": status})


def asks(world: World, *accepts: Json, status: int = 402) -> None:
    """The service itself answers unpaid calls with these terms."""
    timed = [{"maxTimeoutSeconds": 60} | each for each in accepts]
    terms = {"x402Version": 2, "accepts": timed, "resource": {"url": URL}}
    world.answers[URL] = httpx.Response(status, headers={"payment-required": encode_header(terms)})


@pytest.fixture
def template(world: World) -> TemplateClient:
    asks(world, accept(ALICE))
    return TemplateClient(world, ALICE)


# --- buyers -----------------------------------------------------------------------------------------------------------


async def test_the_javascript_sdk_reads_prices_and_terms(world: World) -> None:
    await world.register()
    (found,) = await ScriptClient(world.client).discover(query="tables", sortBy="value", limit="5")
    assert (found.resource, found.pricing.amount, found.pricing.asset) == (URL, Decimal("0.02"), TOKEN)
    assert (found.accepts[0].maxAmountRequired, found.accepts[0].network) == ("20000", NETWORK)
    assert (found.uptimePercentage, found.reputationScore) == (100, 7000)


async def test_the_gradient_client_reads_figures(world: World) -> None:
    identifier = (await world.register()).json()["id"]
    world.pay("0x01", BOB)
    assert (await world.rate(identifier, "0x01")).status_code == 200
    found = await GradientClient(world.client).service(identifier)
    assert (found.totalCalls, found.uptime, found.averageLatency) == (1, 100, 0)
    assert 7000 < found.reputation <= 10_000


async def test_the_reasoning_engine_lists_a_category_and_no_other(world: World) -> None:
    await world.register()
    client = ReasoningClient(world.client)
    (found,) = await client.in_category("data-analysis")
    assert (found.owner, found.currency, found.pricePerCall) == (ALICE.public_id.lower(), "USDC", Decimal("0.02"))
    assert (found.verified, found.averageResponseTime) == (False, 0)
    assert await client.in_category("weather") == []


async def test_a_service_that_is_not_there_is_404_with_an_error(world: World) -> None:
    answer = await world.client.get("/services/svc_none")
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "Service not found")


# --- sellers ----------------------------------------------------------------------------------------------------------


async def test_the_python_template_registers_with_the_terms_of_its_own_402(template: TemplateClient) -> None:
    identifier, service = await template.register()
    assert service["serviceId"] == service["id"] == identifier
    assert (service["pricePerCall"], service["category"], service["tags"]) == ("0.02", "documents", ["pdf"])
    assert (service["capabilities"], service["extra"]) == (["pdf.extract"], {"version": "1.2"})
    (found,) = await ScriptClient(template.world.client).discover(category="documents")
    assert (found.id, found.accepts[0].maxAmountRequired) == (identifier, "20000")


@pytest.mark.parametrize("name", ["resource", "endpoint"])
async def test_the_address_may_have_an_older_name(template: TemplateClient, name: str) -> None:
    body = {key: value for key, value in template.body().items() if key != "url"} | {name: URL}
    made = await template.world.send(ALICE, "POST", "/services/register", body)
    assert made.status_code == 201, made.text
    assert made.json()["service"]["url"] == URL


async def test_a_plain_number_is_a_price_and_our_own_names_win(template: TemplateClient) -> None:
    _, service = await template.register(pricing=0.5, pricePerCall="0.25", category="texts")
    assert (service["pricePerCall"], service["category"]) == ("0.25", "texts")
    template.world.clock.advance(1)
    _, service = await template.register(pricing=0.5)
    assert service["pricePerCall"] == "0.5"


async def test_without_terms_or_a_402_a_registration_is_told_to_send_accepts(world: World) -> None:
    made = await world.send(ALICE, "POST", "/services/register", TemplateClient(world, ALICE).body())
    assert made.status_code == 400
    assert "accepts is missing" in made.json()["error"]["message"]
    assert "send accepts" in made.json()["error"]["next_step"]


async def test_a_service_that_is_free_has_no_terms_to_list(world: World) -> None:
    asks(world, accept(ALICE), status=200)
    made = await world.send(ALICE, "POST", "/services/register", TemplateClient(world, ALICE).body())
    assert made.status_code == 400
    assert "402" in made.json()["error"]["message"]


async def test_a_402_that_pays_somebody_else_lists_nothing(world: World) -> None:
    asks(world, accept(BOB))
    made = await world.send(ALICE, "POST", "/services/register", TemplateClient(world, ALICE).body())
    assert (made.status_code, made.json()["error"]["message"]) == (403, "accepts pays somebody else")


async def test_a_402_without_terms_is_no_registration(world: World) -> None:
    asks(world)
    made = await world.send(ALICE, "POST", "/services/register", TemplateClient(world, ALICE).body())
    assert (made.status_code, made.json()["error"]["details"]["field"]) == (400, "accepts")
    assert "accepts is missing" in made.json()["error"]["message"]


async def test_a_wallet_that_is_not_the_signers_is_refused(template: TemplateClient) -> None:
    body = template.body(walletAddress=BOB.public_id)
    made = await template.world.send(ALICE, "POST", "/services/register", body)
    assert made.status_code == 403


@pytest.mark.parametrize("body", [[], "x", 5, None])
async def test_a_body_that_is_no_object_is_refused(world: World, body: object) -> None:
    made = await world.send(ALICE, "POST", "/services/register", body)
    assert (made.status_code, made.json()["error"]["message"]) == (400, "the body is not an object")


async def test_put_keeps_what_the_body_leaves_out(template: TemplateClient) -> None:
    identifier, before = await template.register()
    answer = (await template.update(identifier, {"name": "PDF reader"})).raise_for_status().json()
    assert (answer["serviceId"], answer["service"]["name"]) == (identifier, "PDF reader")
    for name in ("url", "category", "tags", "capabilities", "accepts", "pricePerCall", "extra", "owner"):
        assert answer["service"][name] == before[name]


async def test_put_of_a_new_price_reads_the_terms_again(template: TemplateClient) -> None:
    identifier, _ = await template.register()
    asks(template.world, accept(ALICE, amount="30000"))
    answer = await template.update(identifier, template.body(pricing={"amount": "0.03"}))
    service = answer.raise_for_status().json()["service"]
    assert (service["pricePerCall"], service["accepts"][0]["amount"]) == ("0.03", "30000")


async def test_put_moves_nothing_to_another_address_or_owner(template: TemplateClient) -> None:
    identifier, _ = await template.register()
    moved = await template.update(identifier, {"url": "http://other.test/a", "accepts": [accept(ALICE)]})
    assert (moved.status_code, moved.json()["error"]["message"]) == (400, "a service keeps its address")
    stranger = await TemplateClient(template.world, BOB).update(identifier, {"name": "mine"})
    assert stranger.status_code == 403
    given = await template.update(identifier, {"walletAddress": BOB.public_id, "ownerWalletAddress": BOB.public_id})
    assert given.status_code == 403


@pytest.mark.parametrize(
    ("word", "status"),
    [("inactive", "PAUSED"), ("paused", "PAUSED"), ("DISABLED", "PAUSED"), ("retired", "DEPRECATED")],
)
async def test_a_status_is_set_in_any_of_its_words_and_back(template: TemplateClient, word: str, status: str) -> None:
    identifier, _ = await template.register()
    assert (await template.set_status(identifier, word)).json()["status"] == status
    assert (await template.world.client.get("/services")).json() == []
    assert (await template.set_status(identifier, "active")).json()["status"] == "ACTIVE"
    assert len((await template.world.client.get("/services")).json()) == 1


@pytest.mark.parametrize("word", ["", "sold", None, 5, ["ACTIVE"]])
async def test_a_status_nobody_knows_is_refused_by_name(template: TemplateClient, word: object) -> None:
    identifier, _ = await template.register()
    answer = await template.set_status(identifier, word)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["fields"][0]["field"] == "status"


async def test_capabilities_are_changed_and_found(world: World) -> None:
    identifier = (await world.register()).json()["id"]
    await world.send(ALICE, "PATCH", f"/services/{identifier}", {"capabilities": ["pdf.tables"]})
    found = (await world.client.get("/services/discover", params={"capability": "pdf.tables"})).json()
    assert [each["id"] for each in found] == [identifier]


# --- what no older client can do without the owner's key --------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/services/register"),
        ("PUT", "/services/{}"),
        ("PATCH", "/services/{}"),
        ("PATCH", "/services/{}/status"),
    ],
)
async def test_an_unsigned_call_of_a_template_is_refused_and_told_what_to_sign(
    template: TemplateClient, method: str, path: str
) -> None:
    identifier, before = await template.register()
    body = template.body(name="Taken", status="PAUSED")
    answer = await template.world.client.request(method, path.format(identifier), json=body)
    assert answer.status_code == 403
    assert "must be signed" in answer.json()["error"]["message"]
    for header in ("X-Owner-Address", "X-Owner-Time", "X-Owner-Signature"):
        assert header in answer.json()["error"]["next_step"]
    kept = (await template.world.client.get(f"/services/{identifier}")).json()
    assert (kept["name"], kept["status"]) == (before["name"], "ACTIVE")


async def test_a_rating_by_word_of_mouth_counts_nothing(world: World) -> None:
    identifier = (await world.register()).json()["id"]
    legacy = {"rating": 5, "agentAddress": BOB.public_id}
    assert (await world.client.post(f"/services/{identifier}/rate", json=legacy)).status_code == 403
    assert (await world.send(BOB, "POST", f"/services/{identifier}/rate", legacy)).status_code == 400
    assert (await world.client.get(f"/services/{identifier}")).json()["totalRatings"] == 0
