"""What became of promises: charged when the chain shows the operation, given back when it no longer can be used.

Also keeps the ledger's idea of our deposit at EntryPoint in step with the chain.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from agentnexus.core.errors import Conflict, InsufficientFunds, NotFound
from agentnexus.core.money import Asset, Money
from agentnexus.core.ports import Clock
from agentnexus.ledger.model import TransferKind
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.logs import log
from agentnexus.platform.telemetry import sponsoring_coin
from agentnexus.rails.evm.contracts.abi import abi_of
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.encoding import uint
from agentnexus.rails.evm.indexer.events import Source, source
from agentnexus.rails.evm.indexer.history import find_events, total
from agentnexus.rails.evm.indexer.indexer import Indexer
from agentnexus.rails.evm.indexer.model import Change, ChangeKind, Place
from agentnexus.rails.evm.paymaster.accounts import GasAccounts
from agentnexus.rails.evm.paymaster.store import Sponsorship, SponsorshipState, SponsorshipStore
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue, call_data

HANDLER = "paymaster"
OPERATION_EVENT = "UserOperationEvent"
TOKENS_IN_EVENT, TOKENS_OUT_EVENT = "UserOperationSponsored", "TokensWithdrawn"
RELEASED_AT_ONCE = 200
# Blocks may carry a time that lies behind ours.
_GRACE_SECONDS = 30.0


def sources_of(paymaster: str, start_block: int | None = None) -> list[Source]:
    """The operations that a paymaster pays for, and the tokens it takes for some, as sources of an indexer."""
    abi, entry_point = abi_of("Paymaster"), abi_of("EntryPoint")
    operations = source(ENTRY_POINT, entry_point, OPERATION_EVENT, start_block=start_block, paymaster=paymaster)
    tokens = [source(paymaster, abi, event, start_block=start_block) for event in (TOKENS_IN_EVENT, TOKENS_OUT_EVENT)]
    return [operations, *tokens]


class Settling:
    """Follows one paymaster's operations through an indexer that has its `sources_of` among its sources.

    Call `follow` before the indexer runs, and `keep` every few seconds in one or more processes.

    Args:
        tokens: those that gas is sold for.
    """

    def __init__(
        self,
        database: Database,
        accounts: GasAccounts,
        rpc: Rpc,
        indexer: Indexer,
        *,
        clock: Clock,
        tokens: Collection[Asset] = (),
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._books = accounts.books
        self._rpc = rpc
        self.indexer = indexer
        self._clock = clock
        self._scope = (accounts.network.caip2, accounts.paymaster)
        self._store = SponsorshipStore(database, *self._scope)
        self._synced: Place | None = None
        self._tokens = {each.reference: each for each in tokens}

    def follow(self) -> None:
        """Have the indexer tell of operations."""
        self.indexer.subscribe(HANDLER, self._on_change, [OPERATION_EVENT, TOKENS_IN_EVENT, TOKENS_OUT_EVENT])

    async def keep(self) -> None:
        """One round of upkeep: promises that are over, and deposits that came or went."""
        await self.release()
        await self.sync_deposit()
        balance = await self._books.balance(self._accounts.deposit, self._accounts.coin)
        for part, money in (("available", balance.available), ("reserved", balance.reserved)):
            sponsoring_coin.labels(self._accounts.network.caip2, part).set(float(money.decimal))

    async def _on_change(self, connection: Connection, change: Change) -> None:
        """Every step has a key of its own in the ledger, so a handler that dies half-way is repeated without harm."""
        told = change.event.arguments
        if change.event.event != OPERATION_EVENT:
            await self._on_tokens(change)
            return
        if told["paymaster"] != self._accounts.paymaster:
            return
        cost = told["actualGasCost"]
        assert isinstance(cost, int)
        sponsorship = await self._store.find(connection, str(told["userOpHash"]), lock=True)
        if sponsorship is None:
            log.warning(
                "paymaster.unknown_operation", operation=told["userOpHash"], transaction=change.event.transaction
            )
        if change.kind is ChangeKind.REVERTED:
            await self._give_back(connection, change, sponsorship, cost)
        else:
            await self._charge(connection, change, sponsorship, cost)

    async def _on_tokens(self, change: Change) -> None:
        """Tokens that an account paid for its gas, or that the operator took out of the paymaster."""
        told = change.event.arguments
        asset, amount = self._tokens.get(str(told["token"])), told.get("tokenAmount", told.get("amount"))
        assert isinstance(amount, int)
        if change.event.contract != self._accounts.paymaster or not amount:
            return
        if asset is None:
            log.warning("paymaster.unknown_token", token=told["token"], change=change.key)
            return
        money, account, facts = Money(asset, amount), self._accounts.deposit, {"correlation": change.event.transaction}
        if (change.event.event == TOKENS_IN_EVENT) == (change.kind is ChangeKind.APPLIED):
            await self._books.deposit(change.key, account, money, **facts)
            return
        try:
            await self._books.withdraw(change.key, account, money, **facts)
        except InsufficientFunds:
            # Somebody sent it tokens without an operation, and all were taken out together.
            missing = money - (await self._books.balance(account, asset)).available
            await self._books.deposit(f"{change.key}:found", account, missing, **facts)
            await self._books.withdraw(change.key, account, money, **facts)

    async def _charge(self, connection: Connection, change: Change, sponsorship: Sponsorship | None, cost: int) -> None:
        if sponsorship is None or not await self._capture(sponsorship, cost):
            await self._move(change, self._accounts.deposit, self._accounts.gas, cost, sponsorship)
        if sponsorship is None:
            return
        await self._store.end(
            connection,
            sponsorship.user_operation_hash,
            SponsorshipState.USED,
            self._clock.now(),
            actual_cost=cost,
            succeeded=change.event.arguments["success"] is True,
            transaction=change.event.transaction,
        )
        for other in await self._store.of_nonce(connection, sponsorship.sender, sponsorship.nonce, lock=True):
            await self._void(connection, other, "another operation used the nonce")

    async def _capture(self, sponsorship: Sponsorship, cost: int) -> bool:
        """False when the promise has ended in the books: then the cost is booked by itself."""
        if sponsorship.state in (SponsorshipState.USED, SponsorshipState.RELEASED):
            return False
        key = self._accounts.key(sponsorship.user_operation_hash)
        try:
            if cost:
                await self._books.capture(key, self._accounts.money(cost))
            else:
                await self._books.void(key, "it cost nothing")
        except (Conflict, NotFound):
            return False
        return True

    async def _give_back(
        self, connection: Connection, change: Change, sponsorship: Sponsorship | None, cost: int
    ) -> None:
        """A reorganisation took the operation back; it may come again, and is then charged by itself."""
        await self._move(change, self._accounts.gas, self._accounts.deposit, cost, sponsorship)
        if sponsorship is not None:
            await self._store.end(
                connection, sponsorship.user_operation_hash, SponsorshipState.RELEASED, self._clock.now()
            )

    async def _move(self, change: Change, debit: str, credit: str, cost: int, sponsorship: Sponsorship | None) -> None:
        """What is given back its budget has back; what is charged again is spent again."""
        if not cost:
            return
        kind = TransferKind.REFUND if change.kind is ChangeKind.REVERTED else TransferKind.FEE
        money, facts = self._accounts.money(cost), {"correlation": change.event.transaction}
        if sponsorship is not None:
            key = self._accounts.key(sponsorship.user_operation_hash)
            try:
                await self._books.transfer(change.key, debit, credit, money, kind, reservation=key, **facts)
                return
            except (Conflict, NotFound):  # the promise ended without a charge: no budget counts it
                log.info("paymaster.past_the_budget", operation=sponsorship.user_operation_hash, change=change.key)
        await self._books.transfer(change.key, debit, credit, money, kind, **facts)

    async def release(self) -> int:
        """Give back what expired and is not on the chain, as far as the indexer has read it; how many those were.

        A promise is over only once everything up to a block after its end has been read: one that was mined in its
        last second must be charged.
        """
        try:
            read_at = (await self.indexer.status()).followed_at
        except NotFound:
            return 0
        if read_at is None:
            return 0
        network = self._accounts.network
        before = read_at - timedelta(seconds=_GRACE_SECONDS + network.block_seconds * network.confirmations)
        expired = await self._store.expired(before, RELEASED_AT_ONCE)
        return sum([await self._release(each, before) for each in expired])

    async def _release(self, user_operation_hash: str, before: datetime) -> bool:
        mined = await find_events(
            self._database,
            self.indexer.name,
            self._accounts.network.caip2,
            contract=ENTRY_POINT,
            event=OPERATION_EVENT,
            arguments={"userOpHash": user_operation_hash},
        )
        if mined:
            return False  # the handler will be told
        async with self._database.transaction() as connection:
            found = await self._store.find(connection, user_operation_hash, lock=True)
            if found is None or found.valid_until >= before:
                return False
            if found.state in (SponsorshipState.USED, SponsorshipState.RELEASED):
                return False
            return await self._void(connection, found, "expired")

    async def _void(self, connection: Connection, sponsorship: Sponsorship, reason: str) -> bool:
        """False when it was charged in the books already; whoever did that notes it."""
        try:
            await self._books.void(self._accounts.key(sponsorship.user_operation_hash), reason)
        except NotFound:
            pass  # it was never reserved
        except Conflict:
            return False
        await self._store.end(connection, sponsorship.user_operation_hash, SponsorshipState.RELEASED, self._clock.now())
        return True

    async def sync_deposit(self) -> None:
        """Book what was put into or taken out of the deposit: what is there, and all that operations ever cost."""
        network, paymaster = self._scope
        spent = await total(
            self._database,
            self.indexer.name,
            network,
            event=OPERATION_EVENT,
            argument="actualGasCost",
            where={"paymaster": paymaster},
        )
        if spent is None or not spent.place.hash or spent.place == self._synced:
            return
        balance = await self._balance_at(spent.place.hash)
        async with self._database.transaction() as connection:
            await connection.execute(
                "insert into paymaster.treasury (network, paymaster) values ($1, $2) on conflict do nothing",
                *self._scope,
            )
        # A step is noted before it is booked: one that a crash cut off is booked with the same key and amount.
        for target in (None, balance + spent.amount):
            await self._step(target)
        self._synced = spent.place

    async def _step(self, target: int | None) -> None:
        """Book the step that is noted, or note a new one and book it."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "update paymaster.treasury set next_total = coalesce(next_total, nullif($3::numeric, total))"
                " where network = $1 and paymaster = $2 returning step, total, next_total",
                *self._scope,
                target,
            )
        if row is None or row["next_total"] is None:
            return
        step, change = row["step"], int(row["next_total"] - row["total"])
        key = f"{self._accounts.deposit}:{step}"
        money = self._accounts.money(abs(change))
        if change > 0:
            await self._books.deposit(key, self._accounts.deposit, money, memo="deposit at EntryPoint")
        else:
            await self._books.withdraw(key, self._accounts.deposit, money, memo="taken from EntryPoint")
        async with self._database.connection() as connection:
            await connection.execute(
                "update paymaster.treasury set total = next_total, next_total = null, step = step + 1"
                " where network = $1 and paymaster = $2 and step = $3",
                *self._scope,
                step,
            )

    async def _balance_at(self, block_hash: str) -> int:
        """The paymaster's deposit in exactly that block; raises when the chain has left it."""
        data = abi_of("EntryPoint").encode("balanceOf", (self._accounts.paymaster,))
        block: dict[str, RpcValue] = {"blockHash": block_hash, "requireCanonical": True}
        call = Call("eth_call", ({"to": ENTRY_POINT, "data": "0x" + data.hex()}, block))
        return uint(call_data((await self._rpc.batch([call]))[0]))
