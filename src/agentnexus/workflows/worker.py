"""Puts the workflow body and an engine together; ``nexus worker`` and tests start from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentnexus.core.ports import Blobs, Clock
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.audit import Trail
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.port import Engine
from agentnexus.workflows.engine.postgres.journal import PostgresJournal
from agentnexus.workflows.engine.worker import WorkerSettings
from agentnexus.workflows.estimate import Fee, no_fee
from agentnexus.workflows.granting import Approvals
from agentnexus.workflows.plan_run import Means
from agentnexus.workflows.planner.offline import OfflinePlanner
from agentnexus.workflows.planner.port import Planner
from agentnexus.workflows.planning import Planning
from agentnexus.workflows.ports import Budgets, EscrowFunds, Hirer, RootBudget, Uploads
from agentnexus.workflows.reviewing import Reviewing
from agentnexus.workflows.reviews import PostgresReviews
from agentnexus.workflows.run import BODY, body_of, narrate_end
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
    database: Database | None = None,
    approval_funds: EscrowFunds | None = None,
    funds: EscrowFunds | None = None,
    approvals: Approvals | None = None,
    uploads: Uploads | None = None,
    fee: Fee = no_fee,
) -> WorkflowRoom:
    """Register the body with an engine. Without `planners` the offline one plans.

    Args:
        database: keeps reviews and the audit trail; without one they live in this process, or not at all.
        approval_funds: asked before a plan is approved (`funds` unless given).
        funds: prepaid balances that steps are captured from; None where budgets alone limit what is spent.
        approvals: signed grants that let plans go ahead without asking anybody.
        uploads: counts users' files; without it every file is kept for ever.
        fee: what paying for an offer costs on top, for estimates.
    """
    planning = Planning(hirer, planners or (OfflinePlanner(),), fee=fee)
    means = Means(hirer, planning, budgets, blobs, clock, root_budget, funds, approvals)
    engine.register(BODY, body_of(means), narrate_end)
    reviewing = Reviewing(
        engine,
        reviews=None if database is None else PostgresReviews(database),
        planning=planning,
        funds=approval_funds or funds,
        trail=None if database is None else Trail(database),
    )
    return WorkflowRoom(engine, Workflows(engine, hirer, blobs, reviewing=reviewing, uploads=uploads))


def postgres_engine(
    database: Database, wakeups: Wakeups, *, slots: int = 64, clock: Clock | None = None
) -> DurableEngine:
    """The default engine: leases and timers by the database's clock, `slots` runs at once per worker."""
    return DurableEngine(PostgresJournal(database, wakeups, clock), settings=WorkerSettings(runs_max=slots))
