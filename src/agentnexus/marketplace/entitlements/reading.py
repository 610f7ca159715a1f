"""Reads what somebody may run: tokens as the chain or the mirror has them, and the purchases behind these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentnexus.core.errors import NotAllowed, NotFound
from agentnexus.core.ports import Clock
from agentnexus.marketplace.entitlements.holdings import held_of
from agentnexus.marketplace.entitlements.model import Right, Token
from agentnexus.marketplace.entitlements.rights import rights_of
from agentnexus.marketplace.entitlements.stock import Lot, Stock
from agentnexus.marketplace.entitlements.store import EntitlementStore
from agentnexus.marketplace.purchases.model import PurchaseState
from agentnexus.marketplace.purchases.service import Purchases
from agentnexus.platform.database import Connection, Database
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
        """By agent, newest first: its runs, and each month. Balances are as mirrored last, but of what just came."""
        wallet, found = await self._wallet(user_id), list[Right]()
        await self._receive(wallet)
        noted = await self.store.rights_of(user_id)
        balances = {token.token_id: balance for token, balance in noted}
        for agent_id in dict.fromkeys(token.agent_id for token, _ in noted):
            tokens = [token for token, _ in noted if token.agent_id == agent_id]
            async with self.database.connection() as connection:
                stock = await self.stock(connection, Owned(user_id, tokens, 0, _shown(wallet)), balances)
            found += rights_of(stock, user_id)
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
