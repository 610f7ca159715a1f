"""Fixtures: our contracts on a chain, a paymaster service with its ledger and indexer, and an account without coin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest

from agentnexus.core.clock import ManualClock, SystemClock
from agentnexus.core.ports import Clock
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.ledger.books import Books
from agentnexus.platform.database import Database
from agentnexus.rails.evm.contracts import AccountPlan, Call, Owner
from agentnexus.rails.evm.deployment import Manifest
from agentnexus.rails.evm.encoding import selector, word
from agentnexus.rails.evm.indexer.indexer import Indexer
from agentnexus.rails.evm.paymaster.policy import Rule, SponsorPolicy
from agentnexus.rails.evm.paymaster.service import Chain, PaymasterService, UserSponsor
from agentnexus.rails.evm.paymaster.settling import Settling, sources_of
from agentnexus.rails.evm.sending import send_directly
from agentnexus.rails.evm.userops import OwnerSigner, SelfBundler, Sender, UserOperation, UserOperationReceipt, build
from tests.chain_fixtures import ContractsChain

ETHER = 10**18
GENEROUS = SponsorPolicy(
    id="tests",
    title="What the tests do",
    rules=(Rule(contract="0x" + "00" * 20),),
    per_operation="0.1",
    per_user_day="1",
    per_day="2",
)


@dataclass(frozen=True)
class Desk:
    """Everything that pays for gas here. `books` has what the chain's deposit is once `settle` ran."""

    chain: DevelopmentChain
    manifest: Manifest
    database: Database
    books: Books
    clock: Clock
    bundler: SelfBundler
    policies: Sequence[SponsorPolicy]

    @property
    def paymaster(self) -> str:
        return self.manifest.address("Paymaster")

    @property
    def seller(self) -> str:
        return self.chain.accounts["seller-1"].address

    def service(self, *policies: SponsorPolicy, clock: Clock | None = None) -> PaymasterService:
        signer = self.chain.accounts["relayer"].signer
        return PaymasterService(
            self.database,
            self.books,
            Chain(self.chain.rpc, self.chain.network, self.paymaster, signer, self.manifest.address("AccountFactory")),
            policies or self.policies,
            clock=clock or self.clock,
        )

    def policy(self, **changes: object) -> SponsorPolicy:
        """The tests' policy, with other fields."""
        return self.policies[0].model_copy(update=changes)

    def settling(self, *, confirmations: int = 1, clock: Clock | None = None) -> Settling:
        """A new indexer of the paymaster's operations, from the chain's first block on, and what follows it."""
        indexer = Indexer(
            self.database,
            self.chain.rpc,
            self.chain.network,
            sources_of(self.paymaster, start_block=0),
            name="contracts",
            confirmations=confirmations,
            clock=clock or self.clock,
        )
        accounts = self.service().accounts
        settling = Settling(
            self.database, accounts, self.chain.rpc, indexer, clock=clock or self.clock, tokens=[self.chain.usdc]
        )
        settling.follow()
        return settling

    async def fund(self) -> None:
        """Have the ledger know of the deposit on the chain."""
        await settle(self.settling())

    async def sender(self, owner: str = "alice") -> Sender:
        factory = self.manifest.factory(self.chain.rpc)
        plan = AccountPlan(Owner(self.chain.accounts[owner].address))
        return Sender.planned(plan, factory.address, await factory.implementation())

    def transfer(self, to: str | None = None, atomic: int = 1) -> Call:
        data = selector("transfer(address,uint256)") + word(to or self.seller) + word(atomic)
        return Call(self.chain.usdc.reference, data)

    def approve(self, atomic: int) -> Call:
        """Let the paymaster take USDC."""
        data = selector("approve(address,uint256)") + word(self.paymaster) + word(atomic)
        return Call(self.chain.usdc.reference, data)

    async def build(
        self,
        *calls: Call,
        service: PaymasterService | None = None,
        user: str = "alice",
        lane: int = 0,
        policy: str = "",
    ) -> UserOperation:
        """A sponsored operation of that user's account, signed by both."""
        key = self.chain.accounts["alice"].signer
        sponsor = UserSponsor(service or self.service(), user, policy)
        calls = calls or (self.transfer(),)
        return await build(
            self.chain.rpc,
            self.bundler,
            await self.sender(),
            calls,
            signer=OwnerSigner(key),
            sponsor=sponsor,
            lane=lane,
        )

    async def unsigned(self, *calls: Call, lane: int = 0) -> UserOperation:
        """An operation with gas and fees, and nothing of the paymaster's."""
        key = self.chain.accounts["alice"].signer
        whole = await build(
            self.chain.rpc,
            self.bundler,
            await self.sender(),
            calls or (self.transfer(),),
            signer=OwnerSigner(key),
            sponsor=_StubOnly(self.service()),
            lane=lane,
        )
        return replace(whole, paymaster=None, paymaster_verification_gas_limit=0, paymaster_data=b"", signature=b"")

    async def send(self, operation: UserOperation) -> UserOperationReceipt:
        return await self.bundler.receipt(await self.bundler.send(operation))

    async def transact(self, account: str, call: Call) -> None:
        await send_directly(self.chain.rpc, self.chain.network, self.chain.accounts[account].signer, call)

    async def on_chain(self) -> int:
        """Wei that EntryPoint holds for the paymaster."""
        return await self.manifest.entry_point(self.chain.rpc).deposit_of(self.paymaster)

    async def booked(self) -> tuple[int, int]:
        """Wei of the deposit in the ledger: posted, and reserved of it."""
        accounts = self.service().accounts
        balance = await self.books.balance(accounts.deposit, accounts.coin)
        return balance.posted.atomic, balance.reserved.atomic


@dataclass(frozen=True)
class _StubOnly:
    """Lets gas be estimated, and promises nothing."""

    service: PaymasterService

    async def stub(self, operation: UserOperation) -> UserOperation:
        return self.service.stub("nobody", operation)

    async def final(self, operation: UserOperation) -> UserOperation:
        return operation


async def settle(settling: Settling) -> None:
    """Read the chain, tell, keep up; as a worker does, and then let another process lead."""
    await settling.indexer.poll()
    await settling.indexer.deliver()
    await settling.keep()
    await settling.indexer.store.resign()


@pytest.fixture
async def desk(contracts_chain: ContractsChain, database: Database) -> AsyncIterator[Desk]:
    chain, manifest = contracts_chain.chain, contracts_chain.manifest
    relayer = chain.accounts["relayer"].signer
    rules = (
        Rule(
            contract=chain.usdc.reference,
            functions=("transfer(address,uint256)",),
            to=(chain.accounts["seller-1"].address,),
        ),
        Rule(contract=manifest.address("Escrow")),
    )
    policy = GENEROUS.model_copy(update={"rules": rules, "factories": (manifest.address("AccountFactory"),)})
    async with (
        await SelfBundler.open(database, chain.rpc, chain.chain_id, relayer) as bundler,
        Books(database) as books,
    ):
        # It stands still, so that no test's signatures come from two windows.
        clock = ManualClock(SystemClock().now())
        desk = Desk(chain, manifest, database, books, clock, bundler, (policy,))
        await chain.mint((await desk.sender()).address, 1_000_000)
        await desk.fund()
        yield desk
