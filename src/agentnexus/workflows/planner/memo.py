"""Answers about capabilities, remembered by object: their schemas cannot be hashed, and reading them takes long.

Markets hand out the very same objects again and again until something changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from agentnexus.core.offers import Capability

CAPACITY = 10_000
Answer = TypeVar("Answer")


class ByCapability(Generic[Answer]):
    """Calls a pure function once per object, as long as the object is among the last `CAPACITY`."""

    def __init__(self, make: Callable[[Capability], Answer], capacity: int = CAPACITY) -> None:
        self._make = make
        self._capacity = capacity
        # The object is kept beside its answer, so that nobody else can have its id meanwhile.
        self._known: OrderedDict[int, tuple[Capability, Answer]] = OrderedDict()

    def __call__(self, capability: Capability) -> Answer:
        known = self._known.get(id(capability))
        if known is not None:
            return known[1]
        answer = self._make(capability)
        self._known[id(capability)] = (capability, answer)
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return answer
