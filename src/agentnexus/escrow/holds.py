"""Money set aside for one piece of work: reserved at approval, charged step by step, the rest released at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.core.ports import Clock
from agentnexus.escrow.model import Account, Entry, EntryKind, Hold, HoldState, charged_account, shortfall
from agentnexus.escrow.store import EscrowStore
from agentnexus.ledger.door import Door
from agentnexus.platform.logs import log

GRACE = timedelta(minutes=10)
BATCH = 100
RELEASE_TRIES = 10

Ended = Callable[[str], Awaitable[bool]]


class Holds:
    """Each call may be repeated: the ledger's keys make every movement happen once."""

    def __init__(self, store: EscrowStore, books: Door, clock: Clock) -> None:
        self._store = store
        self._books = books
        self._clock = clock

    async def reserve(self, account: Account, reference: str, amount: Money) -> None:
        """Move `amount` from available to reserved; nothing changes while the reference has its money already.

        Raises `InsufficientFunds` (spec 05's words), `Conflict` for somebody else's reference.
        """
        if amount.atomic <= 0:
            raise InvalidInput(f"cannot reserve {amount}", field="amount", next_step="reserve more than zero")
        hold = await self._store.begin_hold(reference, account.user_id, amount, self._clock.now())
        if hold.user_id != account.user_id or hold.state is HoldState.CLOSING:
            raise Conflict(f"{reference} has ended or is another user's", next_step="use one reference per work")
        if hold.state is HoldState.OPEN:
            return
        key = f"{reference}:{hold.opening}"
        try:
            await self._books.transfer(
                f"escrow-hold:{key}", account.ledger, hold.ledger, hold.amount, correlation=reference
            )
        except InsufficientFunds as error:
            await self._store.move_hold(hold, (HoldState.OPENING,), HoldState.REFUSED)
            available = (await self._books.balance(account.ledger, hold.amount.asset)).available
            raise shortfall(available, hold.amount) from error
        await self._note(f"reserve:{key}", hold, EntryKind.RESERVED, -hold.amount)
        # Also from `refused`: another call for the same opening may have come too early a moment ago.
        await self._store.move_hold(hold, (HoldState.OPENING, HoldState.REFUSED), HoldState.OPEN)
        now = await self._store.hold(reference)
        if now is not None and now.opening == hold.opening and now.state is not HoldState.OPEN:
            await self._empty(hold)  # it was released before the money came, and nobody would look there again
            raise Conflict(f"{reference} has ended meanwhile", next_step="use one reference per work")

    async def capture(self, reference: str, key: str, amount: Money, transaction: str = "") -> None:
        """Charge `amount` for the part of the work that `key` names; what the reserve lacks comes from available.

        `transaction`: what paid the seller, for the history.

        Raises `Conflict` when nothing is reserved, `InsufficientFunds`.
        """
        if not amount:
            return
        hold = await self._store.hold(reference)
        if hold is None or hold.state is not HoldState.OPEN:
            raise Conflict(f"nothing is reserved for {reference}", next_step="reserve first")
        try:
            await self._charge(hold, key, amount)
        except InsufficientFunds:
            await self._add(hold, key, amount)
            await self._charge(hold, key, amount)
        await self._note(f"charge:{reference}:{key}", hold, EntryKind.CHARGED, -amount, transaction)

    async def _charge(self, hold: Hold, key: str, amount: Money) -> None:
        await self._books.transfer(
            f"escrow-charge:{hold.reference}:{key}",
            hold.ledger,
            charged_account(amount.asset),
            amount,
            correlation=hold.reference,
        )

    async def _add(self, hold: Hold, key: str, amount: Money) -> None:
        """A dearer seller than the estimate's dearest had to be taken."""
        lacking = amount - (await self._books.balance(hold.ledger, amount.asset)).posted
        if lacking.atomic <= 0:
            return
        extra = f"{hold.reference}:{key}:{lacking.atomic}"
        await self._books.transfer(
            f"escrow-extra:{extra}", f"escrow:{hold.user_id}", hold.ledger, lacking, correlation=hold.reference
        )
        await self._note(f"extra:{extra}", hold, EntryKind.RESERVED, -lacking)

    async def release(self, reference: str) -> None:
        """Give back what was not charged; nothing can be charged afterwards unless it is reserved anew."""
        hold = await self._store.hold(reference)
        if hold is None or hold.state is HoldState.CLOSED:
            return
        await self._store.move_hold(hold, (HoldState.OPENING, HoldState.OPEN, HoldState.REFUSED), HoldState.CLOSING)
        await self._empty(hold)

    async def _empty(self, hold: Hold) -> None:
        for _ in range(RELEASE_TRIES):
            rest = (await self._books.balance(hold.ledger, hold.amount.asset)).posted
            if not rest:
                await self._store.move_hold(hold, (HoldState.CLOSING,), HoldState.CLOSED)
                return
            await self._give_back(hold, rest)
        log.warning("escrow.hold_not_empty", reference=hold.reference)

    async def _give_back(self, hold: Hold, rest: Money) -> None:
        """A charge under way may take part of it first: then the caller looks again."""
        key = f"{hold.reference}:{hold.opening}:{rest.atomic}"
        try:
            await self._books.transfer(
                f"escrow-release:{key}", hold.ledger, f"escrow:{hold.user_id}", rest, correlation=hold.reference
            )
        except InsufficientFunds:
            return
        await self._note(f"release:{key}", hold, EntryKind.RELEASED, rest)

    async def amount(self, reference: str) -> Money | None:
        """What was set aside for a reference, of which some may be charged by now; None for an unknown one."""
        hold = await self._store.hold(reference)
        return None if hold is None else hold.amount

    async def is_open(self, reference: str) -> bool:
        """Whether charges are taken."""
        hold = await self._store.hold(reference)
        return hold is not None and hold.state is HoldState.OPEN

    async def known(self, reference: str) -> bool:
        """Whether anything was ever set aside for a reference."""
        return await self._store.hold(reference) is not None

    async def reserved(self, user_id: str, asset: Asset) -> Money:
        """What the user's running work may still be charged."""
        amount = asset.zero()
        for hold in await self._store.holds_of(user_id):
            if hold.amount.asset.caip19 == asset.caip19:
                amount += (await self._books.balance(hold.ledger, asset)).posted
        return amount

    async def release_ended(self, ended: Ended) -> int:
        """Release holds whose work has ended though nobody released them (a crash came between). How many."""
        stale = await self._store.unfinished_holds(self._clock.now() - GRACE, BATCH)
        released = 0
        for hold in stale:
            if hold.state is HoldState.CLOSING or await ended(hold.reference):
                await self.release(hold.reference)
                released += 1
        return released

    async def _note(self, key: str, hold: Hold, kind: EntryKind, amount: Money, transaction: str = "") -> None:
        entry = Entry(kind, amount, transaction, hold.reference, self._clock.now())
        await self._store.note(key, hold.user_id, entry)
