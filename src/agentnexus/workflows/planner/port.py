"""What every planner gets and gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from agentnexus.core.canonical import content_hash, idempotency_key
from agentnexus.core.offers import Capability
from agentnexus.workflows.model import STEPS_MAX, FileRef, Plan
from agentnexus.workflows.plan import Offered
from agentnexus.workflows.planner.memo import ByCapability


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be planned. `heads` are the first characters of text files, for planners that read them (as data)."""

    text: str
    files: tuple[FileRef, ...] = ()
    thrifty: bool = False  # the first plan was too dear: leave out what is not needed
    reasons: tuple[str, ...] = field(default=())  # why the plan before could not run
    steps_max: int = STEPS_MAX


class Planner(Protocol):
    """Makes a plan from a task and what is on offer."""

    @property
    def name(self) -> str: ...

    async def plan(self, task: Task, offered: Offered) -> Plan:
        """Raises `NoOffer` when nothing on sale fits the task, `InvalidPlan` when no runnable plan was found."""


def capabilities(offered: Offered) -> list[Capability]:
    """One capability per name: that of its best offer."""
    found = [offered.best(name) for name in sorted(offered.offers)]
    return [offer.capability for offer in found if offer is not None]


def fingerprint(offered: Offered) -> str:
    """Changes when a capability comes, goes or changes its words or schemas; not with its sellers and their prices."""
    return idempotency_key(*(_digest(capability) for capability in capabilities(offered)))


_digest = ByCapability(lambda capability: content_hash(capability.model_dump(mode="json")))
