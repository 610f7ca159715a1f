"""How fast hiring is: search and rank over 10,000 cached offers, and what a hire costs beyond its seller's own time.

    python bench/hiring.py [--hires 200] [--searches 300]      one JSON object on standard output

The seller is instantaneous (a scripted market), database and ledger are real: the server of NEXUS_TEST_DATABASE_URL, or
an embedded one with durable commits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import asyncpg

from agentnexus.core.clock import SystemClock
from agentnexus.core.money import Asset, Money, Rate
from agentnexus.core.offers import Capability, Constraints, Need, Offer, Party, Price, Reputation, Strategy
from agentnexus.core.payments import Limits
from agentnexus.hiring.cache import OfferCache
from agentnexus.hiring.cashier import Wallet
from agentnexus.hiring.gather import Gatherer
from agentnexus.hiring.hire import Hiring
from agentnexus.hiring.model import Rates
from agentnexus.hiring.testing import MemoryNetwork, ScriptedMarket, ScriptedRail
from agentnexus.ledger.books import Books
from agentnexus.platform.cache import Cache
from agentnexus.platform.database import Database
from agentnexus.platform.embedded import EmbeddedPostgres
from agentnexus.platform.logs import configure_logs
from agentnexus.platform.migrations.run import migrate
from agentnexus.platform.signing import Ed25519Signer

USDC = Asset("USDC", 6, "eip155:31337/erc20:0x" + "1" * 40)
VERBS = ["summarize", "extract", "translate", "analyze", "paint", "index", "search", "answer", "compile", "price"]
NOUNS = ["text", "pdf", "table", "image", "code", "audio", "news", "contract", "map", "mail"]
SCHEMA: dict[str, object] = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def figures(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 in milliseconds."""
    ordered = sorted(seconds)
    return {
        name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3)
        for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99))
    }


def offers(count: int) -> list[Offer]:
    chance = random.Random(1)
    now = datetime.now(UTC)
    capabilities = [
        Capability(
            name=f"{noun}.{verb}",
            title=f"{verb} {noun}",
            description=f"Can {verb} any {noun} that you send, quickly and well",
            tags=(verb, noun),
            input_schema=SCHEMA,
        )
        for noun in NOUNS
        for verb in VERBS
    ]
    return [
        Offer(
            id=f"offer-{number}",
            market="scripted",
            seller=Party(ids={"evm": f"0x{number + 1:040x}"}, name=f"seller {number}"),
            capability=chance.choice(capabilities),
            title=f"Number {number}",
            price=Price(per_job=Money(USDC, chance.randint(1_000, 90_000))),
            endpoint=f"https://seller{number}.example/run",
            latency_ms=chance.choice([None, 80, 400, 2_000]),
            reputation=Reputation(score=chance.random() * 5, count=chance.randint(0, 60)),
            observed_at=now,
        )
        for number in range(count)
    ]


async def build(database: Database, catalogue: list[Offer]) -> tuple[Hiring, Books]:
    clock = SystemClock()
    books = Books(database)
    rail = ScriptedRail(MemoryNetwork(), clock)
    market = ScriptedMarket("scripted", catalogue, rail=rail, clock=clock)
    hiring = Hiring(
        gatherer=Gatherer([market], OfferCache(Cache(ttl_seconds=3600))),
        books=books,
        database=database,
        wallets={rail.name: Wallet(rail, "0x" + "a" * 40)},
        signer=Ed25519Signer.from_seed(b"\x01" * 32),
        rates=Rates((Rate(USDC, Decimal(1), "fixed", clock.now()),)),
    )
    return hiring, books


async def bench_search(hiring: Hiring, rounds: int) -> dict[str, object]:
    """The whole way from need to ranked offers, shelves cached: gather, index, rules, rank, reasons."""
    limit = Constraints(max_price=Money(USDC, 50_000), min_reputation=2.0)
    needs = {
        "by capability": Need(capability="text.summarize", input={"text": "x"}),
        "by words": Need(text="please summarise this long text for me", input={"text": "x"}),
        "everything, by value": Need(input={"text": "x"}),
        "everything, composite, constrained": Need(input={"text": "x"}, constraints=limit, strategy=Strategy.COMPOSITE),
    }
    found: dict[str, object] = {}
    for name, need in needs.items():
        await hiring.offers(need)
        taken = []
        for _ in range(rounds):
            started = time.perf_counter()
            ranked = await hiring.offers(need)
            taken.append(time.perf_counter() - started)
        found[name] = {**figures(taken), "offers": len(ranked)}
    return found


async def bench_hires(hiring: Hiring, books: Books, count: int, parallel: int) -> dict[str, object]:
    await books.deposit("top-up", f"wallet:{USDC.network}:0x{'a' * 40}", Money(USDC, 10**15))
    await books.budgets.create("bench", owner="bench", asset=USDC, limits=Limits(total=Money(USDC, 10**14)))
    need = Need(capability="text.summarize", input={"text": "hello"})
    taken: list[float] = []

    async def one(number: int) -> None:
        started = time.perf_counter()
        await hiring.hire(need, budget_id="bench", key=f"bench-{parallel}-{number}", user_id="bench")
        taken.append(time.perf_counter() - started)

    await one(-1)
    taken.clear()
    began = time.perf_counter()
    for first in range(0, count, parallel):
        await asyncio.gather(*(one(number) for number in range(first, min(first + parallel, count))))
    elapsed = time.perf_counter() - began
    return {
        **figures(taken),
        "mean_ms": round(statistics.mean(taken) * 1000, 3),
        "per_second": round(count / elapsed, 1),
    }


async def commit_ms(database: Database) -> float:
    """What one durable commit costs here: the floor under every written step."""
    taken = []
    async with database.connection() as connection:
        await connection.execute("create table if not exists public.commit_probe (n int)")
        for number in range(50):
            started = time.perf_counter()
            await connection.execute("insert into public.commit_probe values ($1)", number)
            taken.append(time.perf_counter() - started)
    return round(statistics.median(taken) * 1000, 3)


async def run(url: str, hires: int, searches: int) -> dict[str, object]:
    connection = await asyncpg.connect(url)
    await connection.execute("drop database if exists bench_hiring")
    await connection.execute("create database bench_hiring")
    await connection.close()
    own = url.rsplit("/", 1)[0] + "/bench_hiring"
    await migrate(own)
    database = await Database.open(own)
    catalogue = offers(10_000)
    hiring, books = await build(database, catalogue)
    small, small_books = await build(database, [o for o in catalogue if o.capability.name == "text.summarize"])
    try:
        return {
            "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
            "commit_ms_p50": await commit_ms(database),
            "search_10000_offers": await bench_search(hiring, searches),
            "hire_overhead_one_at_a_time": await bench_hires(small, small_books, hires, 1),
            "hire_overhead_8_at_a_time": await bench_hires(small, small_books, hires, 8),
            "targets": {"search_p95_ms": 5, "hire_overhead_p50_ms": 15},
        }
    finally:
        for each in (hiring, small):
            await each.close()
        for each_book in (books, small_books):
            await each_book.close()
        await database.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hires", type=int, default=200)
    parser.add_argument("--searches", type=int, default=300)
    given = parser.parse_args()
    configure_logs("WARNING")  # to standard error: what is printed is the result alone
    own = os.environ.get("NEXUS_TEST_DATABASE_URL")
    folder = Path(tempfile.gettempdir()) / f"nexus-bench-{os.getpid()}"
    server = None if own else EmbeddedPostgres(folder)
    url = own or (await server.start() if server else "")
    try:
        print(json.dumps(await run(url, given.hires, given.searches), indent=2))
    finally:
        if server is not None:
            await server.stop()
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
