"""Events of runs on Restate, told to whoever keeps them elsewhere: at least once, whatever process dies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeAlias

import restate

from agentnexus.core.events import Event
from agentnexus.workflows.engine.restate.objects import NO_TIME, PATIENCE, TELL
from agentnexus.workflows.engine.restate.shapes import Telling

LISTENING, LISTENED = timedelta(seconds=20), timedelta(seconds=10)
Listen: TypeAlias = Callable[[str, Sequence[Event]], Awaitable[None]]
"""``await listen(tenant, events)``: perhaps again with the same events, and those of one run not in order."""


async def nobody_listens(_tenant: str, _events: Sequence[Event]) -> None:
    """For processes that have nowhere to keep events."""


def teller(listen: Listen) -> restate.Service:
    """What Restate sends events to; it sends them again until `listen` returns."""
    service = restate.Service(
        TELL, inactivity_timeout=LISTENING, abort_timeout=LISTENED, journal_retention=NO_TIME, ingress_private=True,
        invocation_retry_policy=PATIENCE,
    )  # fmt: skip

    @service.handler("tell")
    async def _tell(_ctx: restate.Context, telling: Telling) -> None:
        events = [told.event(telling.run_id, number) for number, told in enumerate(telling.told, start=telling.first)]
        await listen(telling.tenant, events)

    return service
