"""Watching ERC-20 transfers to our addresses: confirmed ones are deposits, and a reorganisation takes them back.

The place reached is kept by block hash, so a watcher notices after any pause that the chain went another way. Changes
are booked in the transaction that moves the place on, so each is booked once, whatever dies in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import asyncpg

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.evm.encoding import address, quantity, to_hex, word
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.receipts import Log
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue, call_object
from agentnexus.rails.evm.token import TRANSFER_TOPIC, Transfer, transfers

_SPAN_BLOCKS = 500
# Hashes kept behind the head to find where a reorganisation began; deeper ones are an incident for people.
_REMEMBERED_BLOCKS = 256


class TransferChange(StrEnum):
    DEPOSITED = "deposited"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class WatchedTransfer:
    """A transfer to one of our addresses that became final, or one reported so that is on the chain no more."""

    change: TransferChange
    amount: Money
    payer: str
    payee: str
    transaction: str
    log_index: int
    block_number: int
    block_hash: str


Book: TypeAlias = Callable[[Connection, WatchedTransfer], Awaitable[None]]


class TransferWatcher:
    """Follows transfers of one token to a set of addresses.

    Args:
        name: of this watcher; its place survives restarts under it. Two processes with one name take turns.
        start_block: where a new watcher begins; the current head when None.
        confirmations: blocks until a transfer counts as deposited, the including one counted; the network's when None.
    """

    def __init__(
        self,
        database: Database,
        rpc: Rpc,
        network: Network,
        asset: Asset,
        addresses: Iterable[str],
        *,
        name: str,
        start_block: int | None = None,
        confirmations: int | None = None,
    ) -> None:
        self._database = database
        self._rpc = rpc
        self._network = network
        self._asset = asset
        self._token = address(asset.reference, field="asset")
        self._addresses = sorted({address(each) for each in addresses})
        self._name = name
        self._start_block = start_block
        self._confirmations = network.confirmations if confirmations is None else confirmations

    async def poll(self, book: Book | None = None) -> list[WatchedTransfer]:
        """Read what is new, once: removals first, then deposits by block.

        `book` is called for each in the database transaction that remembers it as reported; when it raises, nothing
        is remembered and the next poll reports the same again.
        """
        head = await self._block("latest")
        if head is None:
            return []
        async with self._database.transaction() as connection:
            await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", self._lock_name)
            place = await self._rewind(connection, head)
            for first in range(place + 1, head.number + 1, _SPAN_BLOCKS):
                await self._read_span(connection, first, min(first + _SPAN_BLOCKS - 1, head.number))
            await self._remember(connection, head)
            changes = await self._take_removed(connection) + await self._take_deposited(connection, head.number)
            if book is not None:
                for change in changes:
                    await book(connection, change)
            return changes

    @property
    def _lock_name(self) -> str:
        return f"evm.watch:{self._network.caip2}:{self._name}"

    @property
    def _scope(self) -> tuple[str, str]:
        return self._name, self._network.caip2

    async def _rewind(self, connection: Connection, head: _Block) -> int:
        """The newest block we know that is still on the chain; what lay above it is marked as gone."""
        rows = await connection.fetch(
            "select block_number, block_hash from evm.cursor where name = $1 and network = $2"
            " order by block_number desc",
            *self._scope,
        )
        if not rows:
            return head.number if self._start_block is None else self._start_block - 1
        for row in rows:
            block = head if row["block_number"] == head.number else await self._block(hex(row["block_number"]))
            if block is not None and block.hash == row["block_hash"]:
                await self._forget_above(connection, block.number)
                return block.number
        # Everything we remember is gone: read again from the oldest place of it.
        oldest: int = rows[-1]["block_number"]
        await self._forget_above(connection, oldest - 1)
        return oldest - 1

    async def _forget_above(self, connection: Connection, number: int) -> None:
        await connection.execute(
            "delete from evm.cursor where name = $1 and network = $2 and block_number > $3", *self._scope, number
        )
        await connection.execute(
            "delete from evm.transfer where name = $1 and network = $2 and block_number > $3 and state = 'seen'",
            *self._scope,
            number,
        )
        await connection.execute(
            "update evm.transfer set state = 'removed'"
            " where name = $1 and network = $2 and block_number > $3 and state = 'deposited'",
            *self._scope,
            number,
        )

    async def _take_removed(self, connection: Connection) -> list[WatchedTransfer]:
        rows = await connection.fetch(
            "delete from evm.transfer where name = $1 and network = $2 and state = 'removed' returning *", *self._scope
        )
        return self._ordered(rows, TransferChange.REMOVED)

    async def _take_deposited(self, connection: Connection, head: int) -> list[WatchedTransfer]:
        rows = await connection.fetch(
            "update evm.transfer set state = 'deposited'"
            " where name = $1 and network = $2 and state = 'seen' and block_number <= $3 returning *",
            *self._scope,
            head - self._confirmations + 1,
        )
        return self._ordered(rows, TransferChange.DEPOSITED)

    async def _read_span(self, connection: Connection, first: int, last: int) -> None:
        if not self._addresses:
            return
        question: dict[str, RpcValue] = {
            "address": self._token,
            "topics": [TRANSFER_TOPIC, None, [to_hex(word(each)) for each in self._addresses]],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        answer = await self._rpc.call("eth_getLogs", question)
        if not isinstance(answer, list):
            raise InvalidInput("eth_getLogs did not answer with a list", field="logs")
        found = transfers([Log.from_json(each) for each in answer], self._token)
        await connection.executemany(
            "insert into evm.transfer (name, network, token, transaction, log_index, block_number, block_hash, payer,"
            " payee, value, state) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'seen')"
            # Marked as gone and read again in the same block: it never left.
            " on conflict (name, network, transaction, log_index, block_hash) do update set state = 'deposited'"
            " where evm.transfer.state = 'removed'",
            # Asked for once more here: a node that ignores a filter must not make a deposit.
            [
                self._row(each)
                for each in found
                if each.payee in self._addresses and first <= each.log.block_number <= last
            ],
        )

    def _row(self, transfer: Transfer) -> Sequence[object]:
        log = transfer.log
        place = (log.transaction, log.index, log.block_number, log.block_hash)
        return (*self._scope, self._token, *place, transfer.payer, transfer.payee, transfer.value)

    async def _remember(self, connection: Connection, head: _Block) -> None:
        await connection.execute(
            "insert into evm.cursor (name, network, block_number, block_hash) values ($1, $2, $3, $4)"
            " on conflict (name, network, block_number) do update set block_hash = excluded.block_hash",
            *self._scope,
            head.number,
            head.hash,
        )
        await connection.execute(
            "delete from evm.cursor where name = $1 and network = $2 and block_number < $3",
            *self._scope,
            head.number - _REMEMBERED_BLOCKS,
        )

    async def _block(self, which: str) -> _Block | None:
        (answer,) = await self._rpc.batch([Call("eth_getBlockByNumber", (which, False))])
        found = call_object(answer)
        return _Block(quantity(found["number"]), str(found["hash"])) if found else None

    def _ordered(self, rows: Iterable[asyncpg.Record], change: TransferChange) -> list[WatchedTransfer]:
        return [
            WatchedTransfer(
                change,
                Money(self._asset, int(row["value"])),
                row["payer"],
                row["payee"],
                row["transaction"],
                row["log_index"],
                row["block_number"],
                row["block_hash"],
            )
            for row in sorted(rows, key=lambda row: (row["block_number"], row["log_index"]))
        ]


@dataclass(frozen=True, slots=True)
class _Block:
    number: int
    hash: str
