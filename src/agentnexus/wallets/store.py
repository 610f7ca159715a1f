"""Wallets and their operations in PostgreSQL. Every change says from which state, so that of two only one is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from agentnexus.platform.database import Database
from agentnexus.rails.evm.contracts.account import Owner
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.encoding import from_hex, to_hex
from agentnexus.rails.evm.userops.bundler import UserOperationReceipt
from agentnexus.rails.evm.userops.model import UserOperation
from agentnexus.wallets.building import Form
from agentnexus.wallets.model import GasPayer, Operation, OperationState, Wallet, WalletKind

# Whoever builds an operation has so long; then another one may.
BUILDER_SECONDS = 30
# Whoever signed has so long to send it and to wait, before the worker looks as well.
SENDER_TIME = timedelta(seconds=5)
UNSIGNED_TIME = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Stored:
    """An operation with what only this room needs.

    Args:
        body: the newest form; None while nothing is built.
        from_block: it was signed after this block.
        renewals: how often it was built anew after it was signed.
        block_number: where it was mined.
        ending: hash of the empty operation that ends this one by using its nonce up, "" where there is none.
    """

    operation: Operation
    calls: tuple[Call, ...]
    body: UserOperation | None
    from_block: int
    renewals: int
    block_number: int | None
    closed: bool
    ending: str = ""

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Stored:
        cost = row["gas_cost_wei"]
        operation = Operation(
            id=row["id"],
            user_id=row["user_id"],
            wallet_id=row["wallet_id"],
            key=row["key"],
            purpose=row["purpose"],
            title=row["title"],
            gas=GasPayer(row["gas"]),
            state=OperationState(row["state"]),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            hash=row["hash"],
            valid_until=row["valid_until"],
            transaction=row["transaction"],
            gas_cost_wei=None if cost is None else int(cost),
            error=row["error"],
        )
        return cls(
            operation,
            tuple(Call(each["to"], from_hex(each["data"]), int(each["value"])) for each in row["calls"]),
            None if row["body"] is None else UserOperation.from_json(row["body"]),
            row["from_block"],
            row["renewals"],
            row["block_number"],
            row["closed"],
            row["ending"],
        )


def calls_json(calls: Sequence[Call]) -> list[dict[str, str]]:
    """As they are kept, and as two requests with one key are compared."""
    return [{"to": each.target, "value": str(each.value), "data": to_hex(each.data)} for each in calls]


class WalletStore:
    """Schema ``wallet``, one network."""

    def __init__(self, database: Database, network: str) -> None:
        self.database = database
        self.network = network

    # -- accounts ----------------------------------------------------------------------------------------------------

    async def add(self, wallet: Wallet, sealed_key: str | None, scanned_to: int) -> Wallet:
        """The user's wallet: this one, or the one that was there first."""
        async with self.database.connection() as connection:
            await connection.execute(
                "insert into wallet.account (id, user_id, network, address, kind, owner_key, owner_x, owner_y,"
                " credential_id, sealed_key, proven_at, created_at, scanned_to)"
                " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) on conflict do nothing",
                wallet.id,
                wallet.user_id,
                self.network,
                wallet.address,
                str(wallet.kind),
                wallet.owner.key,
                wallet.owner.x,
                wallet.owner.y,
                wallet.credential_id,
                sealed_key,
                wallet.created_at if wallet.proven else None,
                wallet.created_at,
                scanned_to,
            )
        kept = await self.of_user(wallet.user_id)
        assert kept is not None  # inserted above; only somebody's proof that the address is theirs takes one away
        return kept

    async def of_user(self, user_id: str) -> Wallet | None:
        async with self.database.connection() as connection:
            row = await connection.fetchrow(
                "select * from wallet.account where user_id = $1 and network = $2", user_id, self.network
            )
        return None if row is None else _wallet(row)

    async def wallet(self, wallet_id: str) -> Wallet | None:
        async with self.database.connection() as connection:
            row = await connection.fetchrow("select * from wallet.account where id = $1", wallet_id)
        return None if row is None else _wallet(row)

    async def sealed_key(self, wallet_id: str) -> str | None:
        async with self.database.connection() as connection:
            found: str | None = await connection.fetchval(
                "select sealed_key from wallet.account where id = $1", wallet_id
            )
        return found

    async def exported(self, wallet_id: str, now: datetime) -> None:
        async with self.database.connection() as connection:
            await connection.execute("update wallet.account set exported_at = $2 where id = $1", wallet_id, now)

    async def proven_elsewhere(self, address: str, user_id: str) -> bool:
        """Whether another user has shown that the address is theirs."""
        async with self.database.connection() as connection:
            found: bool = await connection.fetchval(
                "select exists (select from wallet.account where network = $1 and address = $2 and user_id <> $3"
                " and proven_at is not null)",
                self.network,
                address,
                user_id,
            )
        return found

    async def prove(self, wallet: Wallet, now: datetime) -> None:
        """The owner has signed: others who only named the same address lose it."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "update wallet.account set proven_at = coalesce(proven_at, $2) where id = $1", wallet.id, now
            )
            await connection.execute(
                "delete from wallet.account where network = $1 and address = $2 and id <> $3 and proven_at is null",
                self.network,
                wallet.address,
                wallet.id,
            )

    async def change_owner(self, wallet: Wallet, new: Wallet) -> Wallet:
        """The account has other owners on the chain: `new` says of which kind and who."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow(
                "update wallet.account set kind = $2, owner_key = $3, owner_x = $4, owner_y = $5, credential_id = $6,"
                " sealed_key = null where id = $1 returning *",
                wallet.id,
                str(new.kind),
                new.owner.key,
                new.owner.x,
                new.owner.y,
                new.credential_id,
            )
        assert row is not None  # it was just read
        return _wallet(row)

    # -- operations --------------------------------------------------------------------------------------------------

    async def begin(self, operation: Operation, calls: Sequence[Call]) -> Stored:
        """The operation of this user and key: this one, or the one that was there first."""
        async with self.database.connection() as connection:
            await connection.execute(
                "insert into wallet.operation (id, wallet_id, user_id, key, purpose, title, gas, calls, state,"
                " look_at, created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $7, $8, 'unsigned', $10, $9, $9)"
                " on conflict do nothing",
                operation.id,
                operation.wallet_id,
                operation.user_id,
                operation.key,
                operation.purpose,
                operation.title,
                str(operation.gas),
                calls_json(calls),
                operation.created_at,
                operation.created_at + UNSIGNED_TIME,
            )
        # Gone again when whoever built it at the same time was refused, and took it back.
        return await self.of_key(operation.user_id, operation.key) or await self.begin(operation, calls)

    async def of_key(self, user_id: str, key: str) -> Stored | None:
        async with self.database.connection() as connection:
            row = await connection.fetchrow(
                "select * from wallet.operation where user_id = $1 and key = $2", user_id, key
            )
        return None if row is None else Stored.from_row(row)

    async def find(self, operation_id: str) -> Stored | None:
        async with self.database.connection() as connection:
            row = await connection.fetchrow("select * from wallet.operation where id = $1", operation_id)
        return None if row is None else Stored.from_row(row)

    async def take_building(self, operation_id: str, lapsed_before: datetime) -> bool:
        """Become the one who builds it: when nothing is built or what is built has lapsed, and nobody is at it."""
        async with self.database.connection() as connection:
            taken = await connection.fetchval(
                "update wallet.operation set builder_until = clock_timestamp() + make_interval(secs => $3)"
                " where id = $1 and (builder_until is null or builder_until < clock_timestamp())"
                " and (state = 'unsigned' and (body is null or valid_until < $2) or state = 'signed') returning true",
                operation_id,
                lapsed_before,
                float(BUILDER_SECONDS),
            )
        return taken is True

    async def give_up_building(self, operation_id: str) -> None:
        """It could not be built. One that never was is taken back: nothing was begun, and its key is free again."""
        async with self.database.transaction() as connection:
            await connection.execute("update wallet.operation set builder_until = null where id = $1", operation_id)
            await connection.execute(
                "delete from wallet.operation where id = $1 and state = 'unsigned' and body is null", operation_id
            )

    async def built(self, operation_id: str, form: Form, from_block: int, now: datetime) -> None:
        """Keep what waits for its owner's signature."""
        async with self.database.connection() as connection:
            await connection.execute(
                "update wallet.operation set body = $2, hash = $3, valid_until = $4, from_block = $5, updated_at = $6,"
                " look_at = $7, builder_until = null where id = $1 and state = 'unsigned'",
                operation_id,
                form.body.to_json(),
                form.hash,
                form.valid_until,
                from_block,
                now,
                now + UNSIGNED_TIME,
            )

    async def signed(self, operation_id: str, body: UserOperation, operation_hash: str, now: datetime) -> bool:
        """Keep the signed bytes of what is built, before they leave. False when somebody else was faster."""
        async with self.database.connection() as connection:
            done = await connection.fetchval(
                "update wallet.operation set state = 'signed', body = $2, updated_at = $4, look_at = $5"
                " where id = $1 and state = 'unsigned' and hash = $3 returning true",
                operation_id,
                body.to_json(),
                operation_hash,
                now,
                now + SENDER_TIME,
            )
        return done is True

    async def unsigned(self, operation_id: str, operation_hash: str, now: datetime) -> None:
        """This form can never be mined: the owner has to sign another one."""
        async with self.database.connection() as connection:
            await connection.execute(
                "update wallet.operation set state = 'unsigned', body = null, hash = '', valid_until = null,"
                " error = null, updated_at = $3, look_at = $4"
                " where id = $1 and state in ('unsigned', 'signed') and hash = $2",
                operation_id,
                operation_hash,
                now,
                now + UNSIGNED_TIME,
            )

    async def renewed(
        self, operation_id: str, old_hash: str, form: Form, now: datetime, *, ending: bool = False
    ) -> bool:
        """Another form of a signed operation, signed as well: under the same nonce, so one of the two at most.

        Args:
            ending: it does nothing but use the nonce up; what was wrong stays known.
        """
        async with self.database.connection() as connection:
            done = await connection.fetchval(
                "update wallet.operation set body = $3, hash = $4, valid_until = $5, renewals = renewals + 1,"
                " error = case when $8 then error end, ending = case when $8 then $4 else ending end,"
                " updated_at = $6, look_at = $7, builder_until = null"
                " where id = $1 and state = 'signed' and hash = $2 returning true",
                operation_id,
                old_hash,
                form.body.to_json(),
                form.hash,
                form.valid_until,
                now,
                now + SENDER_TIME,
                ending,
            )
        return done is True

    async def mined(
        self,
        operation_id: str,
        receipt: UserOperationReceipt,
        *,
        error: Mapping[str, object] | None,
        closed: bool,
        now: datetime,
        look_at: datetime,
    ) -> tuple[Stored, bool]:
        """What the chain says now, and whether that is news. What ended an operation is no success of it.

        The same again changes nothing but `closed`.
        """
        state = OperationState.SUCCEEDED if receipt.succeeded else OperationState.FAILED
        async with self.database.connection() as connection:
            row = await connection.fetchrow(
                "with old as (select transaction from wallet.operation where id = $1 for update)"
                " update wallet.operation o set state = case when ending = $3 then 'rejected' else $2 end, hash = $3,"
                " transaction = $4, block_number = $5, gas_cost_wei = $6, error = case when ending = $3 then error"
                " else $7 end, closed = $8, look_at = $10,"
                " updated_at = case when old.transaction = $4 then updated_at else $9 end"
                " from old where id = $1 returning o.*, old.transaction <> $4 as is_news",
                operation_id,
                str(state),
                receipt.hash,
                receipt.transaction,
                receipt.block_number,
                receipt.gas_cost_wei,
                error,
                closed,
                now,
                look_at,
            )
        assert row is not None  # a wallet whose operations are signed is never taken away
        return Stored.from_row(row), row["is_news"]

    async def unmined(self, operation_id: str, now: datetime) -> None:
        """A reorganisation took it off the chain: it is signed, and perhaps comes again."""
        async with self.database.connection() as connection:
            await connection.execute(
                "update wallet.operation set state = 'signed', transaction = '', block_number = null,"
                " gas_cost_wei = null, error = case when ending <> '' then error end, updated_at = $2, look_at = $2"
                " where id = $1 and not closed"
                " and (state in ('succeeded', 'failed') or state = 'rejected' and ending <> '')",
                operation_id,
                now,
            )

    async def refused(self, operation_id: str, operation_hash: str, error: Mapping[str, object], now: datetime) -> None:
        """Why it is not brought to the chain, while it still might be."""
        async with self.database.connection() as connection:
            await connection.execute(
                "update wallet.operation set error = $3, updated_at = $4"
                " where id = $1 and hash = $2 and state = 'signed' and error is distinct from $3",
                operation_id,
                operation_hash,
                error,
                now,
            )

    async def rejected(
        self, operation: Operation, error: Mapping[str, object], now: datetime, look_at: datetime | None = None
    ) -> Stored | None:
        """It did not happen. None when it is not what it was any more.

        Args:
            look_at: when to see whether somebody else brought it to the chain; None where nobody can.
        """
        async with self.database.connection() as connection:
            row = await connection.fetchrow(
                "update wallet.operation set state = 'rejected', error = $4, closed = $6::timestamptz is null,"
                " look_at = coalesce($6, look_at), updated_at = $5, builder_until = null"
                " where id = $1 and hash = $2 and state = $3 and state in ('unsigned', 'signed') returning *",
                operation.id,
                operation.hash,
                str(operation.state),
                error,
                now,
                look_at,
            )
        return None if row is None else Stored.from_row(row)

    async def look_later(self, operation_id: str, look_at: datetime | None) -> None:
        """See at that time what became of what was given up; None: nothing can come of it any more."""
        async with self.database.connection() as connection:
            await connection.execute(
                "update wallet.operation set closed = $2::timestamptz is null, look_at = coalesce($2, look_at)"
                " where id = $1 and state = 'rejected'",
                operation_id,
                look_at,
            )

    async def due(self, now: datetime, again_at: datetime, limit: int) -> list[Stored]:
        """Open ones that somebody should look at; nobody else gets them before `again_at`."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "update wallet.operation set look_at = $2 where id in (select id from wallet.operation"
                " where not closed and look_at <= $1 and wallet_id in (select id from wallet.account"
                " where network = $4) order by look_at limit $3 for update skip locked) returning *",
                now,
                again_at,
                limit,
                self.network,
            )
        return [Stored.from_row(row) for row in rows]


def _wallet(row: asyncpg.Record) -> Wallet:
    return Wallet(
        id=row["id"],
        user_id=row["user_id"],
        network=row["network"],
        address=row["address"],
        kind=WalletKind(row["kind"]),
        owner=Owner(row["owner_key"], row["owner_x"], row["owner_y"]),
        created_at=row["created_at"],
        credential_id=row["credential_id"],
        exported_at=row["exported_at"],
        proven=row["proven_at"] is not None,
    )
