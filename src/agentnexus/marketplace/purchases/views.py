"""Purchases, rights and uses as JSON. Amounts are decimal text without needless zeros."""

from __future__ import annotations

from datetime import datetime

from agentnexus.core.money import Money
from agentnexus.marketplace.entitlements.model import Access, Right, Use, UseState
from agentnexus.marketplace.executions.model import Execution
from agentnexus.marketplace.purchases.model import Purchase, PurchaseState, Step
from agentnexus.rails.evm.contracts import DealStatus


def purchase_json(purchase: Purchase, *, used: int = 0, running: int = 0) -> dict[str, object]:
    """As ``/api/v1/purchases/{id}`` shows it. `used` and `running`: its runs so far."""
    price = purchase.price
    entitled = purchase.state is PurchaseState.COMPLETED and purchase.step is Step.ENTITLED
    left = purchase.quantity - used - running if entitled else 0
    return {
        "id": purchase.id,
        "agent_id": purchase.agent_id,
        "agent_name": purchase.agent_name,
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
        "runs_left": left,
        "runs_used": used,
        "expires_at": _time(purchase.expires_at),
        "refundable": entitled and purchase.deal is DealStatus.OPEN and not running,
        "refund_reason": purchase.refund_reason,
        "retries": purchase.retries,
        "next_try_at": _time(purchase.next_try_at) if purchase.retries else None,
        "valid_until": _time(purchase.valid_until),
        "created_at": _time(purchase.created_at),
        "updated_at": _time(purchase.updated_at),
    }


def right_json(right: Right) -> dict[str, object]:
    """As ``/api/v1/me/entitlements`` shows it."""
    return {
        "agent_id": right.agent_id,
        "agent_name": right.agent_name,
        "kind": "runs",
        "status": str(right.status),
        "runs_left": right.runs_left,
        "runs_bought": right.runs_bought,
        "runs_used": right.runs_used,
        "under_way": right.under_way,
        "expires_at": _time(right.expires_at),
        "wallet": right.wallet,
        "token_id": str(right.token_id),
        "purchases": list(right.purchases),
    }


def access_json(agent_id: str, access: Access) -> dict[str, object]:
    return {"agent_id": agent_id, "runs_left": access.runs_left, "under_way": access.under_way}


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
