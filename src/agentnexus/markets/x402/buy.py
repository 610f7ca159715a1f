"""Buy from any x402 server: ask, check the terms, hold the money, send one payment, and resend only that one.

A call is identified by its `key`. Whatever happens in between (timeouts, crashes, repeats), the same key sends the very
same payload, because the purse gives the same hold for it and everything in the payload comes from that hold.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
from x402.schemas import PaymentRequired, SettleResponse

from agentnexus.core.canonical import idempotency_key
from agentnexus.core.errors import InvalidInput, LimitExceeded, PaymentFailed, PaymentUnknown, SellerFailed
from agentnexus.core.money import Money
from agentnexus.core.payments import Hold, Payment, PaymentRequest, PaymentState, PayMode
from agentnexus.core.ports import Clock, Purse
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.kinds import rail_of
from agentnexus.markets.x402.networks import v1_name
from agentnexus.markets.x402.policy import PaymentPolicy, Terms
from agentnexus.markets.x402.wire import (
    MAX_HEADER_BYTES,
    PAYMENT_IDENTIFIER,
    PAYMENT_REQUIRED,
    PAYMENT_RESPONSE,
    PAYMENT_SIGNATURE,
    X_PAYMENT,
    X_PAYMENT_RESPONSE,
    AnyRequired,
    WireError,
    encode_header,
    read_required,
    read_settlement,
    to_json,
)

# The seller says it does not know yet: the same payment is sent again, nothing is signed anew.
UNDECIDED = frozenset({str(Reason.SETTLEMENT_PENDING), str(Reason.UNEXPECTED_SETTLE)})
BUSY_STATUS = frozenset({425, 429, 503})  # resent when the seller says when; other errors are its last word
FIRST_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class BuyLimits:
    """Times in seconds: one HTTP try, all tries together, the longest pause between them; `answer_bytes` at most.

    The tries of a paid call outlast a seller's restart (30 s); a seller that is dead from the start is never paid.
    """

    try_timeout: float = 120.0
    total: float = 180.0
    pause: float = 2.0
    tries: int = 20
    confirmations: int = 20
    answer_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """One logical request. `key` makes it repeatable; `payees` are the addresses that the offer named (empty: any)."""

    method: str
    url: str
    key: str
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    payees: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def settlement(self) -> SettleResponse | None:
        """The settlement the seller states; None when it states none."""
        names = (PAYMENT_RESPONSE.lower(), X_PAYMENT_RESPONSE.lower())
        try:
            return read_settlement(*(self.headers.get(name) for name in names))
        except WireError:
            return None

    @property
    def reason(self) -> str:
        """Why the seller refused, in the protocol's words as far as it gives any."""
        settlement = self.settlement
        if settlement is not None and settlement.error_reason:
            return settlement.error_reason
        try:
            return self.required.error or f"HTTP {self.status}"
        except WireError:
            return f"HTTP {self.status}"

    @property
    def undecided(self) -> bool:
        """Whether the seller asks for the same payment again instead of saying yes or no."""
        busy = self.status in BUSY_STATUS and "retry-after" in self.headers
        return busy or self.status == 202 or (self.status == 402 and self.reason in UNDECIDED)

    def retry_after(self, otherwise: float) -> float:
        """Seconds the seller wants us to wait."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() else otherwise

    @property
    def required(self) -> AnyRequired:
        """The terms in a 402; raises `WireError`."""
        return read_required(self.headers.get(PAYMENT_REQUIRED.lower()), self.body)


@dataclass(frozen=True, slots=True)
class Bought:
    """An answer and its payment; no payment when the seller asked for none."""

    answer: Answer
    payment: Payment | None = None


class X402Client:
    """Pays x402 v2 and v1 servers. Share one per process.

    Args:
        http: its cookies and default headers go to every seller, so give it none; redirects are not followed.
        policy: what is never signed.
    """

    def __init__(
        self, http: httpx.AsyncClient, policy: PaymentPolicy, clock: Clock, limits: BuyLimits | None = None
    ) -> None:
        self._http = http
        self._policy = policy
        self._clock = clock
        self._limits = limits or BuyLimits()

    async def ask(self, call: Call, maximum: Money) -> Terms | Answer:
        """Ask without paying: the terms, or the answer when it is free. Raises `NotAllowed`, `SellerFailed`."""
        answer = await self._first(call)
        return answer if answer.status != 402 else self._terms(answer, call, maximum)[0]

    async def buy(self, call: Call, purse: Purse, maximum: Money) -> Bought:
        """Do the call, paying at most `maximum`, once.

        Raises:
            NotAllowed, TermsRefused: nothing was signed.
            PaymentFailed: the seller refused the payment; it is cancelled.
            SellerFailed: no result; the payment is cancelled.
            PaymentUnknown: the money may have moved and no result came; repeat with the same key.
        """
        answer = await self._first(call)
        if answer.status != 402:
            if answer.status >= 300:
                raise self._failed(call, answer)
            return Bought(answer)
        terms, reference = self._terms(answer, call, maximum)
        hold = await purse.hold(
            PaymentRequest(
                rail=rail_of(terms.requirement.network),
                amount=terms.price,
                payee=terms.requirement.pay_to,
                mode=PayMode.AUTHORIZE,
                reference=reference,
                binding=f"x402:{call.url}:{call.key}",
                expires_at=self._clock.now() + timedelta(seconds=terms.requirement.max_timeout_seconds),
            )
        )
        try:
            paid = await self._send(call, payment_header(hold))
        except (httpx.TransportError, LimitExceeded) as error:
            raise await self._no_answer(purse, hold, type(error).__name__) from error
        return await self._judge(call, purse, hold, paid)

    async def _first(self, call: Call) -> Answer:
        self._policy.check_url(call.url)
        try:
            return await self._try(call, {})
        except httpx.TransportError as error:
            raise SellerFailed(
                f"{call.url} does not answer: {type(error).__name__}", next_step="try another seller"
            ) from error

    def _terms(self, answer: Answer, call: Call, maximum: Money) -> tuple[Terms, dict[str, object]]:
        """The terms to pay, and everything the payload will be made of."""
        try:
            required = answer.required
        except WireError as error:
            raise SellerFailed(f"{call.url} sent a 402 that is not x402: {error.message}") from error
        terms = self._policy.choose(required, maximum, call.payees)
        envelope: dict[str, object] = {"x402Version": terms.version}
        if isinstance(required, PaymentRequired):
            if required.resource is not None:
                envelope["resource"] = to_json(required.resource)
            extensions = _echo(required.extensions or {}, call.key)
            if extensions:
                envelope["extensions"] = extensions
        return terms, {**to_json(terms.requirement), "envelope": envelope}

    async def _send(self, call: Call, header: Mapping[str, str]) -> Answer:
        """Send the paid request until it is decided or time is up; always the same payment."""
        until = self._clock.monotonic() + self._limits.total
        pause = FIRST_PAUSE_SECONDS
        for tries_left in range(self._limits.tries - 1, -1, -1):
            last = not tries_left or self._clock.monotonic() >= until
            try:
                answer = await self._try(call, header)
            except httpx.TransportError:
                if last:
                    raise
            else:
                if last or not answer.undecided:
                    return answer
                pause = answer.retry_after(pause)
            await asyncio.sleep(min(pause, self._limits.pause))
            pause *= 2
        raise AssertionError("the last try returns or raises")

    async def _try(self, call: Call, header: Mapping[str, str]) -> Answer:
        async with self._http.stream(
            call.method,
            call.url,
            content=call.content or None,
            headers={**call.headers, **header},
            follow_redirects=False,
            timeout=self._limits.try_timeout,
        ) as response:
            parts: list[bytes] = []
            size = 0
            async for part in response.aiter_bytes():
                size += len(part)
                if size > self._limits.answer_bytes:
                    raise LimitExceeded(
                        f"{call.url} answers more than {self._limits.answer_bytes} bytes", limit="answer_bytes"
                    )
                parts.append(part)
            return Answer(response.status_code, dict(response.headers), b"".join(parts))

    async def _judge(self, call: Call, purse: Purse, hold: Hold, answer: Answer) -> Bought:
        settlement = answer.settlement
        if answer.status == 202 or (answer.status == 402 and answer.reason in UNDECIDED):
            raise PaymentUnknown(
                f"{call.url} has not confirmed the payment yet: {answer.reason}",
                next_step="repeat the same call later; the same payment is sent again",
                hold=hold.id,
            )
        if 200 <= answer.status < 300:
            return Bought(answer, await self._delivered(purse, hold, settlement))
        payment = await purse.refund(hold, answer.reason)
        if payment.state is PaymentState.CONFIRMED:
            raise PaymentUnknown(
                f"{call.url} took the payment and refused the work: {answer.reason}",
                next_step="repeat the same call: a paid call is answered without paying again",
                hold=hold.id,
                payment=payment.id,
            )
        if answer.status == 402:
            raise PaymentFailed(
                f"{call.url} refused the payment: {answer.reason}",
                next_step="check the balance and the terms; the payment was cancelled",
                reason=answer.reason,
            )
        raise self._failed(call, answer)

    async def _delivered(self, purse: Purse, hold: Hold, settlement: SettleResponse | None) -> Payment:
        """Check the seller's proof; its node may be ahead of ours, so an unknown is asked again a few times."""
        proof: dict[str, object] = {"transaction": settlement.transaction if settlement else ""}
        for tries_left in range(self._limits.confirmations - 1, -1, -1):
            try:
                payment = await purse.release(hold, proof)
            except PaymentUnknown:
                payment = hold.payment.model_copy(update={"state": PaymentState.UNKNOWN})
            if payment.state is not PaymentState.UNKNOWN or not tries_left:
                return payment
            await asyncio.sleep(min(0.25, self._limits.pause))
        return hold.payment

    async def _no_answer(self, purse: Purse, hold: Hold, why: str) -> Exception:
        """The paid request got no answer at all: look, then make sure that nothing can be collected."""
        payment = await purse.lookup(hold.payment)
        if payment.state is not PaymentState.CONFIRMED:
            payment = await purse.refund(hold, f"no answer: {why}")
        if payment.state is PaymentState.REFUNDED:
            return SellerFailed(f"the seller gave no answer ({why}); the payment was cancelled")
        return PaymentUnknown(
            f"the seller gave no answer ({why}) and the payment is {payment.state}",
            next_step="repeat the same call: the same payment is sent again and a paid call is answered from store",
            hold=hold.id,
        )

    @staticmethod
    def _failed(call: Call, answer: Answer) -> SellerFailed:
        return SellerFailed(
            f"{call.url} answered {answer.status}",
            next_step="read details.answer; try another seller",
            status=answer.status,
            answer=answer.body[:500].decode(errors="replace"),
            retry_after_seconds=answer.retry_after(1.0) if answer.status in BUSY_STATUS else None,
        )


def _echo(extensions: Mapping[str, object], key: str) -> dict[str, object]:
    """The server's extensions as a client returns them, with our payment identifier where one is offered."""
    echoed = dict(extensions)
    offered = echoed.get(PAYMENT_IDENTIFIER)
    info = offered.get("info") if isinstance(offered, Mapping) else None
    if isinstance(offered, Mapping) and isinstance(info, Mapping):
        echoed[PAYMENT_IDENTIFIER] = {**offered, "info": {**info, "id": idempotency_key("x402", key)}}
    if len(json.dumps(echoed)) <= MAX_HEADER_BYTES // 2:
        return echoed
    return {name: value for name, value in echoed.items() if name == PAYMENT_IDENTIFIER}


def payment_header(hold: Hold) -> dict[str, str]:
    """The payment header for a hold: made of what the hold keeps, so that it is the same at every repeat."""
    evidence = hold.payment.evidence.get("payload")
    reference = dict(hold.payment.request.reference)
    envelope = reference.pop("envelope", None)
    if not isinstance(evidence, Mapping) or not isinstance(envelope, Mapping):
        raise InvalidInput(
            "this hold has no signed x402 payload", next_step="use a rail that authorises", field="evidence.payload"
        )
    if "x402Version" in evidence:  # the rail made the whole envelope
        name = X_PAYMENT if evidence["x402Version"] == 1 else PAYMENT_SIGNATURE
        return {name: encode_header(evidence)}
    if envelope["x402Version"] == 1:
        v1 = {"scheme": reference["scheme"], "network": v1_name(str(reference["network"])), "payload": evidence}
        return {X_PAYMENT: encode_header({"x402Version": 1, **v1})}
    return {PAYMENT_SIGNATURE: encode_header({**envelope, "accepted": reference, "payload": evidence})}
