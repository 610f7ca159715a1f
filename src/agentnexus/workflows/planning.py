"""From a request to a checked, priced plan: ask the markets, plan, check, price; too dear → thriftier, else stop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agentnexus.core.errors import BudgetExceeded, InvalidPlan, NexusError, NoOffer, Unavailable
from agentnexus.core.money import Money
from agentnexus.core.offers import Constraints, Need, Offer
from agentnexus.platform.logs import log
from agentnexus.workflows.estimate import Fee, check_cost, estimate, no_fee
from agentnexus.workflows.model import Estimate, Plan, WorkflowRequest
from agentnexus.workflows.plan import Offered, check_plan, with_offers
from agentnexus.workflows.planner.cache import PlanCache
from agentnexus.workflows.planner.port import Planner, Task
from agentnexus.workflows.ports import Hirer

OFFERS_MAX = 500
REPAIRS_MAX = 3


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan that can run within the allowed cost."""

    plan: Plan
    estimate: Estimate


def offered_from(offers: Sequence[Offer]) -> Offered:
    """Offers by capability, in the order given (best first)."""
    by_capability: dict[str, list[Offer]] = defaultdict(list)
    for offer in {offer.id: offer for offer in offers}.values():
        by_capability[offer.capability.name].append(offer)
    return Offered(dict(by_capability))


class Planning:
    """Planners are asked in order; one that fails to answer (not one that says no) gives way to the next."""

    def __init__(
        self, hirer: Hirer, planners: Sequence[Planner], *, cache: PlanCache | None = None, fee: Fee = no_fee
    ) -> None:
        if not planners:
            raise ValueError("at least one planner is needed")
        self._hirer = hirer
        self._planners = tuple(planners)
        self._cache = cache or PlanCache()
        self._fee = fee

    async def plan(self, request: WorkflowRequest) -> Planned:
        """Raises `NoOffer`, `InvalidPlan` (with reasons) or `BudgetExceeded`; no money has moved."""
        offered = await self.offered(request)
        if request.plan is not None:
            check_plan(request.plan, request.files, offered, request.max_steps)
            found = (
                request.plan
                if all(s.offer or s.local for s in request.plan.steps)
                else with_offers(request.plan, offered)
            )
            return self._priced(found, offered, request.max_cost)
        task = Task(request.text, request.files, steps_max=request.max_steps)
        try:
            return await self._within(task, offered, request.max_cost)
        except NoOffer:
            # Perhaps only what is allowed is too little for it: then that is what has to be said, with the price.
            return await self._within(task, await self.offered(request, any_price=True), request.max_cost)

    async def _within(self, task: Task, offered: Offered, allowed: Money) -> Planned:
        """A plan that costs too much gets cheaper sellers; if that is not enough, a thriftier plan is made, once."""
        plan = await self._planned(task, offered)
        try:
            return self._priced(plan, offered, allowed)
        except BudgetExceeded:
            return await self._thriftier(task, plan, offered, allowed)

    async def offered(self, request: WorkflowRequest, *, any_price: bool = False) -> Offered:
        """What is on sale, within the allowed price or at any: for the task's words first, then everything."""
        constraints = Constraints(max_price=None if any_price else request.max_cost)
        steps = request.plan.steps if request.plan else ()
        named = {step.capability for step in steps if not step.local} | {
            step.undo.capability for step in steps if step.undo
        }
        needs = [Need(capability=name, constraints=constraints) for name in sorted(named)]
        if not named:
            needs = [Need(text=request.text[:5000], constraints=constraints), Need(constraints=constraints)]
        found: list[Offer] = []
        for need in needs:
            ranked = await self._hirer.offers(need, user_id=request.user_id, limit=OFFERS_MAX)
            found.extend(entry.offer for entry in ranked)
        return offered_from(found)

    async def _planned(self, task: Task, offered: Offered) -> Plan:
        """Of the first planner that answers: one that is away gives way to the next, one that says no is believed."""
        away: Unavailable | None = None
        for planner in self._planners:
            cached = self._cache.get(planner.name, task, offered)
            if cached is not None:
                return cached
            try:
                plan = await self._rounds(planner, task, offered)
            except Unavailable as error:
                away = error
                log.warning("planner gave way", planner=planner.name, error=error.message)
                continue
            self._cache.put(planner.name, task, offered, plan)
            return plan
        raise away or NoOffer("no planner answered")

    async def _rounds(self, planner: Planner, task: Task, offered: Offered) -> Plan:
        """An invalid plan goes back with its reasons, at most `REPAIRS_MAX` times; then the reasons are the answer."""
        for repair in range(REPAIRS_MAX + 1):
            try:
                plan = with_offers(await planner.plan(task, offered), offered)
                check_plan(plan, task.files, offered, task.steps_max)
            except InvalidPlan as error:
                said = error.details.get("reasons")
                reasons = tuple(str(reason) for reason in said) if isinstance(said, list) else (error.message,)
                if repair == REPAIRS_MAX or reasons == task.reasons:  # the same again: it will not learn
                    raise
                task = replace(task, reasons=reasons)
            else:
                return plan
        raise AssertionError("the last round returns or raises")

    async def _thriftier(self, task: Task, plan: Plan, offered: Offered, allowed: Money) -> Planned:
        try:
            return self._priced(self._cheapest(plan, task, offered), offered, allowed)
        except InvalidPlan as error:
            too_dear: NexusError = error
        except BudgetExceeded as error:
            too_dear = error
        try:
            again = await self._planned(replace(task, thrifty=True, reasons=(too_dear.message,)), offered)
            return self._priced(self._cheapest(again, task, offered), offered, allowed)
        except (InvalidPlan, NoOffer, Unavailable) as error:
            check_cost(estimate(plan, offered, Money(allowed.asset, 0), self._fee), allowed)
            raise too_dear from error

    def _cheapest(self, plan: Plan, task: Task, offered: Offered) -> Plan:
        cheaper = with_offers(plan, offered, cheapest=True)
        check_plan(cheaper, task.files, offered, task.steps_max)
        note = "the cheapest sellers were chosen: the best ones cost more than allowed"
        return cheaper.model_copy(update={"notes": (*cheaper.notes, note)})

    def _priced(self, plan: Plan, offered: Offered, allowed: Money) -> Planned:
        found = estimate(plan, offered, Money(allowed.asset, 0), self._fee)
        check_cost(found, allowed)
        return Planned(plan, found)
