"""A market that is only a list of offers: what planning asks of hiring, and nothing of what hiring does besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from agentnexus.core.offers import Need, Offer
from agentnexus.core.payments import Receipt


@dataclass(frozen=True, slots=True)
class OnShelf:
    """Implements `Ranked`."""

    offer: Offer


class Shelf:
    """Implements `Hirer` as far as planning goes; nobody can be hired here."""

    def __init__(self, offers: Sequence[Offer]) -> None:
        self._entries = tuple(map(OnShelf, offers))

    async def offers(
        self, need: Need, *, refresh: bool = False, user_id: str = "", limit: int = 20
    ) -> Sequence[OnShelf]:
        del refresh, user_id
        return [e for e in self._entries if need.capability in (None, e.offer.capability.name)][:limit]

    async def hire(self, *_arguments: object, **_named: object) -> NoReturn:
        raise NotImplementedError("a shelf only shows")

    async def cancel(self, key: str, reason: str = "") -> Sequence[Receipt]:
        raise NotImplementedError(f"a shelf only shows: {key} {reason}")

    async def receipts(self, key: str) -> Sequence[Receipt]:
        raise NotImplementedError(f"a shelf only shows: {key}")
