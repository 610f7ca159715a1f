"""`PurchasesDoor` over the rooms for purchases and entitlements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from math import ceil
from typing import Final
from urllib.parse import quote as quoted

from agentnexus.core.errors import Conflict, InvalidInput, NexusError, NotFound
from agentnexus.core.money import Money
from agentnexus.marketplace.entitlements.choosing import Gift
from agentnexus.marketplace.entitlements.choosing import passing as lot_for
from agentnexus.marketplace.entitlements.model import Access, Right, Use, UseState
from agentnexus.marketplace.entitlements.service import Entitlements
from agentnexus.marketplace.entitlements.stock import Stock, Tally, tally_of
from agentnexus.marketplace.purchases.kinds import Kind, Period
from agentnexus.marketplace.purchases.model import Purchase, Step
from agentnexus.marketplace.purchases.service import LIFETIME, Purchases
from agentnexus.rails.evm.encoding import address
from agentnexus.web.adapters.purchase_views import (
    buy_page,
    comes_back,
    entitlement_view,
    purchase_line,
    purchase_view,
    short_of,
    use_view,
)
from agentnexus.web.adapters.signing import answer_of, signing_view
from agentnexus.web.adapters.wallet import HouseWallet
from agentnexus.web.newest import newest
from agentnexus.web.views.agents import AgentView
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.purchases import (
    KINDS,
    BuyPage,
    EntitlementsPage,
    EntitlementView,
    Order,
    Owned,
    Passing,
    PassingPage,
    PurchaseView,
    Renewal,
    UseLine,
    UseView,
    use_state,
)
from agentnexus.web.views.signing import Signed
from agentnexus.web.views.text import money, plural, with_days

PAGE: Final = 20
PAUSE_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 15.0
SETTLING_SECONDS: Final = 0.5


class HousePurchases:
    """Runs and months of agents that people buy with wallets of their own."""

    def __init__(self, purchases: Purchases, entitlements: Entitlements, wallet: HouseWallet) -> None:
        self._purchases = purchases
        self._entitlements = entitlements
        self._wallet = wallet

    async def terms(self, user_id: str, agent: AgentView, order: Order) -> BuyPage:
        """What it costs now, and what stands in the way."""
        try:
            quote = await self._purchases.quote(user_id, agent.id, Kind(order.kind), order.quantity)
        except NexusError as error:
            obstacle = problem_of({**error.to_json(), "message": with_days(error.message)})
            return BuyPage(order, agent.price, "", fee="", gas="", obstacle=obstacle)
        access = await self._access(user_id, agent.id)
        has_runs = access.runs_left if access else 0
        page = buy_page(order, quote, plural(LIFETIME.days, "day"), has_runs, self._now())
        back = quoted(f"/agents/{agent.id}/buy?{order.query}")
        try:
            return await self._for_wallet(user_id, page, quote.amount, back)
        except NexusError as error:
            is_new = isinstance(error, NotFound)
            link = (f"/wallet?next={back}", "Make a wallet") if is_new else None
            return replace(page, obstacle=problem_of(error), next_link=link)

    async def _for_wallet(self, user_id: str, page: BuyPage, needed: Money, back: str) -> BuyPage:
        """`back` leads to these terms again."""
        wallet = await self._wallet.of(user_id)
        held = Money(needed.asset, await self._purchases.acts.market.money(wallet.address))
        page = replace(
            page, gas=(await self._wallet.gas(user_id)).sentence, wallet_kind=str(wallet.kind),
            address=wallet.address, balance=money(held),
        )  # fmt: skip
        if needed <= held:
            return replace(page, after=money(held - needed))
        missing = needed - held
        return replace(
            page, short=money(missing), obstacle=problem_of(short_of(needed, held)),
            next_link=(f"/wallet?next={back}#receive", "Add money"),
            faucet=self._wallet.faucet(wallet, max(ceil(missing.decimal), 5)),
        )  # fmt: skip

    async def buy(self, user_id: str, agent_id: str, order: Order, key: str, at_most: Decimal | None = None) -> str:
        made = await self._purchases.begin(
            user_id, agent_id, order.quantity, f"page:{key}", kind=Kind(order.kind), at_most=at_most,
            upgrade=order.upgrade,
        )  # fmt: skip
        return made.id

    async def purchase(self, user_id: str, purchase_id: str) -> PurchaseView:
        return await self._view(user_id, await self._purchases.get(user_id, purchase_id))

    async def _view(self, user_id: str, purchase: Purchase) -> PurchaseView:
        now = self._now()
        if purchase.step is not Step.SIGNING:
            held = await self._entitlements.store.held([purchase.id])
            shown = purchase_view(purchase, now, held=held)
            if purchase.kind is Kind.RUNS or not shown.right:
                return shown
            return replace(shown, renewal=await self._renewal(user_id, purchase.agent_id))
        try:
            request = await self._purchases.signing_request(user_id, purchase.id)
            wallet = await self._wallet.of(user_id)
        except NexusError as error:  # what was to be signed had lapsed, and cannot be built anew
            return purchase_view(purchase, now, problem=problem_of(error))
        if request is None:
            return purchase_view(await self._purchases.get(user_id, purchase.id), now)
        command = f"nexus purchase sign {purchase.id} --key-file FILE"
        return purchase_view(
            purchase, now, signing_view(request, wallet, f"/purchases/{purchase.id}/signature", command)
        )

    async def follow(self, user_id: str, purchase_id: str) -> AsyncIterator[PurchaseView]:
        """Every change, merged to what a person can follow."""
        source = self._purchases.events(user_id, purchase_id)
        async for event in newest(source, pause_seconds=PAUSE_SECONDS, idle_seconds=IDLE_SECONDS):
            if event is not None:
                yield await self.purchase(user_id, purchase_id)

    async def sign(self, user_id: str, purchase_id: str, signed: Signed) -> None:
        await self._purchases.sign(user_id, purchase_id, answer_of(signed))

    async def refund(self, user_id: str, purchase_id: str) -> None:
        await self._purchases.refund(user_id, purchase_id)

    async def entitlements(self, user_id: str, before: str = "") -> EntitlementsPage:
        """What can be run or given back, what is over, and one page of all purchases."""
        found = await self._purchases.list(user_id, before, PAGE)
        rights = await self._entitlements.list(user_id)
        stocks = {agent_id: await self._stock(user_id, agent_id) for agent_id in {each.agent_id for each in rights}}
        shown = [await self._entitlement(user_id, each, stocks[each.agent_id]) for each in rights]
        held, now = await self._entitlements.store.held([each.id for each in found]), self._now()
        names = {each.agent_id: each.agent_name for each in rights}
        uses = await self._entitlements.uses(user_id, PAGE)
        older = found[-1].id if len(found) == PAGE else ""
        return EntitlementsPage(
            shown, [purchase_line(each, held, now) for each in found],
            [UseLine(each.id, names.get(each.agent_id, each.agent_id), use_state(each.state), each.created_at)
             for each in uses],
            older,
        )  # fmt: skip

    async def _stock(self, user_id: str, agent_id: str) -> Stock | None:
        """As the chain says, which our mirror of it may be a moment behind; None while it does not answer."""
        try:
            return await self._entitlements.reading.now(user_id, agent_id)
        except NexusError:
            return None

    async def _entitlement(self, user_id: str, right: Right, stock: Stock | None) -> EntitlementView:
        own = await self._own(user_id, right.purchases)
        try:
            listing = await self._purchases.acts.listings.for_sale(right.agent_id)
        except NotFound:
            listing = None
        shown = entitlement_view(right, stock, own, listing, self._now())
        if right.kind is Kind.RUNS or not shown.active:
            return shown
        return replace(shown, renewal=await self._renewal(user_id, right.agent_id))

    async def _own(self, user_id: str, purchases: Sequence[str]) -> list[tuple[Purchase, Tally]]:
        held = await self._entitlements.store.held(purchases)
        found = [await self._purchases.get(user_id, each) for each in purchases]
        return [(each, tally_of(each, held, self._now())) for each in found]

    async def _renewal(self, user_id: str, agent_id: str) -> Renewal:
        """A month is followed by the next; who has that as well waits until it begins."""
        try:
            await self._purchases.quote(user_id, agent_id, Kind.PERIOD)
        except Conflict:
            return Renewal(starts_at=Period.on_sale(self._now()).ends_at)
        except NexusError:
            return Renewal()
        return Renewal(possible=True)

    async def passing(self, user_id: str, agent_id: str, passing: Passing) -> PassingPage:
        gift = Gift(_kind(passing.kind), address(passing.to, field="to"), passing.count, passing.token_id)
        stock = await self._entitlements.reading.now(user_id, agent_id)
        lot = lot_for(stock, agent_id, gift)
        same = [each.purchase for each in stock.lots if each.token_id == lot.token_id]
        own = await self._own(user_id, [each.id for each in same if each.user_id == user_id])
        back = [each for each, tally in own if tally.refundable]
        return PassingPage(agent_id, lot.purchase.agent_name, passing, bool(back), comes_back(back))

    async def pass_on(self, user_id: str, agent_id: str, passing: Passing) -> str:
        operation = await self._entitlements.transfer(
            user_id, agent_id, _kind(passing.kind), to=passing.to, count=passing.count, key=f"page:{passing.key}",
            token_id=passing.token_id,
        )  # fmt: skip
        return operation.id

    async def owned(self, user_id: str, agent_id: str) -> Owned:
        """Nothing while the chain does not answer: the agent's page is there all the same."""
        access = await self._access(user_id, agent_id)
        if access is None:
            return Owned(sold=True)
        renewable = access.until is not None and (await self._renewal(user_id, agent_id)).possible
        return Owned(True, access.runs_left, access.until, access.period_runs_left, renewable)

    async def _access(self, user_id: str, agent_id: str) -> Access | None:
        """None of nobody, of who never had any, and while the chain does not answer."""
        if not user_id:
            return None
        try:
            return await self._entitlements.access(user_id, agent_id)
        except NexusError:
            return None

    def _now(self) -> datetime:
        return self._purchases.acts.clock.now()

    async def run(self, user_id: str, agent_id: str, value: dict[str, object], key: str) -> str:
        return (await self._entitlements.run(user_id, agent_id, value, f"page:{key}")).id

    async def use(self, user_id: str, use_id: str) -> UseView:
        return await self._use_view(user_id, await self._entitlements.use(user_id, use_id))

    async def _use_view(self, user_id: str, use: Use) -> UseView:
        purchase = await self._purchases.get(None, use.purchase_id)  # a friend's, where runs were passed on
        output = None
        if use.state is UseState.COMPLETED:
            execution = await self._entitlements.execution(use)
            output = None if execution is None else execution.output
        owned = await self.owned(user_id, use.agent_id)
        return use_view(use, purchase, owned, output)

    async def follow_use(self, user_id: str, use_id: str) -> AsyncIterator[UseView]:
        """The run until it ended, then until its seller has been paid."""
        while True:
            use = await self._entitlements.use(user_id, use_id)
            view = await self._use_view(user_id, use)
            yield view
            if view.final:
                return
            if use.state is UseState.RUNNING:
                await self._entitlements.use(user_id, use_id, wait_seconds=IDLE_SECONDS)
            else:
                await asyncio.sleep(SETTLING_SECONDS)

    async def use_input(self, user_id: str, use_id: str) -> object:
        return await self._entitlements.given(user_id, use_id)

    async def use_result(self, user_id: str, use_id: str) -> object:
        """Raises `NotFound` while there is none."""
        use = await self._entitlements.use(user_id, use_id)
        execution = await self._entitlements.execution(use) if use.state is UseState.COMPLETED else None
        if execution is None or execution.output is None:
            raise NotFound("this run has no result yet", next_step="wait until it is done")
        return execution.output


def _kind(text: str) -> Kind:
    if text not in KINDS:
        raise InvalidInput("that is nothing that is sold", field="kind", next_step="pass on runs, or a month")
    return Kind(text)
