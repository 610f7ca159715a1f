"""The only way to money, bound to one job and one budget. Markets get it; nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agentnexus.core.canonical import idempotency_key
from agentnexus.core.errors import Conflict, InsufficientFunds, NotAllowed, NotFound, PaymentFailed
from agentnexus.core.money import Money, total
from agentnexus.core.offers import Job, Offer, Quote
from agentnexus.core.payments import Hold, Payment, PaymentRequest, PaymentState, PayMode
from agentnexus.hiring.cashier import Cashier, Wallet
from agentnexus.hiring.holds import HoldRow
from agentnexus.ledger.model import ReservationState

OnHeld = Callable[[HoldRow], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a purse may pay for: one job on one offer, at most the quote, out of one budget."""

    hire_key: str
    budget_id: str
    job: Job
    offer: Offer
    quote: Quote
    task: str = ""


class JobPurse:
    """Implements `core.ports.Purse`. Idempotent by (job, request.binding): asking again gives the first answer.

    Each payment is written down before it is reserved, and its evidence before it leaves this process.
    """

    def __init__(self, terms: Terms, cashier: Cashier, on_held: OnHeld | None = None) -> None:
        self._terms = terms
        self._on_held = on_held
        self._cashier = cashier
        self._lock = asyncio.Lock()
        self._reserved = False

    @property
    def reservation(self) -> str:
        """Ledger key of the reservation made for the job before its seller is asked."""
        return self._terms.job.key

    async def reserve(self) -> None:
        """Set the quote's maximum aside. Raises `BudgetExceeded` or `InsufficientFunds` before anybody is asked."""
        amount = self._terms.quote.maximum
        if amount.atomic == 0 or self._reserved:
            return
        wallet = self._payer(amount)
        reservation = await self._cashier.books.reserve(
            self.reservation,
            budget_id=self._terms.budget_id,
            payer_account=wallet.account(amount.asset),
            payee_account=self._payee_account,
            amount=amount,
            seller=self._terms.offer.seller.key,
            capability=self._terms.offer.capability.name,
            task=self._terms.task,
            rail=wallet.rail.name,
            expires_at=self._terms.quote.valid_until,
            correlation=self._terms.hire_key,
        )
        if reservation.state is ReservationState.VOIDED:
            raise PaymentFailed("the money of this job was given back", next_step="hire again with a new key")
        self._reserved = True

    async def close(self, reason: str = "the job ended without a payment") -> None:
        """Give back what `reserve` set aside and no payment took over."""
        rows = await self.rows()
        if any(row.reservation == self.reservation for row in rows):
            return
        try:
            await self._cashier.books.void(self.reservation, reason)
        except NotFound:  # free of charge, or refused
            return

    async def rows(self) -> list[HoldRow]:
        """Every payment of this job, oldest first."""
        known = await self._cashier.holds.of_hire(self._terms.hire_key)
        return [row for row in known if row.job_key == self._terms.job.key]

    async def pay(self, request: PaymentRequest) -> Payment:
        """Reserve, send, post. Raises `BudgetExceeded`, `InsufficientFunds`, `PaymentFailed`, `PaymentUnknown`."""
        if request.mode is not PayMode.PAY:
            raise PaymentFailed(f"`pay` was asked for a payment of mode {request.mode}", next_step="use `hold`")
        async with self._lock:
            row, fresh = await self._written(request)
            if fresh or row.state is PaymentState.RESERVED:
                await self._reserve_row(row)
                row = await self._cashier.send(row)
            elif row.open:
                row = await self._cashier.resolve(row)
        return self._answer(row)

    async def hold(self, request: PaymentRequest) -> Hold:
        """Reserve and set aside. A hold that was already collected comes back with its payment confirmed."""
        if request.mode is PayMode.PAY:
            raise PaymentFailed("`hold` was asked for a direct payment", next_step="use `pay`")
        async with self._lock:
            row, fresh = await self._written(request)
            if fresh or row.state is PaymentState.RESERVED:
                await self._reserve_row(row)
                self._cashier.checkpoint("reserved")
                row = await self._cashier.open(row)
            elif row.state is PaymentState.SENT or (row.state is PaymentState.UNKNOWN and row.payment is None):
                row = await self._cashier.open(row)
        if row.state in (PaymentState.REFUNDED, PaymentState.FAILED):
            raise PaymentFailed(
                f"this payment has already ended: {row.reason or row.state}",
                next_step="hire again: a new job makes a new payment",
                hold=row.key,
            )
        if self._on_held is not None:
            await self._on_held(row)
        return row.as_hold()

    async def release(self, hold: Hold, proof: dict[str, object]) -> Payment:
        """Check on the network that the seller was paid, then post; `unknown` while that cannot be told."""
        async with self._lock:
            row = await self._cashier.settle(await self._own(hold.payment), proof)
        return _current(row)

    async def refund(self, hold: Hold, reason: str) -> Payment:
        """Make sure the seller can never collect, then void. Confirmed when it already did. Raises `PaymentUnknown`."""
        async with self._lock:
            row = await self._cashier.cancel(await self._own(hold.payment), reason)
        return _current(row)

    async def lookup(self, payment: Payment) -> Payment:
        """Ask the network what became of it."""
        async with self._lock:
            return _current(await self._cashier.resolve(await self._own(payment)))

    async def _own(self, payment: Payment) -> HoldRow:
        row = await self._cashier.holds.by_payment(payment.id)
        if row is None:
            raise NotFound(
                "this purse knows no such payment", next_step="ask the purse for it first", payment=payment.id
            )
        if row.job_key != self._terms.job.key:
            raise NotAllowed("this payment belongs to another job", next_step="use that job's purse")
        return row

    async def _written(self, request: PaymentRequest) -> tuple[HoldRow, bool]:
        """The row of this payment, and whether it was made now."""
        key = idempotency_key("payment", self._terms.job.key, request.binding)
        known = await self._cashier.holds.of_hire(self._terms.hire_key)
        mine = next((row for row in known if row.key == key), None)
        if mine is not None:
            _same_terms(mine.request, request)
            return mine, False
        row = self._row(key, request, known)
        if not await self._cashier.holds.insert(row):  # another runner of this hire was faster: its terms count
            row = await self._cashier.holds.existing(key)
            _same_terms(row.request, request)
            return row, False
        self._cashier.checkpoint("payment-written")
        return row, True

    def _row(self, key: str, request: PaymentRequest, known: list[HoldRow]) -> HoldRow:
        wallet = self._cashier.wallet(request.rail)
        self._check(request, known)
        now = self._cashier.clock.now()
        account = wallet.account(request.amount.asset)
        adopts = not any(row.reservation == self.reservation for row in known) and account == self._payer(
            self._terms.quote.maximum
        ).account(self._terms.quote.maximum.asset)
        return HoldRow(
            key=key,
            hire_key=self._terms.hire_key,
            job_key=self._terms.job.key,
            request=request,
            payer_account=account,
            payee_account=self._payee_account,
            reservation=self.reservation if adopts else key,
            state=PaymentState.RESERVED,
            opened_at=now,
            deadline=now + self._cashier.default_deadline(request),
            budget_id=self._terms.budget_id,
            task=self._terms.task,
            seller=self._terms.offer.seller.key,
            capability=self._terms.offer.capability.name,
        )

    def _check(self, request: PaymentRequest, known: list[HoldRow]) -> None:
        """Before anything is signed: nothing unknown beside it, the quoted asset, and no more than the quote's rest."""
        for row in known:
            if row.state is PaymentState.UNKNOWN or (row.open and row.job_key != self._terms.job.key):
                raise self._cashier.unknown(row, "its outcome is not known yet")
        quote = self._terms.quote
        if request.amount.atomic <= 0:
            raise PaymentFailed(f"the seller asks for {request.amount}", next_step="choose another seller")
        if request.amount.asset.caip19 != quote.maximum.asset.caip19:
            raise PaymentFailed(
                f"the seller quoted {quote.maximum} and now asks for {request.amount}",
                next_step="choose another seller",
            )
        mine = [row for row in known if row.job_key == self._terms.job.key and (row.open or row.paid)]
        left = quote.maximum - total((row.request.amount for row in mine), quote.maximum.asset)
        if request.amount > left:
            raise PaymentFailed(
                f"the seller asks for {request.amount}, {left} is left of the quote",
                next_step="choose another seller, or ask for a new quote",
                asked=str(request.amount),
                left=str(left),
            )

    async def _reserve_row(self, row: HoldRow) -> None:
        if row.reservation == self.reservation:
            await self.reserve()  # the same key and terms: gives the reservation made before the seller was asked
        else:
            await self._cashier.reserve(row)

    def _payer(self, amount: Money) -> Wallet:
        wallet = self._cashier.wallet_for(amount.asset)
        if wallet is None:
            raise InsufficientFunds(
                f"no wallet pays {amount.asset.symbol} on {amount.asset.network}",
                next_step=f"set up a wallet on {amount.asset.network}, or choose a seller on another network",
            )
        return wallet

    @property
    def _payee_account(self) -> str:
        return f"seller:{self._terms.offer.seller.key}"

    def _answer(self, row: HoldRow) -> Payment:
        if row.open:
            raise self._cashier.unknown(row, "its outcome is not known yet")
        if not row.paid:
            raise PaymentFailed(
                f"the payment did not go through: {row.reason or row.state}",
                next_step="check the wallet, or choose another seller",
                hold=row.key,
            )
        return row.as_payment()


def _same_terms(first: PaymentRequest, again: PaymentRequest) -> None:
    before = (first.rail, first.amount, first.payee, first.mode)
    if before != (again.rail, again.amount, again.payee, again.mode):
        raise Conflict(
            f"the same payment was first {first.amount} to {first.payee}, now {again.amount} to {again.payee}",
            next_step="a changed price is a new job: hire again",
        )


def _current(row: HoldRow) -> Payment:
    """The payment in the state of its row: the row also knows what was voided without the network."""
    payment = row.as_payment()
    return payment if payment.state is row.state else payment.model_copy(update={"state": row.state})
