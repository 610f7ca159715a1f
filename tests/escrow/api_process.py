"""Run as a program: an API process with prepaid accounts over a real chain, which may kill itself at a named point.

    python -m tests.escrow.api_process PORT [POINT]

Settings come from ``NEXUS_*``. `POINT`: ``claimed`` (the claim is written, the ledger has nothing yet), ``posted``
(the ledger has the deposit, the claim is open), ``reserved`` (a withdrawal is set aside and not sent), ``sent``
(it is on the chain and the books do not know).
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from agentnexus.api.app import create_api
from agentnexus.bootstrap.ground import open_ground
from agentnexus.bootstrap.serving import serve_app
from agentnexus.bootstrap.treasury import open_treasury
from agentnexus.escrow.routes import escrow_routes
from agentnexus.escrow.service import Escrow
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.ledger.books import Books
from agentnexus.platform.process import die_with_parent
from tests.dying import dies_after


def arm(escrow: Escrow, books: Books, point: str) -> None:
    """Put the death behind the step that `point` names."""
    holder, name = {
        "": (None, ""),
        "claimed": (escrow._store, "claim"),
        "posted": (books, "deposit"),
        "reserved": (books, "reserve"),
        "sent": (escrow._withdrawals, "_payment"),
    }[point]
    if holder is not None:
        setattr(holder, name, dies_after(getattr(holder, name)))


async def main(port: str, point: str = "") -> None:
    die_with_parent()
    async with (
        open_ground() as ground,
        Books(ground.database) as books,
        open_treasury(ground, timedelta(days=7)) as treasury,
    ):
        escrow = Escrow(ground.database, books, treasury, ground.clock)
        arm(escrow, books, point)
        app = create_api(
            routers=[("", escrow_routes(escrow, ground.ids))],
            pages=[],
            callers=Callers(Tokens(ground.database, ground.entropy)),
            limiter=Limiter(ground.database, per_minute=100_000),
            checks={},
            clock=ground.clock,
            version="0",
        )
        await serve_app(app, "127.0.0.1", int(port))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
