"""Buying runs of an agent as its pages show it: terms, the way to the chain and back, what is left, and each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentnexus.web.results import Block
from agentnexus.web.views.runs import Problem, State
from agentnexus.web.views.signing import SigningView

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
    ("Sent", "payment and runs in one operation"),
    ("Confirmed", "the chain has it"),
    ("Ready", "the runs are yours"),
)
USE_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "running": ("Working", "busy"),
    "completed": ("Done", "done"),
    "failed": ("Failed", "fail"),
}


@dataclass(frozen=True, slots=True)
class StepView:
    """One step on the way; `tone` as of a `State`, empty while it is to come."""

    label: str
    note: str
    tone: str


@dataclass(frozen=True, slots=True)
class BuyPage:
    """Terms before buying. Amounts are text with their symbol.

    Args:
        fee: a sentence: who gets what part of the price.
        gas: who pays for gas, in words.
        balance: of the wallet; `short` what is missing there for this many runs.
        obstacle: why nothing can be bought now; then there is no button.
        next_link: (address, words) of what removes the obstacle.
        at_most: the amount as decimal text: what comes back with the order, so that nobody pays more than they saw.
    """

    quantity: int
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


@dataclass(frozen=True, slots=True)
class PurchaseView:
    """A purchase now. `held` is what the escrow still holds; `steps` the way, `sign` while the owner has to sign.

    `paid` is what its runs have cost so far, `came_back` what was refunded of it.

    `refundable`: it can be taken back now; that is a cancellation while it waits for a signature.
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


@dataclass(frozen=True, slots=True)
class PurchaseLine:
    """A purchase in a list."""

    id: str
    agent_name: str
    quantity: int
    amount: str
    state: State
    created_at: datetime


@dataclass(frozen=True, slots=True)
class EntitlementView:
    """What is left of an agent's runs. `purchase_id` leads to the purchase whose rest comes back."""

    agent_id: str
    agent_name: str
    runs_left: int
    under_way: int = 0
    held: str = ""
    purchase_id: str = ""
    expires_at: datetime | None = None
    available: bool = True


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
    """For the agent's page: whether runs are sold here at all, and how many the visitor may start now."""

    sold: bool = False
    runs_left: int = 0


@dataclass(frozen=True, slots=True)
class UseView:
    """One run with an entitlement. `blocks` draw its result; it is final once its seller has `paid`, or it failed.

    `given_back`: it failed and was the only run of its purchase, which is refunded by itself.
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


def purchase_state(state: str, step: str = "") -> State:
    """In words; while it waits for a signature or goes back, that is what counts."""
    name = step if state not in FINAL and step in ("signing", "refunding", "ending") else state
    label, tone = PURCHASE_STATES.get(name, (name.capitalize(), ""))
    return State(name, label, tone)


def use_state(name: str) -> State:
    label, tone = USE_STATES.get(name, (name.capitalize(), ""))
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
