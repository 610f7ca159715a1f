"""Buying runs or a month of an agent as pages show it: terms, the way to the chain and back, what is left, each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentnexus.web.results import Block
from agentnexus.web.views.runs import Problem, State
from agentnexus.web.views.signing import SigningView
from agentnexus.web.views.text import plural

RUNS: Final = "runs"
PERIOD: Final = "period"
KINDS: Final = (RUNS, PERIOD)
PURCHASE_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "initiated": ("Being checked", "busy"),
    "validating": ("Being checked", "busy"),
    "signing": ("Waiting for your signature", "wait"),
    "processing": ("On its way", "busy"),
    "refunding": ("Money is coming back", "back"),
    "ending": ("Being given up", "back"),
    "completed": ("Ready", "done"),
    "failed": ("Failed", "fail"),
    "refunded": ("Refunded", "back"),
    "withdrawn": ("Not bought", "back"),
}
FINAL: Final = frozenset({"completed", "failed", "refunded"})
REACHED: Final[Mapping[str, int]] = {"reviewed": 1, "signing": 1, "sent": 3, "confirmed": 4, "entitled": 5}
PAID: Final = 4
STEPS: Final = (
    ("Reviewed", "agent, price, budget and balance"),
    ("Signed", "by the owner of the wallet"),
    ("Sent", "the payment and what it buys, in one operation"),
    ("Confirmed", "the chain has it"),
    ("Ready", "what you buy comes to your wallet"),
)
USE_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "running": ("Working", "busy"),
    "completed": ("Done", "done"),
    "failed": ("Failed", "fail"),
}
ACTIVE: Final = State("active", "Ready to run", "done")
RIGHT_STATES: Final[Mapping[str, tuple[str, str]]] = {
    ACTIVE.name: (ACTIVE.label, ACTIVE.tone),
    "used_up": ("Used up", ""),
    "expired": ("Over", ""),
    "revoked": ("Not yours any more", "back"),
    "passed_on": ("Passed on", ""),
}
NOTHING_LEFT: Final = ("used_up", "passed_on", "expired")  # how the right of a purchase that is complete may have ended


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants to buy: so many runs, or a month; `upgrade` gives unused runs back for it."""

    kind: str = RUNS
    quantity: int = 1
    upgrade: bool = False

    @property
    def query(self) -> str:
        """What leads back to its terms."""
        if self.kind == RUNS:
            return f"runs={self.quantity}"
        return f"kind={PERIOD}&upgrade=1" if self.upgrade else f"kind={PERIOD}"


@dataclass(frozen=True, slots=True)
class Passing:
    """What somebody passes on, as typed; `key` is the form's own, `token_id` says which month."""

    kind: str
    to: str
    count: int
    key: str
    token_id: int | None = None

    @property
    def what(self) -> str:
        return bought(self.kind, self.count)


@dataclass(frozen=True, slots=True)
class PassingPage:
    """What passing it on means, before it is done.

    Args:
        locks: the rest of its purchase could be given back until now; `comes_back_at` is when what nobody uses returns.
    """

    agent_id: str
    agent_name: str
    passing: Passing
    locks: bool = False
    comes_back_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Renewal:
    """Whether another month can be bought now, or from when on; neither where it is not sold by the month."""

    possible: bool = False
    starts_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StepView:
    """One step on the way; `tone` as of a `State`, empty while it is to come."""

    label: str
    note: str
    tone: str


@dataclass(frozen=True, slots=True)
class BuyPage:
    """Terms before buying. Amounts are text with their symbol; `price` is of one run, or of what is left of the month.

    Args:
        sold: whether anything is sold like this here at all; without an `amount` nothing can be bought now.
        fee: a sentence: who gets what part of the price.
        gas: who pays for gas, in words.
        balance: of the wallet; `short` what is missing there.
        obstacle: why nothing can be bought now; then there is no button.
        next_link: (address, words) of what removes the obstacle.
        at_most: the amount as decimal text: what comes back with the order, so that nobody pays more than they saw.
        starts_at: of a month that has not begun: the visitor has the present one, and this is its renewal.
        runs_max: of a month; None is as many as one likes.
        unused_runs: that a month would give back, if the visitor wants that, and `gives_back` their money.
        has_runs: that the visitor has of it already.
    """

    order: Order
    price: str
    amount: str
    fee: str
    gas: str
    days: str = ""
    wallet_kind: str = ""
    address: str = ""
    balance: str = ""
    after: str = ""
    short: str = ""
    faucet: str = ""
    obstacle: Problem | None = None
    next_link: tuple[str, str] | None = None
    at_most: str = ""
    sold: bool = True
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    runs_max: int | None = None
    unused_runs: int = 0
    gives_back: str = ""
    has_runs: int = 0

    @property
    def runs_kept(self) -> int:
        """Those that a month would not give back: others hold runs of their purchase, or somebody else bought them."""
        return max(self.has_runs - self.unused_runs, 0)


@dataclass(frozen=True, slots=True)
class PurchaseView:
    """A purchase now. `held` is what the escrow still holds; `steps` the way, `sign` while the owner has to sign.

    `paid` is what its runs have cost so far, `came_back` what was refunded of it.

    `refundable`: it can be taken back now; that is a cancellation while it waits for a signature.

    A month has `ends_at`, and `starts_at` while it is to come. `runs_left` is None where that is no question.

    `right` is what it is worth to its buyer now (``active``, `NOTHING_LEFT`), `blocked` why nothing can be given back.
    """

    id: str
    agent_id: str
    agent_name: str
    quantity: int
    price: str
    amount: str
    fee: str
    state: State
    final: bool
    steps: Sequence[StepView]
    created_at: datetime
    held: str = ""
    paid: str = ""
    came_back: str = ""
    runs_left: int | None = None
    refundable: bool = False
    retries: int = 0
    wallet: str = ""
    deal_id: str = ""
    transaction: str = ""
    explorer: str = ""
    expires_at: datetime | None = None
    problem: Problem | None = None
    sign: SigningView | None = None
    kind: str = RUNS
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    runs_max: int | None = None
    runs_used: int = 0
    passed_on: int = 0
    upgrade: bool = False
    right: str = ""
    blocked: str = ""
    renewal: Renewal = Renewal()

    @property
    def what(self) -> str:
        return bought(self.kind, self.quantity)


@dataclass(frozen=True, slots=True)
class PurchaseLine:
    """A purchase in a list."""

    id: str
    agent_name: str
    what: str
    amount: str
    state: State
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Locked:
    """Money of a purchase that cannot be given back now, and why."""

    purchase_id: str
    held: str
    reason: str


@dataclass(frozen=True, slots=True)
class EntitlementView:
    """What somebody has of an agent: its runs, or one month. `purchase_id` leads to the purchase whose rest comes back.

    Args:
        runs_left: None of a month without a bound.
        used: runs that succeeded, of at most `max_usage`.
        starts_at: of a month that has not begun.
        available: the agent is for sale, so it can be run.
        may_pass: how much of it may be passed on now; 0 where the agent does not allow that.
        may_upgrade: the agent is also sold by the month.
        token_id: which month.
        locked: of `held`, what cannot be given back; `comes_back_at` is when what nobody uses returns by itself.
    """

    agent_id: str
    agent_name: str
    runs_left: int | None
    under_way: int = 0
    held: str = ""
    purchase_id: str = ""
    expires_at: datetime | None = None
    available: bool = True
    kind: str = RUNS
    state: State = ACTIVE
    used: int = 0
    max_usage: int | None = None
    starts_at: datetime | None = None
    may_pass: int = 0
    may_upgrade: bool = False
    token_id: str = ""
    locked: Sequence[Locked] = ()
    comes_back_at: datetime | None = None
    renewal: Renewal = Renewal()

    @property
    def active(self) -> bool:
        return self.state == ACTIVE


@dataclass(frozen=True, slots=True)
class UseLine:
    """A run with an entitlement in a list; its page has the result."""

    id: str
    agent_name: str
    state: State
    created_at: datetime


@dataclass(frozen=True, slots=True)
class EntitlementsPage:
    """`missing` says why nothing is sold on chain here; `uses` are the newest."""

    entitlements: Sequence[EntitlementView] = ()
    purchases: Sequence[PurchaseLine] = ()
    uses: Sequence[UseLine] = ()
    older: str = ""
    missing: Problem | None = None


@dataclass(frozen=True, slots=True)
class Owned:
    """For the agent's page: whether runs are sold here at all, and what the visitor may start now.

    Args:
        until: a month is theirs until then, with `month_runs_left` more runs (None: as many as they like).
        renewable: the next one can be bought.
    """

    sold: bool = False
    runs_left: int = 0
    until: datetime | None = None
    month_runs_left: int | None = None
    renewable: bool = False


@dataclass(frozen=True, slots=True)
class UseView:
    """One run with an entitlement. `blocks` draw its result; it is final once its seller has `paid`, or it failed.

    `given_back`: it failed and was the only run of its purchase, which is refunded by itself.

    `month`: it was made under a month, so it has no price of its own; `ends_at` is when that is over.
    """

    id: str
    agent_id: str
    agent_name: str
    state: State
    final: bool
    created_at: datetime
    paid: str = ""
    runs_left: int | None = None
    transaction: str = ""
    explorer: str = ""
    problem: Problem | None = None
    blocks: Sequence[Block] = ()
    given_back: bool = False
    month: bool = False
    ends_at: datetime | None = None


def bought(kind: str, quantity: int) -> str:
    """``5 runs``, ``a month``."""
    return plural(quantity, "run") if kind == RUNS else "a month"


def purchase_state(state: str, step: str = "", right: str = "") -> State:
    """In words; while it waits for a signature or goes back, that is what counts, and at last what is left of it."""
    if state == "completed" and right in NOTHING_LEFT:
        return State(state, *RIGHT_STATES[right])
    name = step if state not in FINAL and step in ("signing", "refunding", "ending") else state
    label, tone = PURCHASE_STATES.get(name, (name.capitalize(), ""))
    return State(name, label, tone)


def use_state(name: str) -> State:
    label, tone = USE_STATES.get(name, (name.capitalize(), ""))
    return State(name, label, tone)


def right_state(name: str) -> State:
    label, tone = RIGHT_STATES.get(name, (name.capitalize(), ""))
    return State(name, label, tone)


def steps_of(state: str, step: str, *, asks: bool) -> tuple[StepView, ...]:
    """The way of a purchase: what is done, what is under way, what is to come; or how it ended instead.

    `step` is how far it has come; `asks` whether the owner signs by hand.
    """
    reached = len(STEPS) if state == "completed" else REACHED.get(step, 0)
    if state == "refunded":
        return (*_done(PAID), StepView("Refunded", "what you did not use is in your wallet again", "back"))
    if step == "refunding":
        return (*_done(PAID), StepView("Coming back", "what you did not use returns to your wallet", "busy"))
    if state == "withdrawn":
        return (*_done(1), StepView("Not bought", "nothing was signed, and nothing was paid", "back"))
    if state == "failed":
        return (*_done(reached), StepView("Failed", "nothing was paid", "fail"))
    here = [StepView(*each, "wait" if step == "signing" and asks else "busy") for each in STEPS[reached : reached + 1]]
    return (*_done(reached), *here, *(StepView(*each, "") for each in STEPS[reached + 1 :]))


def _done(count: int) -> list[StepView]:
    return [StepView(*each, "done") for each in STEPS[:count]]
