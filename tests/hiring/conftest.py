"""A small economy for hiring: real PostgreSQL and ledger, scripted sellers on a scripted network."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agentnexus.platform.database import Database
from tests.hiring.support import Economy


@pytest.fixture
async def economy(database: Database) -> AsyncIterator[Economy]:
    built = await Economy.build(database)
    yield built
    await built.close()
