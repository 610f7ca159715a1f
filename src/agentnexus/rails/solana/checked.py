"""A node that need not be there at the start: it is asked nothing before it has shown which cluster it is on."""

from __future__ import annotations

import asyncio

from agentnexus.rails.solana.networks import Network
from agentnexus.rails.solana.rpc import RpcValue, SolanaRpc
from agentnexus.rails.solana.sending import check_cluster


class CheckedSolanaRpc(SolanaRpc):
    """A `SolanaRpc` whose first answered request is the check that its node is on `network`."""

    def __init__(self, url: str, network: Network) -> None:
        super().__init__(url)
        self._network = network
        self._is_checked = False
        self._checking = asyncio.Lock()

    async def check(self) -> None:
        """Done once. Raises `ClusterUnavailable` or `NodeError` while the node is away, `WrongNetwork` on another."""
        async with self._checking:
            if self._is_checked:
                return
            async with SolanaRpc(self.url) as plain:
                await check_cluster(plain, self._network)
            self._is_checked = True

    async def call(self, method: str, *parameters: RpcValue) -> RpcValue:
        if not self._is_checked:
            await self.check()
        return await super().call(method, *parameters)
