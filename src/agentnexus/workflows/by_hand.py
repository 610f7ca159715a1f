"""Plans that people write: the steps in their own words, checked like a model's. Sellers and prices come from here.

What `GET /workflows/{id}` shows as a plan may be sent back: its offers are left out, everything else is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agentnexus.core.errors import InvalidPlan
from agentnexus.workflows.model import SINGLE, STEPS_MAX, FileRef, Plan, PlanStep, StepRetry, Undo
from agentnexus.workflows.plan import refuse, unsound, with_dependencies
from agentnexus.workflows.transforms import Condition, Transform

BY_HAND = "hand"


class HandStep(BaseModel):
    """One step. `offer` is left out of what was shown; a cap on its price is set by ``PATCH …/plan``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    id: str = Field(max_length=32)
    title: str = Field(default="", max_length=300)
    capability: str = Field(default="", max_length=100, description="what is hired; left out for a transform")
    input: dict[str, object] = Field(default_factory=dict)
    depends_on: list[str] = Field(default_factory=list, alias="dependsOn", max_length=STEPS_MAX)
    undo: Undo | None = None
    retry: StepRetry = StepRetry()
    timeout_seconds: float | None = Field(default=None, alias="timeoutSeconds")
    when: Condition | None = None
    transform: Transform | None = None
    offer: dict[str, object] | None = Field(default=None, description="ignored: sellers are found anew")
    picked: bool = Field(default=False, description="ignored, like the offer")
    max_price: None = Field(default=None, alias="maxPrice")


class HandPlan(BaseModel):
    """Steps, and the `output` that makes the result: by default the output of the last step."""

    model_config = ConfigDict(extra="forbid")

    steps: list[HandStep] = Field(min_length=1, max_length=STEPS_MAX)
    output: object = None
    notes: list[str] = Field(default_factory=list, max_length=20)
    planner: str = Field(default="", max_length=100, description="ignored: the plan is yours")

    @field_validator("planner")
    @classmethod
    def _not_pinned(cls, planner: str) -> str:
        if planner == SINGLE:
            raise ValueError("one step at one seller is not a plan: POST /workflows/run hires it")
        return planner


def plan_by_hand(said: HandPlan, files: Sequence[FileRef]) -> Plan:
    """The plan to check, price and approve like any other. Raises `InvalidPlan` with every reason that shows now.

    What only the markets know (who sells it, what that takes and gives) is checked while it is planned.
    """
    steps: list[PlanStep] = []
    reasons: list[str] = []
    for number, step in enumerate(said.steps, 1):
        try:
            steps.append(_step(step))
        except ValidationError as error:
            reasons += [f"step {step.id or number}: {reason}" for reason in _faults(error)]
        except InvalidPlan as error:
            reasons.append(f"step {step.id or number}: {error.message}")
    output = said.output if said.output is not None else {"$step": said.steps[-1].id}
    plan = Plan(planner=BY_HAND, steps=tuple(steps), output=output, notes=tuple(note[:300] for note in said.notes))
    refuse(reasons or list(unsound(plan, files)))
    return plan


def _step(said: HandStep) -> PlanStep:
    found: dict[str, object] = {
        "id": said.id, "title": said.title or said.capability or "reshape", "input": said.input,
        "depends_on": tuple(dict.fromkeys(said.depends_on)), "undo": said.undo, "retry": said.retry,
        "when": said.when, "transform": said.transform, "timeout_seconds": said.timeout_seconds,
    }  # fmt: skip
    if said.capability:
        found["capability"] = said.capability
    elif said.transform is None:
        raise InvalidPlan("it has neither a capability nor a transform")
    return with_dependencies(PlanStep.model_validate(found))


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in fault["loc"])
        yield f"{where}: {fault['msg']}"[:300] if where else str(fault["msg"])[:300]
