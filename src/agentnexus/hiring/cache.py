"""What each market has on its shelf, kept for a minute in the platform cache and parsed once per process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import TypeAdapter

from agentnexus.core.errors import NexusError
from agentnexus.core.offers import Offer
from agentnexus.platform.cache import Cache

_OFFERS = TypeAdapter(tuple[Offer, ...])


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """The offers of one market for one question. Compared by identity: the same object means the same offers."""

    market: str
    offers: tuple[Offer, ...]
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A shelf with how it was found."""

    shelf: Shelf
    hit: bool


class OfferCache:
    """Shelves by market and question, over `platform.cache.Cache` (process, then Redis where configured)."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._parsed: dict[str, tuple[object, Shelf, Shelf | None]] = {}

    async def get_or_load(self, market: str, question: str, load: Callable[[], Awaitable[tuple[Offer, ...]]]) -> Found:
        """The shelf, or `load()` run once however many ask; a dead source gives its last shelf marked stale."""
        key = _key(market, question)

        async def load_text() -> object:
            offers = await load()
            text = _OFFERS.dump_json(offers).decode()
            self._parsed[key] = (text, Shelf(market, offers), None)
            return text

        try:
            cached = await self._cache.get_or_load(key, load_text)
        except (NexusError, OSError, TimeoutError):
            last = self._parsed.get(key)  # after a refresh the cache itself keeps nothing to fall back on
            if last is None:
                raise
            return Found(self._shelf(key, market, last[0], stale=True), hit=True)
        return Found(self._shelf(key, market, cached.value, stale=cached.stale), hit=cached.hit)

    def kept(self, market: str, question: str) -> Shelf | None:
        """The shelf this process has, or had last, marked stale unless it is fresh; asks nobody."""
        key = _key(market, question)
        cached = self._cache.kept(key)
        if cached is not None:
            return self._shelf(key, market, cached.value, stale=cached.stale)
        last = self._parsed.get(key)
        return None if last is None else self._shelf(key, market, last[0], stale=True)

    def _shelf(self, key: str, market: str, value: object, *, stale: bool) -> Shelf:
        known = self._parsed.get(key)
        if known is None or (known[0] is not value and known[0] != value):
            known = (value, Shelf(market, _OFFERS.validate_json(str(value))), None)
            self._parsed[key] = known
        text, shelf, stale_shelf = known
        if not stale:
            return shelf
        if stale_shelf is None:
            marked = tuple(offer.model_copy(update={"stale": True}) for offer in shelf.offers)
            stale_shelf = Shelf(market, marked, stale=True)
            self._parsed[key] = (text, shelf, stale_shelf)
        return stale_shelf

    async def clear(self, market: str | None = None, question: str | None = None) -> None:
        """Forget one shelf, or all of them."""
        if market is None or question is None:
            self._parsed.clear()
            await self._cache.clear()
            return
        await self._cache.clear(_key(market, question))


def _key(market: str, question: str) -> str:
    return f"hiring:offers:{market}:{question}"
