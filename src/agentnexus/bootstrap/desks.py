"""Streams, templates, schedules and webhooks, wired for the API process and for the workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import httpx

from agentnexus.bootstrap.buying import Buying
from agentnexus.bootstrap.ground import Ground
from agentnexus.platform.outbound import OutboundTransport
from agentnexus.platform.sealing import Sealer
from agentnexus.platform.settings import Environment
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.desk import Desk, open_desk
from agentnexus.workflows.webhooks.deliverer import TIMEOUT_SECONDS, Deliverer
from agentnexus.workflows.webhooks.model import Webhook
from agentnexus.workflows.webhooks.secrets import Secrets
from agentnexus.workflows.worker import WorkflowRoom

Trial: TypeAlias = Callable[[Webhook], Awaitable[tuple[int | None, str]]]
"""Status (None when nothing answered) and the beginning of the answer."""


def open_workflow_desk(ground: Ground, room: WorkflowRoom, wakeups: Wakeups) -> Desk:
    """Webhooks may lead to this machine in the local economy only."""
    return open_desk(
        room,
        ground.database,
        wakeups,
        secrets=_secrets(ground),
        allow_local_webhooks=_is_local(ground),
        clock=ground.clock,
        ids=ground.ids,
    )


async def deliver_webhooks(ground: Ground, buying: Buying) -> None:
    """Until cancelled; secrets from before there was a key are sealed first."""
    await _secrets(ground).seal_plain(ground.database)
    async with _deliverer(ground, buying) as deliverer:
        await deliverer.run()


def webhook_trial(ground: Ground, buying: Buying) -> Trial:
    """Sends one test message from this process."""

    async def trial(webhook: Webhook) -> tuple[int | None, str]:
        async with _deliverer(ground, buying) as deliverer:
            return await deliverer.trial(webhook)

    return trial


@asynccontextmanager
async def _deliverer(ground: Ground, buying: Buying) -> AsyncIterator[Deliverer]:
    """Redirects are not followed: they lead where nobody has checked."""
    transport = OutboundTransport(allow_loopback=_is_local(ground))
    async with httpx.AsyncClient(transport=transport, timeout=TIMEOUT_SECONDS, follow_redirects=False) as http:
        yield Deliverer(ground.database, http, buying.signer, _secrets(ground), clock=ground.clock)


def _secrets(ground: Ground) -> Secrets:
    """Sealed with this node's key; hosts that share a database share the file."""
    return Secrets(Sealer.load_or_create(ground.settings.home / "sealing-key", ground.entropy))


def _is_local(ground: Ground) -> bool:
    return ground.settings.environment is Environment.LOCAL
