"""A kept plan, and which of its values may be given anew. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import Field

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money
from agentnexus.core.offers import Noun
from agentnexus.workflows.by_hand import BY_HAND
from agentnexus.workflows.model import SINGLE, FileRef, Plan, PlanStep
from agentnexus.workflows.references import references


class TemplateBody(Noun):
    """What is kept of a workflow. The plan names capabilities and no sellers: those are found when it runs."""

    text: str
    plan: Plan
    files: tuple[FileRef, ...] = ()
    max_cost: Money
    max_seconds: float


class Parameter(Noun):
    """A value of the plan that a run may replace: ``s1.question``. Its default is what was used when it was saved."""

    name: str
    step: str
    title: str
    default: object = None


class Template(Noun):
    """A kept plan of a user."""

    id: str
    user_id: str
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=2000)
    body: TemplateBody
    created_at: datetime
    updated_at: datetime

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return parameters(self.body.plan)

    def to_json(self) -> dict[str, object]:
        """In both spellings, like workflows."""
        body = self.body
        return {
            "id": self.id, "name": self.name, "description": self.description, "text": body.text,
            "steps": [{"id": s.id, "title": s.title, "capability": s.capability, "depends_on": list(s.depends_on)}
                      for s in body.plan.steps],
            "parameters": [parameter.model_dump(mode="json") for parameter in self.parameters],
            "files": [{"name": file.name, "media_type": file.media_type} for file in body.files],
            "max_cost": body.max_cost.to_json(), "max_seconds": body.max_seconds,
            "created_at": self.created_at.isoformat(), "updated_at": self.updated_at.isoformat(),
            "createdAt": self.created_at.isoformat(), "userId": self.user_id,
        }  # fmt: skip


def kept(plan: Plan) -> Plan:
    """A plan without its sellers and their prices of that day: nobody in it is hired by name."""
    steps = tuple(step.model_copy(update={"offer": None, "picked": False}) for step in plan.steps)
    planner = BY_HAND if plan.planner == SINGLE else plan.planner
    return plan.model_copy(update={"planner": planner, "steps": steps})


def parameters(plan: Plan) -> tuple[Parameter, ...]:
    """The values of the plan's inputs that do not come from files or other steps."""
    return tuple(
        Parameter(name=f"{step.id}.{key}", step=step.id, title=f"{step.title or step.capability}: {key}", default=value)
        for step in plan.steps
        for key, value in step.input.items()
        if not list(references(value))
    )


def filled(plan: Plan, values: Mapping[str, object]) -> Plan:
    """The plan with other values. Raises `InvalidInput` for a name it does not have."""
    known = {parameter.name for parameter in parameters(plan)}
    strange = sorted(set(values) - known)
    if strange:
        raise InvalidInput(
            f"the template has no input {strange[0]}",
            field=f"inputs.{strange[0]}",
            next_step=f"use one of {', '.join(sorted(known))}" if known else "leave inputs out",
        )
    return plan.model_copy(update={"steps": tuple(_filled(step, values) for step in plan.steps)})


def _filled(step: PlanStep, values: Mapping[str, object]) -> PlanStep:
    for value in values.values():
        if list(references(value)):
            raise InvalidInput("an input cannot refer to files or steps", field="inputs", next_step="give the value")
    replaced = {key: values.get(f"{step.id}.{key}", value) for key, value in step.input.items()}
    return step.model_copy(update={"input": replaced})


def files_for(body: TemplateBody, given: Sequence[FileRef]) -> tuple[FileRef, ...]:
    """The files of a run: all anew, or those it was saved with. Raises `InvalidInput` for another number of them."""
    if given and len(given) != len(body.files):
        names = ", ".join(file.name for file in body.files) or "none"
        raise InvalidInput(
            f"the template takes {len(body.files)} files, {len(given)} were given",
            field="files",
            next_step=f"give one for each of: {names}",
        )
    return tuple(given) or body.files
