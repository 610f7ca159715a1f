"""The nouns of workflows: files, plans, estimates, and a workflow as its owner sees it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from agentnexus.core.canonical import Json
from agentnexus.core.money import Money, total
from agentnexus.core.offers import CAPABILITY_NAME, Noun, Offer
from agentnexus.core.payments import Receipt
from agentnexus.workflows.engine.port import Retry
from agentnexus.workflows.transforms import Condition, Transform

STEPS_MAX = 100
PARALLEL_MAX = 16
TEXT_MAX = 100_000
SINGLE = "single"  # the planner of runs of one agent: its step is pinned to that very offer
LOCAL = "plan.transform"  # the capability of steps that are done here, for nothing
StepKind = Literal["service_call", "data_transform", "conditional"]


class FileRef(Noun):
    """An uploaded file; its bytes are the blob ``sha256:…``."""

    name: str = Field(min_length=1, max_length=300)
    media_type: str = Field(default="application/octet-stream", max_length=200)
    size_bytes: int = Field(ge=0)
    blob: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")


class StepOffer(Noun):
    """The offer a step is planned with. `price` is its maximum; `rating` 0-5 from `ratings` outcomes, 0 means new."""

    id: str
    market: str
    seller: str
    seller_name: str = ""
    title: str = ""
    endpoint: str = ""
    price: Money
    latency_ms: int | None = None
    rating: float = 0.0
    ratings: int = 0

    @classmethod
    def of(cls, offer: Offer) -> StepOffer:
        return cls(
            id=offer.id, market=offer.market, seller=offer.seller.key, seller_name=offer.seller.name,
            title=offer.title, endpoint=offer.endpoint, price=offer.price.maximum, latency_ms=offer.latency_ms,
            rating=offer.reputation.score, ratings=offer.reputation.count,
        )  # fmt: skip


class StepRetry(Noun):
    """How often a step is tried on retryable errors, with exponential backoff and jitter; then the next seller."""

    attempts: int = Field(default=3, ge=1, le=10)
    first_delay_seconds: float = Field(default=1.0, ge=0, le=600)
    longest_delay_seconds: float = Field(default=30.0, ge=0, le=3600)

    def policy(self) -> Retry:
        return Retry(self.attempts, self.first_delay_seconds, 2.0, self.longest_delay_seconds)


class Undo(Noun):
    """How a completed step is taken back: another capability, with input that may refer to the step's own output."""

    capability: str = Field(pattern=CAPABILITY_NAME, max_length=100)
    input: dict[str, object] = Field(default_factory=dict)


class PlanStep(Noun):
    """One hire, or a `transform` of earlier outputs that is done here for nothing.

    `input` may hold ``{"$file": n}`` and ``{"$step": id, "path": "result.text"}`` (see `references`). A step whose
    condition `when` does not hold is skipped, and so is every step that needs its output.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    title: str = Field(max_length=300)
    capability: str = Field(pattern=CAPABILITY_NAME, max_length=100)
    input: dict[str, object] = Field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    offer: StepOffer | None = None
    picked: bool = False  # the owner chose this seller: it is tried again before another is
    retry: StepRetry = StepRetry()
    undo: Undo | None = None
    timeout_seconds: float | None = Field(default=None, gt=0, le=7 * 86400)  # of each attempt; the workflow's at most
    max_price: Money | None = None  # the owner's own cap for this step, whoever does it
    transform: Transform | None = None
    when: Condition | None = None

    @model_validator(mode="before")
    @classmethod
    def _local_by_transform(cls, values: object) -> object:
        if isinstance(values, Mapping) and values.get("transform") is not None:
            return {"capability": LOCAL, **values}
        return values

    @model_validator(mode="after")
    def _local_or_hired(self) -> PlanStep:
        if (self.transform is not None) != (self.capability == LOCAL):
            raise ValueError(f"a step has a transform if and only if its capability is {LOCAL}")
        if self.local and (self.input or self.offer or self.undo or self.max_price):
            raise ValueError("a transform has no input, seller, price or undo: it is done here")
        return self

    @property
    def local(self) -> bool:
        """Whether nobody is hired for it."""
        return self.transform is not None

    @property
    def kind(self) -> StepKind:
        if self.when is not None:
            return "conditional"
        return "data_transform" if self.local else "service_call"

    @property
    def templates(self) -> list[object]:
        """Everything in the step that may refer to other steps before it runs."""
        parts = (part.model_dump() for part in (self.transform, self.when) if part is not None)
        return [self.input, *parts]


class Plan(Noun):
    """A DAG of steps. `output` is a template of references that makes the workflow's result; `notes` are for people."""

    planner: str
    steps: tuple[PlanStep, ...]
    output: object = None
    notes: tuple[str, ...] = ()

    def step(self, step_id: str) -> PlanStep:
        return next(step for step in self.steps if step.id == step_id)


class StepEstimate(Noun):
    """Price of one step: with its planned offer, and at worst (dearest fallback, every attempt kept by the seller).

    `most` is the dearest price that was counted, and `undo_most` that of undoing it: nobody dearer is hired without
    being approved again. None where nobody sells it in the asset that is counted in.
    """

    step: str
    expected: Money
    worst_case: Money
    seconds: float | None = None
    alternatives: tuple[StepOffer, ...] = ()
    most: Money | None = None
    undo_most: Money | None = None


class Estimate(Noun):
    """What a plan will cost before it is approved; `fees` per network, `seconds` along the critical path if known.

    `parallel_groups`: steps that may run at once, in order; skipped conditional steps would cost less than expected.
    """

    expected: Money
    worst_case: Money
    fees: dict[str, Money] = Field(default_factory=dict)
    seconds: float | None = None
    steps: tuple[StepEstimate, ...] = ()
    critical_path: tuple[str, ...] = ()
    parallel_groups: tuple[tuple[str, ...], ...] = ()

    def step(self, step_id: str) -> StepEstimate | None:
        return next((entry for entry in self.steps if entry.step == step_id), None)


class WorkflowStatus(StrEnum):
    PLANNING = "planning"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    EXECUTING = "executing"
    ROLLING_BACK = "rolling_back"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (WorkflowStatus.COMPLETED, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED)


class StepStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    COMPENSATED = "compensated"
    REFUNDED = "refunded"
    SKIPPED = "skipped"


class StepState(Noun):
    """A step as it stands: `progress` 0..1, `receipt` is the id of the final one, `receipts` all of them in order."""

    id: str
    title: str
    capability: str
    status: StepStatus = StepStatus.PENDING
    attempts: int = 0
    duration_ms: int | None = None
    progress: float | None = None
    message: str = ""
    receipt: str | None = None
    output: str = ""  # blob of the step's output, once completed
    error: dict[str, object] | None = None
    undo_attempts: int = 0


class NotUndone(Noun):
    """A step of a workflow that was given up and yet stays done; `paid` is what its seller has."""

    step: str
    reason: str
    paid: Money


class StepWarning(Noun):
    """What an agent said to be careful about; text of a seller, not of ours."""

    step: str
    title: str
    warning: str


class WorkflowRequest(Noun):
    """What a workflow was created with; the durable input of its run."""

    user_id: str = Field(min_length=1, max_length=200)
    text: str = Field(max_length=TEXT_MAX)
    files: tuple[FileRef, ...] = Field(default=(), max_length=STEPS_MAX)
    max_cost: Money
    max_seconds: float = Field(default=600, gt=0, le=7 * 86400)
    auto_approve: bool = False
    grant: str = Field(default="", max_length=200)
    """A signed approval (its id, or ``any``) that may let the plan go ahead; when it does not, a person is asked."""
    plan: Plan | None = None
    max_steps: int = Field(default=STEPS_MAX, ge=1, le=STEPS_MAX)
    max_parallel: int = Field(default=PARALLEL_MAX, ge=1, le=PARALLEL_MAX)
    parent_budget: str | None = None
    metadata: dict[str, object] = Field(default_factory=dict)


class Workflow(Noun):
    """A workflow as its owner sees it."""

    id: str
    user_id: str
    text: str
    files: tuple[FileRef, ...] = ()
    status: WorkflowStatus
    planner: str = ""
    plan: Plan | None = None
    estimate: Estimate | None = None
    max_cost: Money
    cost: Money
    steps: tuple[StepState, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    metadata: dict[str, object] = Field(default_factory=dict)
    result: object = None
    warnings: tuple[StepWarning, ...] = ()
    not_undone: tuple[NotUndone, ...] = ()
    error: dict[str, object] | None = None
    sequence: int = 0
    created_at: datetime
    started_at: datetime | None = None  # when its steps began
    updated_at: datetime
    finished_at: datetime | None = None

    def to_task_json(self) -> dict[str, object]:
        """What ``nexus task --json`` prints."""
        return {
            "workflow_id": self.id,
            "status": self.status.value,
            "planner": self.planner,
            "plan": {"steps": [_planned(step) for step in self.plan.steps] if self.plan else []},
            "estimate": None if self.estimate is None else self.estimate.model_dump(mode="json"),
            "cost": self.cost.to_json(),
            "result": self.result,
            "notes": list(self.plan.notes) if self.plan else [],
            "warnings": [warning.model_dump() for warning in self.warnings],
            "not_undone": [left.model_dump(mode="json") for left in self.not_undone],
            "steps": [
                {
                    "id": step.id,
                    "status": step.status.value,
                    "attempts": step.attempts,
                    "duration_ms": step.duration_ms,
                    "receipt": step.receipt,
                }
                for step in self.steps
            ],
            "receipts": [receipt.model_dump(mode="json") for receipt in self.receipts],
            "error": self.error,
        }


def _planned(step: PlanStep) -> dict[str, object]:
    offer = step.offer
    return {
        "id": step.id,
        "capability": step.capability,
        "seller": None if offer is None else offer.seller,
        "market": None if offer is None else offer.market,
        "depends_on": list(step.depends_on),
        "price": None if offer is None else offer.price.to_json(),
    }


def spent(receipts: Sequence[Receipt], zero: Money) -> Money:
    """What receipts say was really paid, in the asset of `zero` or counted in it (what is neither is left out)."""
    paid = [
        Money(zero.asset, payment.worth(zero.asset.caip19))
        for receipt in receipts
        for payment in receipt.payments
        if payment.state.value in ("confirmed", "released")
    ]
    return total(paid, zero.asset)


def as_json(value: object) -> Json:
    """A JSON value that came through `object`-typed fields, back in the type that says so."""
    return value if value is None or isinstance(value, (bool, int, float, str, list, dict, tuple)) else str(value)
