"""Compare the mirror with the chain: what differs is counted, said, and looked at again until it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from agentnexus.core.ports import Clock
from agentnexus.marketplace.purchases.market import Market
from agentnexus.marketplace.purchases.model import Purchase, Seen, looked
from agentnexus.marketplace.purchases.service import Purchases
from agentnexus.platform.logs import log
from agentnexus.platform.telemetry import purchase_differences_total

PAGE = 100
LOOKS_BACK = timedelta(days=2)


async def reconcile(purchases: Purchases, market: Market, clock: Clock) -> int:
    """All rights, all deals that are open, and what ended lately; how many differed."""
    differing = await _rights(purchases, market, clock)
    async for page in _pages(purchases, clock):
        now = clock.now()
        for purchase, seen in zip(page, await market.seen(page), strict=True):
            if _agrees(purchase, seen, looked(purchase, seen, now)):
                continue
            differing += 1
            purchase_differences_total.inc()
            log.warning(
                "purchases.difference", purchase=purchase.id, state=str(purchase.state), mirrored=purchase.deal.name,
                chain=seen.status.name, remaining=purchase.remaining, on_chain=seen.remaining,
            )  # fmt: skip
            await purchases.look(purchase)
    return differing


async def _rights(purchases: Purchases, market: Market, clock: Clock) -> int:
    """Balances of tokens, put right."""
    differing, after, rights = 0, ("", -1), purchases.acts.rights
    while page := await rights.rights(after, PAGE):
        on_chain = await market.balances([(token.wallet, token.token_id) for token, _ in page])
        for (token, mirrored), balance in zip(page, on_chain, strict=True):
            if mirrored != balance:
                differing += 1
                purchase_differences_total.inc()
                log.warning("purchases.balance", agent=token.agent_id, mirrored=mirrored, on_chain=balance)
                await rights.mirror(token, balance, clock.now())
        after = (page[-1][0].user_id, page[-1][0].token_id)
    return differing


def _agrees(purchase: Purchase, seen: Seen, after: Purchase) -> bool:
    same_deal = (purchase.deal, purchase.remaining) == (seen.status, seen.remaining)
    return same_deal and (after.state, after.step) == (purchase.state, purchase.step)


async def _pages(purchases: Purchases, clock: Clock) -> AsyncIterator[Sequence[Purchase]]:
    after = ""
    while page := await purchases.store.unsettled(clock.now() - LOOKS_BACK, after, PAGE):
        yield page
        after = page[-1].id
