"""Run as a program: hires in child processes that kill themselves (SIGKILL) at a named point each.

    python -m tests.hiring.killed DATABASE_URL KIND POINT…

Each child hires under the key ``KIND:POINT``. Prints one JSON object: point → signal or exit code of the child.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from agentnexus.core.errors import NexusError, SellerFailed
from agentnexus.core.payments import PayMode
from agentnexus.hiring.testing import Script
from agentnexus.platform.database import Database
from tests.hiring.support import Economy, TableDelivery, TableNetwork, seller_key


def fail(given: object) -> object:
    raise SellerFailed("out of paper")


KINDS: dict[str, Script] = {
    "authorize": Script(),
    "hold": Script(mode=PayMode.HOLD),
    "pay": Script(mode=PayMode.PAY),
    "fail": Script(output=fail),
    "fail-hold": Script(mode=PayMode.HOLD, output=fail),
    "uncollected": Script(collects=False),
}


async def build(database: Database, kind: str, point: str = "") -> Economy:
    def stop(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    network = await TableNetwork(database).create()
    return await Economy.build(
        database,
        scripts={seller_key(1): KINDS[kind]},
        network=network,
        delivery=TableDelivery(database),
        stop=stop,
    )


async def hire(url: str, kind: str, point: str) -> None:
    database = await Database.open(url, max_size=3)
    economy = await build(database, kind, point)
    await economy.hire(key=f"{kind}:{point}")


def child(url: str, kind: str, point: str) -> None:
    try:
        asyncio.run(hire(url, kind, point))
    except NexusError:
        os._exit(3)
    os._exit(0)


def main(url: str, kind: str, *points: str) -> None:
    ends: dict[str, int] = {}
    for point in points:
        pid = os.fork()
        if pid == 0:
            child(url, kind, point)
        _, status = os.waitpid(pid, 0)
        ends[point] = os.waitstatus_to_exitcode(status)
    print(json.dumps(ends))


if __name__ == "__main__":
    main(*sys.argv[1:])
