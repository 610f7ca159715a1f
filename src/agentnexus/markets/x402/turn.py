"""The one process that serves a payment now: its lease, the settlement, and what the reservation says afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import httpx
from starlette.types import Send
from x402.schemas import PaymentRequirements, SettleResponse

from agentnexus.core.errors import Conflict, LimitExceeded, NexusError, Unavailable
from agentnexus.markets.x402.answers import error_response, settlement_headers, too_large, unfinished, with_headers
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.exchange import Capture
from agentnexus.markets.x402.facilitation import ClaimedFacilitation, Facilitation
from agentnexus.markets.x402.pricing import PricedRoute
from agentnexus.markets.x402.reservations import (
    Claim,
    LeaseLost,
    Reservation,
    Reservations,
    SaleState,
    StoredResponse,
)
from agentnexus.markets.x402.wire import AnyRequirements, Presented, to_json
from agentnexus.platform.logs import log

# What a facilitator that cannot be asked raises: ours `NexusError`, foreign clients the rest.
UNREACHABLE = (NexusError, OSError, ValueError, httpx.HTTPError)
# The nonce is gone, or the facilitator lost track: the money may have moved, so nobody may be told to pay again.
UNKNOWN_REASONS = frozenset({Reason.SETTLEMENT_PENDING, Reason.UNEXPECTED_SETTLE, Reason.NONCE_USED})


@dataclass(frozen=True, slots=True)
class CheckoutLimits:
    """Times in seconds. Replays: how long a settled answer is given again.

    A payment's signature can be read on the chain once it is settled, so without a payment identifier (which cannot)
    the window is short.
    """

    lease: float = 30.0
    wait: float = 20.0
    settle_timeout: float = 60.0
    replay: float = 600.0
    replay_identified: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Sale:
    """One request that came with a payment.

    `refusal` makes the 402 for a reason; `handler` runs the priced app, answering into the `send` it is given.
    `demanded` is the requirement in the form of the payment's version.
    """

    route: PricedRoute
    claim: Claim
    presented: Presented
    requirement: PaymentRequirements
    demanded: AnyRequirements
    refusal: Callable[[str], StoredResponse]
    handler: Callable[[Send], Awaitable[None]]
    send: Send


def refused(sale: Sale, settlement: Mapping[str, object]) -> StoredResponse:
    """402 with the reason of the settlement, which is attached.

    What was settled for somebody else is a 409: the money did move, so nobody may be told to pay again. Nor may it be
    delivered for: the chain does not say whether another store of the same payee has done so (decision 0012).
    """
    reason = str(settlement.get("errorReason") or Reason.UNEXPECTED_SETTLE)
    if reason == Reason.DUPLICATE_SETTLEMENT:
        return error_response(
            Conflict(
                "this payment reached the payee by a transaction of another sale or of a stranger; whether somebody has"
                " delivered for it is not known here, so the answer is not released",
                next_step="ask whoever you sent it to first, with the same payment; if nobody answered, show the seller"
                " these details: the chain proves that they were paid, and they can deliver or send it back;"
                " do not pay again before you know",
                transaction=settlement.get("transaction") or None,
                payment=sale.claim.payment_id,
                payee=sale.requirement.pay_to,
                amount=sale.requirement.amount,
                asset=sale.requirement.asset,
                network=sale.requirement.network,
                resource=sale.claim.resource,
            ),
            settlement_headers(sale.presented.version, settlement),
        )
    return with_headers(sale.refusal(reason), settlement_headers(sale.presented.version, settlement))


class Turn:
    """Serving one sale under one lease. Every step raises `LeaseLost` when another process has taken over."""

    def __init__(
        self,
        sale: Sale,
        held: Reservation,
        facilitator: Facilitation,
        reservations: Reservations,
        limits: CheckoutLimits,
    ) -> None:
        self.sale = sale
        self.held = held
        self._facilitator = facilitator
        self._reservations = reservations
        self._limits = limits

    async def answer(self) -> StoredResponse:
        """Work, or go on where the last owner stopped; the answer is the client's only when the money came."""
        async with self.lease():
            if self.held.state in (SaleState.DELIVERED, SaleState.REFUSED) and self.held.response is not None:
                return await self._release(self.held.response)
            return await self._run()

    async def _run(self) -> StoredResponse:
        capture = Capture(self.sale.route.max_response_bytes)
        overflow: LimitExceeded | None = None
        async with self._freed_on_error():
            try:
                await self.sale.handler(capture.send)
            except LimitExceeded as error:
                if not capture.overflowed:
                    raise
                overflow = error
        response = too_large(self.sale.route.pattern, overflow) if capture.overflowed else capture.response()
        if response.status >= 400:
            await self.advance(SaleState.FAILED, response=response, done=True)
            return response
        # Kept before the money moves: a crash in between must not cost the client its answer.
        await self.advance(SaleState.DELIVERED, response=response)
        return await self._release(response)

    async def _release(self, response: StoredResponse) -> StoredResponse:
        outcome = await self._settle()
        if not outcome.success:
            return await self._withhold(outcome)
        settlement = to_json(outcome)
        await self._note(SaleState.SETTLED, settlement, done=True)
        return with_headers(response, settlement_headers(self.sale.presented.version, settlement))

    async def settle_first(self) -> Mapping[str, object] | StoredResponse:
        """For streams: the settlement, or the answer to give instead of the stream."""
        await self.advance(SaleState.DELIVERED)
        outcome = await self._settle()
        if not outcome.success:
            return await self._withhold(outcome)
        settlement = to_json(outcome)
        await self._note(SaleState.PAID, settlement)
        return settlement

    async def _withhold(self, outcome: SettleResponse) -> StoredResponse:
        """Keep the work for a repeat; say that the money is unknown (202) or did not come (402)."""
        settlement = to_json(outcome)
        unknown = (outcome.error_reason or Reason.UNEXPECTED_SETTLE) in UNKNOWN_REASONS
        state = SaleState.DELIVERED if unknown else SaleState.REFUSED
        await self._note(state, settlement, done=True)
        if not unknown:
            return refused(self.sale, settlement)
        return unfinished(
            "the payment was sent and is not confirmed yet",
            settlement_headers(self.sale.presented.version, settlement),
            transaction=outcome.transaction or None,
        )

    async def _note(self, state: SaleState, settlement: Mapping[str, object], *, done: bool = False) -> None:
        """Write down what the facilitator said. It knows that itself: a repeat whose note is lost asks it again."""
        try:
            await self.advance(state, settlement=settlement, done=done)
        except Unavailable as error:
            log.warning("x402.settlement_not_noted", payment=self.sale.claim.payment_id, error=error.message)

    async def _settle(self) -> SettleResponse:
        """Ask the facilitator, once more when it says "pending"; no answer is an unknown outcome, never a refusal."""
        outcome = await self._settle_once()
        if outcome.error_reason == Reason.SETTLEMENT_PENDING and outcome.transaction:
            outcome = await self._settle_once()
        return outcome

    async def _settle_once(self) -> SettleResponse:
        try:
            async with asyncio.timeout(self._limits.settle_timeout):
                outcome = await self._ask()
        except UNREACHABLE as error:
            return SettleResponse(
                success=False,
                error_reason=str(Reason.SETTLEMENT_PENDING),
                error_message=f"the facilitator gave no answer: {type(error).__name__}",
                transaction="",
                network=self.sale.requirement.network,
            )
        if outcome.success and not outcome.transaction:
            return outcome.model_copy(update={"success": False, "error_reason": str(Reason.SETTLEMENT_PENDING)})
        return outcome

    async def _ask(self) -> SettleResponse:
        """Under this reservation's own claim where the facilitator knows claims: then it settles for nobody else."""
        payload, demanded = self.sale.presented.payload, self.sale.demanded
        if isinstance(self._facilitator, ClaimedFacilitation):
            return await self._facilitator.settle_for(payload, demanded, self.held.token)
        return await self._facilitator.settle(payload, demanded)

    async def advance(
        self,
        state: SaleState,
        *,
        response: StoredResponse | None = None,
        settlement: Mapping[str, object] | None = None,
        done: bool = False,
    ) -> None:
        """Move the reservation on; `done` ends the lease."""
        await self._reservations.advance(
            self.sale.claim.payment_id,
            self.held.owner,
            state,
            response=response,
            settlement=settlement,
            lease_seconds=0.0 if done else self._limits.lease,
        )

    @asynccontextmanager
    async def _freed_on_error(self) -> AsyncIterator[None]:
        """Free the reservation at once when the handler raises or is cancelled: nothing was settled."""
        finished = False
        try:
            yield
            finished = True
        finally:
            if not finished:
                await asyncio.shield(self.give_up())

    async def give_up(self) -> None:
        """The handler broke before any money: the payment may be used again."""
        response = error_response(NexusError("the work failed", next_step="repeat the request; nothing was taken"))
        with suppress(LeaseLost):
            await self.advance(SaleState.FAILED, response=response, done=True)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        """Renew the reservation while the work goes on; a process that dies stops renewing."""

        async def renew() -> None:
            kept = True
            while kept:
                await asyncio.sleep(self._limits.lease / 3)
                with suppress(Unavailable):  # two more tries before it ends
                    kept = await self._reservations.renew(
                        self.sale.claim.payment_id, self.held.owner, self._limits.lease
                    )

        task = asyncio.create_task(renew())
        try:
            yield
        finally:
            task.cancel()
