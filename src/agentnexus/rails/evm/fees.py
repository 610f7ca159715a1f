"""What gas costs right now, and the most we let a transaction cost."""

from __future__ import annotations

from dataclasses import dataclass

from agentnexus.core.errors import Unavailable
from agentnexus.core.ports import Clock
from agentnexus.rails.evm.encoding import quantity
from agentnexus.rails.evm.errors import NodeError
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.rpc import Call, Rpc, call_int, call_object

GWEI = 10**9
# A node takes a replacement only when both fees rise by a tenth; an eighth leaves room for rounding.
_BUMP_NUMERATOR, _BUMP_DENOMINATOR = 9, 8


@dataclass(frozen=True, slots=True)
class Fees:
    """EIP-1559 fees per unit of gas, in wei."""

    maximum: int
    priority: int

    def bumped(self, current: Fees) -> Fees:
        """Fees that replace a stuck transaction: what a node demands, or what is usual by now if that is more."""
        return Fees(
            max(-(-self.maximum * _BUMP_NUMERATOR // _BUMP_DENOMINATOR), current.maximum),
            max(-(-self.priority * _BUMP_NUMERATOR // _BUMP_DENOMINATOR), current.priority),
        )


@dataclass(frozen=True, slots=True)
class FeeLimits:
    """The most we pay. Above it nothing is sent: a payment that waits is better than one that ruins its relayer.

    Args:
        maximum_fee_wei: per unit of gas.
        maximum_gas: per transaction.
    """

    maximum_fee_wei: int = 300 * GWEI
    maximum_gas: int = 500_000


class FeeOracle:
    """Reads fees from the node and keeps them for about a block."""

    def __init__(self, rpc: Rpc, network: Network, clock: Clock, limits: FeeLimits) -> None:
        self._rpc = rpc
        self._network = network
        self._clock = clock
        self._limits = limits
        self._kept: Fees | None = None
        self._kept_until = 0.0

    async def current(self) -> Fees:
        """Fees for a transaction now. Raises `Unavailable` while the network is dearer than our limit."""
        if self._kept is None or self._clock.monotonic() >= self._kept_until:
            self._kept = await self._read()
            self._kept_until = self._clock.monotonic() + min(max(self._network.block_seconds, 0.2), 3.0)
        return self._kept

    def forget(self) -> None:
        """Read again next time: the node found the last answer too low."""
        self._kept = None

    async def _read(self) -> Fees:
        answers = await self._rpc.batch(
            [Call("eth_getBlockByNumber", ("latest", False)), Call("eth_maxPriorityFeePerGas")]
        )
        block = call_object(answers[0]) or {}
        base = quantity(block.get("baseFeePerGas", "0x0"), field="baseFeePerGas")
        # A node without the tip method is a chain without a fee market for tips.
        tip = 0 if isinstance(answers[1], NodeError) else call_int(answers[1])
        limit = self._limits.maximum_fee_wei
        if base + tip > limit:
            raise Unavailable(
                f"gas costs {(base + tip) / GWEI:.1f} gwei, our limit is {limit / GWEI:.1f} gwei",
                next_step="wait for a calmer hour, or raise the fee limit",
            )
        # Twice the base fee lasts through six full blocks of rising prices.
        return Fees(min(2 * base + tip, limit), min(tip, limit))
