"""The ledger in PostgreSQL: the door that the rest of the house calls.

books = Books(db)
await books.budgets.create("user-1", owner="user-1", asset=usdc, limits=Limits(per_day=usdc.parse("5")))
await books.deposit("tx-0x…", "wallet:eip155:8453:0x…", usdc.parse("20"))
reservation = await books.reserve(key, "user-1", "wallet:…", "seller:…", usdc.parse("0.02"))
await books.capture(key)          # or books.void(key)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Self

from agentnexus.core.clock import SystemClock, TimeOrderedIds
from agentnexus.core.errors import NotFound
from agentnexus.core.money import Asset, Money, Parity
from agentnexus.core.ports import Clock, Ids
from agentnexus.ledger.budgets import BudgetsDoor, BudgetStatus, check_total, no_budget, status_of
from agentnexus.ledger.check import RECOUNT, check_ledger
from agentnexus.ledger.checkpoints import AS_OF, STATEMENT
from agentnexus.ledger.door import Door, Line
from agentnexus.ledger.flusher import Flusher
from agentnexus.ledger.limits import Counter, Scope, UsageKey, first_minute_counted
from agentnexus.ledger.model import (
    Answer,
    Balance,
    BudgetState,
    Ceilings,
    CheckReport,
    Operation,
    Reservation,
    TransferKind,
    to_utc,
)
from agentnexus.ledger.rows import CHANGED_AT, Assets, account_of, budget_of, limits_json, reservation_of
from agentnexus.ledger.store import Store
from agentnexus.platform.database import Connection, Database

EXPIRE_MAX = 1000  # reservations per call of `expire`


class Books(Door):
    """Any number of processes may have one on the same database.

    Call `close` (or use ``async with``) before the pool closes.

    Args:
        parity: assets that budgets count one for one; every process that reserves should be told the same.
    """

    def __init__(
        self, db: Database, clock: Clock | None = None, ids: Ids | None = None, *, parity: Parity | None = None
    ) -> None:
        self.db = db
        self._clock = clock or SystemClock()
        self._store = Store(db, self._clock, ids or TimeOrderedIds(self._clock), parity)
        self._flusher = Flusher(self._store)
        self.budgets = Budgets(db, self._clock, self._store.assets)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Answer what is under way, refuse the rest."""
        await self._flusher.close()

    @property
    def assets(self) -> Assets:
        """The assets that rows are in, for the other readers of this room."""
        return self._store.assets

    async def balances(self, account: str) -> list[Balance]:
        async with self.db.connection() as connection:
            rows = await connection.fetch("select * from ledger.account where name = $1 order by asset", account)
            await self.assets.cover(connection, rows)
        states = [account_of(row, self.assets) for row in rows]
        return [Balance(s.name, Money(s.asset, s.balance), Money(s.asset, s.reserved)) for s in states]

    async def reservation(self, key: str) -> Reservation:
        async with self.db.connection() as connection:
            rows = await connection.fetch("select * from ledger.reservation where key = $1", key)
            await self.assets.cover(connection, rows)
        if not rows:
            raise NotFound(f"no reservation {key}", next_step="reserve first", key=key)
        return reservation_of(rows[0], self.assets)

    async def as_of(self, account: str, asset: Asset, at: datetime) -> Money:
        async with self.db.connection() as connection:
            posted = await connection.fetchval(AS_OF, account, asset.caip19, to_utc(at))
        return Money(asset, int(posted))

    async def statement(
        self,
        account: str,
        asset: Asset,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[Line]:
        window = [None if moment is None else to_utc(moment) for moment in (since, until)]
        async with self.db.connection() as connection:
            rows = await connection.fetch(STATEMENT, account, asset.caip19, *window, limit)
        return [
            Line(
                at=row["at"],
                transfer_id=row["transfer_id"],
                kind=TransferKind(row["kind"]),
                counterparty=row["counterparty"],
                amount=Money(asset, int(row["amount"])),
                balance=Money(asset, int(row["balance"])),
                correlation=row["correlation"],
                memo=row["memo"],
            )
            for row in rows
        ]

    async def expire(self, now: datetime | None = None) -> list[Reservation]:
        moment = to_utc(now or self._clock.now())
        async with self.db.connection() as connection:
            rows = await connection.fetch(
                "select key from ledger.reservation where state = 'pending' and auto_void and expires_at <= $1"
                " order by expires_at limit $2",
                moment,
                EXPIRE_MAX,
            )
        return await self._void_expired([row["key"] for row in rows], moment)

    async def check(self) -> CheckReport:
        return await check_ledger(self.db)

    async def _submit(self, operation: Operation) -> Answer:
        return await self._flusher.submit(operation)

    async def _settled(self, money: Money) -> Money:
        return await self._store.assets.money(self.db, money)


class Budgets(BudgetsDoor):
    """Budgets in PostgreSQL."""

    def __init__(self, db: Database, clock: Clock, assets: Assets) -> None:
        super().__init__(clock)
        self._db = db
        self._assets = assets

    async def status(self, budget_id: str) -> BudgetStatus:
        async with self._db.connection() as connection:
            return (await self._statuses(connection, [await self._read(connection, budget_id)]))[0]

    async def revoke(self, budget_id: str) -> BudgetStatus:
        async with self._db.connection() as connection:
            await connection.execute(
                "update ledger.budget set revoked_at = coalesce(revoked_at, $2) where id = $1",
                budget_id,
                to_utc(self._clock.now()),
            )
        return await self.status(budget_id)

    async def list(
        self,
        owner: str | None = None,
        parent: str | None = None,
        ids: Collection[str] | None = None,
        without: str | None = None,
    ) -> Sequence[BudgetStatus]:
        async with self._db.connection() as connection:
            rows = await connection.fetch(
                "select * from ledger.budget where ($1::text is null or owner = $1)"
                " and ($2::text is null or path[2] = $2 and path @> array[$2])"
                " and ($3::text[] is null or id = any($3))"
                " and ($4::text is null or not starts_with(id, $4)) order by created_at, id",
                owner,
                parent,
                None if ids is None else list(ids),
                without,
            )
            await self._assets.cover(connection, rows)
            return await self._statuses(connection, [budget_of(row, self._assets) for row in rows])

    async def _statuses(self, connection: Connection, nodes: Sequence[BudgetState]) -> Sequence[BudgetStatus]:
        now = to_utc(self._clock.now())
        rows = await connection.fetch(
            "select * from ledger.budget_use where budget_id = any($1)"
            " and (scope = 'minute' and label >= $2 or scope = 'day' and label = $3)",
            [node.id for node in nodes],
            first_minute_counted(now),
            now.date().isoformat(),
        )
        usage: dict[UsageKey, dict[str, Counter]] = {}
        for row in rows:
            labels = usage.setdefault((row["budget_id"], Scope(row["scope"])), {})
            labels[row["label"]] = Counter(int(row["reserved"]), int(row["spent"]))
        return [status_of(node, usage, now) for node in nodes]

    async def _read(self, connection: Connection, budget_id: str) -> BudgetState:
        rows = await connection.fetch("select * from ledger.budget where id = $1", budget_id)
        await self._assets.cover(connection, rows)
        if not rows:
            raise no_budget(budget_id)
        return budget_of(rows[0], self._assets)

    async def _node(self, budget_id: str) -> BudgetState:
        async with self._db.connection() as connection:
            return await self._read(connection, budget_id)

    async def _insert(self, node: BudgetState) -> BudgetState:
        async with self._db.connection() as connection:
            await connection.execute(
                "insert into ledger.budget"
                " (id, path, owner, asset, limits, spendable, created_at, expires_at, grant_id)"
                " values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (id) do nothing",
                node.id,
                list(node.path),
                node.owner,
                node.asset.caip19,
                limits_json(node.ceilings),
                node.ceilings.spendable,
                node.created_at,
                node.expires_at,
                node.grant_id,
            )
            return await self._read(connection, node.id)

    async def _set_ceilings(self, budget_id: str, fresh: Ceilings) -> None:
        limits = limits_json(fresh) | {CHANGED_AT: to_utc(self._clock.now()).isoformat()}
        async with self._db.transaction() as connection:
            row = await connection.fetchrow(
                "select reserved + spent as used, spendable from ledger.budget where id = $1 for no key update",
                budget_id,
            )
            assert row is not None  # budgets stay
            before = row["spendable"]
            check_total(budget_id, fresh, int(row["used"]), None if before is None else int(before))
            await connection.execute(
                "update ledger.budget set limits = $2, spendable = $3 where id = $1", budget_id, limits, fresh.spendable
            )
            await connection.execute("delete from ledger.budget_use where budget_id = $1", budget_id)
            await connection.execute(RECOUNT, budget_id)

    async def _settled_asset(self, asset: Asset) -> Asset:
        return await self._assets.settle(self._db, asset)
