"""How fast the Solana rail is on the development chain, beside solana-py doing the same calls without a journal.

Run: python -m bench.solana [count]; prints JSON. Starts its own chain and database. The two take turns, so that a busy
machine slows both; compare within one run only.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed
from solana.rpc.models import TxOpts
from solders.message import MessageV0
from solders.transaction import VersionedTransaction

from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.devnet.solana.accounts import USDC_MINT
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.platform.embedded import EmbeddedPostgres
from agentnexus.platform.migrations.run import migrate
from agentnexus.rails.solana.deposits import DepositVerifier
from agentnexus.rails.solana.programs import Token, compute_unit_limit, transfer_tokens
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.wallet import SolanaRail
from bench.evm import Figures, measure

CONCURRENCY = 8
AMOUNT = 100


@dataclass(frozen=True, slots=True)
class Peer:
    """solana-py paying and reading, one payment after the other."""

    client: AsyncClient
    chain: SolanaDevelopmentChain

    async def pay(self, number: int) -> None:
        """Blockhash, simulation, send, confirmation and a look at what happened: what our rail does, kept nowhere."""
        payer, payee = self.chain.accounts["alice"], self.chain.accounts["seller-2"]
        token = Token(USDC_MINT, 6)
        latest = (await self.client.get_latest_blockhash()).value
        transfer = transfer_tokens(payer.public_key, token.account_of(payee.public_key), AMOUNT, token)
        instructions = [compute_unit_limit(50_000 + number), transfer]
        message = MessageV0.try_compile(payer.public_key, instructions, [], latest.blockhash)
        transaction = VersionedTransaction(message, [payer.keypair])
        await self.client.simulate_transaction(transaction)
        sent = await self.client.send_raw_transaction(bytes(transaction), TxOpts(skip_preflight=True))
        await self.client.confirm_transaction(sent.value, Confirmed, sleep_seconds=0.05)
        await self.client.get_transaction(sent.value, "base64", Confirmed, 0)

    async def read(self) -> None:
        await self.client.get_balance(self.chain.accounts["buyer"].public_key)


def request(chain: SolanaDevelopmentChain) -> PaymentRequest:
    return PaymentRequest(
        rail="solana",
        amount=Money(chain.usdc, AMOUNT),
        payee=chain.accounts["seller-1"].address,
        mode=PayMode.PAY,
        reference={},
        binding="bench",
    )


async def run(chain: SolanaDevelopmentChain, database: Database, count: int) -> dict[str, Figures]:
    sender = await TransactionSender.open(database, chain.rpc, chain.network)
    rail = SolanaRail(sender, chain.accounts["buyer"].signer)
    order = request(chain)
    warm = await rail.send(order, "warm")
    await chain.advance(40)
    verifier = DepositVerifier(chain.rpc, chain.network, order.payee, [chain.usdc])
    claimed = str(warm.evidence["transaction"])
    async with AsyncClient(chain.rpc_url) as client:
        peer = Peer(client, chain)
        await peer.pay(0)
        half = count // 2
        ours = [[partial(rail.send, order, f"k{turn}:{number}") for number in range(half)] for turn in range(2)]
        theirs = [[partial(peer.pay, 1 + turn * half + number) for number in range(half)] for turn in range(2)]
        read = partial(chain.rpc.call, "getBalance", rail.address)
        return {
            "pay": await measure(ours[0]),
            "pay, solana-py": await measure(theirs[0]),
            "pay, again": await measure(ours[1]),
            "pay, solana-py, again": await measure(theirs[1]),
            "pay, 8 at once": await measure(
                [partial(rail.send, order, f"c{number}") for number in range(count)], CONCURRENCY
            ),
            "read": await measure([read] * count),
            "read, solana-py": await measure([peer.read] * count),
            "verify a deposit": await measure([partial(verifier.verify_deposit, claimed)] * count),
        }


async def main(count: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="nexus-bench-"))
    server = EmbeddedPostgres(folder / "postgres")
    try:
        url = await server.start()
        await migrate(url)
        database = await Database.open(url)
        started = time.perf_counter()
        async with SolanaDevelopmentChain(state=folder / "chain.db") as chain:
            start_ms = round((time.perf_counter() - started) * 1e3, 1)
            figures: dict[str, object] = {"chain start_ms": start_ms, **await run(chain, database, count)}
            print(json.dumps(figures, indent=2))
        await database.close()
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
