"""How a step's life becomes events and the attributes that views are made of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from agentnexus.core.canonical import Json, JsonObject, content_hash
from agentnexus.core.errors import PaymentUnknown
from agentnexus.core.events import EventName
from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentRecord, PaymentState, Receipt
from agentnexus.core.ports import Clock
from agentnexus.core.updates import Held, Log, Progress, Update
from agentnexus.workflows.engine.port import Draft, Phase, Run, StepContext, Transition
from agentnexus.workflows.model import PlanStep, StepStatus, StepWarning, WorkflowStatus, spent

PROGRESS_SECONDS = 0.25
UNKNOWN_TRIES = 12
UNKNOWN_PAUSE_SECONDS = 0.5
UNKNOWN_PAUSE_MAX_SECONDS = 15.0
WARNINGS_MAX, WARNING_MAX = 100, 600
PAID = frozenset({PaymentState.CONFIRMED, PaymentState.RELEASED})
RETURNED = frozenset({PaymentState.REFUNDED, PaymentState.FAILED})

Told = Callable[[PaymentRecord], bool]
Answer = TypeVar("Answer")


async def known_outcome(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Repeat a call while a payment's outcome is unknown: asking again looks it up, it never pays again.

    Raises `PaymentUnknown` when nobody knows after about two minutes.
    """
    pause = UNKNOWN_PAUSE_SECONDS
    for _ in range(UNKNOWN_TRIES):
        try:
            return await call()
        except PaymentUnknown:
            await asyncio.sleep(pause)
            pause = min(pause * 2, UNKNOWN_PAUSE_MAX_SECONDS)
    return await call()


def step_attribute(status: StepStatus, **values: object) -> dict[str, object]:
    """The attribute ``step:<id>`` of a run: what `StepState` adds to the plan."""
    return {"status": status.value, **{key: value for key, value in values.items() if value is not None}}


def status_draft(name: EventName, status: WorkflowStatus, **data: object) -> Draft:
    """The event with which a workflow comes into a status; an ``error`` stays with it."""
    return Draft(name, data, {"status": status.value, **({"error": data["error"]} if "error" in data else {})})


def not_undone_draft(step: PlanStep, reason: str, paid: object, **more: object) -> Draft:
    """A step of a plan that was given up stays done: why, and what its seller has, atomic."""
    told: dict[str, object] = {"step": step.id, "reason": reason[:WARNING_MAX], "paid": paid}
    attributes: dict[str, object] = {f"not_undone:{step.id}": told}
    return Draft(EventName.STEP_PROGRESS, {**told, "not_undone": True, **more}, attributes)


def undo_name(step_id: str) -> str:
    """What the undo of a step is called in keys; no step has such a name."""
    return f"undo-{step_id}"


def money_of(receipts: Sequence[Receipt], asset_of: Money) -> JsonObject:
    """``{receipts: [{id, status, seller, market, payments}], paid: atomic}`` of some attempts."""
    return {
        "receipts": [
            {
                "id": receipt.id,
                "status": receipt.status.value,
                "seller": receipt.offer.seller.key,
                "seller_name": receipt.offer.seller.name,
                "market": receipt.offer.market,
                "payments": [payment.model_dump(mode="json") for payment in receipt.payments],
            }
            for receipt in receipts
        ],
        "paid": str(spent(receipts, asset_of).atomic),
    }


def transaction_of(found: Mapping[str, object]) -> str:
    """What settled a step, of `money_of` or a part of it; "" where nothing is known to have."""
    receipts = found.get("receipts")
    known = receipts if isinstance(receipts, list) else []
    payments = [payment for receipt in known for payment in receipt["payments"]]
    kept = [payment for payment in payments if payment["state"] == "confirmed" and payment["transaction"]]
    return str(kept[-1]["transaction"]) if kept else ""


def warnings_of(steps: Sequence[PlanStep], outputs: Mapping[str, object]) -> list[StepWarning]:
    """What agents warned of in the envelopes of their answers, in the order of the plan; so many, and so long."""
    found: list[StepWarning] = []
    for step in steps:
        output = outputs.get(step.id)
        said = output.get("warnings") if isinstance(output, Mapping) and not step.local else None
        for text in said if isinstance(said, list | tuple) else ():
            if isinstance(text, str) and text.strip():
                found.append(StepWarning(step=step.id, title=step.title, warning=text.strip()[:WARNING_MAX]))
    return found[:WARNINGS_MAX]


def given_back(found: Mapping[int, Sequence[Receipt]], asset_of: Money) -> JsonObject:
    """`money_of` all attempts of a step, with ``attempts``: what stayed with the sellers, atomic, by attempt."""
    together = money_of([receipt for some in found.values() for receipt in some], asset_of)
    return {**together, "attempts": {str(number): str(spent(some, asset_of).atomic) for number, some in found.items()}}


def held_key(payment: PaymentRecord) -> str:
    """The mark that says that a payment was told as reserved, by what nobody else's payment has; empty without it."""
    return f"held-{content_hash(payment.authorization)[7:39]}" if payment.authorization else ""


def was_told(run: Run, payment: PaymentRecord) -> bool:
    """Whether a payment's reservation is among the run's events already."""
    key = held_key(payment)
    return bool(key) and run.recorded(key) is not None


def nothing_told(_payment: PaymentRecord) -> bool:
    """Of no payment it is known yet that it was reserved."""
    return False


def payment_drafts(step: PlanStep, found: object, told: Told = nothing_told) -> list[Draft]:
    """Every payment of `money_of`: reserved, unless that was told when it was, then how it ended."""
    drafts: list[Draft] = []
    receipts = found.get("receipts") if isinstance(found, dict) else None
    for receipt in receipts if isinstance(receipts, list) else []:
        for raw in receipt["payments"]:
            payment = PaymentRecord.model_validate(raw)
            data: dict[str, object] = {"step": step.id, "receipt": receipt["id"], **raw}
            if not told(payment):
                drafts.append(Draft(EventName.PAYMENT_RESERVED, {k: v for k, v in data.items() if k != "state"}))
            if payment.state in PAID:
                drafts.append(Draft(EventName.PAYMENT_SETTLED, data))
            elif payment.state in RETURNED:
                drafts.append(Draft(EventName.PAYMENT_REFUNDED, data))
    return drafts


class Reporter:
    """Passes what a running hire says on as events, not more often than people can read."""

    def __init__(self, step: PlanStep, context: StepContext, clock: Clock, asset_of: Money, run: Run) -> None:
        self._step = step
        self._context = context
        self._clock = clock
        self._asset_of = asset_of
        self._last = float("-inf")
        self._run = run
        self._told: set[str] = set()

    def tell(self, update: Update) -> Awaitable[None] | None:
        """To be waited for where it says so: money that is set aside is told before it can go anywhere."""
        now = self._clock.monotonic()
        match update:
            case Progress(fraction=fraction, message=message) if now - self._last >= PROGRESS_SECONDS:
                self._last = now
                self._emit(fraction, message)
            case Log(message=message):
                self._emit(None, message)
            case Held(payment=payment):
                return self._held(payment)
            case _:
                pass
        return None

    async def _held(self, payment: PaymentRecord) -> None:
        """Once, whatever happens to this worker; what has no name of its own is told when its end is."""
        key = held_key(payment)
        if key and key not in self._told:
            self._told.add(key)
            data = payment.model_dump(mode="json", exclude={"state", "transaction", "refund_transaction"})
            data |= {"step": self._step.id, "attempt": self._context.attempt}
            await self._run.mark(key, Draft(EventName.PAYMENT_RESERVED, data))

    def _emit(self, fraction: float | None, message: str) -> None:
        data: dict[str, object] = {"step": self._step.id, "message": message[:500]}
        if fraction is not None:
            data["progress"] = round(fraction, 3)
        running = step_attribute(
            StepStatus.RUNNING, attempts=self._context.attempt, progress=data.get("progress"), message=message[:500]
        )
        attributes: dict[str, object] = {f"step:{self._step.id}": running} if fraction is not None else {}
        self._context.emit(Draft(EventName.STEP_PROGRESS, data, attributes))

    def money(self, receipts: Sequence[Receipt]) -> None:
        """Payments of an attempt that failed; what stayed with a seller counts as spent."""
        found = money_of(receipts, self._asset_of)
        for draft in payment_drafts(self._step, found, partial(was_told, self._run)):
            self._context.emit(draft)
        if found["paid"] != "0":
            spent_here = {f"paid:{self._step.id}:{self._context.attempt}": found["paid"]}
            self._context.emit(Draft(EventName.STEP_PROGRESS, {"step": self._step.id}, dict(spent_here)))


@dataclass(frozen=True, slots=True)
class Teller:
    """Words the transitions of one plan step. `ended` and `attempts` are for giving back what a step holds."""

    step: PlanStep
    ended: StepStatus = StepStatus.FAILED
    attempts: int = 0
    told: Told = nothing_told

    def narrate(self, transition: Transition) -> list[Draft]:
        """A hire started, is tried again, completed or failed."""
        step, attempt = self.step, transition.attempt
        data: dict[str, object] = {"step": step.id, "attempt": attempt}
        error = None if transition.error is None else transition.error.to_json()
        if transition.phase is Phase.STARTED:
            seller = None if step.offer is None else step.offer.seller_name or step.offer.seller
            data |= {"title": step.title, "capability": step.capability, "seller": seller}
            return [Draft(EventName.STEP_STARTED, data, self._is(StepStatus.RUNNING, attempts=attempt))]
        if transition.phase is Phase.RETRYING:
            data |= {"error": error, "retry_in_seconds": round(transition.retry_in_seconds, 3)}
            state = self._is(StepStatus.RETRYING, attempts=attempt, error=error)
            return [Draft(EventName.STEP_RETRYING, data, state)]
        data["duration_ms"] = transition.duration_ms
        if transition.phase is Phase.FAILED:
            state = self._is(StepStatus.FAILED, attempts=attempt, error=error, duration_ms=transition.duration_ms)
            return [Draft(EventName.STEP_FAILED, {**data, "error": error}, state)]
        found = transition.output
        assert isinstance(found, dict)
        paid = {f"paid:{step.id}:{attempt}": found["paid"]}
        return self._completed(found, data, paid, attempts=attempt, duration_ms=transition.duration_ms)

    def skipped(self, transition: Transition) -> list[Draft]:
        """The step was not to run."""
        if transition.phase is not Phase.COMPLETED or not isinstance(transition.output, Mapping):
            return []
        data: dict[str, object] = {"step": self.step.id, "reason": transition.output["skipped"]}
        return [Draft(EventName.STEP_SKIPPED, data, self._is(StepStatus.SKIPPED))]

    def _completed(
        self, found: Mapping[str, object], data: dict[str, object], paid: Mapping[str, object], **state: object
    ) -> list[Draft]:
        receipts = found["receipts"]
        last = receipts[-1] if isinstance(receipts, list | tuple) and receipts else {}
        data |= {"receipt": last.get("id"), "seller": last.get("seller"), "paid": found["paid"]}
        now = self._is(
            StepStatus.COMPLETED, receipt=last.get("id"), output=found.get("blob"), progress=1.0, **state
        )  # fmt: skip
        return [*payment_drafts(self.step, found, self.told), Draft(EventName.STEP_COMPLETED, data, {**now, **paid})]

    def give_back(self, transition: Transition) -> list[Draft]:
        """An unfinished step let go of its money, or had been delivered and paid in the very moment it was stopped."""
        found = transition.output
        if transition.phase is not Phase.COMPLETED or not isinstance(found, dict):
            return []
        money: dict[str, object] = {f"paid:{self.step.id}:{n}": "0" for n in range(1, self.attempts)}
        money[f"paid:{self.step.id}:{self.attempts}"] = found["paid"]  # of all its attempts together
        data: dict[str, object] = {"step": self.step.id}
        if "at" in found:
            return self._completed(found, {**data, "attempt": self.attempts}, money, attempts=self.attempts)
        kept = found["paid"] != "0"
        data |= {"how": "kept" if kept else "refunded", "paid": found["paid"]}
        if self.ended is StepStatus.FAILED:  # how it failed and what came back was told by its attempts
            return [Draft(EventName.STEP_PROGRESS, data, money)] if kept else []
        state = self._is(StepStatus.FAILED if kept else self.ended, attempts=self.attempts)
        paid = payment_drafts(self.step, found, self.told)
        return [*paid, Draft(EventName.STEP_COMPENSATED, data, {**state, **money})]

    def undone(self, transition: Transition) -> list[Draft]:
        """A completed step was taken back by its undo."""
        if transition.phase is not Phase.COMPLETED or not isinstance(transition.output, dict):
            return []
        return self._undone(transition.output, transition.attempt, undone=True)

    def undone_late(self, transition: Transition) -> list[Draft]:
        """An undo that failed let go of its money, or had been done all the same."""
        if transition.phase is not Phase.COMPLETED or not isinstance(transition.output, dict):
            return []
        return self._undone(transition.output, self.attempts, undone="at" in transition.output)

    def _undone(self, found: dict[str, Json], attempts: int, *, undone: bool) -> list[Draft]:
        fate = {"undo_attempts": attempts, **({"status": StepStatus.COMPENSATED.value} if undone else {})}
        attributes: dict[str, object] = {
            f"fate:{self.step.id}": fate, f"paid:{undo_name(self.step.id)}:{attempts}": found["paid"]
        }  # fmt: skip
        name = EventName.STEP_COMPENSATED if undone else EventName.STEP_PROGRESS
        data: dict[str, object] = {
            "step": self.step.id, "how": "undone" if undone else "not_undone", "paid": found["paid"]
        }  # fmt: skip
        return [*payment_drafts(self.step, found), Draft(name, data, attributes)]

    def _is(self, status: StepStatus, **values: object) -> dict[str, object]:
        return {f"step:{self.step.id}": step_attribute(status, **values)}
