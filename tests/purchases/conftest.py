"""Fixtures: a shop over our contracts on a real chain, its buyers' wallets, and agents that really run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cached_property

import pytest

from agentnexus.core.clock import TimeOrderedIds
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.marketplace.entitlements.service import Entitlements
from agentnexus.marketplace.entitlements.store import EntitlementStore
from agentnexus.marketplace.executions.service import Executions
from agentnexus.marketplace.listings.model import Listing
from agentnexus.marketplace.listings.service import Listings, Till
from agentnexus.marketplace.purchases.acts import Acts
from agentnexus.marketplace.purchases.market import Market
from agentnexus.marketplace.purchases.mirror import Mirror
from agentnexus.marketplace.purchases.model import Purchase
from agentnexus.marketplace.purchases.ports import Check, Payer
from agentnexus.marketplace.purchases.service import Purchases
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.rails.evm.contracts import Call, epoch_id
from agentnexus.rails.evm.contracts.abi import abi_of
from agentnexus.rails.evm.indexer.events import source
from agentnexus.rails.evm.indexer.indexer import Indexer
from agentnexus.rails.evm.sending import send_directly
from agentnexus.rails.evm.token import Token
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.runtime.bundle import Bundle
from agentnexus.runtime.port import Runtime
from tests.marketplace.conftest import TRIAL, TRIAL_ID, runtime
from tests.wallets.conftest import WHOLE, World, world

__all__ = ["runtime", "world"]

AGENT = TRIAL_ID
ROUNDS = 60


@dataclass
class Shop:
    """One node's market: `purchases` and `entitlements` as one process has them, more of them by `process`."""

    world: World
    wakeups: Wakeups
    listings: Listings
    listing: Listing
    bundle: Bundle
    runtime: Runtime
    sender: TransactionSender
    opened: list[Purchases | Entitlements] = field(default_factory=list)
    followed: int = 0

    @cached_property
    def market(self) -> Market:
        chain, manifest = self.world.chain, self.world.manifest
        return Market(
            self.sender,
            manifest.escrow(chain.rpc),
            manifest.entitlements(chain.rpc),
            Token(chain.rpc, chain.usdc.reference, chain.chain_id),
            chain.accounts["relayer"].signer,
        )

    @cached_property
    def purchases(self) -> Purchases:
        return self.process()

    @cached_property
    def entitlements(self) -> Entitlements:
        return self.rights(self.purchases)

    @property
    def database(self) -> Database:
        return self.world.database

    @property
    def price(self) -> int:
        return self.listing.price.atomic

    @property
    def seller(self) -> str:
        return self.listing.seller

    @property
    def token(self) -> int:
        from agentnexus.marketplace.purchases.kinds import agent_class

        return epoch_id(agent_class(AGENT))

    def process(
        self, *, wallets: Payer | None = None, market: Market | None = None, checks: tuple[Check, ...] = ()
    ) -> Purchases:
        """As another process has it."""
        clock, books = self.world.clock, self.world.books
        acts = Acts(
            market or self.market,
            wallets or self.world.wallets(),
            self.listings,
            books,
            PersonalBudgets(books, self.world.chain.usdc),
            EntitlementStore(self.database),
            clock,
            checks,
        )
        made = Purchases(self.database, acts, self.wakeups, clock=clock, ids=TimeOrderedIds())
        self.opened.append(made)
        return made

    def rights(self, purchases: Purchases) -> Entitlements:
        clock, ids = self.world.clock, TimeOrderedIds()
        executions = Executions(
            self.database, self.listings, self.runtime, bundles={self.bundle.name: self.bundle},
            blobs=PostgresBlobs(self.database), wakeups=self.wakeups, clock=clock, ids=ids,
        )  # fmt: skip
        made = Entitlements(self.database, purchases, executions, self.wakeups, clock=clock, ids=ids)
        self.opened.append(made)
        return made

    def indexer(self) -> Indexer:
        """The contracts' events, told to the mirror; from the chain's first block on."""
        manifest, chain = self.world.manifest, self.world.chain
        sources = []
        for name in ("Escrow", "Entitlements"):
            abi = abi_of(name)
            events = [each.name for each in abi.events.values()]
            sources += [source(manifest.address(name), abi, event, start_block=0) for event in events]
        self.followed += 1
        indexer = Indexer(
            self.database, chain.rpc, chain.network, sources, name="purchases-test", confirmations=1,
            clock=self.world.clock,
        )  # fmt: skip
        mirror = Mirror(self.purchases, manifest.address("Escrow"), self.wakeups, self.world.clock)
        mirror.follow(indexer)
        return indexer

    async def follow(self) -> None:
        """What the worker's indexer does: read, tell, let another lead."""
        indexer = self.indexer()
        await indexer.poll()
        while await indexer.deliver():
            pass
        await indexer.store.resign()

    async def work(self, purchases: Purchases | None = None) -> None:
        """A worker until nothing is due: the clock is moved on to whatever is next, a minute at the most."""
        keeper = purchases or self.purchases
        for _ in range(ROUNDS):
            await self.follow()
            if not await keeper.keep_once() and not await self._wait():
                return

    async def until(self, purchase_id: str, holds: Callable[[Purchase], bool]) -> Purchase:
        """The worker's rounds until that is so."""
        for _ in range(ROUNDS):
            found = await self.purchases.get(None, purchase_id)
            if holds(found):
                return found
            await self.follow()
            if not await self.purchases.keep_once():
                await self._wait()
        raise AssertionError(f"it is {found.state}, {found.step}: {found.error}")

    async def finish(self, purchase_id: str) -> Purchase:
        """Until it is at rest."""
        return await self.until(purchase_id, lambda it: it.state.final and it.step in ("entitled", "ended"))

    async def settle_uses(self) -> None:
        """The worker's rounds until every run is settled."""
        for _ in range(ROUNDS):
            await self.follow()
            await self.entitlements.keep_once()
            async with self.database.connection() as connection:
                left = await connection.fetchval("select count(*) from marketplace.use where settled_at is null")
            if not left:
                return
            self.world.clock.advance(1)
            await asyncio.sleep(0.02)  # runs go on in their sandboxes
        raise AssertionError(f"{left} runs are not settled")

    async def _wait(self) -> bool:
        """On to the next purchase that is due; False when none is within a minute."""
        async with self.database.connection() as connection:
            due = await connection.fetchval("select min(next_try_at) from marketplace.purchase")
        now = self.world.clock.now()
        if due is None or (due - now).total_seconds() > 60:
            return False
        self.world.clock.advance(max((due - now).total_seconds(), 0.001))
        return True

    async def runs(self, user_id: str = "ann") -> int:
        """What the chain says the user may run."""
        wallet = await self.world.wallets().of(user_id)
        return await self.market.balance(wallet.address, self.token)

    async def money(self, user_id: str = "ann") -> int:
        """Atomic USDC of the user's wallet."""
        wallet = await self.world.wallets().of(user_id)
        return await self.world.chain.usdc_of(wallet.address)

    async def held(self) -> int:
        """Atomic USDC in the escrow."""
        return await self.world.chain.usdc_of(self.market.escrow.address)

    async def operator(self, call: Call) -> None:
        """By the operator's key, past our services."""
        chain = self.world.chain
        await send_directly(chain.rpc, chain.network, chain.accounts["relayer"].signer, call)

    async def booked(self, account: str) -> int:
        return (await self.world.books.balance(account, self.world.chain.usdc)).posted.atomic

    async def check_books(self) -> None:
        report = await self.world.books.check()
        assert report.clean, report.findings

    async def states(self, purchase_id: str) -> list[str]:
        events = await self.purchases.store.events(purchase_id)
        return [str(each.data["state"]) for each in events if not each.name.endswith("progress")]


@pytest.fixture
async def shop(world: World, runtime: Runtime) -> AsyncIterator[Shop]:
    listings = Listings(world.database, world.clock, Till(world.chain.usdc, "USD Coin", "2"))
    bundle = await runtime.prepare(TRIAL)
    listing = await listings.publish(bundle, world.seller, developer="Harbour works")
    sender = await TransactionSender.open(world.database, world.chain.rpc, world.chain.chain_id)
    async with Wakeups(world.database) as wakeups:
        made = Shop(world, wakeups, listings, listing, bundle, runtime, sender)
        yield made
        for each in reversed(made.opened):
            await each.close()


@pytest.fixture
async def buyer(shop: Shop) -> str:
    """A user whose key this node keeps, with 10 USDC and no coin."""
    await shop.world.funded("ann", usdc=10 * WHOLE)
    return "ann"
