"""The selling side of a node, opened as its API does."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.selling import Selling, open_selling
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.wakeups import Wakeups


@asynccontextmanager
async def selling_from(ground: Ground, chain: Chain, **changes: object) -> AsyncIterator[Selling]:
    """Without isolation, and with these changes of the settings."""
    settings = ground.settings.model_copy(update={"unsafe_local": True, **changes})
    own = dataclasses.replace(ground, settings=settings)
    async with (
        httpx.AsyncClient() as http,
        Wakeups(ground.database) as wakeups,
        open_selling(own, chain, http, PostgresBlobs(ground.database), wakeups) as selling,
    ):
        yield selling
