"""What somebody may run of an agent, by their tokens on the chain and the purchases behind these. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agentnexus.marketplace.entitlements.holdings import Held
from agentnexus.marketplace.entitlements.model import Access
from agentnexus.marketplace.purchases.kinds import Kind
from agentnexus.marketplace.purchases.model import Purchase, PurchaseState
from agentnexus.rails.evm.contracts import DealStatus


@dataclass(frozen=True, slots=True)
class Lot:
    """A purchase of which somebody holds tokens."""

    purchase: Purchase
    held: Held

    @property
    def token_id(self) -> int:
        return self.purchase.token_id

    @property
    def unlimited(self) -> bool:
        return self.purchase.capacity is None

    @property
    def free(self) -> int:
        """Runs that may start on it, were its tokens all there; of an unlimited one, 1."""
        if self.purchase.kind is Kind.RUNS:
            return max(min(self.held.unused, self.purchase.quantity - self.held.spent), 0)
        if not self.held.count:
            return 0
        return 1 if self.purchase.runs_max is None else max(self.purchase.runs_max - self.runs, 0)

    @property
    def runs(self) -> int:
        return self.held.completed + self.held.running


@dataclass(frozen=True, slots=True)
class Stock:
    """At a moment. `balances` are tokens by their ids."""

    lots: Sequence[Lot]
    balances: Mapping[int, int]
    now: datetime

    @property
    def under_way(self) -> int:
        return sum(each.held.under_way for each in self.lots)

    @property
    def usable(self) -> Sequence[Lot]:
        """Lots on which a run may start, in the order in which they are taken: a period first, it costs no more."""
        free = [each for each in self.lots if each.free and each.purchase.usable(self.now) and self._there(each)]
        return sorted(free, key=lambda each: each.purchase.kind is not Kind.PERIOD)

    @property
    def periods(self) -> Sequence[Lot]:
        """Those that are good now: more than one when somebody gave their own."""
        return [each for each in self.usable if each.purchase.kind is Kind.PERIOD]

    @property
    def runs_left(self) -> int:
        """Bought runs that may start: never more than tokens that no run is using."""
        runs = [each for each in self.usable if each.purchase.kind is Kind.RUNS]
        tokens = {each.token_id for each in runs}
        return sum(
            min(self._spare(token), sum(each.free for each in runs if each.token_id == token)) for token in tokens
        )

    def passable(self, kind: Kind) -> Mapping[int, int]:
        """Tokens that may be passed on, and how many of each; soonest to end first."""
        lots = [
            each
            for each in sorted(self.lots, key=lambda each: each.token_id)
            if each.purchase.kind is kind and each.purchase.transferable and each.purchase.is_there
            and (each.purchase.period is None or self.now < each.purchase.period.ends_at)
        ]  # fmt: skip
        found: dict[int, int] = {}
        for each in lots:
            found[each.token_id] = found.get(each.token_id, 0) + max(each.held.unused, 0)
        return {token: min(count, self._spare(token)) for token, count in found.items()}

    def access(self) -> Access:
        periods = self.periods
        return Access(
            runs_left=self.runs_left,
            under_way=self.under_way,
            until=periods[0].purchase.ends_at if periods else None,
            period_runs_left=runs_in(periods) if periods else None,
        )

    def _there(self, lot: Lot) -> bool:
        return self._spare(lot.token_id) > 0

    def _spare(self, token: int) -> int:
        """Tokens of an id that no run is using. Runs use up none of a period."""
        using = sum(
            each.held.under_way for each in self.lots if each.token_id == token and each.purchase.kind is Kind.RUNS
        )
        return max(self.balances.get(token, 0) - using, 0)


def runs_in(lots: Sequence[Lot]) -> int | None:
    """Runs that may start on them; None: as many as their owner likes."""
    return None if any(each.unlimited for each in lots) else sum(each.free for each in lots)


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of a purchase's tokens so far, for its buyer.

    Args:
        left: runs that its buyer may start on it; None: as many as they like.
        used: runs that succeeded, whoever made them.
        refundable: its buyer can have money back now; `refund_blocked` says why not, where that could be expected.
        right: ``active``, ``used_up``, ``passed_on``, ``expired``, ``refunded``; "" before it is there.
    """

    left: int | None
    used: int
    running: int
    passed_on: int
    refundable: bool
    refund_blocked: str
    right: str


def tally_of(purchase: Purchase, held: Sequence[Held], now: datetime) -> Tally:
    """`held`: by everybody; those of other purchases do not count."""
    of_it = [each for each in held if each.purchase_id == purchase.id]
    lots = [Lot(purchase, each) for each in of_it if each.wallet == purchase.wallet and each.count]
    left = runs_in(lots) if lots else 0
    passed_on = sum(each.count for each in of_it if each.wallet != purchase.wallet)
    runs = of_it if purchase.kind is Kind.RUNS else of_it[:1]  # of a period each holding counts everybody's
    running, blocked = sum(each.running for each in runs), _blocked(purchase, of_it)
    return Tally(
        left=left,
        used=sum(each.completed for each in runs),
        running=running,
        passed_on=passed_on,
        refundable=purchase.is_there and purchase.deal is DealStatus.OPEN and not blocked,
        refund_blocked=blocked,
        right=_right(purchase, now, going=left is None or bool(left or running), passed_on=bool(passed_on)),
    )


def _blocked(purchase: Purchase, held: Sequence[Held]) -> str:
    """Why its money cannot come back now; "" for what is not there, or is used up."""
    period = purchase.kind is Kind.PERIOD
    if not purchase.is_there or purchase.expires_at is None:
        return ""
    if purchase.deal is DealStatus.RELEASED:
        return "the month was paid with its first run" if period else ""
    others = sum(max(each.unused, 0) for each in held if each.wallet != purchase.wallet)
    if others:
        what = "it was" if period else f"{others} of its runs {'was' if others == 1 else 'were'}"
        return f"{what} passed on: what nobody uses comes back on {purchase.expires_at:%Y-%m-%d}"
    return "a run of it is under way" if any(each.under_way for each in held) else ""


def _right(purchase: Purchase, now: datetime, *, going: bool, passed_on: bool) -> str:
    if not purchase.is_there or purchase.good_until is None:
        return "refunded" if purchase.state is PurchaseState.REFUNDED else ""
    if purchase.good_until <= now:
        return "expired"
    if going:
        return "active"
    return "passed_on" if passed_on else "used_up"
