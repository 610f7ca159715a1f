"""What is around workflows: streams, templates, schedules, webhooks; put together for the processes that serve them."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter

from agentnexus.core.clock import SystemClock, TimeOrderedIds
from agentnexus.core.ports import Clock, Ids
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.audit import Trail
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.postgres.journal import PostgresJournal
from agentnexus.workflows.routes import router as workflow_router
from agentnexus.workflows.schedules.routes import router as schedule_router
from agentnexus.workflows.schedules.scheduler import Scheduler
from agentnexus.workflows.schedules.service import Schedules
from agentnexus.workflows.streams.routes import router as stream_router
from agentnexus.workflows.streams.source import EventSource, JournalEvents, PostgresEvents
from agentnexus.workflows.streams.streams import Streams
from agentnexus.workflows.templates.routes import router as template_router
from agentnexus.workflows.templates.service import Templates
from agentnexus.workflows.webhooks.routes import router as webhook_router
from agentnexus.workflows.webhooks.secrets import Secrets
from agentnexus.workflows.webhooks.service import Webhooks
from agentnexus.workflows.worker import WorkflowRoom

ROUTERS: tuple[APIRouter, ...] = (workflow_router, stream_router, template_router, schedule_router, webhook_router)


@dataclass(frozen=True, slots=True)
class Desk:
    """``app.state.desk`` of the API process; the worker runs its scheduler."""

    streams: Streams
    templates: Templates
    schedules: Schedules
    scheduler: Scheduler
    webhooks: Webhooks


def open_desk(
    room: WorkflowRoom,
    database: Database,
    wakeups: Wakeups,
    *,
    secrets: Secrets,
    allow_local_webhooks: bool = False,
    clock: Clock | None = None,
    ids: Ids | None = None,
) -> Desk:
    """Nothing runs until it is asked to."""
    clock, ids = clock or SystemClock(), ids or TimeOrderedIds()
    trail = Trail(database)
    templates = Templates(database, room.workflows, trail, clock, ids)
    return Desk(
        streams=Streams(_source(room, database, wakeups), clock),
        templates=templates,
        schedules=Schedules(database, wakeups, templates, trail, clock=clock, ids=ids),
        scheduler=Scheduler(database, wakeups, room.workflows, templates, clock=clock),
        webhooks=Webhooks(database, trail, secrets=secrets, allow_local=allow_local_webhooks, clock=clock, ids=ids),
    )


def _source(room: WorkflowRoom, database: Database, wakeups: Wakeups) -> EventSource:
    """One query for all runs where their events are in this database; otherwise what the engine's journal offers."""
    assert isinstance(room.engine, DurableEngine)
    journal = room.engine.journal
    return PostgresEvents(database, wakeups) if isinstance(journal, PostgresJournal) else JournalEvents(journal)
