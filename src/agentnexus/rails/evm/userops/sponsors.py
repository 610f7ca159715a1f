"""Who pays an operation's gas besides the account: anything that fills in the paymaster's part."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from agentnexus.core.clock import SystemClock
from agentnexus.core.ports import Clock
from agentnexus.rails.evm.contracts.paymaster import Policy
from agentnexus.rails.evm.signer import EvmSigner
from agentnexus.rails.evm.userops.model import UserOperation

# Measured: the check of a signature, 9k; of one and a token transfer with prices, 60k; the settling after, 45k.
SPONSORED_VERIFICATION_GAS = 30_000
TOKEN_VERIFICATION_GAS, TOKEN_POST_OP_GAS = 110_000, 70_000
LIFETIME_SECONDS = 300


class Sponsor(Protocol):
    """Pays gas. `stub` before the estimate, `final` after it, when gas and fees no longer change."""

    async def stub(self, operation: UserOperation) -> UserOperation: ...

    async def final(self, operation: UserOperation) -> UserOperation: ...


class SigningSponsor:
    """Signs for our paymaster with the policy service's key, whatever the operation: for whoever asked the policy.

    Args:
        token: sell gas for this token instead of giving it.
        token_per_native: its price, atomic units for 10^18 wei.
    """

    def __init__(
        self,
        paymaster: str,
        chain_id: int,
        signer: EvmSigner,
        *,
        clock: Clock | None = None,
        token: str | None = None,
        token_per_native: int = 0,
    ) -> None:
        self._paymaster = paymaster
        self._chain_id = chain_id
        self._signer = signer
        self._clock = clock or SystemClock()
        self._token, self._token_per_native = token, token_per_native

    def policy(self) -> Policy:
        """What is signed for an operation of this moment."""
        until = int(self._clock.now().timestamp()) + LIFETIME_SECONDS
        if self._token is None:
            return Policy(until)
        return Policy(until, token=self._token, token_per_native=self._token_per_native)

    async def stub(self, operation: UserOperation) -> UserOperation:
        verification, post_op = (
            (SPONSORED_VERIFICATION_GAS, 0) if self._token is None else (TOKEN_VERIFICATION_GAS, TOKEN_POST_OP_GAS)
        )
        return replace(
            operation,
            paymaster=self._paymaster,
            paymaster_verification_gas_limit=verification,
            paymaster_post_op_gas_limit=post_op,
            paymaster_data=self.policy().data(),
        )

    async def final(self, operation: UserOperation) -> UserOperation:
        policy = self.policy()
        digest = policy.digest(operation.pack(), self._chain_id, self._paymaster)
        return replace(operation, paymaster_data=policy.data(await self._signer.sign(digest)))
