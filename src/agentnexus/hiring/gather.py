"""Ask every market at once and make one list of the answers; a slow or broken market never holds up the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, runtime_checkable

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import NexusError, Unavailable
from agentnexus.core.events import EventName
from agentnexus.core.money import ATOMIC_MAX
from agentnexus.core.offers import Need, Offer
from agentnexus.core.ports import Clock, Market
from agentnexus.hiring.cache import OfferCache, Shelf
from agentnexus.hiring.circuit import Circuit, CircuitState
from agentnexus.hiring.model import SourceHealth
from agentnexus.platform.logs import log
from agentnexus.platform.telemetry import discovery_seconds

ANSWER_SECONDS = 2.0
LOAD_SECONDS = 20.0
OFFERS_PER_MARKET_MAX = 20_000
SELLER_KEY_CHARACTERS = 200


@runtime_checkable
class ManySources(Protocol):
    """A market that asks several places, of which one may be silent while the others answer."""

    def dead_sources(self) -> Mapping[str, str]:
        """Their names, with why."""


OnEvent = Callable[[EventName, dict[str, object]], None]
Sink = Callable[[Sequence[Offer]], None]


def told(name: EventName, data: dict[str, object]) -> None:
    """A line for whoever follows everything: hits are many."""
    log.debug(str(name), **data)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was found in time. `missing` names markets that failed or were too slow, with why."""

    shelves: tuple[Shelf, ...]
    partial: tuple[Offer, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()

    def offers(self) -> tuple[Offer, ...]:
        """The union, merged; markets earlier in the list are trusted more."""
        return merge([*(offer for shelf in self.shelves for offer in shelf.offers), *self.partial])


def merge(offers: Iterable[Offer]) -> tuple[Offer, ...]:
    """One offer per (seller, capability, endpoint): the first stays, later ones add their source and fill its gaps."""
    merged: dict[tuple[str, str, str], Offer] = {}
    for offer in offers:
        key = (offer.seller.key, offer.capability.name, offer.endpoint)
        known = merged.get(key)
        if known is None:
            merged[key] = offer if offer.sources else offer.model_copy(update={"sources": (offer.market,)})
        else:
            merged[key] = _join(known, offer)
    return tuple(merged.values())


def _join(first: Offer, other: Offer) -> Offer:
    sources = tuple(dict.fromkeys((*first.sources, *(other.sources or (other.market,)))))
    changes: dict[str, object] = {"sources": sources}
    for gap in ("latency_ms", "uptime", "success_rate", "stake"):
        if getattr(first, gap) is None and getattr(other, gap) is not None:
            changes[gap] = getattr(other, gap)
    if first.reputation.count == 0 and other.reputation.count > 0:
        changes["reputation"] = other.reputation
    if first.stale and not other.stale:
        changes["stale"] = False
    return first.model_copy(update=changes)


class Gatherer:
    """Discovery over all markets, with a cache per market and question.

    A market that hangs or keeps failing is left alone for a while: its last shelf is served marked stale at once, and
    when the time is up one question tries it, in the background where there is a shelf to serve meanwhile.

    Args:
        markets: in order of trust; where two list the same offer, the earlier one's stays.
        answer_seconds: how long `gather` waits; slower markets go on in the background and are there next time.
    """

    def __init__(
        self,
        markets: Sequence[Market],
        cache: OfferCache,
        *,
        clock: Clock | None = None,
        answer_seconds: float = ANSWER_SECONDS,
        load_seconds: float = LOAD_SECONDS,
        on_event: OnEvent = told,
    ) -> None:
        self._markets = {market.name: market for market in markets}
        self._cache = cache
        self._clock = clock or SystemClock()
        self._answer_seconds = answer_seconds
        self._load_seconds = load_seconds
        self._on_event = on_event
        self._health = {name: SourceHealth(name) for name in self._markets}
        self._circuits = {name: Circuit() for name in self._markets}
        self._background: set[asyncio.Task[Shelf]] = set()

    def market(self, name: str) -> Market:
        """Raises `Unavailable` when an offer names a market that is not enabled here."""
        found = self._markets.get(name)
        if found is None:
            raise Unavailable(
                f"the market {name!r} is not enabled", next_step="enable it in the settings, or hire elsewhere"
            )
        return found

    async def gather(self, need: Need, *, refresh: bool = False, answer_seconds: float | None = None) -> Gathered:
        """Offers of every enabled market that answered in time, cached ones at once."""
        arrived: dict[str, list[Offer]] = {}
        tasks = await self._ask(need, refresh=refresh, sink_for=lambda name: arrived.setdefault(name, []).extend)
        if tasks:
            await asyncio.wait(tasks.values(), timeout=answer_seconds or self._answer_seconds)
        shelves: list[Shelf] = []
        missing: list[tuple[str, str]] = []
        left: list[Offer] = []
        for name, task in tasks.items():
            if not task.done():
                self._late(name)
                left += arrived.get(name, [])
                last = self._cache.kept(name, _question_key(_question(need)))
                if last is not None:
                    shelves.append(self._hit(last))
                else:
                    missing.append((name, f"no complete answer within {answer_seconds or self._answer_seconds:g} s"))
            elif (error := task.exception()) is not None:
                missing.append((name, str(error)))
            else:
                shelves.append(task.result())
        return Gathered(tuple(shelves), tuple(left), tuple(missing))

    async def stream(
        self, need: Need, *, refresh: bool = False, answer_seconds: float | None = None
    ) -> AsyncIterator[Offer]:
        """Offers as they arrive, cached ones first; duplicates are not merged yet. Ends at the deadline."""
        queue: asyncio.Queue[Sequence[Offer] | None] = asyncio.Queue()
        streamed: set[str] = set()

        def sink_for(name: str) -> Sink:
            def put(offers: Sequence[Offer]) -> None:
                streamed.add(name)
                queue.put_nowait(offers)

            return put

        tasks = await self._ask(need, refresh=refresh, sink_for=sink_for)
        waiting = len(tasks)

        def finished(name: str, task: asyncio.Task[Shelf]) -> None:
            if name not in streamed and not task.cancelled() and task.exception() is None:
                queue.put_nowait(task.result().offers)
            queue.put_nowait(None)

        for name, task in tasks.items():
            task.add_done_callback(partial(finished, name))
        with suppress(TimeoutError):
            async with asyncio.timeout(answer_seconds or self._answer_seconds):
                while waiting:
                    batch = await queue.get()
                    if batch is None:
                        waiting -= 1
                        continue
                    for offer in batch:
                        yield offer

    async def _ask(
        self, need: Need, *, refresh: bool, sink_for: Callable[[str], Sink]
    ) -> dict[str, asyncio.Task[Shelf]]:
        question = _question(need)
        wanted = need.constraints.markets
        tasks: dict[str, asyncio.Task[Shelf]] = {}
        for name, market in self._markets.items():
            if wanted and name not in wanted:
                continue
            if refresh:
                await self._cache.clear(name, _question_key(question))
            asked = self._shelf if refresh else self._shelf_or_last
            tasks[name] = self._start(name, asked(market, question, sink_for(name)))
        return tasks

    def _start(self, name: str, answer: Coroutine[None, None, Shelf]) -> asyncio.Task[Shelf]:
        task = asyncio.create_task(answer, name=f"discover-{name}")
        self._background.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Shelf]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # seen: failures are counted where they happen

    async def _shelf_or_last(self, market: Market, question: Need, sink: Sink) -> Shelf:
        """The shelf; while the market is left alone its last one, at once. Raises `Unavailable` when there is none."""
        circuit, now = self._circuits[market.name], self._clock.monotonic()
        if circuit.state(now) is CircuitState.CLOSED:
            return await self._shelf(market, question, sink)
        last = self._cache.kept(market.name, _question_key(question))
        if last is not None and not last.stale:
            return self._hit(last)
        if circuit.take_probe(now):
            if last is None:
                return await self._shelf(market, question, sink)
            self._start(market.name, self._shelf(market, question, lambda _offers: None))
        if last is not None:
            return self._hit(last)
        raise Unavailable(
            f"the market {market.name} did not answer before and is asked again in {circuit.seconds_left(now):.0f} s",
            next_step="try again then; other markets go on",
        )

    async def _shelf(self, market: Market, question: Need, sink: Sink) -> Shelf:
        async def load() -> tuple[Offer, ...]:
            return await self._load(market, question, sink)

        try:
            found = await self._cache.get_or_load(market.name, _question_key(question), load)
        finally:
            self._circuits[market.name].let_go()
        return self._hit(found.shelf) if found.hit else found.shelf

    def _hit(self, shelf: Shelf) -> Shelf:
        self._note(shelf.market, cache_hits=1, stale_hits=int(shelf.stale))
        self._on_event(EventName.DISCOVERY_CACHE_HIT, {"market": shelf.market, "stale": shelf.stale})
        return shelf

    async def _load(self, market: Market, question: Need, sink: Sink) -> tuple[Offer, ...]:
        started = self._clock.monotonic()
        self._note(market.name, asked=1)
        try:
            async with asyncio.timeout(self._load_seconds):
                offers, dropped = await self._read(market, question, sink)
        except TimeoutError as error:
            raise self._failed(market.name, f"no answer within {self._load_seconds:g} s", slow=True) from error
        except NexusError as error:
            raise self._failed(market.name, error.message) from error
        except Exception as error:  # a market is a foreign program's edge: its bugs stay its own
            raise self._failed(market.name, f"{type(error).__name__}: {error}") from error
        self._answered(market.name, self._clock.monotonic() - started, len(offers), dropped)
        return offers

    async def _read(self, market: Market, question: Need, sink: Sink) -> tuple[tuple[Offer, ...], int]:
        offers: list[Offer] = []
        dropped = 0
        async for offer in market.discover(question):
            if len(offers) >= OFFERS_PER_MARKET_MAX:
                log.warning("hiring.market_too_large", market=market.name, kept=len(offers))
                break
            if not _sane(offer, market.name):
                dropped += 1
                continue
            offers.append(offer)
            sink((offer,))
        return tuple(offers), dropped

    def _late(self, name: str) -> None:
        self._note(name, late=1)
        circuit, now = self._circuits[name], self._clock.monotonic()
        if circuit.state(now) is not CircuitState.OPEN:  # else those who asked together would each double its time
            circuit.failed(now, slow=True)
            log.warning("hiring.market_hangs", market=name, asked_again_in_seconds=circuit.seconds_left(now))

    def _failed(self, name: str, why: str, *, slow: bool = False) -> Unavailable:
        self._note(name, failed=1)
        self._circuits[name].failed(self._clock.monotonic(), slow=slow)
        self._health[name] = replace(self._health[name], last_error=why)
        log.warning("hiring.market_failed", market=name, error=why)
        return Unavailable(f"the market {name} did not answer: {why}", next_step="try again; other markets go on")

    def _answered(self, name: str, seconds: float, offers: int, dropped: int) -> None:
        discovery_seconds.labels(name).observe(seconds)
        self._circuits[name].succeeded()
        before = self._health[name]
        mean = (before.mean_seconds * before.answered + seconds) / (before.answered + 1)
        self._health[name] = replace(
            before,
            answered=before.answered + 1,
            offers=offers,
            dropped=before.dropped + dropped,
            mean_seconds=mean,
            last_seen=self._clock.now(),
        )

    def _note(self, name: str, **changes: int) -> None:
        before = self._health[name]
        self._health[name] = replace(
            before,
            asked=before.asked + changes.get("asked", 0),
            failed=before.failed + changes.get("failed", 0),
            late=before.late + changes.get("late", 0),
            cache_hits=before.cache_hits + changes.get("cache_hits", 0),
            stale_hits=before.stale_hits + changes.get("stale_hits", 0),
        )

    def statistics(self) -> tuple[SourceHealth, ...]:
        """Health of every source, in order of trust."""
        return tuple(self._statistics_of(market) for market in self._markets.values())

    def _statistics_of(self, market: Market) -> SourceHealth:
        return replace(
            self._health[market.name],
            circuit=str(self._circuits[market.name].state(self._clock.monotonic())),
            dead_sources=market.dead_sources() if isinstance(market, ManySources) else {},
        )

    async def clear(self) -> None:
        """Forget everything discovered."""
        await self._cache.clear()

    async def close(self) -> None:
        """End questions still running in the background."""
        running = tuple(self._background)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _sane(offer: Offer, market: str) -> bool:
    """Whether an offer can be kept and paid at all: its own market, no negative price, a seller the books can name."""
    seller = offer.seller.key
    return (
        offer.market == market
        and offer.price.per_job.atomic >= 0
        and 0 <= offer.price.maximum.atomic <= ATOMIC_MAX
        and seller.isprintable()
        and len(seller) <= SELLER_KEY_CHARACTERS
    )


def _question(need: Need) -> Need:
    """What markets are asked; prices and sellers wanted are no part of it."""
    return Need(capability=need.capability, text="" if need.capability else need.text)


def _question_key(question: Need) -> str:
    return question.capability or f"text:{' '.join(sorted(set(question.text.lower().split())))[:500]}"
