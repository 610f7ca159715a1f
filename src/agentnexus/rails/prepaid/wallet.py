"""The prepaid rail: pays and holds by transfers between internal accounts, at no cost and without waiting."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import InsufficientFunds, InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Hold, Payment, PaymentRequest, PaymentState, PayMode
from agentnexus.core.ports import Clock
from agentnexus.rails.prepaid.posting import Posting

_HOLD_SECONDS = 3600


class PrepaidRail:
    """Rail and Holding for one internal account.

    A hold is an account of its own that is emptied once: to the payee or back to the payer. Whoever comes second finds
    it empty, which is what makes a hold end exactly once.
    """

    name = "prepaid"

    def __init__(self, account: str, posting: Posting, *, clock: Clock | None = None) -> None:
        self.account = account
        self._posting = posting
        self._clock = clock or SystemClock()

    async def balance(self, asset: Asset) -> Money:
        return await self._posting.balance(self.account, asset)

    async def fee(self, request: PaymentRequest) -> Money:
        """Nothing."""
        return request.amount.asset.zero()

    async def send(self, request: PaymentRequest, key: str) -> Payment:
        """Move the money now, once per key. Raises `InsufficientFunds`."""
        if request.mode is not PayMode.PAY:
            raise InvalidInput(f"send pays; for {request.mode} open a hold", field="mode")
        transfer = await self._posting.post(_send(key), debit=self.account, credit=request.payee, amount=request.amount)
        return _payment(key, request, PaymentState.CONFIRMED, transaction=transfer)

    async def open(self, request: PaymentRequest, key: str) -> Hold:
        """Put the money aside, once per key. Raises `InsufficientFunds`."""
        if request.mode is PayMode.PAY:
            raise InvalidInput("a payment of mode pay is sent, not held", field="mode")
        transfer = await self._posting.post(_hold(key), debit=self.account, credit=_hold(key), amount=request.amount)
        deadline = request.expires_at or self._clock.now() + timedelta(seconds=_HOLD_SECONDS)
        return Hold(payment=_payment(key, request, PaymentState.HELD, hold_transaction=transfer), deadline=deadline)

    async def settle(self, hold: Hold, proof: dict[str, object]) -> Payment:
        """Give the held money to the payee; the house needs no proof but the caller's word."""
        request = hold.payment.request
        return await self._end(hold, _released(hold.id), credit=request.payee)

    async def cancel(self, hold: Hold) -> Payment:
        """Take the held money back, unless the payee has it."""
        return await self._end(hold, _refunded(hold.id), credit=self.account)

    async def lookup(self, payment: Payment) -> Payment:
        """What was posted; `failed` when nothing ever was."""
        key, request = payment.id, payment.request
        endings = (
            (_send(key), PaymentState.CONFIRMED, "transaction"),
            (_released(key), PaymentState.CONFIRMED, "transaction"),
            (_refunded(key), PaymentState.REFUNDED, "cancel_transaction"),
            (_hold(key), PaymentState.HELD, "hold_transaction"),
        )
        for posted_key, state, name in endings:
            transfer = await self._posting.find(posted_key)
            if transfer is not None:
                return _payment(key, request, state, **{name: transfer})
        return _payment(key, request, PaymentState.FAILED)

    async def _end(self, hold: Hold, key: str, *, credit: str) -> Payment:
        request = hold.payment.request
        now = await self.lookup(hold.payment)
        if now.state is PaymentState.HELD:
            # When it is empty by now, somebody else ended the hold since the look; the lookup below tells how.
            with suppress(InsufficientFunds):
                await self._posting.post(key, debit=_hold(hold.id), credit=credit, amount=request.amount)
        return await self.lookup(hold.payment)


def _payment(key: str, request: PaymentRequest, state: PaymentState, **evidence: object) -> Payment:
    return Payment(id=key, request=request, state=state, evidence=evidence)


def _send(key: str) -> str:
    return f"send:{key}"


def _hold(key: str) -> str:
    return f"hold:{key}"


def _released(key: str) -> str:
    return f"release:{key}"


def _refunded(key: str) -> str:
    return f"refund:{key}"
