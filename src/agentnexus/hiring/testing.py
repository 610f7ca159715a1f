"""Supported fakes: a market whose sellers follow a script, and a rail on a network that is a table in memory.

They keep the contracts of `core.ports` (idempotent holds, replayed answers, decisive cancels), so a hire over them goes
through every step of a real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from agentnexus.core.errors import PaymentFailed, PaymentUnknown, SellerFailed, Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.core.offers import Job, Need, Offer, Quote, RefundRule
from agentnexus.core.payments import Hold, Payment, PaymentRequest, PaymentState, PayMode
from agentnexus.core.ports import Clock, Purse
from agentnexus.core.updates import Log, Progress, Result, Update

HOLD_SECONDS = 300


class Network(Protocol):
    """Where payments really happen: one state per key, moved by compare and set."""

    async def state(self, key: str) -> str | None: ...

    async def move(self, key: str, before: str | None, after: str) -> bool:
        """False when the state was not `before`."""


class MemoryNetwork:
    """A network in this process. ``authorized → collected | cancelled``, once."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}

    async def state(self, key: str) -> str | None:
        return self.states.get(key)

    async def move(self, key: str, before: str | None, after: str) -> bool:
        if self.states.get(key) != before:
            return False
        self.states[key] = after
        return True


class ScriptedRail:
    """Implements `Rail` and `Holding` on a `Network`. `down` makes the network unreachable."""

    def __init__(self, network: Network, clock: Clock, name: str = "scripted") -> None:
        self.name = name
        self.network = network
        self.down = False
        self.lose_answers = False
        self._clock = clock

    async def balance(self, asset: Asset) -> Money:
        return Money(asset, 10**18)

    async def fee(self, request: PaymentRequest) -> Money:
        return request.amount.asset.zero()

    async def send(self, request: PaymentRequest, key: str) -> Payment:
        self._reach()
        await self.network.move(key, None, "collected")
        if self.lose_answers:
            raise TimeoutError("no answer from the network")
        return await self._payment(request, key)

    async def open(self, request: PaymentRequest, key: str) -> Hold:
        if request.mode is PayMode.HOLD:
            self._reach()
            await self.network.move(key, None, "authorized")
        payment = Payment(
            id=key, request=request, state=PaymentState.HELD, evidence={"payload": {"nonce": key}, "nonce": key}
        )
        return Hold(payment=payment, deadline=self._clock.now() + timedelta(seconds=HOLD_SECONDS))

    async def settle(self, hold: Hold, proof: dict[str, object]) -> Payment:
        self._reach()
        if hold.payment.request.mode is PayMode.HOLD:
            await self.network.move(hold.id, "authorized", "collected")
        return await self.lookup(hold.payment)

    async def cancel(self, hold: Hold) -> Payment:
        self._reach()
        if not await self.network.move(hold.id, None, "cancelled"):
            await self.network.move(hold.id, "authorized", "cancelled")
        return await self.lookup(hold.payment)

    async def lookup(self, payment: Payment) -> Payment:
        self._reach()
        return await self._payment(payment.request, payment.id)

    async def _payment(self, request: PaymentRequest, key: str) -> Payment:
        seen = await self.network.state(key)
        evidence: dict[str, object] = {"payload": {"nonce": key}, "nonce": key}
        match seen:
            case "collected":
                evidence["transaction"] = f"tx:{key}"
                return Payment(id=key, request=request, state=PaymentState.CONFIRMED, evidence=evidence)
            case "cancelled":
                evidence["cancel_transaction"] = f"cancel:{key}"
                return Payment(id=key, request=request, state=PaymentState.REFUNDED, evidence=evidence)
            case _ if request.mode is PayMode.PAY:
                return Payment(id=key, request=request, state=PaymentState.FAILED, evidence={})
            case _:
                return Payment(id=key, request=request, state=PaymentState.HELD, evidence=evidence)

    def _reach(self) -> None:
        if self.down:
            raise Unavailable("the network is down", next_step="wait for it")


Output = Callable[[Mapping[str, object]], object]


@dataclass(slots=True)
class Script:
    """What a seller does when hired.

    Args:
        output: from the input; raise to fail before anything is collected.
        collects: whether it takes the money before it answers.
        loses_answers: how many answers get lost after the money was taken (the market sees no answer).
        breaks_off: how many times it fails right after it took the money, as a server does that is killed and is not
            back yet.
        asks: another amount than its price, to test limits.
        crashes: raise something that no protocol knows.
    """

    output: Output = field(default=lambda given: {"echo": dict(given)})
    mode: PayMode = PayMode.AUTHORIZE
    collects: bool = True
    loses_answers: int = 0
    breaks_off: int = 0
    asks: Money | None = None
    crashes: bool = False
    refuses_payment: bool = False


class Delivery(Protocol):
    """The sellers' memory: answers by payment key, so that a repeated request is answered again without new work."""

    async def answer(self, key: str, make: Callable[[], object]) -> object: ...


class MemoryDelivery:
    """Answers in this process; `runs` counts the work that was really done."""

    def __init__(self) -> None:
        self.answers: dict[str, object] = {}
        self.runs = 0

    async def answer(self, key: str, make: Callable[[], object]) -> object:
        if key not in self.answers:
            self.answers[key] = make()
            self.runs += 1
        return self.answers[key]


class ScriptedMarket:
    """Implements `Market`: offers from a list, sellers by script; as in x402, the payment goes with the request."""

    def __init__(
        self,
        name: str,
        offers: Sequence[Offer],
        *,
        rail: ScriptedRail,
        clock: Clock,
        scripts: Mapping[str, Script] | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        self.name = name
        self.offers = list(offers)
        self.scripts = dict(scripts or {})
        self.delivery = delivery or MemoryDelivery()
        self.asked: list[str] = []
        self.discoveries = 0
        self.broken: Exception | None = None
        self._rail = rail
        self._clock = clock

    async def discover(self, need: Need) -> AsyncIterator[Offer]:
        self.discoveries += 1
        if self.broken is not None:
            raise self.broken
        for offer in self.offers:
            if need.capability in (None, offer.capability.name):
                yield offer

    async def quote(self, offer: Offer, job: Job) -> Quote:
        return Quote(
            offer_id=offer.id,
            job_id=job.id,
            maximum=offer.price.maximum,
            valid_until=self._clock.now() + timedelta(seconds=HOLD_SECONDS),
            refund_rule=RefundRule.NOT_SETTLED_ON_FAILURE,
        )

    async def buy(self, offer: Offer, job: Job, purse: Purse) -> AsyncIterator[Update]:
        script = self.scripts.get(offer.seller.key, Script())
        self.asked.append(offer.seller.key)
        yield Progress(0.0, "asked")
        if script.crashes:
            raise KeyError("a field the seller left out")
        if offer.price.maximum.atomic == 0 and script.asks is None:
            yield Result(await self.delivery.answer(job.key, lambda: script.output(job.need.input)))
            return
        request = PaymentRequest(
            rail=self._rail.name,
            amount=offer.price.per_job if script.asks is None else script.asks,
            payee=offer.seller.key,
            mode=script.mode,
            reference={"scheme": "scripted"},
            binding=f"scripted:{offer.endpoint}:{job.key}",
        )
        if script.mode is PayMode.PAY:
            payment = await purse.pay(request)
            yield Result(await self.delivery.answer(payment.id, lambda: script.output(job.need.input)), (payment,))
            return
        hold = await purse.hold(request)
        output = await self._deliver(script, job, hold, purse)
        yield Log("answered")
        if script.mode is PayMode.AUTHORIZE and script.collects:
            payment = await purse.release(hold, {"transaction": f"tx:{hold.id}"})
        else:
            payment = hold.payment
        yield Result(output, (payment,))

    async def _deliver(self, script: Script, job: Job, hold: Hold, purse: Purse) -> object:
        """The seller's side: works, collects, answers; the same payment again gets the same answer again."""
        if script.refuses_payment:
            await purse.refund(hold, "the seller refused the payment")
            raise PaymentFailed("the seller refused the payment", next_step="choose another seller")
        try:
            output = await self.delivery.answer(hold.id, lambda: script.output(job.need.input))
        except SellerFailed:
            await purse.refund(hold, "the seller failed")
            raise
        if script.mode is PayMode.AUTHORIZE and script.collects:
            await self._rail.network.move(hold.id, None, "collected")
        if script.breaks_off > 0:
            script.breaks_off -= 1
            raise SellerFailed("the seller does not answer", next_step="choose another seller")
        if script.loses_answers > 0:
            script.loses_answers -= 1
            raise PaymentUnknown("no answer after the payment went out", next_step="look it up")
        return output
