"""Old balances and statements of one hot account with a long history: checkpoints beside adding everything up.

    python bench/ledger_reads.py [--transfers 300000] [--reads 200] [--url postgresql://...]

Both sides answer the same random questions on one database in the same run. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import uvloop

from agentnexus.core.money import Money
from agentnexus.ledger.books import Books
from agentnexus.ledger.checkpoints import EVERY_ENTRIES, Checkpoints
from agentnexus.platform.database import Database
from bench.ledger import HOT, PRICE, SELLER, USDC, database

START = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS_APART = 7
SHOWN = 100
FILL = """
with numbers as (select n, $5::timestamptz + n * interval '7 seconds' as at from generate_series(1, $6::int) n),
moved as (
    insert into ledger.transfer (id, kind, key, debit, credit, asset, amount, at, correlation, memo)
    select 'history-' || n, 'move', 'history-' || n, $1, $2, $3, $4, at, '', '' from numbers
    returning id, debit, credit, asset, amount, at)
insert into ledger.entry (transfer_id, account, asset, amount, at)
select id, debit, asset, -amount, at from moved union all select id, credit, asset, amount, at from moved
"""
PLAIN_AS_OF = "select coalesce(sum(amount), 0) from ledger.entry where account = $1 and asset = $2 and at <= $3"
PLAIN_STATEMENT = """
select e.*, t.kind, t.memo from (
    select *, sum(amount) over (order by at, transfer_id) as balance from ledger.entry
    where account = $1 and asset = $2 and at < $4) e
join ledger.transfer t on t.id = e.transfer_id where e.at >= $3 order by e.at, e.transfer_id limit $5
"""
Read = Callable[[datetime], Awaitable[object]]


async def fill(db: Database, books: Books, transfers: int) -> None:
    await books.deposit("funding", HOT, Money(USDC, 10**15))
    async with db.connection() as connection:
        await connection.execute(FILL, HOT, SELLER, USDC.caip19, PRICE.atomic, START, transfers, timeout=120)
        moved = PRICE.atomic * transfers
        await connection.execute("update ledger.account set balance = balance - $2 where name = $1", HOT, moved)
        await connection.execute(
            "insert into ledger.account (name, asset, overdraft, balance) values ($1, $2, false, $3)",
            *(SELLER, USDC.caip19, moved),
        )
        await connection.execute("analyze ledger.entry; analyze ledger.transfer", timeout=120)
    for account in (HOT, SELLER):
        await Checkpoints(db).make((account, USDC.caip19))


async def measure(read: Read, moments: list[datetime]) -> dict[str, float]:
    took = []
    for moment in moments:
        start = time.perf_counter()
        await read(moment)
        took.append((time.perf_counter() - start) * 1000)
    took.sort()
    return {f"p{share}_ms": round(took[min(len(took) - 1, len(took) * share // 100)], 2) for share in (50, 95, 99)}


async def run(url: str | None, transfers: int, reads: int) -> dict[str, object]:
    dice = random.Random(5)
    moments = [START + timedelta(seconds=SECONDS_APART * dice.randint(0, transfers)) for _ in range(reads)]
    async with database(url) as db, Books(db) as books:
        await fill(db, books, transfers)

        async def as_of(moment: datetime) -> object:
            return await books.as_of(HOT, USDC, moment)

        async def statement(moment: datetime) -> object:
            return await books.statement(HOT, USDC, moment, moment + timedelta(hours=1), limit=SHOWN)

        async def plain_as_of(moment: datetime) -> object:
            async with db.connection() as connection:
                return await connection.fetchval(PLAIN_AS_OF, HOT, USDC.caip19, moment)

        async def plain_statement(moment: datetime) -> object:
            until = moment + timedelta(hours=1)
            async with db.connection() as connection:
                return await connection.fetch(PLAIN_STATEMENT, HOT, USDC.caip19, moment, until, SHOWN)

        few = moments[: max(1, reads // 10)]
        rows = {
            "as of": {"ledger": await measure(as_of, moments), "adding_up": await measure(plain_as_of, few)},
            "statement of an hour": {
                "ledger": await measure(statement, moments),
                "adding_up": await measure(plain_statement, few),
            },
        }
        async with db.connection() as connection:
            version = await connection.fetchval("show server_version")
    return {
        "benchmark": "ledger: reads of a hot account's history",
        "postgres": version,
        "cpus": os.cpu_count(),
        "transfers": transfers,
        "entries_per_checkpoint": EVERY_ENTRIES,
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--transfers", type=int, default=300_000)
    parser.add_argument("--reads", type=int, default=200)
    parser.add_argument("--url", help="a PostgreSQL server; without it an embedded one")
    arguments = parser.parse_args()
    result = uvloop.run(run(arguments.url, arguments.transfers, arguments.reads))
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
