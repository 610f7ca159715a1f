"""A second process for the tests: asks for promises as fast as it can; prints how many it got, and of what cost.

Reads one JSON object from stdin: ``{rpc_url, database_url, paymaster, factory, policies, operation, lanes, user}``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import BudgetExceeded
from agentnexus.devnet.accounts import development_accounts
from agentnexus.ledger.books import Books
from agentnexus.platform.database import Database
from agentnexus.rails.evm.networks import NETWORKS
from agentnexus.rails.evm.paymaster.policy import SponsorPolicy
from agentnexus.rails.evm.paymaster.service import Chain, Giving, PaymasterService
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.userops import UserOperation
from agentnexus.rails.evm.userops.model import nonce_of


async def ask(service: PaymasterService, operation: UserOperation, lane: int, user: str) -> int:
    """The cost of a promise, 0 when the budget refused it."""
    try:
        promised = await service.sponsor(user, replace(operation, nonce=nonce_of(lane, 0)), giving=Giving.NOW)
    except BudgetExceeded:
        return 0
    return promised.max_cost_wei


async def main() -> None:
    task = json.load(sys.stdin)
    database = await Database.open(task["database_url"], max_size=6)
    policies = [SponsorPolicy.model_validate(each) for each in task["policies"]]
    operation = UserOperation.from_json(task["operation"])
    relayer = development_accounts()["relayer"].signer
    async with Rpc(task["rpc_url"], timeout_seconds=60.0) as rpc, Books(database) as books:
        chain = Chain(rpc, NETWORKS[31337], task["paymaster"], relayer, task["factory"])
        service = PaymasterService(database, books, chain, policies, clock=SystemClock())
        first, last = task["lanes"]
        costs = await asyncio.gather(*(ask(service, operation, n, task["user"]) for n in range(first, last)))
    await database.close()
    print(json.dumps({"promised": len([each for each in costs if each]), "cost": sum(costs)}))


if __name__ == "__main__":
    asyncio.run(main())
