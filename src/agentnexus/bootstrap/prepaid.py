"""Prepaid accounts wired to Solana: the treasury wallet, deposits seen on the chain, and funds for workflows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_CEILING

from agentnexus.bootstrap.ground import Ground, dollar
from agentnexus.bootstrap.upkeep import RECONCILE_SECONDS, repeat
from agentnexus.core.errors import InvalidInput, NotFound, Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.core.ports import Clock
from agentnexus.escrow.funds import Funds, PrepaidFunds
from agentnexus.escrow.hires import REFERENCE, PrepaidHires
from agentnexus.escrow.service import Escrow
from agentnexus.hiring.hire import Hiring
from agentnexus.hiring.model import Rates
from agentnexus.ledger.books import Books
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.ledger.reconcile import Comparison, Reconciler, Sum
from agentnexus.platform.settings import Environment
from agentnexus.workflows.engine.port import Engine
from agentnexus.workflows.funds import BudgetFunds

DEPOSIT_AGE_MAX = timedelta(days=7)
REPAIR_SECONDS = 10.0


@asynccontextmanager
async def open_escrow(ground: Ground, books: Books) -> AsyncIterator[Escrow | None]:
    """Prepaid accounts on the configured cluster; None where none is configured.

    Raises `Unavailable` when the Solana parts are not installed, `WrongNetwork` for a key of another kind of network.
    """
    settings = ground.settings
    if settings.solana_rpc_url is None or settings.treasury_keypair is None:
        yield None
        return
    try:
        from agentnexus.bootstrap.treasury import open_treasury
    except ImportError as error:
        raise Unavailable(
            "the Solana parts are not installed", next_step="install them: uv sync --extra solana"
        ) from error
    async with open_treasury(ground, DEPOSIT_AGE_MAX) as treasury:
        local = settings.environment is Environment.LOCAL
        yield Escrow(ground.database, books, treasury, ground.clock, require_proof=not local)


async def keep_prepaid(escrow: Escrow, engine: Engine, hires: PrepaidHires | None = None) -> None:
    """Finish, for ever, what crashes left open: withdrawals without an answer, money held for work that has ended."""

    async def ended(workflow_id: str) -> bool:
        if workflow_id.startswith(REFERENCE):
            return hires is not None and await hires.settled(workflow_id)
        try:
            return (await engine.get(workflow_id)).state.final
        except NotFound:
            return False

    async def repair() -> None:
        await escrow.finish_claims()
        await escrow.repair(ended)

    await repeat("prepaid", repair, REPAIR_SECONDS)


async def compare_treasury(ground: Ground, escrow: Escrow, reconciler: Reconciler, *, twice: bool) -> Comparison:
    """The treasury's balances against the books; a difference becomes a case. Unclaimed deposits are none."""
    own_fees = ground.settings.treasury_fee_keypair is None
    sums = []
    for line in await escrow.reconcile():
        expected, held = line.expected, line.expected - line.unclaimed
        if own_fees and "/slip44:" in line.asset.caip19 and held <= line.observed:
            # The treasury pays the network's fees itself: what SOL it has beyond its users' is the operator's.
            expected = line.observed
        detail = {"unclaimed": str(line.unclaimed.atomic)}
        subject = f"treasury:{line.asset.caip19}"
        sums.append(Sum(subject, expected, line.observed, line.leaving, detail))
    return await reconciler.compare_sums(sums, twice=twice)


async def reconcile_treasury(ground: Ground, escrow: Escrow, books: Books) -> None:
    """Compare, for ever; only what differs by the same twice in a row is a case."""
    reconciler = Reconciler(books, ground.clock, ground.ids)

    async def reconcile() -> None:
        await compare_treasury(ground, escrow, reconciler, twice=True)

    await repeat("treasury", reconcile, RECONCILE_SECONDS, first_after=RECONCILE_SECONDS)


def prepaid_hires(
    escrow: Escrow | None, hiring: Hiring, books: Books, asset: Asset, clock: Clock
) -> PrepaidHires | None:
    """Hires outside workflows, charged to prepaid accounts; None where there are none."""
    if escrow is None:
        return None
    otherwise = BudgetFunds(PersonalBudgets(books, asset).current)
    return PrepaidHires(hiring, prepaid_funds(escrow, otherwise, asset, clock), books.budgets)


def prepaid_funds(escrow: Escrow, otherwise: Funds, priced_in: Asset, clock: Clock) -> PrepaidFunds:
    """Workflows count in one USDC, prepaid accounts in another: both are dollars."""
    assets = (priced_in, escrow.treasury.assets[0])
    rates = Rates(tuple(dollar(asset, clock) for asset in assets))
    return PrepaidFunds(escrow, otherwise, Exchange(rates, clock).convert, priced_in)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Amounts in another asset, by rates."""

    rates: Rates
    clock: Clock

    def convert(self, money: Money, asset: Asset) -> Money:
        """Rounded up to the asset's smallest unit. Raises `InvalidInput` where there is no rate."""
        now = self.clock.now()
        value, one = self.rates.usd(money, now), self.rates.usd(Money(asset, 10**asset.decimals), now)
        if value is None or not one:
            raise InvalidInput(
                f"there is no rate from {money.asset.symbol} to {asset.symbol}", next_step="pay in USDC", field="asset"
            )
        atomic = (value / one).scaleb(asset.decimals).to_integral_value(ROUND_CEILING)
        return Money(asset, int(atomic))
