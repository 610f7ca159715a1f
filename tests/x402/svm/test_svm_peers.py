"""Foreign peers on Solana: the official Python and TypeScript packages against ours, each way round, on one chain."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from solana.rpc.core import RPCException
from solders.transaction import VersionedTransaction
from tests.x402.conftest import client_of
from tests.x402.support import RailPurse, Work, open_shop, v2_payment
from tests.x402.svm.peers.official import OfficialFacilitator, official_client, official_http, official_server
from tests.x402.svm.support import PRICE, Stage, presented
from tests.x402.test_peers import official_terms, serving
from x402.mechanisms.svm.exact import ExactSvmScheme
from x402.mechanisms.svm.signers import FacilitatorKeypairSigner, KeypairSigner
from x402.schemas.v1 import PaymentRequiredV1

from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentState
from agentnexus.devnet.solana.faults import Fault
from agentnexus.markets.x402.buy import BuyLimits, Call
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.facilitator_app import facilitator_app
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.markets.x402.pricing import PricedRoute
from agentnexus.markets.x402.reservations import MemoryReservations
from agentnexus.markets.x402.sell import SellerMiddleware
from agentnexus.markets.x402.wire import PAYMENT_RESPONSE, read_settlement

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NODE_MODULES = Path(__file__).parents[3] / "node_modules"
URL = "http://localhost/report"


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """The official clients leave their connections to the collector; a later test must not be blamed for them."""
    yield
    gc.collect()


@pytest.fixture
def official(stage: Stage) -> OfficialFacilitator:
    return OfficialFacilitator(stage.sponsor, stage.chain.rpc_url)


async def test_the_official_python_client_buys_from_our_server(stage: Stage) -> None:
    async with open_shop(stage.facilitator(), accepts=[stage.asked()]) as shop:
        async with official_http(stage.buyer, stage.chain.rpc_url, shop.http._transport, "http://localhost") as http:
            response = await http.post("/report", content=b"from a stranger")
        assert response.status_code == 200, response.text
        assert response.json()["echo"] == "from a stranger"
        settlement = read_settlement(response.headers[PAYMENT_RESPONSE], None)
        assert settlement is not None
        assert settlement.success
        assert shop.work.runs == 1
    assert await stage.paid() == PRICE


async def test_the_official_python_client_takes_our_memo_and_our_blockhash(stage: Stage) -> None:
    asked = stage.asked(memo_text="order 7", recentBlockhash=str(await stage.blockhash()))
    await stage.chain.advance(2)
    async with (
        open_shop(stage.facilitator(), accepts=[asked]) as shop,
        official_http(stage.buyer, stage.chain.rpc_url, shop.http._transport, "http://localhost") as http,
    ):
        assert (await http.get("/report")).status_code == 200
    assert await stage.paid() == PRICE


async def test_the_official_python_client_pays_our_v1_body(stage: Stage) -> None:
    from x402.http.utils import encode_payment_signature_header

    async with open_shop(stage.facilitator(), accepts=[stage.asked()]) as shop:
        terms = PaymentRequiredV1.model_validate_json((await shop.http.get("/report")).content)
        client = official_client(stage.buyer, stage.chain.rpc_url)
        payload = await client.create_payment_payload(terms)
        response = await shop.http.get("/report", headers={"X-PAYMENT": encode_payment_signature_header(payload)})
        assert response.status_code == 200, response.text
    assert await stage.paid() == PRICE


async def test_an_official_client_pays_our_server_that_settles_with_an_official_facilitator(
    stage: Stage, official: OfficialFacilitator
) -> None:
    async with (
        open_shop(official, accepts=[stage.asked()]) as shop,
        official_http(stage.buyer, stage.chain.rpc_url, shop.http._transport, "http://localhost") as http,
    ):
        assert (await http.get("/report")).status_code == 200
    assert await stage.paid() == PRICE


async def test_our_buyer_buys_from_our_seller_with_an_official_facilitator(
    stage: Stage, official: OfficialFacilitator, solana_policy: PaymentPolicy
) -> None:
    async with open_shop(official, accepts=[stage.asked()]) as shop:
        bought = await client_of(shop.http, solana_policy).buy(
            Call("GET", URL, "call-1"), RailPurse(stage.rail()), Money(stage.asset, PRICE)
        )
        assert bought.payment is not None
        assert bought.payment.state is PaymentState.CONFIRMED
        assert shop.work.runs == 1


@pytest.mark.parametrize("hints", [True, False])
async def test_our_buyer_buys_from_an_official_server_with_our_facilitator(
    stage: Stage, solana_policy: PaymentPolicy, hints: bool
) -> None:
    runs: list[str] = []
    server = official_server(stage.facilitator(), stage.asked(), runs, stage.chain.rpc_url if hints else None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(server)) as http:
        bought = await client_of(http, solana_policy).buy(
            Call("GET", URL, "call-1"), RailPurse(stage.rail()), Money(stage.asset, PRICE)
        )
    assert json.loads(bought.answer.body) == {"run": 1}
    assert bought.payment is not None
    assert bought.payment.state is PaymentState.CONFIRMED
    assert await stage.paid() == PRICE


async def test_our_buyer_buys_from_an_all_official_seller(
    stage: Stage, official: OfficialFacilitator, solana_policy: PaymentPolicy
) -> None:
    server = official_server(official, stage.asked(), [], stage.chain.rpc_url)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(server)) as http:
        bought = await client_of(http, solana_policy).buy(
            Call("GET", URL, "call-1"), RailPurse(stage.rail()), Money(stage.asset, PRICE)
        )
    assert bought.payment is not None
    assert bought.payment.state is PaymentState.CONFIRMED
    assert await stage.paid() == PRICE


async def test_the_official_http_client_speaks_to_our_facilitator_service(stage: Stage) -> None:
    from x402.http import FacilitatorConfig, HTTPFacilitatorClient

    facilitator, asked = stage.facilitator(), stage.asked()
    payment = presented(asked, await stage.payload())
    async with serving(facilitator_app(facilitator)) as url:
        client = HTTPFacilitatorClient(FacilitatorConfig(url=url))
        supported = await asyncio.to_thread(client.get_supported)
        assert supported.kinds == facilitator.get_supported().kinds
        assert (await client.verify(payment, asked)).is_valid
        wrong = asked.model_copy(update={"amount": "1"})
        assert (await client.verify(payment, wrong)).invalid_reason == Reason.SVM_AMOUNT_MISMATCH
        assert (await client.settle(payment, asked)).success
        assert (await client.settle(payment, asked)).error_reason == Reason.DUPLICATE_SETTLEMENT
        await client.aclose()
    assert await stage.paid() == PRICE


@pytest.mark.parametrize(("method", "path", "body"), [("GET", "/report", ""), ("POST", "/report", "hello")])
async def test_the_official_typescript_client_buys_from_our_server(
    stage: Stage, method: str, path: str, body: str
) -> None:
    if not (NODE_MODULES / "@x402" / "svm").is_dir():
        pytest.skip("the TypeScript client is not installed: run `npm ci`")
    work = Work()
    app = SellerMiddleware(
        work.app(),
        routes=[PricedRoute(path, [stage.asked()])],
        facilitator=stage.facilitator(),
        reservations=MemoryReservations(),
    )
    async with serving(app) as url:
        script = Path(__file__).parent / "peers" / "buy.mjs"
        key = json.dumps(list(bytes(stage.buyer)))
        node = await asyncio.create_subprocess_exec(
            "node", script, url + path, key, stage.chain.rpc_url, method, body, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await node.communicate()
    said = json.loads(out)
    assert said["status"] == 200, said
    assert json.loads(said["text"])["echo"] == body
    assert said["settled"]["success"] is True
    assert work.runs == 1
    assert await stage.paid() == PRICE


# --- what the official stack does otherwise ------------------------------------------------------------------------


async def test_difference_an_official_facilitator_calls_a_failed_transaction_paid(
    stage: Stage, official: OfficialFacilitator
) -> None:
    """Facts §0.1: it looks at how sure the chain is before it looks at the error. Ours: test_facilitator."""
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    await stage.chain.fault(Fault.FAIL_ON_CHAIN)
    settled = await official.settle(payment, asked)
    outcome = await stage.cluster.outcome(settled.transaction)
    assert outcome is not None
    assert outcome.error is not None
    assert (settled.success, await stage.paid()) == (True, 0)


async def test_difference_our_buyer_does_not_believe_a_seller_that_believes_such_a_facilitator(
    stage: Stage, official: OfficialFacilitator, solana_policy: PaymentPolicy
) -> None:
    await stage.chain.fault(Fault.FAIL_ON_CHAIN)
    async with open_shop(official, accepts=[stage.asked()]) as shop:
        purse = RailPurse(stage.rail(settle_wait_seconds=0.05))
        client = client_of(shop.http, solana_policy, BuyLimits(pause=0.01, confirmations=2))
        bought = await client.buy(Call("GET", URL, "call-1"), purse, Money(stage.asset, PRICE))
    assert bought.payment is not None
    assert bought.payment.state is not PaymentState.CONFIRMED
    assert await stage.paid() == 0


async def test_difference_eight_copies_run_the_official_handler_more_than_once(
    stage: Stage, official: OfficialFacilitator
) -> None:
    """Facts §0.4. Ours: test_trade, eight copies."""
    runs: list[str] = []
    transport = httpx.ASGITransport(official_server(official, stage.asked(), runs), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http:
        headers = v2_payment(await official_terms(http, "/report"), await stage.payload())
        answers = await asyncio.gather(*(http.get("/report", headers=headers) for _ in range(8)))
    assert sum(answer.status_code == 200 for answer in answers) == 1
    assert len(runs) > 1


async def test_difference_a_second_official_facilitator_process_forgets_what_the_first_has_settled(
    stage: Stage,
) -> None:
    """Its duplicate cache is in memory: a payment still in flight is accepted twice. Ours: shared books."""

    class Blind(FacilitatorKeypairSigner):
        """A node that lags behind: it still simulates well what another one has executed."""

        def simulate_transaction(self, tx_base64: str, network: str) -> None:
            return None

        def send_transaction(self, tx_base64: str, network: str) -> str:
            try:
                return super().send_transaction(tx_base64, network)
            except RPCException:
                return str(VersionedTransaction.from_bytes(base64.b64decode(tx_base64)).signatures[0])

    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    processes = [
        OfficialFacilitator(stage.sponsor, stage.chain.rpc_url, Blind(stage.sponsor, stage.chain.rpc_url))
        for _ in range(2)
    ]
    settled = [await each.settle(payment, asked) for each in processes]
    assert [each.success for each in settled] == [True, True]
    assert await stage.paid() == PRICE
    other = stage.asked()
    fresh = presented(other, await stage.payload("ours"))
    ours = [await stage.facilitator().settle(fresh, other) for _ in range(2)]
    assert [each.success for each in ours] == [True, False]


async def test_difference_the_official_client_signs_a_second_payment_for_a_repeated_call(stage: Stage) -> None:
    """Both can be collected: a caller that repeats after a timeout can pay twice. Ours: test_authorize, a repeat."""
    from x402.schemas import PaymentRequired, ResourceInfo

    client = official_client(stage.buyer, stage.chain.rpc_url)
    terms = PaymentRequired(accepts=[stage.asked()], resource=ResourceInfo(url=URL))
    asked = stage.asked()
    both = [(await client.create_payment_payload(terms)).payload for _ in range(2)]
    assert both[0] != both[1]
    for payload in both:
        assert (await stage.facilitator().settle(presented(asked, payload), asked)).success
    assert await stage.paid() == 2 * PRICE


async def test_difference_an_official_facilitator_takes_more_compute_than_a_payment_needs(stage: Stage) -> None:
    """The price is capped and the limit is not: a stranger makes the sponsor pay 700 times the usual fee."""
    from solders.instruction import Instruction

    from agentnexus.rails.solana.programs import compute_unit_limit, compute_unit_price

    made: list[Instruction] = stage.instructions()
    made[:2] = [compute_unit_limit(1_400_000), compute_unit_price(5_000_000)]
    asked = stage.asked()
    payment = presented(asked, {"transaction": stage.compiled(made, await stage.blockhash())})
    official = OfficialFacilitator(stage.sponsor, stage.chain.rpc_url)
    assert (await official.verify(payment, asked)).is_valid
    refused = await stage.facilitator().verify(payment, asked)
    assert refused.invalid_reason == Reason.FEE_CAP_EXCEEDED


async def test_difference_the_official_client_makes_one_payment_of_two_such_purchases(stage: Stage) -> None:
    """Both carry the seller's memo and one blockhash. Ours: test_authorize, purchases with the seller's memo."""
    asked = stage.asked(memo_text="order", recentBlockhash=str(await stage.blockhash()))
    official = ExactSvmScheme(KeypairSigner(stage.buyer), stage.chain.rpc_url)
    made = [await asyncio.to_thread(official.create_payment_payload, asked) for _ in range(2)]
    assert made[0] == made[1]
