"""Where Restate's orders arrive in a worker process and wait for a free slot, fairly, until their run is let go of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import restate

from agentnexus.workflows.engine.restate.objects import DRIVE, NO_TIME, PATIENCE
from agentnexus.workflows.engine.restate.shapes import Order
from agentnexus.workflows.engine.turns import Turns

LONG = timedelta(days=3650)  # an order is held as long as its run takes; a frozen worker is given up by its pulse


@dataclass(slots=True)
class Held:
    """One order in this process. `over` once its run was let go of, or turned out to be somebody else's."""

    order: Order
    turn: int
    holders: int = 0
    worker: str = ""
    taken: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Station:
    """Orders of this process. Restate keeps one request open per order and repeats it elsewhere when we are gone."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        self._arrived = arrived
        self._turns = Turns()
        self._held: dict[tuple[str, int], Held] = {}
        self._by_run: dict[str, Held] = {}

    async def hold(self, order: Order) -> None:
        """Returns when the order is done with. Cancelled (the request ended), an order nobody took is forgotten."""
        identity = (order.run_id, order.ticket)
        held = self._held.get(identity)
        if held is None:
            held = self._held[identity] = Held(order, self._turns.next(order.tenant, order.priority))
        held.holders += 1
        self._arrived()
        try:
            await held.over.wait()
        finally:
            held.holders -= 1
            if held.over.is_set() or (held.holders == 0 and not held.taken):
                self._held.pop(identity, None)

    def next(self, bodies: Sequence[str], limit: int, sated: Sequence[str]) -> list[Held]:
        """Take up to `limit` orders: highest priority first, within it the tenants take turns."""
        free = [
            held
            for held in self._held.values()
            if not held.taken and held.order.body in bodies and held.order.tenant not in sated
        ]
        free.sort(key=lambda held: (-held.order.priority, held.turn))
        for held in free[:limit]:
            held.taken = True
            self._turns.served(held.order.priority, held.turn)
        return free[:limit]

    @property
    def running(self) -> int:
        return len(self._by_run)

    def of_worker(self, worker: str) -> list[Held]:
        return [held for held in self._by_run.values() if held.worker == worker]

    def began(self, held: Held, worker: str) -> None:
        """Its run is being executed here."""
        held.worker = worker
        self._by_run[held.order.run_id] = held

    def finish(self, held: Held) -> None:
        """Nothing is left to do for the order."""
        held.over.set()
        self._held.pop((held.order.run_id, held.order.ticket), None)
        if self._by_run.get(held.order.run_id) is held:
            del self._by_run[held.order.run_id]

    def put_back(self, held: Held) -> None:
        """Look at it again: whether its run is still to be done, only its object knows."""
        held.taken = False
        if self._by_run.get(held.order.run_id) is held:
            del self._by_run[held.order.run_id]
        if held.holders == 0:
            self._held.pop((held.order.run_id, held.order.ticket), None)
        else:
            self._arrived()

    def of_run(self, run_id: str) -> Held | None:
        return self._by_run.get(run_id)

    def service(self) -> restate.Service:
        """What Restate sends orders to."""
        drive = restate.Service(
            DRIVE, inactivity_timeout=LONG, abort_timeout=LONG, journal_retention=NO_TIME, ingress_private=True,
            invocation_retry_policy=PATIENCE,
        )  # fmt: skip

        @drive.handler("hold")
        async def _hold(ctx: restate.Context, order: Order) -> None:
            async def here() -> None:
                await self.hold(order)

            await ctx.run_typed("hold", here)

        return drive
