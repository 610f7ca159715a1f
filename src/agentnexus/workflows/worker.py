"""Puts the workflow body and an engine together; ``nexus worker`` and tests start from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentnexus.core.ports import Blobs, Clock
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.port import Engine
from agentnexus.workflows.engine.postgres.journal import PostgresJournal
from agentnexus.workflows.engine.worker import WorkerSettings
from agentnexus.workflows.planner.offline import OfflinePlanner
from agentnexus.workflows.planner.port import Planner
from agentnexus.workflows.planning import Planning
from agentnexus.workflows.ports import Budgets, Hirer, RootBudget
from agentnexus.workflows.run import BODY, Means, body_of, narrate_end
from agentnexus.workflows.service import Workflows


async def no_root_budget(_user_id: str) -> str | None:
    """Workflow budgets are roots themselves."""
    return None


@dataclass(frozen=True, slots=True)
class WorkflowRoom:
    """The engine with the workflow body registered, and the service on it. `await room.engine.work()` is a worker."""

    engine: Engine
    workflows: Workflows


def open_room(
    engine: Engine,
    *,
    hirer: Hirer,
    budgets: Budgets,
    blobs: Blobs,
    clock: Clock,
    planners: Sequence[Planner] = (),
    root_budget: RootBudget = no_root_budget,
) -> WorkflowRoom:
    """Register the body with an engine. Without `planners` the offline one plans."""
    planning = Planning(hirer, planners or (OfflinePlanner(),))
    means = Means(hirer, planning, budgets, blobs, clock, root_budget)
    engine.register(BODY, body_of(means), narrate_end)
    return WorkflowRoom(engine, Workflows(engine, hirer, blobs))


def postgres_engine(
    database: Database, wakeups: Wakeups, *, slots: int = 64, clock: Clock | None = None
) -> DurableEngine:
    """The default engine: leases and timers by the database's clock, `slots` runs at once per worker."""
    return DurableEngine(PostgresJournal(database, wakeups, clock), settings=WorkerSettings(runs_max=slots))
