"""What is done for a purchase at each of its steps. Every act may be repeated, by any process, and moves money once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agentnexus.core.errors import Conflict, InsufficientFunds, NexusError, NotFound, PaymentUnknown, Unavailable
from agentnexus.core.money import Money
from agentnexus.core.ports import Clock
from agentnexus.ledger.books import Books
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.marketplace.entitlements.holdings import Held
from agentnexus.marketplace.entitlements.model import Token
from agentnexus.marketplace.entitlements.store import EntitlementStore
from agentnexus.marketplace.listings.service import Listings
from agentnexus.marketplace.purchases.market import Market
from agentnexus.marketplace.purchases.model import (
    Act,
    Purchase,
    PurchaseState,
    Seen,
    Step,
    Watched,
    ended,
    entitled,
    looked,
    passed_on,
    prepared,
    refunded,
    reviewed,
    troubled,
    validating,
    watched,
)
from agentnexus.marketplace.purchases.ports import Check, Payer
from agentnexus.rails.evm.contracts import ContractRefused, DealStatus
from agentnexus.wallets.model import Operation, OperationState, WalletKind

SETTLE_SECONDS = 5.0
DECIDED_AFTER = timedelta(minutes=10)  # the end of its time: then the chain has it, or never will
_PERHAPS_LOST = (OperationState.REJECTED, OperationState.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class Acts:
    """The parts that acts move. `checks` say whether somebody may buy something; none are configured so far."""

    market: Market
    wallets: Payer
    listings: Listings
    books: Books
    budgets: PersonalBudgets
    rights: EntitlementStore
    clock: Clock
    checks: Sequence[Check] = ()

    async def perform(self, purchase: Purchase) -> Purchase:
        """The purchase after its next act. What went wrong is in it; only what the database raises comes through."""
        try:
            after = await self._perform(purchase)
        except NexusError as error:
            after = troubled(purchase, error, self.clock.now())
        if after.state is PurchaseState.FAILED:
            await self._void(after)
        return after

    async def _perform(self, purchase: Purchase) -> Purchase:
        acts: dict[Act, Callable[[Purchase], Awaitable[Purchase]]] = {
            Act.VALIDATE: self._validate,
            Act.PREPARE: self._prepare,
            Act.WATCH: self._watch,
            Act.ENTITLE: self._entitle,
            Act.REFUND: self._refund,
            Act.END: self._end,
            Act.LOOK: self._look,
        }
        return await acts[purchase.act()](purchase)

    async def _end(self, purchase: Purchase) -> Purchase:
        return ended(purchase, await self._seen(purchase), self.clock.now())

    async def _look(self, purchase: Purchase) -> Purchase:
        await self.mirror(purchase)
        seen, now = await self._seen(purchase), self.clock.now()
        if seen.status is DealStatus.OPEN:
            await self.rights.unsettle(purchase.id, purchase.quantity - seen.remaining // purchase.price.atomic, now)
        return looked(purchase, seen, now)

    async def _validate(self, purchase: Purchase) -> Purchase:
        """May they, can they pay, and does their budget allow it? The budget comes last: it sets the money aside."""
        if purchase.state is PurchaseState.INITIATED:
            return validating(purchase, self.clock.now())
        listing = await self.listings.for_sale(purchase.agent_id)
        for check in self.checks:
            await check(purchase.user_id, listing)
        asset = purchase.price.asset
        held = Money(asset, await self.market.money(purchase.wallet))
        if held < purchase.amount:
            raise InsufficientFunds(
                f"the wallet has {held}, and this costs {purchase.amount}",
                next_step=f"send {purchase.amount - held} to {purchase.wallet}",
                address=purchase.wallet,
            )
        budget = await self.budgets.current(purchase.user_id)
        await self.books.reserve(
            purchase.reservation,
            budget_id=budget.id,
            payer_account=purchase.wallet_account,
            payee_account=purchase.account,
            amount=purchase.amount,
            seller=seller_account(purchase),
            capability=purchase.capability,
            task=purchase.id,
            # A slow process may set money aside for what has failed meanwhile; that is free again after this time.
            expires_at=purchase.valid_until + DECIDED_AFTER,
            auto_void=True,
            rail="evm",
            correlation=purchase.id,
        )
        return reviewed(purchase, self.clock.now())

    async def _prepare(self, purchase: Purchase) -> Purchase:
        await self.listings.for_sale(purchase.agent_id)
        await self.market.prepare_class(purchase)
        operation = await self.wallets.begin(
            purchase.user_id,
            await self.market.calls(purchase),
            key=purchase.operation_key(),
            purpose="purchase",
            title=f"Buy {purchase.what} of {purchase.agent_name}",
        )
        return prepared(purchase, operation.id, operation.state, self.clock.now())

    async def _watch(self, purchase: Purchase) -> Purchase:
        """The deal is read after the operation: what is on the chain by then counts."""
        found = await self._operation(purchase)
        seen = await self._seen(purchase)
        renews = found.state in _PERHAPS_LOST and await self._signs_here(purchase)
        return watched(purchase, found, seen, self.clock.now(), renews=renews)

    async def _operation(self, purchase: Purchase) -> Watched:
        try:
            return _watched(await self._settled(purchase))
        except NotFound as error:
            return Watched(OperationState.REJECTED, error=error.to_json())

    async def _settled(self, purchase: Purchase) -> Operation:
        if purchase.step is Step.SENT:
            try:
                return await self.wallets.settle(purchase.operation_id, timeout_seconds=SETTLE_SECONDS)
            except PaymentUnknown:
                pass  # then what is known of it so far
        return await self.wallets.operation(purchase.operation_id)

    async def _signs_here(self, purchase: Purchase) -> bool:
        try:
            return (await self.wallets.of(purchase.user_id)).kind is WalletKind.SERVER
        except NotFound:  # it was somebody else's, who has shown that
            return False

    async def _entitle(self, purchase: Purchase) -> Purchase:
        seen = await self._seen(purchase)
        useless = await self._useless(purchase, seen) if seen.status is DealStatus.OPEN else ""
        await self.mirror(purchase)
        return entitled(purchase, seen, useless, self.clock.now())

    async def _useless(self, purchase: Purchase, seen: Seen) -> str:
        """Why the right would be good for nothing."""
        if purchase.period is not None and purchase.period.ends_at <= seen.chain_time:
            return "its month was over before it was paid"
        try:
            await self.listings.for_sale(purchase.agent_id)
        except NotFound as error:
            return error.message
        if not await self.market.is_minted(purchase):
            return "it was paid without the runs"
        return "" if await self.market.is_active(purchase.agent_class) else "runs of this agent are switched off"

    async def _refund(self, purchase: Purchase) -> Purchase:
        """First the money, then the tokens: what is left of them. Of what can be passed on, the tokens come first."""
        seen, held = await self._seen(purchase), await self.rights.held([purchase.id])
        if seen.status is DealStatus.OPEN:
            if any(each.under_way for each in held):  # a dropped block undid what paid for it, or it took too long
                raise Unavailable("a run of it is not paid yet", next_step="wait until it has ended")
            over = seen.expires_at is not None and seen.expires_at <= seen.chain_time
            if purchase.transferable and not over and not await self._took_tokens(purchase, held):
                return passed_on(purchase, seen, self.clock.now())
            await (self.market.expire(purchase) if over else self.market.refund(purchase))
            seen = await self._seen(purchase)
        if seen.status.is_final and seen.status is not DealStatus.RELEASED:
            for each in await self.rights.held([purchase.id]):
                there = await self.market.balance(each.wallet, purchase.token_id)
                if (count := min(there, each.unburnt)) > 0:
                    await self.market.revoke(purchase, revocation(purchase, each.wallet), count, holder=each.wallet)
        await self.mirror(purchase)
        return refunded(purchase, seen, self.clock.now())

    async def _took_tokens(self, purchase: Purchase, held: Sequence[Held]) -> bool:
        """Take what its buyer must still have; False when they have passed some of it on, and nothing is taken."""
        if not await self.market.is_minted(purchase):
            return True
        key = revocation(purchase, purchase.wallet)
        count = sum(each.unburnt for each in held if each.wallet == purchase.wallet)
        if count <= 0:
            return False
        there = await self.market.balance(purchase.wallet, purchase.token_id)
        if there < count and not await self.market.was_sent(key):
            return False
        try:
            await self.market.revoke(purchase, key, count, holder=purchase.wallet)
        except ContractRefused:  # they were faster
            if await self.market.balance(purchase.wallet, purchase.token_id) < count:
                return False
            raise
        return True

    async def mirror(self, purchase: Purchase) -> None:
        """Keep what the chain says of its tokens: the buyer's, and those of everybody whom they were passed on to."""
        tokens = [Token(purchase.user_id, purchase.agent_id, purchase.wallet, purchase.token_id)]
        if purchase.transferable:
            holders = {each.wallet for each in await self.rights.held([purchase.id])} - {purchase.wallet}
            tokens += await self.rights.noted(purchase.token_id, sorted(holders))
        balances = await self.market.balances([(each.wallet, each.token_id) for each in tokens])
        for token, balance in zip(tokens, balances, strict=True):
            await self.rights.mirror(token, balance, self.clock.now())

    async def _seen(self, purchase: Purchase) -> Seen:
        return (await self.market.seen([purchase]))[0]

    async def _void(self, purchase: Purchase) -> None:
        """What was set aside is free again; what the chain took from it meanwhile is booked by the chain's events."""
        try:
            await self.books.void(purchase.reservation, "nothing was paid")
        except (NotFound, Conflict):
            return


def revocation(purchase: Purchase, holder: str) -> str:
    """Key of the transaction that takes a purchase's tokens back from somebody."""
    return f"{purchase.id}:revoke" if holder == purchase.wallet else f"{purchase.id}:revoke:{holder}"


def seller_account(purchase: Purchase) -> str:
    """Of the ledger: what a seller got for runs."""
    return f"seller:{purchase.price.asset.network}:{purchase.seller}"


def _watched(operation: Operation) -> Watched:
    return Watched(operation.state, operation.transaction, operation.error)


def is_due(purchase: Purchase, now: datetime) -> bool:
    return purchase.next_try_at is not None and purchase.next_try_at <= now
