"""A second process for the tests: settles payloads with the shared relayer key, or dies where it hurts most.

Reads one JSON object from stdin: ``{rpc_url, port, database_url, payloads, die}``; prints the transactions as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import NoReturn

from agentnexus.devnet.accounts import development_accounts
from agentnexus.devnet.chain import usdc_address
from agentnexus.platform.database import Database
from agentnexus.rails.evm.eip3009 import SignedAuthorization
from agentnexus.rails.evm.networks import NETWORKS
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.settlement import AuthorizationSettler, Requirement
from agentnexus.rails.evm.transactions import TransactionSender


class DiesBeforeSending(TransactionSender):
    """Killed after the commit that stored the signed transaction, before a byte of it leaves."""

    async def deliver(self, *_: object, **__: object) -> NoReturn:  # type: ignore[override]  # it never comes back
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class DiesBeforeStoring(TransactionSender):
    """Killed inside the transaction, with the nonce taken and nothing committed."""

    async def stage(self, *arguments: object, **named: object) -> NoReturn:  # type: ignore[override]  # never returns
        await super().stage(*arguments, **named)  # type: ignore[arg-type]  # handed on as they came
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


SENDERS = {"before-sending": DiesBeforeSending, "before-storing": DiesBeforeStoring, "": TransactionSender}


async def main() -> None:
    task = json.load(sys.stdin)
    database = await Database.open(task["database_url"], max_size=4)
    rpc = Rpc(task["rpc_url"])
    sender = await SENDERS[task["die"]].open(database, rpc, 31337)
    settler = AuthorizationSettler(sender, development_accounts()["relayer"].signer)
    usdc = NETWORKS[31337].token(usdc_address())
    transactions = await asyncio.gather(*(settle(settler, usdc, payload) for payload in task["payloads"]))
    print(json.dumps(transactions))
    await rpc.close()
    await database.close()


async def settle(settler: AuthorizationSettler, usdc: object, payload: object) -> str:
    signed = SignedAuthorization.from_json(payload)
    authorization = signed.authorization
    requirement = Requirement(usdc, authorization.payee, authorization.value)  # type: ignore[arg-type]  # an Asset
    return (await settler.settle(signed, requirement)).transaction


if __name__ == "__main__":
    asyncio.run(main())
