"""A run in progress outlives a short outage of the database: what may be repeated is repeated for some seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agentnexus.core.errors import Unavailable

PAUSES_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
Answer = TypeVar("Answer")


async def patiently(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """The call's answer. Give only calls that change nothing when they are made again; raises `Unavailable` at last."""
    for pause in PAUSES_SECONDS:
        try:
            return await call()
        except Unavailable:
            await asyncio.sleep(pause)
    return await call()
