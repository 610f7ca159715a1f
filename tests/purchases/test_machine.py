"""Any order of events, crashes and repeats ends with the right and the money held, or with the money back; never else.

The rules and acts are the real ones, the ledger is; the chain and the wallet are a model of what those may do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import NexusError, NotFound, PaymentFailed, Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.ledger.books import Books
from agentnexus.ledger.memory import MemoryBooks
from agentnexus.ledger.model import ReservationState
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.marketplace.entitlements.holdings import Held
from agentnexus.marketplace.entitlements.store import EntitlementStore
from agentnexus.marketplace.listings.service import Listings
from agentnexus.marketplace.purchases.acts import Acts
from agentnexus.marketplace.purchases.market import Market
from agentnexus.marketplace.purchases.model import Purchase, PurchaseState, Seen, Step, refunding
from agentnexus.marketplace.purchases.ports import Payer
from agentnexus.rails.evm.contracts.escrow import DealStatus
from agentnexus.wallets.model import OperationState, WalletKind

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
USDC = Asset("USDC", 6, "eip155:31337/erc20:0x5fbdb2315678afecb367f032d93f642f64180aa3")
WALLET, SELLER = "0x" + "aa" * 20, "0x" + "bb" * 20
PRICE, QUANTITY, FUNDS = 20_000, 3, 100_000
AMOUNT = PRICE * QUANTITY


@dataclass(frozen=True)
class ChainState:
    """What a block can undo."""

    deal: DealStatus = DealStatus.NONE
    tokens: int = 0
    buyer: int = FUNDS
    escrow: int = 0
    seller: int = 0
    mined: frozenset[str] = frozenset()
    expires_at: datetime | None = None


@dataclass
class Model:
    """Chain, wallet, catalogue and faults."""

    clock: ManualClock
    kind: WalletKind
    blocks: list[ChainState] = field(default_factory=lambda: [ChainState()])
    operations: dict[str, OperationState] = field(default_factory=dict)
    listed: bool = True
    active: bool = True
    fault: str = ""

    @property
    def now(self) -> ChainState:
        return self.blocks[-1]

    def change(self, **changes: object) -> None:
        self.blocks.append(replace(self.now, **changes))  # type: ignore[arg-type]  # fields by name

    def trip(self, moment: str) -> None:
        """Raise what was ordered, once: before an effect, or after it, as an answer that was lost."""
        if self.fault.startswith(moment):
            kind, self.fault = self.fault, ""
            raise Unavailable("away") if kind.endswith("passes") else PaymentFailed("never")

    # -- the chain as `Market` shows it -----------------------------------------------------------------------------

    async def seen(self, purchases: Sequence[Purchase]) -> list[Seen]:
        self.trip("before")
        held = self.now.escrow if self.now.deal is DealStatus.OPEN else 0
        return [Seen(self.now.deal, held, self.now.expires_at, self.clock.now()) for _ in purchases]

    async def money(self, _holder: str) -> int:
        self.trip("before")
        return self.now.buyer

    async def balance(self, _holder: str, _token: int) -> int:
        return self.now.tokens

    async def balances(self, held: Sequence[tuple[str, int]]) -> list[int]:
        return [self.now.tokens for _ in held]

    async def prepare_class(self, _purchase: Purchase) -> None:
        self.trip("before")

    async def is_active(self, _number: int) -> bool:
        return self.active

    async def is_minted(self, _purchase: Purchase) -> bool:
        return self.now.tokens > 0

    async def calls(self, _purchase: Purchase) -> list[object]:
        return []

    def _back(self, status: DealStatus) -> None:
        if self.now.deal is not DealStatus.OPEN:
            raise PaymentFailed("DealNotOpen")
        self.change(deal=status, buyer=self.now.buyer + self.now.escrow, escrow=0)

    async def refund(self, _purchase: Purchase) -> str:
        self.trip("before")
        self._back(DealStatus.REFUNDED)
        self.trip("after")
        return "0x"

    async def expire(self, _purchase: Purchase) -> str:
        self._back(DealStatus.EXPIRED)
        return "0x"

    async def revoke(self, _purchase: Purchase, _key: str, count: int, *, holder: str) -> str:
        assert holder == _purchase.wallet
        self.trip("before")
        self.change(tokens=self.now.tokens - count)
        self.trip("after")
        return "0x"

    # -- the wallet -------------------------------------------------------------------------------------------------

    async def of(self, _user: str) -> SimpleNamespace:
        return SimpleNamespace(kind=self.kind)

    async def begin(self, _user: str, _calls: object, *, key: str, purpose: str, title: str) -> SimpleNamespace:
        assert (purpose, bool(title)) == ("purchase", True)
        self.trip("before")
        if key not in self.operations:
            if self.now.buyer < AMOUNT:
                raise PaymentFailed("ERC20InsufficientBalance")
            here = self.kind is WalletKind.SERVER
            self.operations[key] = OperationState.SIGNED if here else OperationState.UNSIGNED
        self.trip("after")
        return self._operation(key)

    async def operation(self, key: str) -> SimpleNamespace:
        self.trip("before")
        if key not in self.operations:
            raise NotFound("no operation")
        return self._operation(key)

    async def settle(self, key: str, *, timeout_seconds: float) -> SimpleNamespace:
        assert timeout_seconds > 0
        return await self.operation(key)

    def _operation(self, key: str) -> SimpleNamespace:
        state = OperationState.SUCCEEDED if key in self.now.mined else self.operations[key]
        return SimpleNamespace(id=key, state=state, transaction="0x" if key in self.now.mined else "", error=None)

    def sign(self) -> None:
        for key, state in self.operations.items():
            if state is OperationState.UNSIGNED:
                self.operations[key] = OperationState.SIGNED

    def mine(self, purchase: Purchase) -> None:
        """The newest signed operation, if the chain takes it: one deal, in time, with the money there."""
        late = self.clock.now() > purchase.valid_until
        for key, state in reversed(self.operations.items()):
            if state is not OperationState.SIGNED or key in self.now.mined or late:
                continue
            if self.now.deal is not DealStatus.NONE or self.now.buyer < AMOUNT or not self.active:
                self.operations[key] = OperationState.FAILED
                continue
            self.change(
                deal=DealStatus.OPEN, tokens=self.now.tokens + QUANTITY, buyer=self.now.buyer - AMOUNT, escrow=AMOUNT,
                mined=self.now.mined | {key}, expires_at=self.clock.now() + timedelta(days=30),
            )  # fmt: skip
            return

    def drop(self) -> None:
        """The wallet gives an operation up that nobody mined."""
        for key, state in self.operations.items():
            if state in (OperationState.SIGNED, OperationState.UNSIGNED) and key not in self.now.mined:
                self.operations[key] = OperationState.REJECTED

    async def for_sale(self, _agent: str) -> SimpleNamespace:
        if not self.listed:
            raise NotFound("not for sale")
        return SimpleNamespace()

    # -- rights -----------------------------------------------------------------------------------------------------

    async def mirror(self, *_: object) -> None:
        return

    async def unsettle(self, _purchase: str, paid_at_most: int, _now: datetime) -> int:
        assert 0 <= paid_at_most <= QUANTITY
        return 0

    async def held(self, purchase_ids: Sequence[str]) -> list[Held]:
        return [Held(each, WALLET, QUANTITY, True, 0, 0, 0) for each in purchase_ids]


class Machine:
    """A purchase, its row, and the processes that move it."""

    def __init__(self, kind: WalletKind) -> None:
        self.clock = ManualClock(START)
        self.model = Model(self.clock, kind)
        self.books = MemoryBooks(self.clock)
        budgets = PersonalBudgets(cast("Books", self.books), USDC)
        self.acts = Acts(
            cast("Market", self.model),
            cast("Payer", self.model),
            cast("Listings", self.model),
            cast("Books", self.books),
            budgets,
            cast("EntitlementStore", self.model),
            self.clock,
        )
        self.row = Purchase(
            id="pur_1", user_id="ann", key="k", agent_id="a", agent_name="A", capability="c.d", seller=SELLER,
            quantity=QUANTITY, price=Money(USDC, PRICE), fee_bps=250, wallet_id="w", wallet=WALLET,
            deal_id="0x" + "11" * 32, lifetime_seconds=86_400, valid_until=START + timedelta(hours=1),
            created_at=START, updated_at=START,
        )  # fmt: skip

    def write(self, before: Purchase, after: Purchase) -> bool:
        """As the store does: only over the version that was read."""
        if self.row.version != before.version:
            return False
        self.row = replace(after, version=before.version + 1)
        return True

    async def drive(self, *, dies: bool = False, before: Purchase | None = None) -> None:
        """One act. `dies`: what it did is done, and nobody notes it. `before`: somebody who read the row long ago."""
        read = before or self.row
        after = await self.acts.perform(read)
        if not dies:
            self.write(read, after)

    def ask_refund(self) -> None:
        if self.row.step is Step.ENTITLED:
            self.write(self.row, refunding(self.row, "asked for", self.clock.now()))

    async def heal(self) -> None:
        """Everything works again, and a worker looks after the purchase until it is at rest."""
        self.model.fault = ""
        for _ in range(200):
            self.model.mine(self.row)
            before = self.row
            await self.drive()
            at_rest = self.row.state.final and self.row.step in (Step.ENTITLED, Step.ENDED)
            if at_rest and (self.row.state, self.row.step) == (before.state, before.step):
                return
            self.clock.advance(61)
        raise AssertionError(f"it never ends: {self.row.state} {self.row.step} {self.row.error}")


EVENTS = (
    "drive", "drive", "drive", "drive", "die", "old", "mine", "mine", "drop", "sign", "reorganise", "minute", "hour",
    "month", "delist", "switch off", "spend", "earn", "ask refund", "seller refunds", "release", "pay alone",
    "before passes", "before never", "after passes", "after never",
)  # fmt: skip


async def happen(machine: Machine, event: str, old: Purchase) -> None:
    model, now = machine.model, machine.model.now
    clocks = {"minute": 60, "hour": 3_700, "month": 31 * 86_400}
    match event:
        case "drive":
            await machine.drive()
        case "die":
            await machine.drive(dies=True)
        case "old":
            await machine.drive(before=old)
        case "mine":
            model.mine(machine.row)
        case "drop":
            model.drop()
        case "sign":
            model.sign()
        case "reorganise":
            del model.blocks[max(len(model.blocks) - 1, 1) :]
        case "minute" | "hour" | "month":
            machine.clock.advance(clocks[event])
        case "delist":
            model.listed = False
        case "switch off":
            model.active = False
        case "spend":
            model.change(buyer=0, seller=now.seller + now.buyer)
        case "earn":
            model.change(buyer=now.buyer + now.seller, seller=0)
        case "ask refund":
            machine.ask_refund()
        case "seller refunds" if now.deal is DealStatus.OPEN:
            await model.refund(machine.row)
        case "pay alone" if now.deal is DealStatus.NONE and now.buyer >= AMOUNT:
            ends = machine.clock.now() + timedelta(days=30)
            model.change(deal=DealStatus.OPEN, buyer=now.buyer - AMOUNT, escrow=AMOUNT, expires_at=ends)
        case "release" if now.deal is DealStatus.OPEN:
            model.change(deal=DealStatus.RELEASED, seller=now.seller + now.escrow, escrow=0)
        case fault if " " in fault:
            model.fault = fault


async def story(kind: WalletKind, events: Sequence[str]) -> Machine:
    machine = Machine(kind)
    old = machine.row
    for number, event in enumerate(events):
        try:
            await happen(machine, event, old)
        except NexusError:
            assert event == "seller refunds"
        if number % 3 == 0:
            old = machine.row
    await machine.heal()
    return machine


def check(machine: Machine) -> None:
    """The promise."""
    chain, row = machine.model.now, machine.row
    assert chain.buyer + chain.escrow + chain.seller == FUNDS
    match row.state:
        case PurchaseState.COMPLETED:
            assert chain.deal in (DealStatus.OPEN, DealStatus.RELEASED)
            assert chain.tokens == QUANTITY or chain.deal is DealStatus.RELEASED
            assert row.step is Step.ENTITLED
        case PurchaseState.FAILED:
            assert (chain.deal, chain.tokens, chain.escrow) == (DealStatus.NONE, 0, 0)
            assert row.error is not None
        case PurchaseState.REFUNDED:
            assert chain.deal in (DealStatus.REFUNDED, DealStatus.EXPIRED)
            assert (chain.tokens, chain.escrow) == (0, 0)
        case other:
            raise AssertionError(f"{other} is no end")
    assert row.next_try_at is None


async def books_agree(machine: Machine) -> None:
    """What failed holds nothing of the budget; the rest is the chain's watcher's."""
    assert (await machine.books.check()).clean
    try:
        reservation = await machine.books.reservation(machine.row.reservation)
    except NotFound:
        assert machine.model.now.tokens == 0  # it failed, or was paid past us before we had set anything aside
        return
    if machine.row.state is PurchaseState.FAILED:
        assert reservation.state is ReservationState.VOIDED


def told(story_of: Awaitable[Machine]) -> Machine:
    async def run() -> Machine:
        machine = await story_of
        await books_agree(machine)
        return machine

    return asyncio.run(run())


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([WalletKind.SERVER, WalletKind.PASSKEY]),
    st.lists(st.sampled_from(EVENTS), max_size=40),
)
def test_whatever_happens_it_ends_with_the_right_or_with_the_money(kind: WalletKind, events: list[str]) -> None:
    check(told(story(kind, events)))


def test_when_nothing_happens_it_is_bought() -> None:
    machine = told(story(WalletKind.SERVER, []))
    check(machine)
    assert machine.row.state is PurchaseState.COMPLETED


def test_what_nobody_signs_fails_and_costs_nothing() -> None:
    machine = told(story(WalletKind.PASSKEY, ["drive"] * 5))
    check(machine)
    assert machine.row.state is PurchaseState.FAILED
    assert machine.row.error is not None
    assert "not signed in time" in str(machine.row.error["message"])


def test_what_was_signed_in_time_is_bought() -> None:
    machine = told(story(WalletKind.PASSKEY, ["drive"] * 5 + ["sign", "mine"]))
    check(machine)
    assert machine.row.state is PurchaseState.COMPLETED
