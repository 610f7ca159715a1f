"""Receipts: made and signed here, checked anywhere: `verify_receipt` needs no network and no trust in us."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from pydantic import ValidationError

from agentnexus.core.canonical import Json, canonical_json, content_hash
from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money, Parity
from agentnexus.core.offers import Need
from agentnexus.core.payments import Counted, PaymentRecord, PaymentState, Receipt, ReceiptStatus
from agentnexus.core.ports import Signer
from agentnexus.hiring.holds import PAID, HoldRow, settled_amount
from agentnexus.platform.signing import verify_ed25519_now

VERSION = 1
RECEIPT_BYTES_MAX = 4 << 20


def signed_bytes(receipt: Receipt) -> bytes:
    """What the signature covers: the canonical JSON of everything but the signature."""
    return canonical_json(receipt.model_dump(mode="json", exclude={"signature"}))


async def sign_receipt(receipt: Receipt, signer: Signer) -> Receipt:
    """The receipt with `signer` and `signature` filled in."""
    named = receipt.model_copy(update={"signer": signer.public_id, "signature": ""})
    signature = await signer.sign(signed_bytes(named))
    return named.model_copy(update={"signature": base64.b64encode(signature).decode()})


def payment_record(row: HoldRow, payer: str, parity: Parity | None = None) -> PaymentRecord:
    """One payment as a receipt shows it; with what it counted as, where budgets are kept in another asset."""
    payment = row.as_payment()
    amount = row.request.amount
    taken = settled_amount(payment) if row.paid else amount
    worth = taken if parity is None else parity.counted(taken)
    same = parity is None or worth.asset.caip19 == amount.asset.caip19
    return PaymentRecord(
        rail=row.request.rail,
        network=amount.asset.network,
        asset=amount.asset.caip19,
        amount=str(taken.atomic),
        payer=payer,
        payee=row.request.payee,
        transaction=str(payment.evidence.get("transaction") or ""),
        state=row.state,
        refund_transaction=str(payment.evidence.get("cancel_transaction") or ""),
        authorization=str(payment.evidence.get("nonce") or payment.evidence.get("signature") or ""),
        counted=None if parity is None or same else Counted(amount=worth, source=parity.source),
    )


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked: a stable name, whether it holds, and the figures."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReceiptReport:
    """What a check of a receipt found. `valid` only when every check passed."""

    receipt: Receipt | None
    checks: tuple[Check, ...]

    @property
    def valid(self) -> bool:
        return self.receipt is not None and all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

    def to_json(self) -> dict[str, object]:
        """``{valid, id, signer, checks: [{name, passed, detail}]}``."""
        return {
            "valid": self.valid,
            "id": self.receipt.id if self.receipt else None,
            "signer": self.receipt.signer if self.receipt else None,
            "checks": [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in self.checks],
        }


def verify_receipt(
    receipt_json: str | bytes | Mapping[str, object],
    *,
    signers: Collection[str] | None = None,
    need: Need | None = None,
    output: Json = None,
) -> ReceiptReport:
    """Check a receipt offline: form, signature, and that its parts agree with each other.

    Args:
        signers: public ids to accept; `None` accepts any (the signature then proves only that nothing was changed).
        need, output: when given, their hashes must be those in the receipt, and the price within the need's limit.
    """
    try:
        receipt = _parse(receipt_json)
    except InvalidInput as error:
        return ReceiptReport(None, (Check("form", passed=False, detail=error.message),))
    checks = [Check("form", passed=True), *_signature_checks(receipt, signers), *_consistency_checks(receipt)]
    if need is not None:
        checks += _need_checks(receipt, need)
    if output is not None:
        checks.append(_same("result_hash", content_hash(output), receipt.result_hash))
    return ReceiptReport(receipt, tuple(checks))


def _parse(receipt_json: str | bytes | Mapping[str, object]) -> Receipt:
    try:
        if isinstance(receipt_json, str | bytes):
            if len(receipt_json) > RECEIPT_BYTES_MAX:
                raise InvalidInput(f"a receipt has at most {RECEIPT_BYTES_MAX} bytes")
            return Receipt.model_validate_json(receipt_json)
        return Receipt.model_validate(receipt_json)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(f"not a receipt: {where or 'the whole'}: {first['msg']}") from error


def _signature_checks(receipt: Receipt, signers: Collection[str] | None) -> Iterator[Check]:
    yield Check("version", receipt.version == VERSION, f"version {receipt.version}")
    try:
        signature = base64.b64decode(receipt.signature, validate=True)
        good = verify_ed25519_now(receipt.signer, signed_bytes(receipt), signature)
    except (binascii.Error, ValueError, InvalidInput) as error:
        yield Check("signature", passed=False, detail=str(error))
    else:
        yield Check("signature", good, f"by {receipt.signer}" if good else "the receipt was changed after signing")
    if signers is not None:
        yield Check("signer", receipt.signer in signers, receipt.signer)


def _consistency_checks(receipt: Receipt) -> Iterator[Check]:
    yield Check("times", receipt.started_at <= receipt.finished_at, "started before it finished")
    yield from _quote_checks(receipt)
    yield from _status_checks(receipt)
    for number, payment in enumerate(receipt.payments):
        yield from _payment_checks(number, payment)


def _quote_checks(receipt: Receipt) -> Iterator[Check]:
    quote = receipt.quote
    if quote is None:
        yield Check("quote", not receipt.payments, "payments need a quote")
        return
    yield _same("quote.offer", quote.offer_id, receipt.offer.id)
    yield _same("quote.job", quote.job_id, receipt.job_id)
    try:
        spent = sum(_atomic(payment) for payment in receipt.payments if payment.state in PAID)
    except ValueError:
        yield Check("payments.total", passed=False, detail="an amount is not a number")
        return
    maximum = quote.maximum
    yield Check(
        "payments.total", spent <= maximum.atomic, f"{Money(maximum.asset, spent)} paid, {maximum} was the most agreed"
    )
    assets = {payment.asset for payment in receipt.payments}
    yield Check("payments.asset", assets <= {maximum.asset.caip19}, f"quoted in {maximum.asset.caip19}")


def _status_checks(receipt: Receipt) -> Iterator[Check]:
    states = [payment.state for payment in receipt.payments]
    yield Check("payments.final", all(state.final for state in states), "every payment has ended")
    match receipt.status:
        case ReceiptStatus.SETTLED:
            yield Check("status", bool(receipt.result_hash) and receipt.error is None, "settled: a result, no error")
        case ReceiptStatus.REFUNDED:
            paid = [state for state in states if state in PAID]
            back = PaymentState.REFUNDED in states
            yield Check("status", back and not paid and receipt.error is not None, "refunded: nothing stays paid")
        case ReceiptStatus.FAILED:
            yield Check("status", receipt.error is not None, "failed: with the reason")


def _payment_checks(number: int, payment: PaymentRecord) -> Iterator[Check]:
    name = f"payments.{number}"
    try:
        yield Check(f"{name}.amount", _atomic(payment) > 0, f"{payment.amount} units of {payment.asset}")
    except ValueError:
        yield Check(f"{name}.amount", passed=False, detail=f"not a number: {payment.amount[:80]!r}")
    yield Check(f"{name}.network", payment.asset.startswith(payment.network + "/"), payment.network)
    yield Check(f"{name}.parties", bool(payment.payer and payment.payee), f"{payment.payer} to {payment.payee}")
    if payment.counted is not None:
        counted = payment.counted
        yield Check(f"{name}.counted", str(counted.amount.atomic) == payment.amount, f"as {counted.amount}")
    if payment.state in PAID:
        yield Check(f"{name}.transaction", bool(payment.transaction), "a paid payment names its transaction")
        yield Check(f"{name}.refund", not payment.refund_transaction, "a paid payment was not refunded")


def _need_checks(receipt: Receipt, need: Need) -> list[Check]:
    checks = [_same("need_hash", need.hash(), receipt.need_hash)]
    limit = need.constraints.max_price
    if limit is not None and receipt.quote is not None and receipt.quote.maximum.asset.caip19 == limit.asset.caip19:
        maximum = receipt.quote.maximum
        checks.append(Check("max_price", maximum <= limit, f"{maximum} agreed, {limit} allowed"))
    return checks


def _atomic(payment: PaymentRecord) -> int:
    if not (payment.amount.isascii() and payment.amount.isdigit() and len(payment.amount) <= 78):
        raise ValueError(payment.amount)
    return int(payment.amount)


def _same(name: str, found: str, expected: str) -> Check:
    return Check(name, found == expected, found if found == expected else f"{found}, expected {expected}")


@dataclass(frozen=True, slots=True)
class TransactionFact:
    """What a network says about a transaction: payer, payee and atomic units moved, whether it succeeded.

    `authorized`: it is by what the receipt says was signed. A receipt from before that was kept names nothing: then
    any payment with these parties and this amount is taken for it.
    """

    succeeded: bool
    payer: str
    payee: str
    amount: int
    authorized: bool = True


Lookup = Callable[[PaymentRecord], Awaitable[TransactionFact | None]]
Cancelled = Callable[[PaymentRecord], Awaitable[bool | None]]
"""Whether the refund transaction took back the payment's authorisation (any of the payer's where none is named).

None when the transaction is not known there.
"""


async def verify_transactions(
    report: ReceiptReport, lookup: Lookup, cancelled: Cancelled | None = None
) -> ReceiptReport:
    """Add what the networks say: every paid payment must be found there with these parties and this amount.

    Args:
        cancelled: looks up how payments were taken back; without it only what was paid is checked.
    """
    if report.receipt is None:
        return report
    checks = list(report.checks)
    for number, payment in enumerate(report.receipt.payments):
        name = f"payments.{number}"
        if payment.state in PAID:
            checks.append(_online(f"{name}.on_network", payment, await lookup(payment)))
        elif payment.refund_transaction and cancelled is not None:
            checks.append(_taken_back(f"{name}.refund_on_network", payment, await cancelled(payment)))
    return replace(report, checks=tuple(checks))


def _taken_back(name: str, payment: PaymentRecord, cancelled: bool | None) -> Check:
    transaction = payment.refund_transaction
    if cancelled is None:
        return Check(name, passed=False, detail=f"{payment.network} does not know {transaction}")
    said = f"{transaction} cancelled" if cancelled else f"{transaction} did not cancel"
    return Check(name, cancelled, f"{said} a payment of {payment.payer}")


def _online(name: str, payment: PaymentRecord, fact: TransactionFact | None) -> Check:
    if fact is None:
        return Check(name, passed=False, detail=f"{payment.network} does not know {payment.transaction}")
    said = f"{fact.amount} units from {fact.payer} to {fact.payee}"
    if not fact.succeeded:
        return Check(name, passed=False, detail=f"{payment.transaction} did not succeed")
    if not fact.authorized:
        detail = f"{payment.transaction} is another payment, not the one that was authorised by {payment.authorization}"
        return Check(name, passed=False, detail=detail)
    matches = (fact.payer.lower(), fact.payee.lower(), str(fact.amount)) == (
        payment.payer.lower(),
        payment.payee.lower(),
        payment.amount,
    )
    return Check(name, matches, said)
