"""Who answers a paid request: the store, another process that is at it already, or this one."""

from __future__ import annotations

import asyncio

from agentnexus.core.errors import Conflict, Unavailable
from agentnexus.core.ports import Clock, Ids
from agentnexus.markets.x402.answers import error_response, settlement_headers, unfinished, with_headers
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.delivery import Delivery
from agentnexus.markets.x402.exchange import send_response
from agentnexus.markets.x402.facilitation import Facilitation
from agentnexus.markets.x402.reservations import LeaseLost, Reservation, Reservations, SaleState, StoredResponse
from agentnexus.markets.x402.turn import UNREACHABLE, CheckoutLimits, Sale, Turn, refused


class Checkout:
    """Serves sales. Safe to run in any number of processes over one `Reservations`."""

    def __init__(
        self, facilitator: Facilitation, reservations: Reservations, limits: CheckoutLimits, clock: Clock, ids: Ids
    ) -> None:
        self._facilitator = facilitator
        self._reservations = reservations
        self._limits = limits
        self._clock = clock
        self._ids = ids

    async def serve(self, sale: Sale) -> None:
        """Answer the request. Of any number of copies of it, one at a time works; the rest wait for its answer."""
        # Most payments are new, so the chain is asked while the store is.
        verifying = asyncio.create_task(self._verify(sale))
        try:
            await self._serve(sale, verifying)
        finally:
            verifying.cancel()

    async def _serve(self, sale: Sale, verifying: asyncio.Task[StoredResponse | None]) -> None:
        owner = self._ids.new("sale")
        until = self._clock.monotonic() + self._limits.wait
        waited = False
        while True:
            held = await self._reservations.find(sale.claim)
            answer = self._answer(sale, held, waited=waited) if held else None
            if answer is not None:
                return await send_response(sale.send, answer)
            if held is not None and held.live:
                left = until - self._clock.monotonic()
                if left <= 0:
                    return await send_response(sale.send, unfinished("the same request is still being worked on"))
                await self._reservations.changed(sale.claim.payment_id, left)
                waited = True
                continue
            if held is None or held.state in (SaleState.RUNNING, SaleState.FAILED):
                refusal = await (self._verify(sale) if waited else verifying)
                if refusal is not None and not _taken_up(held, await self._reservations.find(sale.claim)):
                    return await send_response(sale.send, refusal)
                if refusal is not None:
                    waited = True
                    continue
            mine = await self._reservations.reserve(sale.claim, owner, self._limits.lease)
            if mine.owner == owner and await self._work(sale, mine):
                return None
            waited = True

    async def _work(self, sale: Sale, mine: Reservation) -> bool:
        """Whether the client was answered; not when another process took over meanwhile."""
        turn = Turn(sale, mine, self._facilitator, self._reservations, self._limits)
        try:
            if mine.state is SaleState.PAID or (sale.route.streaming and mine.response is None):
                return await Delivery(turn).run()
            answer = await turn.answer()
        except LeaseLost:
            return False
        await send_response(sale.send, answer)
        return True

    def _answer(self, sale: Sale, held: Reservation, *, waited: bool) -> StoredResponse | None:
        """What the store already says, or None while there is work to do or to wait for."""
        if not held.same_work(sale.claim):
            return error_response(
                Conflict(
                    "this payment or payment identifier already belongs to another request",
                    next_step="repeat exactly the first request, or pay for this one separately",
                )
            )
        if held.state is SaleState.SETTLED:
            return self._replay(sale, held)
        if waited and not held.live and held.state is SaleState.FAILED:
            return held.response
        if waited and not held.live and held.state is SaleState.REFUSED:
            return refused(sale, held.settlement or {})
        return None

    def _replay(self, sale: Sale, held: Reservation) -> StoredResponse:
        window = self._limits.replay_identified if held.claim.client_key else self._limits.replay
        if held.response is None or held.age_seconds > window:
            why = "is not kept" if held.response is None else f"is given again for {window:.0f} s only"
            return error_response(Conflict(f"this payment was used; its answer {why}", next_step="ask and pay anew"))
        return with_headers(held.response, settlement_headers(sale.presented.version, held.settlement or {}))

    async def _verify(self, sale: Sale) -> StoredResponse | None:
        """The refusal, or None when the payment is good."""
        try:
            verified = await self._facilitator.verify(sale.presented.payload, sale.demanded)
        except UNREACHABLE as error:
            return error_response(
                Unavailable(
                    f"payments cannot be checked at the moment: {type(error).__name__}",
                    next_step="repeat the request with the same payment in a few seconds; nothing was taken",
                ),
                [(b"retry-after", b"2")],
            )
        return None if verified.is_valid else sale.refusal(verified.invalid_reason or str(Reason.UNEXPECTED_VERIFY))


def _taken_up(before: Reservation | None, now: Reservation | None) -> bool:
    """Whether another copy has begun since we looked: what it spends is then refused to us, who want the same."""
    return now is not None and (before is None or now.owner != before.owner)
