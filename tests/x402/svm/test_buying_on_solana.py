"""The node as bootstrap makes it, buying from sellers that take USDC on Solana only, out of a budget in USDC on EVM."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tests.x402.support import Work, open_shop, requirement
from tests.x402.svm.buyer_process import BUDGET, NEED, payment_to
from tests.x402.svm.support import NETWORK, PRICE, Stage
from tests.x402.test_peers import serving
from x402.schemas import PaymentRequirements

from agentnexus.bootstrap.buying import Buying, on_solana, open_buying
from agentnexus.bootstrap.counting import CountedHiring, counted
from agentnexus.bootstrap.ground import Chain, Ground, open_chain
from agentnexus.bootstrap.solana_buying import open_solana_buyer
from agentnexus.bootstrap.upkeep import account_of
from agentnexus.bootstrap.verify import verify_with_chain
from agentnexus.core.clock import ManualClock, SystemClock, TimeOrderedIds
from agentnexus.core.errors import BudgetExceeded, InsufficientFunds, NoOffer, SellerFailed, Unavailable
from agentnexus.core.money import Money
from agentnexus.core.offers import Constraints, Need, Strategy
from agentnexus.core.payments import Limits, PaymentRequest, PaymentState, ReceiptStatus
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.hiring.model import Hired
from agentnexus.hiring.receipts import sign_receipt, verify_receipt
from agentnexus.hiring.repair import Repair
from agentnexus.ledger.reconcile import Reconciler
from agentnexus.markets.x402.registry.app import registry_app
from agentnexus.markets.x402.registry.ownership import sign_request
from agentnexus.markets.x402.registry.store import RegistryStore
from agentnexus.markets.x402.wire import to_json
from agentnexus.platform.database import Database
from agentnexus.platform.process import wait_until_ready
from agentnexus.platform.settings import Settings
from agentnexus.rails.solana.errors import WrongNetwork
from agentnexus.rails.solana.networks import NetworkKind
from agentnexus.rails.solana.signer import LocalSigner
from agentnexus.workflows.estimate import estimate
from agentnexus.workflows.model import Plan, PlanStep, spent
from agentnexus.workflows.plan import with_offers
from agentnexus.workflows.planning import offered_from

START = 10 * PRICE


@dataclass
class Square:
    """A node with a wallet on each chain, and a registry where shops may be entered."""

    stage: Stage
    chain: Chain
    buying: Buying
    settings: Settings
    registry: str
    database: Database
    shops: AsyncExitStack
    work: Work = field(default_factory=Work)

    async def hire(self, key: str = "k1", need: Need = NEED) -> Hired:
        return await self.buying.hiring.hire(need, budget_id=BUDGET, key=key, user_id="u")

    async def budget(self, total: int = START) -> None:
        unit = self.buying.parity.unit
        await self.buying.books.budgets.create(BUDGET, owner="u", asset=unit, limits=Limits(total=Money(unit, total)))

    async def enter(self, url: str, accepts: PaymentRequirements, *, owner: LocalSigner | None = None) -> None:
        """The seller enters its shop itself, with a signature of the wallet that is paid."""
        signer = owner or LocalSigner(bytes(self.stage.seller), NetworkKind.TESTNET)
        entry = {
            "url": url, "name": "Reports", "ownerWalletAddress": signer.public_id, "pricePerCall": "0.02",
            "accepts": [to_json(accepts)], "capabilities": ["report.make"],
        }  # fmt: skip
        body = json.dumps(entry).encode()
        async with httpx.AsyncClient() as http:
            headers = await sign_request(signer, "POST", "/services/register", body, SystemClock().now())
            answer = await http.post(f"{self.registry}/services/register", content=body, headers=headers)
        assert answer.status_code == 201, answer.text

    async def open_shop(self, work: Work | None = None) -> None:
        """A seller of ours that takes payment on Solana only."""
        self.work = work or self.work
        asked = self.stage.asked()
        shop = await self.shops.enter_async_context(
            open_shop(self.stage.facilitator(), accepts=[asked], work=self.work)
        )
        url = await self.shops.enter_async_context(serving(shop.http._transport.app))  # type: ignore[attr-defined]  # ASGI
        await self.enter(f"{url}/report", asked)

    async def assert_books_agree_with_the_chains(self) -> None:
        buying, solana = self.buying, self.buying.solana
        assert solana is not None
        assert (await buying.books.check()).clean
        comparison = await Reconciler(buying.books).compare(await solana.observed())
        assert comparison.agreeing == [solana.account]
        seller = f"seller:solana:{self.stage.seller.pubkey()}"
        assert (await buying.books.balance(seller, solana.usdc)).posted.atomic == await self.stage.paid()

    async def child(self, key: str, point: str) -> int | None:
        """How a node that hires under the key and dies at the point ends."""
        root = Path(__file__).parents[3]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.x402.svm.buyer_process", self.told, key, point, stderr=PIPE, cwd=root
        )
        _, errors = await process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors.decode()
        return process.returncode

    @property
    def told(self) -> str:
        secrets = {name: getattr(self.settings, name).get_secret_value() for name in ("buyer_key", "relayer_key")}
        return json.dumps(self.settings.model_dump(mode="json") | secrets)


@asynccontextmanager
async def open_square(stage: Stage, chain: DevelopmentChain, home: Path) -> AsyncIterator[Square]:
    keypair = home / "buyer.json"
    LocalSigner(bytes(stage.buyer), NetworkKind.TESTNET).write_keypair_file(keypair)
    async with AsyncExitStack() as stack:
        probe = await stack.enter_async_context(httpx.AsyncClient())

        async def nobody(*_: str) -> None:
            return None

        registry = registry_app(
            RegistryStore(stage.database), clock=SystemClock(), ids=TimeOrderedIds(), paid=nobody, probe=probe
        )
        url = await stack.enter_async_context(serving(registry))
        facts = {
            "home": home, "database_url": stage.database.url, "evm_rpc_url": chain.rpc_url,
            "usdc_address": chain.usdc.reference, "buyer_key": chain.accounts["buyer"].private_key,
            "relayer_key": chain.accounts["relayer"].private_key, "registry_url": url,
            "solana_rpc_url": stage.chain.rpc_url, "solana_buyer_keypair": keypair,
        }  # fmt: skip
        settings = Settings.model_validate(facts)
        ground = Ground(settings, stage.database)
        opened = await stack.enter_async_context(open_chain(ground))
        buying = await stack.enter_async_context(open_buying(ground, opened))
        await stage.chain.advance(4)  # what the buyer was given is final
        assert buying.solana is not None
        assert await buying.solana.book_deposits(buying.books) == 1
        yield Square(stage, opened, buying, settings, url, stage.database, stack)


@pytest.fixture
async def square(stage: Stage, chain: DevelopmentChain, tmp_path: Path) -> AsyncIterator[Square]:
    async with open_square(stage, chain, tmp_path) as opened:
        await opened.budget()
        yield opened


async def test_what_arrives_in_the_wallet_is_in_the_books_once(square: Square) -> None:
    solana, books = square.buying.solana, square.buying.books
    assert solana is not None
    assert await solana.book_deposits(books) == 0
    await square.stage.chain.mint(square.stage.buyer.pubkey(), 5)
    await square.stage.chain.advance(4)
    assert await solana.book_deposits(books) == 1
    assert (await books.balance(solana.account, solana.usdc)).posted.atomic == START + 5
    await square.assert_books_agree_with_the_chains()


async def test_a_seller_that_takes_solana_only_is_hired_and_paid_there(square: Square) -> None:
    await square.open_shop()
    hired = await square.hire()
    assert hired.output["echo"] == '{"text":"hello"}'  # type: ignore[index]  # JSON
    (paid,) = hired.receipt.payments
    assert (paid.rail, paid.network, paid.amount, paid.payer) == (
        "solana", NETWORK, str(PRICE), str(square.stage.buyer.pubkey())
    )  # fmt: skip
    unit = square.buying.parity.unit
    assert paid.counted is not None
    assert (paid.counted.amount, paid.counted.source) == (Money(unit, PRICE), "USDC is counted as one dollar")
    assert paid.worth(unit.caip19) == paid.worth(paid.asset) == PRICE
    assert spent([hired.receipt], unit.zero()) == Money(unit, PRICE)
    status = await square.buying.books.budgets.status(BUDGET)
    assert (status.spent, status.reserved.atomic) == (Money(unit, PRICE), 0)
    assert await square.stage.left() == START - PRICE
    await square.assert_books_agree_with_the_chains()
    assert (await square.hire()).receipt == hired.receipt
    assert square.work.runs == 1


async def test_its_receipt_is_verified_offline_and_on_the_cluster(square: Square) -> None:
    await square.open_shop()
    receipt = (await square.hire()).receipt
    await square.stage.chain.advance(4)
    entry = receipt.model_dump(mode="json")
    assert verify_receipt(entry, need=NEED).valid
    assert (await verify_with_chain(entry, square.stage.chain.rpc_url))["valid"]
    entry["payments"][0]["counted"]["amount"]["atomic"] = "1"
    assert {check.name for check in verify_receipt(entry).failures} == {"signature", "payments.0.counted"}


async def test_a_receipt_cannot_name_another_payment_on_solana_between_the_same_two(square: Square) -> None:
    await square.open_shop()
    receipts = [(await square.hire(key)).receipt for key in ("k1", "k2")]
    await square.stage.chain.advance(4)
    first, second = (receipt.payments[0] for receipt in receipts)
    for change, good in (
        ({"authorization": second.authorization}, False),
        ({"transaction": second.transaction}, False),
        ({"authorization": ""}, True),
    ):
        told = receipts[0].model_copy(update={"payments": (first.model_copy(update=change),)})
        entry = (await sign_receipt(told, square.buying.signer)).model_dump(mode="json")
        assert (await verify_with_chain(entry, square.stage.chain.rpc_url))["valid"] is good


async def test_a_failed_run_gives_the_money_back_when_the_signature_has_lapsed(square: Square) -> None:
    await square.open_shop(Work(status=500))
    hiring = asyncio.create_task(square.hire())
    while square.work.runs == 0:
        await asyncio.sleep(0.01)
    assert (await square.buying.books.budgets.status(BUDGET)).reserved.atomic == PRICE
    await square.stage.chain.advance(260)
    with pytest.raises(SellerFailed):
        await hiring
    (receipt,) = await square.buying.hiring.receipts("k1")
    assert receipt.status is ReceiptStatus.REFUNDED
    assert verify_receipt(receipt.model_dump_json()).valid
    assert (await square.buying.books.budgets.status(BUDGET)).left["total"].atomic == START
    assert await square.stage.left() == START
    await square.assert_books_agree_with_the_chains()


@pytest.mark.parametrize("point", ["reserved", "hold-opened", "hold-written", "settled-on-rail", "captured"])
async def test_a_node_killed_in_the_middle_of_a_payment_goes_on_with_the_same_transaction(
    square: Square, point: str
) -> None:
    await square.open_shop()
    assert await square.child("k1", point) == -signal.SIGKILL
    before = [row.payment for row in await square.buying.hiring.cashier.holds.of_hire("k1")]
    hired = await square.hire()
    (after,) = await square.buying.hiring.cashier.holds.of_hire("k1")
    assert after.state is PaymentState.CONFIRMED
    assert after.payment is not None
    if before[0] is not None:
        assert after.payment.evidence["payload"] == before[0].evidence["payload"]
    assert hired.receipt.payments[0].transaction == after.payment.evidence["transaction"]
    assert (await square.stage.paid(), square.work.runs) == (PRICE, 1)
    await square.assert_books_agree_with_the_chains()


@pytest.mark.parametrize("point", ["sending", "relaying"])
async def test_repair_sends_what_a_killed_node_had_stored_and_not_sent(square: Square, point: str) -> None:
    solana, unit = square.buying.solana, square.buying.parity.unit
    assert solana is not None
    on_solana = point == "sending"
    payee = str(square.stage.seller.pubkey()) if on_solana else "0x" + "5e" * 20
    rail, asset = (solana.rail, solana.usdc) if on_solana else (square.buying.rail, unit)
    await square.stage.chain.airdrop(square.stage.buyer.pubkey(), 1_000_000_000)  # for the fee
    assert await square.child(payee, point) == -signal.SIGKILL

    async def nothing_is_on_its_way() -> bool:
        return (await Repair(square.buying.hiring).run_once()).sending == 0

    await wait_until_ready(nothing_is_on_its_way, what="what was sent again", timeout_seconds=60)
    payment = await rail.send(payment_to(payee, asset), payee)  # the same key: what was sent again is found
    assert payment.state is PaymentState.CONFIRMED
    assert (await Repair(square.buying.hiring).run_once()).sending == 0


async def test_repair_goes_on_with_one_network_while_the_other_is_away(square: Square) -> None:
    class Away:
        name = "evm"

        async def recover(self) -> int:
            raise OSError("no node there")

    wallets = square.buying.hiring.cashier.wallets
    wallets["evm"] = wallets["evm"].__class__(Away(), "0x0")  # type: ignore[arg-type]  # the part that repair asks
    assert (await Repair(square.buying.hiring).run_once()).sending == 0


async def test_one_budget_limits_both_networks_and_nobody_is_asked_beyond_it(square: Square) -> None:
    await square.open_shop()
    await square.hire("k1")
    books, unit = square.buying.books, square.buying.parity.unit
    wallet = account_of(square.chain, square.buying.rail.address)
    await books.deposit("evm", wallet, Money(unit, START))
    await books.reserve(
        "evm", budget_id=BUDGET, payer_account=wallet, payee_account="seller:x", amount=Money(unit, START - PRICE - 1)
    )
    with pytest.raises(BudgetExceeded):
        await square.hire("k2")
    assert (square.work.runs, await square.stage.paid()) == (1, PRICE)


async def test_an_empty_wallet_on_solana_is_said_before_the_seller_is_asked(square: Square) -> None:
    await square.open_shop()
    solana = square.buying.solana
    assert solana is not None
    await square.buying.books.withdraw("gone", solana.account, Money(solana.usdc, START))
    with pytest.raises(InsufficientFunds):
        await square.hire()
    assert square.work.runs == 0


async def test_offers_on_both_networks_are_ranked_by_what_they_cost(square: Square, chain: DevelopmentChain) -> None:
    await square.open_shop()
    seller = chain.accounts["seller-1"].signer
    for number, amount in enumerate((PRICE // 2, 2 * PRICE)):
        asked = requirement(amount, asset=chain.usdc.reference, pay_to=seller.public_id)
        await square.enter(f"http://127.0.0.1:9/{number}", asked, owner=seller)  # type: ignore[arg-type]  # either signs
    need = Need(capability="report.make", strategy=Strategy.PRICE)
    found = await square.buying.hiring.offers(need)
    assert [ranked.price_usd for ranked in found] == sorted(ranked.price_usd for ranked in found)
    assert [ranked.offer.price.maximum.asset.network[:6] for ranked in found] == ["eip155", "solana", "eip155"]
    unit = square.buying.parity.unit
    limited = need.model_copy(update={"constraints": Constraints(max_price=Money(unit, PRICE))})
    assert len(await square.buying.hiring.offers(limited)) == 2


async def test_a_price_limit_in_the_budgets_asset_holds_on_solana(square: Square) -> None:
    await square.open_shop()
    limit = Constraints(max_price=Money(square.buying.parity.unit, PRICE - 1))
    with pytest.raises(NoOffer):
        await square.hire(need=NEED.model_copy(update={"constraints": limit}))
    assert square.work.runs == 0


async def test_plans_count_a_price_on_solana_in_the_budgets_asset(square: Square) -> None:
    await square.open_shop()
    unit = square.buying.parity.unit
    hirer = CountedHiring(square.buying.hiring, square.buying.parity, SystemClock())
    (ranked,) = await hirer.offers(NEED)
    assert ranked.offer.price.maximum == Money(unit, PRICE)
    assert ranked.offer.rails[0]["network"] == NETWORK
    assert counted(ranked.offer, square.buying.parity) is ranked.offer
    hired = await hirer.hire(NEED, budget_id=BUDGET, key="k1", user_id="u")
    assert [receipt.id for receipt in await hirer.receipts("k1")] == [hired.receipt.id]
    assert await hirer.cancel("k1") == list(hired.receipts)


async def test_an_estimate_says_what_paying_costs_on_each_network(
    square: Square, monkeypatch: pytest.MonkeyPatch
) -> None:
    await square.open_shop()
    unit, solana = square.buying.parity.unit, square.buying.solana
    assert solana is not None
    native = solana.rail.network.native
    steps = tuple(PlanStep(id=name, title=name, capability="report.make") for name in ("a", "b"))

    async def estimated(hirer: CountedHiring) -> dict[str, Money]:
        found = offered_from([ranked.offer for ranked in await hirer.offers(NEED)])
        plan = with_offers(Plan(planner="hand", steps=steps), found)
        priced = estimate(plan, found, unit.zero(), hirer.fee)
        assert priced.expected == Money(unit, 2 * PRICE)
        return priced.fees

    clock = ManualClock(SystemClock().now())
    hirer = CountedHiring(square.buying.hiring, square.buying.parity, clock)
    assert await estimated(hirer) == {NETWORK: native.zero()}  # the seller's facilitator pays

    async def dear(_request: PaymentRequest) -> Money:
        return Money(native, 5_000)

    async def away(_request: PaymentRequest) -> Money:
        raise Unavailable("no node there")

    monkeypatch.setattr(solana.rail, "fee", dear)
    assert await estimated(hirer) == {NETWORK: native.zero()}  # asked a moment ago
    clock.advance(61)
    assert await estimated(hirer) == {NETWORK: Money(native, 10_000)}
    clock.advance(61)
    monkeypatch.setattr(solana.rail, "fee", away)
    assert await estimated(hirer) == {NETWORK: unit.zero()}


async def test_real_and_play_money_never_count_as_the_same(square: Square) -> None:
    ground = Ground(square.settings.model_copy(update={"evm_chain_id": 8453}), square.database)
    with pytest.raises(WrongNetwork):
        async with open_solana_buyer(ground):
            raise AssertionError


async def test_a_wallet_that_is_not_configured_is_said_with_what_to_set(square: Square) -> None:
    unset = Ground(square.settings.model_copy(update={"solana_rpc_url": None}), square.database)
    with pytest.raises(Unavailable) as said:
        async with open_solana_buyer(unset):
            raise AssertionError
    assert "NEXUS_SOLANA_RPC_URL" in said.value.next_step
    async with on_solana(
        Ground(square.settings.model_copy(update={"solana_buyer_keypair": None}), square.database)
    ) as no:
        assert no is None
