"""The purchases' tables. A row is written only over the version that was read, so that nobody undoes another's step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import asyncpg

from agentnexus.core.errors import NotFound
from agentnexus.core.events import Event, EventName
from agentnexus.core.money import Asset, Money
from agentnexus.marketplace.entitlements.holdings import hold
from agentnexus.marketplace.purchases.kinds import Kind, Period
from agentnexus.marketplace.purchases.model import LEASE, Purchase, PurchaseState, Step
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.evm.contracts.escrow import DealStatus

EVENTS_PAGE = 500
_INSERT = """
insert into marketplace.purchase (id, user_id, key, agent_id, agent_name, capability, seller, quantity, asset, price,
    fee_bps, wallet_id, wallet, deal_id, lifetime_seconds, valid_until, state, step, next_try_at, created_at,
    updated_at, kind, starts_at, ends_at, runs_max, transferable, upgrade, token_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $20, $21, $22, $23,
    $24, $25, $26, $27)
on conflict (user_id, key) do nothing returning *
"""
_MOVE = """
update marketplace.purchase set state = $3, step = $4, attempt = $5, retries = $6, next_try_at = $7, operation_id = $8,
    transaction = $9, deal_status = $10, remaining = $11, expires_at = $12, error = $13, refund_reason = $14,
    updated_at = $15, version = version + 1
where id = $1 and version = $2 returning *
"""
_CLAIM = """
update marketplace.purchase set next_try_at = $2, version = version + 1
where id in (select id from marketplace.purchase where next_try_at <= $1 order by next_try_at limit $3
             for update skip locked)
returning *
"""


class PurchaseStore:
    """Purchases and their events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, connection: Connection, purchase: Purchase) -> Purchase | None:
        """Keep a new one, its tokens its buyer's; None when its user's key is taken. Its first act is its opener's."""
        period = purchase.period
        row = await connection.fetchrow(
            _INSERT,
            purchase.id, purchase.user_id, purchase.key, purchase.agent_id, purchase.agent_name,
            purchase.capability, purchase.seller, purchase.quantity, _asset_json(purchase.price.asset),
            Decimal(purchase.price.atomic), purchase.fee_bps, purchase.wallet_id, purchase.wallet,
            purchase.deal_id, purchase.lifetime_seconds, purchase.valid_until, str(purchase.state),
            str(purchase.step), purchase.created_at + LEASE, purchase.created_at, str(purchase.kind),
            period and period.starts_at, period and period.ends_at, purchase.runs_max, purchase.transferable,
            purchase.upgrade, Decimal(purchase.token_id),
        )  # fmt: skip
        if row is None:
            return None
        opened = purchase_of(row)
        await hold(connection, opened.id, opened.wallet, opened.quantity)
        await _tell(connection, None, opened)
        return opened

    async def lock_orders(self, connection: Connection, wallet: str, agent_id: str) -> None:
        """Of a wallet's orders of one agent, one is decided at a time."""
        await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 28))", f"{wallet}:{agent_id}")

    async def periods(self, connection: Connection, user_id: str, wallet: str, agent_id: str) -> set[Period]:
        """Periods of an agent that a wallet has, or its user is about to have; others may name any wallet."""
        rows = await connection.fetch(
            """select distinct p.starts_at from marketplace.holding h
                 join marketplace.purchase p on p.id = h.purchase_id
                where h.wallet = $1 and h.count > 0 and p.agent_id = $2 and p.kind = 'period'
                  and (p.user_id = $3 or p.state = 'completed')
                  and p.state not in ('failed', 'refunded') and p.step not in ('refunding', 'ending')""",
            wallet, agent_id, user_id,
        )  # fmt: skip
        return {Period.at(row["starts_at"]) for row in rows}

    async def of_key(self, user_id: str, key: str, connection: Connection | None = None) -> Purchase | None:
        if connection is None:
            async with self._database.connection() as own:
                return await self.of_key(user_id, key, own)
        row = await connection.fetchrow(
            "select * from marketplace.purchase where user_id = $1 and key = $2", user_id, key
        )
        return None if row is None else purchase_of(row)

    async def get(self, purchase_id: str, user_id: str | None = None) -> Purchase:
        """Raises `NotFound`, also for another user's."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "select * from marketplace.purchase where id = $1 and ($2::text is null or user_id = $2)",
                purchase_id, user_id,
            )  # fmt: skip
        if row is None:
            raise NotFound(
                "there is no purchase with that id",
                next_step="list yours: on /entitlements, by `nexus purchase list` or GET /api/v1/me/purchases",
            )
        return purchase_of(row)

    async def move(self, before: Purchase, after: Purchase) -> Purchase | None:
        """Write it, with its event; None when another process or the chain's watcher was faster."""
        async with self._database.transaction() as connection:
            return await self.move_in(connection, before, after)

    async def move_in(self, connection: Connection, before: Purchase, after: Purchase) -> Purchase | None:
        """The same in the caller's transaction."""
        row = await connection.fetchrow(
            _MOVE,
            before.id, before.version, str(after.state), str(after.step), after.attempt, after.retries,
            after.next_try_at, after.operation_id, after.transaction, int(after.deal), Decimal(after.remaining),
            after.expires_at, after.error, after.refund_reason, after.updated_at,
        )  # fmt: skip
        if row is None:
            return None
        moved = purchase_of(row)
        await _tell(connection, before, moved)
        return moved

    async def claim(self, now: datetime, limit: int) -> list[Purchase]:
        """Purchases that are due; for `LEASE` they are the caller's."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_CLAIM, now, now + LEASE, limit)
        return [purchase_of(row) for row in rows]

    async def take(self, purchase: Purchase, now: datetime) -> Purchase | None:
        """The same for one; None when it is not as it was read."""
        return await self.move(purchase, replace(purchase, next_try_at=now + LEASE))

    async def list(self, user_id: str, before: str, limit: int) -> Sequence[Purchase]:
        """Newest first, from the one after `before`."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select * from marketplace.purchase where user_id = $1 and ($2 = '' or (created_at, id) <
                       (select created_at, id from marketplace.purchase where id = $2 and user_id = $1))
                    order by created_at desc, id desc limit $3""",
                user_id, before, limit,
            )  # fmt: skip
        return [purchase_of(row) for row in rows]

    async def of_ids(self, connection: Connection, ids: Sequence[str]) -> Sequence[Purchase]:
        """Oldest first: the order in which runs are taken from them."""
        rows = await connection.fetch(
            "select * from marketplace.purchase where id = any($1::text[]) order by created_at, id", list(ids)
        )
        return [purchase_of(row) for row in rows]

    async def to_replace(self, user_id: str, agent_id: str) -> Sequence[Purchase]:
        """The user's own runs of an agent that could be given back."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select * from marketplace.purchase where user_id = $1 and agent_id = $2 and kind = 'runs'
                      and state = 'completed' and step = 'entitled' and deal_status = 1 order by created_at, id""",
                user_id, agent_id,
            )  # fmt: skip
        return [purchase_of(row) for row in rows]

    async def unsettled(self, since: datetime, after: str, limit: int) -> Sequence[Purchase]:
        """Final ones whose deal is open, or that ended after `since`, by id."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select * from marketplace.purchase where id > $2 and next_try_at is null
                      and (deal_status = 1 or updated_at > $1) order by id limit $3""",
                since, after, limit,
            )  # fmt: skip
        return [purchase_of(row) for row in rows]

    async def poke(self, connection: Connection, deal_id: str, now: datetime) -> Purchase | None:
        """Have a deal's purchase looked at soon: something happened to it on the chain."""
        row = await connection.fetchrow(
            """update marketplace.purchase set next_try_at = least(coalesce(next_try_at, $2), $2), version = version + 1
                where deal_id = $1 returning *""",
            deal_id, now,
        )  # fmt: skip
        return None if row is None else purchase_of(row)

    async def poke_holders(self, connection: Connection, wallets: Sequence[str], now: datetime) -> bool:
        """The same for the newest purchase of each token that these wallets hold; whether there was one."""
        done = await connection.execute(
            """update marketplace.purchase set next_try_at = least(coalesce(next_try_at, $2), $2), version = version + 1
                where next_try_at is null and id in (
                    select distinct on (h.wallet, p.token_id) p.id from marketplace.holding h
                      join marketplace.purchase p on p.id = h.purchase_id where h.wallet = any($1::text[])
                     order by h.wallet, p.token_id, p.created_at desc)""",
            list(wallets), now,
        )  # fmt: skip
        return bool(done != "UPDATE 0")

    async def booked(self, connection: Connection, purchase_id: str, change: str) -> None:
        """Note by which change of the chain it came into the ledger."""
        await connection.execute(
            "update marketplace.purchase set booked_by = $2, version = version + 1 where id = $1", purchase_id, change
        )

    async def events(self, purchase_id: str, after: int = 0) -> Sequence[Event]:
        """Up to a page of events above a sequence, in order."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select sequence, name, at, data from marketplace.purchase_event
                    where purchase_id = $1 and sequence > $2 order by sequence limit $3""",
                purchase_id, after, EVENTS_PAGE,
            )  # fmt: skip
        return [Event(subject=purchase_id, **dict(row)) for row in rows]


async def _tell(connection: Connection, before: Purchase | None, after: Purchase) -> None:
    """Every move is an event; taking a purchase to look at it is none."""
    if before is not None and _told(before) == _told(after):
        return
    moved = before is None or before.state is not after.state
    name = EventName(f"purchase.{after.state}") if moved else EventName.PURCHASE_PROGRESS
    data = {"state": str(after.state), "step": str(after.step), "transaction": after.transaction, "error": after.error}
    await connection.execute(
        """insert into marketplace.purchase_event (purchase_id, sequence, name, at, data)
           select $1, coalesce(max(sequence), 0) + 1, $2, $3, $4
             from marketplace.purchase_event where purchase_id = $1""",
        after.id, str(name), after.updated_at, data | {"retries": after.retries},
    )  # fmt: skip


def _told(purchase: Purchase) -> tuple[object, ...]:
    return (purchase.state, purchase.step, purchase.attempt, purchase.transaction, purchase.error, purchase.remaining)


def purchase_of(row: asyncpg.Record) -> Purchase:
    """A row of ``marketplace.purchase``."""
    values = dict(row)
    known = values.pop("asset")
    asset = Asset(known["symbol"], known["decimals"], known["caip19"])
    values["price"] = Money(asset, int(values["price"]))
    values["remaining"] = int(values["remaining"])
    values["deal"] = DealStatus(values.pop("deal_status"))
    values["state"], values["step"] = PurchaseState(values["state"]), Step(values["step"])
    values["kind"] = Kind(values["kind"])
    starts_at = values.pop("starts_at")
    values["period"] = None if starts_at is None else Period.at(starts_at)
    del values["ends_at"], values["token_id"]  # both follow from the rest
    return Purchase(**values)


def _asset_json(asset: Asset) -> dict[str, object]:
    return {"symbol": asset.symbol, "decimals": asset.decimals, "caip19": asset.caip19}
