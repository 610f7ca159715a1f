"""Storing settlements with their signed transactions, before any of them leaves.

The settlements that gather while one write is under way go into the next one together: one statement takes their
nonces, claims them and stores the signed bytes, in one commit. The nonces are guessed, because signing needs them
first; the statement stores nothing at all when the guess is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from agentnexus.platform.batching import GroupCommit, Refused
from agentnexus.platform.database import Connection
from agentnexus.rails.evm.eip3009 import Authorization
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.signer import EvmSigner
from agentnexus.rails.evm.transactions import Intent, Outgoing, OutgoingState, TransactionSender, sign_transaction

_CLAIM = """
    on conflict (network, token, payer, nonce) do update
    set attempt = excluded.attempt, outgoing_key = excluded.outgoing_key,
        payee = excluded.payee, value = excluded.value, claim = excluded.claim
    where old.attempt = excluded.attempt - 1 and coalesce(old.claim, excluded.claim) = excluded.claim
"""
CLAIM_ONE = f"""
insert into evm.settlement as old (network, token, payer, nonce, payee, value, attempt, claim, outgoing_key)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9) {_CLAIM} returning true
"""  # noqa: S608 - constants only
# All or nothing: with other nonces than guessed nothing is `given`, and a settlement that somebody else claimed has no
# nonce, which the table refuses.
STORE_ALL = f"""
with taken as (
    update evm.sender set next_nonce = next_nonce + cardinality($6::text[])
    where network = $1 and address = $2 and next_nonce = $3 and free_nonces = '{{}}' returning 1
), given as (
    select g.* from taken, unnest($6::text[], $7::text[], $8::text[], $9::bytea[], $10::text[], $11::numeric[],
                                  $12::int[], $13::text[], $14::bytea[], $15::bigint[], $16::bytea[], $17::text[])
        with ordinality
        as g(key, token, payer, nonce, payee, value, attempt, claim, data, gas, raw, transaction, place)
), claimed as (
    insert into evm.settlement as old (network, token, payer, nonce, payee, value, attempt, claim, outgoing_key)
    select $1, token, payer, nonce, payee, value, attempt, claim, key from given {_CLAIM} returning outgoing_key
)
insert into evm.outgoing (network, key, sender, nonce, target, data, value, gas, max_fee_wei, priority_fee_wei, raw,
                          transactions, state)
select $1, key, $2, case when outgoing_key is not null then $3 + place - 1 end, token, data, 0, gas, $4, $5, raw,
       array[transaction], 'signed'
from given left join claimed on outgoing_key = key
returning key
"""  # noqa: S608 - constants only


@dataclass(frozen=True, slots=True)
class Staging:
    """The `attempt`-th try (from 1) to settle an authorisation: what its transaction shall do, and for whom."""

    authorization: Authorization
    attempt: int
    intent: Intent
    claim: str = ""

    @property
    def key(self) -> str:
        """Of the transaction."""
        paid = self.authorization
        return f"settle:{self.intent.target}:{paid.payer}:{to_hex(paid.nonce)}:{self.attempt}"

    @property
    def row(self) -> tuple[str, str, bytes, str, int, int, str]:
        """Token, payer, nonce, payee, value, attempt, claim."""
        paid = self.authorization
        return self.intent.target, paid.payer, paid.nonce, paid.payee, paid.value, self.attempt, self.claim


class SettlementStage:
    """Stages settlements with one relayer key. Any number of processes may, with the same key and database."""

    def __init__(self, sender: TransactionSender, relayer: EvmSigner) -> None:
        self._sender = sender
        self._relayer = relayer
        self._network = sender.network
        self._next_nonce: int | None = None
        self._group: GroupCommit[Staging, Outgoing | None] = GroupCommit(self._write)

    async def store(self, staging: Staging) -> Outgoing | None:
        """Claim the settlement and store its signed transaction, both or neither; None when somebody else did.

        Returns after the commit. A caller that goes away does not undo it: the bytes are sent by whoever asks next.
        """
        self._sender.require_allowed(staging.intent)
        await self._sender.prepare(self._relayer)
        return await self._group.submit(staging)

    async def _write(self, batch: Sequence[Staging]) -> list[Outgoing | None]:
        if self._next_nonce is not None:
            stored = await self._together(sorted(batch, key=lambda each: each.key), self._next_nonce)
            if stored is not None:
                return [stored[each.key] for each in batch]
        if len(batch) > 1:
            raise Refused("a nonce or a settlement was taken by another process", next_step="store one by one")
        return [await self._alone(batch[0])]

    async def _together(self, batch: Sequence[Staging], first_nonce: int) -> dict[str, Outgoing] | None:
        """All of them by key, or None and nothing stored: the nonces were others, or a settlement is claimed."""
        self._next_nonce = None
        outgoing = [await self._sign(each, first_nonce + place) for place, each in enumerate(batch)]
        rows = [
            (made.key, *staged.row, made.intent.data, made.intent.gas, made.raw, made.transaction)
            for staged, made in zip(batch, outgoing, strict=True)
        ]
        fees = outgoing[0].fees
        columns = [list(column) for column in zip(*rows, strict=True)]
        try:
            async with self._sender.database.connection() as connection:
                stored = await connection.fetch(
                    STORE_ALL,
                    self._network.caip2,
                    self._relayer.public_id,
                    first_nonce,
                    fees.maximum,
                    fees.priority,
                    *columns,
                )
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.CardinalityViolationError):
            return None
        if not stored:
            return None
        self._next_nonce = first_nonce + len(batch)
        return {each.key: each for each in outgoing}

    async def _alone(self, staging: Staging) -> Outgoing | None:
        """One settlement with whatever nonce is next, taken under its lock; the guesses go on from there."""
        async with self._sender.database.transaction() as connection:
            if not await self._claim(connection, staging):
                return None
            made = await self._sender.stage(connection, self._relayer, staging.key, staging.intent)
        self._next_nonce = made.nonce + 1
        return made

    async def _claim(self, connection: Connection, staging: Staging) -> bool:
        return await connection.fetchval(CLAIM_ONE, self._network.caip2, *staging.row, staging.key) is True

    async def _sign(self, staging: Staging, nonce: int) -> Outgoing:
        fees = await self._sender.fees()
        raw, transaction = await sign_transaction(self._relayer, self._network, nonce, staging.intent, fees)
        return Outgoing(
            key=staging.key,
            sender=self._relayer.public_id,
            nonce=nonce,
            intent=staging.intent,
            fees=fees,
            raw=raw,
            transactions=(transaction,),
            state=OutgoingState.SIGNED,
        )
