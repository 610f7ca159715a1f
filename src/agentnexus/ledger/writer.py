"""Writes what a batch changed, every table in one statement: one round trip however much there is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias

from agentnexus.ledger.book import Book
from agentnexus.ledger.model import AccountState, BudgetState, Reservation, Transfer
from agentnexus.platform.database import Connection

Column: TypeAlias = "Sequence[str] | Sequence[str | None] | Sequence[int] | Sequence[bool] | Sequence[datetime | None]"

# New reservations are inserted without "on conflict": when another process was faster with the same key under other
# accounts, the whole batch must fail here and be decided again.
WRITE = """
with new_reservation as (
    insert into ledger.reservation (key, budget_id, payer, payee, asset, amount, seller, capability, task, tick, rail,
        state, captured, created_at, expires_at, auto_void, correlation, resolved_at, reason)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::numeric[], $14::timestamptz[],
        $15::timestamptz[], $16::bool[], $17::text[], $18::timestamptz[], $19::text[])
), ended_reservation as (
    update ledger.reservation r
    set state = k.state, captured = k.captured, resolved_at = k.resolved_at, reason = k.reason
    from unnest($20::text[], $21::text[], $22::numeric[], $23::timestamptz[], $24::text[])
        k (key, state, captured, resolved_at, reason)
    where r.key = k.key
), new_transfer as (
    insert into ledger.transfer (id, kind, key, debit, credit, asset, amount, at, correlation, memo, reservation)
    select * from unnest($25::text[], $26::text[], $27::text[], $28::text[], $29::text[], $30::text[], $31::numeric[],
        $32::timestamptz[], $33::text[], $34::text[], $35::text[])
    returning id, debit, credit, asset, amount, at
), new_entry as (
    insert into ledger.entry (transfer_id, account, asset, amount, at)
    select id, debit, asset, -amount, at from new_transfer
    union all select id, credit, asset, amount, at from new_transfer
), changed_account as (
    update ledger.account a set balance = k.balance, reserved = k.reserved
    from unnest($36::text[], $37::text[], $38::numeric[], $39::numeric[]) k (name, asset, balance, reserved)
    where a.name = k.name and a.asset = k.asset
), changed_budget as (
    update ledger.budget b set reserved = k.reserved, spent = k.spent
    from unnest($40::text[], $41::numeric[], $42::numeric[]) k (id, reserved, spent) where b.id = k.id
)
insert into ledger.budget_use (budget_id, scope, label, reserved, spent)
select * from unnest($43::text[], $44::text[], $45::text[], $46::numeric[], $47::numeric[])
on conflict (budget_id, scope, label) do update set reserved = excluded.reserved, spent = excluded.spent
"""

# Seldom and on their own, so that payments do not carry them. The first goes before `WRITE`: only what went again may
# pass a budget's total. The second goes after it: the reservation may be new.
AGAIN = """
update ledger.budget b set again = b.again + k.amount from unnest($1::text[], $2::numeric[]) k (id, amount)
where b.id = k.id
"""
RETURNED = """
update ledger.reservation r set returned = k.returned from unnest($1::text[], $2::numeric[]) k (key, returned)
where r.key = k.key
"""


async def write(connection: Connection, book: Book, stored: set[str]) -> None:
    """Write `book.changes`; `stored` are the keys of reservations that are in the table already."""
    changes = book.changes
    if not (changes.reservations or changes.transfers):
        return
    if changes.again:
        await connection.execute(AGAIN, list(changes.again), list(changes.again.values()))
    touched = [book.reservations[key] for key in changes.reservations]
    await connection.execute(
        WRITE,
        *_new_reservations([reservation for reservation in touched if reservation.key not in stored]),
        *_ended_reservations([reservation for reservation in touched if reservation.key in stored]),
        *_transfers(changes.transfers),
        *_accounts([book.accounts[key] for key in changes.accounts]),
        *_budgets([book.budgets[key] for key in changes.budgets]),
        *_counters(book),
    )
    if changes.returned:
        await connection.execute(
            RETURNED, list(changes.returned), [book.reservations[key].returned for key in changes.returned]
        )


def _new_reservations(new: list[Reservation]) -> list[Column]:
    terms = [reservation.terms for reservation in new]
    return [
        [r.key for r in new],
        [t.budget_id for t in terms],
        [t.payer for t in terms],
        [t.payee for t in terms],
        [t.amount.asset.caip19 for t in terms],
        [t.amount.atomic for t in terms],
        [t.seller for t in terms],
        [t.capability for t in terms],
        [t.task for t in terms],
        [t.tick for t in terms],
        [t.rail for t in terms],
        [r.state for r in new],
        [r.captured for r in new],
        [r.created_at for r in new],
        [r.expires_at for r in new],
        [r.auto_void for r in new],
        [r.correlation for r in new],
        [r.resolved_at for r in new],
        [r.reason for r in new],
    ]


def _ended_reservations(ended: list[Reservation]) -> list[Column]:
    return [
        [r.key for r in ended],
        [r.state for r in ended],
        [r.captured for r in ended],
        [r.resolved_at for r in ended],
        [r.reason for r in ended],
    ]


def _transfers(transfers: list[Transfer]) -> list[Column]:
    return [
        [t.id for t in transfers],
        [t.kind for t in transfers],
        [t.key for t in transfers],
        [t.debit for t in transfers],
        [t.credit for t in transfers],
        [t.amount.asset.caip19 for t in transfers],
        [t.amount.atomic for t in transfers],
        [t.at for t in transfers],
        [t.correlation for t in transfers],
        [t.memo for t in transfers],
        [t.reservation for t in transfers],
    ]


def _accounts(states: list[AccountState]) -> list[Column]:
    return [
        [state.name for state in states],
        [state.asset.caip19 for state in states],
        [state.balance for state in states],
        [state.reserved for state in states],
    ]


def _budgets(nodes: list[BudgetState]) -> list[Column]:
    return [[node.id for node in nodes], [node.reserved for node in nodes], [node.spent for node in nodes]]


def _counters(book: Book) -> list[Column]:
    changed = list(book.changes.usage)
    counters = [book.usage[budget, scope][label] for budget, scope, label in changed]
    return [
        [budget for budget, _, _ in changed],
        [scope for _, scope, _ in changed],
        [label for _, _, label in changed],
        [counter.reserved for counter in counters],
        [counter.spent for counter in counters],
    ]
