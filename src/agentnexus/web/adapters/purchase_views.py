"""Purchases and uses → what their pages show. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from agentnexus.core.money import Money
from agentnexus.marketplace.entitlements.holdings import Held
from agentnexus.marketplace.entitlements.model import Right, RightStatus, Use, UseState
from agentnexus.marketplace.entitlements.stock import Stock, Tally, tally_of
from agentnexus.marketplace.listings.model import Listing
from agentnexus.marketplace.purchases.kinds import Kind, PurchaseQuote
from agentnexus.marketplace.purchases.model import Purchase, PurchaseState, Step
from agentnexus.rails.evm.contracts import DealStatus
from agentnexus.web.results import blocks_of
from agentnexus.web.views.problems import problem_of, sentence
from agentnexus.web.views.purchases import (
    BuyPage,
    EntitlementView,
    Locked,
    Order,
    Owned,
    PurchaseLine,
    PurchaseView,
    UseView,
    bought,
    purchase_state,
    right_state,
    steps_of,
    use_state,
)
from agentnexus.web.views.runs import Problem
from agentnexus.web.views.signing import SigningView
from agentnexus.web.views.text import money, with_days
from agentnexus.web.views.wallet import explorer_link

TAKEN_BACK: Final = ("asked for by the buyer", "you discarded it")  # how errors of what nobody signed end
HELD: Final = (DealStatus.OPEN, DealStatus.RELEASED)


def buy_page(order: Order, quote: PurchaseQuote, days: str, has_runs: int, now: datetime) -> BuyPage:
    """What a quote says; nothing of a wallet. `days`: after which what is left of runs comes back."""
    return BuyPage(
        order, money(quote.price), money(quote.amount), fee_words(quote.fee_bps), gas="", days=days,
        at_most=f"{quote.amount.decimal:f}", starts_at=_future(quote.starts_at, now), ends_at=quote.ends_at,
        runs_max=quote.runs_max, unused_runs=quote.replaces, gives_back=money(quote.gives_back), has_runs=has_runs,
    )  # fmt: skip


def _future(moment: datetime | None, now: datetime) -> datetime | None:
    """Pages say when something begins while that is to come."""
    return moment if moment is not None and moment > now else None


def purchase_view(
    purchase: Purchase,
    now: datetime,
    sign: SigningView | None = None,
    problem: Problem | None = None,
    *,
    held: Sequence[Held] = (),
) -> PurchaseView:
    """`problem` is why there is nothing to sign; else what the purchase says itself. `held`: who has its tokens."""
    state, tally = _state(purchase), tally_of(purchase, held, now)
    paid = purchase.price * (tally.used if purchase.kind is Kind.RUNS else min(tally.used, 1))
    network = purchase.price.asset.network
    rest = Money(purchase.price.asset, purchase.remaining)
    completed = purchase.state is PurchaseState.COMPLETED and purchase.deal in HELD
    return PurchaseView(
        id=purchase.id,
        agent_id=purchase.agent_id,
        agent_name=purchase.agent_name,
        quantity=purchase.quantity,
        price=money(purchase.price),
        amount=money(purchase.amount),
        fee=fee_words(purchase.fee_bps),
        state=purchase_state(state, str(purchase.step), tally.right),
        final=purchase.state.final and purchase.step is not Step.REFUNDING,
        steps=steps_of(state, str(purchase.step), asks=True),
        created_at=purchase.created_at,
        held=money(rest) if rest else "",
        paid=money(paid) if paid else "",
        came_back=money(purchase.amount - paid) if purchase.state is PurchaseState.REFUNDED else "",
        runs_left=tally.left if completed else None,
        refundable=tally.refundable or purchase.step is Step.SIGNING,
        retries=purchase.retries,
        wallet=purchase.wallet,
        deal_id=purchase.deal_id if purchase.deal is not DealStatus.NONE else "",
        transaction=purchase.transaction,
        explorer=explorer_link(network, purchase.transaction),
        expires_at=purchase.expires_at if rest else None,
        problem=problem or _problem(purchase),
        sign=sign,
        kind=str(purchase.kind),
        starts_at=_future(purchase.starts_at, now),
        ends_at=purchase.ends_at,
        runs_max=purchase.runs_max,
        runs_used=tally.used,
        passed_on=tally.passed_on,
        upgrade=purchase.upgrade,
        right=tally.right,
        blocked=with_days(tally.refund_blocked),
    )


def _state(purchase: Purchase) -> str:
    """Its own, but what its buyer took back before signing did not fail."""
    error = purchase.error
    failed = purchase.state is PurchaseState.FAILED and error is not None
    return "withdrawn" if failed and error and str(error.get("message")).endswith(TAKEN_BACK) else str(purchase.state)


def _problem(purchase: Purchase) -> Problem | None:
    if _state(purchase) == "withdrawn":
        return None
    if purchase.error is not None:
        return problem_of(purchase.error)
    reason = purchase.refund_reason
    return Problem(sentence(reason), "", "") if reason and reason not in TAKEN_BACK else None


def purchase_line(purchase: Purchase, held: Sequence[Held], now: datetime) -> PurchaseLine:
    """`held`: who has its tokens."""
    return PurchaseLine(
        purchase.id,
        purchase.agent_name,
        bought(str(purchase.kind), purchase.quantity),
        money(purchase.amount),
        purchase_state(_state(purchase), str(purchase.step), tally_of(purchase, held, now).right),
        purchase.created_at,
    )


def entitlement_view(
    right: Right,
    stock: Stock | None,
    own: Sequence[tuple[Purchase, Tally]],
    listing: Listing | None,
    now: datetime,
) -> EntitlementView:
    """`stock`: what the chain says, if it does; `own`: its buyer's purchases; `listing`: where it is for sale."""
    kind, left, status = right.kind, right.runs_left, right.status
    if stock is not None and kind is Kind.RUNS:
        left = stock.runs_left
        if status is RightStatus.ACTIVE and not left and not right.under_way:
            status = RightStatus.USED_UP
    paid = [(each, tally) for each, tally in own if each.remaining and (tally.refundable or tally.refund_blocked)]
    held = sum(each.remaining for each, _ in paid)
    back = [each for each, tally in paid if tally.refundable]
    has_month = stock is not None and bool(stock.periods)
    passable = {} if stock is None else stock.passable(kind)
    return EntitlementView(
        agent_id=right.agent_id,
        agent_name=right.agent_name,
        runs_left=left,
        under_way=right.under_way,
        held=money(Money(paid[0][0].price.asset, held)) if held else "",
        purchase_id=back[0].id if back else "",
        expires_at=right.expires_at,
        available=listing is not None,
        kind=str(kind),
        state=right_state(str(status)),
        used=right.usage_count,
        max_usage=right.max_usage,
        starts_at=_future(right.starts_at, now),
        may_pass=passable.get(right.token_id, 0) if kind is Kind.PERIOD else max(passable.values(), default=0),
        may_upgrade=bool(back) and listing is not None and listing.month_price is not None and not has_month,
        token_id=str(right.token_id),
        locked=[
            Locked(each.id, money(Money(each.price.asset, each.remaining)), with_days(tally.refund_blocked))
            for each, tally in paid
            if tally.refund_blocked
        ],
        comes_back_at=comes_back(each for each, _ in paid),
    )


def comes_back(purchases: Iterable[Purchase]) -> datetime | None:
    """When what nobody used of the last of them returns by itself."""
    return max((each.expires_at for each in purchases if each.expires_at is not None), default=None)


def use_view(use: Use, purchase: Purchase, owned: Owned, output: object = None) -> UseView:
    """`output` of a run that succeeded; `owned`: what there is left of the agent."""
    succeeded, is_month = use.state is UseState.COMPLETED, purchase.kind is Kind.PERIOD
    single = purchase.quantity == 1 and not is_month and purchase.user_id == use.user_id
    given_back = use.state is UseState.FAILED and single
    is_paid = succeeded and use.settled_at is not None and not is_month
    return UseView(
        id=use.id,
        agent_id=use.agent_id,
        agent_name=purchase.agent_name,
        state=use_state(str(use.state)),
        final=use.state is UseState.FAILED or use.settled_at is not None,
        created_at=use.created_at,
        paid=money(purchase.price) if is_paid else "",
        runs_left=None if given_back else owned.month_runs_left if is_month else owned.runs_left,
        transaction=use.transaction,
        explorer=explorer_link(purchase.price.asset.network, use.transaction),
        problem=problem_of(use.error),
        blocks=blocks_of(output) if succeeded and output is not None else (),
        given_back=given_back,
        month=is_month,
        ends_at=purchase.ends_at,
    )


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
