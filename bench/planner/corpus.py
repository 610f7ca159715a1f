"""Tasks with the plan each should become, read from TOML, and the judgement of a plan against them. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agentnexus.core.canonical import content_hash
from agentnexus.core.errors import NexusError, NoOffer
from agentnexus.workflows.model import FileRef, Plan, PlanStep
from agentnexus.workflows.planner.port import Task
from agentnexus.workflows.references import FileReference, StepReference, references

HERE = Path(__file__).resolve().parent
TUNED, HELD_OUT = HERE / "tasks.toml", HERE / "heldout.toml"
TEXT_MIN = 60


class TableQuery(BaseModel):
    """The query a question has to become. `group`: columns, a date with its period as ``date/month``."""

    model_config = ConfigDict(extra="forbid")

    group: list[str]
    measure: str
    order: str | None = None
    limit: int | None = None


class Case(BaseModel):
    """One task of the corpus; what the fields mean is said at the head of ``tasks.toml``."""

    model_config = ConfigDict(extra="forbid")

    say: str
    files: list[str]
    plan: list[str] = Field(default_factory=list)
    options: dict[str, object] = Field(default_factory=dict, alias="with")
    table: TableQuery | None = None
    results: int | None = None
    unused: list[int] = Field(default_factory=list)
    refused: Literal["nobody", "nothing"] | None = None

    @property
    def task(self) -> Task:
        named = tuple(FileRef(name=name, size_bytes=1, blob=content_hash(name)) for name in self.files)
        return Task(self.say.strip(), named)


def read_corpus(path: Path) -> list[Case]:
    return [Case.model_validate(entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["task"]]


def misses(case: Case, answer: Plan | NexusError) -> Iterator[str]:
    """Everything in which an answer differs from what the case asks for; nothing when it is a hit."""
    if isinstance(answer, NexusError):
        yield from _refusal_misses(case, answer)
        return
    if case.refused is not None:
        yield f"should be refused, became {sorted(terms(answer))}"
        return
    found = terms(answer)
    if found != set(case.plan):
        yield f"plan is {sorted(found)}, not {sorted(case.plan)}"
    for place, wanted in case.options.items():
        capability, _, field = place.rpartition(".")
        values = [step.input.get(field) for step in answer.steps if step.capability == capability]
        if not any(_fits(value, wanted) for value in values):
            yield f"{place} is {values}, not {wanted!r}"
    results = len(answer.output) if isinstance(answer.output, Mapping) and "$step" not in answer.output else 1
    if case.results is not None and case.results != results:
        yield f"gives {results} results, not {case.results}"
    for index in case.unused:
        if not any(case.files[index] in note for note in answer.notes):
            yield f"notes do not say that {case.files[index]} is not used: {list(answer.notes)}"


def _refusal_misses(case: Case, error: NexusError) -> Iterator[str]:
    if case.refused is None:
        yield f"was refused: {error.message}"
    elif not error.next_step:
        yield "was refused without advice"
    elif isinstance(error, NoOffer) and ("nothing to work on" in error.message) != (case.refused == "nothing"):
        yield f"was refused for another reason: {error.message}"


def _fits(value: object, wanted: object) -> bool:
    if isinstance(wanted, str):
        return isinstance(value, str) and re.search(wanted, value, re.IGNORECASE) is not None
    if isinstance(wanted, list) and isinstance(value, list):
        return sorted(map(str, value)) == sorted(map(str, wanted))
    return value == wanted


def questions(plan: Plan) -> list[str]:
    """What the steps that read tables are asked."""
    return [
        str(step.input["question"])
        for step in plan.steps
        if step.capability == "table.analyze" and "question" in step.input
    ]


def terms(plan: Plan) -> set[str]:
    """``capability(arguments)`` of every step nobody waits for."""
    by_id = {step.id: step for step in plan.steps}
    waited_for = {dependency for step in plan.steps for dependency in step.depends_on}
    return {_term(step, by_id) for step in plan.steps if step.id not in waited_for}


def _term(step: PlanStep, by_id: Mapping[str, PlanStep]) -> str:
    arguments: list[str] = []
    for reference in references(step.input):
        if isinstance(reference, FileReference) and reference.form != "name":
            arguments.append(str(reference.index))
        elif isinstance(reference, StepReference):
            arguments.append(_term(by_id[reference.step], by_id))
    arguments += sorted(set(_literals(step.input)))
    return f"{step.capability}({','.join(dict.fromkeys(arguments))})"


def _literals(value: object) -> Iterator[str]:
    """Texts and addresses that stand in an input itself."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if isinstance(item, str) and name in ("text", "html", "url"):
                yield "url" if re.match(r"https?://", item) else "text"
            else:
                yield from _literals(item)
    elif isinstance(value, list):
        for item in value:
            yield from _literals(item)
