"""x402 side by side with the official Python stack: same chain, same machine, one run.

``python -m bench.x402 [--requests 30] [--json FILE]`` prints one JSON object. Paid requests go end to end with each
stack's own client; the rate at concurrency 8 uses the same load generator and payments signed beforehand for both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import uvloop
from eth_account import Account
from starlette.types import ASGIApp, Message
from x402.http.clients.httpx import x402HttpxClient
from x402.mechanisms.evm.exact import register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSigner
from x402.schemas import PaymentPayload, PaymentRequirements

from agentnexus.core.clock import SystemClock
from agentnexus.core.money import Money
from agentnexus.core.payments import Hold, Payment, PaymentRequest
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.markets.x402.buy import Call, X402Client
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.markets.x402.pricing import PricedRoute
from agentnexus.markets.x402.reservations import MemoryReservations
from agentnexus.markets.x402.sell import SellerMiddleware
from agentnexus.markets.x402.wire import encode_header
from agentnexus.platform.database import Database
from agentnexus.platform.embedded import EmbeddedPostgres
from agentnexus.platform.migrations.run import migrate
from agentnexus.platform.neighbour import NeighbourTransport
from agentnexus.platform.process import free_port, port_open, wait_until_ready
from agentnexus.rails.evm.eip3009 import Authorization, SignedAuthorization, nonce_for
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.rails.evm.typed_data import Domain
from agentnexus.rails.evm.wallet import EvmRail
from agentnexus.rails.solana.wallet import SolanaRail
from bench.x402_servers import bare_app, official, priced
from x402 import x402Client

CONCURRENCY = 8
ROUNDS = 5


class BarePurse:
    """The rail without budget and books, which the official client has not either."""

    def __init__(self, rail: EvmRail | SolanaRail) -> None:
        self._rail = rail

    async def hold(self, request: PaymentRequest) -> Hold:
        return await self._rail.open(request, f"{time.time_ns()}:{request.binding}")

    async def pay(self, request: PaymentRequest) -> Payment:
        return await self._rail.send(request, request.binding)

    async def release(self, hold: Hold, proof: dict[str, object]) -> Payment:
        return await self._rail.settle(hold, proof)

    async def refund(self, hold: Hold, reason: str) -> Payment:
        return await self._rail.cancel(hold)

    async def lookup(self, payment: Payment) -> Payment:
        return await self._rail.lookup(payment)


@asynccontextmanager
async def serving(role: str, settings: dict[str, str], module: str = "bench.x402_servers") -> AsyncIterator[str]:
    """A server process of the module's roles; yields its URL."""
    port = free_port()
    arguments = json.dumps({**settings, "port": str(port)})
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, role, arguments)
    try:
        await wait_until_ready(lambda: port_open("127.0.0.1", port), what=role, timeout_seconds=90)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


class Run:
    """One run: the chain, the database, and what both stacks are measured with."""

    def __init__(self, chain: DevelopmentChain, database: Database, settings: dict[str, str], requests: int) -> None:
        self.chain = chain
        self.database = database
        self.settings = settings
        self.requests = requests
        self.asked = priced(settings)
        self._signed = 0

    async def headers(self) -> dict[str, str]:
        """One payment, signed."""
        self._signed += 1
        buyer = self.chain.accounts["buyer"].signer
        authorization = Authorization(
            buyer.public_id,
            self.asked.pay_to.lower(),
            int(self.asked.amount),
            0,
            int(time.time()) + 280,
            nonce_for(f"bench:{time.time_ns()}:{self._signed}"),
        )
        domain = Domain("USD Coin", "2", 31337, self.asked.asset.lower())
        signature = await buyer.sign(authorization.digest(domain))
        payload = SignedAuthorization(authorization, signature).to_json()
        accepted = self.asked.model_dump(mode="json", by_alias=True)
        return {"PAYMENT-SIGNATURE": encode_header({"x402Version": 2, "accepted": accepted, "payload": payload})}

    async def ours_paid(self, url: str) -> Callable[[], Awaitable[int]]:
        """One paid call with our client, money checked on the chain included."""
        sender = await TransactionSender.open(self.database, self.chain.rpc, 31337)
        purse = BarePurse(EvmRail(sender, self.chain.accounts["buyer"].signer))
        policy = PaymentPolicy(assets={self.chain.usdc.caip19: self.chain.usdc})
        http = httpx.AsyncClient(mounts={"http://": NeighbourTransport()})  # plain http is paid on this machine only
        client = X402Client(http, policy, SystemClock())

        async def call() -> int:
            bought = await client.buy(
                Call("GET", f"{url}/paid", str(time.time_ns())), purse, Money(self.chain.usdc, 1000)
            )
            return bought.answer.status

        return call

    async def official_paid(self, url: str) -> Callable[[], Awaitable[int]]:
        """One paid call with the official client."""
        client = x402Client()
        register_exact_evm_client(client, EthAccountSigner(Account.from_key(self.chain.accounts["buyer"].private_key)))
        client.set_spend_controls(False)
        http = x402HttpxClient(client, timeout=120)

        async def call() -> int:
            return (await http.get(f"{url}/paid")).status_code

        return call

    async def rate(self, url: str, count: int) -> float:
        """Paid requests per second, payments signed beforehand."""
        return await send_all(url, [await self.headers() for _ in range(count)])


async def latency(call: Callable[[], Awaitable[int]], count: int) -> list[float]:
    """Seconds of `count` paid calls, one after the other."""
    times: list[float] = []
    for _ in range(count):
        started = time.perf_counter()
        status = await call()
        times.append(time.perf_counter() - started)
        assert status == 200, status
    return times


async def send_all(url: str, headers: list[dict[str, str]]) -> float:
    """Requests per second at concurrency 8, one for each payment; takes them off the list."""
    count = len(headers)
    target = httpx.URL(f"{url}/paid")
    transport = NeighbourTransport()  # httpx's client would take a quarter of what a paid request costs

    async def worker() -> None:
        while headers:
            response = await transport.handle_async_request(httpx.Request("GET", target, headers=headers.pop()))
            assert response.status_code == 200, response.text

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(worker())
    elapsed = time.perf_counter() - started
    await transport.aclose()
    return count / elapsed


async def paid_figures(run: Run) -> dict[str, object]:
    """Both stacks, alternating, so that the machine's mood hits both."""
    times: dict[str, list[float]] = {"ours": [], "official": []}
    rates: dict[str, list[float]] = {"ours": [], "official": []}
    async with AsyncExitStack() as stack:
        facilitator_url = await stack.enter_async_context(serving("official-facilitator", run.settings))
        settings = {**run.settings, "facilitator_url": facilitator_url}
        urls = {role: await stack.enter_async_context(serving(role, settings)) for role in times}
        calls = {"ours": await run.ours_paid(urls["ours"]), "official": await run.official_paid(urls["official"])}
        for role, call in calls.items():
            await latency(call, 3)
            await run.rate(urls[role], 2 * CONCURRENCY)  # opens its connections, plans its statements
        for _ in range(ROUNDS):
            for role, call in calls.items():
                times[role] += await latency(call, max(run.requests // ROUNDS, 1))
                rates[role].append(await run.rate(urls[role], run.requests))
    p50 = {role: round(statistics.median(each) * 1000, 2) for role, each in times.items()}
    rps = {role: round(statistics.median(each), 1) for role, each in rates.items()}
    return {
        "paid_p50_ms": p50,
        "paid_p50_ratio": round(p50["ours"] / p50["official"], 3),
        "paid_rps_c8": rps,
        "paid_rps_c8_ratio": round(rps["ours"] / rps["official"], 2),
        "paid_rps_c8_rounds": {role: [round(rate, 1) for rate in each] for role, each in rates.items()},
    }


async def verify_figures(run: Run) -> dict[str, object]:
    """CPU and wall time of one verify in process, the chain's answer included."""
    sender = await TransactionSender.open(run.database, run.chain.rpc, 31337)
    facilitator = Facilitator.on(sender, run.chain.accounts["relayer"].signer, [run.chain.usdc])
    payloads = [await payload_of(run) for _ in range(200)]
    await facilitator.verify(payloads[0], run.asked)
    wall, cpu = time.perf_counter(), time.process_time()
    for payload in payloads:
        assert (await facilitator.verify(payload, run.asked)).is_valid
    count = len(payloads)
    return {
        "verify_cpu_ms": round((time.process_time() - cpu) / count * 1000, 3),
        "verify_wall_ms": round((time.perf_counter() - wall) / count * 1000, 3),
    }


async def payload_of(run: Run) -> PaymentPayload:
    """A signed payment as a facilitator gets it."""
    from agentnexus.markets.x402.wire import decode_header

    (header,) = (await run.headers()).values()
    return PaymentPayload.model_validate(decode_header(header, part="payment"))


async def unpaid_figures(run: Run) -> dict[str, object]:
    """CPU microseconds per request over the bare ASGI interface: no sockets, only the stacks."""
    free = bare_app()
    asked: list[PaymentRequirements] = [run.asked]
    facilitator = Facilitator([], [])
    ours = SellerMiddleware(
        bare_app(),
        routes=[PricedRoute("GET /paid", asked)],
        facilitator=facilitator,
        reservations=MemoryReservations(),
    )
    async with serving("official-facilitator", run.settings) as facilitator_url:
        theirs = await official({**run.settings, "facilitator_url": facilitator_url})
        arms: dict[str, tuple[ASGIApp, str]] = {
            "bare route": (free, "/paid"),
            "our 402": (ours, "/paid"),
            "our free route": (ours, "/free"),
            "official 402": (theirs, "/paid"),
            "official free route": (theirs, "/free"),
        }
        rounds = {name: [await cpu_of(app, path) for _ in range(3)] for name, (app, path) in arms.items()}
    figures = {name: round(min(each), 1) for name, each in rounds.items()}
    return {
        "unpaid_cpu_us": figures,
        "unpaid_402_overhead_us": round(figures["our 402"] - figures["bare route"], 1),
        "free_route_overhead_us": round(figures["our free route"] - figures["bare route"], 1),
        "official_402_overhead_us": round(figures["official 402"] - figures["bare route"], 1),
    }


async def cpu_of(app: ASGIApp, path: str, count: int = 1000) -> float:
    """CPU microseconds per request."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost:8000"), (b"accept", b"*/*"), (b"user-agent", b"bench")],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 9),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Message) -> None:
        return None

    for _ in range(50):
        await app(dict(scope), receive, send)
    started = time.process_time()
    for _ in range(count):
        await app(dict(scope), receive, send)
    return (time.process_time() - started) / count * 1e6


@asynccontextmanager
async def fresh_database() -> AsyncIterator[tuple[Database, str]]:
    """A migrated PostgreSQL of the benchmark's own, and its URL."""
    with tempfile.TemporaryDirectory(prefix="nexus-bench-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "pg")
        url = await server.start()
        await migrate(url)
        database = await Database.open(url)
        try:
            yield database, url
        finally:
            await database.close()
            await server.stop()


async def main(requests: int) -> dict[str, object]:
    """All figures of one run."""
    async with fresh_database() as (database, url), DevelopmentChain() as chain:
        settings = {
            "database_url": url,
            "rpc_url": chain.rpc_url,
            "asset": chain.usdc.reference,
            "pay_to": chain.accounts["seller-1"].address,
        }
        run = Run(chain, database, settings, requests)
        unpaid = await unpaid_figures(run)
        return {**unpaid, **await verify_figures(run), **await paid_figures(run)}


def command(measure: Callable[[int], Coroutine[None, None, dict[str, object]]], description: str | None) -> None:
    """The command line of a benchmark of paid requests."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    text = json.dumps(uvloop.run(measure(options.requests)), indent=2)
    if options.json:
        options.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    command(main, __doc__)
