"""Access tokens for whoever runs the node: straight from its database, for the days when nobody can sign in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agentnexus.bootstrap.books import running_settings
from agentnexus.bootstrap.ground import open_ground
from agentnexus.identity.tokens import Tokens


@asynccontextmanager
async def open_tokens() -> AsyncIterator[Tokens]:
    """The tokens of the node that the settings name, or of the economy that runs here."""
    async with open_ground(running_settings()) as ground:
        yield Tokens(ground.database, ground.entropy)
