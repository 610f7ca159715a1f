"""The ledger in memory: the same door and the same rules as `books.Books`, for tests, demos and simulations.

One event loop, nothing durable. A supported part of the house, not a mock: it answers as PostgreSQL would.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from agentnexus.core.clock import SystemClock, TimeOrderedIds
from agentnexus.core.errors import Conflict, NotFound
from agentnexus.core.money import Asset, Money, Parity
from agentnexus.core.ports import Clock, Ids
from agentnexus.ledger.book import Book, may_expire
from agentnexus.ledger.budgets import BudgetsDoor, BudgetStatus, check_total, no_budget, status_of
from agentnexus.ledger.door import Door, Line
from agentnexus.ledger.limits import Scope, counted_in
from agentnexus.ledger.model import (
    Answer,
    Balance,
    BudgetState,
    Ceilings,
    CheckReport,
    Finding,
    Operation,
    Reservation,
    ReservationState,
    to_utc,
)


class MemoryBooks(Door):
    """A whole `Book` behind the door."""

    def __init__(self, clock: Clock | None = None, ids: Ids | None = None, *, parity: Parity | None = None) -> None:
        self.book = Book(parity=parity)
        self._clock = clock or SystemClock()
        self._ids = ids or TimeOrderedIds(self._clock)
        self._assets: dict[str, Asset] = {}
        self.budgets = MemoryBudgets(self, self._clock)

    async def close(self) -> None:
        """Nothing to release; here because `Books` has it."""

    async def balances(self, account: str) -> list[Balance]:
        states = sorted((s for s in self.book.accounts.values() if s.name == account), key=lambda s: s.key)
        return [Balance(s.name, Money(s.asset, s.balance), Money(s.asset, s.reserved)) for s in states]

    async def reservation(self, key: str) -> Reservation:
        found = self.book.reservations.get(key)
        if found is None:
            raise NotFound(f"no reservation {key}", next_step="reserve first", key=key)
        return found

    async def as_of(self, account: str, asset: Asset, at: datetime) -> Money:
        moment = to_utc(at)
        return Money(asset, sum(line.amount.atomic for line in self._lines(account, asset) if line.at <= moment))

    async def statement(
        self,
        account: str,
        asset: Asset,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[Line]:
        lines = [
            line
            for line in self._lines(account, asset)
            if (since is None or line.at >= to_utc(since)) and (until is None or line.at < to_utc(until))
        ]
        return lines[:limit]

    async def expire(self, now: datetime | None = None) -> list[Reservation]:
        moment = to_utc(now or self._clock.now())
        due = [key for key, reservation in self.book.reservations.items() if may_expire(reservation, moment)]
        return await self._void_expired(due, moment)

    async def check(self) -> CheckReport:
        book = self.book
        return CheckReport(
            accounts=len(book.accounts),
            transfers=len(book.transfers),
            reservations=len(book.reservations),
            budgets=len(book.budgets),
            findings=tuple(broken(book)),
        )

    def settle(self, asset: Asset) -> Asset:
        """The first form in which the asset was met; raises `Conflict` when the decimals differ."""
        known = self._assets.setdefault(asset.caip19, asset)
        if known.decimals != asset.decimals:
            raise Conflict(
                f"{asset.caip19} has {known.decimals} decimals here, not {asset.decimals}",
                next_step="use the asset's true decimals",
                asset=asset.caip19,
            )
        return known

    async def _submit(self, operation: Operation) -> Answer:
        return self.book.apply(operation, to_utc(self._clock.now()), self._ids.new)

    async def _settled(self, money: Money) -> Money:
        return Money(self.settle(money.asset), money.atomic)

    def _lines(self, account: str, asset: Asset) -> Iterator[Line]:
        balance = 0
        for transfer in sorted(self.book.transfers.values(), key=lambda t: (t.at, t.id)):
            if account not in (transfer.debit, transfer.credit) or transfer.amount.asset.caip19 != asset.caip19:
                continue
            out = transfer.debit == account
            amount = -transfer.amount if out else transfer.amount
            balance += amount.atomic
            yield Line(
                transfer.at,
                transfer.id,
                transfer.kind,
                transfer.credit if out else transfer.debit,
                amount,
                Money(amount.asset, balance),
                transfer.correlation,
                transfer.memo,
            )


class MemoryBudgets(BudgetsDoor):
    """Budgets of a `MemoryBooks`."""

    def __init__(self, books: MemoryBooks, clock: Clock) -> None:
        super().__init__(clock)
        self._books = books

    async def status(self, budget_id: str) -> BudgetStatus:
        return self._status(await self._node(budget_id))

    async def revoke(self, budget_id: str) -> BudgetStatus:
        node = await self._node(budget_id)
        node.revoked_at = node.revoked_at or to_utc(self._clock.now())
        return self._status(node)

    async def list(
        self,
        owner: str | None = None,
        parent: str | None = None,
        ids: Collection[str] | None = None,
        without: str | None = None,
    ) -> Sequence[BudgetStatus]:
        nodes = sorted(self._books.book.budgets.values(), key=lambda node: (node.created_at, node.id))
        return [
            self._status(node)
            for node in nodes
            if (owner is None or node.owner == owner)
            and (parent is None or node.parent == parent)
            and (ids is None or node.id in ids)
            and (without is None or not node.id.startswith(without))
        ]

    def _status(self, node: BudgetState) -> BudgetStatus:
        return status_of(node, self._books.book.usage, to_utc(self._clock.now()))

    async def _node(self, budget_id: str) -> BudgetState:
        node = self._books.book.budgets.get(budget_id)
        if node is None:
            raise no_budget(budget_id)
        return node

    async def _insert(self, node: BudgetState) -> BudgetState:
        return self._books.book.budgets.setdefault(node.id, node)

    async def _set_ceilings(self, budget_id: str, fresh: Ceilings) -> None:
        node = await self._node(budget_id)
        check_total(budget_id, fresh, node.reserved + node.spent, node.ceilings.spendable)
        node.ceilings = fresh
        self._books.book.recount(node)

    async def _settled_asset(self, asset: Asset) -> Asset:
        return self._books.settle(asset)


def broken(book: Book) -> Iterator[Finding]:
    """The rules of `check` worked out from a book's transfers and reservations."""
    balances: Tally[tuple[str, str]] = Tally()
    for transfer in book.transfers.values():
        asset = transfer.amount.asset.caip19
        balances[transfer.debit, asset] -= transfer.amount.atomic
        balances[transfer.credit, asset] += transfer.amount.atomic
    promised: Tally[tuple[str, str]] = Tally()
    sums: Tally[tuple[str, str]] = Tally()
    counters: Tally[tuple[str, Scope, str, str]] = Tally()
    for reservation in book.reservations.values():
        pending = reservation.terms.amount.atomic if reservation.state is ReservationState.PENDING else 0
        promised[reservation.terms.payer, reservation.terms.amount.asset.caip19] += pending
        for node in book.path(reservation.terms.budget_id):
            for figure, amount in (("reserved", pending), ("spent", reservation.spent)):
                sums[node.id, figure] += amount
                for scope, label in counted_in(node.ceilings, reservation.terms, reservation.created_at):
                    counters[node.id, scope, label, figure] += amount
    yield from _wrongly_returned(book)
    for state in book.accounts.values():
        yield from _unequal("a balance is the sum of its entries", state.name, balances[state.key], state.balance)
        yield from _unequal(
            "reserved is the sum of pending reservations", state.name, promised[state.key], state.reserved
        )
        if not state.covers(0):
            yield Finding("an account covers what it promised", state.name, str(state.reserved), str(state.balance))
    for node in book.budgets.values():
        yield from _unequal("a budget's sums are its reservations", node.id, sums[node.id, "reserved"], node.reserved)
        yield from _unequal("a budget's sums are its reservations", node.id, sums[node.id, "spent"], node.spent)
    for (budget_id, scope), labels in book.usage.items():
        for label, counter in labels.items():
            subject = f"{budget_id} {scope} {label}"
            for figure, found in (("reserved", counter.reserved), ("spent", counter.spent)):
                expected = counters[budget_id, scope, label, figure]
                yield from _unequal("a counter is its reservations", subject, expected, found)


def _wrongly_returned(book: Book) -> Iterator[Finding]:
    returned: Tally[str] = Tally()
    for transfer in book.transfers.values():
        if transfer.reservation:
            is_back = transfer.credit == book.reservations[transfer.reservation].terms.payer
            returned[transfer.reservation] += transfer.amount.atomic if is_back else -transfer.amount.atomic
    for key, reservation in book.reservations.items():
        yield from _unequal("what came back is the transfers that say so", key, returned[key], reservation.returned)


def _unequal(rule: str, subject: str, expected: int, found: int) -> Iterator[Finding]:
    if expected != found:
        yield Finding(rule, subject, str(expected), str(found))
