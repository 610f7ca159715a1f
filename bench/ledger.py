"""Reserve and post on one hot account: the ledger's group commit beside a plain `SELECT ... FOR UPDATE`.

    python bench/ledger.py [--seconds 5] [--callers 64] [--url postgresql://...]

Both sides do the same work durably on one database in the same run: reserve (budget total, hour and day, account cover,
a pending row) and capture (pending row, transfer, two entries, both balances, budget). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import uvloop

from agentnexus.core.clock import TimeOrderedIds
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.platform.database import Database
from agentnexus.platform.embedded import EmbeddedPostgres
from agentnexus.platform.migrations.run import migrate

USDC = Asset("USDC", 6, "eip155:31337/erc20:0x5fbdb2315678afecb367f032d93f642f64180aa3")
HOT = "wallet:hot"
SELLER = "seller:hot"
PRICE = Money(USDC, 20_000)
ids = TimeOrderedIds()

NAIVE_SCHEMA = """
create schema naive;
create table naive.account (name text primary key, balance numeric(78), reserved numeric(78));
create table naive.budget (id text primary key, total numeric(78), per_hour numeric(78), per_day numeric(78),
    reserved numeric(78) default 0, spent numeric(78) default 0);
create table naive.pending (key text primary key, payer text, payee text, amount numeric(78), state text,
    at timestamptz);
create index on naive.pending (at);
create table naive.transfer (id text primary key, key text unique, debit text, credit text, amount numeric(78),
    at timestamptz);
create table naive.entry (transfer_id text, account text, amount numeric(78), at timestamptz,
    primary key (account, at, transfer_id));
"""
Pair = Callable[[str], Awaitable[None]]


class Naive:
    """What one writes first: lock the rows, look, write, commit; once for the reservation and once for the capture."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def prepare(self) -> None:
        async with self._db.connection() as connection:
            await connection.execute(NAIVE_SCHEMA)
            await connection.execute("insert into naive.account values ($1, $2, 0), ($3, 0, 0)", HOT, 10**15, SELLER)
            await connection.execute("insert into naive.budget values ('b', $1, $1, $1)", 10**15)
            # The sliding hour as running sums by minute, as in the ledger: summing payments would only be slower.
            await connection.execute("create table naive.minute (label text primary key, used numeric(78))")

    async def pair(self, key: str) -> None:
        await self._reserve(key)
        await self._capture(key)

    async def _reserve(self, key: str) -> None:
        now = datetime.now(UTC)
        async with self._db.transaction() as c:
            budget = await c.fetchrow("select * from naive.budget where id = 'b' for update")
            account = await c.fetchrow("select * from naive.account where name = $1 for update", HOT)
            hour = await c.fetchval("select coalesce(sum(used), 0) from naive.minute")
            assert budget and account
            assert budget["reserved"] + budget["spent"] + PRICE.atomic <= budget["total"]
            assert hour + PRICE.atomic <= budget["per_hour"]
            assert account["balance"] - account["reserved"] >= PRICE.atomic
            await c.execute(
                "insert into naive.pending values ($1, $2, $3, $4, 'pending', $5)", key, HOT, SELLER, PRICE.atomic, now
            )
            await c.execute("update naive.account set reserved = reserved + $2 where name = $1", HOT, PRICE.atomic)
            await c.execute("update naive.budget set reserved = reserved + $1", PRICE.atomic)
            await c.execute(
                "insert into naive.minute as m values ($1, $2) on conflict (label) do update set used = m.used + $2",
                now.isoformat()[:16],
                PRICE.atomic,
            )

    async def _capture(self, key: str) -> None:
        now, transfer = datetime.now(UTC), ids.new()
        async with self._db.transaction() as c:
            await c.fetchrow("select * from naive.budget where id = 'b' for update")
            await c.fetch("select * from naive.account where name in ($1, $2) order by name for update", HOT, SELLER)
            state = await c.fetchval("select state from naive.pending where key = $1", key)
            assert state == "pending"
            await c.execute("update naive.pending set state = 'posted' where key = $1", key)
            await c.execute(
                "insert into naive.transfer values ($1, $2, $3, $4, $5, $6)",
                *(transfer, key, HOT, SELLER, PRICE.atomic, now),
            )
            await c.execute(
                "insert into naive.entry values ($1, $2, -$4::numeric, $5), ($1, $3, $4, $5)",
                *(transfer, HOT, SELLER, PRICE.atomic, now),
            )
            await c.execute(
                "update naive.account set balance = balance - $2, reserved = reserved - $2 where name = $1",
                *(HOT, PRICE.atomic),
            )
            await c.execute("update naive.account set balance = balance + $2 where name = $1", SELLER, PRICE.atomic)
            await c.execute("update naive.budget set reserved = reserved - $1, spent = spent + $1", PRICE.atomic)


class Ledger:
    def __init__(self, books: Books) -> None:
        self._books = books

    async def prepare(self) -> None:
        plenty = Money(USDC, 10**15)
        limits = Limits(total=plenty, per_hour=plenty, per_day=plenty)
        await self._books.budgets.create("b", owner="bench", asset=USDC, limits=limits)
        await self._books.deposit("funding", HOT, plenty)

    async def pair(self, key: str) -> None:
        await self._books.reserve(key, budget_id="b", payer_account=HOT, payee_account=SELLER, amount=PRICE)
        await self._books.capture(key)


async def measure(pair: Pair, callers: int, seconds: float) -> dict[str, float]:
    """Pairs per second of `callers` concurrent callers, each starting its next pair after its last."""
    took: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()

    async def caller() -> None:
        while (start := time.perf_counter()) < begin + seconds:
            await pair(ids.new())
            took.append(time.perf_counter() - start)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    elapsed = time.perf_counter() - begin
    took.sort()
    return {
        "pairs_per_second": round(len(took) / elapsed, 1),
        "p50_ms": round(took[len(took) // 2] * 1000, 2),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1000, 2),
        "python_cpu_us_per_pair": round((time.process_time() - cpu) / len(took) * 1e6, 1),
    }


@asynccontextmanager
async def database(url: str | None) -> AsyncIterator[Database]:
    """A fresh database: on the given server, or on an embedded one with durable commits."""
    with tempfile.TemporaryDirectory(prefix="nexus-bench-", dir=tempfile.gettempdir()) as folder:
        Path(folder).chmod(0o755)
        server = None if url else EmbeddedPostgres(Path(folder) / "pg")
        base = url or (await server.start() if server else "")
        name = f"bench_{os.getpid()}"
        admin = await asyncpg.connect(base)
        await admin.execute(f"create database {name}")
        own = base.rsplit("/", 1)[0] + f"/{name}"
        await migrate(own)
        db = await Database.open(own, max_size=16)
        try:
            yield db
        finally:
            await db.close()
            await admin.execute(f"drop database {name} with (force)")
            await admin.close()
            if server:
                await server.stop()


async def run(url: str | None, callers: list[int], seconds: float) -> dict[str, object]:
    async with database(url) as db, Books(db) as books:
        ledger, naive = Ledger(books), Naive(db)
        await ledger.prepare()
        await naive.prepare()
        rows = []
        for count in callers:
            ours = await measure(ledger.pair, count, seconds)
            theirs = await measure(naive.pair, count, seconds)
            ratio = round(ours["pairs_per_second"] / theirs["pairs_per_second"], 1)
            rows.append({"callers": count, "ledger": ours, "naive_for_update": theirs, "times_faster": ratio})
        report = await books.check()
        async with db.connection() as connection:
            version = await connection.fetchval("show server_version")
    return {
        "benchmark": "ledger: reserve + post, one hot account, one hot budget",
        "postgres": version,
        "cpus": os.cpu_count(),
        "seconds_per_row": seconds,
        "rows": rows,
        "check_clean": report.clean,
        "transfers": report.transfers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--url", help="a PostgreSQL server; without it an embedded one")
    arguments = parser.parse_args()
    result = uvloop.run(run(arguments.url, arguments.callers, arguments.seconds))
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
