"""Fixtures of the EVM room: a sender, a rail and a settler on the session's chain, and short ways to pay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.platform.process import wait_until_ready
from agentnexus.rails.evm.eip3009 import Authorization, SignedAuthorization, nonce_for
from agentnexus.rails.evm.encoding import checksum_address
from agentnexus.rails.evm.settlement import AuthorizationSettler, Requirement
from agentnexus.rails.evm.signer import EvmSigner
from agentnexus.rails.evm.token import Token
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.rails.evm.wallet import EvmRail

FAR_FUTURE = 4_000_000_000


@dataclass(frozen=True)
class Desk:
    """What a test pays with."""

    chain: DevelopmentChain
    sender: TransactionSender
    rail: EvmRail
    settler: AuthorizationSettler

    @property
    def seller(self) -> str:
        return self.chain.accounts["seller-1"].address

    def requirement(self, value: int = 10_000, payee: str | None = None) -> Requirement:
        return Requirement(self.chain.usdc, payee or self.seller, value)

    def authorization(self, key: str = "job-1", value: int = 10_000) -> Authorization:
        return Authorization(self.rail.address, self.seller, value, 0, FAR_FUTURE, nonce_for(key))

    async def sign(self, authorization: Authorization, signer: EvmSigner | None = None) -> SignedAuthorization:
        domain = await Token(self.chain.rpc, self.chain.usdc.reference, self.chain.chain_id).domain()
        key = signer or self.rail.signer
        return SignedAuthorization(authorization, await key.sign(authorization.digest(domain)))

    async def signed(self, key: str = "job-1", value: int = 10_000, **changes: object) -> SignedAuthorization:
        authorization = replace(self.authorization(key, value), **changes)  # type: ignore[arg-type]  # fields by name
        return await self.sign(authorization)

    async def sign_for(self, payer: str, signer: EvmSigner, key: str = "job-1") -> SignedAuthorization:
        """An authorisation of a contract wallet, signed by a key."""
        return await self.sign(replace(self.authorization(key), payer=payer), signer)

    def request(self, value: int = 10_000, mode: PayMode = PayMode.AUTHORIZE, **reference: object) -> PaymentRequest:
        stated: dict[str, object] = {
            "scheme": "exact",
            "network": self.chain.network.caip2,
            "amount": str(value),
            "asset": checksum_address(self.chain.usdc.reference),
            "payTo": checksum_address(self.seller),
            "maxTimeoutSeconds": 60,
            "extra": {"name": "USD Coin", "version": "2"},
        }
        return PaymentRequest(
            rail="evm",
            amount=Money(self.chain.usdc, value),
            payee=checksum_address(self.seller),
            mode=mode,
            reference={**stated, **reference},
            binding="x402:https://seller.example/work:job-1",
        )

    async def mempool_holds(self, count: int) -> None:
        """Wait until this many transactions are pending on the node."""

        async def check() -> bool:
            return await self._pending() >= count

        await wait_until_ready(check, what="a transaction in the mempool", timeout_seconds=20)

    async def mempool_or_done(self, count: int, task: asyncio.Task[object]) -> None:
        """Wait until the mempool has this many, or until the task ended without sending."""

        async def check() -> bool:
            return task.done() or await self._pending() >= count

        await wait_until_ready(check, what="a transaction in the mempool", timeout_seconds=20)

    async def _pending(self) -> int:
        status = await self.chain.rpc.call("txpool_status")
        assert isinstance(status, dict)
        return int(str(status["pending"]), 16)

    async def seller_earned(self) -> int:
        return await self.chain.usdc_of(self.seller) - 10_000_000_000


@pytest.fixture
async def desk(chain: DevelopmentChain, database: Database) -> AsyncIterator[Desk]:
    yield await open_desk(chain, database)


async def open_desk(chain: DevelopmentChain, database: Database) -> Desk:
    sender = await TransactionSender.open(database, chain.rpc, chain.chain_id)
    relayer = chain.accounts["relayer"].signer
    rail = EvmRail(sender, chain.accounts["buyer"].signer, relayer=relayer)
    return Desk(chain, sender, rail, AuthorizationSettler(sender, relayer))


def load_test_artifact(name: str) -> bytes:
    document = json.loads((Path(__file__).parent / "artifacts" / f"{name}.json").read_text())
    return bytes.fromhex(document["bytecode"].removeprefix("0x"))
