"""`Purchases`: begin one, sign it, follow it, get the rest back; and the worker's side that ends what others began."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial

import asyncpg

from agentnexus.core.errors import Conflict, InvalidInput, NexusError, NotFound, error_from_json
from agentnexus.core.events import Event
from agentnexus.core.money import Money
from agentnexus.core.ports import Clock, Ids
from agentnexus.marketplace.entitlements.holdings import held_in
from agentnexus.marketplace.entitlements.stock import tally_of
from agentnexus.marketplace.entitlements.store import EntitlementStore
from agentnexus.marketplace.listings.model import Listing
from agentnexus.marketplace.purchases.acts import Acts, is_due
from agentnexus.marketplace.purchases.kinds import Kind, Period, PurchaseQuote, quoted
from agentnexus.marketplace.purchases.model import (
    LEASE,
    Act,
    Purchase,
    PurchaseState,
    Step,
    giving_up,
    lifetime_of,
    payable_until,
    refunding,
)
from agentnexus.marketplace.purchases.store import PurchaseStore
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.logs import log
from agentnexus.platform.wakeups import Wakeups
from agentnexus.rails.evm.contracts import DealStatus
from agentnexus.wallets.model import Answer, SigningRequest, Wallet

LIFETIME = timedelta(days=30)
POLL_SECONDS = 1.0
AT_ONCE = 8
KEY_CHARACTERS_MAX = 200
DUE = "purchases"
PASSES = (NexusError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


def topic(purchase_id: str) -> str:
    """Where readers of this purchase's events wait."""
    return f"purchase:{purchase_id}"


async def kept(work: Awaitable[object], **what: str) -> None:
    """One of many in a worker's round: it is due again when this one breaks, and the others go on."""
    try:
        await work
    except PASSES as error:
        log.warning("purchases.interrupted", error=str(error), **what)


@dataclass(frozen=True, slots=True)
class _Order:
    """What somebody asks for under a key. `at_most`: what they were told that it costs."""

    user_id: str
    agent_id: str
    kind: Kind
    quantity: int
    upgrade: bool
    key: str
    at_most: Decimal | None

    def is_of(self, purchase: Purchase) -> bool:
        """Whether a purchase is what it asks for."""
        asked = (self.agent_id, self.kind, self.quantity, self.upgrade)
        return asked == (purchase.agent_id, purchase.kind, purchase.quantity, purchase.upgrade)


class Purchases:
    """Any number of processes may have one on the same database. Call `close` before the pool closes.

    Args:
        lifetime: until anybody may send back what is left of a purchase.
    """

    def __init__(
        self,
        database: Database,
        acts: Acts,
        wakeups: Wakeups,
        *,
        clock: Clock,
        ids: Ids,
        lifetime: timedelta = LIFETIME,
    ) -> None:
        self.store = PurchaseStore(database)
        self.acts = acts
        self._database = database
        self._wakeups = wakeups
        self._clock = clock
        self._ids = ids
        self._lifetime = lifetime
        self._running: set[asyncio.Task[Purchase]] = set()

    async def quote(self, user_id: str, agent_id: str, kind: Kind, quantity: int = 1) -> PurchaseQuote:
        """What buying would cost this user now; a period that they have is followed by the next.

        Raises `NotFound` (not for sale), `InvalidInput`, `Conflict` (they have the next period as well).
        """
        listing = await self.acts.listings.for_sale(agent_id)
        fee_bps, period = await self.acts.market.fee_bps(), Period.on_sale(self._clock.now())
        if kind is Kind.PERIOD:
            with contextlib.suppress(NotFound):  # without a wallet nothing was bought
                wallet = await self.acts.wallets.of(user_id)
                async with self._database.connection() as connection:
                    period = await self._period(connection, wallet, agent_id)
        quote = quoted(listing, kind, quantity, period=period, fee_bps=fee_bps, now=self._clock.now())
        unused = await self._to_replace(user_id, agent_id) if kind is Kind.PERIOD else []
        if not unused:
            return quote
        runs = sum(each.remaining // each.price.atomic for each in unused)
        money = Money(quote.price.asset, sum(each.remaining for each in unused))
        return replace(quote, replaces=runs, gives_back=money)

    async def begin(
        self,
        user_id: str,
        agent_id: str,
        quantity: int,
        key: str,
        *,
        kind: Kind = Kind.RUNS,
        at_most: Decimal | None = None,
        upgrade: bool = False,
    ) -> Purchase:
        """Buy runs of an agent, or a period of it, once per key of a user. `at_most`: what the buyer was told it costs.

        With `upgrade`, unused runs of it are given back once the period is there.

        Returns when it waits for a signature, is on its way, or has to be tried again later. Raises at once, and for
        the same key each time: `NotFound` (not for sale, no wallet), `InvalidInput`, `InsufficientFunds`,
        `BudgetExceeded`, what the checks raise, and what a contract or a sponsor refuses; `Conflict` for another order
        under the key, for what has become dearer, a third period, and an upgrade of nothing.
        """
        order = _Order(user_id, agent_id, kind, quantity, upgrade, _checked_key(key), at_most)
        known = await self.store.of_key(user_id, key)
        if known is None:
            known, is_new = await self._open(order)
            if is_new:
                self._notify(known)
                known = await self._drive(known, hands_over=True)
        if not order.is_of(known):
            raise Conflict("this key was used for another purchase", next_step="use a new key", purchase=known.id)
        if known.state is PurchaseState.FAILED and not known.operation_id and known.error is not None:
            error = error_from_json(known.error)
            error.details["purchase"] = known.id
            raise error
        return known

    async def signing_request(self, user_id: str, purchase_id: str) -> SigningRequest | None:
        """What the buyer is to sign; None when there is nothing to sign (any more)."""
        purchase = await self.store.get(purchase_id, user_id)
        if purchase.step is not Step.SIGNING:
            return None
        try:
            return await self.acts.wallets.signing_request(user_id, purchase.operation_id)
        except Conflict:  # it was signed a moment ago, and the purchase has not moved on yet
            return None

    async def sign(self, user_id: str, purchase_id: str, answer: Answer) -> Purchase:
        """Take the buyer's signature and send it. A second time changes nothing.

        Raises `InvalidInput` for a signature that is none, and what the chain refuses: it may be signed again.
        """
        purchase = await self.store.get(purchase_id, user_id)
        if purchase.step is not Step.SIGNING:
            return purchase
        await self.acts.wallets.sign(user_id, purchase.operation_id, answer)
        taken = await self.store.take(purchase, self._clock.now())
        if taken is not None:
            self._go_on(taken)
        return await self.store.get(purchase_id, user_id)

    async def get(self, user_id: str | None, purchase_id: str, *, wait_seconds: float = 0.0) -> Purchase:
        """With `wait_seconds`, once it moves or time is up. Raises `NotFound`, for a stranger's too."""
        event = self._wakeups.watch(topic(purchase_id))
        purchase = await self.store.get(purchase_id, user_id)
        if wait_seconds <= 0 or _is_at_rest(purchase):
            return purchase
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                await event.wait()
        return await self.store.get(purchase_id, user_id)

    async def list(self, user_id: str, before: str = "", limit: int = 20) -> Sequence[Purchase]:
        """Newest first, from the one after the id `before`."""
        return await self.store.list(user_id, before, limit)

    async def events(self, user_id: str | None, purchase_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Every event above `after`: those that happened, then live; ends when nothing more is under way."""
        while True:
            event = self._wakeups.watch(topic(purchase_id))
            purchase = await self.store.get(purchase_id, user_id)
            found = await self.store.events(purchase_id, after)
            for each in found:
                after = each.sequence
                yield each
            if found:
                continue
            if _is_at_rest(purchase):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await event.wait()

    async def refund(self, user_id: str, purchase_id: str, reason: str = "asked for by the buyer") -> Purchase:
        """Give back what was not used; what waits for a signature is cancelled. A second time changes nothing.

        Raises `NotFound`, `Conflict` while a run is under way or nothing can be given back.
        """
        purchase = await self.store.get(purchase_id, user_id)
        if purchase.step in (Step.REFUNDING, Step.ENDING, Step.ENDED):
            return purchase
        if purchase.step is Step.SIGNING:
            return await self._cancel(purchase, reason)
        if purchase.step is not Step.ENTITLED or purchase.deal is not DealStatus.OPEN:
            raise _nothing_to_give_back(purchase)
        try:
            async with self._database.transaction() as connection:
                moved = await self._give_back(connection, purchase, reason)
        except asyncpg.DeadlockDetectedError:  # the chain's watcher was at the same rows
            moved = None
        return await self._started(purchase, moved, reason)

    async def _give_back(self, connection: Connection, purchase: Purchase, reason: str) -> Purchase | None:
        rights: EntitlementStore = self.acts.rights
        await rights.lock(connection, purchase.user_id, purchase.agent_id)
        now = self._clock.now()
        tally = tally_of(purchase, await held_in(connection, [purchase.id]), now)
        if tally.refund_blocked:
            raise Conflict(tally.refund_blocked, next_step="wait until then; what you hold of it can be used meanwhile")
        due = replace(refunding(purchase, reason, now), next_try_at=now + LEASE)
        return await self.store.move_in(connection, purchase, due)

    async def look(self, purchase: Purchase) -> None:
        """See soon what the chain says of it now."""
        async with self._database.transaction() as connection:
            await self.store.poke(connection, purchase.deal_id, self._clock.now())
        self._wakeups.notify(DUE)

    async def keep(self) -> None:
        """For ever: do what is due, whoever began it."""
        while True:
            try:
                found = await self.keep_once()
            except PASSES as error:
                log.warning("purchases.failed", error=str(error))
                found = 0
            if not found:
                await self._wakeups.wait(DUE, POLL_SECONDS)

    async def keep_once(self) -> int:
        """What is due now; how many purchases that were."""
        due = await self.store.claim(self._clock.now(), AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for each in due:
                group.create_task(kept(self._drive(each), purchase=each.id))
        return len(due)

    async def close(self) -> None:
        """Leave what is under way to others."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _open(self, order: _Order) -> tuple[Purchase, bool]:
        """The purchase of an order's key, and whether it is new."""
        listing = await self.acts.listings.for_sale(order.agent_id)
        fee_bps, period = await self.acts.market.fee_bps(), Period.on_sale(self._clock.now())
        price = partial(quoted, listing, order.kind, order.quantity, fee_bps=fee_bps)
        price(period=period, now=self._clock.now())  # refuses what is not sold before anything else is asked for
        wallet = await self.acts.wallets.of(order.user_id)
        if order.upgrade:
            await self._require_upgrade(order)
        async with self._database.transaction() as connection:
            if order.kind is Kind.PERIOD:
                await self.store.lock_orders(connection, wallet.address, order.agent_id)
                known = await self.store.of_key(order.user_id, order.key, connection)
                if known is not None:
                    return known, False
                period = await self._period(connection, wallet, order.agent_id)
            quote = price(period=period, now=self._clock.now())
            _require_price(quote, order.at_most)
            opened = await self.store.open(connection, self._new(order, listing, quote, wallet))
        if opened is not None:
            return opened, True
        known = await self.store.of_key(order.user_id, order.key)
        assert known is not None, "its key is taken, and rows stay"
        return known, False

    async def _period(self, connection: Connection, wallet: Wallet, agent_id: str) -> Period:
        """The present one, or the next when the wallet has that."""
        present = Period.on_sale(self._clock.now())
        taken = await self.store.periods(connection, wallet.user_id, wallet.address, agent_id)
        for period in (present, present.following):
            if period not in taken:
                return period
        raise Conflict(
            f"you have it until {present.following.ends_at:%Y-%m-%d} already",
            next_step=f"renew it after {present.ends_at:%Y-%m-%d}",
        )

    async def _require_upgrade(self, order: _Order) -> None:
        if order.kind is not Kind.PERIOD:
            raise InvalidInput("runs are upgraded to a period", field="kind", next_step='choose "kind": "period"')
        if not await self._to_replace(order.user_id, order.agent_id):
            raise Conflict("you have no unused runs of it to upgrade", next_step="buy the period without an upgrade")

    async def _to_replace(self, user_id: str, agent_id: str) -> Sequence[Purchase]:
        """Runs that an upgrade would give back now: nobody else holds any of these purchases, and none is under way."""
        bought, now = await self.store.to_replace(user_id, agent_id), self._clock.now()
        held = await self.acts.rights.held([each.id for each in bought])
        return [each for each in bought if tally_of(each, held, now).refundable]

    def _new(self, order: _Order, listing: Listing, quote: PurchaseQuote, wallet: Wallet) -> Purchase:
        now = self._clock.now()
        plain = Purchase(
            id=self._ids.new("pur"),
            user_id=order.user_id,
            key=order.key,
            agent_id=listing.id,
            agent_name=listing.manifest.title,
            capability=listing.manifest.capability,
            seller=listing.seller,
            quantity=quote.quantity,
            price=quote.price,
            fee_bps=quote.fee_bps,
            wallet_id=wallet.id,
            wallet=wallet.address,
            deal_id="",
            lifetime_seconds=lifetime_of(quote.period, self._lifetime, now),
            valid_until=payable_until(quote.period, now),
            created_at=now,
            updated_at=now,
            kind=quote.kind,
            period=quote.period,
            runs_max=quote.runs_max,
            transferable=quote.transferable,
            upgrade=order.upgrade,
        )
        return replace(plain, deal_id="0x" + self.acts.market.deal_id(plain).hex())

    async def _replace_runs(self, purchase: Purchase) -> None:
        """An upgrade is there: unused runs go back, but for those of which one is under way or was passed on."""
        for each in await self.store.to_replace(purchase.user_id, purchase.agent_id):
            with contextlib.suppress(Conflict):
                await self.refund(purchase.user_id, each.id, f"replaced by {purchase.what}")

    async def _cancel(self, purchase: Purchase, reason: str) -> Purchase:
        """No signature is taken for it any more. Raises `Conflict` when there is one."""
        await self.acts.wallets.discard(purchase.user_id, purchase.operation_id)
        now = self._clock.now()
        error = Conflict(f"nothing was paid: {reason}", next_step="buy again").to_json()
        due = replace(giving_up(purchase, error, now), next_try_at=now + LEASE)
        return await self._started(purchase, await self.store.move(purchase, due), reason)

    async def _started(self, before: Purchase, moved: Purchase | None, reason: str) -> Purchase:
        """Go on with what was just moved; who was overtaken looks again."""
        if moved is None:
            return await self.refund(before.user_id, before.id, reason)
        self._notify(moved)
        self._go_on(moved)
        return moved

    def _go_on(self, purchase: Purchase) -> None:
        task = asyncio.create_task(self._drive(purchase), name=f"purchase-{purchase.id}")
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Purchase]) -> None:
        """A database that was away is no loss: another process takes it over when its time is up."""
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("purchases.interrupted", error=str(error))

    async def _drive(self, purchase: Purchase, *, hands_over: bool = False) -> Purchase:
        """Act until nothing is due. `hands_over`: once it is on its way, another task of this process goes on."""
        while True:
            after = await self.acts.perform(purchase)
            if after.upgrade and purchase.act() is Act.ENTITLE and after.state is PurchaseState.COMPLETED:
                await self._replace_runs(after)  # before it is kept as completed: whoever dies here is followed
            now = self._clock.now()
            goes_on = is_due(after, now)
            moved = await self.store.move(purchase, replace(after, next_try_at=now + LEASE) if goes_on else after)
            if moved is None:
                current = await self.store.get(purchase.id)
                taken = await self.store.take(current, now) if is_due(current, now) else None
                if taken is None:  # whoever moved it goes on with it
                    return current
                purchase = taken
                continue
            self._notify(moved)
            if not goes_on:
                return moved
            purchase = moved
            if hands_over and purchase.step is Step.SENT:
                self._go_on(purchase)
                return purchase

    def _notify(self, purchase: Purchase) -> None:
        self._wakeups.notify(topic(purchase.id))


def _is_at_rest(purchase: Purchase) -> bool:
    return purchase.state.final and purchase.step is not Step.REFUNDING


def _nothing_to_give_back(purchase: Purchase) -> Conflict:
    if purchase.deal is DealStatus.RELEASED:
        month = purchase.kind is Kind.PERIOD
        why = "the month was paid with its first run" if month else "all of its runs are used and paid"
        return Conflict(f"there is nothing to give back: {why}", next_step="buy again when you need more")
    return Conflict(
        f"there is nothing to give back: it is {purchase.state}",
        next_step="wait until it is completed" if not purchase.state.final else "look at your wallet",
    )


def _require_price(quote: PurchaseQuote, at_most: Decimal | None) -> None:
    """A price may change after its buyer has seen it; with a wallet that this node signs for nobody would be asked."""
    if at_most is not None and quote.amount.decimal > at_most:
        raise Conflict(
            f"it costs {quote.amount} by now, and not {at_most:f}",
            next_step="look at the price again, then buy with it",
        )


def _checked_key(key: str) -> str:
    if not key or len(key) > KEY_CHARACTERS_MAX or not key.isprintable():
        raise InvalidInput(
            f"a purchase needs a key of at most {KEY_CHARACTERS_MAX} printable characters",
            field="Idempotency-Key",
            next_step="send an Idempotency-Key header, the same for every try of one purchase",
        )
    return key
