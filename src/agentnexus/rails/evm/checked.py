"""A node that need not be there when a process starts: it is asked nothing before it has shown which chain it is on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agentnexus.rails.evm.errors import NodeError, Reverted
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.nonces import check_chain
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue


class CheckedRpc(Rpc):
    """An `Rpc` whose first answered request is the check that its node is on `network`."""

    def __init__(self, url: str, network: Network) -> None:
        super().__init__(url)
        self._network = network
        self._is_checked = False
        self._checking = asyncio.Lock()

    async def check(self) -> None:
        """Done once. Raises `ChainUnavailable` or `NodeError` while the node is away, `WrongNetwork` on another."""
        async with self._checking:
            if self._is_checked:
                return
            async with Rpc(self.url) as plain:
                await check_chain(plain, self._network)
            self._is_checked = True

    async def batch(self, calls: Sequence[Call]) -> list[RpcValue | NodeError | Reverted]:
        if not self._is_checked:
            await self.check()
        return await super().batch(calls)
