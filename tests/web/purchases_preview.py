"""Buying and using runs over sample data: purchases and uses in every state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from agentnexus.core.errors import NotFound
from agentnexus.web.adapters.undeployed import NoPurchases
from agentnexus.web.results import blocks_of
from agentnexus.web.views.agents import AgentView
from agentnexus.web.views.purchases import (
    BuyPage,
    EntitlementsPage,
    EntitlementView,
    Locked,
    Order,
    Owned,
    Passing,
    PassingPage,
    PurchaseLine,
    PurchaseView,
    Renewal,
    UseLine,
    UseView,
    purchase_state,
    right_state,
    steps_of,
    use_state,
)
from agentnexus.web.views.runs import Problem
from agentnexus.web.views.signing import Signed, SigningView
from tests.web import samples
from tests.web.wallet_preview import ADDRESS, CHALLENGE, CREDENTIAL, FAUCET, HASH, NOW, TRANSACTION

AGENT = "org.agentnexus.pdf-extractor"
NAME = "PDF extractor"
FEE = "Of each price 2.5 % is the fee of the market; the seller pays it, not you."
SHORT = Problem("The wallet holds 0.05 USDC, and this costs 0.1 USDC.", "Add at least 0.05 USDC.", "insufficient_funds")
NO_WALLET = Problem("You have no wallet yet.", "Make one: it takes a moment.", "not_found")
STATES = {
    "validating": ("validating", "reviewed"),
    "signing": ("processing", "signing"),
    "sent": ("processing", "sent"),
    "confirmed": ("processing", "confirmed"),
    "completed": ("completed", "entitled"),
    "refunding": ("processing", "refunding"),
    "refunded": ("refunded", "confirmed"),
    "failed": ("failed", "reviewed"),
}
MONTH_STATES = {
    "month": ("completed", "entitled"),
    "month_used": ("completed", "entitled"),
    "month_given": ("completed", "entitled"),
    "month_next": ("completed", "entitled"),
    "month_signing": ("processing", "signing"),
    "month_refunded": ("refunded", "ended"),
}
BEGINS, ENDS = datetime(2026, 12, 6, tzinfo=UTC), datetime(2027, 1, 5, tzinfo=UTC)
MONTH_PRICE, MONTH_RUNS = "5 USDC", 1000
LOCKED = "it was passed on: what nobody uses comes back on 2026-12-07"
THIRD = Problem("You have this month and the next one of it.", "Buy again once the next one began.", "conflict")


def purchase(name: str) -> PurchaseView:
    state, step = STATES[name]
    identifier = f"pur_{name}"
    sign = problem = None
    if name == "signing":
        sign = SigningView(f"/purchases/{identifier}/signature", "passkey", CHALLENGE, HASH, CREDENTIAL)
    if name == "failed":
        problem = Problem("The operation failed on the chain.", "Nothing was paid. Buy again.", "conflict")
    if name == "refunded":
        problem = Problem("The agent is not for sale any more.", "Choose another one.", "conflict")
    mined = name in ("confirmed", "completed", "refunding", "refunded")
    return PurchaseView(
        identifier, AGENT, NAME, 5, "0.02 USDC", "0.1 USDC", FEE, purchase_state(state, step),
        state in ("completed", "failed", "refunded"), steps_of(state, step, asks=True), NOW - timedelta(minutes=2),
        held="0.06 USDC" if name == "completed" else "0.1 USDC" if name == "confirmed" else "",
        runs_left=3 if name == "completed" else None, refundable=name in ("completed", "signing"), wallet=ADDRESS,
        deal_id="0x" + "de" * 32 if mined else "", transaction=TRANSACTION if mined else "",
        expires_at=NOW + timedelta(days=30) if mined else None, problem=problem, sign=sign,
        right={"completed": "active", "refunded": "refunded"}.get(name, ""),
    )  # fmt: skip


def month(name: str) -> PurchaseView:
    """A purchase of a month: never run, used, to come, unsigned or given back."""
    state, step = MONTH_STATES[name]
    made = replace(
        purchase("signing" if step == "signing" else state), id=f"pur_{name}", quantity=1, kind="period",
        price="3.34 USDC", amount="3.34 USDC", state=purchase_state(state, step), runs_left=None, problem=None,
        steps=steps_of(state, step, asks=True), ends_at=BEGINS, runs_max=MONTH_RUNS, refundable=state != "refunded",
        held="3.34 USDC" if state == "completed" else "", came_back="3.34 USDC" if state == "refunded" else "",
        renewal=Renewal(possible=True) if state == "completed" else Renewal(),
    )  # fmt: skip
    if name == "month_given":
        given = {"runs_left": 0, "passed_on": 1, "refundable": False, "right": "passed_on", "blocked": LOCKED}
        return replace(made, state=purchase_state(state, step, "passed_on"), **given)
    if name == "month_used":
        return replace(made, runs_used=12, runs_left=988, held="", paid="3.34 USDC", refundable=False, upgrade=True)
    if name == "month_next":
        return replace(made, starts_at=BEGINS, ends_at=ENDS, amount=MONTH_PRICE, held=MONTH_PRICE, runs_max=None,
                       renewal=Renewal(starts_at=BEGINS))  # fmt: skip
    return made


def use(name: str) -> UseView:
    problem = Problem("The agent cannot read this file.", "Send a PDF.", "agent_refused") if name == "failed" else None
    if name == "month":
        return replace(use("completed"), id="use_month", month=True, paid="", runs_left=987, ends_at=BEGINS)
    done = name == "completed"
    return UseView(
        f"use_{name}", AGENT, NAME, use_state(name), name in ("completed", "failed"), NOW - timedelta(seconds=20),
        paid="0.02 USDC" if done else "", runs_left=2 if done else 3, transaction=TRANSACTION if done else "",
        problem=problem, blocks=blocks_of(samples.RESULT) if done else (),
    )  # fmt: skip


@dataclass
class PreviewPurchases:
    """Keeps what was asked of it. `refuse` is raised by everything that changes something."""

    purchases: dict[str, PurchaseView] = field(default_factory=dict)
    uses: dict[str, UseView] = field(default_factory=dict)
    bought: list[tuple[str, Order, str]] = field(default_factory=list)
    passed: list[tuple[str, Passing]] = field(default_factory=list)
    given: dict[str, object] = field(default_factory=dict)
    told: list[Decimal | None] = field(default_factory=list)
    signed: list[Signed] = field(default_factory=list)
    ran: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    refunded: list[str] = field(default_factory=list)
    has: Owned = field(default_factory=lambda: Owned(sold=True, runs_left=3))
    left: EntitlementsPage = field(default_factory=EntitlementsPage)
    obstacle: Problem | None = None
    sold: bool = True
    renews: bool = False
    refuse: Exception | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.purchases = {f"pur_{name}": purchase(name) for name in STATES}
        self.purchases |= {f"pur_{name}": month(name) for name in MONTH_STATES}
        self.uses = {f"use_{name}": use(name) for name in ("running", "completed", "failed", "month")}
        lines = [
            PurchaseLine(each.id, each.agent_name, each.what, each.amount, each.state, each.created_at)
            for each in self.purchases.values()
        ]
        owned = [
            EntitlementView(
                AGENT, NAME, 3, 1, "0.06 USDC", "pur_completed", NOW + timedelta(days=30), used=2, max_usage=5,
                may_pass=3, may_upgrade=True, comes_back_at=NOW + timedelta(days=30),
                locked=[Locked("pur_locked", "0.02 USDC", "1 of its runs was passed on")],
            ),
            EntitlementView(
                AGENT, NAME, 988, expires_at=BEGINS, kind="period", used=12, max_usage=MONTH_RUNS, may_pass=1,
                token_id="71", renewal=Renewal(starts_at=BEGINS),
            ),
            EntitlementView(
                AGENT, NAME, None, 0, MONTH_PRICE, "pur_month_next", ENDS, kind="period", starts_at=BEGINS, may_pass=1,
                token_id="72", comes_back_at=ENDS, renewal=Renewal(starts_at=BEGINS),
            ),
            EntitlementView(
                "org.example.gone", "Gone agent", 2, 0, "0.04 USDC", "pur_completed", available=False, max_usage=2
            ),
            EntitlementView(
                "org.agentnexus.content-summarizer", "Content summarizer", 0, state=right_state("used_up"), used=5,
                max_usage=5,
            ),
            EntitlementView(
                AGENT, NAME, None, kind="period", state=right_state("expired"), used=1, expires_at=NOW
            ),
        ]  # fmt: skip
        uses = [UseLine(each.id, each.agent_name, each.state, each.created_at) for each in self.uses.values()]
        self.left = EntitlementsPage(owned, lines, uses, "more")

    async def terms(self, user_id: str, agent: AgentView, order: Order) -> BuyPage:
        if not self.sold:
            return await NoPurchases().terms(user_id, agent, order)
        is_month = order.kind == "period"
        if self.obstacle is THIRD:
            return BuyPage(order, MONTH_PRICE, "", FEE, "", obstacle=THIRD)
        if self.obstacle is NO_WALLET:
            link = (f"/wallet?next=/agents/{agent.id}/buy?{order.query}", "Make a wallet")
            return BuyPage(order, agent.price, "0.1 USDC", FEE, "", obstacle=NO_WALLET, next_link=link)
        short = self.obstacle is SHORT
        terms = BuyPage(
            order, "0.02 USDC", "0.1 USDC", FEE, "paid by AgentNexus (0.19 ETH left today)", "30 days",
            "passkey", ADDRESS, "0.05 USDC" if short else "24.9 USDC", "" if short else "24.8 USDC",
            "0.05 USDC" if short else "", FAUCET if short else "", self.obstacle,
            ("/wallet#receive", "Add USDC") if short else None, "0.1", has_runs=self.has.runs_left,
        )  # fmt: skip
        if not is_month:
            return terms
        price = MONTH_PRICE if self.renews else "3.34 USDC"
        return replace(
            terms, price=price, amount=price, at_most=price.split()[0], after="21.56 USDC", runs_max=MONTH_RUNS,
            starts_at=BEGINS if self.renews else None, ends_at=ENDS if self.renews else BEGINS,
            unused_runs=0 if self.renews else 3, gives_back="" if self.renews else "0.06 USDC", has_runs=4,
        )  # fmt: skip

    async def buy(self, user_id: str, agent_id: str, order: Order, key: str, at_most: Decimal | None = None) -> str:
        self._may()
        self.bought.append((agent_id, order, key))
        self.told.append(at_most)
        return "pur_signing" if order.kind == "runs" else "pur_month_signing"

    async def passing(self, user_id: str, agent_id: str, passing: Passing) -> PassingPage:
        self._may()
        return PassingPage(agent_id, NAME, passing, locks=True, comes_back_at=ENDS)

    async def pass_on(self, user_id: str, agent_id: str, passing: Passing) -> str:
        self._may()
        self.passed.append((agent_id, passing))
        return "op_unsigned"

    async def purchase(self, user_id: str, purchase_id: str) -> PurchaseView:
        if purchase_id not in self.purchases:
            raise NotFound("there is no purchase with that id", next_step="look for it among your entitlements")
        return self.purchases[purchase_id]

    async def follow(self, user_id: str, purchase_id: str) -> AsyncIterator[PurchaseView]:
        while True:
            view = await self.purchase(user_id, purchase_id)
            yield view
            if view.final:
                return
            async with self.changed:
                await self.changed.wait_for(lambda old=view: self.purchases[purchase_id] != old)

    async def advance(self, purchase_id: str, view: PurchaseView) -> None:
        async with self.changed:
            self.purchases[purchase_id] = replace(view, id=purchase_id)
            self.changed.notify_all()

    async def sign(self, user_id: str, purchase_id: str, signed: Signed) -> None:
        self._may()
        self.signed.append(signed)
        await self.advance(purchase_id, purchase("sent"))

    async def refund(self, user_id: str, purchase_id: str) -> None:
        self._may()
        self.refunded.append(purchase_id)
        await self.advance(purchase_id, purchase("refunded"))

    async def entitlements(self, user_id: str, before: str = "") -> EntitlementsPage:
        return self.left if self.sold else await NoPurchases().entitlements(user_id)

    async def owned(self, user_id: str, agent_id: str) -> Owned:
        return self.has

    async def run(self, user_id: str, agent_id: str, value: dict[str, object], key: str) -> str:
        self._may()
        self.ran.append((agent_id, value))
        return "use_running"

    async def use(self, user_id: str, use_id: str) -> UseView:
        if use_id not in self.uses:
            raise NotFound("there is no run with that id", next_step="look for it among your entitlements")
        return self.uses[use_id]

    async def follow_use(self, user_id: str, use_id: str) -> AsyncIterator[UseView]:
        while True:
            view = await self.use(user_id, use_id)
            yield view
            if view.final:
                return
            async with self.changed:
                await self.changed.wait_for(lambda old=view: self.uses[use_id] != old)

    async def finish(self, use_id: str, view: UseView) -> None:
        async with self.changed:
            self.uses[use_id] = replace(view, id=use_id)
            self.changed.notify_all()

    async def use_input(self, user_id: str, use_id: str) -> object:
        return self.given.get(use_id)

    async def use_result(self, user_id: str, use_id: str) -> object:
        view = await self.use(user_id, use_id)
        if not view.blocks:
            raise NotFound("this run has no result yet", next_step="wait until it is done")
        return samples.RESULT

    def _may(self) -> None:
        if self.refuse:
            raise self.refuse
