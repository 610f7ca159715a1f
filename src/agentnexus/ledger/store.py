"""One batch of operations in one transaction: lock what it touches in one order, apply the rules in memory, write back.

Locks go budgets by id, then accounts by name, so batches of several processes never wait in a circle. Reservations and
transfers need no locks of their own: they only change under the payer's account row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain

from agentnexus.core.errors import NexusError
from agentnexus.core.ports import Clock, Ids
from agentnexus.ledger.book import Book, touched_accounts
from agentnexus.ledger.limits import Counter, Scope, counted_in, first_minute_counted
from agentnexus.ledger.model import (
    AccountKey,
    Answer,
    Move,
    Operation,
    Reserve,
    Terms,
    may_overdraw,
    to_utc,
)
from agentnexus.ledger.rows import Assets, account_of, budget_of, reservation_of, transfer_of
from agentnexus.platform.database import Connection, Database

# A batch reads and writes a few hundred rows by key. The cached generic plans would be made while the tables are still
# empty, as sequential scans; these settings make them index lookups for good.
PLAN_BY_KEY = "set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off"
KNOWN_MAX = 100_000


class Store:
    """Runs batches against PostgreSQL. One instance per process and event loop."""

    def __init__(self, db: Database, clock: Clock, ids: Ids) -> None:
        self.db = db
        self.assets = Assets()
        self._clock = clock
        self._ids = ids
        self._accounts: set[AccountKey] = set()  # rows known to exist
        self._paths: dict[str, tuple[str, ...]] = {}  # a budget's path never changes
        self._terms: dict[str, Terms] = {}  # a reservation's terms never change

    async def run(self, operations: Sequence[Operation]) -> list[Answer | NexusError]:
        """Apply the operations in order and commit; one answer or rejection for each."""
        await self._prepare(operations)
        async with self.db.transaction() as connection:
            await connection.execute(PLAN_BY_KEY)
            book = Book()
            await self._lock(connection, book, operations)
            now = to_utc(self._clock.now())
            await self._read(connection, book, operations, now)
            stored = set(book.reservations)
            answers = [self._apply(book, operation, now) for operation in operations]
            await _Writer(connection, book).write(stored)
        self._remember(book)
        return answers

    def _apply(self, book: Book, operation: Operation, now: datetime) -> Answer | NexusError:
        try:
            return book.apply(operation, now, self._ids.new)
        except NexusError as rejection:
            return rejection

    def _remember(self, book: Book) -> None:
        for known in (self._accounts, self._paths, self._terms):
            if len(known) > KNOWN_MAX:
                known.clear()
        self._terms.update((key, reservation.terms) for key, reservation in book.reservations.items())
        self._accounts.update(book.accounts)

    async def _prepare(self, operations: Sequence[Operation]) -> None:
        """Find the terms of reservations and paths of budgets not met before; open new accounts. Takes no locks."""
        keys = [o.key for o in operations if not isinstance(o, Reserve | Move) and o.key not in self._terms]
        budgets = {o.terms.budget_id for o in operations if isinstance(o, Reserve) and o.terms.budget_id}
        async with self.db.connection() as connection:
            if keys:
                await self._learn_terms(connection, keys)
            budgets |= {t.budget_id for t in map(self._terms_of, operations) if t and t.budget_id}
            unknown = [budget for budget in budgets if budget not in self._paths]
            if unknown:
                rows = await connection.fetch("select id, path from ledger.budget where id = any($1)", unknown)
                self._paths.update((row["id"], tuple(row["path"])) for row in rows)
            new = sorted(self._touched(operations) - self._accounts)
            if new:
                await connection.execute(
                    "insert into ledger.account (name, asset, overdraft)"
                    " select * from unnest($1::text[], $2::text[], $3::bool[]) on conflict do nothing",
                    [name for name, _ in new],
                    [asset for _, asset in new],
                    [may_overdraw(name) for name, _ in new],
                )

    async def _learn_terms(self, connection: Connection, keys: list[str]) -> None:
        rows = await connection.fetch("select * from ledger.reservation where key = any($1)", keys)
        await self.assets.cover(connection, rows)
        self._terms.update((row["key"], reservation_of(row, self.assets).terms) for row in rows)

    def _terms_of(self, operation: Operation) -> Terms | None:
        if isinstance(operation, Move):
            return None
        return operation.terms if isinstance(operation, Reserve) else self._terms.get(operation.key)

    def _touched(self, operations: Iterable[Operation]) -> set[AccountKey]:
        return {key for operation in operations for key in touched_accounts(operation, self._terms_of(operation))}

    async def _lock(self, connection: Connection, book: Book, operations: Sequence[Operation]) -> None:
        budgets = {t.budget_id for t in map(self._terms_of, operations) if t and t.budget_id}
        nodes = sorted(set(chain.from_iterable(self._paths.get(budget, ()) for budget in budgets)))
        if nodes:
            rows = await connection.fetch(
                "select * from ledger.budget where id = any($1) order by id for no key update", nodes
            )
            await self.assets.cover(connection, rows)
            book.budgets = {row["id"]: budget_of(row, self.assets) for row in rows}
        accounts = sorted(self._touched(operations))
        if accounts:
            rows = await connection.fetch(
                "select a.* from ledger.account a"
                " join unnest($1::text[], $2::text[]) k (name, asset) using (name, asset)"
                " order by a.name, a.asset for no key update of a",
                [name for name, _ in accounts],
                [asset for _, asset in accounts],
            )
            states = (account_of(row, self.assets) for row in rows)
            book.accounts = {state.key: state for state in states}

    async def _read(self, connection: Connection, book: Book, operations: Sequence[Operation], now: datetime) -> None:
        """What the locks protect: reservations and transfers by key, and the counters that will be asked or moved."""
        keys = list({o.key for o in operations if not isinstance(o, Move)})
        if keys:
            rows = await connection.fetch("select * from ledger.reservation where key = any($1)", keys)
            book.reservations = {row["key"]: reservation_of(row, self.assets) for row in rows}
        moves = [o for o in operations if isinstance(o, Move)]
        if moves:
            rows = await connection.fetch(
                "select * from ledger.transfer where (key, kind) in (select * from unnest($1::text[], $2::text[]))",
                [move.key for move in moves],
                [str(move.kind) for move in moves],
            )
            found = (transfer_of(row, self.assets) for row in rows)
            book.transfers = {(transfer.kind, transfer.key): transfer for transfer in found}
        await self._read_counters(connection, book, operations, now)

    async def _read_counters(
        self, connection: Connection, book: Book, operations: Sequence[Operation], now: datetime
    ) -> None:
        wanted: set[tuple[str, Scope, str]] = set()
        for operation in operations:
            terms = self._terms_of(operation)
            if terms is None or terms.budget_id not in book.budgets:
                continue
            stored = book.reservations.get(operation.key)
            at = now if stored is None else stored.created_at
            for node in book.path(terms.budget_id):
                wanted.update((node.id, scope, label) for scope, label in counted_in(node.ceilings, terms, at))
        if not wanted:
            return
        hourly = [node.id for node in book.budgets.values() if node.ceilings.per_hour is not None]
        rows = await connection.fetch(
            "select u.* from ledger.budget_use u join unnest($1::text[], $2::text[], $3::text[])"
            " k (budget_id, scope, label) using (budget_id, scope, label)"
            " union select * from ledger.budget_use where budget_id = any($4) and scope = 'minute' and label >= $5",
            [budget for budget, _, _ in wanted],
            [str(scope) for _, scope, _ in wanted],
            [label for _, _, label in wanted],
            hourly,
            first_minute_counted(now),
        )
        for row in rows:
            labels = book.usage.setdefault((row["budget_id"], Scope(row["scope"])), {})
            labels[row["label"]] = Counter(int(row["reserved"]), int(row["spent"]))


class _Writer:
    """Writes the changes of a book, one statement per table."""

    def __init__(self, connection: Connection, book: Book) -> None:
        self._connection = connection
        self._book = book

    async def write(self, stored: set[str]) -> None:
        """`stored`: keys of reservations that are in the table already."""
        changed = self._book.changes.reservations
        await self._insert_reservations([key for key in changed if key not in stored])
        await self._update_reservations([key for key in changed if key in stored])
        await self._insert_transfers()
        await self._update_accounts()
        await self._update_budgets()
        await self._upsert_counters()

    async def _insert_reservations(self, keys: list[str]) -> None:
        # No "on conflict": the same key from another process under other accounts must fail here and be tried again.
        if not keys:
            return
        new = [self._book.reservations[key] for key in keys]
        terms = [reservation.terms for reservation in new]
        await self._connection.execute(
            "insert into ledger.reservation (key, budget_id, payer, payee, asset, amount, seller, capability, task,"
            " tick, rail, state, captured, created_at, expires_at, auto_void, correlation, resolved_at, reason)"
            " select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[],"
            " $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::numeric[],"
            " $14::timestamptz[], $15::timestamptz[], $16::bool[], $17::text[], $18::timestamptz[], $19::text[])",
            keys,
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
            [str(r.state) for r in new],
            [r.captured for r in new],
            [r.created_at for r in new],
            [r.expires_at for r in new],
            [r.auto_void for r in new],
            [r.correlation for r in new],
            [r.resolved_at for r in new],
            [r.reason for r in new],
        )

    async def _update_reservations(self, keys: list[str]) -> None:
        if not keys:
            return
        changed = [self._book.reservations[key] for key in keys]
        await self._connection.execute(
            "update ledger.reservation r set state = k.state, captured = k.captured, resolved_at = k.resolved_at,"
            " reason = k.reason from unnest($1::text[], $2::text[], $3::numeric[], $4::timestamptz[], $5::text[])"
            " k (key, state, captured, resolved_at, reason) where r.key = k.key",
            keys,
            [str(r.state) for r in changed],
            [r.captured for r in changed],
            [r.resolved_at for r in changed],
            [r.reason for r in changed],
        )

    async def _insert_transfers(self) -> None:
        transfers = self._book.changes.transfers
        if not transfers:
            return
        await self._connection.execute(
            "with t as (insert into ledger.transfer"
            " (id, kind, key, debit, credit, asset, amount, at, correlation, memo)"
            " select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],"
            " $7::numeric[], $8::timestamptz[], $9::text[], $10::text[])"
            " returning id, debit, credit, asset, amount, at)"
            " insert into ledger.entry (transfer_id, account, asset, amount, at)"
            " select id, debit, asset, -amount, at from t union all select id, credit, asset, amount, at from t",
            [t.id for t in transfers],
            [str(t.kind) for t in transfers],
            [t.key for t in transfers],
            [t.debit for t in transfers],
            [t.credit for t in transfers],
            [t.amount.asset.caip19 for t in transfers],
            [t.amount.atomic for t in transfers],
            [t.at for t in transfers],
            [t.correlation for t in transfers],
            [t.memo for t in transfers],
        )

    async def _update_accounts(self) -> None:
        states = [self._book.accounts[key] for key in self._book.changes.accounts]
        if not states:
            return
        await self._connection.execute(
            "update ledger.account a set balance = k.balance, reserved = k.reserved"
            " from unnest($1::text[], $2::text[], $3::numeric[], $4::numeric[]) k (name, asset, balance, reserved)"
            " where a.name = k.name and a.asset = k.asset",
            [state.name for state in states],
            [state.asset.caip19 for state in states],
            [state.balance for state in states],
            [state.reserved for state in states],
        )

    async def _update_budgets(self) -> None:
        nodes = [self._book.budgets[key] for key in self._book.changes.budgets]
        if not nodes:
            return
        await self._connection.execute(
            "update ledger.budget b set reserved = k.reserved, spent = k.spent"
            " from unnest($1::text[], $2::numeric[], $3::numeric[]) k (id, reserved, spent) where b.id = k.id",
            [node.id for node in nodes],
            [node.reserved for node in nodes],
            [node.spent for node in nodes],
        )

    async def _upsert_counters(self) -> None:
        changed = list(self._book.changes.usage)
        if not changed:
            return
        counters = [self._book.usage[budget, scope][label] for budget, scope, label in changed]
        await self._connection.execute(
            "insert into ledger.budget_use (budget_id, scope, label, reserved, spent)"
            " select * from unnest($1::text[], $2::text[], $3::text[], $4::numeric[], $5::numeric[])"
            " on conflict (budget_id, scope, label) do update set reserved = excluded.reserved, spent = excluded.spent",
            [budget for budget, _, _ in changed],
            [str(scope) for _, scope, _ in changed],
            [label for _, _, label in changed],
            [counter.reserved for counter in counters],
            [counter.spent for counter in counters],
        )
