"""A facilitator in a process of its own, to be killed: ``python -m tests.x402.svm.facilitator_process <settings>``.

Settings (JSON): database_url, rpc_url, port, sponsor (key as list), folder, and `hang`: "sent" stops it when its
transaction is sent and before it looks at the chain. It creates ``hanging`` when it stops.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import uvicorn
from solders.keypair import Keypair
from tests.x402.svm.support import NETWORK, KeySigner

from agentnexus.core.clock import SystemClock
from agentnexus.markets.x402.facilitator_app import facilitator_app
from agentnexus.markets.x402.svm.facilitator import SolanaFacilitator
from agentnexus.markets.x402.svm.settle import TransferSettler
from agentnexus.markets.x402.svm.settlements import Settlements
from agentnexus.platform.database import Database
from agentnexus.platform.process import die_with_parent
from agentnexus.rails.solana.cluster import Cluster
from agentnexus.rails.solana.networks import DEVNET
from agentnexus.rails.solana.rpc import SolanaRpc


async def main(settings: dict[str, str]) -> None:
    folder = Path(settings["folder"])

    class StoppingCluster(Cluster):
        async def send(self, wire: bytes, *, preflight: bool) -> None:
            await super().send(wire, preflight=preflight)
            if settings["hang"] == "sent":
                (folder / "hanging").touch()
                await asyncio.Event().wait()

    database = await Database.open(settings["database_url"])
    sponsor = Keypair.from_bytes(bytes(json.loads(settings["sponsor"])))
    async with SolanaRpc(settings["rpc_url"]) as rpc:
        settler = TransferSettler(
            StoppingCluster(rpc), NETWORK, [KeySigner(sponsor)], Settlements(database), SystemClock(), poll_seconds=0.02
        )
        app = facilitator_app(SolanaFacilitator(settler, [DEVNET.usdc]))
        config = uvicorn.Config(app, host="127.0.0.1", port=int(settings["port"]), log_level="warning", lifespan="off")
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    die_with_parent(parent=os.getppid())
    asyncio.run(main(json.loads(sys.argv[1])))
