"""Accounts, claims, holds, withdrawals and history in PostgreSQL. Every change only moves forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import asyncpg

from agentnexus.core.money import Asset, Money, total
from agentnexus.core.payments import Payment, PaymentRequest
from agentnexus.escrow.model import Account, Entry, EntryKind, Hold, HoldState, Withdrawal
from agentnexus.escrow.ports import SeenDeposit
from agentnexus.platform.database import Database


class EscrowStore:
    """Schema ``escrow``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open_account(self, account: Account) -> Account | None:
        """The user's account; None when the wallet belongs to another user."""
        async with self._database.connection() as connection:
            await connection.execute(
                """insert into escrow.account (user_id, wallet, network, created_at) values ($1, $2, $3, $4)
                   on conflict do nothing""",
                account.user_id,
                account.wallet,
                account.network,
                account.created_at,
            )
        return await self.account(account.user_id)

    async def account(self, user_id: str) -> Account | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow("select * from escrow.account where user_id = $1", user_id)
        return None if row is None else Account(**row)

    # -- deposits ---------------------------------------------------------------------------------------------------

    async def claim(self, network: str, user_id: str, seen: SeenDeposit, now: datetime) -> tuple[str, bool]:
        """Whose the deposit is, and whether it was credited already. The first claim of a signature counts."""
        async with self._database.connection() as connection:
            await connection.execute(
                """insert into escrow.deposit (network, signature, user_id, asset, atomic, sent_at, claimed_at)
                   values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing""",
                network,
                seen.signature,
                user_id,
                _asset_json(seen.amount.asset),
                Decimal(seen.amount.atomic),
                seen.sent_at,
                now,
            )
            row = await connection.fetchrow(
                "select user_id, credited_at from escrow.deposit where network = $1 and signature = $2",
                network,
                seen.signature,
            )
        assert row is not None  # inserted above, never deleted
        return row["user_id"], row["credited_at"] is not None

    async def claimed(self, network: str, signature: str) -> bool:
        """Whether a signature was credited before, to anybody."""
        async with self._database.connection() as connection:
            found: bool = await connection.fetchval(
                """select exists (select from escrow.deposit
                    where network = $1 and signature = $2 and credited_at is not null)""",
                network,
                signature,
            )
        return found

    async def credit(self, network: str, signature: str, now: datetime) -> bool:
        """Note that the ledger has it; False when another claim did so first."""
        async with self._database.connection() as connection:
            done = await connection.execute(
                """update escrow.deposit set credited_at = $3
                    where network = $1 and signature = $2 and credited_at is null""",
                network,
                signature,
                now,
            )
        return done == "UPDATE 1"

    async def credited(self, network: str, signatures: Sequence[str]) -> set[str]:
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select signature from escrow.deposit
                    where network = $1 and signature = any($2::text[]) and credited_at is not null""",
                network,
                list(signatures),
            )
        return {row["signature"] for row in rows}

    async def credited_in_all(self, asset: Asset) -> Money:
        async with self._database.connection() as connection:
            atomic = await connection.fetchval(
                """select coalesce(sum(atomic), 0) from escrow.deposit
                    where network = $1 and asset ->> 'caip19' = $2 and credited_at is not null""",
                asset.network,
                asset.caip19,
            )
        return Money(asset, int(atomic))

    async def open_claims(self, network: str, before: datetime, limit: int) -> list[tuple[str, str, Money]]:
        """(user, signature, amount) of deposits that were claimed and not credited."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select * from escrow.deposit where network = $1 and credited_at is null and claimed_at < $2
                    order by claimed_at limit $3""",
                network,
                before,
                limit,
            )
        return [(row["user_id"], row["signature"], _money(row)) for row in rows]

    async def last_top_up(self, user_id: str) -> datetime | None:
        async with self._database.connection() as connection:
            found: datetime | None = await connection.fetchval(
                "select max(credited_at) from escrow.deposit where user_id = $1", user_id
            )
        return found

    # -- holds ------------------------------------------------------------------------------------------------------

    async def begin_hold(self, reference: str, user_id: str, amount: Money, now: datetime) -> Hold:
        """The hold of a reference: made now, or the one that was made before; one that has ended begins again."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                """insert into escrow.hold (reference, user_id, asset, atomic, state, opened_at)
                   values ($1, $2, $3, $4, 'opening', $5)
                   on conflict (reference) do update set state = 'opening', opening = escrow.hold.opening + 1,
                           asset = excluded.asset, atomic = excluded.atomic, opened_at = excluded.opened_at
                       where escrow.hold.state in ('refused', 'closed') and escrow.hold.user_id = excluded.user_id
                   returning *""",
                reference,
                user_id,
                _asset_json(amount.asset),
                Decimal(amount.atomic),
                now,
            )
            if row is None:
                row = await connection.fetchrow("select * from escrow.hold where reference = $1", reference)
        assert row is not None  # inserted or there before; never deleted
        return _hold(row)

    async def hold(self, reference: str) -> Hold | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow("select * from escrow.hold where reference = $1", reference)
        return None if row is None else _hold(row)

    async def move_hold(self, hold: Hold, before: tuple[HoldState, ...], after: HoldState) -> None:
        """Only this opening of it, and only from `before`."""
        async with self._database.connection() as connection:
            await connection.execute(
                """update escrow.hold set state = $4
                    where reference = $1 and opening = $2 and state = any($3::text[])""",
                hold.reference,
                hold.opening,
                [str(state) for state in before],
                str(after),
            )

    async def holds_of(self, user_id: str) -> list[Hold]:
        """Those that may have money in them."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "select * from escrow.hold where user_id = $1 and state in ('open', 'closing')", user_id
            )
        return [_hold(row) for row in rows]

    async def unfinished_holds(self, before: datetime, limit: int) -> list[Hold]:
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select * from escrow.hold where state in ('opening', 'open', 'closing') and opened_at < $1
                    order by opened_at limit $2""",
                before,
                limit,
            )
        return [_hold(row) for row in rows]

    # -- withdrawals ------------------------------------------------------------------------------------------------

    async def begin_withdrawal(self, row_id: str, user_id: str, request: PaymentRequest, now: datetime) -> Withdrawal:
        """The withdrawal of an id: made now, or the one that was made before."""
        async with self._database.connection() as connection:
            await connection.execute(
                """insert into escrow.withdrawal (id, user_id, request, state, opened_at)
                   values ($1, $2, $3, 'reserved', $4) on conflict do nothing""",
                row_id,
                user_id,
                request.model_dump(mode="json"),
                now,
            )
            row = await connection.fetchrow("select * from escrow.withdrawal where id = $1", row_id)
        assert row is not None
        return _withdrawal(row)

    async def move_withdrawal(
        self, row_id: str, state: str, payment: Payment | None = None, reason: str = "", ended: datetime | None = None
    ) -> None:
        """A finished one stays as it is."""
        async with self._database.connection() as connection:
            await connection.execute(
                """update escrow.withdrawal set state = $2, payment = coalesce($3, payment), reason = $4,
                       finished_at = $5 where id = $1 and finished_at is null""",
                row_id,
                state,
                None if payment is None else payment.model_dump(mode="json"),
                reason,
                ended,
            )

    async def withdrawal(self, row_id: str) -> Withdrawal | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow("select * from escrow.withdrawal where id = $1", row_id)
        return None if row is None else _withdrawal(row)

    async def unfinished_withdrawals(self, before: datetime, limit: int) -> list[Withdrawal]:
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select * from escrow.withdrawal where finished_at is null and opened_at < $1
                    order by opened_at limit $2""",
                before,
                limit,
            )
        return [_withdrawal(row) for row in rows]

    async def leaving(self, asset: Asset) -> Money:
        """What withdrawals without an end may have taken from the treasury already."""
        async with self._database.connection() as connection:
            rows = await connection.fetch("select * from escrow.withdrawal where finished_at is null")
        return total(
            (m for m in (_withdrawal(row).request.amount for row in rows) if m.asset.caip19 == asset.caip19), asset
        )

    # -- history ----------------------------------------------------------------------------------------------------

    async def note(self, key: str, user_id: str, entry: Entry) -> None:
        """One line, once per key."""
        async with self._database.connection() as connection:
            await connection.execute(
                """insert into escrow.entry (key, user_id, kind, asset, atomic, signature, reference, at)
                   values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing""",
                key,
                user_id,
                str(entry.kind),
                _asset_json(entry.amount.asset),
                Decimal(entry.amount.atomic),
                entry.signature,
                entry.reference,
                entry.at,
            )

    async def history(self, user_id: str, limit: int, before: int | None = None) -> tuple[list[Entry], int]:
        """Newest first, from the one before a position, and how many there are in all."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select * from escrow.entry where user_id = $1 and ($3::bigint is null or position < $3)
                    order by position desc limit $2""",
                user_id, limit, before,
            )  # fmt: skip
            count: int = await connection.fetchval("select count(*) from escrow.entry where user_id = $1", user_id)
        return [_entry(row) for row in rows], count

    async def charged(self, user_id: str) -> list[Money]:
        """What a user has spent, by asset."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select asset, sum(atomic) as atomic from escrow.entry
                    where user_id = $1 and kind = 'charged' group by asset""",
                user_id,
            )
        return [-_money(row) for row in rows]


def _asset_json(asset: Asset) -> dict[str, object]:
    return {"symbol": asset.symbol, "decimals": asset.decimals, "caip19": asset.caip19}


def _money(row: asyncpg.Record) -> Money:
    asset: Mapping[str, object] = row["asset"]
    known = Asset(str(asset["symbol"]), int(str(asset["decimals"])), str(asset["caip19"]))
    return Money(known, int(row["atomic"]))


def _hold(row: asyncpg.Record) -> Hold:
    return Hold(
        row["reference"], row["user_id"], _money(row), HoldState(row["state"]), row["opened_at"], row["opening"]
    )


def _withdrawal(row: asyncpg.Record) -> Withdrawal:
    return Withdrawal(
        id=row["id"],
        user_id=row["user_id"],
        request=PaymentRequest.model_validate(row["request"]),
        state=row["state"],
        payment=None if row["payment"] is None else Payment.model_validate(row["payment"]),
        reason=row["reason"],
        finished_at=row["finished_at"],
    )


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(EntryKind(row["kind"]), _money(row), row["signature"], row["reference"], row["at"], row["position"])
