"""Workflows over the real hiring and ledger; as a process it is a worker to be killed: ``… URL [BACKEND [SLOTS]]``."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

from agentnexus.bootstrap.prepaid import prepaid_funds
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import SellerFailed
from agentnexus.core.payments import PayMode
from agentnexus.escrow.service import Escrow
from agentnexus.hiring.testing import MemoryNetwork, Script, ScriptedRail
from agentnexus.ledger.budgets import BudgetStatus
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.database import Database
from agentnexus.platform.process import die_with_parent
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.postgres.journal import PostgresJournal
from agentnexus.workflows.engine.worker import WorkerSettings
from agentnexus.workflows.funds import BudgetFunds
from agentnexus.workflows.model import Plan, PlanStep, StepRetry
from agentnexus.workflows.ports import EscrowFunds
from agentnexus.workflows.worker import WorkflowRoom, open_room
from tests.escrow.conftest import ScriptedTreasury
from tests.hiring.support import BUDGET, USDC, Economy, TableDelivery, TableNetwork, make_offer, seller_key

from .backends import Backend

SETTINGS = WorkerSettings(
    lease_seconds=1.0, renew_seconds=0.3, look_seconds=0.1, runs_max=6, claim_max=3, recoveries_max=50,
    suspend_after_seconds=0.2,
)  # fmt: skip
OFFERS = [
    make_offer(1, capability="text.echo", price="0.02"),
    make_offer(2, capability="text.lock", price="0.03"),
    make_offer(3, capability="text.fail", price="0.05"),
]
ONCE = StepRetry(attempts=1)


def refuse(_given: object) -> object:
    raise SellerFailed("out of paper")


SCRIPTS = {
    seller_key(1): Script(),
    seller_key(2): Script(mode=PayMode.HOLD),
    seller_key(3): Script(output=refuse),
}


def step(name: str, capability: str, *waits: str) -> PlanStep:
    given: dict[str, object] = {"name": name, "from": [{"$step": other, "path": "echo"} for other in waits]}
    return PlanStep(id=name, title=name, capability=capability, input=given, depends_on=waits, retry=ONCE)


GOOD = Plan(
    planner="hand",
    steps=(
        step("a", "text.echo"), step("b", "text.lock", "a"), step("c", "text.echo", "a"),
        step("d", "text.echo", "b", "c"),
    ),
    output={"$step": "d", "path": "echo.name"},
)  # fmt: skip
BAD = Plan(planner="hand", steps=(step("a", "text.echo"), step("f", "text.fail", "a"), step("c", "text.lock", "a")))


async def economy_on(database: Database) -> Economy:
    network = await TableNetwork(database).create()
    return await Economy.build(
        database, offers=OFFERS, scripts=SCRIPTS, network=network, delivery=TableDelivery(database)
    )


async def own_budget(_user_id: str) -> str:
    return BUDGET


def room_of(economy: Economy, wakeups: Wakeups) -> WorkflowRoom:
    """The room over an economy's hiring and books."""
    return room_on(DurableEngine(PostgresJournal(economy.database, wakeups), settings=SETTINGS), economy)


def room_on(engine: DurableEngine, economy: Economy, funds: EscrowFunds | None = None) -> WorkflowRoom:
    return open_room(
        engine, hirer=economy.hiring, budgets=economy.books.budgets, blobs=PostgresBlobs(economy.database),
        clock=SystemClock(), root_budget=own_budget, funds=funds,
    )  # fmt: skip


def escrow_on(economy: Economy) -> Escrow:
    """Prepaid accounts in the economy's books; every process knows those that were opened and filled."""
    treasury = ScriptedTreasury(ScriptedRail(MemoryNetwork(), SystemClock(), "solana"))
    return Escrow(economy.database, economy.books, treasury, SystemClock(), require_proof=False)


def funds_on(economy: Economy, escrow: Escrow) -> EscrowFunds:
    """Who has a prepaid account works from that, everybody else from the one budget."""

    async def budget(_user_id: str) -> BudgetStatus:
        return await economy.books.budgets.status(BUDGET)

    return prepaid_funds(escrow, BudgetFunds(budget), USDC, SystemClock())


async def main(url: str, backend: Backend, settings: WorkerSettings) -> None:
    database = await Database.open(url, max_size=8)
    economy = await economy_on(database)
    async with backend.engine(database, settings) as engine:
        room = room_on(engine, economy, funds_on(economy, escrow_on(economy)))
        print("working", flush=True)
        await room.engine.work()


if __name__ == "__main__":
    die_with_parent()
    chosen = Backend.from_json(sys.argv[2]) if len(sys.argv) > 2 else Backend()
    asyncio.run(main(sys.argv[1], chosen, replace(SETTINGS, runs_max=int((sys.argv[3:] or ["6"])[0]))))
