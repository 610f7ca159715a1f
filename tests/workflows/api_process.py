"""Run as a program: an API process over a database, at the default rate. Prints its address: ``… DATABASE_URL``."""

from __future__ import annotations

import asyncio
import sys

from agentnexus.platform.database import Database
from agentnexus.platform.process import die_with_parent
from agentnexus.platform.settings import Settings

from .site import open_site


async def main(url: str) -> None:
    database = await Database.open(url, max_size=8)
    most = Settings.model_fields["requests_per_minute"].default
    async with open_site(database, per_minute=most) as site:
        print(site.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(main(sys.argv[1]))
