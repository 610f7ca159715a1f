"""A workflow as its page shows it: states in words, steps, money, receipts, what went wrong and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentnexus.web.dag import Drawing, draw
from agentnexus.web.results import Block

TALL_NODE: Final = 148
STATES: Final[Mapping[str, tuple[str, str]]] = {
    "planning": ("Planning", "busy"),
    "awaiting_approval": ("Waiting for you", "wait"),
    "approved": ("Approved", "busy"),
    "executing": ("Working", "busy"),
    "rolling_back": ("Undoing", "back"),
    "completed": ("Done", "done"),
    "failed": ("Failed", "fail"),
    "cancelled": ("Cancelled", ""),
    "pending": ("Not started", ""),
    "waiting": ("Not started", ""),
    "ready": ("Ready", ""),
    "running": ("Working", "busy"),
    "started": ("Working", "busy"),
    "retrying": ("Trying again", "wait"),
    "compensated": ("Undone", "back"),
    "skipped": ("Not needed", ""),
    "refunded": ("Refunded", "back"),
    "settled": ("Paid", "done"),
    "reserved": ("Set aside", "wait"),
    "confirmed": ("Paid", "done"),
    "released": ("Paid", "done"),
    "held": ("Set aside", "wait"),
    "sent": ("Sent", "wait"),
    "unknown": ("Being looked up", "wait"),
}
FINAL: Final = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class State:
    """A state in words, with the tone it is drawn in (``done busy wait fail back`` or empty)."""

    name: str
    label: str
    tone: str

    @classmethod
    def of(cls, name: str) -> State:
        label, tone = STATES.get(name, (name.replace("_", " ").capitalize(), ""))
        return cls(name, label, tone)


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, in a sentence, what to do about it, and the reasons one by one where there are several."""

    message: str
    next_step: str = ""
    code: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """A seller a step could have; `chosen` is the one it is planned with. `speed` and `rating` may be unknown."""

    id: str
    label: str
    price: str
    chosen: bool = False
    market: str = ""
    speed: str = ""
    rating: str = ""


@dataclass(frozen=True, slots=True)
class StepView:
    id: str
    number: int
    title: str
    capability: str
    state: State
    seller: str = ""
    market: str = ""
    price: str = ""
    attempts: int = 0
    duration: str = ""
    fraction: float | None = None
    message: str = ""
    problem: Problem | None = None
    depends_on: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()  # before the approval, cheapest first
    cap: str = ""  # decimal text


@dataclass(frozen=True, slots=True)
class PaymentView:
    state: State
    amount: str
    network: str
    payer: str
    payee: str
    transaction: str
    refund_transaction: str = ""


@dataclass(frozen=True, slots=True)
class ReceiptView:
    """A receipt in words; `note` says plainly where the money is now."""

    id: str
    title: str
    seller: str
    market: str
    state: State
    amount: str
    note: str
    finished_at: datetime
    result_hash: str
    signer: str
    payments: tuple[PaymentView, ...]

    @property
    def moved(self) -> bool:
        """Whether money was ever set aside for it."""
        return self.state.name != "failed"


@dataclass(frozen=True, slots=True)
class LogLine:
    sequence: int
    at: datetime
    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class MoneyView:
    """All of them texts with their unit; empty where not known yet."""

    limit: str = ""
    expected: str = ""
    worst: str = ""
    reserved: str = ""
    spent: str = ""
    refunded: str = ""


@dataclass(frozen=True, slots=True)
class RunView:
    """Everything the workflow page needs."""

    id: str
    text: str
    state: State
    created_at: datetime
    planner: str = ""
    notes: tuple[str, ...] = ()  # what the planner says of its plan
    steps: tuple[StepView, ...] = ()
    money: MoneyView = MoneyView()
    receipts: tuple[ReceiptView, ...] = ()
    blocks: tuple[Block, ...] = ()
    problem: Problem | None = None
    log: tuple[LogLine, ...] = ()
    duration: str = ""
    files: tuple[tuple[str, str], ...] = ()  # name, size
    agent_id: str = ""  # when it is one run of one agent

    @property
    def final(self) -> bool:
        return self.state.name in FINAL

    @property
    def can_approve(self) -> bool:
        return self.state.name == "awaiting_approval"

    @property
    def can_cancel(self) -> bool:
        return self.state.name in ("planning", "awaiting_approval", "approved", "executing")

    @property
    def can_keep(self) -> bool:
        """Whether its plan is worth keeping as a template."""
        return self.state.name == "completed" and not self.agent_id

    @property
    def done_steps(self) -> int:
        return sum(step.state.name == "completed" for step in self.steps)

    @property
    def movable(self) -> int:
        """How many steps have somebody else to be bought from."""
        return sum(len(step.choices) > 1 for step in self.steps)

    @property
    def wide(self) -> Drawing:
        return draw(_graph(self.steps))

    @property
    def tall(self) -> Drawing:
        """For narrow screens; two steps side by side fit a phone."""
        return draw(_graph(self.steps), down=True, node_width=TALL_NODE)

    def step(self, step_id: str) -> StepView:
        return next(step for step in self.steps if step.id == step_id)


def _graph(steps: Sequence[StepView]) -> dict[str, Sequence[str]]:
    return {step.id: step.depends_on for step in steps}


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of the list of workflows."""

    id: str
    text: str
    state: State
    created_at: datetime
    steps: int = 0
    spent: str = ""
