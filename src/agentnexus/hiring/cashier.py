"""Moves one written-down payment to its end: reserve in the ledger, open or send on the rail, then post or void.

Every step may be repeated after a crash: the row, the ledger's key and the rail's key are the same each time. The
network's word decides between paid and refunded; without its word the payment stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from agentnexus.core.errors import NexusError, NotFound, PaymentFailed, PaymentUnknown
from agentnexus.core.money import Asset
from agentnexus.core.payments import Payment, PaymentRequest, PaymentState, PayMode
from agentnexus.core.ports import Clock, Holding, Rail
from agentnexus.hiring.holds import PAID, HoldRow, HoldStore, settled_amount
from agentnexus.ledger.door import Door
from agentnexus.platform.logs import log

DEADLINE_DEFAULT_SECONDS = 300
# What a rail raises when it cannot say what happened; a refusal is `PaymentFailed`.
UNSURE = (NexusError, OSError, TimeoutError)

Checkpoint = Callable[[str], None]


def no_checkpoint(_name: str) -> None:
    """Production passes every named point without stopping; tests kill the process there."""


@dataclass(frozen=True, slots=True)
class Wallet:
    """A rail with the address that pays on it.

    `networks` are CAIP-2 ids it is funded on; empty means whatever the rail serves.
    """

    rail: Rail
    address: str
    networks: frozenset[str] = frozenset()

    def account(self, asset: Asset) -> str:
        """The ledger account its money is in."""
        return f"wallet:{asset.network}:{self.address}"

    def serves(self, asset: Asset) -> bool:
        return not self.networks or asset.network in self.networks


class Cashier:
    """Shared by every purse and by repair.

    Args:
        wallets: by rail name, as `PaymentRequest.rail` says it.
        checkpoint: called with a name between any two steps that a crash could separate.
    """

    def __init__(
        self,
        books: Door,
        holds: HoldStore,
        wallets: Mapping[str, Wallet],
        clock: Clock,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self.books = books
        self.holds = holds
        self.wallets = dict(wallets)
        self.clock = clock
        self.checkpoint = checkpoint

    def wallet(self, rail: str) -> Wallet:
        """Raises `PaymentFailed` when there is no such rail here."""
        found = self.wallets.get(rail)
        if found is None:
            raise PaymentFailed(
                f"the seller wants to be paid on {rail}, and no wallet is set up there",
                next_step=f"set up a wallet on {rail}, or choose a seller that takes {', '.join(self.wallets)}",
            )
        return found

    def wallet_for(self, asset: Asset) -> Wallet | None:
        """The wallet that would pay in an asset."""
        return next((wallet for wallet in self.wallets.values() if wallet.serves(asset)), None)

    async def reserve(self, row: HoldRow) -> None:
        """Set the money aside in account and budget; a refusal ends the payment as failed."""
        try:
            await self.books.reserve(
                row.reservation,
                budget_id=row.budget_id,
                payer_account=row.payer_account,
                payee_account=row.payee_account,
                amount=row.request.amount,
                seller=row.seller,
                capability=row.capability,
                task=row.task,
                rail=row.request.rail,
                expires_at=row.deadline,
                correlation=row.hire_key,
            )
        except NexusError as error:
            await self._end(row, PaymentState.FAILED, None, error.message)
            raise

    async def open(self, row: HoldRow) -> HoldRow:
        """Authorise or lock on the rail. The evidence is in the database before anybody else can see it."""
        holding = self._holding(row.request)
        if row.request.mode is PayMode.HOLD and row.state is PaymentState.RESERVED:
            row = await self.holds.move(row, PaymentState.SENT, None, row.deadline)
            self.checkpoint("hold-announced")
        if not row.open:  # repair was faster and gave the money back
            return row
        try:
            hold = await holding.open(row.request, row.key)
        except UNSURE as error:
            return await self._open_failed(row, error)
        self.checkpoint("hold-opened")
        row = await self.holds.move(row, PaymentState.HELD, hold.payment, hold.deadline)
        self.checkpoint("hold-written")
        return row

    async def _open_failed(self, row: HoldRow, error: Exception) -> HoldRow:
        """A signature that was not made leaves nothing behind; a lock that was asked for may exist."""
        if row.request.mode is PayMode.AUTHORIZE or isinstance(error, PaymentFailed):
            await self._give_back(row, PaymentState.FAILED, None, str(error))
            raise error
        await self.holds.move(row, PaymentState.UNKNOWN, None, row.deadline)
        raise self.unknown(row, str(error)) from error

    async def send(self, row: HoldRow) -> HoldRow:
        """Pay now. Raises `PaymentFailed` when nothing moved, `PaymentUnknown` when that cannot be told."""
        row = await self.holds.move(row, PaymentState.SENT, None, row.deadline)
        self.checkpoint("send-announced")
        if not row.open:  # repair was faster and gave the money back
            return row
        try:
            payment = await self.wallet(row.request.rail).rail.send(row.request, row.key)
        except PaymentFailed as error:
            await self._give_back(row, PaymentState.FAILED, None, error.message)
            raise
        except UNSURE as error:
            await self.holds.move(row, PaymentState.UNKNOWN, None, row.deadline)
            raise self.unknown(row, str(error)) from error
        self.checkpoint("sent")
        return await self.conclude(row, payment)

    async def settle(self, row: HoldRow, proof: dict[str, object]) -> HoldRow:
        """Ask the rail whether the payee got the money; post when it says so, `unknown` while it cannot be asked."""
        if not row.open:
            return row
        try:
            payment = await self._holding(row.request).settle(row.as_hold(), proof)
        except PaymentFailed:
            raise
        except UNSURE as error:
            log.warning("hiring.settle_unknown", hold=row.key, error=str(error))
            return await self.holds.move(row, PaymentState.UNKNOWN, None, row.deadline)
        self.checkpoint("settled-on-rail")
        return await self.conclude(row, payment)

    async def cancel(self, row: HoldRow, reason: str) -> HoldRow:
        """Make collecting impossible, then void; when the seller was faster, post. Raises `PaymentUnknown`."""
        if not row.open:
            return row
        if row.state is PaymentState.RESERVED:
            return await self._give_back(row, PaymentState.REFUNDED, None, reason)  # nothing was ever signed or sent
        if row.request.mode is PayMode.PAY:
            return await self.resolve(row)
        holding = self._holding(row.request)
        try:
            if row.payment is None:
                hold = await holding.open(row.request, row.key)
                row = await self.holds.move(row, PaymentState.HELD, hold.payment, hold.deadline)
            payment = await holding.cancel(row.as_hold())
        except PaymentFailed:
            raise
        except UNSURE as error:
            await self.holds.move(row, PaymentState.UNKNOWN, None, row.deadline)
            raise self.unknown(row, str(error)) from error
        self.checkpoint("cancelled-on-rail")
        row = await self.conclude(row, payment, reason)
        if row.open:
            raise self.unknown(row, "the network does not say yet whether it was collected")
        return row

    async def resolve(self, row: HoldRow) -> HoldRow:
        """Look an open payment up on its network and note what it says."""
        if not row.open or row.state is PaymentState.RESERVED:
            return row
        try:
            payment = await self.wallet(row.request.rail).rail.lookup(row.as_payment())
        except UNSURE as error:
            log.warning("hiring.lookup_failed", hold=row.key, error=str(error))
            return row
        return await self.conclude(row, payment)

    async def conclude(self, row: HoldRow, payment: Payment, reason: str = "") -> HoldRow:
        """Bring ledger and row to what the network said."""
        if payment.state in PAID:
            taken = settled_amount(payment)
            if taken.atomic == 0:
                return await self._give_back(row, PaymentState.REFUNDED, payment, reason or "nothing was taken")
            await self.books.capture(row.reservation, taken)
            self.checkpoint("captured")
            return await self._end(row, payment.state, payment, reason)
        if payment.state in (PaymentState.REFUNDED, PaymentState.FAILED):
            return await self._give_back(row, payment.state, payment, reason)
        state = PaymentState.UNKNOWN if payment.state is not PaymentState.HELD else PaymentState.HELD
        return await self.holds.move(row, state, payment, row.deadline)

    async def _give_back(self, row: HoldRow, state: PaymentState, payment: Payment | None, reason: str) -> HoldRow:
        try:
            await self.books.void(row.reservation, printable(reason))
        except NotFound:  # the crash came before the ledger knew of it
            log.info("hiring.nothing_reserved", hold=row.key)
        self.checkpoint("voided")
        return await self._end(row, state, payment, reason)

    async def _end(self, row: HoldRow, state: PaymentState, payment: Payment | None, reason: str) -> HoldRow:
        return await self.holds.finish(row, state, payment, self.clock.now(), printable(reason))

    def _holding(self, request: PaymentRequest) -> Holding:
        rail = self.wallet(request.rail).rail
        if not isinstance(rail, Holding):
            raise PaymentFailed(
                f"{request.rail} cannot set money aside, and the seller asks for that",
                next_step="choose a seller that takes direct payment on this rail",
            )
        return rail

    def default_deadline(self, request: PaymentRequest) -> timedelta:
        """How long a payment without its own expiry may stay undecided."""
        if request.expires_at is None:
            return timedelta(seconds=DEADLINE_DEFAULT_SECONDS)
        return max(request.expires_at - self.clock.now(), timedelta(0))

    @staticmethod
    def unknown(row: HoldRow, why: str) -> PaymentUnknown:
        """The error of a payment that may or may not have moved."""
        return PaymentUnknown(
            f"{row.request.amount} to {row.request.payee} may have been paid: {why}",
            next_step="wait: it is looked up by itself, and nothing is paid again before that",
            hold=row.key,
            rail=row.request.rail,
        )


def printable(text: str, limit: int = 300) -> str:
    """Text that ledger and database take: no control characters, not too long."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean[:limit]
