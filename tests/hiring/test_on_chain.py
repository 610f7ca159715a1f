"""Hiring with nothing scripted: a real chain, the real rail, market, seller middleware, facilitator and ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from agentnexus.bootstrap.verify import verify_with_chain
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import AgentRefused, PaymentUnknown, SellerFailed
from agentnexus.core.money import Money, Rate
from agentnexus.core.offers import Capability, Need, Offer, Party, Price
from agentnexus.core.payments import Limits, PaymentRecord, PaymentState, ReceiptStatus
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.hiring.cache import OfferCache
from agentnexus.hiring.cashier import Wallet
from agentnexus.hiring.gather import Gatherer
from agentnexus.hiring.hire import Hiring
from agentnexus.hiring.model import Rates
from agentnexus.hiring.receipts import TransactionFact, sign_receipt, verify_receipt, verify_transactions
from agentnexus.hiring.repair import Repair
from agentnexus.ledger.books import Books
from agentnexus.markets.x402.buy import BuyLimits, X402Client
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.market import X402Market
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.markets.x402.wire import to_json
from agentnexus.platform.cache import Cache
from agentnexus.platform.database import Database
from agentnexus.platform.signing import Ed25519Signer
from agentnexus.rails.evm.token import Token
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.rails.evm.wallet import EvmRail
from tests.x402.support import PRICE, Shop, Work, open_shop, requirement

NEED = Need(capability="report.make", input={"text": "hello"})
OUTPUT_SCHEMA: dict[str, object] = {
    "type": "object",
    "required": ["run", "echo"],
    "properties": {"run": {"type": "integer"}},
}


@dataclass
class Street:
    """A buyer with a wallet on the chain and one shop."""

    chain: DevelopmentChain
    rail: EvmRail
    books: Books
    hiring: Hiring
    shop: Shop
    start: int

    async def hire(self, key: str = "k1") -> object:
        return await self.hiring.hire(NEED, budget_id="b", key=key, user_id="u")

    async def seller_got(self) -> int:
        token = Token(self.chain.rpc, self.chain.usdc.reference, self.chain.chain_id)
        return (await token.balance(self.chain.accounts["seller-1"].address)) - self.start

    async def assert_books_agree_with_the_chain(self) -> None:
        assert (await self.books.check()).clean
        seller = f"seller:evm:{self.chain.accounts['seller-1'].address.lower()}"
        assert (await self.books.balance(seller, self.chain.usdc)).posted.atomic == await self.seller_got()


class OneOffer:
    """A source with the shop's offer."""

    name = "one"

    def __init__(self, offer: Offer) -> None:
        self._offer = offer

    async def discover(self, need: Need) -> AsyncIterator[Offer]:
        yield self._offer


@asynccontextmanager
async def open_street(chain: DevelopmentChain, database: Database, work: Work | None = None) -> AsyncIterator[Street]:
    sender = await TransactionSender.open(database, chain.rpc, chain.chain_id)
    relayer = chain.accounts["relayer"].signer
    rail = EvmRail(sender, chain.accounts["buyer"].signer, relayer=relayer)
    seller = chain.accounts["seller-1"].address
    price = requirement(asset=chain.usdc.reference, pay_to=seller)
    offer = Offer(
        id="offer-1",
        market="x402",
        seller=Party(ids={"evm": seller}),
        capability=Capability(name="report.make", output_schema=OUTPUT_SCHEMA),
        title="Reports",
        price=Price(per_job=Money(chain.usdc, PRICE)),
        rails=(to_json(price),),
        endpoint="http://localhost/report",
        observed_at=datetime.now(UTC),
    )
    token = Token(chain.rpc, chain.usdc.reference, chain.chain_id)
    facilitator = Facilitator.on(sender, relayer, [chain.usdc])
    async with open_shop(facilitator, accepts=[price], work=work) as shop, Books(database) as books:
        client = X402Client(
            shop.http,
            PaymentPolicy(assets={chain.usdc.caip19: chain.usdc}),
            SystemClock(),
            BuyLimits(pause=0.01, tries=3),
        )
        await books.deposit("top-up", f"wallet:{chain.usdc.network}:{rail.address}", Money(chain.usdc, 10_000_000))
        await books.budgets.create("b", owner="u", asset=chain.usdc, limits=Limits(total=Money(chain.usdc, 1_000_000)))
        hiring = Hiring(
            gatherer=Gatherer([X402Market(client, [OneOffer(offer)], SystemClock())], OfferCache(Cache())),
            books=books,
            database=database,
            wallets={rail.name: Wallet(rail, rail.address, frozenset({rail.network.caip2}))},
            signer=Ed25519Signer.from_seed(b"\x03" * 32),
            rates=Rates((Rate(chain.usdc, Decimal(1), "test", datetime.now(UTC)),)),
        )
        async with hiring:
            yield Street(chain, rail, books, hiring, shop, await token.balance(seller))


async def test_a_receipt_cannot_name_another_payment_between_the_same_two(
    chain: DevelopmentChain, database: Database
) -> None:
    async with open_street(chain, database) as street:
        receipts = [(await street.hire(key)).receipt for key in ("k1", "k2")]
    first, second = (receipt.payments[0] for receipt in receipts)
    assert first.authorization.startswith("0x") and first.authorization != second.authorization
    signer = Ed25519Signer.from_seed(b"\x03" * 32)
    for change, problem in (
        ({}, ""),
        ({"authorization": ""}, ""),  # as from before the authorisation was kept: parties and amount are all it says
        ({"transaction": second.transaction}, "another payment"),
        ({"authorization": second.authorization}, "another payment"),
        ({"transaction": second.transaction, "authorization": ""}, ""),
    ):
        told = receipts[0].model_copy(update={"payments": (first.model_copy(update=change),)})
        report = await verify_with_chain((await sign_receipt(told, signer)).model_dump(mode="json"), chain.rpc_url)
        assert report["valid"] is not bool(problem), (change, report)
        assert all(problem in each for each in report["problems"])


async def test_a_hire_is_paid_on_the_chain_and_its_receipt_is_true_there(
    chain: DevelopmentChain, database: Database
) -> None:
    async with open_street(chain, database) as street:
        hired = await street.hire()
        assert hired.output["echo"] == '{"text":"hello"}'
        assert hired.receipt.status is ReceiptStatus.SETTLED
        assert await street.seller_got() == PRICE
        await street.assert_books_agree_with_the_chain()

        async def lookup(record: PaymentRecord) -> TransactionFact | None:
            receipt = await chain.rpc.call("eth_getTransactionReceipt", record.transaction)
            assert isinstance(receipt, dict)
            transfers = [log for log in receipt["logs"] if len(log["topics"]) == 3 and log["data"] != "0x"]
            (transfer,) = transfers
            payer, payee = ("0x" + topic[-40:] for topic in transfer["topics"][1:])
            return TransactionFact(int(receipt["status"], 16) == 1, payer, payee, int(transfer["data"], 16))

        report = await verify_transactions(verify_receipt(hired.receipt.model_dump_json(), need=NEED), lookup)
        assert report.valid, report.failures

        again = await street.hire()
        assert (again.receipt, street.shop.work.runs) == (hired.receipt, 1)
        assert await street.seller_got() == PRICE


async def test_a_seller_that_fails_gets_nothing_and_can_never_collect(
    chain: DevelopmentChain, database: Database
) -> None:
    async with open_street(chain, database, Work(status=500)) as street:
        with pytest.raises(SellerFailed):
            await street.hire()
        (receipt,) = await street.hiring.receipts("k1")
        assert receipt.status is ReceiptStatus.REFUNDED
        assert receipt.payments[0].refund_transaction.startswith("0x")
        assert verify_receipt(receipt.model_dump_json()).valid
        assert await street.seller_got() == 0
        await street.assert_books_agree_with_the_chain()
        assert (await street.books.budgets.status("b")).reserved.atomic == 0


async def test_a_refused_input_costs_nothing_and_counts_against_nobody(
    chain: DevelopmentChain, database: Database
) -> None:
    async with open_street(chain, database, Work(status=422)) as street:
        with pytest.raises(AgentRefused):
            await street.hire()
        assert await street.seller_got() == 0
        assert (await street.hiring.records.snapshot(refresh=True)) == {}


class PowerCut(BaseException):
    """Ends a hire between two steps; nothing that handles errors may handle it."""


def die_once_signed(name: str) -> None:
    if name == "hold-written":
        raise PowerCut


async def test_a_hire_cut_off_after_signing_goes_on_with_the_very_same_authorisation(
    chain: DevelopmentChain, database: Database
) -> None:
    async with open_street(chain, database) as street:
        street.hiring.cashier.checkpoint = die_once_signed
        with pytest.raises(PowerCut):
            await street.hire()
        street.hiring.cashier.checkpoint = lambda name: None
        (before,) = await street.hiring.cashier.holds.of_hire("k1")
        hired = await street.hire()
        (after,) = await street.hiring.cashier.holds.of_hire("k1")
        assert before.payment is not None
        assert after.payment is not None
        assert after.payment.evidence["payload"] == before.payment.evidence["payload"]
        assert (hired.resumed, after.state) == (True, PaymentState.CONFIRMED)
        assert await street.seller_got() == PRICE
        await street.assert_books_agree_with_the_chain()


async def test_repair_cancels_on_the_chain_what_a_dead_buyer_left_signed(
    chain: DevelopmentChain, database: Database
) -> None:
    async with open_street(chain, database) as street:
        street.hiring.cashier.checkpoint = die_once_signed
        with pytest.raises(PowerCut):
            await street.hire()
        async with database.connection() as connection:
            await connection.execute("update hiring.hold set deadline = now() - interval '1 hour'")
        assert (await Repair(street.hiring).run_once()).refunded == 1
        (row,) = await street.hiring.cashier.holds.of_hire("k1")
        assert row.payment is not None
        assert str(row.payment.evidence["cancel_transaction"]).startswith("0x")
        await street.assert_books_agree_with_the_chain()


async def test_when_the_seller_vanishes_after_the_payment_the_money_is_cancelled_on_the_chain(
    chain: DevelopmentChain, database: Database
) -> None:
    async with open_street(chain, database) as street:
        send = street.shop.http._transport.handle_async_request

        async def vanish(request: httpx.Request) -> httpx.Response:
            if "payment-signature" in request.headers:
                raise httpx.ReadTimeout("gone")
            return await send(request)

        street.shop.http._transport.handle_async_request = vanish  # type: ignore[method-assign]
        with pytest.raises((SellerFailed, PaymentUnknown)):
            await street.hire()
        (receipt,) = await street.hiring.receipts("k1")
        assert receipt.status is ReceiptStatus.REFUNDED
        assert await street.seller_got() == 0
        await street.assert_books_agree_with_the_chain()
