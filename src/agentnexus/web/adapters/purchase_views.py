"""Purchases and uses → what their pages show. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from agentnexus.core.money import Money
from agentnexus.marketplace.entitlements.model import Use, UseState
from agentnexus.marketplace.purchases.model import Purchase, PurchaseState, Step
from agentnexus.rails.evm.contracts import DealStatus
from agentnexus.web.results import blocks_of
from agentnexus.web.views.problems import problem_of, sentence
from agentnexus.web.views.purchases import PurchaseLine, PurchaseView, UseView, purchase_state, steps_of, use_state
from agentnexus.web.views.runs import Problem
from agentnexus.web.views.signing import SigningView
from agentnexus.web.views.text import money
from agentnexus.web.views.wallet import explorer_link

ASKED_FOR: Final = "asked for by the buyer"
HELD: Final = (DealStatus.OPEN, DealStatus.RELEASED)


def purchase_view(
    purchase: Purchase, sign: SigningView | None = None, problem: Problem | None = None, *, used: int = 0
) -> PurchaseView:
    """`problem` is why there is nothing to sign; else what the purchase says itself. `used`: runs that were paid."""
    state, paid = _state(purchase), purchase.price * used
    network = purchase.price.asset.network
    held = Money(purchase.price.asset, purchase.remaining)
    completed = purchase.state is PurchaseState.COMPLETED and purchase.deal in HELD
    return PurchaseView(
        id=purchase.id,
        agent_id=purchase.agent_id,
        agent_name=purchase.agent_name,
        quantity=purchase.quantity,
        price=money(purchase.price),
        amount=money(purchase.amount),
        fee=fee_words(purchase.fee_bps),
        state=purchase_state(state, str(purchase.step)),
        final=purchase.state.final and purchase.step is not Step.REFUNDING,
        steps=steps_of(state, str(purchase.step), asks=True),
        created_at=purchase.created_at,
        held=money(held) if held else "",
        paid=money(paid) if used else "",
        came_back=money(purchase.amount - paid) if purchase.state is PurchaseState.REFUNDED else "",
        runs_left=purchase.remaining // purchase.price.atomic if completed else None,
        refundable=is_refundable(purchase),
        retries=purchase.retries,
        wallet=purchase.wallet,
        deal_id=purchase.deal_id if purchase.deal is not DealStatus.NONE else "",
        transaction=purchase.transaction,
        explorer=explorer_link(network, purchase.transaction),
        expires_at=purchase.expires_at if held else None,
        problem=problem or _problem(purchase),
        sign=sign,
    )


def _state(purchase: Purchase) -> str:
    """Its own, but what its buyer took back before signing did not fail."""
    error = purchase.error
    failed = purchase.state is PurchaseState.FAILED and error is not None
    return "withdrawn" if failed and error and str(error.get("message")).endswith(ASKED_FOR) else str(purchase.state)


def _problem(purchase: Purchase) -> Problem | None:
    if _state(purchase) == "withdrawn":
        return None
    if purchase.error is not None:
        return problem_of(purchase.error)
    reason = purchase.refund_reason
    return Problem(sentence(reason), "", "") if reason and reason != ASKED_FOR else None


def is_refundable(purchase: Purchase) -> bool:
    """Whether there is something to take back: a rest that is held, or a purchase that is not signed yet."""
    rest = purchase.step is Step.ENTITLED and purchase.deal is DealStatus.OPEN and purchase.remaining > 0
    return rest or purchase.step is Step.SIGNING


def purchase_line(purchase: Purchase) -> PurchaseLine:
    return PurchaseLine(
        purchase.id,
        purchase.agent_name,
        purchase.quantity,
        money(purchase.amount),
        purchase_state(_state(purchase), str(purchase.step)),
        purchase.created_at,
    )


def use_view(use: Use, purchase: Purchase, runs_left: int | None, output: object = None) -> UseView:
    """`output` of a run that succeeded."""
    succeeded = use.state is UseState.COMPLETED
    given_back = use.state is UseState.FAILED and purchase.quantity == 1
    shown = UseView(
        id=use.id,
        agent_id=use.agent_id,
        agent_name=purchase.agent_name,
        state=use_state(str(use.state)),
        final=use.state is UseState.FAILED or use.settled_at is not None,
        created_at=use.created_at,
        runs_left=None if given_back else runs_left,
        transaction=use.transaction,
        explorer=explorer_link(purchase.price.asset.network, use.transaction),
        problem=problem_of(use.error),
        blocks=blocks_of(output) if succeeded and output is not None else (),
        given_back=given_back,
    )
    return replace(shown, paid=money(purchase.price)) if use.settled_at is not None and succeeded else shown


def fee_words(fee_bps: int) -> str:
    """Who gets what part of the price."""
    share = f"{fee_bps / 100:g} %"
    return f"Of each price {share} is the fee of the market; the seller pays it, not you." if fee_bps else "No fee."


def short_of(needed: Money, held: Money) -> Mapping[str, object]:
    """The refusal for a wallet that holds too little, in the error's form."""
    return {
        "code": "insufficient_funds",
        "message": f"the wallet holds {money(held)}, and this costs {money(needed)}",
        "next_step": f"add at least {money(needed - held)} to it",
    }
