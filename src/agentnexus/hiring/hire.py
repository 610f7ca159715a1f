"""`Hiring`: one need, one budget, all markets. Choose, reserve, buy, check, settle or refund, receipt; else the next.

hiring = Hiring(gatherer=…, books=…, database=…, wallets={"evm": Wallet(rail, address)}, signer=…, rates=…)
hired = await hiring.hire(Need(capability="pdf.extract", input={…}), budget_id="user-1", key="wf:s1:1", user_id="u")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Self

from agentnexus.core.canonical import idempotency_key
from agentnexus.core.clock import SystemClock, SystemEntropy, TimeOrderedIds
from agentnexus.core.errors import (
    AgentTimeout,
    BudgetExceeded,
    NexusError,
    NotFound,
    PaidUndelivered,
    PaymentFailed,
    SellerFailed,
)
from agentnexus.core.money import Parity
from agentnexus.core.offers import Job, JobState, Need, Offer, Strategy
from agentnexus.core.payments import Receipt, ReceiptStatus
from agentnexus.core.ports import Clock, Entropy, Ids, Signer
from agentnexus.core.updates import Held
from agentnexus.hiring.attempt import (
    DATABASE_ERRORS,
    PAID_PATIENCE_SECONDS,
    AttemptRunner,
    Delivered,
    NotDelivered,
    OnUpdate,
    Work,
    tell,
)
from agentnexus.hiring.cashier import Cashier, Checkpoint, Wallet, no_checkpoint
from agentnexus.hiring.choose import Choice, Chooser, Policy
from agentnexus.hiring.gather import Gatherer
from agentnexus.hiring.holds import HoldRow, HoldStore
from agentnexus.hiring.jobs import Attempt, Ending, HireRow, HireStore
from agentnexus.hiring.locks import HireLocks
from agentnexus.hiring.match import Buyer
from agentnexus.hiring.model import Comparison, Hired, RankedOffer, Rates, SourceHealth
from agentnexus.hiring.orders import (
    Order,
    attempt_json,
    check_key,
    cut_off,
    liked,
    need_hash,
    stored_answer,
    stored_error,
    untried,
    was_paid,
)
from agentnexus.hiring.paperwork import Paperwork
from agentnexus.hiring.purse import JobPurse, Terms
from agentnexus.hiring.quotes import Quotes
from agentnexus.hiring.schemas import Schemas
from agentnexus.hiring.shop import Found, Shop, no_offer
from agentnexus.hiring.statistics import SellerRecords
from agentnexus.ledger.door import Door
from agentnexus.platform.database import Database
from agentnexus.platform.telemetry import observed

CANDIDATES_MAX = 16
FALLBACK_MAX = 20


class Hiring:
    """The door of this room. Any number of processes may have one on the same database.

    Args:
        gatherer: the enabled markets, with their cache.
        books: the ledger; budgets live there.
        wallets: by rail name as the markets' payment requests say it, e.g. ``{"evm": Wallet(rail, "0x…")}``.
        signer: signs receipts.
        rates: USD per asset, to compare offers.
        allow_insecure: take plain-text endpoints outside this machine and its network.
        checkpoint: called at named points between steps; tests stop the process there.
        paid_patience_seconds: how long a seller that has the money and lost its answer is asked again.
        parity: assets that budgets count one for one; receipts say so where another one was paid.
    """

    def __init__(
        self,
        *,
        gatherer: Gatherer,
        books: Door,
        database: Database,
        wallets: Mapping[str, Wallet],
        signer: Signer,
        rates: Rates,
        clock: Clock | None = None,
        ids: Ids | None = None,
        entropy: Entropy | None = None,
        allow_insecure: bool = False,
        checkpoint: Checkpoint = no_checkpoint,
        paid_patience_seconds: float = PAID_PATIENCE_SECONDS,
        parity: Parity | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._ids = ids or TimeOrderedIds(self._clock)
        self._allow_insecure = allow_insecure
        self._checkpoint = checkpoint
        self.schemas = Schemas()
        self.records = SellerRecords(database, self._clock)
        self.shop = Shop(gatherer, self.records, rates, clock=self._clock, schemas=self.schemas)
        self.chooser = Chooser(clock=self._clock, entropy=entropy or SystemEntropy())
        self.cashier = Cashier(books, HoldStore(database), wallets, self._clock, checkpoint)
        self.store = HireStore(database)
        self.locks = HireLocks(database)
        self._runner = AttemptRunner(self.store, self.cashier, self.schemas, self._clock, paid_patience_seconds)
        self._paperwork = Paperwork(self.cashier, signer, self._clock, parity)
        self._networks = _networks(wallets)
        self._quotes = Quotes(self.shop, self._clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop background questions and let go of the lock connection. Hires under way must have ended."""
        await self.shop.gatherer.close()
        await self.locks.close()

    # -- looking around ---------------------------------------------------------------------------------------------

    async def offers(
        self, need: Need, *, refresh: bool = False, user_id: str = "", limit: int = 20
    ) -> list[RankedOffer]:
        """Offers that serve a need, best first; empty when there are none."""
        return list((await self.search(need, refresh=refresh, user_id=user_id, limit=limit)).answer.offers)

    async def search(self, need: Need, *, refresh: bool = False, user_id: str = "", limit: int = 20) -> Found:
        """Like `offers`, with what was left out and why, and which markets did not answer."""
        return await self.shop.search(need, await self._buyer(user_id, ()), limit=limit, refresh=refresh)

    async def compare(self, need: Need, *, minimum: int = 3, user_id: str = "") -> Comparison:
        """At least `minimum` offers side by side; raises `NoOffer` when there are fewer."""
        return await self.shop.compare(need, await self._buyer(user_id, ()), minimum)

    async def explain(self, need: Need, *, user_id: str = "", policy: Policy = Policy.BALANCED) -> Choice | None:
        """Which offer would be chosen now, with every factor; `None` when there is none."""
        found = await self.search(need, user_id=user_id, limit=CANDIDATES_MAX)
        return self.chooser.choose(found.answer.offers, strategy=need.strategy, policy=policy)

    def statistics(self) -> tuple[SourceHealth, ...]:
        """Health, success rate, time and cache hits of every market (`discovery stats`)."""
        return self.shop.gatherer.statistics()

    async def receipts(self, key: str) -> list[Receipt]:
        """Receipts of every attempt of a hire, oldest first; of failed and refunded ones too."""
        hire = await self.store.load(key)
        return [] if hire is None else list(hire.receipts)

    async def receipt(self, receipt_id: str) -> Receipt:
        """Raises `NotFound`."""
        found = await self.store.receipt("job_" + receipt_id.removeprefix("rct_"))
        if found is None:
            raise NotFound(f"no receipt {receipt_id}", next_step="list your receipts", receipt=receipt_id)
        return found

    async def receipts_of(self, user_id: str, limit: int = 50) -> list[Receipt]:
        """A user's receipts, newest first."""
        return await self.store.of_user(user_id, limit)

    async def rate(self, receipt_id: str, user_id: str, rating: int) -> None:
        """1-5 by the buyer who paid. Raises `InvalidInput`, `NotFound`, `Conflict`."""
        await self.records.rate("job_" + receipt_id.removeprefix("rct_"), user_id, rating)

    async def _buyer(self, user_id: str, prefer: Sequence[str]) -> Buyer:
        buyer = await self.records.buyer(user_id, self._networks, allow_insecure=self._allow_insecure)
        return replace(buyer, preferred=(*prefer, *buyer.preferred)) if prefer else buyer

    # -- hiring -----------------------------------------------------------------------------------------------------

    async def hire(
        self,
        need: Need,
        *,
        budget_id: str,
        key: str,
        user_id: str,
        prefer: Sequence[str] = (),
        fallback: int = 3,
        on_update: OnUpdate | None = None,
        deadline_seconds: float | None = None,
        task: str = "",
        policy: Policy = Policy.BALANCED,
        session: str | None = None,
        only: str = "",
    ) -> Hired:
        """Hire somebody for `need` and come back with a checked result and its receipt.

        Args:
            key: of this hire. A finished one gives its stored answer again; one that was cut off goes on with the same
                offer and the same payment.
            prefer: seller keys to take first when they serve.
            fallback: how many further offers may be tried after the first fails.
            deadline_seconds: for the whole hire; by default the need's own.
            only: the endpoint of the one offer that may be hired; nobody else is asked.
            task: what the budget's per-task limit counts by; by default the hire's key.

        Raises `BudgetExceeded` or `InsufficientFunds` before any seller is asked, `NoOffer` with near misses, the last
        seller's error when all failed, `PaymentUnknown` when money may have moved (call again: it is looked up, nothing
        is paid twice), `Conflict` when the key was used for another need.
        """
        check_key(key)
        seconds = deadline_seconds or need.constraints.deadline_seconds
        deadline = None if seconds is None else self._clock.monotonic() + seconds
        hashed = await need_hash(need)
        async with AsyncExitStack() as stack:
            hire, buyer = await self._enter(stack, key, user_id, prefer)
            order = Order(
                key=key, need=need, need_hash=hashed, budget_id=budget_id, user_id=user_id, task=task or key,
                buyer=replace(buyer, only=only), prefer=tuple(prefer), fallback=min(fallback, FALLBACK_MAX),
                policy=policy, session=session, deadline=deadline, on_update=on_update,
            )  # fmt: skip
            with observed("hire", key, capability=need.capability or ""):
                return await self._run(order, hire)

    async def _enter(
        self, stack: AsyncExitStack, key: str, user_id: str, prefer: Sequence[str]
    ) -> tuple[HireRow | None, Buyer]:
        """The hire's lock, for as long as `stack`, and what is known of the hire and its buyer."""
        with cut_off(key):  # an earlier call may have paid: without the database nobody can tell
            await stack.enter_async_context(self.locks.hold(key))
            return await self.store.load(key), await self._buyer(user_id, prefer)

    async def cancel(self, key: str, reason: str = "cancelled by the buyer") -> list[Receipt]:
        """End a hire that nobody is running: money comes back, receipts say so. Waits for a runner to stop."""
        async with self.locks.hold(key):
            hire = await self.store.load(key)
            if hire is None or hire.state != "running":
                return [] if hire is None else list(hire.receipts)
            await self.abandon(hire, SellerFailed(reason, next_step="hire again with a new key"))
            await self.store.fail(key, SellerFailed(reason, next_step="hire again with a new key"), self._clock.now())
        return await self.receipts(key)

    async def abandon(self, hire: HireRow, error: NexusError) -> None:
        """Take the open attempt's money back and close it; the caller holds the hire's lock."""
        for attempt in hire.attempts:
            if attempt.open:
                need = Need()  # the need itself is not kept; its hash is
                terms = self._terms(attempt, need, hire.budget_id, hire.key)
                failed = await self._runner.give_up(JobPurse(terms, self.cashier), error)
                interrupted = replace(failed, interrupted=True)
                ending = await self._paperwork.failed(attempt, hire.need_hash, interrupted, outcome=None)
                await self.store.end(attempt, ending)

    async def _run(self, order: Order, hire: HireRow | None) -> Hired:
        done = stored_answer(hire, order)
        if done is not None:
            return done
        attempts = list(hire.attempts) if hire else []
        resumed = bool(attempts)
        last: NexusError | None = None
        if attempts and attempts[-1].open:
            ended = await self._attempt(order, attempts[-1], attempts[:-1], resumed=True)
            if isinstance(ended, Hired):
                return ended
            attempts[-1], last = ended
        while len(attempts) <= order.fallback and not self._late(order):
            with cut_off(order.key, DATABASE_ERRORS):
                attempt = await self._next(order, attempts)
            if attempt is None:
                break
            self._checkpoint("attempt-written")
            ended = await self._attempt(order, attempt, attempts, resumed=False)
            if isinstance(ended, Hired):
                return replace(ended, resumed=resumed)
            finished, last = ended
            attempts.append(finished)
        raise await self._all_failed(order, attempts, last)

    def _late(self, order: Order) -> bool:
        return order.deadline is not None and self._clock.monotonic() >= order.deadline

    async def _all_failed(self, order: Order, attempts: list[Attempt], last: NexusError | None) -> NexusError:
        error = last or stored_error(attempts) or AgentTimeout("the time was over before anybody was asked")
        if error.retryable and any(was_paid(attempt) for attempt in attempts):
            error = PaidUndelivered(
                f"a seller was paid and its result could not be had: {error.message}",
                next_step="read the receipts; hire again with a new key if the work is worth a second payment",
                **error.details,
            )
        error.details["attempts"] = [attempt_json(attempt) for attempt in attempts]
        if attempts:
            await self.store.fail(order.key, error, self._clock.now())
        return error

    # -- one attempt ------------------------------------------------------------------------------------------------

    async def _next(self, order: Order, attempts: list[Attempt]) -> Attempt | None:
        """Choose, get a firm quote, write the attempt down and reserve its money.

        `None` when nobody is left beside those who failed; raises when there was nobody in the first place.
        """
        found = await self.shop.search(order.need, order.buyer, limit=CANDIDATES_MAX + len(attempts))
        self._checkpoint("searched")
        left = untried(found.answer.offers, attempts)
        if not left:
            if attempts:
                return None
            raise no_offer(order.need, found)
        booked = await self._book_one(order, left, len(attempts) + 1)
        if isinstance(booked, BudgetExceeded) and order.need.strategy is not Strategy.PRICE:
            # The best ones were too dear for the budget; the cheapest of all may not have been among them.
            cheapest = order.need.model_copy(update={"strategy": Strategy.PRICE})
            found = await self.shop.search(cheapest, order.buyer, limit=CANDIDATES_MAX + len(attempts))
            if left := untried(found.answer.offers[:1], attempts):
                booked = await self._book_one(order, left, len(attempts) + 1)
        if isinstance(booked, Attempt):
            return booked
        if attempts:
            return None
        raise booked

    async def _book_one(self, order: Order, left: list[RankedOffer], number: int) -> Attempt | NexusError:
        """The first that can be booked, chosen one after the other; else why the last one could not."""
        refused: NexusError | None = None
        while left:
            choice = self.chooser.choose(
                left,
                strategy=order.need.strategy,
                policy=order.policy,
                session=order.session,
                preferred=liked(order, left),
            )
            assert choice is not None  # `left` is not empty
            offer = choice.chosen.offer
            try:
                return await self._book(order, offer, number)
            except BudgetExceeded as error:
                refused = error
                left = [other for other in left if other.price_usd < choice.chosen.price_usd]
            except NexusError as error:
                refused = error
                left = [other for other in left if other.seller != choice.chosen.seller]
        assert refused is not None  # the list was not empty
        return refused

    async def _book(self, order: Order, offer: Offer, number: int) -> Attempt:
        """Quote, write down, reserve: after this the seller may be asked. Raises what stands in the way."""
        job_id = self._ids.new("job")
        job = Job(
            id=job_id,
            key=idempotency_key("job", job_id),
            need=order.need,
            offer_id=offer.id,
            attempt=number,
        )
        quote = await self._quotes.ask(offer, job)
        attempt = Attempt(order.key, number, job.id, job.key, offer, quote, "quoted", self._clock.now())
        await self.store.begin(
            attempt,
            user_id=order.user_id,
            budget_id=order.budget_id,
            need_hash=order.need_hash,
            capability=offer.capability.name,
        )
        purse = JobPurse(self._terms(attempt, order.need, order.budget_id, order.task), self.cashier)
        try:
            await purse.reserve()
        except NexusError:
            await purse.close("nobody was asked")
            await self.store.withdraw(attempt)
            raise
        return attempt

    def _terms(self, attempt: Attempt, need: Need, budget_id: str, task: str) -> Terms:
        job = Job(
            id=attempt.job_id,
            key=attempt.job_key,
            need=need,
            offer_id=attempt.offer.id,
            attempt=attempt.number,
            state=JobState.RESERVED,
        )
        return Terms(attempt.hire_key, budget_id, job, attempt.offer, attempt.quote, task)

    async def _attempt(
        self, order: Order, attempt: Attempt, before: Sequence[Attempt], *, resumed: bool
    ) -> Hired | tuple[Attempt, NexusError]:
        """A fault of ours leaves the attempt open: its seller may be paid already, so only this key may go on."""
        with cut_off(order.key):
            return await self._try(order, attempt, before, resumed=resumed)

    async def _try(
        self, order: Order, attempt: Attempt, before: Sequence[Attempt], *, resumed: bool
    ) -> Hired | tuple[Attempt, NexusError]:
        terms = self._terms(attempt, order.need, order.budget_id, order.task)
        work = Work(terms, attempt, order.deadline, order.on_update)
        purse = JobPurse(terms, self.cashier, None if order.on_update is None else partial(self._tell, order.on_update))
        seller, capability = attempt.offer.seller.key, attempt.offer.capability.name
        started = self._clock.monotonic()
        self.chooser.loads.started(seller, capability, started)
        result: Delivered | NotDelivered | None = None
        try:
            result = await self._buy(work, purse)
        finally:
            self._note_load(attempt, result, started)
        seconds = self._clock.monotonic() - started
        self._checkpoint("attempt-ended")
        if isinstance(result, Delivered):
            return replace(await self._finish(order, attempt, before, result, seconds), resumed=resumed)
        if resumed and isinstance(result.error, PaymentFailed) and not any(row.paid for row in result.payments):
            result = replace(result, interrupted=True)
        outcome = self._paperwork.outcome(order.user_id, attempt, result, seconds) if result.blames_seller else None
        ending = await self._paperwork.failed(attempt, order.need_hash, result, outcome)
        await self.store.end(attempt, ending)
        self._checkpoint("failure-written")
        return replace(attempt, state=ending.state, receipt=ending.receipt), result.error

    async def _buy(self, work: Work, purse: JobPurse) -> Delivered | NotDelivered:
        """The reservation is made sure of (after a crash: again), then the market is asked, maybe again."""
        try:
            market = self.shop.gatherer.market(work.attempt.offer.market)
            if work.attempt.output is None:
                await purse.reserve()
        except NexusError as error:
            return await self._runner.give_up(purse, error)
        return await self._runner.run(work, market, purse)

    def _note_load(self, attempt: Attempt, result: Delivered | NotDelivered | None, started: float) -> None:
        seller, capability = attempt.offer.seller.key, attempt.offer.capability.name
        if result is None or (isinstance(result, NotDelivered) and not result.blames_seller):
            self.chooser.loads.abandoned(seller, capability)
            return
        now = self._clock.monotonic()
        succeeded = isinstance(result, Delivered)
        patience = 0.0 if isinstance(result, Delivered) else _patience_seconds(result.error)
        if patience:
            self.chooser.loads.abandoned(seller, capability)
            self.chooser.loads.busy(seller, capability, now, patience)
            return
        self.chooser.loads.finished(seller, capability, now, seconds=now - started, succeeded=succeeded)

    async def _finish(
        self, order: Order, attempt: Attempt, before: Sequence[Attempt], result: Delivered, seconds: float
    ) -> Hired:
        receipt = await self._paperwork.receipt(
            attempt, order.need_hash, ReceiptStatus.SETTLED, result.payments, result=result
        )
        outcome = self._paperwork.outcome(order.user_id, attempt, result, seconds)
        ending = Ending(
            "settled", receipt, receipt.finished_at, hire_state="done", output=result.canonical, outcome=outcome
        )
        await self.store.end(attempt, ending)
        self._checkpoint("hire-written")
        earlier = tuple(other.receipt for other in before if other.receipt is not None)
        return Hired(receipt, result.output, (*earlier, receipt))

    async def _tell(self, on_update: OnUpdate, row: HoldRow) -> None:
        await tell(on_update, Held(self._paperwork.record(row)))


def _patience_seconds(error: NexusError) -> float:
    """How long a seller that is busy asked to be left alone; 0 when it did not."""
    seconds = error.details.get("retry_after_seconds")
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def _networks(wallets: Mapping[str, Wallet]) -> frozenset[str] | None:
    """Networks that can be paid on; `None` when some wallet does not say."""
    if any(not wallet.networks for wallet in wallets.values()):
        return None
    return frozenset(network for wallet in wallets.values() for network in wallet.networks)
