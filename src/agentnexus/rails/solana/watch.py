"""Watching deposits to our wallet: every final transfer in is reported once, whatever restarts in between.

Per account the newest transaction read is kept; a poll lists what came after it, the oldest first, and each deposit is
booked in the database transaction that moves the place on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from solders.pubkey import Pubkey

from agentnexus.core.money import Asset, Money
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.solana.cluster import Cluster, Commitment, Mention, Node
from agentnexus.rails.solana.deposits import Deposit, mint_of, read_deposit
from agentnexus.rails.solana.errors import ClusterUnavailable
from agentnexus.rails.solana.landed import read_landed
from agentnexus.rails.solana.networks import Network
from agentnexus.rails.solana.programs import TOKEN_PROGRAMS, associated_address, public_key

_PAGE = 1_000

Book: TypeAlias = Callable[[Connection, Deposit], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Place:
    signature: str | None
    slot: int


class DepositWatcher:
    """Follows one asset to one wallet.

    Args:
        name: of this watcher; its place survives restarts under it. Two processes with one name take turns.
        start_slot: where a new watcher begins; the final slot of its first poll when None.
        commitment: how final a deposit must be; `FINALIZED` cannot be undone.
        page: how many transactions are listed in one request.
    """

    def __init__(
        self,
        database: Database,
        node: Node,
        network: Network,
        asset: Asset,
        recipient: str,
        *,
        name: str,
        start_slot: int | None = None,
        commitment: Commitment = Commitment.FINALIZED,
        page: int = _PAGE,
    ) -> None:
        self._database = database
        self._node = node
        self._cluster = Cluster(node)
        self._network = network
        self._asset = asset
        self._wallet = public_key(recipient, field="recipient")
        self._name = name
        self._start_slot = start_slot
        self._commitment = commitment
        self._page = page
        mint = mint_of(asset, network)
        # Which program runs the token is not asked for: the other one's account never exists.
        self._accounts = (
            [self._wallet]
            if mint is None
            else [associated_address(self._wallet, mint, each) for each in TOKEN_PROGRAMS]
        )

    async def poll(self, book: Book | None = None) -> list[Deposit]:
        """Read what is new, once, the oldest first.

        `book` is called for each deposit in the database transaction that remembers it as reported; when it raises,
        nothing of that deposit is remembered and the next poll reports it again.
        """
        found: list[Deposit] = []
        for account in self._accounts:
            async with self._database.transaction() as connection:
                await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", self._lock(account))
                place = await self._place(connection, account)
            for mention in reversed(await self._news(account, place)):
                deposit = await self._read(mention)
                if await self._remember(account, mention, deposit, book) and deposit is not None:
                    found.append(deposit)
        return found

    async def total(self) -> Money:
        """Everything reported so far."""
        async with self._database.connection() as connection:
            atomic = await connection.fetchval(
                "select coalesce(sum(amount), 0) from solana.deposit where name = $1 and network = $2"
                " and recipient = $3 and asset = $4",
                *self._reported(),
            )
        return Money(self._asset, int(atomic))

    async def newest(self, limit: int) -> list[Deposit]:
        """What was reported, the newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "select * from solana.deposit where name = $1 and network = $2 and recipient = $3 and asset = $4"
                " order by slot desc, signature limit $5",
                *self._reported(),
                limit,
            )
        return [
            Deposit(
                row["signature"],
                row["sender"],
                row["recipient"],
                Money(self._asset, int(row["amount"])),
                row["slot"],
                row["sent_at"],
            )
            for row in rows
        ]

    def _reported(self) -> tuple[str, str, str, str]:
        return self._name, self._network.caip2, str(self._wallet), self._asset.caip19

    def _lock(self, account: Pubkey) -> str:
        return f"solana.watch:{self._network.caip2}:{self._name}:{account}"

    async def _place(self, connection: Connection, account: Pubkey) -> _Place:
        scope = (self._name, self._network.caip2, str(account))
        row = await connection.fetchrow(
            "select signature, slot from solana.cursor where name = $1 and network = $2 and account = $3", *scope
        )
        if row is None:
            start = self._start_slot if self._start_slot is not None else await self._cluster.slot(self._commitment) + 1
            # The place itself is the last that needs no reading.
            row = await connection.fetchrow(
                "insert into solana.cursor (name, network, account, slot) values ($1, $2, $3, $4)"
                " returning signature, slot",
                *scope,
                start - 1,
            )
        if row is None:
            raise ClusterUnavailable("the watcher's place could not be kept")
        return _Place(row["signature"], row["slot"])

    async def _news(self, account: Pubkey, place: _Place) -> list[Mention]:
        """Everything after the place, the newest first. A node that is behind our place raises `NodeError`.

        Walks to the place itself and not only to its slot, in which more of our transactions may be.
        """
        news: list[Mention] = []
        before: str | None = None
        while True:
            page = await self._cluster.mentions(
                account,
                before=before,
                commitment=self._commitment,
                minimum_slot=max(0, place.slot),
                limit=self._page,
            )
            for mention in page:
                if mention.signature == place.signature or mention.slot < self._oldest(place):
                    return news
                news.append(mention)
            if len(page) < self._page:
                return news
            before = page[-1].signature

    def _oldest(self, place: _Place) -> int:
        """A slot whose transactions were listed may have been listed in part, unless nothing of it was read."""
        return place.slot + 1 if place.signature is None else place.slot

    async def _read(self, mention: Mention) -> Deposit | None:
        if mention.error is not None:
            return None
        landed = await read_landed(self._node, mention.signature, self._commitment)
        if landed is None or landed.sent_at is None:
            raise ClusterUnavailable("the node lists a transaction that it cannot show yet")
        return read_deposit(landed, self._wallet, self._asset, self._network)

    async def _remember(self, account: Pubkey, mention: Mention, deposit: Deposit | None, book: Book | None) -> bool:
        """Whether this is news: another process may have been faster."""
        async with self._database.transaction() as connection:
            await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", self._lock(account))
            fresh = deposit is not None and await self._insert(connection, deposit)
            await connection.execute(
                "update solana.cursor set signature = $4, slot = $5"
                " where name = $1 and network = $2 and account = $3 and slot <= $5",
                self._name,
                self._network.caip2,
                str(account),
                mention.signature,
                mention.slot,
            )
            if fresh and deposit is not None and book is not None:
                await book(connection, deposit)
        return fresh

    async def _insert(self, connection: Connection, deposit: Deposit) -> bool:
        status = await connection.execute(
            "insert into solana.deposit (name, network, signature, recipient, asset, sender, amount, slot, sent_at)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing",
            self._name,
            self._network.caip2,
            deposit.signature,
            deposit.recipient,
            deposit.amount.asset.caip19,
            deposit.sender,
            deposit.amount.atomic,
            deposit.slot,
            deposit.sent_at,
        )
        return str(status) == "INSERT 0 1"
