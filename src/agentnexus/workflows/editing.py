"""Changes to a plan before its approval: drop a step, choose another seller, cap a price. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from agentnexus.core.errors import Conflict, InvalidInput, NoOffer
from agentnexus.core.money import Money
from agentnexus.core.offers import Noun, Offer
from agentnexus.workflows.model import Plan, PlanStep, StepOffer
from agentnexus.workflows.plan import Offered
from agentnexus.workflows.references import read_reference, steps_used


class PlanChange(Noun):
    """All of it or nothing: steps to drop, sellers by step (offer id, key or name), caps by step (None lifts one)."""

    drop: tuple[str, ...] = Field(default=(), max_length=100)
    sellers: dict[str, str] = Field(default_factory=dict, max_length=100)
    max_prices: dict[str, Money | None] = Field(default_factory=dict, max_length=100)

    @property
    def empty(self) -> bool:
        return not (self.drop or self.sellers or self.max_prices)


def changed(plan: Plan, change: PlanChange, offered: Offered) -> Plan:
    """The plan after a change. Raises `Conflict` (somebody needs it), `NoOffer`, `InvalidInput` (no such step)."""
    if change.empty:
        raise InvalidInput("there is nothing to change", next_step="name steps to drop, sellers or maxPrices")
    for step_id, cap in change.max_prices.items():
        plan = _with_step(plan, capped(_hired(plan, step_id), cap, offered))
    for step_id, wanted in change.sellers.items():
        plan = _with_step(plan, sold_by(_hired(plan, step_id), wanted, offered))
    return without(plan, change.drop) if change.drop else plan


def without(plan: Plan, dropped: Sequence[str]) -> Plan:
    """The plan without some steps. Raises `Conflict` naming whoever needs one of them."""
    for step_id in dropped:
        _step(plan, step_id)
    rest = tuple(step for step in plan.steps if step.id not in dropped)
    if not rest:
        raise Conflict("nothing would be left to do", next_step="cancel the workflow instead")
    output = _without_parts(plan.output, set(dropped))
    needed = {
        step_id: [f"step {s.id} ({s.title or s.capability})" for s in rest if step_id in _needs(s)]
        + (["the result"] if step_id in steps_used(output) else [])
        for step_id in dropped
    }
    for step_id, by in needed.items():
        if by:
            raise Conflict(
                f"step {step_id} cannot be dropped: {' and '.join(by)} needs it",
                next_step="drop those as well, or keep it",
                step=step_id,
                needed_by=by,
            )
    return plan.model_copy(update={"steps": rest, "output": output})


def _needs(step: PlanStep) -> set[str]:
    undo = () if step.undo is None else steps_used(step.undo.input)
    return {*step.depends_on, *steps_used(step.templates), *undo}


def _without_parts(output: object, dropped: set[str]) -> object:
    """A result of several parts loses those that only dropped steps would have made, but never all of them."""
    if read_reference(output) is not None:
        return output
    if isinstance(output, Mapping):
        kept = {key: part for key, part in output.items() if not _only_from(part, dropped)}
        return kept or output
    if isinstance(output, list | tuple):
        return [part for part in output if not _only_from(part, dropped)] or output
    return output


def _only_from(part: object, dropped: set[str]) -> bool:
    used = set(steps_used(part))
    return bool(used) and used <= dropped


def sold_by(step: PlanStep, wanted: str, offered: Offered) -> PlanStep:
    """The step at another seller. Raises `NoOffer` naming those who sell it, `InvalidInput` above the step's cap."""
    offers = offered.offers.get(step.capability, ())
    found = next((offer for offer in offers if wanted in (offer.id, offer.seller.key, offer.seller.name)), None)
    if found is None:
        sellers = [offer.seller.name or offer.seller.key for offer in offers][:10]
        raise NoOffer(
            f"{wanted} does not sell {step.capability} now",
            next_step=f"choose one of {', '.join(sellers)}" if sellers else "drop the step",
            step=step.id,
        )
    if not _within(found, step.max_price):
        raise InvalidInput(
            f"{found.seller.name or wanted} asks {found.price.maximum}, step {step.id} may cost {step.max_price}",
            next_step="raise the cap of that step, or choose another seller",
            field=f"sellers.{step.id}",
        )
    return step.model_copy(update={"offer": StepOffer.of(found), "picked": True})


def capped(step: PlanStep, cap: Money | None, offered: Offered) -> PlanStep:
    """The step under a cap, at a cheaper seller if it must be. Raises `NoOffer` with the lowest price there is."""
    if cap is not None and cap.atomic <= 0:
        raise InvalidInput("a cap must be above zero", field=f"maxPrices.{step.id}", next_step="drop the step instead")
    planned = offered.planned(step)
    if planned is not None and _within(planned, cap):
        return step.model_copy(update={"max_price": cap})
    offers = offered.offers.get(step.capability, ())
    fitting = next((offer for offer in offers if _within(offer, cap)), None)
    if fitting is None:
        prices = sorted((o.price.maximum for o in offers if _comparable(o, cap)), key=lambda price: price.atomic)
        cheapest = f"the cheapest asks {prices[0]}" if prices else "nobody asks in that currency"
        raise NoOffer(
            f"nobody sells {step.capability} for at most {cap}: {cheapest}",
            next_step="raise the cap, or drop the step",
            step=step.id,
        )
    return step.model_copy(update={"max_price": cap, "offer": StepOffer.of(fitting), "picked": False})


def _comparable(offer: Offer, cap: Money | None) -> bool:
    return cap is None or offer.price.maximum.asset.caip19 == cap.asset.caip19


def _within(offer: Offer, cap: Money | None) -> bool:
    return cap is None or (_comparable(offer, cap) and offer.price.maximum.atomic <= cap.atomic)


def _hired(plan: Plan, step_id: str) -> PlanStep:
    step = _step(plan, step_id)
    if step.local:
        raise InvalidInput(
            f"nobody is hired for step {step_id}", field="step", next_step="it is done here and costs nothing"
        )
    return step


def _step(plan: Plan, step_id: str) -> PlanStep:
    for step in plan.steps:
        if step.id == step_id:
            return step
    known = ", ".join(step.id for step in plan.steps)
    raise InvalidInput(f"the plan has no step {step_id}", field="step", next_step=f"use one of {known}")


def _with_step(plan: Plan, step: PlanStep) -> Plan:
    steps = tuple(step if each.id == step.id else each for each in plan.steps)
    return plan.model_copy(update={"steps": steps})
