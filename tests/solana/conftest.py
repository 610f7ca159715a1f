"""Fixtures of the Solana room: one development chain for the session, new wallets for every test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.rails.solana.networks import NetworkKind
from agentnexus.rails.solana.programs import associated_address
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.signer import LocalSigner
from agentnexus.rails.solana.wallet import SolanaRail

SOL = 1_000_000_000
START_USDC = 5_000_000


@pytest.fixture(scope="session")
def session_solana_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    log = tmp_path_factory.mktemp("solana") / "chain.log"
    with asyncio.Runner() as runner:
        chain = SolanaDevelopmentChain(log=log)
        runner.run(chain.start())
        yield chain.port
        runner.run(chain.stop())
        runner.run(chain.rpc.close())


@pytest.fixture
async def solana(session_solana_port: int) -> AsyncIterator[SolanaDevelopmentChain]:
    """The session's chain; what a test ordered of it is taken back."""
    chain = SolanaDevelopmentChain(port=session_solana_port)
    yield chain
    await chain.release()
    await chain.rpc.close()


@pytest.fixture
async def own_solana(tmp_path: Path) -> AsyncIterator[SolanaDevelopmentChain]:
    """A chain of the test's own, with a state file, to stop, kill and restart."""
    async with SolanaDevelopmentChain(state=tmp_path / "solana.db", log=tmp_path / "solana.log") as chain:
        yield chain


@dataclass(frozen=True)
class Wallet:
    """A new wallet, funded."""

    keypair: Keypair
    signer: LocalSigner

    @property
    def key(self) -> Pubkey:
        return self.keypair.pubkey()

    @property
    def address(self) -> str:
        return str(self.keypair.pubkey())


def new_wallet() -> Wallet:
    keypair = Keypair()
    return Wallet(keypair, LocalSigner(keypair.secret(), NetworkKind.TESTNET))


async def funded_wallet(chain: SolanaDevelopmentChain, asset: Asset | None = None) -> Wallet:
    wallet = new_wallet()
    await chain.airdrop(wallet.key, SOL)
    await chain.mint(wallet.key, START_USDC, asset)
    return wallet


@dataclass(frozen=True)
class Desk:
    """What a test pays with: a funded payer and a payee who has nothing."""

    chain: SolanaDevelopmentChain
    sender: TransactionSender
    rail: SolanaRail
    payer: Wallet
    payee: Wallet

    def request(self, value: int = 10_000, asset: Asset | None = None, **changes: object) -> PaymentRequest:
        fields: dict[str, object] = {
            "rail": "solana",
            "amount": Money(asset or self.chain.usdc, value),
            "payee": self.payee.address,
            "mode": PayMode.PAY,
            "reference": {},
            "binding": "job:1",
        }
        return PaymentRequest.model_validate(fields | changes)

    async def usdc_of(self, wallet: Wallet) -> int:
        return await self.chain.tokens_of(wallet.key)

    async def sent_by_payer(self) -> int:
        """How many transactions took tokens from the payer's account."""
        account = str(associated_address(self.payer.key, Pubkey.from_string(self.chain.usdc.reference)))
        listed = await self.chain.rpc.call("getSignaturesForAddress", account, {"commitment": "confirmed"})
        assert isinstance(listed, list)
        return len(listed) - 1  # the first one brought them


@pytest.fixture
async def desk(solana: SolanaDevelopmentChain, database: Database) -> Desk:
    return await open_desk(solana, database)


async def open_desk(chain: SolanaDevelopmentChain, database: Database) -> Desk:
    payer = await funded_wallet(chain)
    sender = await TransactionSender.open(database, chain.rpc, chain.network)
    return Desk(chain, sender, SolanaRail(sender, payer.signer), payer, new_wallet())
