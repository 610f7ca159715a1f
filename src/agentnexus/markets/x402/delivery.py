"""Streamed answers: the money is settled when the first byte is ready, then everything passes on as it is made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import Message

from agentnexus.markets.x402.answers import settlement_headers
from agentnexus.markets.x402.exchange import Capture, send_response
from agentnexus.markets.x402.reservations import SaleState, StoredResponse
from agentnexus.markets.x402.turn import Turn


class Delivery:
    """One streamed answer. Refusals by the handler (status 400 and up) come before the money and cost nothing."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._sale = turn.sale
        paid = turn.held.state is SaleState.PAID
        self._settlement: Mapping[str, object] | None = turn.held.settlement if paid else None
        self._start: Message | None = None
        self._kept = Capture(self._sale.route.max_response_bytes)
        self._instead: StoredResponse | None = None
        self._stop = asyncio.Event()

    async def run(self) -> bool:
        """Deliver; always answers. Raises `LeaseLost` before the first byte only."""
        async with self._turn.lease():
            # An earlier try may have sent the money already: ask for that before working again.
            if self._settlement is None and self._turn.held.state is not SaleState.RUNNING:
                await self._settle()
            if self._instead is None:
                await self._stream()
        if self._instead is not None:
            await send_response(self._sale.send, self._instead)
        return True

    async def _settle(self) -> None:
        result = await self._turn.settle_first()
        if isinstance(result, StoredResponse):
            self._instead = result
            self._stop.set()
        else:
            self._settlement = result

    async def _stream(self) -> None:
        """Run the handler until it ends or the money does not come."""
        handler = asyncio.ensure_future(self._sale.handler(self._take))
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({handler, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if self._instead is None:
                await handler
        finally:
            stopped.cancel()
            handler.cancel()
            await asyncio.wait({handler})
            if self._instead is None:
                await asyncio.shield(self._leave(broken=handler.cancelled() or handler.exception() is not None))

    async def _leave(self, *, broken: bool) -> None:
        """Where a repeat starts: again for free after the money, afresh before it, from the store when all went out."""
        if self._settlement is None and broken:
            return await self._turn.give_up()
        response = self._kept.response()
        if self._settlement is None:
            self._instead = response
            return await self._turn.advance(SaleState.FAILED, response=response, done=True)
        if broken or not self._kept.complete or response.status >= 400:
            return await self._turn.advance(SaleState.PAID, done=True)
        kept = None if self._kept.overflowed else response
        return await self._turn.advance(SaleState.SETTLED, response=kept, done=True)

    async def _take(self, message: Message) -> None:
        """The handler's `send`: keeps the start back until the money is there."""
        self._kept.take(message)
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start is not None:
            if self._settlement is None and self._start["status"] >= 400:
                return
            if self._settlement is None:
                await self._settle()
            if self._instead is not None:
                await asyncio.Event().wait()  # the handler is cancelled here
            await self._begin(self._start)
        await self._sale.send(message)

    async def _begin(self, start: Message) -> None:
        headers = list(start.get("headers", ())) + settlement_headers(
            self._sale.presented.version, self._settlement or {}
        )
        await self._sale.send({**start, "headers": headers})
        self._start = None
