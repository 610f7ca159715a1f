"""A process that pays: ``solana_worker.py <database> <rpc> <seed hex> <payee> <count>``. Tests kill it."""

from __future__ import annotations

import asyncio
import sys

from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.platform.database import Database
from agentnexus.rails.solana.networks import DEVNET, NetworkKind
from agentnexus.rails.solana.rpc import SolanaRpc
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.signer import LocalSigner
from agentnexus.rails.solana.wallet import SolanaRail

AMOUNT = 1_000


async def main(database_url: str, rpc_url: str, seed: str, payee: str, count: str) -> None:
    database = await Database.open(database_url, max_size=4)
    async with SolanaRpc(rpc_url) as rpc:
        sender = await TransactionSender.open(database, rpc, DEVNET)
        rail = SolanaRail(sender, LocalSigner(bytes.fromhex(seed), NetworkKind.TESTNET))
        await sender.recover(rail.address)
        request = PaymentRequest(
            rail="solana",
            amount=Money(DEVNET.usdc, AMOUNT),
            payee=payee,
            mode=PayMode.PAY,
            reference={},
            binding="storm",
        )
        for number in range(int(count)):
            await rail.send(request, f"k{number}")
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
