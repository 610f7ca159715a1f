"""ERC-7677's methods as JSON-RPC: what comes in is read, answered or refused with a code and a next step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from agentnexus.core.errors import InvalidInput, NexusError
from agentnexus.rails.evm.encoding import quantity, to_hex
from agentnexus.rails.evm.paymaster.refusals import INVALID_REQUEST, METHOD_NOT_FOUND, rpc_code
from agentnexus.rails.evm.paymaster.service import PaymasterService
from agentnexus.rails.evm.rpc import RpcValue
from agentnexus.rails.evm.userops.model import UserOperation

REQUESTS_MAX = 3  # the caller's rate counts a batch as one
Answer: TypeAlias = "dict[str, RpcValue]"
Method: TypeAlias = Callable[[PaymasterService, str, Sequence[RpcValue]], Awaitable[Answer]]


async def answer(service: PaymasterService, user_id: str, body: RpcValue) -> RpcValue:
    """The answer to a request or a batch of them; None when all of it were notifications."""
    if not isinstance(body, list):
        return await _answer_one(service, user_id, body)
    if not 0 < len(body) <= REQUESTS_MAX:
        return _error(None, INVALID_REQUEST, InvalidInput(f"a batch has 1 to {REQUESTS_MAX} requests"))
    answers = [await _answer_one(service, user_id, each) for each in body]
    return [each for each in answers if each is not None] or None


async def _answer_one(service: PaymasterService, user_id: str, request: RpcValue) -> RpcValue:
    identity = request.get("id") if isinstance(request, dict) else None
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        return _error(identity, INVALID_REQUEST, InvalidInput("this is no JSON-RPC request", field="method"))
    method, parameters = METHODS.get(str(request["method"])), request.get("params", [])
    if method is None:
        known = InvalidInput(f"there is no method {request['method']}", next_step="call one of " + ", ".join(METHODS))
        return _error(identity, METHOD_NOT_FOUND, known)
    try:
        if not isinstance(parameters, list):
            raise InvalidInput("params must be a list", field="params", next_step="send [userOp, entryPoint, …]")
        result = await method(service, user_id, parameters)
    except NexusError as error:
        return _error(identity, rpc_code(error), error)
    return {"jsonrpc": "2.0", "id": identity, "result": result} if "id" in request else None


async def _stub_data(service: PaymasterService, user_id: str, parameters: Sequence[RpcValue]) -> Answer:
    operation, policy_id = _request(service, parameters, chain=True)
    found = service.stub(user_id, operation, policy_id)
    return {**_paymaster_fields(found), "sponsor": {"name": service.name}, "isFinal": False}


async def _data(service: PaymasterService, user_id: str, parameters: Sequence[RpcValue]) -> Answer:
    operation, policy_id = _request(service, parameters, chain=True)
    return _paymaster_fields(await service.sponsor(user_id, operation, policy_id))


async def _sponsor(service: PaymasterService, user_id: str, parameters: Sequence[RpcValue]) -> Answer:
    """The older way: one call that also finds gas limits and fees."""
    operation, policy_id = _request(service, parameters, chain=False)
    estimated = await service.estimated(user_id, operation, policy_id)
    found = (await service.sponsor(user_id, estimated, policy_id)).to_json()
    return {name: found[name] for name in found if name.endswith(("Limit", "Gas")) or name.startswith("paymaster")}


METHODS: Mapping[str, Method] = {
    "pm_getPaymasterStubData": _stub_data,
    "pm_getPaymasterData": _data,
    "pm_sponsorUserOperation": _sponsor,
}


def _request(service: PaymasterService, parameters: Sequence[RpcValue], *, chain: bool) -> tuple[UserOperation, str]:
    """The operation and the policy asked for, of ``[userOp, entryPoint, chainId, context]``."""
    if len(parameters) < (3 if chain else 2):
        raise InvalidInput("too few params", field="params", next_step="send [userOp, entryPoint, chainId, context]")
    body, entry_point = parameters[:2]
    own = service.chain.network.chain_id
    service.check_target(str(entry_point), quantity(parameters[2], field="chainId") if chain else own)
    if not isinstance(body, dict):
        raise InvalidInput("the user operation must be an object", field="userOp")
    at = 3 if chain else 2
    context = parameters[at] if len(parameters) > at else None
    policy = context.get("policyId") if isinstance(context, dict) else None
    return UserOperation.from_json(body), policy if isinstance(policy, str) else ""


def _paymaster_fields(operation: UserOperation) -> Answer:
    return {
        "paymaster": operation.paymaster,
        "paymasterData": to_hex(operation.paymaster_data),
        "paymasterVerificationGasLimit": hex(operation.paymaster_verification_gas_limit),
        "paymasterPostOpGasLimit": hex(operation.paymaster_post_op_gas_limit),
    }


def _error(identity: RpcValue, code: int, error: NexusError) -> Answer:
    body: Answer = {"code": code, "message": error.message, "data": _data_of(error)}
    return {"jsonrpc": "2.0", "id": identity, "error": body}


def _data_of(error: NexusError) -> RpcValue:
    described: RpcValue = error.to_json()  # type: ignore[assignment]  # JSON values by the contract of NexusError
    return described
