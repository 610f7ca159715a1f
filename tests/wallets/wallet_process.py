"""A second process for the tests: begins operations as another API process would, or dies (SIGKILL) at a named point.

    python -m tests.wallets.wallet_process

Reads one JSON object from stdin: ``{port, database_url, home, key, times, point}``; prints the ids that `begin` gave.
`point`: ``begun`` (the row is there, nothing is built), ``built`` (nobody signed), ``kept`` (signed, not sent),
``sent`` (handed to the node, no outcome noted).
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from agentnexus.devnet.chain import CHAIN_ID, DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.platform.process import die_with_parent
from agentnexus.rails.evm.deployment import Manifest
from agentnexus.wallets.service import Wallets
from tests.dying import dies_after
from tests.wallets.conftest import World, open_world


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
