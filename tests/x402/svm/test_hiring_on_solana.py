"""Hiring with nothing scripted on Solana: the real rail, market, seller middleware, facilitator, ledger and chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from solders.keypair import Keypair
from tests.x402.support import Shop, Work, open_shop
from tests.x402.svm.support import NETWORK, PRICE, Stage

from agentnexus.bootstrap.verify import verify_with_chain
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import SellerFailed
from agentnexus.core.money import Money, Rate
from agentnexus.core.offers import Capability, Need, Offer, Party, Price
from agentnexus.core.payments import Limits, PaymentState, ReceiptStatus
from agentnexus.core.ports import Holding
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.hiring.cache import OfferCache
from agentnexus.hiring.cashier import Wallet
from agentnexus.hiring.gather import Gatherer
from agentnexus.hiring.hire import Hiring
from agentnexus.hiring.model import Rates
from agentnexus.hiring.receipts import sign_receipt, verify_receipt
from agentnexus.ledger.books import Books
from agentnexus.markets.x402.buy import BuyLimits, X402Client
from agentnexus.markets.x402.market import X402Market
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.markets.x402.wire import to_json
from agentnexus.platform.cache import Cache
from agentnexus.platform.signing import Ed25519Signer
from agentnexus.rails.solana.networks import DEVNET, NetworkKind
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.signer import LocalSigner
from agentnexus.rails.solana.wallet import SolanaRail

NEED = Need(capability="report.make", input={"text": "hello"})


class PowerCut(BaseException):
    """Ends a hire as a kill would: nothing of ours catches it."""


@dataclass
class Street:
    """A buyer with a wallet on Solana and one shop."""

    stage: Stage
    books: Books
    hiring: Hiring
    shop: Shop

    async def hire(self, key: str = "k1") -> object:
        return await self.hiring.hire(NEED, budget_id="b", key=key, user_id="u")

    async def assert_books_agree_with_the_chain(self) -> None:
        assert (await self.books.check()).clean
        seller = f"seller:solana:{self.stage.seller.pubkey()}"
        assert (await self.books.balance(seller, self.stage.asset)).posted.atomic == await self.stage.paid()


class OneOffer:
    """A source with the shop's offer."""

    name = "one"

    def __init__(self, offer: Offer) -> None:
        self._offer = offer

    async def discover(self, need: Need) -> AsyncIterator[Offer]:
        yield self._offer


@asynccontextmanager
async def open_street(stage: Stage, work: Work | None = None) -> AsyncIterator[Street]:
    asset, price = stage.asset, stage.asked()
    sender = await TransactionSender.open(stage.database, stage.chain.rpc, DEVNET)
    rail = SolanaRail(sender, LocalSigner(bytes(stage.buyer), NetworkKind.TESTNET))
    assert isinstance(rail, Holding)
    offer = Offer(
        id="offer-1",
        market="x402",
        seller=Party(ids={"solana": str(stage.seller.pubkey())}),
        capability=Capability(name="report.make"),
        title="Reports",
        price=Price(per_job=Money(asset, PRICE)),
        rails=(to_json(price),),
        endpoint="http://localhost/report",
        observed_at=datetime.now(UTC),
    )
    async with open_shop(stage.facilitator(), accepts=[price], work=work) as shop, Books(stage.database) as books:
        policy = PaymentPolicy(assets={asset.caip19: asset})
        client = X402Client(shop.http, policy, SystemClock(), BuyLimits(pause=0.01, tries=3))
        await books.deposit("top-up", f"wallet:{NETWORK}:{rail.address}", Money(asset, 10 * PRICE))
        await books.budgets.create("b", owner="u", asset=asset, limits=Limits(total=Money(asset, 10 * PRICE)))
        hiring = Hiring(
            gatherer=Gatherer([X402Market(client, [OneOffer(offer)], SystemClock())], OfferCache(Cache())),
            books=books,
            database=stage.database,
            wallets={rail.name: Wallet(rail, rail.address, frozenset({NETWORK}))},
            signer=Ed25519Signer.from_seed(b"\x03" * 32),
            rates=Rates((Rate(asset, Decimal(1), "test", datetime.now(UTC)),)),
        )
        async with hiring:
            yield Street(stage, books, hiring, shop)


async def test_a_hire_is_paid_on_solana_and_entered_in_the_books(stage: Stage) -> None:
    async with open_street(stage) as street:
        hired = await street.hire()
        assert hired.output["echo"] == '{"text":"hello"}'  # type: ignore[attr-defined]  # Hired
        assert hired.receipt.status is ReceiptStatus.SETTLED  # type: ignore[attr-defined]  # Hired
        (record,) = hired.receipt.payments  # type: ignore[attr-defined]  # Hired
        assert (record.rail, record.network, record.amount) == ("solana", NETWORK, str(PRICE))
        outcome = await stage.cluster.outcome(record.transaction)
        assert outcome is not None
        assert verify_receipt(hired.receipt.model_dump_json(), need=NEED).valid  # type: ignore[attr-defined]  # Hired
        again = await street.hire()
        assert again.receipt == hired.receipt  # type: ignore[attr-defined]  # Hired
        assert (street.shop.work.runs, await stage.paid()) == (1, PRICE)
        await street.assert_books_agree_with_the_chain()


async def test_a_seller_that_fails_gets_nothing_and_the_money_is_free_again_when_its_chance_has_lapsed(
    stage: Stage,
) -> None:
    async with open_street(stage, Work(status=500)) as street:
        hiring = asyncio.create_task(street.hire())
        while not await street.hiring.cashier.holds.of_hire("k1"):
            await asyncio.sleep(0.01)
        while street.shop.work.runs == 0:
            await asyncio.sleep(0.01)
        assert (await street.books.budgets.status("b")).reserved.atomic == PRICE
        await stage.chain.advance(260)
        with pytest.raises(SellerFailed):
            await hiring
        (receipt,) = await street.hiring.receipts("k1")
        assert receipt.status is ReceiptStatus.REFUNDED
        assert (await street.books.budgets.status("b")).reserved.atomic == 0
        assert await stage.left() == 10 * PRICE
        await street.assert_books_agree_with_the_chain()


async def test_a_hire_cut_off_after_signing_goes_on_with_the_very_same_payment(stage: Stage) -> None:
    async with open_street(stage) as street:

        def cut(name: str) -> None:
            if name == "hold-written":
                raise PowerCut

        street.hiring.cashier.checkpoint = cut
        with pytest.raises(PowerCut):
            await street.hire()
        street.hiring.cashier.checkpoint = lambda _name: None
        await stage.chain.advance(10)
        (before,) = await street.hiring.cashier.holds.of_hire("k1")
        await street.hire()
        (after,) = await street.hiring.cashier.holds.of_hire("k1")
        assert before.payment is not None
        assert after.payment is not None
        assert after.payment.evidence["payload"] == before.payment.evidence["payload"]
        assert after.state is PaymentState.CONFIRMED
        assert await stage.paid() == PRICE
        await street.assert_books_agree_with_the_chain()


async def test_a_receipt_is_checked_on_the_cluster_and_every_lie_is_found(
    stage: Stage, chain: DevelopmentChain
) -> None:
    async with open_street(stage) as street:
        receipt = (await street.hire()).receipt  # type: ignore[attr-defined]  # Hired
    await stage.chain.advance(10)  # final
    assert (await verify_with_chain(receipt.model_dump(mode="json"), stage.chain.rpc_url))["valid"]
    (paid,) = receipt.payments
    nobody, signer = str(Keypair().pubkey()), Ed25519Signer.from_seed(b"\x03" * 32)
    lies = {"amount": str(PRICE - 1), "payee": nobody, "payer": nobody, "transaction": "1" * 64}
    for name, value in lies.items():
        lie = receipt.model_copy(update={"payments": (paid.model_copy(update={name: value}),)})
        entry = (await sign_receipt(lie, signer)).model_dump(mode="json")
        assert not (await verify_with_chain(entry, stage.chain.rpc_url))["valid"], name
    # Another chain's node knows nothing of it.
    assert not (await verify_with_chain(receipt.model_dump(mode="json"), chain.rpc_url))["valid"]
