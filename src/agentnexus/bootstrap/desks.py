"""Streams, templates, schedules and webhooks, wired for the API process and for the workers."""

from __future__ import annotations

import httpx

from agentnexus.bootstrap.buying import Buying
from agentnexus.bootstrap.ground import Ground
from agentnexus.platform.outbound import OutboundTransport
from agentnexus.platform.settings import Environment
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.desk import Desk, open_desk
from agentnexus.workflows.webhooks.deliverer import TIMEOUT_SECONDS, Deliverer
from agentnexus.workflows.worker import WorkflowRoom


def open_workflow_desk(ground: Ground, room: WorkflowRoom, wakeups: Wakeups) -> Desk:
    """Webhooks may lead to this machine in the local economy only."""
    return open_desk(
        room, ground.database, wakeups, allow_local_webhooks=_is_local(ground), clock=ground.clock, ids=ground.ids
    )


async def deliver_webhooks(ground: Ground, buying: Buying) -> None:
    """Until cancelled. Redirects are not followed: they lead where nobody has checked."""
    transport = OutboundTransport(allow_loopback=_is_local(ground))
    async with httpx.AsyncClient(transport=transport, timeout=TIMEOUT_SECONDS, follow_redirects=False) as http:
        await Deliverer(ground.database, http, buying.signer, clock=ground.clock).run()


def _is_local(ground: Ground) -> bool:
    return ground.settings.environment is Environment.LOCAL
