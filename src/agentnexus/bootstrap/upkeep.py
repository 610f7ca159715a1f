"""What a worker does beside workflows: follow the chain, repair what a crash left open, expire, reconcile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import asyncpg

from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.uploads import open_uploads
from agentnexus.core.errors import InsufficientFunds, NexusError
from agentnexus.core.money import Money
from agentnexus.identity.limits import Limiter
from agentnexus.ledger.books import Books
from agentnexus.ledger.reconcile import Reconciler
from agentnexus.markets.x402.reservations_postgres import PostgresReservations
from agentnexus.platform.database import Connection
from agentnexus.platform.logs import log
from agentnexus.platform.outbox import prune
from agentnexus.rails.evm.token import Token
from agentnexus.rails.evm.watch import TransferChange, TransferWatcher, WatchedTransfer

if TYPE_CHECKING:
    from agentnexus.bootstrap.solana_buying import SolanaBuyer

WATCHER = "wallets"
WATCH_SECONDS = 1.0
SOLANA_WATCH_SECONDS = 5.0  # what arrives there is final after seconds anyway
EXPIRE_SECONDS = 5.0
RECONCILE_SECONDS = 60.0
PURGE_SECONDS = 3600.0
SALES_KEPT_SECONDS = 7 * 86_400.0
EVENTS_KEPT_SECONDS = 30 * 86_400.0


def own_addresses(ground: Ground, chain: Chain) -> list[str]:
    """The wallets whose money is in our books: the buyer's and our sellers'."""
    buyer = chain.signer(ground.settings.buyer_key, "buyer_key")
    sellers = chain.sellers(ground.settings.seller_keys) if ground.settings.seller_keys else []
    return list(dict.fromkeys([buyer.public_id, *(seller.public_id for seller in sellers)]))


def account_of(chain: Chain, address: str) -> str:
    """The ledger account of a wallet."""
    return f"wallet:{chain.sender.network.caip2}:{address}"


async def book_deposits(ground: Ground, chain: Chain, books: Books) -> int:
    """Book everything that arrived at our wallets and is final; how many changes that was."""

    async def book(_connection: Connection, change: WatchedTransfer) -> None:
        # Its own transaction, repeatable by key: a crash between the two books it again and finds it booked. The block
        # is part of the key: dropped and mined again it is another deposit, even at the same height.
        account = account_of(chain, change.payee)
        where = f"{chain.sender.network.caip2}:{change.transaction}:{change.log_index}:{change.block_hash}"
        facts = {"correlation": change.transaction, "memo": f"from {change.payer}"}
        if change.change is TransferChange.DEPOSITED:
            await books.deposit(f"deposited:{where}", account, change.amount, **facts)
            return
        try:
            await books.withdraw(f"removed:{where}", account, change.amount, **facts)
        except InsufficientFunds as error:  # spent meanwhile: reconciliation makes it a case, later deposits must go on
            log.error("upkeep.deposit_gone", account=account, transaction=change.transaction, error=error.message)

    watcher = TransferWatcher(
        ground.database,
        chain.sender.rpc,
        chain.sender.network,
        chain.usdc,
        own_addresses(ground, chain),
        name=WATCHER,
        start_block=0,
    )
    return len(await watcher.poll(book))


async def keep_up(ground: Ground, chain: Chain, books: Books, solana: SolanaBuyer | None = None) -> None:
    """Run all upkeep for ever; a round that fails is logged and tried again."""
    token = Token(chain.sender.rpc, chain.usdc.reference, chain.sender.network.chain_id)
    reconciler, on_solana = (Reconciler(books, ground.clock, ground.ids) for _ in range(2))

    async def deposits() -> None:
        await book_deposits(ground, chain, books)

    async def solana_deposits() -> None:
        if solana is not None:
            await solana.book_deposits(books)

    async def expire() -> None:
        await books.expire(ground.clock.now())

    async def reconcile() -> None:
        await deposits()  # what has just come in is no difference
        addresses = own_addresses(ground, chain)
        observed = {account_of(chain, each): Money(chain.usdc, await token.balance(each)) for each in addresses}
        await reconciler.compare(observed, twice=True)
        await reconciler.find_stuck()

    async def reconcile_solana() -> None:  # by itself: a cluster that is away must hide nothing of the other chain
        if solana is not None:
            await solana_deposits()
            await on_solana.compare(await solana.observed(), twice=True)

    async def purge() -> None:
        await PostgresReservations(ground.database).purge(SALES_KEPT_SECONDS)
        await prune(ground.database, EVENTS_KEPT_SECONDS)
        await open_uploads(ground).purge()
        await Limiter(ground.database, per_minute=ground.settings.requests_per_minute).forget()

    async with asyncio.TaskGroup() as group:
        group.create_task(repeat("purge", purge, PURGE_SECONDS))
        group.create_task(repeat("deposits", deposits, WATCH_SECONDS))
        group.create_task(repeat("solana-deposits", solana_deposits, SOLANA_WATCH_SECONDS))
        group.create_task(repeat("expire", expire, EXPIRE_SECONDS))
        for name, compare in (("reconcile", reconcile), ("reconcile-solana", reconcile_solana)):
            group.create_task(repeat(name, compare, RECONCILE_SECONDS, first_after=RECONCILE_SECONDS))


async def repeat(
    name: str, work: Callable[[], Awaitable[None]], pause_seconds: float, *, first_after: float = 0.0
) -> None:
    """Do `work` again and again; a round that fails for an expected reason is logged and tried again."""
    await asyncio.sleep(first_after)
    while True:
        try:
            await work()
        except (NexusError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("upkeep.failed", work=name, error=str(error))
        await asyncio.sleep(pause_seconds)
