"""Fixtures: a wallet service over our contracts on a real chain, with the local policies and a filled deposit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

from agentnexus.bootstrap.gas import market_policies
from agentnexus.core.clock import ManualClock, SystemClock, SystemEntropy, TimeOrderedIds
from agentnexus.core.ports import Clock
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.ledger.books import Books
from agentnexus.platform.database import Database
from agentnexus.platform.sealing import Sealer
from agentnexus.rails.evm.contracts import Call
from agentnexus.rails.evm.deployment import Manifest
from agentnexus.rails.evm.encoding import selector, word
from agentnexus.rails.evm.indexer.indexer import Indexer
from agentnexus.rails.evm.paymaster.policy import SponsorPolicy
from agentnexus.rails.evm.paymaster.service import Chain, PaymasterService
from agentnexus.rails.evm.paymaster.settling import Settling, sources_of
from agentnexus.rails.evm.sending import send_directly
from agentnexus.rails.evm.userops import SelfBundler
from agentnexus.rails.evm.userops.bundler import Bundler
from agentnexus.wallets.building import WalletChain
from agentnexus.wallets.keys import SealedKeys
from agentnexus.wallets.model import GasPayer, Operation, PasskeyKey, Wallet, WalletKind
from agentnexus.wallets.service import Wallets
from tests.chain_fixtures import ContractsChain
from tests.userops.soft_passkey import SoftPasskey

WHOLE = 1_000_000


@dataclass
class World:
    """A chain, the books, and wallets on them. `clock` stands still until it is moved."""

    chain: DevelopmentChain
    manifest: Manifest
    database: Database
    books: Books
    clock: ManualClock
    bundler: SelfBundler
    home: Path
    passkeys: dict[str, SoftPasskey] = field(default_factory=dict)
    payers: set[str] = field(default_factory=set)  # who paid for something here; others are newcomers

    @property
    def policies(self) -> tuple[SponsorPolicy, ...]:
        return market_policies(self.manifest, self.chain.usdc.reference)

    def paymaster(self, *policies: SponsorPolicy, clock: Clock | None = None) -> PaymasterService:
        signer = self.chain.accounts["relayer"].signer
        where = Chain(
            self.chain.rpc,
            self.chain.network,
            self.manifest.address("Paymaster"),
            signer,
            self.manifest.address("AccountFactory"),
        )

        async def paid(user_id: str) -> bool:
            return user_id in self.payers

        return PaymasterService(
            self.database, self.books, where, policies or self.policies, clock=clock or self.clock, paid=paid
        )

    async def reserved(self) -> int:
        """Wei of the deposit that is promised."""
        balance = await self.books.balance(self.paymaster().accounts.deposit, self.chain.network.native)
        return balance.reserved.atomic

    def wallets(
        self,
        *policies: SponsorPolicy,
        confirmations: int | None = None,
        bundler: Bundler | None = None,
        sponsored: bool = True,
        coin_usd: str | None = None,
    ) -> Wallets:
        """The service as another process would have it."""
        where = WalletChain(
            self.chain.rpc, self.chain.network, self.chain.usdc, self.manifest.address("AccountFactory")
        )
        entropy = SystemEntropy()
        sealer = Sealer.load_or_create(self.home / "sealing-key", entropy)
        return Wallets(
            self.database,
            where,
            bundler or self.bundler,
            SealedKeys(sealer, self.chain.network.kind, entropy),
            self.paymaster(*policies) if sponsored else None,
            clock=self.clock,
            ids=TimeOrderedIds(),
            confirmations=confirmations,
            coin_usd=None if coin_usd is None else Decimal(coin_usd),
        )

    def passkey(self, name: str) -> PasskeyKey:
        """That person's passkey, made when it is first asked for."""
        found = self.passkeys.setdefault(name, SoftPasskey())
        return PasskeyKey(f"credential-of-{name}", found.public_key)

    async def funded(
        self, user_id: str = "ann", kind: WalletKind = WalletKind.SERVER, usdc: int = 10 * WHOLE
    ) -> Wallet:
        """A wallet of that kind with some USDC, and no coin. Keys are the chain accounts of the name."""
        wallets = self.wallets()
        passkey = self.passkey(user_id) if kind is WalletKind.PASSKEY else None
        named = kind in (WalletKind.KEY, WalletKind.DELEGATED)
        address = self.chain.accounts[user_id].address if named else None
        made = await wallets.create(user_id, kind, passkey=passkey, address=address)
        await self.chain.mint(made.address, usdc)
        return made

    @property
    def seller(self) -> str:
        return self.chain.accounts["seller-1"].address

    def pay(self, atomic: int = 1, to: str | None = None) -> Call:
        """A transfer of USDC."""
        return Call(
            self.chain.usdc.reference, selector("transfer(address,uint256)") + word(to or self.seller) + word(atomic)
        )

    async def begin(
        self,
        user_id: str = "ann",
        *calls: Call,
        key: str = "k1",
        gas: GasPayer = GasPayer.SPONSOR,
        wallets: Wallets | None = None,
    ) -> Operation:
        service = wallets or self.wallets()
        return await service.begin(user_id, calls or (self.pay(),), key=key, purpose="send", title="Send", gas=gas)

    async def transact(self, account: str, call: Call) -> None:
        """By an ordinary key of the chain."""
        await send_directly(self.chain.rpc, self.chain.network, self.chain.accounts[account].signer, call)

    async def give_coin(self, address: str, wei: int) -> None:
        await self.transact("bob", Call(address, b"", wei))


@asynccontextmanager
async def open_world(
    chain: DevelopmentChain, manifest: Manifest, database: Database, home: Path
) -> AsyncIterator[World]:
    """What the fixture gives, and what a second process opens for itself."""
    relayer = chain.accounts["relayer"].signer
    async with (
        await SelfBundler.open(database, chain.rpc, chain.chain_id, relayer) as bundler,
        Books(database) as books,
    ):
        yield World(chain, manifest, database, books, ManualClock(SystemClock().now()), bundler, home)


@pytest.fixture
async def world(contracts_chain: ContractsChain, database: Database, tmp_path: Path) -> AsyncIterator[World]:
    chain, manifest = contracts_chain.chain, contracts_chain.manifest
    manifest.save(tmp_path)
    async with open_world(chain, manifest, database, tmp_path) as world:
        await fund(world)
        yield world


async def fund(world: World) -> None:
    """Have the ledger know of the paymaster's deposit, as the worker does."""
    indexer = Indexer(
        world.database,
        world.chain.rpc,
        world.chain.network,
        sources_of(world.manifest.address("Paymaster"), start_block=0),
        name="contracts",
        clock=world.clock,
    )
    accounts = world.paymaster().accounts
    settling = Settling(
        world.database, accounts, world.chain.rpc, indexer, clock=world.clock, tokens=[world.chain.usdc]
    )
    settling.follow()
    await indexer.poll()
    await indexer.deliver()
    await settling.keep()
    await indexer.store.resign()
