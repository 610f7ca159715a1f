"""`PurchasesDoor` over the rooms for purchases and entitlements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from math import ceil
from typing import Final

from agentnexus.core.errors import NexusError, NotFound
from agentnexus.core.money import Money
from agentnexus.marketplace.entitlements.model import Right, Use, UseState
from agentnexus.marketplace.entitlements.service import Entitlements
from agentnexus.marketplace.purchases.model import Purchase, Step
from agentnexus.marketplace.purchases.service import LIFETIME, Purchases
from agentnexus.web.adapters.purchase_views import (
    fee_words,
    is_refundable,
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
    BuyPage,
    EntitlementsPage,
    EntitlementView,
    Owned,
    PurchaseView,
    UseLine,
    UseView,
    use_state,
)
from agentnexus.web.views.signing import Signed
from agentnexus.web.views.text import money, plural

PAGE: Final = 20
PAUSE_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 15.0
SETTLING_SECONDS: Final = 0.5


class HousePurchases:
    """Runs of agents that people buy with wallets of their own."""

    def __init__(self, purchases: Purchases, entitlements: Entitlements, wallet: HouseWallet) -> None:
        self._purchases = purchases
        self._entitlements = entitlements
        self._wallet = wallet

    async def terms(self, user_id: str, agent: AgentView, quantity: int) -> BuyPage:
        """What it costs now, and what stands in the way."""
        assert agent.amount is not None  # everything in our own catalogue has a price
        needed = agent.amount * quantity
        page = BuyPage(
            quantity, money(agent.amount), money(needed), fee="", gas="",
            days=plural(LIFETIME.days, "day"), at_most=f"{needed.decimal:f}",
        )  # fmt: skip
        try:
            page = replace(page, fee=fee_words(await self._purchases.acts.market.fee_bps()))
            return await self._for_wallet(user_id, page, needed)
        except NexusError as error:
            is_new = isinstance(error, NotFound)
            return replace(
                page, obstacle=problem_of(error), next_link=("/wallet", "Make a wallet") if is_new else None
            )  # fmt: skip

    async def _for_wallet(self, user_id: str, page: BuyPage, needed: Money) -> BuyPage:
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
            next_link=("/wallet#receive", "Add money"),
            faucet=self._wallet.faucet(wallet, max(ceil(missing.decimal), 5)),
        )  # fmt: skip

    async def buy(self, user_id: str, agent_id: str, quantity: int, key: str, at_most: Decimal | None = None) -> str:
        return (await self._purchases.begin(user_id, agent_id, quantity, f"page:{key}", at_most=at_most)).id

    async def purchase(self, user_id: str, purchase_id: str) -> PurchaseView:
        return await self._view(user_id, await self._purchases.get(user_id, purchase_id))

    async def _view(self, user_id: str, purchase: Purchase) -> PurchaseView:
        if purchase.step is not Step.SIGNING:
            return purchase_view(purchase, used=await self._entitlements.store.used(purchase.id))
        try:
            request = await self._purchases.signing_request(user_id, purchase.id)
            wallet = await self._wallet.of(user_id)
        except NexusError as error:  # what was to be signed had lapsed, and cannot be built anew
            return purchase_view(purchase, problem=problem_of(error))
        if request is None:
            return purchase_view(await self._purchases.get(user_id, purchase.id))
        command = f"nexus purchase sign {purchase.id} --key-file FILE"
        return purchase_view(purchase, signing_view(request, wallet, f"/purchases/{purchase.id}/signature", command))

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
        """What can be run or given back, and one page of all purchases."""
        found = await self._purchases.list(user_id, before, PAGE)
        rights = [await self._now(user_id, each) for each in await self._entitlements.list(user_id)]
        names = {each.agent_id: each.agent_name for each in rights}
        uses = await self._entitlements.uses(user_id, PAGE)
        shown = [await self._entitlement(user_id, each) for each in rights if each.runs_left or each.under_way]
        older = found[-1].id if len(found) == PAGE else ""
        return EntitlementsPage(
            shown, [purchase_line(each) for each in found],
            [UseLine(each.id, names.get(each.agent_id, each.agent_id), use_state(each.state), each.created_at)
             for each in uses],
            older,
        )  # fmt: skip

    async def _now(self, user_id: str, right: Right) -> Right:
        """As the chain says, which our mirror of it may be a moment behind; as the mirror says while it is away."""
        try:
            access = await self._entitlements.access(user_id, right.agent_id)
        except NexusError:
            return right
        return replace(right, runs_left=access.runs_left, under_way=access.under_way)

    async def _entitlement(self, user_id: str, right: Right) -> EntitlementView:
        bought = [await self._purchases.get(user_id, each) for each in right.purchases]
        open_ones = [each for each in bought if is_refundable(each)]
        held = sum(each.remaining for each in open_ones)
        return EntitlementView(
            agent_id=right.agent_id,
            agent_name=right.agent_name,
            runs_left=right.runs_left,
            under_way=right.under_way,
            held=money(Money(bought[0].price.asset, held)) if held else "",
            purchase_id=open_ones[0].id if open_ones else "",
            expires_at=right.expires_at,
            available=await self._is_for_sale(right.agent_id),
        )

    async def _is_for_sale(self, agent_id: str) -> bool:
        try:
            await self._purchases.acts.listings.for_sale(agent_id)
        except NotFound:
            return False
        return True

    async def owned(self, user_id: str, agent_id: str) -> Owned:
        """Nothing while the chain does not answer: the agent's page is there all the same."""
        if not user_id:
            return Owned(sold=True)
        try:
            return Owned(sold=True, runs_left=(await self._entitlements.access(user_id, agent_id)).runs_left)
        except NexusError:
            return Owned(sold=True)

    async def run(self, user_id: str, agent_id: str, value: dict[str, object], key: str) -> str:
        return (await self._entitlements.run(user_id, agent_id, value, f"page:{key}")).id

    async def use(self, user_id: str, use_id: str) -> UseView:
        return await self._use_view(user_id, await self._entitlements.use(user_id, use_id))

    async def _use_view(self, user_id: str, use: Use) -> UseView:
        purchase = await self._purchases.get(user_id, use.purchase_id)
        output = None
        if use.state is UseState.COMPLETED:
            execution = await self._entitlements.execution(use)
            output = None if execution is None else execution.output
        owned = await self.owned(user_id, use.agent_id)
        return use_view(use, purchase, owned.runs_left, output)

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

    async def use_result(self, user_id: str, use_id: str) -> object:
        """Raises `NotFound` while there is none."""
        use = await self._entitlements.use(user_id, use_id)
        execution = await self._entitlements.execution(use) if use.state is UseState.COMPLETED else None
        if execution is None or execution.output is None:
            raise NotFound("this run has no result yet", next_step="wait until it is done")
        return execution.output
