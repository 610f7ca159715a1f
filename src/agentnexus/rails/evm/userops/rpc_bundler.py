"""Bundlers of others behind JSON-RPC (ERC-7769): Alto, Pimlico, Alchemy, or any that speaks the standard."""

from __future__ import annotations

import asyncio
import re
from enum import StrEnum

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import InsufficientFunds, InvalidInput, NexusError, NotAllowed, PaymentFailed, RateLimited
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.contracts.refusals import names_operation_code, operation_next_step, refusal
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, address, quantity, to_hex
from agentnexus.rails.evm.errors import NodeError, Reverted
from agentnexus.rails.evm.fees import FeeLimits, FeeOracle, Fees
from agentnexus.rails.evm.networks import network_by_id
from agentnexus.rails.evm.receipts import Log, poll_seconds, unknown
from agentnexus.rails.evm.rpc import Rpc, RpcValue
from agentnexus.rails.evm.userops.bundler import GasEstimate, UserOperationReceipt
from agentnexus.rails.evm.userops.model import UserOperation

# The very same operation came before; or one with its nonce did, which may be the same one.
_KNOWN = "already known"
_PERHAPS_KNOWN = ("aa25", "already", "replace", "underpriced")
_TOO_CHEAP = ("must be at least", "underpriced", "bump the gas price", "replacement")
_DEARER = "its fees or limits do not suffice, or another one has its nonce: wait for that, or build and sign it anew"
# Which of EntryPoint's codes says the same, for bundlers that give only the standard's.
_MEANING = {-32501: "AA33", -32503: "AA22", -32507: "AA24", -32508: "AA31"}
_HEX = re.compile(r"0x([0-9a-fA-F]{8,})")
_SLOWEST_POLL_SECONDS = 1.0


class Flavour(StrEnum):
    """How a bundler tells what gas has to cost: not standardised."""

    PLAIN = "plain"  # as the node says
    PIMLICO = "pimlico"  # and Alto, its open form
    ALCHEMY = "alchemy"  # and Rundler


class RpcBundler:
    """A `Bundler` at an address.

    Args:
        rpc: the bundler.
        node: a node of the chain, for fees; hosted bundlers are one themselves.
        chain_id: of a chain we know.
    """

    def __init__(
        self,
        rpc: Rpc,
        node: Rpc,
        chain_id: int,
        *,
        flavour: Flavour = Flavour.PLAIN,
        entry_point: str = ENTRY_POINT,
        limits: FeeLimits | None = None,
    ) -> None:
        self._rpc = rpc
        self._network = network_by_id(chain_id)
        self._flavour = flavour
        self._entry_point = entry_point
        self._limits = limits or FeeLimits()
        self._fees = FeeOracle(node, self._network, SystemClock(), self._limits)

    @property
    def chain_id(self) -> int:
        return self._network.chain_id

    async def gas_price(self) -> Fees:
        """Raises `Unavailable` above our limit."""
        if self._flavour is Flavour.PIMLICO:
            answer = _object(await self._call("pimlico_getUserOperationGasPrice"), "gas price")
            fast = _object(answer.get("fast"), "fast")
            return self._capped(Fees(_number(fast, "maxFeePerGas"), _number(fast, "maxPriorityFeePerGas")))
        if self._flavour is Flavour.ALCHEMY:
            return self._capped(await self._rundler_fees())
        return await self._fees.current()

    async def _rundler_fees(self) -> Fees:
        """What it suggests. Older ones only tell the least tip they take, which may rise until we have signed."""
        try:
            answer = _object(await self._rpc.call("rundler_getUserOperationGasPrice"), "gas price")
        except NodeError:
            least = quantity(await self._call("rundler_maxPriorityFeePerGas"), field="priority")
            priority, current = least + least // 4, await self._fees.current()
            return Fees(current.maximum - current.priority + priority, priority)
        suggested = _object(answer.get("suggested"), "suggested")
        return Fees(_number(suggested, "maxFeePerGas"), _number(suggested, "maxPriorityFeePerGas"))

    def _capped(self, fees: Fees) -> Fees:
        """What a bundler asks for is its wish; our limit stands."""
        limit = self._limits.maximum_fee_wei
        if fees.maximum > limit:
            raise PaymentFailed(
                f"the bundler asks for {fees.maximum} wei a unit of gas, our limit is {limit}",
                next_step="wait for a calmer hour, or raise the fee limit",
            )
        return Fees(fees.maximum, min(fees.priority, fees.maximum))

    async def estimate(self, operation: UserOperation) -> GasEstimate:
        """Raises `Reverted` when its calls fail, and the bundler's other refusals as errors of the family."""
        parameters = (_unestimated(operation), self._entry_point)
        answer = _object(await self._call("eth_estimateUserOperationGas", *parameters), "estimate")
        return GasEstimate(
            call=_number(answer, "callGasLimit"),
            verification=_number(answer, "verificationGasLimit"),
            pre_verification=_number(answer, "preVerificationGas"),
            paymaster_verification=_optional(answer, "paymasterVerificationGasLimit"),
            paymaster_post_op=_optional(answer, "paymasterPostOpGasLimit"),
        )

    async def send(self, operation: UserOperation) -> str:
        """Sending the same operation again answers the same hash, mined or not."""
        expected = to_hex(operation.hash(self.chain_id, self._entry_point))
        try:
            answer = await self._rpc.call("eth_sendUserOperation", {**operation.to_json()}, self._entry_point)
        except (NodeError, Reverted) as error:
            if await self._has(error, expected):
                return expected
            raise refused(error) from error
        if str(answer).lower() != expected:
            raise InvalidInput(
                f"the bundler knows the operation as {str(answer)[:66]}, not as {expected}",
                next_step="check that the bundler is on the same chain and EntryPoint",
            )
        return expected

    async def _has(self, error: NodeError | Reverted, operation_hash: str) -> bool:
        """Whether the refusal only says that the operation came before: others may have its nonce."""
        text = error.message.lower()
        if _KNOWN in text:
            return True
        if not any(phrase in text for phrase in _PERHAPS_KNOWN):
            return False
        if await self._find(operation_hash) is not None:
            return True
        try:
            return isinstance(await self._rpc.call("eth_getUserOperationByHash", operation_hash), dict)
        except NodeError:  # not all tell of what they still hold
            return False

    async def receipt(self, operation_hash: str, *, timeout_seconds: float = 30.0) -> UserOperationReceipt:
        """Raises `PaymentUnknown` when time is up."""
        pause = poll_seconds(self._network)
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    found = await self._find(operation_hash)
                    if found is not None:
                        return found
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, max(self._network.block_seconds / 2, 0.05), _SLOWEST_POLL_SECONDS)
        except TimeoutError:
            raise unknown(operation_hash, timeout_seconds) from None

    async def _find(self, operation_hash: str) -> UserOperationReceipt | None:
        answer = await self._call("eth_getUserOperationReceipt", operation_hash)
        return receipt_from_json(answer) if isinstance(answer, dict) else None

    async def _call(self, method: str, *parameters: RpcValue) -> RpcValue:
        try:
            return await self._rpc.call(method, *parameters)
        except (NodeError, Reverted) as error:
            raise refused(error) from error


def receipt_from_json(body: dict[str, RpcValue]) -> UserOperationReceipt:
    """A receipt as bundlers write it; raises `InvalidInput` for one that lacks a field."""
    inner = _object(body.get("receipt"), "receipt")
    logs, paymaster, reason = body.get("logs"), body.get("paymaster"), body.get("reason")
    data = _HEX.search(reason) if isinstance(reason, str) else None
    return UserOperationReceipt(
        hash=str(body.get("userOpHash")).lower(),
        sender=address(body.get("sender"), field="sender"),
        nonce=_number(body, "nonce"),
        paymaster=address(paymaster, field="paymaster") if paymaster not in (None, "0x", ZERO_ADDRESS) else None,
        succeeded=_truth(body.get("success")),
        gas_cost_wei=_number(body, "actualGasCost"),
        gas_used=_number(body, "actualGasUsed"),
        transaction=str(inner.get("transactionHash")).lower(),
        block_number=_number(inner, "blockNumber"),
        block_hash=str(inner.get("blockHash")).lower(),
        logs=tuple(Log.from_json(each) for each in logs) if isinstance(logs, list) else (),
        reason=refusal(_even(data[1])) if data else None,
    )


def refused(error: NodeError | Reverted) -> NexusError:
    """A bundler's refusal (codes of ERC-7769) as the error it means to the caller."""
    if isinstance(error, Reverted):
        return _reverted(error)
    text = error.rpc_message
    step = operation_next_step(text if names_operation_code(text) else _MEANING.get(error.rpc_code, ""))
    if any(phrase in text.lower() for phrase in _TOO_CHEAP):
        return PaymentFailed(f"the bundler refuses: {text}", next_step=_DEARER, rpc_code=error.rpc_code)
    kinds: dict[int, type[NexusError]] = {
        -32602: InvalidInput,  # fields
        -32500: PaymentFailed,  # EntryPoint's validation
        -32501: PaymentFailed,  # the paymaster refused
        -32502: NotAllowed,  # forbidden opcodes or storage in validation
        -32503: PaymentFailed,  # not in its time
        -32504: RateLimited,  # paymaster or factory throttled
        -32505: NotAllowed,  # stake too low
        -32507: PaymentFailed,  # signature
        -32508: InsufficientFunds,  # paymaster's deposit
    }
    kind = kinds.get(error.rpc_code)
    if kind is InvalidInput and names_operation_code(text):  # Alto's code for whatever it finds before it simulates
        kind = PaymentFailed
    return kind(f"the bundler refuses: {text}", next_step=step, rpc_code=error.rpc_code) if kind else error


def _reverted(error: Reverted) -> Reverted:
    """With the contract's own reason where it is one of ours, else with what EntryPoint's code asks for."""
    data = error.data or next((_even(found) for found in _HEX.findall(error.message)), b"")
    known = refusal(data) if data else error
    if known.details.get("error"):
        return known
    plain = Reverted(error.message, data)
    if names_operation_code(error.message):
        plain.next_step = operation_next_step(error.message)
    return plain


def _unestimated(operation: UserOperation) -> dict[str, RpcValue]:
    """Without gas limits that are not known yet: a zero would be taken for a limit."""
    fields = ("callGasLimit", "verificationGasLimit", "preVerificationGas")
    return {key: value for key, value in operation.to_json().items() if not (key in fields and value == "0x0")}


def _even(digits: str) -> bytes:
    return bytes.fromhex(digits[: len(digits) // 2 * 2])


def _object(value: RpcValue, what: str) -> dict[str, RpcValue]:
    if not isinstance(value, dict):
        raise InvalidInput(f"the bundler's {what} is no object", field=what, next_step="check the bundler's address")
    return value


def _number(body: dict[str, RpcValue], field: str) -> int:
    value = body.get(field)
    return value if isinstance(value, int) and not isinstance(value, bool) else quantity(value, field=field)


def _truth(value: RpcValue) -> bool:
    """Some write it as text. Anything else says nothing, least of all that the operation failed."""
    text = str(value).lower()
    if text not in ("true", "false"):
        raise InvalidInput("the bundler's receipt does not say whether the operation succeeded", field="success")
    return text == "true"


def _optional(body: dict[str, RpcValue], field: str) -> int | None:
    return _number(body, field) if body.get(field) is not None else None
