"""Rows of signatures that were given, by the hash of the operation they belong to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

import asyncpg

from agentnexus.platform.database import Connection, Database

_KEEP = """
insert into paymaster.sponsorship (network, paymaster, user_operation_hash, sender, nonce, user_id, policy,
    maximum_cost, valid_until, paymaster_data, state, unsigned, newcomer, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) on conflict do nothing
"""
_ONE = "select * from paymaster.sponsorship where network = $1 and paymaster = $2 and user_operation_hash = $3"
_OF_NONCE = """
select * from paymaster.sponsorship
where network = $1 and paymaster = $2 and sender = $3 and nonce = $4 and state in ('reserving', 'signed')
order by created_at
"""
# What was handed out and may never be signed: how many of one user, and what those of newcomers cost at most together.
_UNSIGNED = """
select count(*) filter (where user_id = $4) as of_user,
       coalesce(sum(maximum_cost) filter (where newcomer and policy = $5), 0) as of_newcomers
from paymaster.sponsorship
where network = $1 and paymaster = $2 and unsigned and state in ('reserving', 'signed') and valid_until > $3
    and user_operation_hash <> $6
"""


class SponsorshipState(StrEnum):
    OFFERED = "offered"  # kept here until its owner has signed; nothing is promised
    RESERVING = "reserving"  # not given to anybody
    SIGNED = "signed"  # may be used until it expires
    USED = "used"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Sponsorship:
    """A promise to pay the gas of one operation. Costs in wei; `user_operation_hash` as EntryPoint tells it.

    Args:
        unsigned: it was handed out, and nobody knows whether the owner of the account ever signs.
        newcomer: the user had paid for nothing here.
    """

    user_operation_hash: str
    sender: str
    nonce: int
    user_id: str
    policy: str
    maximum_cost: int
    valid_until: datetime
    paymaster_data: bytes
    state: SponsorshipState
    unsigned: bool = False
    newcomer: bool = False
    actual_cost: int | None = None
    succeeded: bool | None = None
    transaction: str | None = None

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Self:
        return cls(
            user_operation_hash=row["user_operation_hash"],
            sender=row["sender"],
            nonce=int(row["nonce"]),
            user_id=row["user_id"],
            policy=row["policy"],
            maximum_cost=int(row["maximum_cost"]),
            valid_until=row["valid_until"],
            paymaster_data=row["paymaster_data"],
            state=SponsorshipState(row["state"]),
            unsigned=row["unsigned"],
            newcomer=row["newcomer"],
            actual_cost=None if row["actual_cost"] is None else int(row["actual_cost"]),
            succeeded=row["succeeded"],
            transaction=row["transaction"],
        )


class SponsorshipStore:
    """The rows of one paymaster."""

    def __init__(self, database: Database, network: str, paymaster: str) -> None:
        self.database = database
        self._scope = (network, paymaster)

    async def keep(
        self, sponsorship: Sponsorship, now: datetime, fits: Callable[[int, int], None] | None = None
    ) -> Sponsorship:
        """Note it before anything else happens; the row that is there already when there is one.

        Args:
            fits: raises when the user has too many that nobody signed (first), or newcomers promises of so much (wei).
        """
        async with self.database.transaction() as connection:
            if fits is not None:
                await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", "|".join(self._scope))
                row = await connection.fetchrow(
                    _UNSIGNED,
                    *self._scope,
                    now,
                    sponsorship.user_id,
                    sponsorship.policy,
                    sponsorship.user_operation_hash,
                )
                assert row is not None  # sums of no rows are a row as well
                fits(row["of_user"], int(row["of_newcomers"]))
            await connection.execute(
                _KEEP,
                *self._scope,
                sponsorship.user_operation_hash,
                sponsorship.sender,
                sponsorship.nonce,
                sponsorship.user_id,
                sponsorship.policy,
                sponsorship.maximum_cost,
                sponsorship.valid_until,
                sponsorship.paymaster_data,
                str(sponsorship.state),
                sponsorship.unsigned,
                sponsorship.newcomer,
                now,
            )
            kept = await self.find(connection, sponsorship.user_operation_hash)
            assert kept is not None
            return kept

    async def take(self, user_operation_hash: str, *, unsigned: bool) -> Sponsorship | None:
        """About to be promised, whatever it was before; None when it is over."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow(
                "update paymaster.sponsorship set unsigned = $4,"
                " state = case state when 'offered' then 'reserving' else state end"
                " where network = $1 and paymaster = $2 and user_operation_hash = $3"
                " and state in ('offered', 'reserving', 'signed') returning *",
                *self._scope,
                user_operation_hash,
                unsigned,
            )
        return Sponsorship.from_row(row) if row else None

    async def drop(self, user_operation_hash: str, now: datetime) -> bool:
        """Forget an offer. False when it is promised already, and then holds until its end."""
        async with self.database.connection() as connection:
            dropped = await connection.fetchval(
                "update paymaster.sponsorship set state = 'released', ended_at = $4 where network = $1"
                " and paymaster = $2 and user_operation_hash = $3 and state = 'offered' returning true",
                *self._scope,
                user_operation_hash,
                now,
            )
        return dropped is True

    async def give(self, user_operation_hash: str) -> bool:
        """From now on the signature may be used. False when it was released meanwhile."""
        async with self.database.connection() as connection:
            given = await connection.fetchval(
                "update paymaster.sponsorship set state = 'signed' where network = $1 and paymaster = $2"
                " and user_operation_hash = $3 and state in ('reserving', 'signed') returning true",
                *self._scope,
                user_operation_hash,
            )
            return given is True

    async def find(self, connection: Connection, user_operation_hash: str, *, lock: bool = False) -> Sponsorship | None:
        """With `lock`, nobody else changes it until the transaction ends."""
        row = await connection.fetchrow(_ONE + (" for update" if lock else ""), *self._scope, user_operation_hash)
        return Sponsorship.from_row(row) if row else None

    async def of_nonce(
        self, connection: Connection, sender: str, nonce: int, *, lock: bool = False
    ) -> list[Sponsorship]:
        """Those still open for one nonce of an account, of which the chain takes at most one."""
        rows = await connection.fetch(_OF_NONCE + (" for update" if lock else ""), *self._scope, sender, nonce)
        return [Sponsorship.from_row(row) for row in rows]

    async def expired(self, before: datetime, limit: int) -> list[str]:
        """Hashes of open ones whose time ended before that moment, oldest first."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "select user_operation_hash from paymaster.sponsorship where network = $1 and paymaster = $2"
                " and state in ('offered', 'reserving', 'signed') and valid_until < $3 order by valid_until limit $4",
                *self._scope,
                before,
                limit,
            )
            return [row["user_operation_hash"] for row in rows]

    async def end(
        self,
        connection: Connection,
        user_operation_hash: str,
        state: SponsorshipState,
        now: datetime,
        *,
        actual_cost: int | None = None,
        succeeded: bool | None = None,
        transaction: str | None = None,
    ) -> None:
        """Used or released, inside the caller's transaction."""
        await connection.execute(
            "update paymaster.sponsorship set state = $4, ended_at = $5, actual_cost = $6, succeeded = $7,"
            " transaction = $8 where network = $1 and paymaster = $2 and user_operation_hash = $3",
            *self._scope,
            user_operation_hash,
            str(state),
            now,
            actual_cost,
            succeeded,
            transaction,
        )
