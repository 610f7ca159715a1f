"""The node's economy for Prometheus: figures over all users, read from the books now and then, never per user."""

from __future__ import annotations

from prometheus_client import Gauge

from agentnexus.core.money import Money
from agentnexus.ledger.economics import Economics
from agentnexus.ledger.metrics import By, Scoped
from agentnexus.platform.telemetry import REGISTRY

LABELLED_MAX = 50
REFRESH_SECONDS = 30.0
MONEY = ["symbol", "network"]

spent = Gauge("agentnexus_spent", "Captured payments", [*MONEY, "capability"], registry=REGISTRY)
payments = Gauge("agentnexus_captured_payments", "How many", [*MONEY, "capability"], registry=REGISTRY)
spent_by_rail = Gauge("agentnexus_spent_by_rail", "Captured payments", [*MONEY, "rail"], registry=REGISTRY)
fees = Gauge("agentnexus_fees", "Fees of payments", MONEY, registry=REGISTRY)


async def refresh(economics: Economics) -> None:
    """Read the totals; capabilities beyond the largest `LABELLED_MAX` count together as ``other``."""
    asset = economics.asset
    where = (asset.symbol, asset.network)
    groups = await economics.metrics.groups(Scoped(asset), [By.CAPABILITY, By.RAIL])
    largest, rest = groups[By.CAPABILITY][:LABELLED_MAX], groups[By.CAPABILITY][LABELLED_MAX:]
    spent.clear()
    payments.clear()
    for group in largest:
        spent.labels(*where, group.label).set(whole(group.spent))
        payments.labels(*where, group.label).set(group.count)
    if rest:
        spent.labels(*where, "other").set(sum(whole(group.spent) for group in rest))
        payments.labels(*where, "other").set(sum(group.count for group in rest))
    for group in groups[By.RAIL]:
        spent_by_rail.labels(*where, group.label or "unnamed").set(whole(group.spent))
    fees.labels(*where).set(whole(await economics.metrics.fees(Scoped(asset))))


def whole(amount: Money) -> float:
    """Whole units: Prometheus knows only floats, and these are for plots, not for accounts."""
    return float(amount.decimal)
