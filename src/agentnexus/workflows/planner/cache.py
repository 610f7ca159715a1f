"""Plans by (planner, normalised task, constraints, what is on offer), so that the same question is planned once."""

from __future__ import annotations

import unicodedata
from collections import OrderedDict

from agentnexus.core.canonical import idempotency_key
from agentnexus.workflows.model import Plan, StepOffer
from agentnexus.workflows.plan import Offered, with_offers
from agentnexus.workflows.planner.port import Task, fingerprint

CAPACITY = 1000


class PlanCache:
    """In this process, least recently used out first.

    The key holds what a planner looks at; a capability that comes, goes or changes makes another. Sellers come and go
    more often: a plan is forgotten when an offer it was made with is gone or has become dearer than its estimate, and
    otherwise comes back with the best offers of the moment.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    def get(self, planner: str, task: Task, offered: Offered) -> Plan | None:
        key = _key(planner, task, offered)
        plan = self._plans.get(key)
        if plan is None:
            return None
        if not all(_stands(step.offer, step.capability, offered) for step in plan.steps):
            del self._plans[key]
            return None
        self._plans.move_to_end(key)
        return with_offers(plan, offered)

    def put(self, planner: str, task: Task, offered: Offered, plan: Plan) -> None:
        self._plans[_key(planner, task, offered)] = plan
        while len(self._plans) > self._capacity:
            self._plans.popitem(last=False)


def _stands(planned: StepOffer | None, capability: str, offered: Offered) -> bool:
    """Whether an offer is still there for the price it was planned with, or less."""
    if planned is None:
        return True
    now = next((offer for offer in offered.offers.get(capability, ()) if offer.id == planned.id), None)
    if now is None:
        return False
    price = now.price.maximum
    return price.asset.caip19 == planned.price.asset.caip19 and price <= planned.price


def normalised(text: str) -> str:
    """The task however it is spaced and composed. Case stays: names and quotations are in it."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _key(planner: str, task: Task, offered: Offered) -> str:
    files = [part for file in task.files for part in (file.name, file.media_type)]
    return idempotency_key(
        planner,
        normalised(task.text),
        str(task.thrifty),
        str(task.steps_max),
        str(len(task.files)),
        *files,
        fingerprint(offered),
    )
