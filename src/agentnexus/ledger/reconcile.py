"""Compare the books with networks and wallets: a difference becomes a case for a person, never a correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

import asyncpg

from agentnexus.core.clock import SystemClock, TimeOrderedIds
from agentnexus.core.errors import NotFound
from agentnexus.core.events import Event, EventName
from agentnexus.core.money import Money
from agentnexus.core.ports import Clock, Ids
from agentnexus.ledger.books import Books
from agentnexus.ledger.model import check_text, to_utc
from agentnexus.platform.database import Connection
from agentnexus.platform.outbox import publish

STUCK_MAX = 1000


class CaseKind(StrEnum):
    BALANCE = "balance"
    STUCK_RESERVATION = "stuck_reservation"


@dataclass(frozen=True, slots=True)
class Case:
    """A difference: `expected` is what the books say, `observed` what was found. Open until a person resolves it."""

    id: str
    kind: CaseKind
    subject: str
    expected: Money
    observed: Money
    detail: Mapping[str, object]
    opened_at: datetime
    seen_at: datetime
    resolved_at: datetime | None
    resolution: str

    def to_json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "kind": str(self.kind),
            "subject": self.subject,
            "expected": self.expected.to_json(),
            "observed": self.observed.to_json(),
            "difference": (self.observed - self.expected).to_json(),
            "detail": dict(self.detail),
            "opened_at": self.opened_at.isoformat(),
            "seen_at": self.seen_at.isoformat(),
            "resolved_at": None if self.resolved_at is None else self.resolved_at.isoformat(),
            "resolution": self.resolution,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Accounts that agree, that differ by no more than what is on its way (reserved, outcome open), and the cases."""

    agreeing: Sequence[str]
    in_flight: Sequence[str]
    cases: Sequence[Case]


@dataclass(frozen=True, slots=True)
class Sum:
    """What the books expect of a place and what is there. Up to `leaving` may be gone already."""

    subject: str
    expected: Money
    observed: Money
    leaving: Money
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Difference:
    kind: CaseKind
    subject: str
    expected: Money
    observed: Money
    detail: dict[str, object] = field(default_factory=dict)


class Reconciler:
    """Finds differences and keeps the cases."""

    def __init__(self, books: Books, clock: Clock | None = None, ids: Ids | None = None) -> None:
        self._books = books
        self._clock = clock or SystemClock()
        self._ids = ids or TimeOrderedIds(self._clock)
        self._suspected: dict[str, int] = {}

    async def compare(self, observed: Mapping[str, Money], *, twice: bool = False) -> Comparison:
        """Compare balances with `observed` (account name to what its network says, read after all payments it covers).

        A wallet may hold less than its posted balance by up to what is reserved: those payments may have left already.

        Args:
            twice: only a difference that was the same at the last call is a case. For looks while payments go on:
                network and books are read at different moments, and a deposit is booked a little after it arrived.
        """
        sums = []
        for account, money in observed.items():
            balance = await self._books.balance(account, money.asset)
            sums.append(Sum(account, balance.posted, money, balance.reserved))
        return await self.compare_sums(sums, twice=twice)

    async def compare_sums(self, sums: Sequence[Sum], *, twice: bool = False) -> Comparison:
        """The same for sums that are more than one account's balance; `twice` looks at the last call of either."""
        agreeing, in_flight, differences = [], [], []
        suspected, self._suspected = self._suspected, {}
        for each in sums:
            difference = each.observed.atomic - each.expected.atomic
            if difference == 0:
                agreeing.append(each.subject)
            elif -each.leaving.atomic <= difference < 0:
                in_flight.append(each.subject)
            elif twice and suspected.get(each.subject) != difference:
                self._suspected[each.subject] = difference
                in_flight.append(each.subject)
            else:
                self._suspected[each.subject] = difference
                detail: dict[str, object] = {"reserved": str(each.leaving.atomic), **each.detail}
                differences.append(_Difference(CaseKind.BALANCE, each.subject, each.expected, each.observed, detail))
        return Comparison(agreeing, in_flight, await self._open(differences))

    async def find_stuck(self, grace: timedelta = timedelta(minutes=10)) -> list[Case]:
        """Open a case for each pending reservation whose expiry, or start without one, is longer than `grace` ago."""
        before = to_utc(self._clock.now()) - grace
        async with self._books.db.connection() as connection:
            rows = await connection.fetch(
                "select * from ledger.reservation where state = 'pending' and coalesce(expires_at, created_at) <= $1"
                " order by created_at limit $2",
                before,
                STUCK_MAX,
            )
            await self._books.assets.cover(connection, rows)
        differences = []
        for row in rows:
            amount = self._books.assets.row_money(row, "amount")
            detail = {"payer": row["payer"], "payee": row["payee"], "since": row["created_at"].isoformat()}
            difference = _Difference(
                CaseKind.STUCK_RESERVATION, row["key"], amount.asset.zero(), amount, detail | {"rail": row["rail"]}
            )
            differences.append(difference)
        return await self._open(differences)

    async def cases(self, *, resolved: bool = False) -> list[Case]:
        """Open cases, or resolved ones, oldest first."""
        async with self._books.db.connection() as connection:
            rows = await connection.fetch(
                'select * from ledger."case" where (resolved_at is not null) = $1 order by opened_at, id', resolved
            )
            await self._books.assets.cover(connection, rows)
        return [self._case(row) for row in rows]

    async def resolve(self, case_id: str, resolution: str) -> Case:
        """Close a case saying what was done; money moves only by transfers of its own. Raises `NotFound`."""
        check_text(resolution, "resolution", required=True)
        async with self._books.db.connection() as connection:
            rows = await connection.fetch(
                'update ledger."case" set resolved_at = $2, resolution = $3 where id = $1 and resolved_at is null'
                " returning *",
                case_id,
                to_utc(self._clock.now()),
                resolution,
            )
            await self._books.assets.cover(connection, rows)
        if not rows:
            raise NotFound(f"no open case {case_id}", next_step="list the open cases")
        return self._case(rows[0])

    async def _open(self, differences: Sequence[_Difference]) -> list[Case]:
        """One open case per subject: a new one raises an event, a known one is brought up to date."""
        for difference in differences:
            await self._books.assets.settle(self._books.db, difference.observed.asset)
        async with self._books.db.transaction() as connection:
            return [await self._open_one(connection, difference) for difference in differences]

    async def _open_one(self, connection: Connection, difference: _Difference) -> Case:
        identifier, now = self._ids.new("case"), to_utc(self._clock.now())
        row = await connection.fetchrow(
            'insert into ledger."case" as c'
            " (id, kind, subject, asset, expected, observed, detail, opened_at, seen_at)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8, $8) on conflict (kind, subject, asset) where resolved_at is null"
            " do update set expected = excluded.expected, observed = excluded.observed, detail = excluded.detail,"
            " seen_at = excluded.seen_at returning *",
            identifier,
            str(difference.kind),
            difference.subject,
            difference.observed.asset.caip19,
            difference.expected.atomic,
            difference.observed.atomic,
            difference.detail,
            now,
        )
        assert row is not None
        case = self._case(row)
        if case.id == identifier:
            event = Event(name=EventName.LEDGER_DIFFERENCE, subject=case.id, sequence=1, at=now, data=case.to_json())
            await publish(connection, [event])
        return case

    def _case(self, row: asyncpg.Record) -> Case:
        return Case(
            id=row["id"],
            kind=CaseKind(row["kind"]),
            subject=row["subject"],
            expected=self._books.assets.row_money(row, "expected"),
            observed=self._books.assets.row_money(row, "observed"),
            detail=row["detail"],
            opened_at=row["opened_at"],
            seen_at=row["seen_at"],
            resolved_at=row["resolved_at"],
            resolution=row["resolution"],
        )
