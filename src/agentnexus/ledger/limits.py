"""The pure rule of budgets: may this payment be reserved against every node from the budget up to its root?

Amounts count from the moment they are reserved (reserved + spent), in the minute and UTC day of the reservation; what
is voided, or comes back later, goes back to the same minute and day. The hour slides over whole minutes and counts 61
of them, so that no real 60 minutes can ever hold more than the limit, and a clock that lags counts later minutes too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import TypeAlias

from agentnexus.core.errors import BudgetExceeded
from agentnexus.core.money import Money
from agentnexus.ledger.model import BudgetState, Ceilings, Terms

HOUR = timedelta(minutes=60)
MINUTE = timedelta(minutes=1)
PERSONAL_BUDGET = re.compile(r"user:[^/]+")
PERSONAL_LIMITS = ("per_payment", "per_task", "per_hour", "per_day", "total")  # those that `nexus budget` sets
NEVER = datetime.max.replace(tzinfo=UTC)


class Scope(StrEnum):
    """What a counter counts by. The sum over everything lives on the budget itself."""

    TASK = "task"
    TICK = "tick"
    SELLER = "seller"
    CAPABILITY = "capability"
    MINUTE = "minute"
    DAY = "day"


@dataclass(slots=True)
class Counter:
    """Reserved and spent atomic units under one label."""

    reserved: int = 0
    spent: int = 0

    @property
    def used(self) -> int:
        return self.reserved + self.spent


UsageKey: TypeAlias = tuple[str, Scope]  # budget id, scope
Usage: TypeAlias = Mapping[UsageKey, Mapping[str, Counter]]
Blocked: TypeAlias = tuple[str, int, datetime | None]  # limit, left, frees_at
NO_COUNTERS: Mapping[str, Counter] = {}


def minute_label(moment: datetime) -> str:
    """``2026-11-20T12:05`` (UTC); labels sort like the times they name."""
    return moment.isoformat()[:16]


def day_label(moment: datetime) -> str:
    return moment.isoformat()[:10]


def first_minute_counted(now: datetime) -> str:
    """Oldest minute that may still hold a payment of the last 60 minutes."""
    return minute_label(now - HOUR)


def counted_in(limits: Ceilings, terms: Terms, at: datetime) -> Iterator[tuple[Scope, str]]:
    """The counters of one node that a payment reserved `at` moves. A payment without a task or tick shares label ""."""
    if limits.per_task is not None:
        yield Scope.TASK, terms.task
    if limits.per_tick is not None:
        yield Scope.TICK, terms.tick
    if limits.per_seller is not None:
        yield Scope.SELLER, terms.seller
    if limits.per_capability is not None:
        yield Scope.CAPABILITY, terms.capability
    if limits.per_hour is not None:
        yield Scope.MINUTE, minute_label(at)
    if limits.per_day is not None:
        yield Scope.DAY, day_label(at)


@dataclass(frozen=True, slots=True)
class Rejection:
    """The limit that says no, what is left under it, and when it frees (None: waiting does not help)."""

    budget_id: str
    limit: str
    left: Money
    asked: Money
    frees_at: datetime | None = None

    def to_error(self) -> BudgetExceeded:
        frees_at = None if self.frees_at is None else self.frees_at.isoformat().replace("+00:00", "Z")
        waiting = f"try again at {frees_at}" if frees_at else "choose something cheaper"
        advice = f"{waiting}, or raise it: {command}" if (command := self._command()) else waiting
        if not command and not frees_at:
            advice += " or have the budget's owner raise it"
        if self.limit in ("revoked", "expiry"):
            advice = "ask the budget's owner for a new approval"
        elif self.limit in ("sellers", "capabilities"):
            advice = "choose one that the approval names"
        return BudgetExceeded(
            f"{self.asked} would pass the {self.limit} limit of budget {self.budget_id}: {self.left} left",
            next_step=advice,
            budget=self.budget_id,
            limit=self.limit,
            left=f"{self.left.decimal:f}",
            asked=f"{self.asked.decimal:f}",
            asset=self.left.asset.caip19,
            frees_at=frees_at,
        )

    def _command(self) -> str:
        """What a person types to raise a limit of their own budget; empty for budgets that others made."""
        if not PERSONAL_BUDGET.fullmatch(self.budget_id) or self.limit not in PERSONAL_LIMITS:
            return ""
        amount = f"{self.asked.decimal.normalize():f}" if self.limit == "per_payment" else "AMOUNT"
        return f"`nexus budget --set {self.limit}={amount}`"


def decide(
    path: Sequence[BudgetState], usage: Usage, terms: Terms, payer_available: int, now: datetime
) -> Rejection | None:
    """None when the payment fits every limit of every node, else the limit that blocks longest.

    Args:
        path: the budget and all its parents.
        usage: counters by (budget, scope) and label; a missing one is zero.
        payer_available: atomic units the payer's account could still promise; for `keep_back` without a `total`.
        now: UTC.
    """
    worst: tuple[BudgetState, Blocked] | None = None
    for node in path:
        for blocked in _blocked(node, usage, terms, payer_available, now):
            if worst is None or _stubbornness(blocked) > _stubbornness(worst[1]):
                worst = node, blocked
    if worst is None:
        return None
    node, (limit, left, frees_at) = worst
    return Rejection(node.id, limit, Money(node.asset, max(left, 0)), terms.amount, frees_at)


def _stubbornness(blocked: Blocked) -> tuple[bool, datetime, int]:
    _, left, frees_at = blocked
    return frees_at is None, frees_at or NEVER, -left


def _blocked(node: BudgetState, usage: Usage, terms: Terms, payer_available: int, now: datetime) -> Iterator[Blocked]:
    closed = _closed(node, terms, now)
    if closed is not None:
        yield closed, 0, None
        return
    limits, amount = node.ceilings, terms.amount.atomic
    if limits.per_payment is not None and amount > limits.per_payment:
        yield "per_payment", limits.per_payment, None
    yield from _whole_budget(node, amount, payer_available)
    for scope, label, ceiling in _lasting_counters(limits, terms):
        left = ceiling - _used(usage, node.id, scope, label)
        if amount > left:
            yield f"per_{scope}", left, None
    if limits.per_day is not None:
        left = limits.per_day - _used(usage, node.id, Scope.DAY, day_label(now))
        if amount > left:
            yield "per_day", left, _midnight_after(now) if amount <= limits.per_day else None
    if limits.per_hour is not None:
        yield from _hour(limits.per_hour, usage.get((node.id, Scope.MINUTE), NO_COUNTERS), amount, now)


def _closed(node: BudgetState, terms: Terms, now: datetime) -> str | None:
    """Why the node takes no such payment at all."""
    if node.revoked_at is not None:
        return "revoked"
    if node.expires_at is not None and now >= node.expires_at:
        return "expiry"
    if node.asset.caip19 != terms.amount.asset.caip19:
        return "asset"
    if node.ceilings.sellers is not None and terms.seller not in node.ceilings.sellers:
        return "sellers"
    if node.ceilings.capabilities is not None and terms.capability not in node.ceilings.capabilities:
        return "capabilities"
    return None


def _whole_budget(node: BudgetState, amount: int, payer_available: int) -> Iterator[Blocked]:
    """`total` and `keep_back`: the reserve belongs to the total, or to the payer's account where there is no total."""
    limits = node.ceilings
    if limits.total is not None:
        rest = limits.total - node.reserved - node.spent
        kept = limits.keep_back or 0
        if amount > rest:
            yield "total", rest - kept, None
        elif amount > rest - kept:
            yield "keep_back", rest - kept, None
    elif limits.keep_back is not None and amount > payer_available - limits.keep_back:
        yield "keep_back", payer_available - limits.keep_back, None


def _lasting_counters(limits: Ceilings, terms: Terms) -> Iterator[tuple[Scope, str, int]]:
    """Counters that no clock empties."""
    if limits.per_task is not None:
        yield Scope.TASK, terms.task, limits.per_task
    if limits.per_tick is not None:
        yield Scope.TICK, terms.tick, limits.per_tick
    if limits.per_seller is not None:
        yield Scope.SELLER, terms.seller, limits.per_seller
    if limits.per_capability is not None:
        yield Scope.CAPABILITY, terms.capability, limits.per_capability


def _used(usage: Usage, budget_id: str, scope: Scope, label: str) -> int:
    counter = usage.get((budget_id, scope), NO_COUNTERS).get(label)
    return 0 if counter is None else counter.used


def _hour(ceiling: int, minutes: Mapping[str, Counter], amount: int, now: datetime) -> Iterator[Blocked]:
    """Blocked by the sliding hour, and when enough minutes have left it."""
    first = first_minute_counted(now)
    counted = {label: counter.used for label, counter in minutes.items() if label >= first}
    left = ceiling - sum(counted.values())
    if amount <= left:
        return
    if amount > ceiling:
        yield "per_hour", left, None
        return
    missing = amount - left
    for label in sorted(counted):
        missing -= counted[label]
        if missing <= 0:
            yield "per_hour", left, datetime.fromisoformat(label).replace(tzinfo=UTC) + HOUR + MINUTE
            return


def _midnight_after(now: datetime) -> datetime:
    return datetime.combine(now.date() + timedelta(days=1), time(), UTC)
