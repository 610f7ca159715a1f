"""Random histories against the pure rules: whatever is tried, no limit is ever passed by one unit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentnexus.core.errors import BudgetExceeded, Conflict, InsufficientFunds, NexusError
from agentnexus.core.money import Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.book import Book
from agentnexus.ledger.limits import Counter, Scope, decide, minute_label
from agentnexus.ledger.memory import broken
from agentnexus.ledger.model import (
    BudgetState,
    Capture,
    Ceilings,
    Move,
    Reservation,
    ReservationState,
    Reserve,
    Terms,
    TransferKind,
    Void,
    ceilings,
)
from tests.ledger.conftest import SELLER, USDC, WALLET

START = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)
AMOUNTS = st.integers(1, 12)
LABELS = st.sampled_from(["", "x", "y"])
CEILING = st.none() | st.integers(0, 30)


def money(atomic: int) -> Money:
    return Money(USDC, atomic)


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    plain = {name: draw(CEILING) for name in Limits.model_fields}
    if plain["total"] is not None and (plain["keep_back"] or 0) > plain["total"]:
        plain["keep_back"] = plain["total"]
    return Limits(**{name: None if value is None else money(value) for name, value in plain.items()})


def budget(name: str, own: Limits, parent: BudgetState | None = None) -> BudgetState:
    path = (name,) if parent is None else (name, *parent.path)
    return BudgetState(name, path, "owner", USDC, ceilings(own, USDC, None, None), START)


class Ledger(RuleBasedStateMachine):
    """A three-level tree under random operations, watched by sums made independently of the book's own counters."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.now = START
        self.numbers = count()
        self.deposited = 0
        self.paid: dict[str, int] = {}  # what stayed with the seller, by reservation
        self.again: dict[str, int] = {}  # what came back and went again

    @rule(root=limits(), middle=limits(), leaf=limits())
    @precondition(lambda self: not self.book.budgets)
    def make_tree(self, root: Limits, middle: Limits, leaf: Limits) -> None:
        top = budget("root", root)
        mid = budget("middle", middle, top)
        self.book.budgets = {node.id: node for node in (top, mid, budget("leaf", leaf, mid))}

    @rule(amount=st.integers(1, 40))
    def deposit(self, amount: int) -> None:
        self._do(Move(f"d{next(self.numbers)}", TransferKind.DEPOSIT, "external:x", WALLET, money(amount)))
        self.deposited += amount

    @rule(seconds=st.sampled_from([1, 59, 61, 1800, 3541, 3600, 7200]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(
        amount=AMOUNTS,
        node=st.sampled_from(["root", "middle", "leaf"]),
        seller=LABELS,
        capability=LABELS,
        task=LABELS,
        tick=LABELS,
        lag=st.sampled_from([0, 0, 0, 90]),
    )
    @precondition(lambda self: bool(self.book.budgets))
    def reserve(self, amount: int, node: str, lag: int, **labels: str) -> None:
        """Another process's clock may lag a minute and a half."""
        terms = Terms(node, WALLET, SELLER, money(amount), **labels)
        before = snapshot(self.book)
        try:
            self.book.apply(
                Reserve(f"r{next(self.numbers)}", terms), self.now - timedelta(seconds=lag), lambda: "unused"
            )
        except (BudgetExceeded, InsufficientFunds):
            assert snapshot(self.book) == before

    @rule(data=st.data(), part=st.integers(1, 12))
    @precondition(lambda self: bool(self.book.reservations))
    def capture(self, data: st.DataObject, part: int) -> None:
        known = self._pick(data)
        if self._end(known, Capture(known.key, money(min(part, known.terms.amount.atomic)))):
            self.paid[known.key] = min(part, known.terms.amount.atomic)

    @rule(data=st.data(), amount=AMOUNTS, number=st.integers(0, 3), goes_again=st.booleans())
    @precondition(lambda self: bool(self.book.reservations))
    def give_back(self, data: st.DataObject, amount: int, number: int, goes_again: bool) -> None:
        """In any order, often repeated: never more than was paid, never less than nothing."""
        known, paid = self._pick(data), self.paid
        debit, credit = (WALLET, SELLER) if goes_again else (SELLER, WALLET)
        key = f"{known.key}:{number}:{amount}:{goes_again}"
        move = Move(key, TransferKind.REFUND, debit, credit, money(amount), reservation=known.key)
        before, is_new = snapshot(self.book), (TransferKind.REFUND, key) not in self.book.transfers
        answer = self._do(move)
        if isinstance(answer, NexusError):
            left = paid.get(known.key, 0) + (amount if goes_again else -amount)
            assert isinstance(answer, InsufficientFunds) or not 0 <= left <= known.captured
        if isinstance(answer, NexusError) or not is_new:
            assert snapshot(self.book) == before
            return
        paid[known.key] += amount if goes_again else -amount
        self.again[known.key] = self.again.get(known.key, 0) + (amount if goes_again else 0)
        assert 0 <= paid[known.key] <= known.captured

    @rule(data=st.data())
    @precondition(lambda self: bool(self.book.reservations))
    def void(self, data: st.DataObject) -> None:
        known = self._pick(data)
        self._end(known, Void(known.key))

    @rule(data=st.data())
    @precondition(lambda self: bool(self.book.reservations))
    def repeat(self, data: st.DataObject) -> None:
        """A repeated key answers as before, with other terms it conflicts; neither changes anything."""
        known = self._pick(data)
        before = snapshot(self.book)
        assert self.book.apply(Reserve(known.key, known.terms), self.now, lambda: "unused") is known
        other = Terms(known.terms.budget_id, WALLET, SELLER, money(99))
        assert isinstance(self._do(Reserve(known.key, other)), Conflict)
        assert snapshot(self.book) == before

    def _pick(self, data: st.DataObject) -> Reservation:
        return self.book.reservations[data.draw(st.sampled_from(sorted(self.book.reservations)))]

    def _end(self, known: Reservation, operation: Capture | Void) -> bool:
        """Whether it ended just now."""
        answer = self._do(operation)
        if known.state is ReservationState.PENDING:
            assert not isinstance(answer, NexusError)
        else:
            assert answer is known or isinstance(answer, Conflict)
        return known.state is ReservationState.PENDING

    def _do(self, operation: Move | Capture | Void | Reserve) -> object:
        try:
            return self.book.apply(operation, self.now, lambda: f"t{next(self.numbers)}")
        except NexusError as error:
            return error

    @invariant()
    def every_figure_is_its_history(self) -> None:
        assert list(broken(self.book)) == []

    @invariant()
    def money_is_neither_made_nor_lost(self) -> None:
        assert sum(account.balance for account in self.book.accounts.values()) == 0
        inside = sum(a.balance for a in self.book.accounts.values() if not a.name.startswith("external:"))
        assert inside == self.deposited

    @invariant()
    def no_account_promises_more_than_it_has(self) -> None:
        for account in self.book.accounts.values():
            assert account.reserved >= 0
            assert account.name.startswith("external:") or account.available >= 0

    @invariant()
    def no_limit_is_passed(self) -> None:
        for node in self.book.budgets.values():
            under = [r for r in self.book.reservations.values() if self._under(r, node)]
            assert_within(node.ceilings, under, self.again)

    @invariant()
    def budgets_count_what_stayed_with_sellers(self) -> None:
        for node in self.book.budgets.values():
            under = [r for r in self.book.reservations.values() if self._under(r, node)]
            assert node.spent == sum(self.paid.get(r.key, 0) for r in under) >= 0
            for scope in Scope:
                assert all(counter.used >= 0 for counter in self.book.usage.get((node.id, scope), {}).values())

    def _under(self, reservation: Reservation, node: BudgetState) -> bool:
        return node.id in self.book.budgets[reservation.terms.budget_id or ""].path


def snapshot(book: Book) -> object:
    """Everything that a refused or repeated operation must leave alone."""
    return (
        sorted((a.key, a.balance, a.reserved) for a in book.accounts.values() if a.balance or a.reserved),
        sorted((b.id, b.reserved, b.spent) for b in book.budgets.values()),
        sorted((key, label, c.reserved, c.spent) for key, labels in book.usage.items() for label, c in labels.items()),
        dict(book.reservations),
        dict(book.transfers),
    )


def used(reservation: Reservation) -> int:
    if reservation.state is ReservationState.PENDING:
        return reservation.terms.amount.atomic
    return reservation.spent


def assert_within(limits: Ceilings, payments: list[Reservation], again: dict[str, int]) -> None:
    """Each limit, summed from scratch over the payments; the hour over every real 60 minutes that ends at a payment.

    They may be passed by what came back of the very payments and went again, and by no more.
    """

    def fits(some: list[Reservation], ceiling: int | None) -> bool:
        return ceiling is None or sum(map(used, some)) <= ceiling + sum(again.get(r.key, 0) for r in some)

    by: dict[str, Callable[[Reservation], str]] = {
        "per_task": lambda r: r.terms.task,
        "per_tick": lambda r: r.terms.tick,
        "per_seller": lambda r: r.terms.seller,
        "per_capability": lambda r: r.terms.capability,
        "per_day": lambda r: r.created_at.date().isoformat(),
    }
    for name, label in by.items():
        ceiling = getattr(limits, name)
        for value in {label(r) for r in payments}:
            assert fits([r for r in payments if label(r) == value], ceiling), name
    assert limits.per_payment is None or all(used(r) <= limits.per_payment for r in payments)
    assert fits(payments, limits.spendable)
    if limits.per_hour is not None:
        for last in payments:
            window = (last.created_at - timedelta(hours=1), last.created_at)
            assert fits([r for r in payments if window[0] < r.created_at <= window[1]], limits.per_hour)


Ledger.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLedger = Ledger.TestCase


@given(
    spent=st.lists(st.tuples(st.integers(0, 7200), AMOUNTS), max_size=12), amount=AMOUNTS, ceiling=st.integers(0, 30)
)
@settings(max_examples=300, deadline=None)
def test_the_time_at_which_an_hour_frees_is_true_and_the_earliest_minute(
    spent: list[tuple[int, int]], amount: int, ceiling: int
) -> None:
    now = START + timedelta(hours=2)
    minutes: dict[str, Counter] = {}
    for seconds, value in spent:
        minutes.setdefault(minute_label(START + timedelta(seconds=seconds)), Counter()).spent += value
    node = budget("b", Limits(per_hour=money(ceiling)))
    terms = Terms("b", WALLET, SELLER, money(amount))
    usage = {("b", Scope.MINUTE): minutes}
    rejection = decide([node], usage, terms, 0, now)
    if rejection is None:
        return
    if rejection.frees_at is None:
        assert amount > ceiling
        return
    assert rejection.frees_at > now
    assert decide([node], usage, terms, 0, rejection.frees_at) is None
    assert decide([node], usage, terms, 0, rejection.frees_at - timedelta(seconds=1)) is not None


@given(own=limits(), amount=AMOUNTS, seller=LABELS)
@settings(max_examples=300, deadline=None)
def test_a_rejection_names_a_limit_of_the_node_and_less_than_was_asked(own: Limits, amount: int, seller: str) -> None:
    node = budget("b", own)
    rejection = decide([node], {}, Terms("b", WALLET, SELLER, money(amount), seller=seller), 1000, START)
    if rejection is None:
        return
    assert getattr(own, rejection.limit) is not None
    assert 0 <= rejection.left.atomic < amount
    error = rejection.to_error()
    assert error.details["limit"] == rejection.limit
