"""Money going back to its owner's wallet: reserved in the ledger, sent once, and known before it is called done."""

from __future__ import annotations

from datetime import timedelta

from agentnexus.core.errors import Conflict, InsufficientFunds, NexusError, PaymentFailed, PaymentUnknown
from agentnexus.core.money import Money
from agentnexus.core.payments import Payment, PaymentRequest, PaymentState, PayMode
from agentnexus.core.ports import Clock
from agentnexus.escrow.model import Account, Entry, EntryKind, Withdrawal, outside_account, shortfall
from agentnexus.escrow.ports import Treasury
from agentnexus.escrow.store import EscrowStore
from agentnexus.ledger.door import Door
from agentnexus.platform.logs import log

PAID = frozenset({PaymentState.CONFIRMED, PaymentState.RELEASED})
GRACE = timedelta(seconds=30)
BATCH = 100


class Withdrawals:
    """Repeatable by id; what a crash left open is finished by `finish_open`."""

    def __init__(self, store: EscrowStore, books: Door, treasury: Treasury, clock: Clock) -> None:
        self._store = store
        self._books = books
        self._treasury = treasury
        self._clock = clock

    async def send(self, row_id: str, account: Account, amount: Money) -> str:
        """Send `amount` to the account's wallet; the transaction's signature.

        Raises `InsufficientFunds`, `PaymentFailed` (the money is available again), `PaymentUnknown`, `Conflict`.
        """
        request = PaymentRequest(
            rail=self._treasury.rail.name,
            amount=amount,
            payee=account.wallet,
            mode=PayMode.PAY,
            reference={},
            binding=f"escrow-withdrawal:{row_id}",
        )
        row = await self._store.begin_withdrawal(row_id, account.user_id, request, self._clock.now())
        if (row.user_id, row.request) != (account.user_id, request):
            raise Conflict("this key was used for another withdrawal", next_step="use one key per withdrawal")
        if row.finished_at is None:
            row = await self._go_on(row, account.ledger)
        return self._answer(row)

    async def finish_open(self) -> int:
        """Bring to an end what a crash or an outage left open. How many ended."""
        ended = 0
        for row in await self._store.unfinished_withdrawals(self._clock.now() - GRACE, BATCH):
            try:
                done = await self._go_on(row, f"escrow:{row.user_id}")
            except NexusError as error:
                log.warning("escrow.withdrawal_open", withdrawal=row.id, error=error.message)
            else:
                ended += done.finished_at is not None
        return ended

    async def _go_on(self, row: Withdrawal, account: str) -> Withdrawal:
        """Every step may be repeated: the ledger's key and the rail's key are the row's id."""
        amount = row.request.amount
        if row.state == "reserved":
            try:
                await self._books.reserve(
                    f"escrow-withdrawal:{row.id}",
                    budget_id=None,
                    payer_account=account,
                    payee_account=outside_account(amount.asset.network),
                    amount=amount,
                    rail=row.request.rail,
                    correlation=row.id,
                )
            except InsufficientFunds as error:
                await self._end(row, PaymentState.FAILED, None, error.message)
                available = (await self._books.balance(account, amount.asset)).available
                raise shortfall(available, amount) from error
            await self._store.move_withdrawal(row.id, "sent")
        return await self._conclude(row, await self._payment(row))

    async def _payment(self, row: Withdrawal) -> Payment:
        """Sent now or before: the rail sends one key once and looks it up afterwards."""
        try:
            return await self._treasury.rail.send(row.request, row.id)
        except PaymentFailed as error:
            return Payment(id=row.id, request=row.request, state=PaymentState.FAILED, evidence={"why": error.message})
        except (NexusError, OSError) as error:
            await self._store.move_withdrawal(row.id, "unknown", reason=str(error)[:300])
            raise PaymentUnknown(
                f"the withdrawal of {row.request.amount} was sent and is not confirmed: {error}",
                next_step="wait: it is looked up by itself and never sent twice",
                withdrawal=row.id,
            ) from error

    async def _conclude(self, row: Withdrawal, payment: Payment) -> Withdrawal:
        if payment.state in PAID:
            await self._books.capture(f"escrow-withdrawal:{row.id}")
            return await self._end(row, payment.state, payment, "")
        if payment.state is PaymentState.FAILED:
            reason = str(payment.evidence.get("why", "the network refused it"))[:300]
            await self._books.void(f"escrow-withdrawal:{row.id}", reason)
            return await self._end(row, payment.state, payment, reason)
        await self._store.move_withdrawal(row.id, "unknown", payment)
        return row

    async def _end(self, row: Withdrawal, state: PaymentState, payment: Payment | None, reason: str) -> Withdrawal:
        now = self._clock.now()
        if state in PAID and payment is not None:
            signature = str(payment.evidence.get("transaction", ""))
            entry = Entry(EntryKind.WITHDRAWAL, -row.request.amount, signature, row.id, now)
            await self._store.note(f"withdrawal:{row.id}", row.user_id, entry)
        await self._store.move_withdrawal(
            row.id, "confirmed" if state in PAID else "failed", payment, reason, ended=now
        )
        return await self._store.withdrawal(row.id) or row

    @staticmethod
    def _answer(row: Withdrawal) -> str:
        if row.state == "confirmed" and row.payment is not None:
            return str(row.payment.evidence.get("transaction", ""))
        if row.state == "failed":
            raise PaymentFailed(
                f"the withdrawal did not go through: {row.reason}",
                next_step="the money is available again; withdraw anew with a new key",
            )
        raise PaymentUnknown(
            "the withdrawal was sent and is not confirmed yet",
            next_step="repeat the same call: it is looked up, never sent twice",
            withdrawal=row.id,
        )
