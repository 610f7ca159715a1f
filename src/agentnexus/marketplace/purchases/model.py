"""What a purchase is and how it moves: pure rules, each step of which may be repeated, interrupted or overtaken.

``initiated → validating → processing → completed | failed | refunded``; what is final moves again when the chain says
something else: a block was dropped, or an operation that we had given up was mined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from agentnexus.core.errors import Conflict, NexusError, NotFound
from agentnexus.core.money import Money
from agentnexus.marketplace.purchases.kinds import SIGNING_TIME, Kind, Period, agent_class, token_of
from agentnexus.rails.evm.contracts.escrow import DealStatus, DealTerms
from agentnexus.rails.evm.encoding import from_hex, keccak
from agentnexus.wallets.model import OperationState

RETRIES_MAX = 5
LEASE = timedelta(seconds=15)  # for what whoever took a purchase is silent at most, before another takes it
SIGNING_LOOK = timedelta(seconds=10)
# A period's money is there for a day longer: for runs that were under way at its end.
LINGERS = timedelta(days=1)
# No run starts on a deal that may end before it: three attempts of the longest agent, half an hour each, and to settle.
ENDS_SOON = timedelta(hours=2)


class PurchaseState(StrEnum):
    INITIATED = "initiated"
    VALIDATING = "validating"
    PROCESSING = "processing"
    COMPLETED = "completed"  # money is held on the chain, and the right to run is there
    FAILED = "failed"  # nothing was paid
    REFUNDED = "refunded"  # what was not used is back

    @property
    def final(self) -> bool:
        return self in (PurchaseState.COMPLETED, PurchaseState.FAILED, PurchaseState.REFUNDED)


class Step(StrEnum):
    """Where in its state a purchase is."""

    NONE = ""
    REVIEWED = "reviewed"  # allowed, and its money set aside in the budget
    SIGNING = "signing"  # waits for its buyer's signature
    SENT = "sent"  # signed: perhaps on the chain
    CONFIRMED = "confirmed"  # on the chain
    ENTITLED = "entitled"
    REFUNDING = "refunding"
    ENDING = "ending"  # given up, unless the chain says that it was paid
    ENDED = "ended"


class Act(StrEnum):
    """What is to be done next for a purchase."""

    VALIDATE = "validate"
    PREPARE = "prepare"
    WATCH = "watch"
    ENTITLE = "entitle"
    REFUND = "refund"
    END = "end"
    LOOK = "look"  # final: only see whether the chain still says so


@dataclass(frozen=True, slots=True)
class Purchase:
    """One purchase as it is kept.

    Args:
        price: of one run, or of the whole period; `seller` and `wallet` are addresses.
        valid_until: after this the chain takes its operation no more.
        attempt: number of its operation: a new one is made when one can never be mined.
        retries: in a row, for reasons that pass; 0 once something moves.
        deal: what the chain said last.
        remaining: atomic units that the deal still holds.
        expires_at: when anybody may send back what is left.
        booked_by: change of the chain by which it is in the ledger.
        period, runs_max: of a period: which, and how many runs it allows; None: as many as its owner likes.
        transferable: its tokens can be passed on.
        upgrade: unused runs of the agent are given back once it is there.
    """

    id: str
    user_id: str
    key: str
    agent_id: str
    agent_name: str
    capability: str
    seller: str
    quantity: int
    price: Money
    fee_bps: int
    wallet_id: str
    wallet: str
    deal_id: str
    lifetime_seconds: int
    valid_until: datetime
    created_at: datetime
    updated_at: datetime
    state: PurchaseState = PurchaseState.INITIATED
    step: Step = Step.NONE
    attempt: int = 1
    retries: int = 0
    next_try_at: datetime | None = None
    operation_id: str = ""
    transaction: str = ""
    deal: DealStatus = DealStatus.NONE
    remaining: int = 0
    expires_at: datetime | None = None
    error: Mapping[str, object] | None = None
    refund_reason: str = ""
    booked_by: str = ""
    kind: Kind = Kind.RUNS
    period: Period | None = None
    runs_max: int | None = None
    transferable: bool = False
    upgrade: bool = False
    version: int = 1

    @property
    def amount(self) -> Money:
        return self.price * self.quantity

    @property
    def terms(self) -> DealTerms:
        """What the deal on the chain is made of; its salt comes from the purchase, so there is one deal for each."""
        return DealTerms(
            buyer=self.wallet,
            seller=self.seller,
            amount=self.amount.atomic,
            salt=int.from_bytes(keccak(self.id.encode())[:16], "big"),
            fee_bps=self.fee_bps,
            lifetime_seconds=self.lifetime_seconds,
        )

    @property
    def deal_bytes(self) -> bytes:
        return from_hex(self.deal_id, size=32, field="deal")

    @property
    def voucher_nonce(self) -> int:
        return int.from_bytes(keccak(self.id.encode())[16:24], "big")

    @property
    def agent_class(self) -> int:
        return agent_class(self.agent_id, self.kind, transferable=self.transferable)

    @property
    def token_id(self) -> int:
        return token_of(self.agent_class, self.period)

    @property
    def capacity(self) -> int | None:
        """Runs that it allows in all; None: as many as its owner likes."""
        return self.quantity if self.kind is Kind.RUNS else self.runs_max

    @property
    def reservation(self) -> str:
        """Key in the ledger."""
        return f"purchase:{self.id}"

    @property
    def account(self) -> str:
        """Of the ledger: what the deal holds."""
        return f"deal:{self.id}"

    @property
    def wallet_account(self) -> str:
        """Of the ledger: the buyer's own wallet, which is outside of our books."""
        return f"external:wallet:{self.price.asset.network}:{self.wallet}"

    def operation_key(self) -> str:
        return f"{self.id}:{self.attempt}"

    def act(self) -> Act:
        """What comes next."""
        if self.step is Step.REFUNDING:
            return Act.REFUND
        if self.step is Step.ENDING:
            return Act.END
        if self.state in (PurchaseState.INITIATED, PurchaseState.VALIDATING):
            return Act.VALIDATE
        return _ACTS.get(self.step, Act.LOOK) if self.state is PurchaseState.PROCESSING else Act.LOOK

    @property
    def starts_at(self) -> datetime | None:
        return None if self.period is None else self.period.starts_at

    @property
    def ends_at(self) -> datetime | None:
        return None if self.period is None else self.period.ends_at

    @property
    def what(self) -> str:
        """``3 runs``, ``a month until 2026-12-05``."""
        if self.period is not None:
            return f"a month until {self.period.ends_at:%Y-%m-%d}"
        return "1 run" if self.quantity == 1 else f"{self.quantity} runs"

    @property
    def is_there(self) -> bool:
        """Its tokens and its money are on the chain."""
        entitled = self.state is PurchaseState.COMPLETED and self.step is Step.ENTITLED
        return entitled and self.deal in (DealStatus.OPEN, DealStatus.RELEASED) and self.expires_at is not None

    def usable(self, now: datetime) -> bool:
        """Whether runs may start on it."""
        if not self.is_there or self.expires_at is None:
            return False
        if self.period is not None:
            return self.period.starts_at <= now < self.period.ends_at
        return now < self.expires_at - ENDS_SOON

    @property
    def good_until(self) -> datetime | None:
        """When the right ends; None before the deal is there."""
        return self.expires_at if self.period is None else self.period.ends_at


_SENT_BACK = (DealStatus.REFUNDED, DealStatus.EXPIRED, DealStatus.RESOLVED)
_ACTS = {
    Step.REVIEWED: Act.PREPARE,
    Step.SIGNING: Act.WATCH,
    Step.SENT: Act.WATCH,
    Step.CONFIRMED: Act.ENTITLE,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A purchase's deal on the chain at a moment. `chain_time` is the newest block's."""

    status: DealStatus
    remaining: int
    expires_at: datetime | None
    chain_time: datetime


@dataclass(frozen=True, slots=True)
class Watched:
    """What became of the operation so far."""

    state: OperationState
    transaction: str = ""
    error: Mapping[str, object] | None = None


def payable_until(period: Period | None, now: datetime) -> datetime:
    """When the chain takes its operation no more: nobody pays for a period that is over."""
    end = now + SIGNING_TIME
    return (end if period is None else min(end, period.ends_at)).replace(microsecond=0)


def lifetime_of(period: Period | None, runs_live: timedelta, now: datetime) -> int:
    """Seconds from the deposit until anybody may send back what is left."""
    lives = runs_live if period is None else period.ends_at - now + LINGERS
    return int(lives.total_seconds())


def delay(retries: int) -> timedelta:
    """1, 2, 4, 8, 16 seconds, and 16 for whatever comes after."""
    return timedelta(seconds=2 ** min(retries, RETRIES_MAX - 1))


def validating(purchase: Purchase, now: datetime) -> Purchase:
    return _moved(purchase, now, state=PurchaseState.VALIDATING)


def reviewed(purchase: Purchase, now: datetime) -> Purchase:
    """Allowed, with its money set aside."""
    return _moved(purchase, now, state=PurchaseState.PROCESSING, step=Step.REVIEWED)


def prepared(purchase: Purchase, operation_id: str, state: OperationState, now: datetime) -> Purchase:
    """There is an operation."""
    waits = state is OperationState.UNSIGNED
    return _moved(purchase, now, operation_id=operation_id, step=Step.SIGNING if waits else Step.SENT)


def watched(purchase: Purchase, found: Watched, seen: Seen, now: datetime, *, renews: bool) -> Purchase:
    """The operation and the deal were looked at. `renews`: we can sign a new one ourselves.

    The deal counts more than the operation: whoever brought it on chain, and whatever we were told.
    """
    if purchase.step is Step.SIGNING and found.state in (OperationState.SIGNED, OperationState.SUCCEEDED):
        return _moved(purchase, now, step=Step.SENT)
    if seen.status is not DealStatus.NONE:
        return _mirrored(_moved(purchase, now, step=Step.CONFIRMED, transaction=found.transaction), seen)
    is_late = seen.chain_time > purchase.valid_until
    # A success that the chain has not shown for half a minute was dropped with its block.
    vanished = found.state is OperationState.SUCCEEDED and purchase.retries >= RETRIES_MAX
    is_lost = vanished or found.state is OperationState.REJECTED
    if is_lost and renews and not is_late and purchase.attempt <= RETRIES_MAX:
        again = _moved(purchase, now, step=Step.REVIEWED, attempt=purchase.attempt + 1, error=found.error)
        return _later(replace(again, operation_id=""), now, purchase.attempt - 1)
    if is_lost or is_late or found.state is OperationState.FAILED:
        return giving_up(purchase, found.error or _too_late(purchase), now)
    if found.state is OperationState.UNSIGNED:
        return replace(purchase, next_try_at=now + SIGNING_LOOK)
    return _later(purchase, now, purchase.retries)


def entitled(purchase: Purchase, seen: Seen, useless: str, now: datetime) -> Purchase:
    """The deal is on the chain, and with it the right; `useless` says why that is good for nothing."""
    current = _mirrored(purchase, seen)
    match seen.status:
        case DealStatus.NONE:  # its block was dropped: the operation comes again, or another of its kind
            return _later(_moved(current, now, step=Step.SENT), now, purchase.retries)
        case DealStatus.OPEN if not useless and not purchase.refund_reason:
            return _final(current, PurchaseState.COMPLETED, Step.ENTITLED, now)
        case DealStatus.RELEASED:
            return _final(current, PurchaseState.COMPLETED, Step.ENTITLED, now)
    return refunding(current, purchase.refund_reason or useless or "the deal has ended", now)


def refunding(purchase: Purchase, reason: str, now: datetime) -> Purchase:
    """What is left goes back, and the right with it."""
    return _moved(purchase, now, step=Step.REFUNDING, refund_reason=purchase.refund_reason or reason)


def refunded(purchase: Purchase, seen: Seen, now: datetime) -> Purchase:
    """The chain was asked to; this is what it says."""
    current = _mirrored(purchase, seen)
    if seen.status is DealStatus.NONE:
        return _moved(replace(current, state=PurchaseState.PROCESSING), now, step=Step.SENT)
    if not seen.status.is_final:
        return _later(current, now, purchase.retries)
    ends = PurchaseState.COMPLETED if seen.status is DealStatus.RELEASED else PurchaseState.REFUNDED
    return _final(current, ends, Step.ENTITLED if ends is PurchaseState.COMPLETED else Step.ENDED, now)


def passed_on(purchase: Purchase, seen: Seen, now: datetime) -> Purchase:
    """It was to go back, but its buyer has passed some of it on: others may run it until it ends."""
    told = Conflict(
        "it cannot be given back: some of it was passed on", next_step="what nobody uses comes back at its end"
    )
    kept = _final(_mirrored(purchase, seen), PurchaseState.COMPLETED, Step.ENTITLED, now, error=told.to_json())
    return replace(kept, refund_reason="")


def giving_up(purchase: Purchase, error: Mapping[str, object] | None, now: datetime) -> Purchase:
    """Nothing more is tried. Whether nothing was paid either is for the chain to say."""
    return _moved(purchase, now, step=Step.ENDING, error=error)


def ended(purchase: Purchase, seen: Seen, now: datetime) -> Purchase:
    """Given up, and the chain was asked once more."""
    if seen.status is DealStatus.NONE:
        return _final(_mirrored(purchase, seen), PurchaseState.FAILED, Step.ENDED, now, error=purchase.error)
    return _mirrored(_moved(purchase, now, state=PurchaseState.PROCESSING, step=Step.CONFIRMED), seen)


def looked(purchase: Purchase, seen: Seen, now: datetime) -> Purchase:
    """A final one against what the chain says now; the same purchase (but for its mirror) when they agree."""
    current = replace(_mirrored(purchase, seen), next_try_at=None, retries=0)
    there = seen.status is not DealStatus.NONE
    if there != (purchase.state is not PurchaseState.FAILED):
        step = Step.CONFIRMED if there else Step.SENT
        return _moved(current, now, state=PurchaseState.PROCESSING, step=step)
    reason = _over(current, seen)
    return refunding(current, reason, now) if reason else current


def _over(purchase: Purchase, seen: Seen) -> str:
    """Why what is left of it has to go back; "" when it need not, or is back."""
    if purchase.state is PurchaseState.REFUNDED:
        return purchase.refund_reason if seen.status is DealStatus.OPEN else ""
    if seen.status is DealStatus.OPEN and seen.expires_at is not None and seen.expires_at <= seen.chain_time:
        return "its time is over"
    if purchase.state is PurchaseState.COMPLETED and seen.status in _SENT_BACK:
        return f"the deal was {seen.status.name.lower()}"
    return ""


def troubled(purchase: Purchase, error: NexusError, now: datetime) -> Purchase:
    """An act did not get through. What may pass is tried again; what cannot ends it, in the safe direction.

    Before anything is signed that is the end. Once money may be on the chain nothing is given up before the chain says
    so; and what is to go back is tried for ever.
    """
    told = error.to_json()
    if error.retryable and purchase.retries < RETRIES_MAX:
        return _again(purchase, told, now)
    match purchase.act():
        case Act.VALIDATE:
            return _final(purchase, PurchaseState.FAILED, Step.ENDED, now, error=told)
        case Act.PREPARE:
            return giving_up(purchase, told, now)
        case Act.ENTITLE if not error.retryable:
            return replace(refunding(purchase, error.message, now), error=told)
    return _again(purchase, told, now)


def _again(purchase: Purchase, told: Mapping[str, object], now: datetime) -> Purchase:
    """What made a purchase end stays its error, and one that is final has no new one."""
    keeps = purchase.act() is Act.LOOK or (purchase.step is Step.ENDING and purchase.error)
    later = _later(purchase, now, purchase.retries)
    return replace(later, error=purchase.error if keeps else told, updated_at=now)


def _later(purchase: Purchase, now: datetime, retries: int) -> Purchase:
    """Not at once, and a little less soon each time."""
    return replace(purchase, next_try_at=now + delay(retries), retries=retries + 1)


def _too_late(purchase: Purchase) -> Mapping[str, object]:
    what = "it was not signed in time" if purchase.step is Step.SIGNING else "it was not mined in time"
    return NotFound(f"nothing was paid: {what}", next_step="buy again").to_json()


def _mirrored(purchase: Purchase, seen: Seen) -> Purchase:
    return replace(purchase, deal=seen.status, remaining=seen.remaining, expires_at=seen.expires_at)


def _moved(
    purchase: Purchase,
    now: datetime,
    *,
    state: PurchaseState | None = None,
    step: Step | None = None,
    attempt: int | None = None,
    operation_id: str | None = None,
    transaction: str = "",
    error: Mapping[str, object] | None = None,
    refund_reason: str | None = None,
) -> Purchase:
    """Due at once, its troubles forgotten."""
    return replace(
        purchase,
        state=state or purchase.state,
        step=purchase.step if step is None else step,
        attempt=attempt or purchase.attempt,
        operation_id=purchase.operation_id if operation_id is None else operation_id,
        transaction=transaction or purchase.transaction,
        retries=0,
        error=error,
        refund_reason=purchase.refund_reason if refund_reason is None else refund_reason,
        next_try_at=now,
        updated_at=now,
    )


def _final(
    purchase: Purchase, state: PurchaseState, step: Step, now: datetime, *, error: Mapping[str, object] | None = None
) -> Purchase:
    return replace(_moved(purchase, now, state=state, step=step, error=error), next_try_at=None)
