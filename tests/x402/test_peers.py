"""Foreign peers: the official Python and TypeScript packages against ours, each way round, on one real chain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp
from tests.x402.conftest import client_of
from tests.x402.peers.official import OfficialFacilitator, official_client, official_http, official_server
from tests.x402.support import PRICE, RailPurse, ScriptedFacilitator, Work, open_shop, requirement, sign, v2_payment
from x402.schemas import PaymentRequirements

from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentState
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.markets.x402.buy import Call
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.facilitator_app import facilitator_app
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.markets.x402.pricing import PricedRoute
from agentnexus.markets.x402.reservations import MemoryReservations
from agentnexus.markets.x402.sell import SellerMiddleware
from agentnexus.markets.x402.wire import PAYMENT_RESPONSE, decode_header, present, read_payload, read_settlement
from agentnexus.platform.process import free_port, port_open, wait_until_ready
from agentnexus.rails.evm.eip3009 import SignedAuthorization
from agentnexus.rails.evm.signer import recover
from agentnexus.rails.evm.typed_data import Domain

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NODE_MODULES = Path(__file__).parents[2] / "node_modules"


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The app on a port of this machine."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=free_port(), log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve())
    await wait_until_ready(
        lambda: port_open("127.0.0.1", server.config.port), what="the test server", timeout_seconds=20
    )
    try:
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
def official(chain: DevelopmentChain) -> OfficialFacilitator:
    """With a key of its own: the official signer counts nonces in its own memory."""
    return OfficialFacilitator(chain.accounts["alice"].private_key, chain.rpc_url)


@pytest.fixture
def buyer_key(chain: DevelopmentChain) -> str:
    return chain.accounts["buyer"].private_key


async def test_the_official_python_client_buys_from_our_server(
    facilitator: Facilitator, usdc_price: PaymentRequirements, chain: DevelopmentChain, buyer_key: str
) -> None:
    before = await chain.usdc_of(usdc_price.pay_to)
    async with open_shop(facilitator, accepts=[usdc_price]) as shop:
        async with official_http(buyer_key, shop.http._transport, "http://localhost") as http:
            response = await http.post("/report", content=b"from a stranger")
        assert response.status_code == 200
        assert response.json()["echo"] == "from a stranger"
        settlement = read_settlement(response.headers[PAYMENT_RESPONSE], None)
        assert settlement is not None
        assert settlement.transaction.startswith("0x")
        assert shop.work.runs == 1
    assert await chain.usdc_of(usdc_price.pay_to) == before + PRICE


async def test_an_official_client_pays_our_server_that_settles_with_an_official_facilitator(
    official: OfficialFacilitator, usdc_price: PaymentRequirements, buyer_key: str
) -> None:
    """The client copies our addresses into what it signs, and the facilitator takes checksummed ones only."""
    async with (
        open_shop(official, accepts=[usdc_price]) as shop,
        official_http(buyer_key, shop.http._transport, "http://localhost") as http,
    ):
        assert (await http.get("/report")).status_code == 200


async def test_the_official_python_client_reads_our_v1_body_and_signs_what_we_recover(buyer_key: str) -> None:
    """v1 names no local chain, so the signature is checked here and not on one."""
    asked = requirement(network="eip155:84532")
    scripted, work = ScriptedFacilitator(), Work()
    async with open_shop(scripted, accepts=[asked], work=work) as shop:
        unpaid = await shop.http.get("/report")
        from x402.schemas.v1 import PaymentRequiredV1

        terms = PaymentRequiredV1.model_validate_json(unpaid.content)
        payload = await official_client(buyer_key).create_payment_payload(terms)
        from x402.http.utils import encode_payment_signature_header

        headers = {"X-PAYMENT": encode_payment_signature_header(payload)}
        assert (await shop.http.get("/report", headers=headers)).status_code == 200
        presented = present(read_payload(decode_header(headers["X-PAYMENT"], part="payment")))
        signed = SignedAuthorization.from_json(presented.scheme_payload)
        digest = signed.authorization.digest(Domain("USD Coin", "2", 84532, asked.asset))
        assert recover(digest, signed.signature) == signed.authorization.payer
        assert (presented.version, presented.network) == (1, "eip155:84532")


async def test_our_buyer_buys_from_an_official_server_with_our_facilitator(
    facilitator: Facilitator,
    usdc_price: PaymentRequirements,
    chain: DevelopmentChain,
    purse: RailPurse,
    policy: PaymentPolicy,
) -> None:
    runs: list[str] = []
    before = await chain.usdc_of(usdc_price.pay_to)
    transport = httpx.ASGITransport(official_server(facilitator, usdc_price, runs))
    async with httpx.AsyncClient(transport=transport) as http:
        call = Call("GET", "http://localhost/report", "call-1")
        bought = await client_of(http, policy).buy(call, purse, Money(chain.usdc, PRICE))
    assert json.loads(bought.answer.body) == {"run": 1}
    assert bought.payment is not None
    assert bought.payment.state is PaymentState.CONFIRMED
    assert await chain.usdc_of(usdc_price.pay_to) == before + PRICE


async def test_our_buyer_buys_from_an_all_official_seller(
    official: OfficialFacilitator,
    usdc_price: PaymentRequirements,
    chain: DevelopmentChain,
    purse: RailPurse,
    policy: PaymentPolicy,
) -> None:
    transport = httpx.ASGITransport(official_server(official, usdc_price, []))
    async with httpx.AsyncClient(transport=transport) as http:
        call = Call("GET", "http://localhost/report", "call-1")
        bought = await client_of(http, policy).buy(call, purse, Money(chain.usdc, PRICE))
    assert bought.payment is not None
    assert bought.payment.state is PaymentState.CONFIRMED


async def test_our_seller_works_with_an_official_facilitator(
    official: OfficialFacilitator,
    usdc_price: PaymentRequirements,
    chain: DevelopmentChain,
    purse: RailPurse,
    policy: PaymentPolicy,
) -> None:
    async with open_shop(official, accepts=[usdc_price]) as shop:
        call = Call("GET", "http://localhost/report", "call-1")
        bought = await client_of(shop.http, policy).buy(call, purse, Money(chain.usdc, PRICE))
        assert bought.payment is not None
        assert bought.payment.state is PaymentState.CONFIRMED
        assert shop.work.runs == 1


async def test_the_official_http_client_speaks_to_our_facilitator_service(
    facilitator: Facilitator, usdc_price: PaymentRequirements, chain: DevelopmentChain
) -> None:
    from x402.http import FacilitatorConfig, HTTPFacilitatorClient
    from x402.schemas import PaymentPayload

    payload = await sign(chain.accounts["buyer"].signer, usdc_price, "http")
    presented = PaymentPayload(payload=payload, accepted=usdc_price)
    async with serving(facilitator_app(facilitator)) as url:
        client = HTTPFacilitatorClient(FacilitatorConfig(url=url))
        supported = await asyncio.to_thread(client.get_supported)
        assert supported.kinds == facilitator.get_supported().kinds
        assert (await client.verify(presented, usdc_price)).is_valid
        wrong = usdc_price.model_copy(update={"amount": "1"})
        assert (await client.verify(presented, wrong)).invalid_reason
        assert (await client.settle(presented, usdc_price)).success
        await client.aclose()


@pytest.mark.parametrize(("method", "path", "body"), [("GET", "/report", ""), ("POST", "/report", "hello")])
async def test_the_official_typescript_client_buys_from_our_server(
    facilitator: Facilitator,
    usdc_price: PaymentRequirements,
    chain: DevelopmentChain,
    buyer_key: str,
    method: str,
    path: str,
    body: str,
) -> None:
    if not (NODE_MODULES / "@x402" / "fetch").is_dir():
        pytest.skip("the TypeScript client is not installed: run `npm ci`")
    work = Work()
    app = SellerMiddleware(
        work.app(),
        routes=[PricedRoute(path, [usdc_price])],
        facilitator=facilitator,
        reservations=MemoryReservations(),
    )
    before = await chain.usdc_of(usdc_price.pay_to)
    async with serving(app) as url:
        script = Path(__file__).parent / "peers" / "buy.mjs"
        node = await asyncio.create_subprocess_exec(
            "node", script, url + path, buyer_key, method, body, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await node.communicate()
    said = json.loads(out)
    assert said["status"] == 200
    assert json.loads(said["text"])["echo"] == body
    assert said["settled"]["success"] is True
    assert work.runs == 1
    assert await chain.usdc_of(usdc_price.pay_to) == before + PRICE


# --- what the official stack does otherwise ------------------------------------------------------------------------


async def official_terms(http: httpx.AsyncClient, path: str) -> PaymentRequirements:
    terms = decode_header((await http.get(path)).headers["payment-required"], part="402")
    return PaymentRequirements.model_validate(terms["accepts"][0])  # type: ignore[index]  # JSON


async def test_difference_eight_copies_run_the_official_handler_more_than_once(
    official: OfficialFacilitator, usdc_price: PaymentRequirements, chain: DevelopmentChain
) -> None:
    """Facts §0.4: its order is verify, handler, settle, with nothing reserved. Ours: test_sell, eight copies."""
    runs: list[str] = []
    transport = httpx.ASGITransport(official_server(official, usdc_price, runs), raise_app_exceptions=False)
    payload = await sign(chain.accounts["buyer"].signer, usdc_price, "copies")
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=120) as http:
        headers = v2_payment(await official_terms(http, "/report"), payload)
        answers = await asyncio.gather(*(http.get("/report", headers=headers) for _ in range(8)))
    assert sum(answer.status_code == 200 for answer in answers) == 1
    assert len(runs) > 1


async def test_difference_a_payment_for_one_official_route_is_taken_on_another(
    official: OfficialFacilitator, usdc_price: PaymentRequirements, chain: DevelopmentChain
) -> None:
    """Facts §0.5. Ours refuses it: test_sell, a payment that names another resource."""
    payload = await sign(chain.accounts["buyer"].signer, usdc_price, "mixed")
    transport = httpx.ASGITransport(official_server(official, usdc_price, []))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http:
        accepted = await official_terms(http, "/other")
        headers = v2_payment(accepted, payload, resource={"url": "http://localhost/report"})
        mixed = await http.get("/other", headers=headers)
    assert mixed.status_code == 200
    assert mixed.json() == {"other": "result"}


async def test_difference_an_official_settle_repeated_burns_gas_and_is_called_failed(
    official: OfficialFacilitator, usdc_price: PaymentRequirements, chain: DevelopmentChain
) -> None:
    """Facts §2.4. Ours gives the first transaction again and sends nothing: test_facilitator, settling again."""
    from x402.schemas import PaymentPayload

    payload = PaymentPayload(
        payload=await sign(chain.accounts["buyer"].signer, usdc_price, "again"), accepted=usdc_price
    )
    assert (await official.settle(payload, usdc_price)).success
    sender = chain.accounts["alice"].address
    sent = await chain.rpc.read_int("eth_getTransactionCount", sender, "latest")
    again = await official.settle(payload, usdc_price)
    assert not again.success
    assert await chain.rpc.read_int("eth_getTransactionCount", sender, "latest") == sent + 1


async def test_difference_the_official_client_signs_a_second_payment_for_a_repeated_call(
    usdc_price: PaymentRequirements, buyer_key: str
) -> None:
    """Facts §2.1: every 402 mints a fresh payment, so a caller that repeats after a timeout can pay twice."""
    from x402.schemas import PaymentRequired, ResourceInfo

    client = official_client(buyer_key)
    terms = PaymentRequired(accepts=[usdc_price], resource=ResourceInfo(url="http://localhost/report"))
    first, second = [(await client.create_payment_payload(terms)).payload for _ in range(2)]
    assert first["authorization"]["nonce"] != second["authorization"]["nonce"]
