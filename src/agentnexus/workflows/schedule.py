"""In which order the steps of a plan may run: what is ready, what is cut off, what bounds the time. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from agentnexus.workflows.model import Plan, PlanStep
from agentnexus.workflows.plan import layers
from agentnexus.workflows.references import StepReference, references

UNKNOWN_SECONDS = 1.0  # so that among steps of unknown time the longest chain counts


def critical_path(plan: Plan, seconds: Mapping[str, float | None]) -> list[str]:
    """The chain of steps that takes longest, in order; of equal ones that of most steps. Unknown times count alike."""
    by_id = {step.id: step for step in plan.steps}
    until: dict[str, tuple[float, int]] = {}
    for group in layers(plan):
        for step_id in group:
            time, steps = max((until[d] for d in by_id[step_id].depends_on), default=(0.0, 0))
            until[step_id] = (time + _seconds(seconds, step_id), steps + 1)
    path: list[str] = []
    waited = list(until)
    while waited:
        last = max(waited, key=lambda step_id: until[step_id])
        path.append(last)
        waited = list(by_id[last].depends_on)
    return path[::-1]


def _seconds(seconds: Mapping[str, float | None], step_id: str) -> float:
    known = seconds.get(step_id)
    return UNKNOWN_SECONDS if known is None else known


def urgency(plan: Plan, seconds: Mapping[str, float | None]) -> dict[str, float]:
    """How long it takes from the start of each step to the end of everything that waits for it."""
    found: dict[str, float] = {}
    by_id = {step.id: step for step in plan.steps}
    for group in reversed(layers(plan)):
        for step_id in group:
            after = [found[other.id] for other in plan.steps if step_id in other.depends_on]
            found[step_id] = _seconds(seconds, step_id) + max(after, default=0.0)
    return {step_id: found[step_id] for step_id in by_id}


def ready(
    plan: Plan, ended: Collection[str], running: Collection[str], slots: int, urgent: Mapping[str, float]
) -> list[PlanStep]:
    """Steps to start now, the most urgent first, so that at most `slots` run; each only once all it needs has ended."""
    free = [
        step
        for step in plan.steps
        if step.id not in ended and step.id not in running and all(d in ended for d in step.depends_on)
    ]
    free.sort(key=lambda step: -urgent.get(step.id, 0.0))
    return free[: max(0, slots - len(running))]


def cut_off(step: PlanStep, skipped: Collection[str]) -> str | None:
    """The skipped step without which `step` cannot run; `None` when its references all have defaults."""
    for dependency in step.depends_on:
        if dependency not in skipped:
            continue
        used = [r for r in references(step.templates) if isinstance(r, StepReference) and r.step == dependency]
        if not used or not all(reference.has_default for reference in used):
            return dependency
    return None
