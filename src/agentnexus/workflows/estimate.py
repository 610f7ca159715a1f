"""What a plan will cost: expected, at worst, fees per network, and how long it takes along its longest path. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agentnexus.core.errors import BudgetExceeded
from agentnexus.core.money import Money
from agentnexus.core.offers import Offer
from agentnexus.workflows.model import SINGLE, Estimate, Plan, PlanStep, StepEstimate, StepOffer
from agentnexus.workflows.plan import Offered, is_sound, layers
from agentnexus.workflows.schedule import critical_path

FALLBACKS = 3
REFUNDED_SCHEMES = frozenset({"exact", "upto", "escrow", "hold"})  # nothing stays with a seller who did not deliver
Fee = Callable[[Offer], Money | None]


def no_fee(_offer: Offer) -> Money | None:
    """x402: the seller's facilitator pays for the transaction."""
    return None


def estimate(plan: Plan, offered: Offered, zero: Money, fee: Fee = no_fee) -> Estimate:
    """All sums in the asset of `zero`; offers in other assets count as what they cost there only where they match."""
    steps = tuple(_step(step, offered, zero, pinned=plan.planner == SINGLE) for step in plan.steps)
    seconds = {entry.step: entry.seconds for entry in steps}
    sound = is_sound(plan)
    expected, worst = zero, zero
    for entry in steps:
        expected, worst = expected + entry.expected, worst + entry.worst_case
    return Estimate(
        expected=expected,
        worst_case=worst,
        fees=_fees(plan, offered, fee, zero),
        seconds=_longest(plan, seconds),
        steps=steps,
        critical_path=tuple(critical_path(plan, seconds)) if sound else (),
        parallel_groups=tuple(map(tuple, layers(plan))) if sound else (),
    )


def _step(step: PlanStep, offered: Offered, zero: Money, *, pinned: bool) -> StepEstimate:
    """The planned offer and the best others set the price that may be paid; within it anybody may be hired."""
    if step.local:
        return StepEstimate(step=step.id, expected=zero, worst_case=zero, seconds=0.0, most=zero)
    planned = offered.planned(step)
    others = [
        offer
        for offer in (() if pinned else offered.offers.get(step.capability, ()))
        if (planned is None or offer.id != planned.id) and _within(offer, step.max_price)
    ]
    counted = [o for o in ([planned] if planned else []) + others[:FALLBACKS] if _same_asset(o, zero)]
    expected = planned.price.maximum if planned is not None and _same_asset(planned, zero) else zero
    most = _dearest(counted, zero)
    hireable = [offer for offer in counted + others if most is not None and _within(offer, most)]
    undoing = () if step.undo is None else offered.offers.get(step.undo.capability, ())
    undo_most = _dearest(undoing[: 1 + FALLBACKS], zero)
    return StepEstimate(
        step=step.id,
        expected=expected,
        worst_case=max((_at_worst(o, step.retry.attempts) for o in hireable), default=expected) + (undo_most or zero),
        seconds=None if planned is None or planned.latency_ms is None else planned.latency_ms / 1000,
        alternatives=tuple(StepOffer.of(offer) for offer in others[:FALLBACKS]),
        most=most,
        undo_most=undo_most,
    )


def _dearest(offers: Sequence[Offer], zero: Money) -> Money | None:
    """The highest price among those in the asset that is counted in."""
    return max((offer.price.maximum for offer in offers if _same_asset(offer, zero)), default=None)


def _same_asset(offer: Offer, zero: Money) -> bool:
    return offer.price.maximum.asset.caip19 == zero.asset.caip19


def _within(offer: Offer, cap: Money | None) -> bool:
    return cap is None or (_same_asset(offer, cap) and offer.price.maximum <= cap)


def _at_worst(offer: Offer, attempts: int) -> Money:
    """Every attempt is paid where money goes first and comes back only if the seller likes."""
    refunded = all(str(rail.get("scheme", "exact")) in REFUNDED_SCHEMES for rail in offer.rails)
    return offer.price.maximum if refunded else offer.price.maximum * attempts


def _fees(plan: Plan, offered: Offered, fee: Fee, zero: Money) -> dict[str, Money]:
    fees: dict[str, Money] = {}
    for step in plan.steps:
        offer = offered.planned(step)
        for rail in () if offer is None else offer.rails[:1]:
            network = str(rail.get("network", "unknown"))
            amount = fee(offer) if offer is not None else None
            before = fees.get(network, zero if amount is None else Money(amount.asset, 0))
            fees[network] = before if amount is None else before + amount
    return fees


def _longest(plan: Plan, seconds: Mapping[str, float | None]) -> float | None:
    """Along the critical path; `None` when any step's time is unknown."""
    if any(value is None for value in seconds.values()):
        return None
    until: dict[str, float] = {}
    waiting: Sequence[PlanStep] = plan.steps
    while waiting:
        rest = []
        for step in waiting:
            if all(d in until for d in step.depends_on):
                until[step.id] = max((until[d] for d in step.depends_on), default=0.0) + (seconds[step.id] or 0.0)
            else:
                rest.append(step)
        if len(rest) == len(waiting):
            return None
        waiting = rest
    return max(until.values(), default=0.0)


def check_cost(found: Estimate, allowed: Money) -> None:
    """Raises `BudgetExceeded` before any money moves."""
    if found.expected > allowed:
        missing = found.expected - allowed
        dearest = max(found.steps, key=lambda entry: entry.expected.atomic)
        raise BudgetExceeded(
            f"this would cost {found.expected}, {allowed} is the most you allowed: {missing} is missing",
            next_step=f"allow at least {found.expected}, or ask for less: the dearest step is {dearest.step}"
            f" with {dearest.expected}",
            limit="max_cost",
            left=f"{allowed.decimal:f}",
            needed=f"{found.expected.decimal:f}",
            missing=f"{missing.decimal:f}",
        )


def to_reserve(found: Estimate | None, allowed: Money) -> Money:
    """What has to be there before a plan runs, and all it may cost then: its worst case, never more than is allowed.

    All that is allowed where some step's price is not known in the asset of `allowed`.
    """
    if found is None or any(entry.most is None for entry in found.steps):
        return allowed
    return min(found.worst_case, allowed)
