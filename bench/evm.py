"""How fast the EVM rail is on a local chain: hashing and keys, opening holds, verifying, settling.

Run: python -m bench.evm [count]. Needs `npm ci`; starts its own chain and database. Figures are CPU and wall time per
operation on whatever machine this is, so compare within one run only.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.platform.embedded import EmbeddedPostgres
from agentnexus.platform.migrations.run import migrate
from agentnexus.rails.evm.eip3009 import SignedAuthorization
from agentnexus.rails.evm.settlement import AuthorizationSettler, Requirement
from agentnexus.rails.evm.signer import recover
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.rails.evm.typed_data import Domain
from agentnexus.rails.evm.wallet import EvmRail

CONCURRENCY = 8


async def measure(name: str, jobs: Sequence[Callable[[], Awaitable[object]]], concurrency: int = 1) -> None:
    """Print rate, median, p95 and our own CPU per operation."""
    walls: list[float] = []
    queue = list(reversed(jobs))

    async def worker() -> None:
        while queue:
            job = queue.pop()
            started = time.perf_counter()
            await job()
            walls.append(time.perf_counter() - started)

    started, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    walls.sort()
    print(
        f"{name:34} {len(jobs) / elapsed:9.0f}/s   p50 {walls[len(walls) // 2] * 1e3:8.2f} ms"
        f"   p95 {walls[int(len(walls) * 0.95)] * 1e3:8.2f} ms   cpu {cpu / len(jobs) * 1e3:6.3f} ms"
    )


async def run(chain: DevelopmentChain, database: Database, count: int) -> None:
    sender = await TransactionSender.open(database, chain.rpc, chain.chain_id)
    relayer, seller = chain.accounts["relayer"].signer, chain.accounts["seller-1"]
    rail = EvmRail(sender, chain.accounts["buyer"].signer, relayer=relayer)
    settler = AuthorizationSettler(sender, relayer)
    requirement = Requirement(chain.usdc, seller.address, 10)
    request = PaymentRequest(
        rail="evm",
        amount=Money(chain.usdc, 10),
        payee=seller.address,
        mode=PayMode.AUTHORIZE,
        reference={"extra": {"name": "USD Coin", "version": "2"}},
        binding="bench",
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )
    holds = [await rail.open(request, f"warm-{number}") for number in range(2)]
    signed = [SignedAuthorization.from_json(hold.payment.evidence["payload"]) for hold in holds]
    await settler.settle(signed[0], requirement)
    domain = Domain("USD Coin", "2", chain.chain_id, chain.usdc.reference)

    async def hash_and_recover() -> None:
        recover(signed[1].authorization.digest(domain), signed[1].signature)

    await measure("hash and recover", [hash_and_recover] * 2000)
    await measure("open a hold", [partial(rail.open, request, f"open-{number}") for number in range(count)])
    payloads = [await payload(rail, request, f"job-{number}") for number in range(4 * count)]
    first, second, third, fourth = (payloads[at * count : (at + 1) * count] for at in range(4))
    await measure("verify", [partial(settler.verify, each, requirement) for each in first])
    await measure("verify, 8 at once", [partial(settler.verify, each, requirement) for each in second], CONCURRENCY)
    await measure("verify and settle", [partial(collect, settler, each, requirement) for each in third])
    together = [partial(collect, settler, each, requirement) for each in fourth]
    await measure("verify and settle, 8 at once", together, CONCURRENCY)
    await measure("settle again (replay)", [partial(settler.settle, each, requirement) for each in fourth])


async def collect(settler: AuthorizationSettler, signed: SignedAuthorization, requirement: Requirement) -> None:
    await settler.verify(signed, requirement)
    await settler.settle(signed, requirement)


async def payload(rail: EvmRail, request: PaymentRequest, key: str) -> SignedAuthorization:
    return SignedAuthorization.from_json((await rail.open(request, key)).payment.evidence["payload"])


async def main(count: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="nexus-bench-"))
    server = EmbeddedPostgres(folder)
    try:
        url = await server.start()
        await migrate(url)
        database = await Database.open(url)
        async with DevelopmentChain() as chain:
            await run(chain, database, count)
        await database.close()
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
