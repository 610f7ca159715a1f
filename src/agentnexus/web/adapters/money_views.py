"""Budgets, reports and approvals of the ledger as views. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final

from agentnexus.core.money import Money
from agentnexus.ledger.approvals import state_of
from agentnexus.ledger.budgets import BudgetStatus
from agentnexus.ledger.economics import Report
from agentnexus.ledger.grants import Grant
from agentnexus.ledger.mandates import Permission
from agentnexus.ledger.metrics import By, Point, Spending
from agentnexus.ledger.model import Reservation, ReservationState
from agentnexus.ledger.outlook import Frees
from agentnexus.web.charts import Columns, Stairs, Value, columns, percent_of, stairs
from agentnexus.web.views.money import BudgetView, GrantView, Meter, Share, UseView
from agentnexus.web.views.runs import State
from agentnexus.web.views.text import money, plural

LABELS: Final = {
    "per_payment": "One payment",
    "per_task": "One task",
    "per_hour": "Any hour",
    "per_day": "One day (UTC)",
    "total": "In all",
    "per_seller": "One seller",
    "per_capability": "One capability",
    "keep_back": "Never touched",
}
STATES: Final = {
    "open": State("open", "Open", "done"),
    "revoked": State("revoked", "Closed", "fail"),
    "expired": State("expired", "Expired", "wait"),
}
USES: Final = {
    ReservationState.PENDING: State("pending", "Set aside", "busy"),
    ReservationState.POSTED: State("posted", "Paid", "done"),
    ReservationState.VOIDED: State("voided", "Given back", "back"),
}
SHARES_SHOWN: Final = 8


def budget_view(status: BudgetStatus, frees: Mapping[str, Frees], depth: int = 0) -> BudgetView:
    """One budget with a meter for every limit that a page can set."""
    only = [
        f"{title} {', '.join(sorted(names)) or 'none'}"
        for title, names in (("only buys", status.capabilities), ("only from", status.sellers))
        if names is not None
    ]
    is_grant = status.grant_id is not None
    return BudgetView(
        id=status.id,
        label="Your budget" if status.parent is None else _short(status),
        depth=depth,
        state=STATES[state_of(status)],
        spent=money(status.spent),
        reserved=money(status.reserved) if status.reserved else "",
        meters=[_meter(status, name, frees.get(name)) for name in LABELS],
        changeable=status.open and not is_grant,
        is_grant=is_grant,
        is_root=status.parent is None,
        only=only,
        expires_at=status.expires_at,
    )


def _short(status: BudgetStatus) -> str:
    if status.grant_id is not None:
        return f"Approval {status.id.removeprefix('grant_')[:8]}"
    return status.id.rpartition("/")[2]


def _meter(status: BudgetStatus, name: str, frees: Frees | None) -> Meter:
    limit: Money | None = getattr(status.limits, name)
    if limit is None:
        return Meter(name, LABELS[name], "", "")
    left = status.left.get(name)
    return Meter(
        name=name,
        label=LABELS[name],
        limit=money(limit),
        typed=money(limit).partition(" ")[0],
        used=None if left is None else percent_of(limit.atomic - left.atomic, limit.atomic),
        left="" if left is None else money(left),
        frees="" if frees is None else f"{money(frees.amount)} more at {frees.at:%H:%M} UTC",
    )


def tree_views(tree: Sequence[BudgetStatus]) -> list[BudgetView]:
    """Parents come before children in `tree`."""
    depths: dict[str, int] = {}
    for status in tree:
        depths[status.id] = depths.get(status.parent or "", -1) + 1
    return [budget_view(status, {}, depths[status.id]) for status in tree]


def burn_chart(points: Sequence[Point], days: Sequence[str]) -> Stairs | None:
    """What was left at the end of each day; None for a budget without a total."""
    if not points or points[0].left is None:
        return None
    first = points[0]
    assert first.left is not None
    full = first.left + first.spent
    by_day = {point.day: point.left for point in points}
    level, levels = full, []
    for day in days:
        left = by_day.get(day)
        level = level if left is None else left
        levels.append(Value(day, money(level), level.atomic))
    return stairs(levels, Value("", money(full), full.atomic))


def day_values(groups: Sequence[Spending], days: Sequence[str]) -> list[Value]:
    """Every day of the window, also those on which nothing was spent."""
    spent = {group.label: group.spent for group in groups}
    return [
        Value(day, money(spent[day]) if day in spent else "", spent[day].atomic if day in spent else 0) for day in days
    ]


def day_chart(groups: Sequence[Spending], days: Sequence[str]) -> Columns:
    return columns(day_values(groups, days))


def window(today: date, days: int) -> list[str]:
    """The labels of the last `days` days, oldest first."""
    return [(today - timedelta(days=back)).isoformat() for back in range(days - 1, -1, -1)]


def shares(groups: Sequence[Spending], unnamed: str) -> list[Share]:
    """The largest, as parts of the largest."""
    most = max((group.spent.atomic for group in groups), default=0)
    return [
        Share(
            label=group.label or unnamed,
            spent=money(group.spent),
            count=group.count,
            average=money(group.average),
            bar=percent_of(group.spent.atomic, most),
        )
        for group in groups[:SHARES_SHOWN]
    ]


def figures(report: Report) -> list[tuple[str, str]]:
    """The head of the money page."""
    return [
        ("spent", money(report.spent.spent)),
        ("earned", money(report.earned)),
        ("payments", f"{report.spent.count:,}"),
        ("average payment", money(report.spent.average)),
    ]


def savings_text(report: Report) -> str:
    if report.savings is None:
        return ""
    saved, calls = report.savings.saved, report.savings.calls
    if saved.atomic < 0:
        return f"{money(-saved)} more than at hosted services, over {plural(calls, 'call')}"
    return f"{money(saved)} saved against hosted services, over {plural(calls, 'call')}"


def share_tables(report: Report) -> list[tuple[str, Sequence[Share]]]:
    return [
        ("Capabilities", shares(report.by[By.CAPABILITY], "unnamed")),
        ("Sellers", shares(report.by[By.SELLER], "unnamed")),
        ("Rails", shares(report.by[By.RAIL], "unnamed")),
    ]


def grant_view(grant: Grant, status: BudgetStatus) -> GrantView:
    total, left = status.limits.total, status.left["total"]
    assert total is not None
    assert status.expires_at is not None
    return GrantView(
        id=grant.id,
        wallet=grant.mandate.iss,
        state=STATES[state_of(status)],
        total=money(total),
        left=money(left),
        used=percent_of(total.atomic - left.atomic, total.atomic),
        expires_at=status.expires_at,
        limits=limit_lines(status),
    )


def limit_lines(status: BudgetStatus) -> list[tuple[str, str]]:
    """(what, how much) of every limit and list."""
    return permission_lines(Permission(status.limits, status.sellers, status.capabilities))


def permission_lines(allowed: Permission) -> list[tuple[str, str]]:
    """The same of what a wallet is asked to sign."""
    lines = [(LABELS[name], money(limit)) for name in LABELS if (limit := getattr(allowed.limits, name)) is not None]
    if allowed.capabilities is not None:
        lines.append(("Only for", ", ".join(sorted(allowed.capabilities)) or "nothing"))
    if allowed.sellers is not None:
        lines.append(("Only from", ", ".join(sorted(allowed.sellers)) or "nobody"))
    return lines


def use_view(use: Reservation) -> UseView:
    _, _, run_id = (use.terms.budget_id or "").partition("workflow:")
    return UseView(
        at=use.created_at,
        state=USES[use.state],
        amount=money(use.captured_money if use.state is ReservationState.POSTED else use.terms.amount),
        capability=use.terms.capability,
        seller=use.terms.seller,
        run_id=run_id,
    )
