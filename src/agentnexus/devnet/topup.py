"""Top up a prepaid account in the local economy: a development wallet pays, slots are passed, the deposit is claimed.

Play money and well-known keys: this works on the development chain only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast
from uuid import uuid4

from agentnexus.core.errors import ErrorCode, InvalidInput, NexusError
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.platform.database import Database

WALLETS: Final = ("alice", "bob", "seller-5", "seller-6")  # with play money, and no other part in the economy
FINAL_SLOTS: Final = 40
CLAIM_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.5

Json = dict[str, object]
Ask = Callable[[str, str, Json | None], Awaitable[Json]]


@dataclass(frozen=True, slots=True)
class Claims:
    """The user's account on the node: `ask` sends (method, path, body), `base` is the account's path."""

    ask: Ask
    base: str

    async def development_wallet(self, facts: Mapping[str, object]) -> str:
        """The name of the development wallet that the account belongs to; opens an account where there is none.

        Raises `InvalidInput` outside the local economy and for an account of somebody's own wallet.
        """
        addresses = {str(each["address"]): name for name, each in _accounts(facts).items()}
        try:
            wallet = str((await self.ask("GET", f"{self.base}/balance", None))["userWallet"])
        except NexusError as error:
            if error.code != ErrorCode.NOT_FOUND:
                raise
            return await self._open({name: address for address, name in addresses.items()})
        if wallet not in addresses:
            raise InvalidInput(
                f"your account belongs to {wallet}, which is no development wallet",
                next_step="send from it and claim: nexus escrow deposit SIGNATURE",
            )
        return addresses[wallet]

    async def _open(self, addresses: Mapping[str, str]) -> str:
        """The first of `WALLETS` that nobody else has an account with."""
        for name in WALLETS[:-1]:
            try:
                await self.ask("POST", f"{self.base}/create", {"userWallet": addresses[name]})
            except NexusError as error:
                if error.code != ErrorCode.CONFLICT:
                    raise
            else:
                return name
        await self.ask("POST", f"{self.base}/create", {"userWallet": addresses[WALLETS[-1]]})
        return WALLETS[-1]

    async def claim(self, signature: str) -> Json:
        """The node's answer once the transfer is final for it, too."""
        async with asyncio.timeout(CLAIM_SECONDS):
            while True:
                try:
                    return await self.ask("POST", f"{self.base}/deposit", {"signature": signature})
                except NexusError as error:
                    if error.details.get("reason") not in ("unconfirmed", "unknown"):
                        raise
                await asyncio.sleep(PAUSE_SECONDS)


async def pay_treasury(facts: Mapping[str, object], wallet: str, amount: str) -> str:
    """Send `amount` (decimal text) of play USDC to the node's treasury; the transaction's signature, final."""
    from agentnexus.devnet.solana.accounts import solana_accounts
    from agentnexus.rails.solana.networks import DEVNET
    from agentnexus.rails.solana.rpc import SolanaRpc
    from agentnexus.rails.solana.sending import TransactionSender
    from agentnexus.rails.solana.wallet import SolanaRail

    solana = cast("Json", facts["solana"])
    key = f"top-up:{uuid4().hex}"
    database = await Database.open(str(facts["database_url"]), max_size=2)
    try:
        async with SolanaRpc(str(solana["rpc_url"])) as rpc:
            sender = await TransactionSender.open(database, rpc, DEVNET)
            request = PaymentRequest(
                rail="solana", amount=DEVNET.usdc.parse(amount), payee=str(solana["treasury"]), mode=PayMode.PAY,
                reference={}, binding=key,
            )  # fmt: skip
            payment = await SolanaRail(sender, solana_accounts()[wallet].signer).send(request, key)
            await rpc.call("devnet_advanceSlots", FINAL_SLOTS)
    finally:
        await database.close()
    return str(payment.evidence["transaction"])


def _accounts(facts: Mapping[str, object]) -> Mapping[str, Json]:
    solana = facts.get("solana")
    if not isinstance(solana, dict):
        raise InvalidInput(
            "top-up is for the local economy of `nexus up` alone",
            next_step="send from your own wallet to `nexus escrow address`, then: nexus escrow deposit SIGNATURE",
        )
    return cast("Mapping[str, Json]", solana["accounts"])
