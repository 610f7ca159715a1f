"""What it costs to be taken soon: the priority fee that others pay for the same accounts, inside our limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from solders.instruction import Instruction

from agentnexus.core.ports import Clock
from agentnexus.rails.solana.cluster import Node, RpcValue
from agentnexus.rails.solana.errors import ClusterUnavailable, NodeError

LAMPORTS_PER_SIGNATURE = 5_000
_REMEMBERED_SECONDS = 10.0
_ACCOUNTS_MAX = 128
_PERCENTILE = 0.75


@dataclass(frozen=True, slots=True)
class FeeLimits:
    """In millionths of a lamport per compute unit; a usual transfer needs 10,000 units."""

    minimum_price: int = 0
    maximum_price: int = 1_000_000


class PriorityFees:
    """The three-quarter point of what was paid lately for the accounts of a transaction."""

    def __init__(self, node: Node, clock: Clock, limits: FeeLimits) -> None:
        self._node = node
        self._clock = clock
        self._limits = limits
        self._known: dict[tuple[str, ...], tuple[float, int]] = {}

    async def price(self, instructions: Sequence[Instruction]) -> int:
        """Our minimum when the node cannot tell: a cheap transaction is only slow."""
        accounts = _writable(instructions)
        now = self._clock.monotonic()
        read_at, price = self._known.get(accounts, (float("-inf"), 0))
        if now - read_at < _REMEMBERED_SECONDS:
            return price
        price = min(max(await self._read(accounts), self._limits.minimum_price), self._limits.maximum_price)
        if len(self._known) > _ACCOUNTS_MAX:
            self._known.clear()
        self._known[accounts] = (now, price)
        return price

    async def _read(self, accounts: tuple[str, ...]) -> int:
        listed: list[RpcValue] = list(accounts)
        try:
            answer = await self._node.call("getRecentPrioritizationFees", listed)
        except (ClusterUnavailable, NodeError):
            return 0
        fees = (
            [each.get("prioritizationFee") for each in answer if isinstance(each, dict)]
            if isinstance(answer, list)
            else []
        )
        paid = sorted(each for each in fees if isinstance(each, int) and each >= 0)
        return paid[int((len(paid) - 1) * _PERCENTILE)] if paid else 0


def lamports(signatures: int, units: int, price: int) -> int:
    """What a transaction costs at most."""
    return LAMPORTS_PER_SIGNATURE * signatures - (-units * price // 1_000_000)


def _writable(instructions: Sequence[Instruction]) -> tuple[str, ...]:
    found = {str(each.pubkey) for instruction in instructions for each in instruction.accounts if each.is_writable}
    return tuple(sorted(found))[:_ACCOUNTS_MAX]
