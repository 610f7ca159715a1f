"""Reservations in PostgreSQL: one statement per step, the database's clock, any number of seller processes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import asyncpg

from agentnexus.markets.x402.reservations import (
    KEPT,
    Claim,
    Reservation,
    SaleState,
    StoredResponse,
    lost_lease,
)
from agentnexus.platform.database import Database

POLL_SECONDS = 0.05
COLUMNS = """payment_id, client_key, payload_hash, request_hash, resource, state, owner, status, headers, body,
    settlement, claim, lease_until > clock_timestamp() as live,
    extract(epoch from clock_timestamp() - updated_at)::float8 as age_seconds"""
FIND = f"""select {COLUMNS} from x402.reservation where payment_id = $1 or client_key = $2
    order by payment_id = $1 desc limit 1"""  # noqa: S608 - constants only
RESERVE = f"""insert into x402.reservation as held
        (payment_id, client_key, payload_hash, request_hash, resource, state, owner, lease_until)
    select $1, $2, $3, $4, $5, 'running', $6, clock_timestamp() + make_interval(secs => $7)
    where set_config('synchronous_commit', 'off', true) = 'off'
    on conflict (payment_id) do update set
        owner = excluded.owner, lease_until = excluded.lease_until, updated_at = clock_timestamp(),
        state = case held.state when 'failed' then 'running' else held.state end
    where held.state <> 'settled' and held.lease_until <= clock_timestamp()
        and held.payload_hash = excluded.payload_hash and held.request_hash = excluded.request_hash
    returning {COLUMNS}"""
RENEW = """update x402.reservation set lease_until = clock_timestamp() + make_interval(secs => $3)
    where payment_id = $1 and owner = $2 returning true"""
ADVANCE = """update x402.reservation set state = $3, status = coalesce($4, status), headers = coalesce($5, headers),
        body = coalesce($6, body), settlement = coalesce($7, settlement),
        lease_until = clock_timestamp() + make_interval(secs => $8), updated_at = clock_timestamp()
    where payment_id = $1 and owner = $2 and set_config('synchronous_commit', $9, true) = $9 returning true"""
PURGE = """with gone as (delete from x402.reservation where state <> all($2::text[])
        and updated_at < clock_timestamp() - make_interval(secs => $1) returning 1) select count(*) from gone"""


def _read(row: asyncpg.Record) -> Reservation:
    response = None
    if row["status"] is not None:
        headers = tuple((str(name), str(value)) for name, value in row["headers"])
        response = StoredResponse(row["status"], headers, bytes(row["body"]))
    return Reservation(
        claim=Claim(row["payment_id"], row["payload_hash"], row["request_hash"], row["resource"], row["client_key"]),
        state=SaleState(row["state"]),
        owner=row["owner"],
        live=row["live"],
        age_seconds=row["age_seconds"],
        response=response,
        settlement=row["settlement"],
        token=row["claim"],
    )


class PostgresReservations:
    """The store sellers run with; safe across processes and restarts.

    Only a kept answer waits for the disk: should the server lose power, a lost reservation means working twice and a
    lost settlement means asking for it again, but a lost answer would have been paid for nothing.

    Args:
        settled_here: the facilitator writes its transaction to this same server before any money moves. That commit
            carries the answer to the disk as well, so the answer need not wait on its own.
    """

    def __init__(self, database: Database, *, settled_here: bool = False) -> None:
        self._database = database
        self._settled_here = settled_here
        self._condition = asyncio.Condition()

    async def find(self, claim: Claim) -> Reservation | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(FIND, claim.payment_id, claim.client_key)
        return _read(row) if row else None

    async def reserve(self, claim: Claim, owner: str, lease_seconds: float) -> Reservation:
        try:
            async with self._database.connection() as connection:
                row = await connection.fetchrow(
                    RESERVE,
                    claim.payment_id,
                    claim.client_key,
                    claim.payload_hash,
                    claim.request_hash,
                    claim.resource,
                    owner,
                    lease_seconds,
                )
        except asyncpg.UniqueViolationError:  # the client key belongs to another payment
            row = None
        if row is not None:
            return _read(row)
        held = await self.find(claim)
        # Purged between the two statements: the next try inserts it.
        return held or await self.reserve(claim, owner, lease_seconds)

    async def renew(self, payment_id: str, owner: str, lease_seconds: float) -> bool:
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(RENEW, payment_id, owner, lease_seconds))

    async def advance(
        self,
        payment_id: str,
        owner: str,
        state: SaleState,
        *,
        response: StoredResponse | None = None,
        settlement: Mapping[str, object] | None = None,
        lease_seconds: float = 0.0,
    ) -> None:
        async with self._database.connection() as connection:
            moved = await connection.fetchval(
                ADVANCE,
                payment_id,
                owner,
                str(state),
                response.status if response else None,
                [list(pair) for pair in response.headers] if response else None,
                response.body if response else None,
                dict(settlement) if settlement is not None else None,
                lease_seconds,
                "on" if state is SaleState.DELIVERED and not self._settled_here else "off",
            )
        if not moved:
            raise lost_lease(payment_id)
        async with self._condition:
            self._condition.notify_all()

    async def changed(self, payment_id: str, timeout_seconds: float) -> None:
        """Woken by this process at once; changes by other processes are seen at the next poll of the caller."""
        try:
            async with asyncio.timeout(min(timeout_seconds, POLL_SECONDS)), self._condition:
                await self._condition.wait()
        except TimeoutError:
            return

    async def purge(self, older_than_seconds: float) -> int:
        async with self._database.connection() as connection:
            count: int = await connection.fetchval(PURGE, older_than_seconds, [str(state) for state in KEPT])
        return count
