"""Purchases, rights and uses as JSON. Amounts are decimal text without needless zeros."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from agentnexus.core.money import Money
from agentnexus.marketplace.entitlements.holdings import Held
from agentnexus.marketplace.entitlements.model import Access, Right, Use, UseState
from agentnexus.marketplace.entitlements.stock import tally_of
from agentnexus.marketplace.executions.model import Execution
from agentnexus.marketplace.purchases.kinds import PurchaseQuote
from agentnexus.marketplace.purchases.model import Purchase, PurchaseState, Step


def purchase_json(purchase: Purchase, held: Sequence[Held], now: datetime) -> dict[str, object]:
    """As ``/api/v1/purchases/{id}`` shows it. `held`: who has its tokens, and ran how often on them."""
    price, tally = purchase.price, tally_of(purchase, held, now)
    entitled = purchase.state is PurchaseState.COMPLETED and purchase.step is Step.ENTITLED
    return {
        "id": purchase.id,
        "agent_id": purchase.agent_id,
        "agent_name": purchase.agent_name,
        "kind": str(purchase.kind),
        "quantity": purchase.quantity,
        "price": plain(price),
        "amount": plain(purchase.amount),
        "fee_bps": purchase.fee_bps,
        "currency": price.asset.symbol,
        "asset": price.asset.caip19,
        "state": str(purchase.state),
        "step": str(purchase.step),
        "error": purchase.error,
        "deal_id": purchase.deal_id,
        "deal": purchase.deal.name.lower(),
        "held": plain(Money(price.asset, purchase.remaining)),
        "transaction": purchase.transaction,
        "wallet": purchase.wallet,
        "operation_id": purchase.operation_id,
        "runs_left": tally.left if entitled else 0,
        "runs_used": tally.used,
        "runs_max": purchase.runs_max,
        "passed_on": tally.passed_on,
        "starts_at": _time(purchase.starts_at),
        "ends_at": _time(purchase.ends_at),
        "expires_at": _time(purchase.good_until),
        "transferable": purchase.transferable,
        "upgrade": purchase.upgrade,
        "right": tally.right,
        "refundable": tally.refundable,
        "refund_blocked": tally.refund_blocked,
        "refund_reason": purchase.refund_reason,
        "retries": purchase.retries,
        "next_try_at": _time(purchase.next_try_at) if purchase.retries else None,
        "valid_until": _time(purchase.valid_until),
        "created_at": _time(purchase.created_at),
        "updated_at": _time(purchase.updated_at),
    }


def quote_json(quote: PurchaseQuote) -> dict[str, object]:
    """As ``/api/v1/agents/{id}/quote`` shows it."""
    return {
        "kind": str(quote.kind),
        "quantity": quote.quantity,
        "price": plain(quote.price),
        "amount": plain(quote.amount),
        "currency": quote.price.asset.symbol,
        "asset": quote.price.asset.caip19,
        "fee_bps": quote.fee_bps,
        "starts_at": _time(quote.starts_at),
        "ends_at": _time(quote.ends_at),
        "runs_max": quote.runs_max,
        "transferable": quote.transferable,
        "upgrade": None if quote.gives_back is None else {"runs": quote.replaces, "amount": plain(quote.gives_back)},
    }


def right_json(right: Right) -> dict[str, object]:
    """As ``/api/v1/me/entitlements`` shows it; `runs_left` and `max_usage` null: as many as you like."""
    return {
        "agent_id": right.agent_id,
        "agent_name": right.agent_name,
        "kind": str(right.kind),
        "status": str(right.status),
        "runs_left": right.runs_left,
        "runs_bought": right.runs_bought,
        "usage_count": right.usage_count,
        "max_usage": right.max_usage,
        "under_way": right.under_way,
        "starts_at": _time(right.starts_at),
        "expires_at": _time(right.expires_at),
        "transferable": right.transferable,
        "wallet": right.wallet,
        "token_id": str(right.token_id),
        "purchases": list(right.purchases),
    }


def access_json(agent_id: str, access: Access) -> dict[str, object]:
    """`until` null: no month is good now."""
    return {
        "agent_id": agent_id,
        "runs_left": access.runs_left,
        "under_way": access.under_way,
        "until": _time(access.until),
        "period_runs_left": access.period_runs_left,
    }


def use_json(use: Use, execution: Execution | None) -> dict[str, object]:
    """A run with its result, for its owner; one that did not complete was not paid for, and has none."""
    output = execution.output if execution is not None and use.state is UseState.COMPLETED else None
    return {
        "id": use.id,
        "agent_id": use.agent_id,
        "purchase_id": use.purchase_id,
        "execution_id": use.execution_id,
        "state": str(use.state),
        "output": output,
        "error": use.error,
        "settled": use.settled_at is not None,
        "transaction": use.transaction,
        "created_at": _time(use.created_at),
        "finished_at": _time(use.finished_at),
    }


def plain(money: Money) -> str:
    """``0.05``, ``2``."""
    return f"{money.decimal.normalize():f}"


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
