"""What makes a plan runnable, checked before money moves. Pure; every fault is named, not only the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agentnexus.core.errors import InvalidPlan
from agentnexus.core.offers import Offer, Schema
from agentnexus.workflows import transforming
from agentnexus.workflows.model import STEPS_MAX, FileRef, Plan, PlanStep, StepOffer
from agentnexus.workflows.references import FileReference, StepReference, references, steps_used
from agentnexus.workflows.schemas import at_path, problems

REASONS_MAX = 20


@dataclass(frozen=True, slots=True)
class Offered:
    """What is on sale, by capability: offers best first, and the schemas of the best one."""

    offers: Mapping[str, Sequence[Offer]] = field(default_factory=dict)

    def best(self, capability: str) -> Offer | None:
        found = self.offers.get(capability, ())
        return found[0] if found else None

    def planned(self, step: PlanStep) -> Offer | None:
        """The offer a step names, or the best one of its capability."""
        found = self.offers.get(step.capability, ())
        if step.offer is not None:
            found = [offer for offer in found if offer.id == step.offer.id]
        return found[0] if found else None

    def output_type(self, step: PlanStep) -> Schema:
        offer = self.planned(step)
        return {} if offer is None else offer.capability.output_schema


def check_plan(plan: Plan, files: Sequence[FileRef], offered: Offered, steps_max: int = STEPS_MAX) -> None:
    """Raises `InvalidPlan` with all reasons in ``details.reasons``."""
    refuse(list(faults(plan, files, offered, steps_max)))


def refuse(found: Sequence[str]) -> None:
    """Raises `InvalidPlan` when there are reasons to; the first ones are in ``details.reasons``."""
    reasons = list(found[:REASONS_MAX])
    if reasons:
        raise InvalidPlan(
            f"the plan cannot run: {reasons[0]}" + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""),
            next_step="say the task in other words, add what is missing, or plan the steps by hand",
            reasons=reasons,
        )


def faults(plan: Plan, files: Sequence[FileRef], offered: Offered, steps_max: int = STEPS_MAX) -> Iterator[str]:
    """Every reason why a plan cannot run; schemas are only compared once the graph is sound."""
    graph = list(unsound(plan, files, steps_max))
    yield from graph
    yield from _offer_faults(plan, offered)
    if graph:
        return
    types = output_types(plan, offered)
    for step in plan.steps:
        offer = offered.planned(step)
        if offer is not None:
            for problem in problems(step.input, offer.capability.input_schema, types):
                yield f"step {step.id} ({step.capability}): {problem}"
        undo = None if step.undo is None else offered.best(step.undo.capability)
        if step.undo is not None and undo is not None:
            for problem in problems(step.undo.input, undo.capability.input_schema, types):
                yield f"the undo of {step.id} ({step.undo.capability}): {problem}"
    yield from _output_faults(plan, types)


def unsound(plan: Plan, files: Sequence[FileRef], steps_max: int = STEPS_MAX) -> Iterator[str]:
    """The reasons that can be told without knowing what is on sale."""
    try:
        yield from list(_graph_faults(plan, len(files), steps_max))
    except InvalidPlan as error:
        yield error.message


def _graph_faults(plan: Plan, file_count: int, steps_max: int) -> Iterator[str]:
    if not plan.steps:
        yield "it has no steps"
    if len(plan.steps) > steps_max:
        yield f"it has {len(plan.steps)} steps, at most {steps_max} are allowed"
    ids = [step.id for step in plan.steps]
    for step_id in {step_id for step_id in ids if ids.count(step_id) > 1}:
        yield f"two steps are called {step_id}"
    known = set(ids)
    for step in plan.steps:
        for dependency in step.depends_on:
            if dependency not in known:
                yield f"step {step.id} depends on {dependency}, which does not exist"
        for template in step.templates:
            yield from _reference_faults(f"step {step.id}", template, known, file_count, set(step.depends_on))
        for fault in transforming.faults(step.transform, step.when):
            yield f"step {step.id}: {fault}"
        if step.undo is not None:
            yield from _reference_faults(f"undo of {step.id}", step.undo.input, known, file_count, known)
    yield from _reference_faults("the output", plan.output, known, file_count, known)
    if set(ids) == known and len(ids) == len(known) and (loop := cycle(plan)):
        yield f"steps wait for each other: {' → '.join(loop)}"


def _reference_faults(
    where: str, template: object, known: set[str], file_count: int, allowed: set[str]
) -> Iterator[str]:
    for reference in references(template):
        if isinstance(reference, FileReference) and not 0 <= reference.index < file_count:
            yield f"{where} uses file {reference.index}, {file_count} were given"
        if isinstance(reference, StepReference) and reference.step not in known:
            yield f"{where} uses step {reference.step}, which does not exist"
        elif isinstance(reference, StepReference) and reference.step not in allowed:
            yield f"{where} uses step {reference.step} without depending on it"


def output_types(plan: Plan, offered: Offered) -> dict[str, Schema]:
    """By step: what its seller's schema promises, or what its transform makes of such. The plan must be sound."""
    types: dict[str, Schema] = {}
    for step in (plan.step(step_id) for group in layers(plan) for step_id in group):
        hired = step.transform is None
        types[step.id] = offered.output_type(step) if hired else transforming.output_type(step.transform, types)
    return types


def _offer_faults(plan: Plan, offered: Offered) -> Iterator[str]:
    for step in plan.steps:
        if step.local:
            continue
        if not offered.offers.get(step.capability):
            yield f"step {step.id} needs {step.capability}, which nobody sells"
        elif offered.planned(step) is None:
            yield f"step {step.id} is planned with an offer that is gone"
        if step.undo is not None and not offered.offers.get(step.undo.capability):
            yield f"the undo of {step.id} needs {step.undo.capability}, which nobody sells"


def _output_faults(plan: Plan, types: Mapping[str, Schema]) -> Iterator[str]:
    for reference in references(plan.output):
        if isinstance(reference, StepReference) and not at_path(types[reference.step], reference.parts):
            yield f"the output uses {reference.path!r} of step {reference.step}, which does not give that"


def cycle(plan: Plan) -> list[str]:
    """A loop of dependencies, first id repeated at the end; empty when there is none."""
    ids = {step.id for step in plan.steps}
    waits = {step.id: [d for d in step.depends_on if d in ids] for step in plan.steps}
    finished: dict[str, bool] = {}  # absent: not visited; False: on the trail
    for start, first in waits.items():
        if start in finished:
            continue
        trail, stack = [start], [iter(first)]
        finished[start] = False
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
                finished[trail.pop()] = True
            elif following not in finished:
                finished[following] = False
                trail.append(following)
                stack.append(iter(waits[following]))
            elif not finished[following]:
                return [*trail[trail.index(following) :], following]
    return []


def is_sound(plan: Plan) -> bool:
    """Whether every step waits only for steps that are there, and none for itself in the end."""
    known = {step.id for step in plan.steps}
    return all(d in known for step in plan.steps for d in step.depends_on) and not cycle(plan)


def layers(plan: Plan) -> list[list[str]]:
    """Steps by how many they wait for in a row: what one layer holds may run at once. The plan must be sound."""
    depth: dict[str, int] = {}
    waiting = list(plan.steps)
    while waiting:
        ready = [step for step in waiting if all(d in depth for d in step.depends_on)]
        if not ready:
            raise InvalidPlan("steps wait for each other", next_step="remove the loop")
        for step in ready:
            depth[step.id] = 1 + max((depth[d] for d in step.depends_on), default=-1)
        waiting = [step for step in waiting if step.id not in depth]
    return [[s for s, d in depth.items() if d == level] for level in sorted(set(depth.values()))]


def with_dependencies(step: PlanStep) -> PlanStep:
    """The step with every step it refers to among its dependencies."""
    return step.model_copy(update={"depends_on": tuple(dict.fromkeys((*step.depends_on, *steps_used(step.templates))))})


def with_offers(plan: Plan, offered: Offered, *, cheapest: bool = False) -> Plan:
    """Each step with its best offer, or with the cheapest one."""

    def choose(step: PlanStep) -> PlanStep:
        found = offered.offers.get(step.capability, ())
        if not found:
            return step
        offer = min(found, key=lambda o: o.price.maximum.decimal) if cheapest else found[0]
        return step.model_copy(update={"offer": StepOffer.of(offer)})

    return plan.model_copy(update={"steps": tuple(choose(step) for step in plan.steps)})
