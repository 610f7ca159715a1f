"""A buying node in a process of its own: ``buyer_process.py <settings as JSON> <key> <point>``. Kills itself there.

It hires `report.make` under the key. A point of the hire's checkpoints, or ``sending``: a payment on Solana that is
signed and stored, and ``relaying``: the same on EVM, before a byte of either leaves. Exits 0 when nothing killed it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import NoReturn

from agentnexus.bootstrap.buying import Buying, open_buying
from agentnexus.bootstrap.ground import open_chain, open_ground
from agentnexus.core.money import Asset, Money
from agentnexus.core.offers import Need
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.platform.settings import Settings
from agentnexus.rails.evm import transactions as evm
from agentnexus.rails.solana import sending as solana

NEED = Need(capability="report.make", input={"text": "hello"})
BUDGET = "user:u"


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def dies(*_: object, **__: object) -> NoReturn:
    die()


async def pay(buying: Buying, key: str, point: str) -> None:
    """A direct payment whose process ends after it was stored: its transaction is in the database and nowhere else."""
    assert buying.solana is not None
    rail, asset = (buying.solana.rail, buying.solana.usdc) if point == "sending" else (buying.rail, buying.parity.unit)
    evm.TransactionSender.deliver = dies  # type: ignore[method-assign]  # this process is to die there
    solana.TransactionSender.deliver = dies  # type: ignore[method-assign]  # this process is to die there
    await rail.send(payment_to(key, asset), key)


def payment_to(payee: str, asset: Asset) -> PaymentRequest:
    """1000 units to an address; the key of these payments is their payee."""
    terms = {"network": asset.network, "asset": asset.reference, "payTo": payee, "amount": "1000"}
    return PaymentRequest(
        rail="solana" if asset.network.startswith("solana:") else "evm",
        amount=Money(asset, 1000), payee=payee, mode=PayMode.PAY, reference=terms, binding=payee,
    )  # fmt: skip


async def main(settings: str, key: str, point: str) -> None:
    async with (
        open_ground(Settings.model_validate(json.loads(settings))) as ground,
        open_chain(ground) as chain,
        open_buying(ground, chain) as buying,
    ):
        if point in ("sending", "relaying"):
            await pay(buying, key, point)
            return

        def stop(name: str) -> None:
            if name == point:
                die()

        buying.hiring.cashier.checkpoint = stop
        buying.hiring._checkpoint = stop
        await buying.hiring.hire(NEED, budget_id=BUDGET, key=key, user_id="u")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
