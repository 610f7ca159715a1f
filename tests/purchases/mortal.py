"""Processes that die: before or after the n-th row they write, or what they ask of wallets and contracts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentnexus.marketplace.purchases.market import Market
from agentnexus.marketplace.purchases.model import Purchase
from agentnexus.marketplace.purchases.service import Purchases
from agentnexus.rails.evm.contracts import Call
from agentnexus.wallets.model import Operation
from agentnexus.wallets.service import Wallets
from tests.purchases.conftest import Shop


class Death(BaseException):
    """The process is gone: nothing after this line happens in it."""


@dataclass
class Reaper:
    """Kills a process at a named point: before or after the n-th time it writes a row or asks a neighbour."""

    point: str
    passed: int = 0

    def at(self, place: str) -> None:
        if place == self.point:
            raise Death


class DyingStore:
    """Written rows, counted."""

    def __init__(self, purchases: Purchases, reaper: Reaper) -> None:
        self._move, self._reaper = purchases.store.move, reaper

    async def move(self, before: Purchase, after: Purchase) -> Purchase | None:
        self._reaper.passed += 1
        number = self._reaper.passed
        self._reaper.at(f"before write {number}")
        moved = await self._move(before, after)
        self._reaper.at(f"after write {number}")
        return moved


class DyingWallets:
    """Wallets, for somebody who may die before or after an operation."""

    def __init__(self, inner: Wallets, reaper: Reaper) -> None:
        self._begin, self._reaper = inner.begin, reaper
        self.of, self.signing_request, self.sign = inner.of, inner.signing_request, inner.sign
        self.operation, self.settle = inner.operation, inner.settle
        self.asked, self.discard = inner.asked, inner.discard

    async def begin(self, user_id: str, calls: Sequence[Call], *, key: str, purpose: str, title: str) -> Operation:
        self._reaper.at("before the operation")
        begun = await self._begin(user_id, calls, key=key, purpose=purpose, title=title)
        self._reaper.at("after the operation")
        return begun


def mortal(shop: Shop, point: str) -> Purchases:
    """A process that dies there."""
    reaper = Reaper(point)
    wallets = DyingWallets(shop.world.wallets(), reaper)
    real = shop.market
    market = DyingMarket(real.sender, real.escrow, real.tokens, real.usdc, real.operator, reaper)
    purchases = shop.process(wallets=wallets, market=market)
    purchases.store.move = DyingStore(purchases, reaper).move  # type: ignore[method-assign]  # it dies there
    return purchases


@dataclass(frozen=True, slots=True)
class DyingMarket(Market):
    """The contracts, for somebody who may die between them."""

    reaper: Reaper

    async def send(self, key: str, call: Call) -> str:
        what = key.rpartition(":")[2]
        self.reaper.at(f"before {what}")
        sent = await Market.send(self, key, call)
        self.reaper.at(f"after {what}")
        return sent
