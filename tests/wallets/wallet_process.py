"""A second process for the tests: begins operations as another API process would, or dies (SIGKILL) at a named point.

    python -m tests.wallets.wallet_process

Reads one JSON object from stdin: ``{port, database_url, home, key, times, point}``; prints the ids that `begin` gave.
`point`: ``begun`` (the row is there, nothing is built), ``built`` (nobody signed), ``kept`` (signed, not sent),
``sent`` (handed to the node, no outcome noted).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from agentnexus.devnet.chain import CHAIN_ID, DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.platform.process import die_with_parent
from agentnexus.rails.evm.deployment import Manifest
from agentnexus.wallets.service import Wallets
from tests.wallets.conftest import World, open_world

P = ParamSpec("P")
T = TypeVar("T")


def dies_after(work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    @wraps(work)
    async def done_and_dead(*args: P.args, **kwargs: P.kwargs) -> T:
        await work(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")

    return done_and_dead


def arm(wallets: Wallets, world: World, point: str) -> None:
    """Put the death behind the step that `point` names."""
    holder, name = {
        "": (None, ""),
        "begun": (wallets.store, "begin"),
        "built": (wallets.store, "built"),
        "kept": (wallets.store, "signed"),
        "sent": (world.bundler, "receipt"),
    }[point]
    if holder is not None:
        setattr(holder, name, dies_after(getattr(holder, name)))


async def main() -> None:
    die_with_parent()
    task = json.load(sys.stdin)
    home = Path(task["home"])
    chain = DevelopmentChain(port=task["port"])
    database = await Database.open(task["database_url"], max_size=6)
    async with open_world(chain, Manifest.load(home, CHAIN_ID), database, home) as world:
        wallets = world.wallets()
        arm(wallets, world, task["point"])
        begun = await asyncio.gather(
            *(world.begin("ann", world.pay(5), key=task["key"], wallets=wallets) for _ in range(task["times"]))
        )
        for each in begun:
            await wallets.settle(each.id)
    await database.close()
    await chain.rpc.close()
    print(json.dumps([each.id for each in begun]))


if __name__ == "__main__":
    asyncio.run(main())
