"""What is written down of an attempt that has ended: its signed receipt, and its outcome for the seller's record."""

from __future__ import annotations

from collections.abc import Sequence

from agentnexus.core.errors import NexusError
from agentnexus.core.money import Parity
from agentnexus.core.payments import PaymentRecord, Receipt, ReceiptStatus
from agentnexus.core.ports import Clock, Signer
from agentnexus.hiring.attempt import Delivered, NotDelivered
from agentnexus.hiring.cashier import Cashier
from agentnexus.hiring.failures import error_text
from agentnexus.hiring.holds import HoldRow
from agentnexus.hiring.jobs import Attempt, Ending
from agentnexus.hiring.receipts import payment_record, sign_receipt
from agentnexus.hiring.statistics import Outcome
from agentnexus.platform.telemetry import hires_total, payments_total


class Paperwork:
    """Writes receipts, signed by `signer`; where budgets count other assets one for one (`parity`), they say so."""

    def __init__(self, cashier: Cashier, signer: Signer, clock: Clock, parity: Parity | None) -> None:
        self._cashier = cashier
        self._signer = signer
        self._clock = clock
        self._parity = parity

    def record(self, row: HoldRow) -> PaymentRecord:
        """A payment as receipts show it."""
        return payment_record(row, self._cashier.wallet(row.request.rail).address, self._parity)

    async def failed(self, attempt: Attempt, need_hash: str, result: NotDelivered, outcome: Outcome | None) -> Ending:
        """How an attempt that brought nothing ends; `outcome` is None where its seller is not to blame."""
        status = ReceiptStatus.REFUNDED if result.refunded else ReceiptStatus.FAILED
        receipt = await self.receipt(attempt, need_hash, status, result.payments, error=result.error)
        state = "interrupted" if result.interrupted else str(status)
        return Ending(state, receipt, receipt.finished_at, error_text(result.error), outcome=outcome)

    async def receipt(
        self,
        attempt: Attempt,
        need_hash: str,
        status: ReceiptStatus,
        payments: Sequence[HoldRow],
        *,
        result: Delivered | None = None,
        error: NexusError | None = None,
    ) -> Receipt:
        """Signed, with every payment that was made; counted in the metrics."""
        records = tuple(self.record(row) for row in payments if row.payment)
        hires_total.labels(attempt.offer.market, str(status)).inc()
        for record in records:
            payments_total.labels(record.rail, record.asset, str(record.state)).inc()
        receipt = Receipt(
            id="rct_" + attempt.job_id.removeprefix("job_"),
            job_id=attempt.job_id,
            need_hash=need_hash,
            offer=attempt.offer,
            quote=attempt.quote,
            status=status,
            payments=records,
            result_hash="" if result is None else result.hash,
            attestation=attempt.offer.attestation,
            started_at=attempt.started_at,
            finished_at=max(self._clock.now(), attempt.started_at),
            error=None if error is None else {"code": str(error.code), "message": error.message},
        )
        return await sign_receipt(receipt, self._signer)

    def outcome(self, user_id: str, attempt: Attempt, result: Delivered | NotDelivered, seconds: float) -> Outcome:
        """For the seller's record; hiring oneself is marked as such."""
        offer = attempt.offer
        ours = {wallet.address.lower() for wallet in self._cashier.wallets.values()}
        theirs = {value.lower() for value in offer.seller.ids.values()}
        delivered = isinstance(result, Delivered)
        return Outcome(
            seller=offer.seller.key,
            market=offer.market,
            capability=offer.capability.name,
            buyer=user_id,
            self_dealing=bool(ours & theirs) or user_id == offer.seller.key,
            succeeded=delivered,
            schema_valid=True if delivered else getattr(result, "schema_valid", None),
            duration_seconds=max(0.0, seconds),
            promised_seconds=None if offer.latency_ms is None else offer.latency_ms / 1000,
        )
