"""Reads what somebody may run: tokens as the chain or the mirror has them, and the purchases behind these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agentnexus.core.errors import NotAllowed, NotFound
from agentnexus.core.ports import Clock
from agentnexus.marketplace.entitlements.holdings import held_of
from agentnexus.marketplace.entitlements.model import Right, RightStatus, Token
from agentnexus.marketplace.entitlements.stock import Lot, Stock
from agentnexus.marketplace.entitlements.store import EntitlementStore
from agentnexus.marketplace.purchases.kinds import Kind
from agentnexus.marketplace.purchases.model import PurchaseState
from agentnexus.marketplace.purchases.service import Purchases
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.evm.contracts import DealStatus
from agentnexus.wallets.model import Wallet

_THERE = (PurchaseState.COMPLETED, PurchaseState.REFUNDED)


@dataclass(frozen=True, slots=True)
class Owned:
    """A user's tokens of one agent.

    Args:
        burnt: how many were burnt for runs, of everybody with the same wallet.
        wallet: that was shown to be the user's; "" without one: then only what they bought themselves is theirs.
    """

    user_id: str
    tokens: Sequence[Token]
    burnt: int
    wallet: str

    def has(self, lot: Lot) -> bool:
        return lot.purchase.user_id == self.user_id or lot.held.wallet == self.wallet


@dataclass(frozen=True, slots=True)
class Reading:
    """Over the same database as the services."""

    database: Database
    purchases: Purchases
    clock: Clock

    @property
    def store(self) -> EntitlementStore:
        return self.purchases.acts.rights

    async def rights(self, user_id: str) -> Sequence[Right]:
        """By agent and kind, newest first; balances as they were mirrored last, but for what was just received."""
        wallet, found = await self._wallet(user_id), list[Right]()
        await self._receive(wallet)
        noted = await self.store.rights_of(user_id)
        balances = {token.token_id: balance for token, balance in noted}
        for agent_id in dict.fromkeys(token.agent_id for token, _ in noted):
            tokens = [token for token, _ in noted if token.agent_id == agent_id]
            async with self.database.connection() as connection:
                stock = await self.stock(connection, Owned(user_id, tokens, 0, _shown(wallet)), balances)
            found += [each for each in (right_of(stock, kind, user_id) for kind in Kind) if each is not None]
        return found

    async def owned(self, user_id: str, agent_id: str) -> Owned:
        """What the user bought or was given until now.

        Raises `NotFound` when there is nothing, `NotAllowed` when it was given to a wallet that nobody has shown to be
        the user's.
        """
        wallet = await self._wallet(user_id)
        fresh = await self._receive(wallet, agent_id)
        try:
            tokens, burnt = await self.store.tokens(user_id, agent_id)
        except NotFound:
            if wallet is None or not fresh:
                raise
            raise NotAllowed(
                f"runs of {agent_id} were passed on to {wallet.address}, and nobody has shown yet that it is yours",
                next_step="sign in with that wallet, or sign an operation of it",
            ) from None
        return Owned(user_id, tokens, burnt, _shown(wallet))

    async def balances(self, tokens: Sequence[Token]) -> Mapping[int, int]:
        """What the chain says now."""
        found = await self.purchases.acts.market.balances([(each.wallet, each.token_id) for each in tokens])
        return {each.token_id: balance for each, balance in zip(tokens, found, strict=True)}

    async def now(self, user_id: str, agent_id: str) -> Stock:
        """What the user may run now, by the chain. Raises `NotFound` for somebody who never had a right to it."""
        owned = await self.owned(user_id, agent_id)
        balances = await self.balances(owned.tokens)
        async with self.database.connection() as connection:
            return await self.stock(connection, owned, balances)

    async def stock(self, connection: Connection, owned: Owned, balances: Mapping[int, int]) -> Stock:
        """In the caller's transaction, oldest purchase first."""
        wallets = sorted({each.wallet for each in owned.tokens})
        held = {each.purchase_id: each for each in await held_of(connection, wallets, owned.tokens[0].agent_id)}
        lots = [Lot(each, held[each.id]) for each in await self.purchases.store.of_ids(connection, list(held))]
        return Stock([each for each in lots if owned.has(each)], balances, self.clock.now())

    async def _receive(self, wallet: Wallet | None, agent_id: str = "") -> Sequence[Token]:
        """Note what others passed on to a wallet since; of one that anybody may have named it is only answered."""
        fresh = [] if wallet is None else await self.store.received(wallet.user_id, wallet.address, agent_id)
        if fresh and _shown(wallet):
            balances = await self.balances(fresh)
            for token in fresh:
                await self.store.mirror(token, balances[token.token_id], self.clock.now())
        return fresh

    async def _wallet(self, user_id: str) -> Wallet | None:
        try:
            return await self.purchases.acts.wallets.of(user_id)
        except NotFound:
            return None


def _shown(wallet: Wallet | None) -> str:
    """The address that is the user's for certain."""
    return wallet.address if wallet is not None and wallet.proven else ""


def right_of(stock: Stock, kind: Kind, user_id: str) -> Right | None:
    """What the lots of one kind come to; None when there are none that were ever paid."""
    lots = [each for each in stock.lots if each.purchase.kind is kind and each.purchase.state in _THERE]
    lots = [each for each in lots if each.held.count or each.purchase.user_id == user_id]
    if not lots:
        return None
    last, now = lots[-1].purchase, stock.now
    running = [each for each in lots if _goes_on(each, now)]
    left = stock.runs_left if kind is Kind.RUNS else _period_left(stock, running)
    used = sum(each.held.completed for each in (lots if kind is Kind.RUNS else running))
    under_way = sum(each.held.under_way for each in lots)
    return Right(
        agent_id=last.agent_id,
        agent_name=last.agent_name,
        kind=kind,
        status=_status(kind, lots, left, under_way, goes_on=bool(running)),
        runs_left=left,
        runs_bought=sum(each.held.count for each in lots),
        usage_count=used,
        max_usage=_maximum(kind, lots, running),
        under_way=under_way,
        starts_at=min((each.purchase.period.starts_at for each in running if each.purchase.period), default=None),
        expires_at=_ends(kind, stock, running),
        transferable=any(stock.passable(kind).values()),
        wallet=last.wallet if last.user_id == user_id else lots[-1].held.wallet,
        token_id=last.token_id,
        purchases=tuple(each.purchase.id for each in lots if each.purchase.user_id == user_id),
    )


def _goes_on(lot: Lot, now: datetime) -> bool:
    """Not over, whether it has begun or not."""
    period = lot.purchase.period
    return lot.held.count > 0 and lot.purchase.is_there and (period is None or now < period.ends_at)


def _period_left(stock: Stock, running: Sequence[Lot]) -> int | None:
    """Runs of the present period; before it begins, of the next."""
    lot = stock.period or (running[0] if running else None)
    if lot is None:
        return 0
    return None if lot.unlimited else lot.free


def _maximum(kind: Kind, lots: Sequence[Lot], running: Sequence[Lot]) -> int | None:
    if kind is Kind.RUNS:
        return sum(each.held.count for each in lots)
    allowed = [each.purchase.runs_max for each in running or lots[-1:]]
    return None if None in allowed else sum(each or 0 for each in allowed)


def _ends(kind: Kind, stock: Stock, running: Sequence[Lot]) -> datetime | None:
    if kind is Kind.PERIOD:
        return max((each.purchase.period.ends_at for each in running if each.purchase.period), default=None)
    usable = [each for each in running if each.free and each.purchase.usable(stock.now)]
    return min((each.purchase.expires_at for each in usable if each.purchase.expires_at), default=None)


def _status(kind: Kind, lots: Sequence[Lot], left: int | None, under_way: int, *, goes_on: bool) -> RightStatus:
    if kind is Kind.PERIOD and goes_on:
        return RightStatus.ACTIVE if left is None or left or under_way else RightStatus.USED_UP
    if kind is Kind.RUNS and (left or under_way):
        return RightStatus.ACTIVE
    last = lots[-1]
    if kind is Kind.RUNS and last.held.count and all(each.held.unused <= 0 for each in lots):
        return RightStatus.USED_UP
    over = last.purchase.deal in (DealStatus.EXPIRED, DealStatus.OPEN, DealStatus.RELEASED)
    return RightStatus.EXPIRED if over and last.held.count else RightStatus.REVOKED
