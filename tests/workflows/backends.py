"""The durable backends for tests that run workers in processes of their own; a `Backend` travels as JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

from agentnexus.platform.database import Database
from agentnexus.platform.process import free_port
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.postgres.journal import PostgresJournal
from agentnexus.workflows.engine.restate.door import RestatePlaces, restate_engine
from agentnexus.workflows.engine.restate.server import RestateServer
from agentnexus.workflows.engine.worker import WorkerSettings


@dataclass(frozen=True)
class Backend:
    """PostgreSQL, unless there are places of Restate."""

    restate: RestatePlaces | None = None

    @classmethod
    def on(cls, server: RestateServer | None) -> Backend:
        """With a port of its own for the workers."""
        if server is None:
            return cls()
        return cls(RestatePlaces(server.ingress_url, server.admin_url, port=free_port()))

    def to_json(self) -> str:
        return json.dumps(None if self.restate is None else asdict(self.restate))

    @classmethod
    def from_json(cls, text: str) -> Backend:
        places = json.loads(text)
        return cls(None if places is None else RestatePlaces(**places))

    @asynccontextmanager
    async def engine(
        self, database: Database, settings: WorkerSettings | None = None, *, works: bool = True
    ) -> AsyncIterator[DurableEngine]:
        if self.restate is not None:
            async with restate_engine(self.restate, works=works, settings=settings) as engine:
                yield engine
            return
        async with Wakeups(database) as wakeups:
            yield DurableEngine(PostgresJournal(database, wakeups), settings=settings)
