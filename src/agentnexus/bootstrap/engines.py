"""The durable engine that settings choose: PostgreSQL, or Restate where one database is not enough."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agentnexus.bootstrap.ground import Ground
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.port import Engine
from agentnexus.workflows.engine.restate.door import RestatePlaces, restate_engine
from agentnexus.workflows.engine.worker import WorkerSettings
from agentnexus.workflows.webhooks.noting import Noting
from agentnexus.workflows.worker import postgres_engine


@asynccontextmanager
async def open_engine(ground: Ground, wakeups: Wakeups, *, works: bool) -> AsyncIterator[Engine]:
    """`works`: this process executes runs; others only start, watch, signal and cancel them."""
    settings = ground.settings
    if settings.engine == "postgres":
        yield postgres_engine(ground.database, wakeups, slots=settings.workflow_slots)
        return
    places = RestatePlaces(
        url=settings.restate_url,
        admin_url=settings.restate_admin_url,
        host=settings.restate_listen_host,
        port=settings.restate_listen_port,
        public_url=settings.restate_public_url,
        namespace=settings.restate_namespace,
    )
    slots = WorkerSettings(runs_max=settings.workflow_slots)
    listen = Noting(ground.database).note  # webhooks
    async with restate_engine(places, works=works, settings=slots, listen=listen) as engine:
        yield engine
