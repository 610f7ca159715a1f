"""Finishes what a crash left open: looks payments up on their networks and ends them exactly once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import NexusError, PaymentUnknown, SellerFailed
from agentnexus.core.ports import Clock, Recovering
from agentnexus.hiring.attempt import DATABASE_ERRORS
from agentnexus.hiring.hire import Hiring
from agentnexus.hiring.holds import HoldRow
from agentnexus.platform.logs import log

GRACE_SECONDS = 30.0
ABANDONED_SECONDS = 900.0
BATCH = 100
PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Repaired:
    """What one round did: payments found collected, taken back, still unknown; attempts closed; skipped as running.

    `sending`: transactions of ours that were sent again and are not on their chains yet.
    """

    paid: int = 0
    refunded: int = 0
    unknown: int = 0
    closed: int = 0
    running: int = 0
    sending: int = 0


class Repair:
    """Safe to run in any number of processes, beside live hires: those hold their lock and are left alone."""

    def __init__(self, hiring: Hiring, *, clock: Clock | None = None, grace_seconds: float = GRACE_SECONDS) -> None:
        self._hiring = hiring
        self._clock = clock or SystemClock()
        self._grace = timedelta(seconds=grace_seconds)

    async def run_once(self, *, abandoned_seconds: float = ABANDONED_SECONDS) -> Repaired:
        """One round over everything that is due."""
        now = self._clock.now()
        counts = {"paid": 0, "refunded": 0, "unknown": 0, "closed": 0, "running": 0}
        counts["sending"] = await self._send_again()
        for row in await self._hiring.cashier.holds.left_open(now - self._grace, BATCH):
            counts[await self._finish(row)] += 1
        for key, _number in await self._hiring.store.abandoned(now - timedelta(seconds=abandoned_seconds), BATCH):
            counts[await self._close(key)] += 1
        done = Repaired(**counts)
        if done != Repaired():
            log.info("hiring.repaired", **counts)
        return done

    async def run(self, pause_seconds: float = PAUSE_SECONDS) -> None:
        """Rounds without end; a round that fails is tried again."""
        while True:
            try:
                await self.run_once()
            except (NexusError, OSError, *DATABASE_ERRORS) as error:
                log.warning("hiring.repair_failed", error=str(error))
            await asyncio.sleep(pause_seconds)

    async def _send_again(self) -> int:
        """First of all, or a payment that a killed process stored would be looked for where it never came."""
        sending = 0
        for name, wallet in self._hiring.cashier.wallets.items():
            if isinstance(wallet.rail, Recovering):
                try:
                    sending += await wallet.rail.recover()
                except (NexusError, OSError) as error:  # the other networks' turn comes all the same
                    log.warning("hiring.not_sent_again", rail=name, error=str(error))
        return sending

    async def _finish(self, row: HoldRow) -> str:
        async with self._hiring.locks.try_hold(row.hire_key) as free:
            if not free:
                return "running"
            cashier = self._hiring.cashier
            fresh = await cashier.holds.find(row.key) or row
            try:
                fresh = await cashier.resolve(fresh)
                if fresh.open:
                    fresh = await cashier.cancel(fresh, "the job was cut off and its time is over")
            except PaymentUnknown:
                return "unknown"
            except NexusError as error:
                log.warning("hiring.hold_not_repaired", hold=row.key, error=error.message)
                return "unknown"
            if fresh.open:
                return "unknown"
            return "paid" if fresh.paid else "refunded"

    async def _close(self, key: str) -> str:
        async with self._hiring.locks.try_hold(key) as free:
            hire = await self._hiring.store.load(key) if free else None
            if hire is None:
                return "running"
            reason = SellerFailed("the job was cut off and nobody came back to it", next_step="hire again")
            try:
                await self._hiring.abandon(hire, reason)
            except NexusError as error:
                log.warning("hiring.hire_not_closed", hire=key, error=error.message)
                return "unknown"
            return "closed"
