"""Settlements in PostgreSQL: who has a payment, and the signed bytes of its transaction, shared by all facilitators."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from agentnexus.platform.database import Database

LEASE_SECONDS = 60.0


class State(StrEnum):
    """A settlement's life.

    sending: somebody is at it · pending: sent, not known yet · settled · failed: it never will move anything
    """

    SENDING = "sending"
    PENDING = "pending"
    SETTLED = "settled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A transaction that is signed by everybody. `wire` is what the network is sent, the same at every try."""

    payment_id: str
    network: str
    transaction: str  # the fee payer's signature in base58: the transaction's name on the network
    wire: bytes
    last_valid_block_height: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """A settlement as it is kept."""

    outgoing: Outgoing
    claim: str
    state: State
    tries: int
    reason: str
    message: str


# Under the first claim it goes on at any time. Those without a claim have nothing to show that they are the same: they
# go on only where the last try ended without an answer.
CLAIM = """insert into x402svm.settlement as held
        (payment_id, claim, network, transaction, wire, last_valid_block_height, state, lease_until)
    values ($1, $2, $3, $4, $5, $6, 'sending', clock_timestamp() + make_interval(secs => $7))
    on conflict (payment_id) do update set state = 'sending', tries = held.tries + 1,
        lease_until = excluded.lease_until, updated_at = clock_timestamp()
    where held.state in ('sending', 'pending') and held.claim = excluded.claim
        and (held.claim <> '' or held.state = 'pending' or held.lease_until <= clock_timestamp())
    returning *"""
END = """update x402svm.settlement set state = $2, reason = $3, message = $4, updated_at = clock_timestamp()
    where payment_id = $1 and state in ('sending', 'pending')
        and set_config('synchronous_commit', 'off', true) = 'off'"""
# Nobody but the one who tried has had the bytes, and the node has refused them: as if it had never been.
FORGET = "delete from x402svm.settlement where payment_id = $1 and state = 'sending' and tries = 1 returning true"
LEFT_BEHIND = """select * from x402svm.settlement where network = $1 and state in ('sending', 'pending')
    and updated_at < clock_timestamp() - make_interval(secs => $2) order by updated_at limit 100"""
PURGE = """with gone as (delete from x402svm.settlement where state in ('settled', 'failed')
    and updated_at < clock_timestamp() - make_interval(secs => $1) returning 1) select count(*) from gone"""


class Settlements:
    """Safe in any number of processes over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, payment_id: str) -> Settlement | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow("select * from x402svm.settlement where payment_id = $1", payment_id)
        return None if row is None else _read(row)

    async def claim(self, outgoing: Outgoing, claim: str) -> Settlement | None:
        """The right to send, written down with the bytes; None when somebody else has the payment or it has ended."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                CLAIM,
                outgoing.payment_id,
                claim,
                outgoing.network,
                outgoing.transaction,
                outgoing.wire,
                outgoing.last_valid_block_height,
                LEASE_SECONDS,
            )
        return None if row is None else _read(row)

    async def end(self, payment_id: str, state: State, reason: str = "", message: str = "") -> None:
        """Write down what became of it. A lost note is no harm: the chain is asked again."""
        async with self._database.connection() as connection:
            await connection.execute(END, payment_id, str(state), reason, message[:500])

    async def forget(self, payment_id: str) -> bool:
        """Undo a first claim whose transaction the node refused to take; False when another is at it by now."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(FORGET, payment_id))

    async def left_behind(self, network: str, older_than_seconds: float) -> list[Settlement]:
        """Settlements whose facilitator has said nothing for so long."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(LEFT_BEHIND, network, older_than_seconds)
        return [_read(row) for row in rows]

    async def purge(self, older_than_seconds: float) -> int:
        """Forget what ended so long ago; its blockhashes must be long over. Returns how many."""
        async with self._database.connection() as connection:
            return int(await connection.fetchval(PURGE, older_than_seconds))


def _read(row: asyncpg.Record) -> Settlement:
    return Settlement(
        outgoing=Outgoing(
            row["payment_id"], row["network"], row["transaction"], bytes(row["wire"]), row["last_valid_block_height"]
        ),
        claim=row["claim"],
        state=State(row["state"]),
        tries=row["tries"],
        reason=row["reason"],
        message=row["message"],
    )
