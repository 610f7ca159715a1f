"""Holds the lock of one hire until it is killed. Run as ``python -m tests.hiring.holder URL KEY``."""

from __future__ import annotations

import asyncio
import sys

from agentnexus.hiring.locks import HireLocks
from agentnexus.platform.database import Database


async def main(url: str, key: str) -> None:
    database = await Database.open(url)
    async with HireLocks(database).hold(key):
        sys.stdout.write("held\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
