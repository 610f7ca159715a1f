"""Watching many transactions with one question: a settlement costs no polling of its own."""

from __future__ import annotations

import asyncio

from agentnexus.core.errors import Unavailable
from agentnexus.platform.logs import log
from agentnexus.rails.solana.cluster import MAXIMUM_STATUSES, Cluster, Status

POLL_SECONDS = 0.05


class Confirmations:
    """Asks for the statuses of all transactions that somebody waits for, again and again while somebody does."""

    def __init__(self, cluster: Cluster, poll_seconds: float = POLL_SECONDS) -> None:
        self._cluster = cluster
        self._poll = poll_seconds
        self._waiting: dict[str, list[asyncio.Future[Status | None]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def look(self, signature: str) -> Status | None:
        """The transaction's status at the next look; None when the node knows nothing of it, or gave no answer."""
        future: asyncio.Future[Status | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(signature, []).append(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="solana-confirmations")
        return await future

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._poll)
            asked = list(self._waiting)[:MAXIMUM_STATUSES]
            futures = [self._waiting.pop(signature) for signature in asked]
            for waiting, status in zip(futures, await self._statuses(asked), strict=True):
                for future in waiting:
                    if not future.done():
                        future.set_result(status)

    async def _statuses(self, signatures: list[str]) -> list[Status | None]:
        try:
            return await self._cluster.statuses(signatures)
        except Unavailable as error:  # the node is away for a moment: time will tell
            log.info("x402.svm_statuses_unknown", count=len(signatures), error=error.message)
            return [None] * len(signatures)
