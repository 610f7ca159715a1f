"""`WalletDoor` over the wallets room; `NoWallets` where our contracts are not deployed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from agentnexus.core.errors import Unavailable
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.signing import Signed
from agentnexus.web.views.wallet import OperationView, SendTyped, WalletPage

NOT_DEPLOYED: Final = "its operator runs nexus contracts deploy and restarts the node"


class NoWallets:
    """Says what is missing."""

    async def page(self, user_id: str, before: str = "") -> WalletPage:
        return WalletPage(missing=problem_of(no_contracts()))

    async def create(self, user_id: str, kind: str, *, credential_id: str = "", address: str = "") -> None:
        raise no_contracts()

    async def send(self, user_id: str, typed: SendTyped) -> str:
        raise no_contracts()

    async def set_guardian(self, user_id: str, guardian: str, days: str, key: str) -> str:
        raise no_contracts()

    async def operation(self, user_id: str, operation_id: str) -> OperationView:
        raise no_contracts()

    async def follow(self, user_id: str, operation_id: str) -> AsyncIterator[OperationView]:
        """The same refusal."""
        yield await self.operation(user_id, operation_id)

    async def sign(self, user_id: str, operation_id: str, signed: Signed) -> None:
        raise no_contracts()

    async def export(self, user_id: str) -> str:
        raise no_contracts()


def no_contracts() -> Unavailable:
    """What every part of it says."""
    return Unavailable("this node has no contracts on its network, so it keeps no wallets", next_step=NOT_DEPLOYED)
