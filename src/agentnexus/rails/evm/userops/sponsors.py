"""Who pays an operation's gas besides the account: anything that fills in the paymaster's part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import InvalidInput, NexusError, NotAllowed
from agentnexus.core.ports import Clock
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.contracts.paymaster import Policy
from agentnexus.rails.evm.encoding import address, from_hex, quantity
from agentnexus.rails.evm.errors import NodeError, Reverted
from agentnexus.rails.evm.rpc import Rpc, RpcValue
from agentnexus.rails.evm.signer import EvmSigner
from agentnexus.rails.evm.userops.model import UserOperation
from agentnexus.rails.evm.userops.rpc_bundler import refused

# Measured: the check of a signature, 9k; of one and a token transfer with prices, 60k; the settling after, 45k.
SPONSORED_VERIFICATION_GAS = 30_000
TOKEN_VERIFICATION_GAS, TOKEN_POST_OP_GAS = 110_000, 70_000
LIFETIME_SECONDS = 300
_PAYMASTER_REJECTED = -32501
_DENIED = ("denied", "not allowed", "policy violation", "rejected due to")


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


class ServiceSponsor:
    """A paymaster service at an address (ERC-7677): ours, Pimlico's, Alchemy's, any.

    Args:
        context: what the service wants to know besides the operation: a policy's id, a token.
    """

    def __init__(
        self, rpc: Rpc, chain_id: int, *, context: Mapping[str, RpcValue] | None = None, entry_point: str = ENTRY_POINT
    ) -> None:
        self._rpc = rpc
        self._chain_id = chain_id
        self._context = dict(context or {})
        self._entry_point = entry_point

    async def stub(self, operation: UserOperation) -> UserOperation:
        """Raises `NotAllowed` when the service does not pay for this, and its other refusals as bundlers' are."""
        return _with_paymaster(operation, await self._ask("pm_getPaymasterStubData", operation))

    async def final(self, operation: UserOperation) -> UserOperation:
        """As `stub`. Limits that come with the signature are the ones it covers."""
        return _with_paymaster(operation, await self._ask("pm_getPaymasterData", operation))

    async def _ask(self, method: str, operation: UserOperation) -> dict[str, RpcValue]:
        parameters: tuple[RpcValue, ...] = (
            {**operation.to_json()},
            self._entry_point,
            hex(self._chain_id),
            {**self._context},
        )
        try:
            answer = await self._rpc.call(method, *parameters)
        except NodeError as error:
            raise _refused(error) from error
        except Reverted as error:
            raise refused(error) from error
        if not isinstance(answer, dict):
            raise InvalidInput("the paymaster service's answer is no object", field=method)
        return answer


def _refused(error: NodeError) -> NexusError:
    """Not all services use the standard's code for what their policies do not pay for; their words are plain enough."""
    if error.rpc_code == _PAYMASTER_REJECTED or any(phrase in error.rpc_message.lower() for phrase in _DENIED):
        return NotAllowed(
            f"the paymaster service refuses: {error.rpc_message}",
            next_step="let its policy allow this operation, or let the account pay its gas",
            rpc_code=error.rpc_code,
        )
    return refused(error)


def _with_paymaster(operation: UserOperation, answer: Mapping[str, RpcValue]) -> UserOperation:
    verification, post_op = operation.paymaster_verification_gas_limit, operation.paymaster_post_op_gas_limit
    return replace(
        operation,
        paymaster=address(answer.get("paymaster"), field="paymaster"),
        paymaster_data=from_hex(answer.get("paymasterData") or "0x", field="paymasterData"),
        paymaster_verification_gas_limit=_gas(answer, "paymasterVerificationGasLimit", verification),
        paymaster_post_op_gas_limit=_gas(answer, "paymasterPostOpGasLimit", post_op),
    )


def _gas(answer: Mapping[str, RpcValue], field: str, otherwise: int) -> int:
    return quantity(answer[field], field=field) if answer.get(field) else otherwise
