"""A seller in a process of its own, to be killed: ``python -m tests.x402.seller_process <settings as JSON>``.

Settings: database_url, rpc_url, port, folder, asset, pay_to, and `hang`: where it stops ("handler", "settled").
It appends a line to ``runs`` for each run of the handler and creates ``hanging`` when it stops.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.x402.support import requirement
from x402.schemas import SettleResponse

from agentnexus.core.money import Asset
from agentnexus.devnet.accounts import development_accounts
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.pricing import PricedRoute
from agentnexus.markets.x402.reservations_postgres import PostgresReservations
from agentnexus.markets.x402.sell import SellerMiddleware
from agentnexus.markets.x402.turn import CheckoutLimits
from agentnexus.markets.x402.wire import AnyPayload, AnyRequirements
from agentnexus.platform.database import Database
from agentnexus.platform.process import die_with_parent
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.transactions import TransactionSender


async def main(settings: dict[str, str]) -> None:
    folder = Path(settings["folder"])
    hang = settings["hang"]
    asset = Asset("USDC", 6, f"eip155:31337/erc20:{settings['asset']}")

    async def stop_for_ever() -> None:
        (folder / "hanging").touch()
        await asyncio.Event().wait()

    class Process(Facilitator):
        async def settle_for(self, payload: AnyPayload, requirements: AnyRequirements, claim: str) -> SettleResponse:
            settled = await super().settle_for(payload, requirements, claim)
            if hang == "settled":
                await stop_for_ever()
            return settled

    async def report(request: Request) -> JSONResponse:
        with (folder / "runs").open("a") as runs:
            runs.write(f"{os.getpid()}\n")
        if hang == "handler":
            await stop_for_ever()
        return JSONResponse({"made_by": os.getpid()})

    database = await Database.open(settings["database_url"])
    async with Rpc(settings["rpc_url"]) as rpc:
        sender = await TransactionSender.open(database, rpc, 31337)
        app = SellerMiddleware(
            Starlette(routes=[Route("/report", report, methods=["GET", "POST"])]),
            routes=[PricedRoute("/report", [requirement(asset=settings["asset"], pay_to=settings["pay_to"])])],
            facilitator=Process.on(sender, development_accounts()["relayer"].signer, [asset]),
            reservations=PostgresReservations(database),
            limits=CheckoutLimits(lease=1.0, wait=30.0),
        )
        config = uvicorn.Config(app, host="127.0.0.1", port=int(settings["port"]), log_level="warning", lifespan="off")
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    die_with_parent(parent=os.getppid())
    asyncio.run(main(json.loads(sys.argv[1])))
