"""Opens the Restate engine, or says what is missing. Imports the optional packages only when it is asked to."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from agentnexus.core.errors import Unavailable
from agentnexus.core.events import Event
from agentnexus.core.ports import Clock
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.worker import WorkerSettings


@dataclass(frozen=True, slots=True)
class RestatePlaces:
    """Where Restate is, and where this process answers it.

    `host` and `port`: what a worker listens on; processes of one machine share it. `public_url`: how Restate reaches
    the workers when that is another address. `namespace`: keeps economies on one Restate apart.
    """

    url: str = "http://127.0.0.1:8080"
    admin_url: str = "http://127.0.0.1:9070"
    host: str = "127.0.0.1"
    port: int = 9080
    public_url: str = ""
    namespace: str = "nexus"


@asynccontextmanager
async def restate_engine(
    places: RestatePlaces,
    *,
    works: bool,
    settings: WorkerSettings | None = None,
    clock: Clock | None = None,
    listen: Callable[[str, Sequence[Event]], Awaitable[None]] | None = None,
) -> AsyncIterator[DurableEngine]:
    """An engine on Restate. Only one that `works` answers Restate; others start, watch, signal and cancel runs.

    `listen` is told of all events at least once, ``await listen(tenant, events)``; give it to all processes or none.

    Raises `Unavailable` when the packages are missing, or Restate does not answer.
    """
    if importlib.util.find_spec("restate") is None:
        raise Unavailable(
            "the Restate engine needs packages that are not installed",
            next_step="install agentnexus[restate], or set NEXUS_ENGINE=postgres",
        )
    from agentnexus.workflows.engine.restate.endpoint import serve
    from agentnexus.workflows.engine.restate.ingress import Ingress
    from agentnexus.workflows.engine.restate.journal import RestateJournal
    from agentnexus.workflows.engine.restate.telling import nobody_listens

    async with AsyncExitStack() as stack:
        ingress = await stack.enter_async_context(Ingress(places.url, places.admin_url))
        journal = RestateJournal(ingress, places.namespace, clock, heard=listen is not None)
        stack.push_async_callback(journal.close)
        if works:
            served = serve(
                journal.station, ingress, places.host, places.port, places.public_url, listen=listen or nobody_listens
            )
            await stack.enter_async_context(served)
        yield DurableEngine(journal, settings=settings)
