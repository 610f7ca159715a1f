"""Plans by (planner, normalised task, constraints, what is on offer), so that the same question is planned once."""

from __future__ import annotations

from collections import OrderedDict

from agentnexus.core.canonical import idempotency_key
from agentnexus.workflows.model import Plan
from agentnexus.workflows.plan import Offered
from agentnexus.workflows.planner.port import Task, fingerprint

CAPACITY = 1000


class PlanCache:
    """In this process, least recently used out first. A changed catalogue has another fingerprint."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    def get(self, planner: str, task: Task, offered: Offered) -> Plan | None:
        key = _key(planner, task, offered)
        plan = self._plans.get(key)
        if plan is not None:
            self._plans.move_to_end(key)
        return plan

    def put(self, planner: str, task: Task, offered: Offered, plan: Plan) -> None:
        self._plans[_key(planner, task, offered)] = plan
        while len(self._plans) > self._capacity:
            self._plans.popitem(last=False)


def _key(planner: str, task: Task, offered: Offered) -> str:
    files = [part for file in task.files for part in (file.name, file.media_type)]
    return idempotency_key(
        planner, " ".join(task.text.split()), str(task.thrifty), str(len(task.files)), *files, fingerprint(offered)
    )
