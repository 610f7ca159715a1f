"""API processes over one database and one development chain, and a user's client that holds a token."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from solders.keypair import Keypair

from agentnexus.core.clock import SystemEntropy
from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.escrow.model import ownership_message
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database
from agentnexus.platform.process import free_port, wait_until_ready
from agentnexus.rails.solana.networks import NetworkKind
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.signer import LocalSigner
from agentnexus.rails.solana.wallet import SolanaRail

ROOT = Path(__file__).parents[2]
SOL_LAMPORTS = 1_000_000_000


@dataclass
class User:
    """`name` at the API and the wallet that they have outside of it."""

    site: Site
    name: str
    keypair: Keypair
    client: httpx.AsyncClient

    @property
    def wallet(self) -> str:
        return str(self.keypair.pubkey())

    def proof(self, name: str | None = None) -> str:
        return str(self.keypair.sign_message(ownership_message(name or self.name, self.wallet).encode()))

    async def ask(self, method: str, what: str, **kwargs: object) -> httpx.Response:
        """On the account's own path, of the first API process unless ``api`` says which."""
        url = f"{self.site.urls[int(str(kwargs.pop('api', 0)))]}/escrow/{self.name}/{what}"
        return await self.client.request(method, url, **kwargs)  # type: ignore[arg-type]  # passed on

    async def open(self) -> None:
        made = await self.ask("POST", "create", json={"userWallet": self.wallet, "proof": self.proof()})
        assert made.status_code == 201, made.text

    async def pay(self, atomic: int, key: str = "1") -> str:
        """From the wallet to the treasury; final."""
        sender = await TransactionSender.open(self.site.database, self.site.chain.rpc, self.site.chain.network)
        rail = SolanaRail(sender, LocalSigner(self.keypair.secret(), NetworkKind.TESTNET))
        request = PaymentRequest(
            rail="solana", amount=Money(self.site.chain.usdc, atomic), payee=self.site.treasury, mode=PayMode.PAY,
            reference={}, binding=f"{self.name}:{key}",
        )  # fmt: skip
        payment = await rail.send(request, f"{self.name}:{key}")
        await self.site.chain.advance(40)
        return str(payment.evidence["transaction"])

    async def funded(self, atomic: int) -> None:
        await self.open()
        done = await self.ask("POST", "deposit", json={"signature": await self.pay(atomic)})
        assert done.status_code == 200, done.text

    async def available(self) -> float:
        return float((await self.ask("GET", "balance")).json()["balance"])

    async def tokens(self) -> int:
        return await self.site.chain.tokens_of(self.keypair.pubkey())


@dataclass
class Site:
    database: Database
    chain: SolanaDevelopmentChain
    treasury: str
    environment: dict[str, str]
    urls: list[str]
    processes: list[Process]

    async def start(self, point: str = "") -> Process:
        """One more API process."""
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.escrow.api_process", str(port), point, cwd=ROOT, env=self.environment
        )
        self.processes.append(process)
        url = f"http://127.0.0.1:{port}"

        async def healthy() -> bool:
            assert process.returncode is None, "the API process ended"
            async with httpx.AsyncClient() as client:
                try:
                    return (await client.get(f"{url}/health")).status_code == 200
                except httpx.TransportError:
                    return False

        await wait_until_ready(healthy, what="the API process", timeout_seconds=60)
        self.urls.append(url)
        return process

    @asynccontextmanager
    async def user(self, name: str, atomic: int = 5_000_000) -> AsyncIterator[User]:
        keypair = Keypair()
        await self.chain.airdrop(keypair.pubkey(), SOL_LAMPORTS)
        await self.chain.mint(keypair.pubkey(), atomic)
        token = await Tokens(self.database, SystemEntropy()).issue(name)
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
            yield User(self, name, keypair, client)

    async def stop(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@asynccontextmanager
async def open_site(database: Database, database_url: str, folder: Path) -> AsyncIterator[Site]:
    async with SolanaDevelopmentChain(log=folder / "solana.log") as chain:
        keypair, path = Keypair(), folder / "treasury.json"
        LocalSigner(keypair.secret(), NetworkKind.TESTNET).write_keypair_file(path)
        await chain.airdrop(keypair.pubkey(), SOL_LAMPORTS)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")} | {
            "NEXUS_DATABASE_URL": database_url,
            "NEXUS_SOLANA_RPC_URL": chain.rpc_url,
            "NEXUS_TREASURY_KEYPAIR": str(path),
        }
        site = Site(database, chain, str(keypair.pubkey()), environment, [], [])
        try:
            yield site
        finally:
            await site.stop()
