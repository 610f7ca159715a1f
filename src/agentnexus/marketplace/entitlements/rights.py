"""What somebody's tokens of an agent come to: their runs together, and each month for itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from agentnexus.marketplace.entitlements.model import Right, RightStatus
from agentnexus.marketplace.entitlements.stock import Lot, Stock, runs_in
from agentnexus.marketplace.purchases.kinds import Kind
from agentnexus.marketplace.purchases.model import PurchaseState
from agentnexus.rails.evm.contracts import DealStatus

_THERE = (PurchaseState.COMPLETED, PurchaseState.REFUNDED)


def rights_of(stock: Stock, user_id: str) -> list[Right]:
    """Runs first, then months that are not over, by their end; where all are over, the last one."""
    lots = [each for each in stock.lots if each.purchase.state in _THERE]
    lots = [each for each in lots if each.held.count or each.purchase.user_id == user_id]
    runs = [each for each in lots if each.purchase.kind is Kind.RUNS]
    months: dict[int, list[Lot]] = {}
    for lot in lots:
        if lot.purchase.kind is Kind.PERIOD:
            months.setdefault(lot.token_id, []).append(lot)
    ordered = sorted(months.values(), key=lambda each: each[0].purchase.period or 0)
    shown = [each for each in ordered if not _is_over(each[0], stock)] or ordered[-1:]
    found = [_runs(runs, stock, user_id)] if runs else []
    return found + [_month(each, stock, user_id) for each in shown]


def _runs(lots: Sequence[Lot], stock: Stock, user_id: str) -> Right:
    left, under_way = stock.runs_left, sum(each.held.under_way for each in lots)
    bought = sum(each.held.count for each in lots)
    usable = [each.purchase.expires_at for each in lots if each.free and each.purchase.usable(stock.now)]
    used_up = lots[-1].held.count and all(each.held.unused <= 0 for each in lots)
    status = RightStatus.ACTIVE if left or under_way else RightStatus.USED_UP if used_up else _ended(lots[-1])
    return _right(
        lots, stock, user_id, status=status, runs_left=left, runs_bought=bought, max_usage=bought, under_way=under_way,
        starts_at=None, expires_at=min((each for each in usable if each), default=None),
        usage_count=sum(each.held.completed for each in lots),
    )  # fmt: skip


def _month(lots: Sequence[Lot], stock: Stock, user_id: str) -> Right:
    """Of one period. What somebody else gave is beside what was bought."""
    last = lots[-1].purchase
    held = [each for each in lots if each.held.count and each.purchase.is_there]
    held = [] if _is_over(lots[0], stock) else held[: stock.balances.get(last.token_id, 0)]
    left, under_way = runs_in(held) if held else 0, sum(each.held.under_way for each in lots)
    going = left is None or left or under_way
    status = RightStatus.ACTIVE if going else RightStatus.USED_UP
    bounds = [each.purchase.runs_max for each in held or lots[-1:]]
    return _right(
        lots, stock, user_id, status=status if held else _ended(lots[-1]), runs_left=left, under_way=under_way,
        runs_bought=sum(each.held.count for each in lots), starts_at=last.starts_at, expires_at=last.ends_at,
        max_usage=None if None in bounds else sum(each or 0 for each in bounds),
        usage_count=sum(each.held.completed for each in held or lots[-1:]),
    )  # fmt: skip


def _right(lots: Sequence[Lot], stock: Stock, user_id: str, **counted: object) -> Right:
    last = lots[-1]
    passable = stock.passable(last.purchase.kind)
    return Right(
        agent_id=last.purchase.agent_id,
        agent_name=last.purchase.agent_name,
        kind=last.purchase.kind,
        transferable=any(passable.get(each.token_id) for each in lots),
        wallet=last.held.wallet,
        token_id=last.token_id,
        purchases=tuple(each.purchase.id for each in lots if each.purchase.user_id == user_id),
        **counted,  # type: ignore[arg-type]  # by the two above
    )


def _is_over(lot: Lot, stock: Stock) -> bool:
    return lot.purchase.ends_at is not None and lot.purchase.ends_at <= stock.now


def _ended(last: Lot) -> RightStatus:
    over = last.purchase.deal in (DealStatus.EXPIRED, DealStatus.OPEN, DealStatus.RELEASED)
    return RightStatus.EXPIRED if over and last.held.count else RightStatus.REVOKED
