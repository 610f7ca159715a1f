"""x402 on Solana side by side with the official Python stack: same chain, same machine, one run.

``python -m bench.x402_solana [--requests 30] [--json FILE]`` prints one JSON object. Paid requests go end to end with
each stack's own client, and ours checks the money on the chain. Once with a chain that confirms what it has executed at
once: these are the stacks' own times. And once with confirmation by the next slot of 400 ms, as on a cluster.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import httpx
from x402.http.clients.httpx import x402HttpxClient
from x402.mechanisms.svm.exact import register_exact_svm_client
from x402.mechanisms.svm.signers import KeypairSigner
from x402.schemas import PaymentPayload, PaymentRequired, PaymentRequirements

from agentnexus.core.clock import SystemClock
from agentnexus.core.money import Money
from agentnexus.devnet.solana.accounts import solana_accounts
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.markets.x402.buy import Call, X402Client
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.markets.x402.svm.facilitator import SolanaFacilitator
from agentnexus.markets.x402.svm.settle import TransferSettler
from agentnexus.markets.x402.svm.settlements import Settlements
from agentnexus.markets.x402.wire import decode_header, encode_header
from agentnexus.platform.database import Database
from agentnexus.platform.neighbour import NeighbourTransport
from agentnexus.rails.solana import exact
from agentnexus.rails.solana.cluster import Cluster
from agentnexus.rails.solana.networks import DEVNET
from agentnexus.rails.solana.programs import Token, public_key
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.wallet import SolanaRail
from bench.x402 import BarePurse, command, fresh_database, latency, send_all, serving
from bench.x402_solana_servers import SPONSORS, priced, signer_of
from x402 import x402Client

CONCURRENCY = 8
ROUNDS = 5
SLOT_ROUNDS = 6
SERVERS = "bench.x402_solana_servers"
PaidCall = Callable[[], Awaitable[int]]


class Run:
    """One run: the chain, the database, and what both stacks are measured with."""

    def __init__(self, chain: SolanaDevelopmentChain, database: Database, requests: int) -> None:
        self.chain = chain
        self.database = database
        self.requests = requests
        self.cluster = Cluster(chain.rpc)
        self._signed = 0

    async def payment(self, stack: str, asked: PaymentRequirements) -> PaymentPayload:
        """One payment of what a stack's seller asks, signed."""
        self._signed += 1
        accounts = solana_accounts()
        terms = exact.Payment(
            fee_payer=accounts[SPONSORS[stack]].public_key,
            payer=accounts["buyer"].public_key,
            payee=public_key(asked.pay_to),
            token=Token(public_key(asked.asset), 6),
            amount=int(asked.amount),
            memo=exact.memo_for(f"{time.time_ns()}:{self._signed}"),
        )
        message = terms.message((await self.cluster.latest_blockhash()).blockhash)
        signature = bytes(accounts["buyer"].keypair.sign_message(exact.signed_bytes(message)))
        return PaymentPayload(payload={"transaction": exact.partly_signed(message, signature)}, accepted=asked)

    async def ours_paid(self, url: str) -> PaidCall:
        """One paid call with our client, money checked on the chain included."""
        sender = await TransactionSender.open(self.database, self.chain.rpc, DEVNET)
        purse = BarePurse(SolanaRail(sender, signer_of("buyer")))
        policy = PaymentPolicy(assets={DEVNET.usdc.caip19: DEVNET.usdc})
        http = httpx.AsyncClient(mounts={"http://": NeighbourTransport()})
        client = X402Client(http, policy, SystemClock())

        async def call() -> int:
            bought = await client.buy(Call("GET", f"{url}/paid", str(time.time_ns())), purse, Money(DEVNET.usdc, 1000))
            assert bought.payment is not None
            assert bought.payment.state == "confirmed"
            return bought.answer.status

        return call

    async def official_paid(self, url: str) -> PaidCall:
        """One paid call with the official client."""
        client = x402Client()
        register_exact_svm_client(client, KeypairSigner(solana_accounts()["buyer"].keypair), rpc_url=self.chain.rpc_url)
        client.set_spend_controls(False)
        http = x402HttpxClient(client, timeout=120)

        async def call() -> int:
            return (await http.get(f"{url}/paid")).status_code

        return call

    async def rate(self, stack: str, url: str) -> float:
        """Paid requests per second at concurrency 8, payments signed beforehand."""
        async with httpx.AsyncClient() as http:
            unpaid = await http.get(f"{url}/paid")
        terms = PaymentRequired.model_validate(decode_header(unpaid.headers["payment-required"], part="402"))
        payments = [await self.payment(stack, terms.accepts[0]) for _ in range(self.requests)]
        return await send_all(url, [{"PAYMENT-SIGNATURE": encode_header(payment)} for payment in payments])


async def paid_figures(run: Run, settings: dict[str, str]) -> dict[str, object]:
    """Both stacks, alternating, so that the machine's mood hits both."""
    times: dict[str, list[float]] = {"ours": [], "official": []}
    rates: dict[str, list[float]] = {"ours": [], "official": []}
    async with AsyncExitStack() as stack:
        facilitator_url = await stack.enter_async_context(serving("official-facilitator", settings, SERVERS))
        settings = {**settings, "facilitator_url": facilitator_url}
        urls = {role: await stack.enter_async_context(serving(role, settings, SERVERS)) for role in times}
        calls = {"ours": await run.ours_paid(urls["ours"]), "official": await run.official_paid(urls["official"])}
        for role, call in calls.items():
            await latency(call, 3)
            await run.rate(role, urls[role])
        for _ in range(ROUNDS):
            for role, call in calls.items():
                times[role] += await latency(call, max(run.requests // ROUNDS, 1))
                rates[role].append(await run.rate(role, urls[role]))
        slots: dict[str, list[float]] = {"ours": [], "official": []}
        await run.chain.rpc.call("devnet_setPace", {"instant": False})
        for _ in range(SLOT_ROUNDS):
            for role, call in calls.items():
                slots[role] += await latency(call, 2)
    p50, slot_p50 = (
        {role: round(statistics.median(each) * 1000, 2) for role, each in measured.items()}
        for measured in (times, slots)
    )
    rps = {role: round(statistics.median(each), 1) for role, each in rates.items()}
    return {
        "paid_p50_ms": p50,
        "paid_p50_ratio": round(p50["ours"] / p50["official"], 3),
        "paid_with_slots_p50_ms": slot_p50,
        "paid_with_slots_p50_ratio": round(slot_p50["ours"] / slot_p50["official"], 3),
        "paid_rps_c8": rps,
        "paid_rps_c8_ratio": round(rps["ours"] / rps["official"], 2),
    }


async def verify_figures(run: Run) -> dict[str, object]:
    """CPU and wall time of one verify in process, the chain's simulation included."""
    settler = TransferSettler(
        run.cluster, DEVNET.caip2, [signer_of(SPONSORS["ours"])], Settlements(run.database), SystemClock()
    )
    facilitator = SolanaFacilitator(settler, [DEVNET.usdc])
    asked = priced("ours")
    payments = [await run.payment("ours", asked) for _ in range(100)]
    await facilitator.verify(payments[0], asked)
    wall, cpu = time.perf_counter(), time.process_time()
    for payment in payments:
        assert (await facilitator.verify(payment, asked)).is_valid
    return {
        "verify_cpu_ms": round((time.process_time() - cpu) / len(payments) * 1000, 3),
        "verify_wall_ms": round((time.perf_counter() - wall) / len(payments) * 1000, 3),
    }


async def main(requests: int) -> dict[str, object]:
    """All figures of one run."""
    async with fresh_database() as (database, url), SolanaDevelopmentChain() as chain:
        run = Run(chain, database, requests)
        verified = await verify_figures(run)
        return {**verified, **await paid_figures(run, {"database_url": url, "rpc_url": chain.rpc_url})}


if __name__ == "__main__":
    command(main, __doc__)
