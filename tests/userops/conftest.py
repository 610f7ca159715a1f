"""Fixtures: a bundler of ours, accounts that do not exist yet, and short ways to run calls through them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from agentnexus.core.clock import SystemClock
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.rails.evm.contracts import AccountFactory, AccountPlan, Call, Owner
from agentnexus.rails.evm.contracts.account import Account
from agentnexus.rails.evm.deployment import Manifest
from agentnexus.rails.evm.encoding import selector, word
from agentnexus.rails.evm.sending import send_directly
from agentnexus.rails.evm.userops import (
    OperationSigner,
    OwnerSigner,
    SelfBundler,
    Sender,
    SigningSponsor,
    Sponsor,
    UserOperation,
    UserOperationReceipt,
    build,
)
from tests.chain_fixtures import ContractsChain


@dataclass(frozen=True)
class Wallet:
    """An account, who signs for it, and who brings its operations on chain."""

    chain: DevelopmentChain
    manifest: Manifest
    bundler: SelfBundler
    sender: Sender
    signer: OperationSigner
    sponsor: Sponsor | None

    @property
    def address(self) -> str:
        return self.sender.address

    @property
    def account(self) -> Account:
        return Account(self.chain.rpc, self.address)

    async def build(self, *calls: Call, signer: OperationSigner | None = None, lane: int = 0) -> UserOperation:
        return await build(
            self.chain.rpc,
            self.bundler,
            self.sender,
            calls,
            signer=signer or self.signer,
            sponsor=self.sponsor,
            lane=lane,
        )

    async def run(self, *calls: Call, signer: OperationSigner | None = None, lane: int = 0) -> UserOperationReceipt:
        """Build, send, wait."""
        sent = await self.bundler.send(await self.build(*calls, signer=signer, lane=lane))
        return await self.bundler.receipt(sent)

    def transfer(self, to: str, atomic: int) -> Call:
        """USDC of the account."""
        return Call(self.chain.usdc.reference, selector("transfer(address,uint256)") + word(to) + word(atomic))

    def approve(self, spender: str, atomic: int) -> Call:
        return Call(self.chain.usdc.reference, selector("approve(address,uint256)") + word(spender) + word(atomic))


@dataclass(frozen=True)
class Bench:
    """The chain, the contracts, a bundler, and wallets on demand."""

    chain: DevelopmentChain
    manifest: Manifest
    bundler: SelfBundler

    def sponsor(self, **options: object) -> SigningSponsor:
        signer = self.chain.accounts["relayer"].signer
        return SigningSponsor(self.manifest.address("Paymaster"), self.chain.chain_id, signer, **options)  # type: ignore[arg-type]  # options by name

    async def wallet(self, owner: str = "alice", *, sponsored: bool = True, plan: AccountPlan | None = None) -> Wallet:
        """An account of a named key, not deployed yet; or of a plan, signed for by that key."""
        key = self.chain.accounts[owner]
        factory = self.manifest.factory(self.chain.rpc)
        planned = plan or AccountPlan(Owner(key.address))
        sender = Sender.planned(planned, factory.address, await factory.implementation())
        return Wallet(
            self.chain,
            self.manifest,
            self.bundler,
            sender,
            OwnerSigner(key.signer),
            self.sponsor() if sponsored else None,
        )

    async def send(self, account: str, *calls: Call) -> None:
        """Transactions of a named key."""
        for call in calls:
            await send_directly(self.chain.rpc, self.chain.network, self.chain.accounts[account].signer, call)

    async def now(self) -> int:
        return int(SystemClock().now().timestamp())


@pytest.fixture
async def bench(contracts_chain: ContractsChain, database: Database) -> AsyncIterator[Bench]:
    chain = contracts_chain.chain
    relayer = chain.accounts["relayer"].signer
    async with await SelfBundler.open(database, chain.rpc, chain.chain_id, relayer) as bundler:
        yield Bench(chain, contracts_chain.manifest, bundler)


def calls_of(*calls: Call) -> Sequence[Call]:
    return calls


@pytest.fixture
def factory(contracts_chain: ContractsChain) -> AccountFactory:
    return contracts_chain.manifest.factory(contracts_chain.chain.rpc)
