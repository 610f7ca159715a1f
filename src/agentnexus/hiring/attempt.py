"""One attempt: buy one job from one seller, check what came, bring its money to an end. Repeatable after a crash."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

import asyncpg

from agentnexus.core.canonical import bytes_hash, canonical_json
from agentnexus.core.errors import (
    AgentRefused,
    AgentTimeout,
    BadResult,
    InvalidInput,
    NexusError,
    PaymentFailed,
    PaymentUnknown,
    SellerFailed,
    Unavailable,
)
from agentnexus.core.payments import PaymentState, PayMode
from agentnexus.core.ports import Clock, Market
from agentnexus.core.updates import Result, Update
from agentnexus.hiring.cashier import Cashier
from agentnexus.hiring.failures import as_the_seller_said
from agentnexus.hiring.holds import HoldRow
from agentnexus.hiring.jobs import Attempt, HireStore
from agentnexus.hiring.purse import JobPurse, Terms
from agentnexus.hiring.schemas import Schemas

BUY_TRIES = 3
PAUSE_SECONDS = 0.3
PAUSE_MAX_SECONDS = 5.0
PAID_PATIENCE_SECONDS = 90.0  # a seller that has the money may be restarting; its answer is worth waiting for
DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError)  # what `Unavailable` does not cover already
IN_THREAD_BYTES = 1 << 18

OnUpdate = Callable[[Update], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Work:
    """One attempt with everything needed to do it or to go on with it."""

    terms: Terms
    attempt: Attempt
    deadline: float | None
    on_update: OnUpdate | None

    def seconds_left(self, now: float) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - now)


@dataclass(frozen=True, slots=True)
class Delivered:
    """A checked result, as canonical JSON, with every payment ended."""

    output: object
    canonical: bytes
    payments: tuple[HoldRow, ...]

    @property
    def hash(self) -> str:
        """``sha256:…`` of the canonical output, as in the receipt."""
        return bytes_hash(self.canonical)


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """Why there is no result. `blames_seller` is false when the input or the buyer's own wallet was at fault.

    `interrupted`: a crash of ours ended it, the money came back, and the same seller may be asked again.
    """

    error: NexusError
    payments: tuple[HoldRow, ...]
    blames_seller: bool
    schema_valid: bool | None = None
    interrupted: bool = False

    @property
    def refunded(self) -> bool:
        """Something was set aside for it, and nothing stayed with the seller."""
        back = any(row.state is PaymentState.REFUNDED and row.payment is not None for row in self.payments)
        return back and not any(row.paid for row in self.payments)


class OwnFault(Exception):
    """The caller's `on_update` failed: says nothing about the seller and must not look as if it did."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class AttemptRunner:
    """Runs attempts over the markets."""

    def __init__(
        self,
        store: HireStore,
        cashier: Cashier,
        schemas: Schemas,
        clock: Clock,
        paid_patience_seconds: float = PAID_PATIENCE_SECONDS,
    ) -> None:
        self._paid_patience_seconds = paid_patience_seconds
        self._store = store
        self._cashier = cashier
        self._schemas = schemas
        self._clock = clock

    async def run(self, work: Work, market: Market, purse: JobPurse) -> Delivered | NotDelivered:
        """Buy and bring to an end.

        Raises `PaymentUnknown` when the money's end is not known and `Unavailable` when a part of ours fails while a
        payment is open: run it again later, with the same payment.
        """
        if work.attempt.output is not None:
            output, canonical = await asyncio.to_thread(json.loads, work.attempt.output), work.attempt.output
        else:
            try:
                output = await self._buy(work, market, purse)
                self._cashier.checkpoint("bought")
                canonical = await self._checked(work, output)
            except OwnFault as fault:
                raise fault.error from fault
            except Unavailable as error:
                if any(row.open for row in await purse.rows()):
                    raise
                return await self.give_up(purse, error)
            except NexusError as error:
                return await self.give_up(purse, as_the_seller_said(error))
        return await self._take_delivery(work, purse, output, canonical)

    async def _buy(self, work: Work, market: Market, purse: JobPurse) -> object:
        """The same job again after an answer was lost: the same payment goes out, never a second one."""
        started, tries = self._clock.monotonic(), 0
        while True:
            tries += 1
            try:
                return (await self._buy_once(work, market, purse)).output
            except (PaymentUnknown, SellerFailed, Unavailable) as error:
                patient = self._clock.monotonic() < started + self._paid_patience_seconds
                if not await self._worth_again(error, purse, few=tries < BUY_TRIES, patient=patient):
                    raise
            await asyncio.sleep(min(PAUSE_SECONDS * (2 ** (tries - 1) - 1), PAUSE_MAX_SECONDS))

    async def _worth_again(self, error: NexusError, purse: JobPurse, *, few: bool, patient: bool) -> bool:
        """After an unknown outcome, an outage of ours, or when the seller has the money and the answer was lost.

        A seller that failed may have collected a moment before: only taking the money back tells.
        """
        rows = await purse.rows()
        if isinstance(error, SellerFailed):
            if not error.retryable:
                return False
            rows = [await self._cashier.cancel(row, error.message) for row in rows]
        if any(row.paid for row in rows):
            return few or patient
        if isinstance(error, Unavailable):
            return few and any(row.open for row in rows)
        return few and isinstance(error, PaymentUnknown)

    async def _buy_once(self, work: Work, market: Market, purse: JobPurse) -> Result:
        terms = work.terms
        try:
            async with asyncio.timeout(work.seconds_left(self._clock.monotonic())):
                return await self._last(market.buy(terms.offer, terms.job, purse), work.on_update)
        except TimeoutError as error:
            raise AgentTimeout(
                f"{_name(work)} did not deliver in time", next_step="allow more time, or choose a faster seller"
            ) from error
        except (NexusError, OwnFault):
            raise
        except DATABASE_ERRORS as error:  # ours, in the purse that the market was given
            raise Unavailable(f"the database does not answer: {error}", next_step="check the database") from error
        except Exception as error:  # a market is a foreign program's edge: whatever breaks there, the money comes back
            raise SellerFailed(
                f"{_name(work)} broke off: {type(error).__name__}: {error}"[:500], next_step="choose another seller"
            ) from error

    async def _last(self, stream: AsyncIterator[Update], on_update: OnUpdate | None) -> Result:
        result: Result | None = None
        async with AsyncExitStack() as stack:
            if isinstance(stream, AsyncGenerator):
                await stack.enter_async_context(aclosing(stream))
            async for update in stream:
                if isinstance(update, Result):
                    result = update
                elif on_update is not None:
                    await tell(on_update, update)
        if result is None:
            raise SellerFailed("the seller ended without a result", next_step="choose another seller")
        return result

    async def _checked(self, work: Work, output: object) -> bytes:
        """Canonical bytes of an output that fits the offer's own schema; raises `BadResult`."""

        def check() -> bytes:
            try:
                canonical = canonical_json(output)  # type: ignore[arg-type]  # foreign value: this call is the check
            except (InvalidInput, RecursionError, UnicodeError, TypeError) as error:
                raise BadResult(f"the result is not JSON: {error}"[:300], next_step="choose another seller") from error
            problems = self._schemas.problems(work.terms.offer.capability.output_schema, output)
            if problems:
                raise BadResult(
                    f"the result breaks the seller's own schema: {'; '.join(map(str, problems))}",
                    next_step="choose another seller; this one's record shows it",
                    seller=work.terms.offer.seller.key,
                )
            return canonical

        return await asyncio.to_thread(check) if _large(output) else check()

    async def _take_delivery(
        self, work: Work, purse: JobPurse, output: object, canonical: bytes
    ) -> Delivered | NotDelivered:
        """The result is good: what is still held goes to the seller, or back if the seller never took it."""
        rows = await purse.rows()
        if any(row.open for row in rows):
            await self._store.delivered(work.attempt, canonical)
            self._cashier.checkpoint("delivered")
        ended = [await self._pay_out(row) for row in rows]
        if not rows:
            await purse.close("delivered free of charge")
        return Delivered(output, canonical, tuple(ended))

    async def _pay_out(self, row: HoldRow) -> HoldRow:
        if not row.open:
            return row
        if row.request.mode is PayMode.PAY:
            row = await self._cashier.resolve(row)
        else:
            try:
                row = await self._cashier.settle(row, {})
            except PaymentFailed:
                row = await self._cashier.cancel(row, "the seller delivered and did not collect")
        if row.open and row.request.mode is PayMode.AUTHORIZE:
            row = await self._cashier.cancel(row, "the seller delivered and did not collect")
        if row.open:
            raise self._cashier.unknown(row, "the network does not say yet")
        return row

    async def give_up(self, purse: JobPurse, error: NexusError) -> NotDelivered:
        """No result: everything open is taken back before anybody else is asked."""
        ended: list[HoldRow] = []
        for row in await purse.rows():
            taken_back = await self._cashier.cancel(row, error.message) if row.open else row
            if taken_back.open:
                raise self._cashier.unknown(taken_back, error.message)
            ended.append(taken_back)
        await purse.close(error.message)
        if isinstance(error, PaymentUnknown):
            error = SellerFailed(f"the seller gave no answer: {error.message}", next_step="choose another seller")
        schema_valid = False if isinstance(error, BadResult) else None
        return NotDelivered(error, tuple(ended), blames_seller(error), schema_valid)


def blames_seller(error: NexusError) -> bool:
    """Whether a failure counts against the seller: not for a refused input, nor for a wallet or an outage of ours."""
    if isinstance(error, AgentRefused | InvalidInput | Unavailable):
        return False
    return isinstance(error, SellerFailed | AgentTimeout | PaymentUnknown) or error.retryable


async def tell(on_update: OnUpdate, update: Update) -> None:
    """Pass an update on; what the caller's own code raises becomes `OwnFault`."""
    try:
        waiting = on_update(update)
        if inspect.isawaitable(waiting):
            await waiting
    except Exception as error:  # carried out untouched
        raise OwnFault(error) from error


def _large(output: object) -> bool:
    """Whether checking would hold up the event loop noticeably; a look at the top is enough."""
    values = output.values() if isinstance(output, dict) else output if isinstance(output, list) else [output]
    return any(
        len(value) > IN_THREAD_BYTES if isinstance(value, str) else isinstance(value, list | dict) and len(value) > 1000
        for value in values
    )


def _name(work: Work) -> str:
    seller = work.terms.offer.seller
    return seller.name or seller.key
