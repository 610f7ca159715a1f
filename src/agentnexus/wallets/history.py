"""What came to and left a wallet: USDC by the chain's own events, whoever moved it, beside the wallet's operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money
from agentnexus.platform.database import Connection
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, quantity, to_hex, word
from agentnexus.rails.evm.errors import NodeError
from agentnexus.rails.evm.receipts import Log
from agentnexus.rails.evm.rpc import Call, RpcValue, call_object
from agentnexus.rails.evm.token import TRANSFER_TOPIC, Transfer, transfers
from agentnexus.wallets.building import WalletChain
from agentnexus.wallets.model import DISCARDED, HistoryLine, HistoryPage, OperationState, Wallet
from agentnexus.wallets.outcome import RANGE_BLOCKS, REORGANISED_BLOCKS
from agentnexus.wallets.store import WalletStore

LIMIT_MAX = 200
# One question reads so much of the chain at most; the next one goes on.
RANGES_MAX = 25
_CURSOR = re.compile(r"[0-9]{1,18}\.[A-Za-z0-9_-]{1,100}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PAGE = """
with line as (
    select t.at, lpad(t.block_number::text, 20, '0') || '-' || lpad(t.log_index::text, 10, '0') as id,
           case when t.payer = $2 then 'out' else 'in' end as kind, o.title, t.transaction, t.amount,
           case when t.payer = $2 then t.payee else t.payer end as counterparty,
           o.id as operation_id, o.purpose, 'succeeded' as state, null as message
      from wallet.transfer t
      left join wallet.operation o on o.wallet_id = t.wallet_id and o.transaction = t.transaction
     where t.wallet_id = $1
    union all
    select o.created_at, o.id, 'operation', o.title, o.transaction, null, '', o.id, o.purpose, o.state,
           o.error->>'message'
      from wallet.operation o
     where o.wallet_id = $1 and not exists (select from wallet.transfer t
           where t.wallet_id = o.wallet_id and t.transaction = o.transaction)
)
select * from line where $3::timestamptz is null or (at, id collate "C") < ($3, $4::text collate "C")
 order by at desc, id collate "C" desc limit $5
"""


class History:
    """Histories of one network's wallets; what moves between them and `paymaster` is gas paid in USDC."""

    def __init__(self, store: WalletStore, chain: WalletChain, paymaster: str = "") -> None:
        self._paymaster = paymaster
        self._database = store.database
        self._chain = chain

    async def page(self, wallet: Wallet, before: str, limit: int) -> HistoryPage:
        """Newest first. Raises `InvalidInput` for a cursor that no page gave."""
        if not 1 <= limit <= LIMIT_MAX:
            raise InvalidInput(f"a page has 1 to {LIMIT_MAX} lines", field="limit")
        at, last = _cursor(before)
        complete = await self.catch_up(wallet) if at is None else True
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PAGE, wallet.id, wallet.address, at, last, limit + 1)
        lines = [self._line(row) for row in rows[:limit]]
        return HistoryPage(lines, _cursor_of(lines[-1]) if len(rows) > limit else "", complete)

    async def catch_up(self, wallet: Wallet) -> bool:
        """Read the chain's transfers since the last time; False when there is more than one question reads."""
        head = await self._chain.rpc.read_int("eth_blockNumber")
        scanned, size = await self._scanned_to(wallet), RANGE_BLOCKS
        # What a reorganisation may have changed is read again.
        first = min(max(scanned + 1 - REORGANISED_BLOCKS, 0), head)
        for _ in range(RANGES_MAX):
            last = min(first + size - 1, head)
            try:
                found = await self._transfers(wallet.address, first, last)
            except NodeError:
                if size == 1:
                    raise
                size //= 2
                continue
            if not await self._keep(wallet, scanned, (first, last, head), found):
                return False  # somebody else reads on at this moment
            if last == head:
                return True
            first, scanned = last + 1, last
        return False

    async def _scanned_to(self, wallet: Wallet) -> int:
        async with self._database.connection() as connection:
            found: int = await connection.fetchval("select scanned_to from wallet.account where id = $1", wallet.id)
        return found

    async def _transfers(self, account: str, first: int, last: int) -> list[tuple[Transfer, datetime]]:
        """Those of the account, each with its block's time."""
        who = to_hex(word(account))
        blocks: dict[str, RpcValue] = {"fromBlock": hex(first), "toBlock": hex(last)}
        both: tuple[list[RpcValue], ...] = ([TRANSFER_TOPIC, who], [TRANSFER_TOPIC, None, who])
        queries = [{"address": self._chain.usdc.reference, "topics": topics, **blocks} for topics in both]
        logs: dict[tuple[str, int], Log] = {}
        for answer in await self._chain.rpc.batch([Call("eth_getLogs", (each,)) for each in queries]):
            if isinstance(answer, Exception):
                raise answer
            for each in answer if isinstance(answer, list) else []:
                log = Log.from_json(each)
                logs[log.block_hash, log.index] = log  # one to itself is in both answers
        found = transfers(list(logs.values()), self._chain.usdc.reference)
        times = await self._times({each.log.block_hash for each in found})
        return [(each, times[each.log.block_hash]) for each in found if each.log.block_hash in times]

    async def _times(self, hashes: set[str]) -> dict[str, datetime]:
        """When those blocks were made; one that has left the chain meanwhile is left out."""
        ordered = sorted(hashes)
        calls = [Call("eth_getBlockByHash", (each, False)) for each in ordered]
        blocks = [call_object(each) for each in await self._chain.rpc.batch(calls)] if calls else []
        return {
            block_hash: datetime.fromtimestamp(quantity(block.get("timestamp"), field="timestamp"), UTC)
            for block_hash, block in zip(ordered, blocks, strict=True)
            if block is not None
        }

    async def _keep(
        self, wallet: Wallet, scanned: int, blocks: tuple[int, int, int], found: Sequence[tuple[Transfer, datetime]]
    ) -> bool:
        """In place of what was known of these blocks. False when somebody else went on meanwhile."""
        first, last, head = blocks
        async with self._database.transaction() as connection:
            now: int | None = await connection.fetchval(
                "select scanned_to from wallet.account where id = $1 for update", wallet.id
            )
            if now != scanned:
                return False
            await connection.execute(
                "delete from wallet.transfer"
                " where wallet_id = $1 and (block_number between $2 and $3 or block_number > $4)",
                wallet.id,
                first,
                last,
                head,
            )
            await self._insert(connection, wallet, found)
            await connection.execute("update wallet.account set scanned_to = $2 where id = $1", wallet.id, last)
        return True

    async def _insert(self, connection: Connection, wallet: Wallet, found: Sequence[tuple[Transfer, datetime]]) -> None:
        await connection.executemany(
            "insert into wallet.transfer (wallet_id, block_number, block_hash, log_index, transaction, payer, payee,"
            " amount, at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            [
                (
                    wallet.id,
                    each.log.block_number,
                    each.log.block_hash,
                    each.log.index,
                    each.log.transaction,
                    each.payer,
                    each.payee,
                    each.value,
                    at,
                )
                for each, at in found
            ],
        )

    def _line(self, row: asyncpg.Record) -> HistoryLine:
        amount, titles = row["amount"], {"in": self._came_from(row["counterparty"]), "out": "Sent"}
        is_gas = bool(row["counterparty"]) and row["counterparty"] == self._paymaster
        gas = {"in": "Gas, not used", "out": "Gas, paid ahead"}
        return HistoryLine(
            id=row["id"],
            kind=row["kind"],
            at=row["at"],
            title=gas[row["kind"]] if is_gas else row["title"] or titles[row["kind"]],
            transaction=row["transaction"],
            amount=None if amount is None else Money(self._chain.usdc, int(amount)),
            counterparty=row["counterparty"],
            operation_id=row["operation_id"] or "",
            purpose=row["purpose"] or "",
            state=OperationState(row["state"]),
            discarded=row["message"] == DISCARDED,
        )

    def _came_from(self, payer: str) -> str:
        if payer == ZERO_ADDRESS:
            return "Topped up"
        return "Back from escrow" if payer and payer == self._chain.escrow.lower() else "Received"


def _cursor_of(line: HistoryLine) -> str:
    return f"{(line.at - _EPOCH) // timedelta(microseconds=1)}.{line.id}"


def _cursor(text: str) -> tuple[datetime | None, str]:
    if not text:
        return None, ""
    when, _, last = text.partition(".")
    if not _CURSOR.fullmatch(text):
        raise InvalidInput("that is no place in this history", field="before", next_step="send what a page answered")
    return _EPOCH + timedelta(microseconds=int(when)), last
