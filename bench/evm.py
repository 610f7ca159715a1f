"""How fast the EVM rail is on a local chain: hashing and keys, opening holds, verifying, settling.

Run: python -m bench.evm [count]; prints JSON. Needs `npm ci`; starts its own chain and database. Figures are CPU and
wall time per operation on whatever machine this is, so compare within one run only.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.rails.evm.eip3009 import SignedAuthorization
from agentnexus.rails.evm.settlement import AuthorizationSettler, Requirement
from agentnexus.rails.evm.signer import recover
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.rails.evm.typed_data import Domain
from agentnexus.rails.evm.wallet import EvmRail
from bench.ground import measure_on_chain

CONCURRENCY = 8
Figures = dict[str, float]


async def measure(jobs: Sequence[Callable[[], Awaitable[object]]], concurrency: int = 1) -> Figures:
    """Rate, median, p95 and our own CPU per operation."""
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
    return {
        "per_second": round(len(jobs) / elapsed, 1),
        "p50_ms": round(walls[len(walls) // 2] * 1e3, 3),
        "p95_ms": round(walls[int(len(walls) * 0.95)] * 1e3, 3),
        "cpu_ms": round(cpu / len(jobs) * 1e3, 3),
    }


async def run(chain: DevelopmentChain, database: Database, count: int) -> dict[str, Figures]:
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

    opening = [partial(rail.open, request, f"open-{number}") for number in range(count)]
    payloads = [await payload(rail, request, f"job-{number}") for number in range(4 * count)]
    first, second, third, fourth = (payloads[at * count : (at + 1) * count] for at in range(4))
    together = [partial(collect, settler, each, requirement) for each in fourth]
    return {
        "hash and recover": await measure([hash_and_recover] * 2000),
        "open a hold": await measure(opening),
        "verify": await measure([partial(settler.verify, each, requirement) for each in first]),
        "verify, 8 at once": await measure(
            [partial(settler.verify, each, requirement) for each in second], CONCURRENCY
        ),
        "verify and settle": await measure([partial(collect, settler, each, requirement) for each in third]),
        "verify and settle, 8 at once": await measure(together, CONCURRENCY),
        "settle again (replay)": await measure([partial(settler.settle, each, requirement) for each in fourth]),
    }


async def collect(settler: AuthorizationSettler, signed: SignedAuthorization, requirement: Requirement) -> None:
    await settler.verify(signed, requirement)
    await settler.settle(signed, requirement)


async def payload(rail: EvmRail, request: PaymentRequest, key: str) -> SignedAuthorization:
    return SignedAuthorization.from_json((await rail.open(request, key)).payment.evidence["payload"])


if __name__ == "__main__":
    measure_on_chain(run, int(sys.argv[1]) if len(sys.argv) > 1 else 200)
