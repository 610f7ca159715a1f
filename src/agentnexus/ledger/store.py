"""One batch of operations in one transaction: lock what it touches in one order, apply the rules in memory, write back.

Locks go budgets by id, then accounts by name, so batches of several processes never wait in a circle. Reservations and
transfers need no locks of their own: they only change under the payer's account row. What never changes (a budget's
limits and path, a reservation's terms) is kept per process; a batch is then five round trips: begin, lock, read, write,
commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from agentnexus.core.errors import NexusError
from agentnexus.core.money import Parity
from agentnexus.core.ports import Clock, Ids
from agentnexus.ledger.book import Book, reservation_key, touched_accounts
from agentnexus.ledger.checkpoints import Checkpoints
from agentnexus.ledger.limits import Counter, Scope, counted_in, first_minute_counted
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
    may_overdraw,
    to_utc,
)
from agentnexus.ledger.rows import Assets, budget_of, reservation_of, transfer_of
from agentnexus.ledger.writer import write
from agentnexus.platform.database import Connection, Database

KNOWN_MAX = 10_000

# A batch reads and writes a few hundred rows by key, so each statement is planned once, as index lookups. Left alone,
# the server plans anew every time (longer than the work takes), or keeps sequential scans from when tables were empty.
BEGIN = """
begin; set local plan_cache_mode = force_generic_plan;
set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off
"""

# Budgets first, then accounts: an Append runs its parts in order, and each part locks in its own sort order.
LOCK = """
select * from (select id, null::text as asset, reserved, spent as posted, revoked_at,
                      hashtextextended(limits::text, 0) as limits
               from ledger.budget where id = any($1) order by id for no key update) budgets
union all
select * from (select a.name, a.asset, a.reserved, a.balance, null::timestamptz, null::bigint
               from ledger.account a join unnest($2::text[], $3::text[]) k (name, asset) using (name, asset)
               order by a.name, a.asset for no key update of a) accounts
"""

# A statement of its own, after LOCK: only its snapshot shows what the previous holders of the locks committed.
READ = """
select 'reservation' as what, key as a, state as b, reason as c, captured as x, returned as y, resolved_at as at
from ledger.reservation where key = any($1)
union all
select 'transfer', key, kind, '', 0, 0, null from ledger.transfer
where (key, kind) in (select * from unnest($2::text[], $3::text[]))
union all
select 'counter', u.budget_id, u.scope, u.label, u.reserved, u.spent, null
from ledger.budget_use u join unnest($4::text[], $5::text[], $6::text[]) k (budget_id, scope, label)
using (budget_id, scope, label)
union all
select 'counter', budget_id, scope, label, reserved, spent, null
from ledger.budget_use where budget_id = any($7) and scope = 'minute' and label >= $8
"""


class StaleKnowledge(Exception):
    """What the batch knew when it chose its locks and counters is not so any more: run it again."""


class Store:
    """Runs batches against PostgreSQL. One instance per process and event loop."""

    def __init__(self, db: Database, clock: Clock, ids: Ids, parity: Parity | None = None) -> None:
        self.db = db
        self._parity = parity
        self.assets = Assets()
        self.checkpoints = Checkpoints(db)
        self._clock = clock
        self._ids = ids
        self._accounts: set[AccountKey] = set()  # rows known to exist
        self._budgets: dict[str, BudgetState] = {}  # of them, only what never changes is used, and the limits
        self._limits: dict[str, int] = {}  # digest of the limits that `_budgets` has
        self._reservations: dict[str, Reservation] = {}  # likewise

    async def run(self, operations: Sequence[Operation]) -> list[Answer | NexusError]:
        """Apply the operations in order and commit; one answer or rejection for each."""
        await self._learn(operations)
        async with self._transaction() as connection:
            book = await self._lock(connection, operations)
            now = to_utc(self._clock.now())
            await self._read(connection, book, operations, now)
            stored = set(book.reservations)
            answers = [self._apply(book, operation, now) for operation in operations]
            await write(connection, book, stored)
        self._remember(book)
        self.checkpoints.count(book.changes.transfers)
        return answers

    def _apply(self, book: Book, operation: Operation, now: datetime) -> Answer | NexusError:
        try:
            return book.apply(operation, now, self._ids.new)
        except NexusError as rejection:
            return rejection

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        """As `Database.transaction`, with the planner's settings in the same round trip as the begin."""
        async with self.db.connection() as connection:
            await connection.execute(BEGIN)
            try:
                yield connection
                await connection.execute("commit")
            except BaseException:
                if not connection.is_closed():
                    await connection.execute("rollback")
                raise

    async def _learn(self, operations: Sequence[Operation]) -> None:
        """Read what never changes of reservations and budgets not met before; open new accounts. Takes no locks."""
        named = {reservation_key(o) for o in operations if not isinstance(o, Reserve)} - {""}
        keys = [key for key in named if key not in self._reservations]
        if keys:
            async with self.db.connection() as connection:
                await self._learn_reservations(connection, keys)
        budgets = [budget for budget in self._named_budgets(operations) if budget not in self._budgets]
        accounts = sorted(self._touched(operations) - self._accounts)
        if not budgets and not accounts:
            return
        async with self.db.connection() as connection:
            await self._learn_budgets(connection, budgets)
            await connection.execute(
                "insert into ledger.account (name, asset, overdraft)"
                " select * from unnest($1::text[], $2::text[], $3::bool[]) on conflict do nothing",
                [name for name, _ in accounts],
                [asset for _, asset in accounts],
                [may_overdraw(name) for name, _ in accounts],
            )

    async def _learn_reservations(self, connection: Connection, keys: list[str]) -> None:
        rows = await connection.fetch("select * from ledger.reservation where key = any($1)", keys)
        await self.assets.cover(connection, rows)
        self._reservations.update((row["key"], reservation_of(row, self.assets)) for row in rows)

    async def _learn_budgets(self, connection: Connection, budgets: list[str]) -> None:
        rows = await connection.fetch(
            "select *, hashtextextended(limits::text, 0) as digest from ledger.budget"
            " where id in (select unnest(path) from ledger.budget where id = any($1))",
            budgets,
        )
        await self.assets.cover(connection, rows)
        self._budgets.update((row["id"], budget_of(row, self.assets)) for row in rows)
        self._limits.update((row["id"], row["digest"]) for row in rows)

    def _remember(self, book: Book) -> None:
        for known in (self._accounts, self._budgets, self._reservations):
            if len(known) > KNOWN_MAX:
                known.clear()
        self._reservations.update(book.reservations)
        self._accounts.update(book.accounts)

    def _terms_of(self, operation: Operation) -> Terms | None:
        """None for a transfer of no reservation, and for a reservation that does not exist."""
        if isinstance(operation, Reserve):
            return operation.terms
        known = self._reservations.get(reservation_key(operation))
        return None if known is None else known.terms

    def _named_budgets(self, operations: Iterable[Operation]) -> set[str]:
        return {terms.budget_id for terms in map(self._terms_of, operations) if terms and terms.budget_id}

    def _touched(self, operations: Sequence[Operation]) -> set[AccountKey]:
        touched = {key for operation in operations for key in touched_accounts(operation, self._terms_of(operation))}
        early = {o.key for o in operations if isinstance(o, Capture) and o.key not in self._reservations}
        for operation in operations:
            if isinstance(operation, Reserve) and operation.key in early:  # reserved and captured in one batch
                touched.add((operation.terms.payee, operation.terms.amount.asset.caip19))
        return touched

    def _path(self, budget_id: str | None) -> Iterator[BudgetState]:
        known = None if budget_id is None else self._budgets.get(budget_id)
        return iter(()) if known is None else (self._budgets[node] for node in known.path)

    async def _lock(self, connection: Connection, operations: Sequence[Operation]) -> Book:
        """A book with the budgets and accounts of the batch, locked, as they are now."""
        nodes = {node.id for budget in self._named_budgets(operations) for node in self._path(budget)}
        accounts = self._touched(operations)
        rows = await connection.fetch(
            LOCK, sorted(nodes), [name for name, _ in accounts], [asset for _, asset in accounts]
        )
        if any(row["asset"] is None and row["limits"] != self._limits[row["id"]] for row in rows):
            self._budgets.clear()
            raise StaleKnowledge
        book = Book(whole=False, parity=self._parity)
        for row in rows:
            identity, asset, reserved, posted = row["id"], row["asset"], int(row["reserved"]), int(row["posted"])
            if asset is None:
                known = self._budgets[identity]
                book.budgets[identity] = replace(known, reserved=reserved, spent=posted, revoked_at=row["revoked_at"])
            else:
                book.accounts[identity, asset] = AccountState(identity, self.assets[asset], posted, reserved)
        return book

    async def _read(self, connection: Connection, book: Book, operations: Sequence[Operation], now: datetime) -> None:
        """What the locks protect: reservations and transfers by key, and the counters that will be asked or moved."""
        keys = {reservation_key(o) for o in operations} - {""}
        moves = [o for o in operations if isinstance(o, Move)]
        counters = set(self._counters_of(operations, now))
        rows = await connection.fetch(
            READ,
            list(keys),
            [move.key for move in moves],
            [str(move.kind) for move in moves],
            [budget for budget, _, _ in counters],
            [str(scope) for _, scope, _ in counters],
            [label for _, _, label in counters],
            [node.id for node in book.budgets.values() if node.ceilings.per_hour is not None],
            first_minute_counted(now),
        )
        ended = {row["a"]: row for row in rows if row["what"] == "reservation"}
        unknown = [key for key in ended if key not in self._reservations]
        if unknown:
            # Made by another process and named here by a `Reserve` only. Its accounts, budgets and minute are perhaps
            # not those that were locked and read, so the batch starts again knowing it.
            await self._learn_reservations(connection, unknown)
            raise StaleKnowledge
        for key, row in ended.items():
            book.reservations[key] = replace(
                self._reservations[key],
                state=ReservationState(row["b"]),
                captured=int(row["x"]),
                resolved_at=row["at"],
                reason=row["c"],
                returned=int(row["y"]),
            )
        await self._read_transfers(connection, book, [row["a"] for row in rows if row["what"] == "transfer"])
        for row in rows:
            if row["what"] == "counter":
                labels = book.usage.setdefault((row["a"], Scope(row["b"])), {})
                labels[row["c"]] = Counter(int(row["x"]), int(row["y"]))

    def _counters_of(self, operations: Sequence[Operation], now: datetime) -> Iterator[tuple[str, Scope, str]]:
        for operation in operations:
            terms = self._terms_of(operation)
            if terms is None:
                continue
            known = self._reservations.get(reservation_key(operation))
            at = now if known is None else known.created_at
            for node in self._path(terms.budget_id):
                for scope, label in counted_in(node.ceilings, terms, at):
                    yield node.id, scope, label

    async def _read_transfers(self, connection: Connection, book: Book, keys: list[str]) -> None:
        if keys:
            rows = await connection.fetch("select * from ledger.transfer where key = any($1)", keys)
            await self.assets.cover(connection, rows)
            found = (transfer_of(row, self.assets) for row in rows)
            book.transfers = {(transfer.kind, transfer.key): transfer for transfer in found}
