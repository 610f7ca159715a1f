"""The working set of the ledger and the one place where an operation changes it.

`MemoryBooks` keeps a whole `Book`; the store fills one with just what a batch touches, applies the batch and writes
the changes. Both therefore answer by the same rules. No I/O here, and an operation that raises has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput, NotFound
from agentnexus.core.money import Asset, Money, Parity
from agentnexus.ledger.limits import Counter, Scope, UsageKey, counted_in, decide
from agentnexus.ledger.model import (
    AccountKey,
    AccountState,
    Answer,
    BudgetState,
    Capture,
    Move,
    Operation,
    Reservation,
    ReservationState,
    Reserve,
    Terms,
    Transfer,
    TransferKind,
    Void,
)

TransferKey = tuple[TransferKind, str]
NewId = Callable[[], str]


@dataclass(slots=True)
class Changes:
    """What the applied operations changed, for a store to write: keys, in order of first change."""

    accounts: dict[AccountKey, None] = field(default_factory=dict)
    budgets: dict[str, None] = field(default_factory=dict)
    usage: dict[tuple[str, Scope, str], None] = field(default_factory=dict)
    reservations: dict[str, None] = field(default_factory=dict)
    returned: dict[str, None] = field(default_factory=dict)  # reservations of which something came back or went again
    again: dict[str, int] = field(default_factory=dict)  # atomic units that a budget had back and that went again
    transfers: list[Transfer] = field(default_factory=list)


@dataclass(slots=True)
class Book:
    """Accounts, reservations, transfers, budgets and counters by key.

    `whole`: nothing exists beside what is here, so an account not met before is new. A part of a larger ledger must not
    open accounts: their money is elsewhere. `parity`: assets that budgets count one for one.
    """

    accounts: dict[AccountKey, AccountState] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    transfers: dict[TransferKey, Transfer] = field(default_factory=dict)
    budgets: dict[str, BudgetState] = field(default_factory=dict)
    usage: dict[UsageKey, dict[str, Counter]] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)
    whole: bool = True
    parity: Parity | None = None

    def apply(self, operation: Operation, now: datetime, new_id: NewId) -> Answer:
        """Do one operation at `now` (UTC). Repeating a key with the same terms gives the first answer again.

        Raises `Conflict` (same key, other terms; or already ended the other way), `BudgetExceeded`,
        `InsufficientFunds`, `NotFound`, `InvalidInput`.
        """
        match operation:
            case Reserve():
                return self._reserve(operation, now)
            case Capture():
                return self._capture(operation, now, new_id)
            case Void():
                return self._void(operation, now)
            case Move():
                return self._move(operation, now, new_id)

    def account(self, name: str, asset: Asset) -> AccountState:
        """The account, opened with nothing in it when it is new."""
        key = (name, asset.caip19)
        state = self.accounts.get(key)
        if state is None:
            if not self.whole:
                raise LookupError(f"account {name} was not locked for this batch")
            state = self.accounts[key] = AccountState(name, asset)
        return state

    def path(self, budget_id: str | None) -> list[BudgetState]:
        """The budget and its parents up to the root; nothing for a payment without a budget."""
        if budget_id is None:
            return []
        budget = self.budgets.get(budget_id)
        if budget is None:
            raise NotFound(f"no budget {budget_id}", next_step="create the budget first", budget=budget_id)
        return [self.budgets[node] for node in budget.path]

    def _reserve(self, operation: Reserve, now: datetime) -> Reservation:
        known = self.reservations.get(operation.key)
        terms = operation.terms
        if known is not None:
            if known.terms != terms:
                raise _other_terms("reservation", operation.key)
            return known
        path = self.path(terms.budget_id)
        payer = self.account(terms.payer, terms.amount.asset)
        rejection = decide(path, self.usage, self._counted(terms, path), payer.available, now)
        if rejection is not None:
            raise rejection.to_error()
        _require_cover(payer, terms.amount)
        reservation = Reservation(
            operation.key,
            terms,
            ReservationState.PENDING,
            0,
            now,
            operation.expires_at,
            operation.auto_void,
            operation.correlation,
        )
        self._count(path, reservation, terms.amount.atomic, 0)
        payer.reserved += terms.amount.atomic
        self.changes.accounts[payer.key] = None
        self._keep(reservation)
        return reservation

    def _counted(self, terms: Terms, path: list[BudgetState]) -> Terms:
        """The payment as its budgets count it (a tree of them has one asset): counters are plain integers of that."""
        asset = path[0].asset if path else terms.amount.asset
        if self.parity is None or not self.parity.equal(asset, terms.amount.asset):
            return terms
        return replace(terms, amount=Money(asset, terms.amount.atomic))

    def _capture(self, operation: Capture, now: datetime, new_id: NewId) -> Reservation:
        reservation = self._reservation(operation.key)
        terms = reservation.terms
        amount = terms.amount if operation.amount is None else operation.amount
        if amount.asset.caip19 != terms.amount.asset.caip19 or not 0 < amount.atomic <= terms.amount.atomic:
            raise InvalidInput(
                f"cannot capture {amount} of a reservation of {terms.amount}",
                field="amount",
                next_step=f"capture more than nothing and at most {terms.amount}",
            )
        if reservation.state is not ReservationState.PENDING:
            if reservation.state is ReservationState.POSTED and reservation.captured == amount.atomic:
                return reservation
            raise _already_ended(reservation, "capture")
        moved = Transfer(
            new_id(),
            TransferKind.CAPTURE,
            operation.key,
            terms.payer,
            terms.payee,
            Money(terms.amount.asset, amount.atomic),
            now,
            reservation.correlation,
        )
        self._end(reservation)
        self._count(self.path(terms.budget_id), reservation, 0, amount.atomic)
        self._post(moved)
        done = replace(reservation, state=ReservationState.POSTED, captured=amount.atomic, resolved_at=now)
        self._keep(done)
        return done

    def _void(self, operation: Void, now: datetime) -> Reservation:
        reservation = self._reservation(operation.key)
        if operation.expired_at is not None and not may_expire(reservation, operation.expired_at):
            return reservation
        if reservation.state is ReservationState.VOIDED:
            return reservation
        if reservation.state is ReservationState.POSTED:
            raise _already_ended(reservation, "void")
        self._end(reservation)
        done = replace(reservation, state=ReservationState.VOIDED, resolved_at=now, reason=operation.reason)
        self._keep(done)
        return done

    def _move(self, operation: Move, now: datetime, new_id: NewId) -> Transfer:
        known = self.transfers.get((operation.kind, operation.key))
        if known is not None:
            if terms_of(known) != terms_of(operation):
                raise _other_terms(operation.kind, operation.key)
            return known
        after = self._after(operation) if operation.reservation else None
        _require_cover(self.account(operation.debit, operation.amount.asset), operation.amount)
        transfer = Transfer(
            new_id(),
            operation.kind,
            operation.key,
            operation.debit,
            operation.credit,
            operation.amount,
            now,
            operation.correlation,
            operation.memo,
            operation.reservation,
        )
        if after is not None:
            self._return(after)
        self._post(transfer)
        return transfer

    def _after(self, move: Move) -> Reservation:
        """The reservation as it is when `move` has given some of its payment back, or taken it again."""
        reservation = self._reservation(move.reservation)
        payer, asset = reservation.terms.payer, reservation.terms.amount.asset
        if payer not in (move.debit, move.credit) or asset.caip19 != move.amount.asset.caip19:
            raise InvalidInput(
                f"{move.amount} from {move.debit} to {move.credit} gives nothing of {reservation.key} back",
                field="reservation",
                next_step=f"move {asset.symbol} to {payer}, or leave the reservation out",
            )
        back = move.amount.atomic if move.credit == payer else -move.amount.atomic
        if not 0 <= reservation.returned + back <= reservation.captured:
            raise _more_than_paid(reservation, move)
        return replace(reservation, returned=reservation.returned + back)

    def _return(self, after: Reservation) -> None:
        """Budgets count what is still spent, where it was counted: a day that is over has no more room by it.

        What goes again is spent whatever the limits say; until there is room, nothing more is reserved.
        """
        path = self.path(after.terms.budget_id)
        back = after.returned - self.reservations[after.key].returned
        self._count(path, after, 0, -back)
        for node in path if back < 0 else ():
            self.changes.again[node.id] = self.changes.again.get(node.id, 0) - back
        self.reservations[after.key] = after
        self.changes.returned[after.key] = None

    def _reservation(self, key: str) -> Reservation:
        reservation = self.reservations.get(key)
        if reservation is None:
            raise NotFound(f"no reservation {key}", next_step="reserve first", key=key)
        return reservation

    def _keep(self, reservation: Reservation) -> None:
        self.reservations[reservation.key] = reservation
        self.changes.reservations[reservation.key] = None

    def _end(self, reservation: Reservation) -> None:
        """Take the promise off the account and the budgets."""
        amount = reservation.terms.amount
        payer = self.account(reservation.terms.payer, amount.asset)
        payer.reserved -= amount.atomic
        self.changes.accounts[payer.key] = None
        self._count(self.path(reservation.terms.budget_id), reservation, -amount.atomic, 0)

    def _count(self, path: list[BudgetState], reservation: Reservation, reserved: int, spent: int) -> None:
        for node in path:
            node.reserved += reserved
            node.spent += spent
            self.changes.budgets[node.id] = None
            for scope, label in counted_in(node.ceilings, reservation.terms, reservation.created_at):
                counter = self._counter(node.id, scope, label)
                counter.reserved += reserved
                counter.spent += spent
                self.changes.usage[node.id, scope, label] = None

    def recount(self, node: BudgetState) -> None:
        """Count the node's counters anew from the reservations: its ceilings, which say what counts, were replaced."""
        for scope in Scope:
            self.usage.pop((node.id, scope), None)
        for reservation in self.reservations.values():
            if node not in self.path(reservation.terms.budget_id):
                continue
            pending = reservation.state is ReservationState.PENDING
            for scope, label in counted_in(node.ceilings, reservation.terms, reservation.created_at):
                counter = self._counter(node.id, scope, label)
                counter.reserved += reservation.terms.amount.atomic if pending else 0
                counter.spent += reservation.spent

    def _counter(self, budget_id: str, scope: Scope, label: str) -> Counter:
        labels = self.usage.setdefault((budget_id, scope), {})
        return labels.setdefault(label, Counter())

    def _post(self, transfer: Transfer) -> None:
        """Move posted money: the only place where balances change, always by two equal legs."""
        debit = self.account(transfer.debit, transfer.amount.asset)
        credit = self.account(transfer.credit, transfer.amount.asset)
        debit.balance -= transfer.amount.atomic
        credit.balance += transfer.amount.atomic
        self.changes.accounts[debit.key] = None
        self.changes.accounts[credit.key] = None
        self.transfers[transfer.kind, transfer.key] = transfer
        self.changes.transfers.append(transfer)


def terms_of(transfer: Move | Transfer) -> tuple[str, str, Money, str]:
    """What comes back the same with its key, or is a conflict."""
    return transfer.debit, transfer.credit, transfer.amount, transfer.reservation


def reservation_key(operation: Operation) -> str:
    """The reservation that an operation is about; "" for a transfer of none."""
    return operation.reservation if isinstance(operation, Move) else operation.key


def touched_accounts(operation: Operation, terms: Terms | None) -> Iterator[AccountKey]:
    """Accounts an operation may change; `terms` are the reservation's (for capture and void)."""
    if isinstance(operation, Move):
        asset = operation.amount.asset.caip19
        yield operation.debit, asset
        yield operation.credit, asset
    elif terms is not None:
        yield terms.payer, terms.amount.asset.caip19
        if isinstance(operation, Capture):
            yield terms.payee, terms.amount.asset.caip19


def may_expire(reservation: Reservation, by: datetime) -> bool:
    """Whether `expire` may void it: still pending, its owner allowed it, and its time has come."""
    return (
        reservation.state is ReservationState.PENDING
        and reservation.auto_void
        and reservation.expires_at is not None
        and reservation.expires_at <= by
    )


def _require_cover(payer: AccountState, amount: Money) -> None:
    if not payer.covers(amount.atomic):
        left = Money(payer.asset, payer.available)
        raise InsufficientFunds(
            f"account {payer.name} has {left} available, {amount} asked",
            next_step=f"deposit at least {amount - left}",
            account=payer.name,
            available=f"{left.decimal:f}",
            asset=payer.asset.caip19,
        )


def _other_terms(what: str, key: str) -> Conflict:
    return Conflict(
        f"the {what} key {key} was used before with other terms",
        next_step="use a new key for a new payment, or repeat the first terms exactly",
        key=key,
    )


def _more_than_paid(reservation: Reservation, move: Move) -> Conflict:
    asset = reservation.terms.amount.asset
    paid, back = reservation.captured_money, Money(asset, reservation.returned)
    wish = "give back" if move.credit == reservation.terms.payer else "take again"
    return Conflict(
        f"cannot {wish} {move.amount} of reservation {reservation.key}: {paid} was paid, and {back} of it came back",
        next_step="read the reservation: at most what was paid comes back, and at most that is taken again",
        key=reservation.key,
        state=str(reservation.state),
    )


def _already_ended(reservation: Reservation, wish: str) -> Conflict:
    amount = f" ({reservation.captured_money})" if reservation.captured else ""
    return Conflict(
        f"cannot {wish} reservation {reservation.key}: it is already {reservation.state}{amount}",
        next_step="read the reservation; a posted payment is reversed by a refund transfer",
        key=reservation.key,
        state=str(reservation.state),
    )
